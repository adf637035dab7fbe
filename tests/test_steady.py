"""Receive times after somebody has set the clock of the machine."""

from typing import Any

import numpy as np
import pytest

from scanner.packet.headers import LINK_RAW, Frames
from scanner.transport.steady import Steady
from tests.builders import SECOND
from tests.memory import Host
from tests.simulation import Clock, bench_of, lane_of, memory

HOUR = 3600 * SECOND
HOST = "198.18.1.7"


class Stamped:
    """A transport whose frames carry the times of a wall clock that is `ahead` of the scan's clock from a moment on."""

    def __init__(self, inner: Any, clock: Clock, ahead: int, since: int) -> None:
        self.inner, self.clock, self.ahead, self.since = inner, clock, ahead, since

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def wall(self) -> int:
        return self.clock.now + (self.ahead if self.clock.now >= self.since else 0)

    def recv(self) -> Frames:
        frames: Frames = self.inner.recv()
        shift = np.where(frames.time >= self.since, self.ahead, 0)
        return Frames(frames.buffer, frames.start, frames.length, frames.time + shift, frames.link)


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_a_clock_that_is_set_in_mid_scan_changes_no_verdict_and_no_wait(ahead: int) -> None:
    clock = Clock()
    ports = {port: "open" if port % 2 else "drop" for port in range(1, 101)}
    began = clock.now
    inner = memory({HOST: Host(dict(ports))}, clock)
    stamped = Stamped(inner, clock, ahead, began + SECOND // 250)
    steady = Steady(stamped, clock, stamped.wall)
    steady.next_arrival = inner.next_arrival  # type: ignore[attr-defined]
    done = bench_of(clock, [lane_of(steady, HOST, ports)]).run()
    found = {row.port: row.state for row in done.rows}
    trips = [row.rtt_ms for row in done.rows if row.rtt_ms is not None]
    assert found == {port: "open" if port % 2 else "filtered" for port in ports}
    assert (clock.now - began < 5 * SECOND, max(trips) < 50) == (True, True)


def test_without_a_step_the_times_are_those_of_the_kernel() -> None:
    clock = Clock()
    times = np.array([clock.now - 5_000, clock.now - 1_000])
    frames = Frames(np.zeros(80, np.uint8), np.array([0, 40]), np.array([40, 40]), times, np.full(2, LINK_RAW))

    class Ready:
        link = LINK_RAW
        reserve = commit = sent = refused = fileno = drops = close = None

        def recv(self) -> Frames:
            return frames

    assert Steady(Ready(), clock, clock).recv().time.tolist() == times.tolist()  # type: ignore[arg-type]
