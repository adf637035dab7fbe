"""Interfaces that go down at any moment of a scan, in the network in memory: no false row, and none is missing."""

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from scanner.config import SynConfig
from scanner.errors import ScanError
from scanner.halfopen.scan import Scan, Settings
from scanner.halfopen.session import LiveScan, lane_facts
from scanner.halfopen.setup import Lanes
from scanner.packet.headers import Bytes, Frames
from scanner.rounds.session import Session
from scanner.rounds.statistics import ScanStats
from scanner.transport import LinkDown
from scanner.verdict.loss import Bound
from scanner.verdict.rows import Verdict
from tests.builders import OUR_MAC, SECOND
from tests.memory import Faults
from tests.simulation import (
    KEYS,
    NET,
    NET_PORTS,
    Clock,
    Link,
    answers_all,
    bench_of,
    lane_of,
    memory,
    wanted,
)

PATIENT = 8 * SECOND


@dataclass
class Flaky:
    """`inner`, whose interface is down at some times (ns): frames wait in it, and what arrives is lost."""

    inner: Any
    clock: Clock
    outages: list[tuple[int, int]] = field(default_factory=list)
    waiting: list[Bytes] = field(default_factory=list)
    read: int = 0
    rows: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def down(self, since: int) -> bool:
        return any(begin <= self.clock.now and since < end for begin, end in self.outages)

    def reserve(self, limit: int) -> Bytes:
        self.rows = np.zeros((min(limit, 512), 256), np.uint8)
        return self.rows

    def commit(self, rows: int, length: int) -> None:
        if self.down(self.clock.now):
            self.waiting.append(self.rows[:rows, :length].copy())
        else:
            self.inner.reserve(rows)[:, :length] = self.rows[:rows, :length]
            self.inner.commit(rows, length)

    def recv(self) -> Frames:
        since, self.read = self.read or self.clock.now, self.clock.now
        frames = self.inner.recv()
        if self.down(since):
            raise LinkDown("memory is down")
        for rows in self.waiting:
            self.inner.reserve(len(rows))[:, : rows.shape[1]] = rows
            self.inner.commit(*rows.shape)
        self.waiting.clear()
        return frames


def session_of(clock: Clock, transport: Any, **more: Any) -> Session:
    """A session whose sleep moves the clock on."""
    lanes = [lane_of(transport, NET[4], NET_PORTS, **more)]
    scan = Scan(lanes, Settings(rate=200.0), lanes[0].order_key)
    named = [lane for lane in lanes if setattr(lane, "name", "lo") is None]  # its drops can be counted
    engine = LiveScan(scan, Lanes(named, [transport], lambda: None), SynConfig(), clock, 1)

    def sleep(seconds: float) -> None:
        clock.now += max(1000, int(seconds * SECOND))

    engine.sleep = sleep  # type: ignore[method-assign]
    return Session(engine, ScanStats(), clock, KEYS, [lane_facts(lane) for lane in lanes])


def written(session: Session) -> tuple[dict[tuple[str, int | None], tuple[str, str]], str]:
    """The rows of a session, and how it failed."""
    found: list[Verdict] = []
    try:
        for batch in session.batches():
            found += batch
    except ScanError as error:
        return {(row.ip, row.port): (row.state, row.reason) for row in found}, str(error)
    return {(row.ip, row.port): (row.state, row.reason) for row in found}, ""


@pytest.mark.parametrize("seed", range(40))
def test_outages_at_any_time_cost_no_row_and_make_no_false_one(seed: int) -> None:
    """Kept: every verdict, on a link with neighbours too, whose queries may be lost as well."""
    chance = random.Random(seed)
    clock = Clock()
    inner: Any = memory(answers_all(ports=NET_PORTS), clock, Faults(delay=(0.05, 0.1)))
    if seed % 2:
        inner = Link(inner, clock, dict.fromkeys(answers_all(), OUR_MAC))
    moments = sorted(clock.now + int(chance.uniform(0, 2) ** 2 * SECOND) for _ in range(chance.randint(1, 3)))
    lengths = [int(chance.choice([0.0001, 0.05, 1.0, 8.0]) * SECOND) for _ in moments]
    flaky = Flaky(inner, clock, [(begin, begin + length) for begin, length in zip(moments, lengths, strict=True)])
    lane = lane_of(flaky, NET[4], NET_PORTS, mac=OUR_MAC if seed % 2 else None)
    settings = Settings(rate=chance.choice([50.0, 200.0, 5000.0, None]), bound=chance.choice([Bound(1), Bound()]))
    assert bench_of(clock, [lane], settings).run().table() == wanted()


def test_an_interface_that_stays_down_ends_the_scan_after_a_minute() -> None:
    """Kept: what had answered. What is silent since then, or was never probed, has no row."""
    clock = Clock()
    began = clock.now
    flaky = Flaky(memory(answers_all(ports=NET_PORTS), clock), clock, [(clock.now + SECOND // 5, clock.now << 1)])
    session = session_of(clock, flaky)
    found, error = written(session)
    assert error == "memory is down for 60 s"
    assert session.stats().sent.total() == len(flaky.probes_seen) + len(flaky.resets_seen)
    assert 60 < (clock.now - began) / SECOND < 62
    assert found == {target: state for target, state in wanted().items() if target in found}
    assert 0 < len(found) < len(wanted())
    assert ("filtered", "no-response") not in found.values()


def test_ctrl_c_while_an_interface_is_down_ends_the_scan_at_once() -> None:
    """Kept: the same."""
    clock = Clock()
    flaky = Flaky(memory(answers_all(ports=NET_PORTS), clock), clock, [(clock.now + SECOND // 5, clock.now << 1)])
    session = session_of(clock, flaky)
    began, sleep = clock.now, session.engine.sleep

    def stop(seconds: float) -> None:
        sleep(seconds)
        if clock.now - began > SECOND:
            session.stop()

    session.engine.sleep = stop  # type: ignore[method-assign]
    found, error = written(session)
    assert (error, (clock.now - began) / SECOND < 1.1) == ("memory is down", True)
    assert 0 < len(found) < len(wanted())
    assert ("filtered", "no-response") not in found.values()


def test_frames_that_waited_in_an_interface_are_no_burst() -> None:
    """What is handed to an interface before it is known to be down is one batch, and not eight seconds of probes."""
    clock = Clock()
    flaky = Flaky(
        memory(answers_all(ports=NET_PORTS), clock), clock, [(clock.now + 10**8, clock.now + 10**8 + PATIENT)]
    )
    running = bench_of(clock, [lane_of(flaky, NET[4], NET_PORTS)], Settings(rate=200.0))
    running.run(lambda bench: bench.clock.now > flaky.outages[0][1] - SECOND)
    assert sum(map(len, flaky.waiting)) <= 2
