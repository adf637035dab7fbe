"""Sending rounds over numbered items, until each has answered or it was enough.

One pass walks the items in a keyed order and sends to those still silent at that moment; when the
last frame has left, replies have a while to arrive; then the next pass begins, or the owner ends it.
Probes to ports and queries to neighbours are both such rounds: what the items are, what is sent
and what an answer means is the owner's business.

When a frame left is remembered for runs of the order, not for items: batches are logged as they go, and
the time of one item is found through the inverse of the permutation. So a round-trip time costs
nothing until somebody asks.
"""

import numpy as np
import numpy.typing as npt

from .headers import Ints
from .ledger import Ledger
from .permutation import Permutation

_CHUNK = 1 << 16


class Passes:
    """Rounds over the items of a ledger."""

    def __init__(self, ledger: Ledger, key: int) -> None:
        self.ledger = ledger
        self.number = 0  # of the pass under way, from 1
        self.outstanding = 0  # frames handed out that have not left yet
        self.last_sent = 0  # when the latest frame left, ns
        self._order = Permutation(ledger.n, key)
        self._log: list[tuple[list[int], list[int]]] = []  # for each pass: first positions, times
        self._next = 0
        self._cut = ledger.n
        self._ready = np.zeros(0, np.int64)
        self._ready_position = np.zeros(0, np.int64)

    def begin(self, now: int, extra: Ints | None = None) -> None:
        """Start the next pass; `extra` items go first, answered or not."""
        self.number += 1
        self._next = 0
        self._log.append(([], []))
        self._ready = np.zeros(0, np.int64) if extra is None else extra
        self._ready_position = np.full(len(self._ready), -1, np.int64)
        self.last_sent = now

    def take(self, limit: int, now: int) -> Ints:
        """Up to `limit` items to send now; none when the pass has handed out all it has."""
        while len(self._ready) < limit and self._next < self.ledger.n:
            self._refill(limit)
        items, self._ready = self._ready[:limit], self._ready[limit:]
        position, self._ready_position = self._ready_position[:limit], self._ready_position[limit:]
        if len(items):
            self.outstanding += len(items)
            first, times = self._log[-1]
            if position[-1] >= 0:
                first.append(int(position[position >= 0][0]))
                times.append(now)
        return items

    def _refill(self, limit: int) -> None:
        end = min(self.ledger.n, self._next + (limit if self.number == 1 else _CHUNK))
        position = np.arange(self._next, end)
        items = self._order.forward(position).view(np.int64)
        self._next = end
        silent = self.ledger.silent(items)
        if not silent.all():
            items, position = items[silent], position[silent]
        self._ready = np.concatenate([self._ready, items])
        self._ready_position = np.concatenate([self._ready_position, position])

    def left(self, items: Ints, now: int) -> None:
        """These items' frames have left the machine."""
        self.outstanding -= len(items)
        self.last_sent = now
        self.ledger.probed(items)

    @property
    def handed_out(self) -> bool:
        """Whether the pass under way has no further items."""
        return self._next >= self.ledger.n and not len(self._ready)

    @property
    def all_left(self) -> bool:
        """Whether every frame of the pass has left."""
        return self.handed_out and not self.outstanding

    def stop(self) -> None:
        """Hand out nothing more."""
        self._cut = self._reach()
        self._next, self._ready, self._ready_position = self.ledger.n, self._ready[:0], self._ready[:0]

    def _reach(self) -> int:
        """The position in the order up to which items were handed out in the pass under way."""
        waiting = self._ready_position[self._ready_position >= 0]
        return min(self._cut, int(waiting[0]) if len(waiting) else self._next)

    def sent_at(self, items: Ints, number: npt.NDArray[np.uint8]) -> Ints:
        """When each item's frame of pass `number` was handed out, ns; 0 where that is not known."""
        position = self._order.inverse(items).view(np.int64)
        when = np.zeros(len(items), np.int64)
        for pass_number, (first, times) in enumerate(self._log, 1):
            rows = np.flatnonzero(number == pass_number)
            if rows.size and first:
                at = np.searchsorted(np.asarray(first), position[rows], side="right") - 1
                when[rows] = np.where(at >= 0, np.asarray(times)[at], 0)
        return when

    def asked(self, items: Ints, number: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Whether pass `number` has come to each item: only then can anything answer that pass."""
        reached = self._order.inverse(items).view(np.int64) < self._reach()
        return (number < self.number) | (reached & (number == self.number))

    def sent_before(self, items: Ints, now: int) -> npt.NDArray[np.bool_]:
        """Which of these silent items were asked at least once, and for the last time before `now`."""
        reached = self._order.inverse(items).view(np.int64) < self._reach()
        number = np.where(reached, self.number, self.number - 1).astype(np.uint8)
        when = self.sent_at(items, number)
        return (when > 0) & (when < now)
