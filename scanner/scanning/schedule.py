"""Which hosts next, and how many of them at once.

A scan's hosts are numbered along each lane's keyed order, so where a scan stands is two numbers, and what it still
has to do is those and the stretches that were begun and not finished. That is all that a resumed scan needs to
know: it takes the unfinished stretches first and goes on behind the last one. Shards and excludes are below
this, in the numbering, and need no thought here.

A stretch is what fills 10 s at the rate of its day, at least 16 hosts and at most 2^20 targets.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..judge.ledger import Known
from ..packet.headers import Ints

WINDOW_SECONDS, WINDOW_HOSTS, WINDOW_TARGETS = 10.0, 16, 1 << 20


class Stretch(NamedTuple):
    """`size` hosts from position `first` of a lane's order on; or those at `places` alone, int64, ascending.

    `known`: what an earlier part of a resumed scan has learned of them.
    """

    lane: int
    first: int
    size: int
    places: Ints | None = None
    known: Known | None = None

    def positions(self) -> Ints:
        """The hosts' positions in the lane's order, int64[hosts], ascending."""
        return np.arange(self.first, self.first + self.size) if self.places is None else self.places


class Schedule:
    """The stretches of a scan over lanes of `sizes` hosts with `width` ports each."""

    def __init__(
        self, sizes: Sequence[int], width: int, at: tuple[int, int] = (0, 0), left: Iterable[Stretch] = ()
    ) -> None:
        """`at`: the lane and the position in it to go on from; `left`: stretches to be taken before that."""
        self._sizes, self._width, self._left = list(sizes), width, list(left)
        self._lane, self._position = at
        self._settle()

    def _settle(self) -> None:
        while self._lane < len(self._sizes) and self._position >= self._sizes[self._lane]:
            self._lane, self._position = self._lane + 1, 0

    @property
    def at(self) -> tuple[int, int]:
        """Lane and position from which on nothing has been handed out."""
        return self._lane, self._position

    @property
    def left(self) -> list[Stretch]:
        """Stretches from before that have not been handed out yet."""
        return list(self._left)

    @property
    def remaining(self) -> int:
        """Targets that have not been handed out."""
        left = sum(len(each.positions()) for each in self._left)
        return (left + sum(self._sizes[self._lane :]) - self._position) * self._width

    @property
    def exhausted(self) -> bool:
        """Whether there is no further stretch."""
        return not self._left and self._lane >= len(self._sizes)

    def next(self, rate: float) -> Stretch | None:
        """The next stretch, for `rate` probes a second (0: unlimited); None: there is none."""
        if self._left:
            return self._left.pop(0)
        if self.exhausted:
            return None
        targets = rate * WINDOW_SECONDS if rate else WINDOW_TARGETS
        most = max(1, min(max(WINDOW_HOSTS, int(targets) // self._width), WINDOW_TARGETS // self._width))
        found = Stretch(self._lane, self._position, min(most, self._sizes[self._lane] - self._position))
        self._position += found.size
        self._settle()
        return found

    def drop(self, lane: int) -> None:
        """Hand out nothing more of this lane: its hosts cannot be reached."""
        self._left = [each for each in self._left if each.lane != lane]
        self._sizes[lane] = 0
        self._settle()
