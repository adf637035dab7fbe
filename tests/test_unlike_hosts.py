"""Whole scans of hosts and paths that are unlike: slow hosts beside fast ones, narrow paths, gateways that change."""

import pytest

from scanner.halfopen.scan import Settings
from scanner.verdict.loss import Bound
from tests.builders import OUR_MAC, SECOND
from tests.memory import Faults, Host
from tests.paths import Narrow, OneWay, Path
from tests.simulation import NET, NET_PORTS, Bench, Clock, Link, answers_all, bench, bench_of, lane_of, link, memory

NOW = 1_700_000_000 * SECOND
SLOW = tuple(f"198.18.1.{number}" for number in range(41, 51))
AUTO = Settings(rate=None)


def seconds(running: Bench) -> float:
    return (running.clock.now - NOW) / SECOND


def found(running: Bench) -> dict[str, int]:
    """How many ports of each host are open or closed."""
    counts: dict[str, int] = {}
    for row in running.rows:
        counts[row.ip] = counts.get(row.ip, 0) + (row.state in ("open", "closed"))
    return counts


# ── slow hosts beside fast ones ──


@pytest.mark.parametrize("rate", [0.0, None])
@pytest.mark.parametrize("away", [0.3, 0.5, 1.5])
def test_no_slow_host_is_missed_beside_fast_ones(away: float, rate: float | None) -> None:
    """10 of 254 hosts are far away; two of three ports answer."""
    hosts = {f"198.18.1.{number}": Host({22: "open", 80: "closed"}, "drop") for number in range(1, 255)}
    path = Path(back=tuple(OneWay(delay=away, where=(address,)) for address in SLOW))
    running = bench(hosts, targets="198.18.1.1-254", ports=(22, 80, 443), faults=Faults(path=path),
                    settings=Settings(rate=rate)).run()  # fmt: skip
    assert [address for address, count in found(running).items() if count != 2] == []
    assert seconds(running) < 3 + 8 * away


@pytest.mark.parametrize("timeout", [0.5, 1.0])
def test_a_given_time_is_the_patience(timeout: float) -> None:
    """Twice that for the first probe, and that for the latest one: who is further away is missed."""
    hosts = {"198.18.1.1": Host(other="closed"), "198.18.1.2": Host(other="closed", delay=3.3 * timeout)}
    settings = Settings(bound=Bound(2), timeout=timeout)
    running = bench(hosts, targets="198.18.1.1-2", ports=(80,), settings=settings).run()
    assert (found(running), seconds(running) < 2 * timeout + 0.1) == ({"198.18.1.1": 1, "198.18.1.2": 0}, True)


@pytest.mark.parametrize("net", [4, 6])
def test_a_neighbour_that_takes_long_to_answer_a_query_is_there(net: int) -> None:
    everyone = list(answers_all(net))
    wire, clock = link(net, everyone)
    wire.slow = {everyone[3]: 1.5}
    running = bench_of(clock, [lane_of(wire, NET[net], NET_PORTS, mac=OUR_MAC)]).run()
    assert ({ip for ip, port in running.table() if port is None}, found(running)[everyone[3]]) == (set(), 3)


@pytest.mark.parametrize("rate", [0.0, None])
def test_a_scan_whose_every_target_answered_ends_at_once(rate: float | None) -> None:
    running = bench(answers_all(4, other="closed"), targets=NET[4], ports=(22, 80), settings=Settings(rate=rate)).run()
    assert (running.scan.transmit.sent["probe"], seconds(running) < 0.1) == (32, True)


def test_patience_costs_a_scan_one_wait_and_not_one_for_each_window() -> None:
    """Nobody answers in 64 windows: three passes of 1,024 probes, and the waits of one window."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scanner.rounds.schedule.WINDOW_TARGETS", 16)
        patch.setattr("scanner.rounds.schedule.WINDOW_HOSTS", 16)
        running = bench({}, targets="198.18.4.0/22", ports=(80,), settings=Settings(rate=10_000.0)).run()
    assert (len(running.windows), running.scan.transmit.sent["probe"]) == (64, 3 * 1024)
    assert seconds(running) < 4.0


# ── a narrow path ──


@pytest.mark.parametrize("seed", range(3))
def test_over_a_narrow_path_nothing_is_missed_or_printed(seed: int) -> None:
    hosts = {f"198.18.1.{number}": Host(other="closed") for number in range(1, 51)}
    faults = Faults(delay=(0.01, 0.011), path=Path(back=(Narrow(500),)))
    running = bench(hosts, targets="198.18.1.1-50", ports=range(1000, 1040), faults=faults, seed=seed,
                    settings=AUTO).run()  # fmt: skip
    stats = running.stats()
    assert ({row.state for row in running.rows}, len(running.rows)) == ({"closed"}, 2000)
    assert (stats.expected_missed, stats.missed_by_loss) == (0.0, 0.0)
    assert stats.sent["probe"] + stats.sent["control"] < 2.5 * 2000


# ── a gateway ──


@pytest.mark.parametrize("version", [4, 6])
def test_a_gateway_that_changes_its_address_is_resolved_again(version: int) -> None:
    """Its old MAC address reaches nobody. What was lost meanwhile is asked again."""
    gateway = {4: "198.18.0.254", 6: "2001:db8::fe"}[version]
    clock, hosts = Clock(), answers_all(version, other="closed")
    old, new = "02:00:00:00:09:01", "02:00:00:00:09:02"
    wire = Link(memory(hosts, clock), clock, {gateway: old, "gateway": old}, strict=True)
    lane = lane_of(wire, NET[version], range(1000, 1050), mac=OUR_MAC, gateway=gateway)
    running = bench_of(clock, [lane], Settings(rate=300.0))

    def change(now: Bench) -> bool:
        if now.clock.now - NOW > SECOND:
            wire.macs = {gateway: new, "gateway": new}
        return False

    running.run(change)
    assert ({row.state for row in running.rows}, len(running.rows)) == ({"closed"}, 800)
    assert (wire.wrong_macs > 0, wire.queries.count(gateway) > 2, dict(running.stats().stopped)) == (True, True, {})
