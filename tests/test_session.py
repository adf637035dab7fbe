"""A session over the network in memory: failures while rows are written, and what does not keep the machine busy."""

from collections.abc import Iterator
from typing import Any

import pytest

from scanner.errors import ScanError
from scanner.halfopen.scan import Settings
from scanner.rounds.session import Session
from scanner.rounds.window import Window
from scanner.verdict.loss import Bound
from scanner.verdict.rows import Verdict
from tests.builders import OUR_MAC, SECOND
from tests.memory import Faults, Host
from tests.paths import Path, Policer
from tests.simulation import (
    NET,
    NET_PORTS,
    Clock,
    Link,
    answers_all,
    bench_of,
    lane_of,
    link,
    memory,
    session_of,
    wanted,
)

SLOW_WRITER = 5 * SECOND  # longer than every wait of a scan


def written(session: Session, clock: Clock, rows: list[Verdict]) -> Iterator[None]:
    """Take the rows of each batch, as a writer does whose disk is slow."""
    for batch in session.batches():
        for row in batch:
            rows.append(row)
            clock.now += SLOW_WRITER
        yield


def test_a_gateway_that_does_not_answer_is_told_though_the_last_window_closes_while_rows_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scanner.rounds.schedule.WINDOW_TARGETS", 16)  # two windows on the lane that answers
    clock = Clock()
    behind = Link(memory({}, clock), clock, {})
    near = memory({}, clock)
    lanes = [lane_of(behind, ports=(80,), mac=OUR_MAC, gateway="198.18.9.9"), lane_of(near, "198.18.2.0/27", (80,))]
    session, rows = session_of(clock, lanes, Settings(rate=1000.0, bound=Bound(1))), list[Verdict]()
    with pytest.raises(ScanError, match="on lo does not answer"):
        list(written(session, clock, rows))
    assert len({row.ip for row in rows}) == len(rows) == 32
    assert [(left.lane, left.size) for left in session.resume_point().left] == [(0, 16)]


@pytest.mark.parametrize("resumable", [False, True])
def test_a_window_whose_handshakes_fail_is_written_or_scanned_again(resumable: bool) -> None:
    clock = Clock()
    wire = memory(answers_all(ports=NET_PORTS), clock)
    session = session_of(clock, [lane_of(wire, NET[4], NET_PORTS)], Settings(), verify=True, resumable=resumable)
    rows: list[Verdict] = []

    def fail(window: Window) -> None:
        raise ScanError("connect() keeps failing")

    session.engine.verify = fail  # type: ignore[method-assign]
    with pytest.raises(ScanError, match="keeps failing"):
        list(written(session, clock, rows))
    left = [(host_range.first, host_range.size) for host_range in session.resume_point().left]
    if resumable:
        assert (rows, left) == ([], [(0, 16)])
    else:
        assert ({(row.ip, row.port): (row.state, row.reason) for row in rows}, left) == (wanted(), [])


# ── no step that returns at once, again and again ──


def steps(running: Any) -> int:
    count = 0
    while not running.scan.done:
        running.step()
        count += 1
    return count


def test_a_gateway_is_waited_for_without_a_busy_loop_at_a_very_low_rate() -> None:
    """A query every ten seconds. The clock of the test moves on by 200 µs in a step that returns 0 seconds."""
    clock = Clock()
    wire = Link(memory({}, clock), clock, {})
    lane = lane_of(wire, ports=(80,), mac=OUR_MAC, gateway="198.18.9.9")
    assert steps(bench_of(clock, [lane], Settings(rate=0.1))) < 50
    assert len(wire.queries) == 3


def test_a_host_that_limits_its_answers_is_waited_for_without_a_busy_loop() -> None:
    """Its resets come at 200 a second, so the later passes over 2,000 ports take seconds."""
    clock = Clock()
    limit = Policer(rate=200, burst=20, only="reset", each_host=True)
    wire = memory({"198.18.1.0": Host()}, clock, Faults(path=Path(back=(limit,))))
    began = clock.now
    running = bench_of(clock, [lane_of(wire, "198.18.1.0", range(1, 2001))], Settings(rate=20_000.0))
    assert steps(running) < 2000 * (clock.now - began) / SECOND
    assert len(running.table()) == 2000


def test_hosts_that_were_asked_for_a_mac_address_and_not_probed_are_no_hosts_that_never_answered() -> None:
    wire, clock = link(4, ["198.18.1.1"])
    bench = bench_of(clock, [lane_of(wire, NET[4], (22, 80), mac=OUR_MAC)])
    bench.run(until=lambda bench: any(window.last_answer.any() for window in bench.scan.windows.open))
    bench.scan.windows.stop()
    stats = bench.run().stats()
    assert (len(set(wire.queries)), stats.hosts_heard, stats.hosts_unheard) == (16, 1, 0)


@pytest.mark.parametrize("only_open", [True, False])
def test_silent_targets_are_counted_only_where_all_would_list_them(only_open: bool) -> None:
    clock = Clock()
    session = session_of(clock, [lane_of(memory(answers_all(ports=NET_PORTS), clock), NET[4], NET_PORTS)], Settings())
    for batch in session.batches(write_silent=False, only_open=only_open):
        list(batch)
    assert session.stats().silent_counted == (0 if only_open else 16)
