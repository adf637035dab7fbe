"""Hosts and networks that stop answering in mid-scan: a ban, an outage, the end of a host."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest

from scanner.halfopen.scan import Settings
from scanner.packet.addresses import from_text
from scanner.rounds import stopped
from scanner.rounds.control import Outcomes
from scanner.rounds.stopped import BAN_SECONDS, History, suspects
from scanner.rounds.summary import summary_lines
from tests.builders import SECOND
from tests.memory import Faults, Host
from tests.paths import Ban, Model, OneWay, Outage, Path
from tests.simulation import Bench, bench

NOW = 1_700_000_000 * SECOND
PORTS = range(1000, 1200)


def host_of(silent: int = 20, ports: range = PORTS) -> Host:
    """Nine of ten ports are closed or open, the last ones are dropped."""
    return Host({port: "drop" if port in ports[-silent:] else "open" if port % 10 == 0 else "closed" for port in ports})


def scan_of(hosts: int, *models: Model, rate: float = 500.0, seed: int = 1, silent: int = 20) -> Bench:
    names = [f"198.18.1.{number}" for number in range(1, hosts + 1)]
    faults = Faults(path=Path(out=models))
    return bench({name: host_of(silent) for name in names}, targets=f"198.18.1.1-{hosts}", ports=PORTS, seed=seed,
                 faults=faults, settings=Settings(rate=rate)).run()  # fmt: skip


def states(running: Bench, host: str) -> Counter[tuple[str, tuple[str, ...]]]:
    return Counter((row.state, row.evidence) for row in running.rows if row.ip == host)


# ── a ban ──


@pytest.mark.parametrize("seed", range(5))
def test_a_ban_is_named_with_the_probes_that_came_before(seed: int) -> None:
    running = scan_of(1, Ban(50, only="syn"), seed=seed)
    stats = running.stats()
    assert (list(stats.stopped), stats.stopped["198.18.1.1"]) == (["198.18.1.1"], pytest.approx(50, abs=6))
    assert f"198.18.1.1 stopped answering after {stats.stopped['198.18.1.1']} probes (a ban?)" in summary_lines(stats)
    assert not stats.within_bound


def test_what_was_probed_after_the_last_answer_is_unknown_and_not_filtered() -> None:
    found = states(scan_of(1, Ban(50, only="syn")), "198.18.1.1")
    assert found["unknown", ("stopped-answering",)] == pytest.approx(len(PORTS) - 50, abs=8)
    assert sum(count for (state, _), count in found.items() if state == "filtered") <= 8  # the silent ones before that
    assert found.total() == len(PORTS)


def test_no_minutes_are_spent_on_it() -> None:
    running = scan_of(1, Ban(50, only="syn"))
    began = NOW
    assert BAN_SECONDS < (running.clock.now - began) / SECOND < 12
    assert running.scan.transmit.sent["probe"] < 2 * len(PORTS)


def test_the_other_hosts_are_scanned_as_ever() -> None:
    running = scan_of(5, Ban(50, only="syn", where=("198.18.1.3/32",)), rate=2000.0)
    assert list(running.stats().stopped) == ["198.18.1.3"]
    others = [states(running, f"198.18.1.{number}") for number in (1, 2, 4, 5)]
    found = [Counter(state for state, _ in each.elements()) for each in others]
    assert found == [Counter(closed=162, open=18, filtered=20)] * 4


def test_control_probes_while_a_suspect_is_waited_for_are_no_repeats() -> None:
    """The pass lasts for seconds then, and a target may get a second control probe in it."""
    running = scan_of(5, Ban(50, only="syn", where=("198.18.1.3/32",)), rate=2000.0)
    assert [row for row in running.rows if "repeat" in row.evidence] == []


def test_a_source_that_is_banned_everywhere_is_named() -> None:
    running = scan_of(5, Ban(300, only="syn", whole=True), rate=1000.0)
    unknown = sum(row.state == "unknown" for row in running.rows)
    assert (len(running.stats().stopped) > 0, unknown) == (True, pytest.approx(5 * len(PORTS) - 300, abs=30))


# ── no ban ──

HONEST: dict[str, tuple[Model, ...]] = {
    "nothing happens": (),
    "an outage of 2 s": (Outage(0.15, 2.15),),
    "loss of 36 %": (OneWay(0.36),),
    "loss of 70 %": (OneWay(0.7),),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", HONEST)
def test_no_host_is_called_stopped_that_answers_again(name: str, seed: int) -> None:
    running = scan_of(2, *HONEST[name], seed=seed, rate=1000.0)
    assert (dict(running.stats().stopped), {row.state for row in running.rows} - {"open", "closed", "filtered"}) == (
        {}, set(),
    )  # fmt: skip


@pytest.mark.parametrize("rate", [500.0, None])
@pytest.mark.parametrize("seed", range(3))
def test_what_an_outage_hid_is_probed_again(rate: float | None, seed: int) -> None:
    """At most as much is missed as the scan says."""
    names = [f"198.18.1.{number}" for number in range(1, 6)]
    running = bench({name: host_of() for name in names}, targets="198.18.1.1-5", ports=PORTS, seed=seed,
                    faults=Faults(path=Path(out=(Outage(0.3, 2.3),))), settings=Settings(rate=rate)).run()  # fmt: skip
    missed = sum(row.state == "filtered" and row.port not in PORTS[-20:] for row in running.rows)
    assert (missed <= running.stats().at_most_missed, dict(running.stats().stopped)) == (True, {})
    assert (running.clock.now - NOW) / SECOND < 2.3 + 8


def test_a_suspect_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where long runs of lost control probes are usual, they would take minutes to exclude chance."""
    monkeypatch.setattr(stopped, "LEAST_RUN", 1000)
    running = scan_of(1, Ban(50, only="syn"))
    began = min(row.time for row in running.rows if row.time is not None)
    seconds = running.clock.now / SECOND - began
    assert (list(running.stats().stopped), seconds < 5 * BAN_SECONDS) == (["198.18.1.1"], True)


def test_silent_ports_do_not_make_a_host_a_suspect() -> None:
    """It answers on one port in ten, and control probes come back."""
    assert dict(scan_of(1, silent=180).stats().stopped) == {}


# ── the chance ──


class Seen(NamedTuple):
    """A host with 100 ports that have all been probed; times are seconds before now.

    `reached`: the share of the ports that had been probed at the last answer. `lost`: lost control probes since then,
    evenly in the time from it to a second ago. All before came back, one of them for each answer.
    """

    host: str
    ago: float
    answers: int
    reached: float
    lost: int = 0
    refused: int = 0  # of the probes since then, by this machine


def judged(*seen: Seen) -> tuple[list[bool], list[bool]]:
    """Which hosts are suspected, and of which it is sure."""
    control: list[tuple[int, float, bool]] = []
    for number, each in enumerate(seen):
        control += [(number, each.ago + 1 + turn / 10, True) for turn in range(each.answers)]
        control += [(number, each.ago - (each.ago - 1.01) * (turn + 1) / each.lost, False) for turn in range(each.lost)]
    control.sort(key=lambda one: -one[1])
    host = np.array([one[0] for one in control], np.int64)
    sent = np.array([NOW - int(one[1] * SECOND) for one in control], np.int64)
    outcomes = Outcomes(host * 100, np.ones_like(host), sent, np.array([one[2] for one in control], np.bool_))
    last = np.array([NOW - int(each.ago * SECOND) for each in seen], np.int64)
    answers, reached = np.array([each.answers for each in seen]), np.array([each.reached for each in seen])
    refused = np.array([each.refused for each in seen])
    found = suspects(
        History(last, answers, 100, 1.0, reached, outcomes, host, 0, 2, refused),
        from_text(*[s.host for s in seen]),
        NOW,
    )
    return found[0].tolist(), found[1].tolist()


A, NEXT, FAR, THIRD = "198.18.1.1", "198.18.1.2", "198.18.2.1", "198.18.3.1"
ALIVE = Seen(THIRD, 0.1, 50, 1.0)
CHANCES: dict[str, tuple[tuple[Seen, ...], list[bool], list[bool]]] = {
    "ten answers in a fifth of the probes: 0.2^10 is less than 10^-6": ((Seen(A, 2, 10, 0.2),), [True], [False]),
    "five: 0.2^5 is not": ((Seen(A, 2, 5, 0.2),), [False], [False]),
    "five in a twentieth": ((Seen(A, 2, 5, 0.05),), [True], [False]),
    "this machine refused half of the probes since then": ((Seen(A, 2, 10, 0.2, refused=40),), [False], [False]),
    "it refused a few": ((Seen(A, 2, 10, 0.2, refused=10),), [True], [False]),
    "the last answer came less than a second ago": ((Seen(A, 0.9, 10, 0.2),), [False], [False]),
    "every port had been probed by then": ((Seen(A, 9, 50, 1.0),), [False], [False]),
    "19 control probes lost in a row, where none was before": ((Seen(A, 9, 5, 1.0, 19),), [False], [False]),
    "20 of them": ((Seen(A, 9, 5, 1.0, 20),), [True], [True]),
    "20 of them in less than five seconds": ((Seen(A, 4.9, 5, 1.0, 20),), [True], [False]),
    "a network together": ((Seen(A, 2, 5, 0.2), Seen(NEXT, 2, 5, 0.2), ALIVE), [True, True, False], [False] * 3),
    "two networks": ((Seen(A, 2, 5, 0.2), Seen(FAR, 2, 5, 0.2), ALIVE), [False] * 3, [False] * 3),
    "everybody together": ((Seen(A, 2, 5, 0.2), Seen(FAR, 2, 5, 0.2)), [True, True], [False] * 2),
}


@pytest.mark.parametrize("name", CHANCES)
def test_a_host_is_suspected_where_chance_does_not_explain_its_silence(name: str) -> None:
    seen, suspected, sure = CHANCES[name]
    assert judged(*seen) == (suspected, sure)
