"""What a host's replies say together: claims only with a contrast on the same host, and never from a TTL alone."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest

from scanner.packet.headers import Bools, Ints, Rows
from scanner.verdict.evidence import TURNS, host_facts, rows_to_check, words_of
from scanner.verdict.ledger import Mark, blank
from scanner.verdict.table import Reason
from tests.memory import Faults, Host
from tests.simulation import bench

HOST = {4: "198.18.1.7", 6: "2001:db8:1::7"}
M, U, Z, ODD = Mark.RESET_MARKED, Mark.RESET_UNMARKED, Mark.ZERO_WINDOW, Mark.RESET_ODD
BAD, GOOD = Mark.CHECKSUM_WRONG, Mark.CHECKSUM_PASSED


class Port(NamedTuple):
    """One port's record: its host, what won, marks, TTL, window, and what else was seen."""

    reason: Reason
    marks: int = 0
    ttl: int = 64
    host: int = 0
    window: int = 64240
    seen: int = 0


def R(marks: int, ttl: int = 64, host: int = 0) -> Port:
    return Port(Reason.RESET, marks, ttl, host)


def S(marks: int = 0, ttl: int = 64, host: int = 0, window: int = 64240) -> Port:
    return Port(Reason.SYN_ACK, marks, ttl, host, window)


def recorded(ports: list[Port]) -> tuple[Ints, Rows]:
    """The host and the record of each port."""
    records = blank(len(ports))
    for name in ("reason", "marks", "ttl", "window"):
        records[name] = [getattr(port, name) for port in ports]
    records["seen"] = [1 << port.reason | port.seen for port in ports]
    records["replies"], records["passes"] = 1, 2
    return np.array([port.host for port in ports], np.int64), records


def words(ports: list[Port], probed: int | None = None, tested: Bools | None = None) -> list[tuple[str, ...]]:
    """Each port's words; every host was asked `probed` ports (default: those that answered)."""
    host, records = recorded(ports)
    asked = np.bincount(host) if probed is None else np.full(host.max() + 1, probed)
    return words_of(records, host_facts(host, asked, records, tested))


FORGED, HONEST, OTHER = ("firewall-reset",), ("host-reset",), ("ttl-differs",)
CASES: dict[str, tuple[list[Port], list[tuple[str, ...]]]] = {
    "two marked resets and one without": ([R(M), R(M), R(U)], [HONEST, HONEST, FORGED]),
    "one marked reset is not enough": ([R(M), R(U), R(U)], [(), (), ()]),
    "all marked: no contrast": ([R(M), R(M), R(M)], [(), (), ()]),
    "none marked: routers may clear it": ([R(U), R(U), R(U)], [(), (), ()]),
    "a port seen both ways spoils the host": ([R(M), R(M), R(U), R(M | U)], [(), (), (), ()]),
    "the contrast must be on the same host": ([R(M), R(M), R(U, host=1), R(U, host=1)], [(), (), (), ()]),
    "each host by itself": (
        [R(M), R(M), R(U), R(M, host=1), R(U, host=1)],
        [HONEST, HONEST, FORGED, (), ()],
    ),
    "a distance alone proves nothing": ([R(M), R(M), R(M, ttl=63)], [(), (), OTHER]),
    "no marks at all, two distances": ([R(U), R(U), R(U, ttl=255)], [(), (), OTHER]),
    "a firewall is nearer than the host": ([R(M, 61), R(M, 61), R(U, 64)], [HONEST, HONEST, FORGED + OTHER]),
    "a firewall is not farther than the host": ([R(M), R(M), R(U, ttl=63)], [(), (), OTHER]),
    "nor does it count down from another initial value": ([R(M), R(M), R(U, ttl=128)], [(), (), OTHER]),
    "several stacks send marked resets": ([R(M), R(M), R(M, 63), R(U)], [(), (), OTHER, ()]),
    "several stacks send resets without the mark": ([R(M, 62), R(M, 62), R(U, 63), R(U, 64)], [(), (), OTHER, OTHER]),
    "not a header of REJECT": ([R(M), R(M), R(U), R(U | ODD)], [(), (), (), ()]),
    "the host's own header may be any": ([R(M | ODD), R(M | ODD), R(U)], [HONEST, HONEST, FORGED]),
    "behind address translation": ([R(M, 63), R(M, 63), R(M, 62)], [(), (), OTHER]),
    "SYN/ACKs carry no mark and say nothing of resets": ([S(), S(ttl=63), R(M), R(M)], [(), (), (), ()]),
    "a proxy": ([S(Z, window=0), S(), R(M)], [("syn-proxy",), (), ()]),
    "every checksum of the host is wrong": ([S(BAD), R(BAD), S(GOOD, host=1)], [("bad-checksum",)] * 2 + [()]),
    "one checksum passes": ([S(BAD), R(BAD), R(GOOD)], [(), (), ()]),
    "a target with both": ([S(BAD), R(BAD | GOOD)], [(), ()]),
    "an error tells nothing of checksums": ([S(BAD), Port(Reason.HOST_UNREACH)], [("bad-checksum",), ()]),
    "what lost is kept": ([Port(Reason.SYN_ACK, seen=1 << Reason.RESET)], [("conflict:reset",)]),
}


@pytest.mark.parametrize("name", CASES)
def test_words(name: str) -> None:
    ports, expected = CASES[name]
    assert words(ports) == expected


def test_a_claim_needs_its_test() -> None:
    both = [R(M), R(M), R(U), R(M, host=1), R(M, host=1), R(U, host=1)]
    assert words(both, tested=np.array([True, False])) == [HONEST, HONEST, FORGED, (), (), ()]


def to_check(*ports: Port) -> Counter[int]:
    """How often each port is to be probed again; no port is twice in the same turn."""
    host, records = recorded(list(ports))
    suspects = rows_to_check(host, 3, records)
    pairs = list(zip(suspects.row.tolist(), suspects.turn.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert set(suspects.turn.tolist()) <= set(range(TURNS))
    assert [bool(records["marks"][row] & U) for row in suspects.row] == suspects.unmarked.tolist()
    return Counter(suspects.row.tolist())


TO_CHECK: dict[str, tuple[list[Port], dict[int, int]]] = {
    "no host": ([], {}),
    "no contrast": ([R(M), R(M), R(M)], {}),
    "seen both ways already": ([R(M), R(M), R(U), R(M | U)], {}),
    "few ports are repeated, each four times": ([R(M), R(M), R(U)], {0: 4, 1: 4, 2: 4}),
    "in turn": ([R(M), R(U), R(M), R(U), R(M)], {0: 3, 2: 3, 4: 2, 1: 4, 3: 4}),
    "many ports: eight of each kind, spread": (
        [R(M)] * 16 + [R(U)] * 24,
        dict.fromkeys([*range(0, 16, 2), *range(16, 40, 3)], 1),
    ),
    "open ports are left alone": ([S(), R(M), S(), R(M), R(U)], {1: 4, 3: 4, 4: 4}),
    "each host by itself": (
        [R(M, host=2), R(M), R(M, host=2), R(M), R(U, host=2), R(U), R(M, host=1)],
        dict.fromkeys(range(6), 4),
    ),
}


@pytest.mark.parametrize("name", TO_CHECK)
def test_what_is_probed_again(name: str) -> None:
    ports, expected = TO_CHECK[name]
    assert to_check(*ports) == expected


ALL_OPEN: dict[str, tuple[list[Port], int, int]] = {
    "20 of 20": ([S()] * 20, 20, 20),
    "18 of 20": ([S()] * 18, 20, 18),
    "17 of 20": ([S()] * 17, 20, 0),
    "too few ports to say": ([S()] * 19, 19, 0),
    "one different fingerprint among them is left out": ([S()] * 19 + [S(ttl=63)], 20, 19),
    "windows differ: real services": ([S(window=1000 + each) for each in range(20)], 20, 0),
    "a proxy in front of everything": ([S(Z, window=0)] * 20, 20, 20),
    "closed ports have no such word": ([R(M)] * 20, 20, 0),
}


@pytest.mark.parametrize("name", ALL_OPEN)
def test_all_open_ports(name: str) -> None:
    ports, probed, named = ALL_OPEN[name]
    assert sum("all-open" in each for each in words(ports, probed)) == named


def test_one_wall_and_one_host() -> None:
    found = words([S()] * 25 + [S(host=1)] * 3 + [R(M, host=1)] * 22)
    assert found == [("all-open",)] * 25 + [()] * 25


def test_no_records() -> None:
    assert words_of(blank(0), host_facts(np.zeros(0, np.int64), np.zeros(3, np.int64), blank(0))) == []


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("lost", [0.0, 0.2])
def test_a_whole_scan_tells_forged_resets(version: int, lost: float) -> None:
    """Both families, also where half of the replies get lost or doubled."""
    ports: dict[int, str] = {**dict.fromkeys(range(1, 9), "closed"), 9: "reject-reset", 10: "open", 11: "reject-reset"}
    host, faults = Host(dict(ports)), Faults(lost, lost)
    done = bench({HOST[version]: host}, faults=faults, targets=HOST[version], ports=ports).run()
    found = {row.port: {word for word in row.evidence if word.endswith("reset")} for row in done.rows}
    expected = {"closed": {"host-reset"}, "reject-reset": {"firewall-reset"}, "open": set[str]()}
    assert found == {port: expected[action] for port, action in ports.items()}
