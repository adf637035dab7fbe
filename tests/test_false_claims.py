"""Who sent a reset: paths and addresses without any firewall, where the mark of the probes comes and goes.

In each scene a claim about the sender of a reset would be false. Each runs over many seeds, with few and many ports,
slow and fast. The same scan of a host with a firewall keeps its claims.

Left out, because headers cannot decide: over IPv4, a second machine at the same distance whose resets look like those
of REJECT (identification 0, DF, no mark).
"""

from typing import NamedTuple

import pytest

from scanner.halfopen.scan import Settings
from scanner.verdict.loss import Bound
from tests.memory import Faults, Host
from tests.paths import Ecmp, Elsewhere, Model, Path, Policer
from tests.simulation import Bench, bench

HOST = {4: "198.18.1.7", 6: "2001:db8:1::7"}
SEEDS = range(30)
MIDDLE = 1020  # of the ports that are probed
CLAIMS = {"firewall-reset", "host-reset"}
VERSIONS = pytest.mark.parametrize("version", [4, 6])


class Scene(NamedTuple):
    """A host, and the path to it and back."""

    out: tuple[Model, ...] = ()
    back: tuple[Model, ...] = ()
    host: Host = Host()


def forwards(to: Host) -> Host:
    """A host that hands the upper half of its ports on."""
    return Host(forwards=dict.fromkeys(range(MIDDLE, MIDDLE + 20), to))


UPPER = (MIDDLE, MIDDLE + 20)
SCENES: dict[str, Scene] = {
    **{f"ECMP, {share:.0%} of the flows": Scene(out=(Ecmp(share),)) for share in (0.05, 0.12, 0.5, 0.88, 0.95)},
    "ECMP on the way back": Scene(back=(Ecmp(0.5),)),
    "a virtual IP by flow, one server behind a router": Scene(back=(Ecmp(0.5, hops=1),)),
    "a virtual IP by port, one server behind a router": Scene(back=(Elsewhere(*UPPER, hops=1),)),
    "a virtual IP by port, one server that counts packets": Scene(host=forwards(Host(marks=False, ip_id=None))),
    "a virtual IP by port, one server without DF": Scene(host=forwards(Host(marks=False, df=False))),
    "a port forward to a host behind": Scene(back=(Elsewhere(*UPPER, hops=2),)),
    "a port forward to another system": Scene(host=forwards(Host(marks=False, ttl=128))),
    "a policer of 100/s": Scene(out=(Policer(100, 5, clear=True),)),
    "a policer of 2,000/s": Scene(out=(Policer(2000, 8, clear=True),)),
    "a policer of 10/s on the way back": Scene(back=(Policer(10, 12, clear=True),)),
}
FOUR_ONLY = {"a virtual IP by port, one server that counts packets", "a virtual IP by port, one server without DF"}


def claims(running: Bench) -> dict[int, set[str]]:
    """Ports with a claim about the sender of their reset."""
    words = {row.port or 0: CLAIMS & set(row.evidence) for row in running.run().rows}
    return {port: found for port, found in words.items() if found}


@pytest.mark.parametrize(
    ("scene", "version"), [(scene, version) for scene in SCENES for version in ((4,) if scene in FOUR_ONLY else (4, 6))]
)
def test_nothing_is_claimed_without_a_firewall(scene: str, version: int) -> None:
    out, back, host = SCENES[scene]
    false: list[tuple[int, dict[int, set[str]]]] = []
    for seed in SEEDS:
        half, settings = (2, 6, 20)[seed % 3], Settings(rate=(0.0, 500.0, 5000.0)[seed // 3 % 3])
        ports, faults = range(MIDDLE - half, MIDDLE + half), Faults(path=Path(out, back))
        running = bench({HOST[version]: host}, targets=HOST[version], ports=ports, seed=seed, faults=faults,
                        settings=settings)  # fmt: skip
        if found := claims(running):
            false.append((seed, found))
    assert false == []


FIREWALL = {**dict.fromkeys(range(1000, 1010), "closed"), **dict.fromkeys(range(1010, 1013), "reject-reset")}
TRUE = {port: {"host-reset" if action == "closed" else "firewall-reset"} for port, action in FIREWALL.items()}


def behind_a_firewall(version: int = 4, hops: int = 0, **more: object) -> Bench:
    """A scan of a host with closed and rejected ports; the firewall is so many hops nearer."""
    host = Host(dict(FIREWALL), reject_ttl=64 + hops)
    return bench({HOST[version]: host}, targets=HOST[version], ports=FIREWALL, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("lost", [0.0, 0.2])
@pytest.mark.parametrize("hops", [0, 1])
@VERSIONS
def test_a_firewall_is_named(version: int, hops: int, lost: float) -> None:
    """Where a third of the round trips is lost, the test of one claim in 300 has too few answers (binomial)."""
    found = [claims(behind_a_firewall(version, hops, seed=seed, faults=Faults(lost, lost))) for seed in SEEDS]
    unnamed = [each for each in found if each != TRUE]
    assert (unnamed == [{}] * len(unnamed), len(unnamed) <= (1 if lost else 0)) == (True, True)


def checks(running: Bench) -> list[int]:
    """The ports that check probes went to."""
    at, first = (20 if running.scan.lanes[0].version == 4 else 40), running.scan.lanes[0].check_ports[0]
    ports = [(frame[at : at + 2], frame[at + 2 : at + 4]) for frame in running.transports[0].probes_seen]
    return [int.from_bytes(dport, "big") for sport, dport in ports if int.from_bytes(sport, "big") >= first]


@VERSIONS
def test_at_most_16_more_probes_half_of_them_to_each_kind_of_port(version: int) -> None:
    running = behind_a_firewall(version).run()
    asked = [FIREWALL[port] for port in checks(running)]
    sent = running.scan.transmit.sent["probe"]
    assert (asked.count("closed"), asked.count("reject-reset"), sent) == (8, 8, 16 + len(FIREWALL))


def test_no_host_without_a_contrast_is_probed_again() -> None:
    running = bench({HOST[4]: Host(ports={22: "open"})}, targets=HOST[4], ports=range(20, 30)).run()
    assert running.scan.transmit.sent["probe"] == 10


def test_no_row_says_that_an_answer_came_more_than_once() -> None:
    assert [row for row in behind_a_firewall().run().rows if set(row.evidence) - CLAIMS] == []


def test_a_claim_is_not_made_when_nobody_answers_its_test() -> None:
    """A policer lets the probes of the pass through, and nothing after them."""
    faults = Faults(path=Path(out=(Policer(0.001, len(FIREWALL)),)))
    running = behind_a_firewall(faults=faults, settings=Settings(bound=Bound(2)))
    assert (claims(running), len(checks(running))) == ({}, 2 * 16)


def test_one_source_port_for_all_passes_can_test_nothing_and_claims_nothing() -> None:
    running = behind_a_firewall(source_port=40000)
    assert (claims(running), running.scan.transmit.sent["probe"]) == ({}, len(FIREWALL))


def test_a_scan_that_is_stopped_during_the_test_has_waited_for_its_silent_targets() -> None:
    host = Host({**FIREWALL, 1013: "drop"})
    running = bench({HOST[4]: host}, targets=HOST[4], ports=host.ports)
    running.run(lambda now: bool(checks(now))).scan.stop()
    assert [row.evidence for row in running.run().rows if row.port == 1013] == [()]


def test_a_scan_that_is_stopped_before_the_test_claims_nothing() -> None:
    running = behind_a_firewall().run(lambda now: now.scan.transmit.sent["probe"] > 0)
    running.scan.stop()
    assert claims(running) == {}
