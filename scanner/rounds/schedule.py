"""Which hosts next, and how many of them at once.

A scan's hosts are numbered along each lane's keyed order, so where a scan stands is two numbers, and what it still
has to do is those and the stretches that were begun and not finished. That is all that a resumed scan needs to
know: it takes the unfinished stretches first and goes on behind the last one. Shards and excludes are below
this, in the numbering, and need no thought here.

A stretch is what fills 10 s at the rate of its day, at least 16 hosts and at most 2^20 targets. Smaller ones would let
rows be written earlier, and were left: the loss is estimated window by window, and with few responders in each a sparse
scan would need a third pass over its silent targets.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..packet.headers import Ints
from ..verdict.ledger import Known

OPEN_WINDOWS = 3
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

    def slots(self, place: Ints) -> Ints:
        """Positions int64[m] → which of the stretch's hosts each is, from 0; -1 for others."""
        if self.places is None:
            slot = place - self.first
            return np.where((slot >= 0) & (slot < self.size), slot, -1)
        at = np.minimum(np.searchsorted(self.places, place), len(self.places) - 1)
        return np.where(self.places[at] == place, at, -1)


class Schedule:
    """The stretches of a scan over lanes of `sizes` hosts with `width` ports each."""

    def __init__(
        self, sizes: Sequence[int], width: int, at: tuple[int, int] = (0, 0), left: Iterable[Stretch] = ()
    ) -> None:
        """`at`: the lane and the position in it to go on from; `left`: stretches to be taken before that."""
        self._sizes, self._width, self._left = list(sizes), width, list(left)
        self._lane, self._position = at
        self.dropped: list[Stretch] = []
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
        targets = rate * WINDOW_SECONDS if rate else WINDOW_TARGETS
        most = max(1, min(max(WINDOW_HOSTS, int(targets) // self._width), WINDOW_TARGETS // self._width))
        if self._left:
            stretch = self._left.pop(0)
            if stretch.places is None and stretch.known is None and stretch.size > most:
                self._left.insert(0, stretch._replace(first=stretch.first + most, size=stretch.size - most))
                stretch = stretch._replace(size=most)
            return stretch
        if self.exhausted:
            return None
        found = Stretch(self._lane, self._position, min(most, self._sizes[self._lane] - self._position))
        self._position += found.size
        self._settle()
        return found

    def drop(self, lane: int) -> None:
        """Hand out nothing more of this lane, whose hosts cannot be reached now; `dropped` has what is not done."""
        self.dropped += [each for each in self._left if each.lane == lane]
        self._left = [each for each in self._left if each.lane != lane]
        first = self._position if lane == self._lane else 0
        if lane >= self._lane and first < self._sizes[lane]:
            self.dropped.append(Stretch(lane, first, self._sizes[lane] - first))
        self._sizes[lane] = 0
        self._settle()
