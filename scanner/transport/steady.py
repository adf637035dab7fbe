"""The scan's clock, and a transport whose receive times follow it, whatever happens to the wall clock.

The kernel stamps frames with the wall clock. The scan's clock is the wall clock at its start, carried on by the
monotonic one, so that no wait depends on somebody who sets the time. After such a step the two differ, and a round trip
would seem to take an hour. So the difference is taken at each reading and added to the times of the frames.

Limit: frames that arrived before the step and are read after it get a time between the two readings.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..packet.headers import Frames
from . import Transport

TOLERANCE = 1_000_000  # ns; a smaller difference is the two clocks being read one after the other


def steady_clock() -> Callable[[], int]:
    """A clock of nanoseconds since 1970 that never jumps."""
    offset = time.time_ns() - time.monotonic_ns()
    return lambda: time.monotonic_ns() + offset


class Steady:
    """`transport`, with receive times of `clock` (ns); `wall` is the clock that the kernel stamps with."""

    def __init__(
        self, transport: Transport, clock: Callable[[], int], wall: Callable[[], int] = time.time_ns
    ) -> None:  # fmt: skip
        self._transport, self._clock, self._wall = transport, clock, wall
        self._read = clock()  # when frames were read last
        self.link = transport.link
        self.reserve, self.commit, self.sent = transport.reserve, transport.commit, transport.sent
        self.refused = transport.refused
        self.fileno, self.drops, self.close = transport.fileno, transport.drops, transport.close

    def recv(self) -> Frames:
        frames, now = self._transport.recv(), self._clock()
        ahead = now - self._wall()
        if len(frames) and abs(ahead) > TOLERANCE:
            frames = replace(frames, time=np.clip(frames.time + ahead, self._read, now))
        self._read = now
        return frames
