"""Sending rounds over numbered items, until each has answered or it was enough.

One pass walks the items in a keyed order and sends to those still silent at that moment; when the
last frame has left, replies have a while to arrive; then the next pass begins, or the owner ends it.
Probes to ports and queries to neighbours are both such rounds: what the items are, what is sent
and what an answer means is the owner's business.

When a frame left is remembered for runs of the order, not for items: batches are logged as they go, and
the time of one item is found through the inverse of the permutation. So a round-trip time costs
nothing until somebody asks.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..packet.headers import Bools, Ints
from ..targets.permutation import Permutation
from ..verdict.ledger import Ledger

_CHUNK = 1 << 16
_TRIED = 512  # of the items held back, at one time
Admit = Callable[[Ints, int], Bools]  # items and the time (ns) → which may go now


class Passes:
    """Rounds over the items of a ledger."""

    def __init__(self, ledger: Ledger, key: int) -> None:
        self.ledger = ledger
        self.number = 0  # of the pass under way, from 1
        self.outstanding = 0  # frames handed out that have not left yet
        self.last_sent = 0  # when the latest frame left, ns
        self.began = 0  # when the pass under way was begun, ns
        self.cut_short = False  # stopped before it was through
        self.handed = self.handed_first = 0  # items handed out in the pass under way, and in the first one
        self.admit: Admit | None = None  # holds back items whose host is to be spared for now
        self._order = Permutation(ledger.n, key)
        self._log: list[tuple[list[int], list[int]]] = []  # for each pass: first positions, times
        self._next = 0
        self._cut = ledger.n
        self._ready = np.zeros(0, np.int64)
        self._ready_position = np.zeros(0, np.int64)
        self._held = self._extra = np.zeros(0, np.int64)
        self._extras = 0  # items asked besides, in the pass under way
        self._blurred: set[int] = set()  # passes in which items were held back: their log tells no times

    def begin(self, now: int, extra: Ints | None = None) -> None:
        """Start the next pass; `extra` items are asked, too, answered or not, spread evenly over it."""
        self.number += 1
        self._next = self.handed = 0
        self._log.append(([], []))
        self._extra = np.zeros(0, np.int64) if extra is None else extra
        self._extras = len(self._extra)
        self._ready = self._ready_position = np.zeros(0, np.int64)
        self.last_sent = self.began = now

    def go_on_from(self, other: "Passes") -> None:
        """Begin with the last round of `other` behind us, which asked these items, too, and is being waited for."""
        self.number, self.began, self.last_sent = other.number, other.began, other.last_sent
        self._log = [([0], [other.began]) for _ in range(other.number)]
        self._next = self.ledger.n
        self.ledger.probed(np.arange(self.ledger.n))

    def take(self, limit: int, now: int) -> Ints:
        """Up to `limit` items to send now. None may mean that all that is left is held back: see `handed_out`."""
        items = self._release(limit, now)
        while len(items) < limit and (len(self._ready) or self._next < self.ledger.n):
            if not len(self._ready):
                self._refill(limit)
            items = (
                np.concatenate([items, self._from_ready(limit - len(items), now)])
                if len(items)
                else self._from_ready(limit, now)
            )
        self.outstanding += len(items)
        self.handed += len(items)
        self.handed_first += len(items) if self.number == 1 else 0
        return items

    def _from_ready(self, limit: int, now: int) -> Ints:
        items, self._ready = self._ready[:limit], self._ready[limit:]
        position, self._ready_position = self._ready_position[:limit], self._ready_position[limit:]
        placed = position[position >= 0]
        if len(placed):
            first, times = self._log[-1]
            first.append(int(placed[0]))
            times.append(now)
        if self.admit is None:
            return items
        go = self.admit(items, now)
        if not go.all():
            self._held = np.concatenate([self._held, items[~go]])
            self._blurred.add(self.number)
        return items[go]

    def _release(self, limit: int, now: int) -> Ints:
        """Items that were held back and may go now."""
        if self.admit is None or not len(self._held):
            return self._held[:0]
        tried, rest = self._held[: min(limit, _TRIED)], self._held[min(limit, _TRIED) :]
        go = self.admit(tried, now)
        self._held = np.concatenate([rest, tried[~go]])
        return tried[go]

    def _refill(self, limit: int) -> None:
        end = min(self.ledger.n, self._next + (limit if self.number == 1 else _CHUNK))
        position = np.arange(self._next, end)
        items = self._order.forward(position).view(np.int64)
        self._next = end
        silent = self.ledger.silent(items)
        if not silent.all():
            items, position = items[silent], position[silent]
        if len(self._extra):
            items, position = self._with_extra(items, position)
        self._ready = np.concatenate([self._ready, items])
        self._ready_position = np.concatenate([self._ready_position, position])

    def _with_extra(self, items: Ints, position: Ints) -> tuple[Ints, Ints]:
        """The extra items that belong to this stretch of the order, in even distances; their position is -1."""
        due = self._extras * self._next // self.ledger.n
        count = due - (self._extras - len(self._extra))
        extra, self._extra = self._extra[:count], self._extra[count:]
        at = (2 * np.arange(count) + 1) * len(items) // max(1, 2 * count)
        return np.insert(items, at, extra), np.insert(position, at, -1)

    def left(self, items: Ints, now: int) -> None:
        """These items' frames have left the machine."""
        self.outstanding -= len(items)
        self.last_sent = now
        self.ledger.probed(items)

    @property
    def handed_out(self) -> bool:
        """Whether the pass under way has no further items."""
        return self._next >= self.ledger.n and not len(self._ready) and not len(self._held)

    @property
    def complete(self) -> int:
        """How many passes have asked every silent item."""
        return self.number - self.cut_short

    @property
    def achieved(self) -> float:
        """Frames a second of the pass under way, until its latest one."""
        return self.handed / max(1e-3, (self.last_sent - self.began) * 1e-9)

    @property
    def all_left(self) -> bool:
        """Whether every frame of the pass has left."""
        return self.handed_out and not self.outstanding

    def stop(self) -> None:
        """Hand out nothing more."""
        self.cut_short = self.cut_short or not self.handed_out
        self._cut = self._reach()
        self._next, self._ready, self._ready_position = self.ledger.n, self._ready[:0], self._ready[:0]
        self._held = self._extra = self._ready

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
            if rows.size and first and pass_number not in self._blurred:
                at = np.searchsorted(np.asarray(first), position[rows], side="right") - 1
                when[rows] = np.where(at >= 0, np.asarray(times)[at], 0)
        return when

    def position(self, items: Ints) -> Ints:
        """Each item's place in the order of every pass."""
        return self._order.inverse(items).view(np.int64)

    def asked(self, items: Ints, number: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Whether pass `number` has come to each item: only then can anything answer that pass."""
        reached = self._order.inverse(items).view(np.int64) < self._reach()
        return np.asarray((number < self.number) | (reached & (number == self.number)))

    def sent_before(self, items: Ints, now: int) -> npt.NDArray[np.bool_]:
        """Which of these silent items were asked at least once, and for the last time before `now`."""
        reached = self._order.inverse(items).view(np.int64) < self._reach()
        reached &= self.number not in self._blurred
        number = np.where(reached, self.number, self.number - 1).astype(np.uint8)
        when = self.sent_at(items, number)
        return np.asarray((when > 0) & (when < now))
