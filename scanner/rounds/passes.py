"""Passes: sending rounds over numbered targets, until each has answered or enough is known.

One pass walks the targets in a keyed order and hands out those that are silent at that moment. When the last frame
has left, replies get time to arrive. Then the owner begins the next pass or ends. Probes to ports and queries to
neighbours are both sent in passes.

The time when a frame left is kept for batches of the order and not for targets: the log of a pass holds the first
turn and the time of each batch, and the inverse permutation finds the turn of a target. A round-trip time costs
nothing until it is needed.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..packet.headers import Bools, Ints
from ..targets.permutation import Permutation

_CHUNK = 1 << 16  # turns looked at together from the second pass on, when most targets have answered
_RETRIED = 512  # held-back targets that are tried again in one call

PassNumbers = npt.NDArray[np.uint8]
Admit = Callable[[Ints, int], Bools]  # target ids and the time (ns) → which may be sent now
Renumber = Callable[[Ints], Ints]  # target ids here → those of the same targets in another numbering


class Tracker(Protocol):
    """What passes must know of the targets: a ledger, or a sweep's list of hosts."""

    @property
    def n(self) -> int: ...

    def silent(self, target_id: Ints | slice) -> Bools: ...

    def probed(self, target_id: Ints) -> None: ...


class Passes:
    """Passes over the targets of a tracker. Times are ns of the scan's clock."""

    def __init__(self, tracker: Tracker, key: int) -> None:
        self.pass_no = 0  # of the pass under way, from 1
        self.outstanding = 0  # frames handed out that have not left yet
        self.last_sent = 0  # when the latest frame left
        self.began = 0  # when the pass under way began
        self.first_ended = 0  # when the latest frame of the first pass left
        self.cut_short = False  # the pass under way was stopped before its end
        self.refusals = 0  # frames that this machine refused to send
        self._refused: dict[int, Bools] = {}  # by pass: which targets they were for
        self.handed = self.handed_first = 0  # targets handed out in the pass under way, and in the first pass
        self.admit: Admit | None = None  # holds back targets of hosts that limit their answers
        self.tracker, self._n = tracker, tracker.n
        self._order = Permutation(tracker.n, key)
        self._log: list[tuple[list[int], list[int]]] = []  # for each pass: first turns of batches, their times
        self._next = 0  # the turn up to which the order has been looked at
        self._cut = tracker.n
        self._ready = self._ready_turn = np.zeros(0, np.int64)  # looked at, not handed out yet
        self._held = self._ready
        self._earlier: tuple[Passes, int, Renumber] | None = None  # who sent the first passes, and how many
        self._untimed: set[int] = set()  # passes that held targets back: their log gives no times

    def begin(self, now: int) -> None:
        """Start the next pass."""
        self.pass_no += 1
        self._next = self.handed = 0
        self._log.append(([], []))
        self._ready = self._ready_turn = np.zeros(0, np.int64)
        self.last_sent = self.began = now

    def continue_from(self, other: "Passes", renumber: Renumber) -> None:
        """Go on after the passes of `other`, which sent to these targets too; `renumber` gives their ids there."""
        self.pass_no, self.began, self.last_sent = other.pass_no, other.began, other.last_sent
        self.first_ended = other.first_ended
        self._log = [([], []) for _ in range(other.pass_no)]
        self._earlier, self._next = (other, other.pass_no, renumber), self._n
        if other.refusals:
            there = renumber(np.arange(self._n))
            self.refusals = other.refusals
            self._refused = {number: refused[there] for number, refused in other._refused.items()}

    def take(self, limit: int, now: int) -> Ints:
        """Up to `limit` target ids to send to now. None may mean that the rest is held back: see `handed_out`."""
        taken = self._release(limit, now)
        while len(taken) < limit and (len(self._ready) or self._next < self._n):
            if not len(self._ready):
                self._refill(limit)
            more = self._from_ready(limit - len(taken), now)
            taken = np.concatenate([taken, more]) if len(taken) else more
        self.outstanding += len(taken)
        self.handed += len(taken)
        self.handed_first += len(taken) if self.pass_no == 1 else 0
        return taken

    def _from_ready(self, limit: int, now: int) -> Ints:
        taken, self._ready = self._ready[:limit], self._ready[limit:]
        turn, self._ready_turn = self._ready_turn[:limit], self._ready_turn[limit:]
        if len(turn):
            first, times = self._log[-1]
            first.append(int(turn[0]))
            times.append(now)
        if self.admit is None:
            return taken
        admitted = self.admit(taken, now)
        if not admitted.all():
            self._held = np.concatenate([self._held, taken[~admitted]])
            self._untimed.add(self.pass_no)
        return taken[admitted]

    def _release(self, limit: int, now: int) -> Ints:
        """Targets that were held back and may be sent to now."""
        if self.admit is None or not len(self._held):
            return self._held[:0]
        count = min(limit, _RETRIED)
        tried, rest = self._held[:count], self._held[count:]
        admitted = self.admit(tried, now)
        self._held = np.concatenate([rest, tried[~admitted]])
        return tried[admitted]

    def _refill(self, limit: int) -> None:
        """Look at the next turns of the order and keep the silent targets."""
        end = min(self._n, self._next + (limit if self.pass_no == 1 else _CHUNK))
        turn = np.arange(self._next, end)
        target_id = self._order.forward(turn).view(np.int64)
        self._next = end
        silent = self.tracker.silent(target_id)
        if not silent.all():
            target_id, turn = target_id[silent], turn[silent]
        self._ready = np.concatenate([self._ready, target_id])
        self._ready_turn = np.concatenate([self._ready_turn, turn])

    def left(self, target_id: Ints, now: int) -> None:
        """The frames of these targets have left the machine."""
        self.outstanding -= len(target_id)
        self.last_sent = now
        if self.pass_no == 1:
            self.first_ended = now
        self.tracker.probed(target_id)

    def refused(self, target_id: Ints) -> None:
        """This machine has refused to send to these targets: they have not been probed in this pass."""
        self.outstanding -= len(target_id)
        self.refusals += len(target_id)
        if self.pass_no not in self._refused:
            self._refused[self.pass_no] = np.zeros(self._n, np.bool_)
        self._refused[self.pass_no][target_id] = True

    @property
    def handed_out(self) -> bool:
        """Whether the pass under way has no further targets."""
        return self._next >= self._n and not len(self._ready) and not len(self._held)

    @property
    def held_back(self) -> bool:
        """Whether only targets of hosts that limit their answers are left in the pass under way."""
        return self._next >= self._n and not len(self._ready) and len(self._held) > 0

    @property
    def progress(self) -> float:
        """The share of the order that the pass under way has come to."""
        return self._reached() / max(1, self._n)

    def progress_at(self, when: Ints) -> npt.NDArray[np.float64]:
        """The share of the order that the first pass had come to at these times (ns)."""
        if self._earlier:
            return self._earlier[0].progress_at(when)
        first, times = self._log[0] if self._log else ([], [])
        # The turn of the first batch that left later; behind the last batch everything had left.
        turn = np.array([*first, self._n if self.pass_no > 1 else self._reached()])
        return np.asarray(turn[np.searchsorted(np.asarray(times), when, side="right")] / max(1, self._n))

    @property
    def complete(self) -> int:
        """How many passes have sent to every silent target."""
        return self.pass_no - self.cut_short

    @property
    def all_left(self) -> bool:
        """Whether every frame of the pass has left."""
        return self.handed_out and not self.outstanding

    def stop(self) -> None:
        """Hand out nothing more."""
        self.cut_short = self.cut_short or not self.handed_out
        self._cut = self._reached()
        self._next, self._ready, self._ready_turn = self._n, self._ready[:0], self._ready[:0]
        self._held = self._ready

    def _reached(self) -> int:
        """The turn up to which targets were handed out in the pass under way."""
        return min(self._cut, int(self._ready_turn[0]) if len(self._ready_turn) else self._next)

    def turn(self, target_id: Ints) -> Ints:
        """The place of each target in the order of every pass."""
        return self._order.inverse(target_id).view(np.int64)

    def sent_at(self, target_id: Ints, pass_no: PassNumbers) -> Ints:
        """When the frame of that pass was handed out for each target, ns; 0 where that is not known."""
        turn = self.turn(target_id)
        when = np.zeros(len(target_id), np.int64)
        if self._earlier:
            passes, count, renumber = self._earlier
            early = np.flatnonzero(pass_no <= count)
            when[early] = passes.sent_at(renumber(target_id[early]), pass_no[early])
        for number, (first, times) in enumerate(self._log, 1):
            selected = np.flatnonzero(pass_no == number)
            if selected.size and first and number not in self._untimed:
                batch = np.searchsorted(np.asarray(first), turn[selected], side="right") - 1
                when[selected] = np.where(batch >= 0, np.asarray(times)[batch], 0)
        return when

    def came_to(self, target_id: Ints) -> Bools:
        """Whether the first pass has handed out each target."""
        return np.asarray((self.turn(target_id) < self._reached()) | (self.pass_no > 1))

    def was_sent(self, target_id: Ints, pass_no: PassNumbers) -> Bools:
        """Whether that pass has sent to each target, or may have. Before that, nothing can answer the pass."""
        reached = self.turn(target_id) < self._reached()
        sent = (pass_no < self.pass_no) | (reached & (pass_no == self.pass_no))
        for number, refused in self._refused.items():
            sent &= (pass_no != number) | ~refused[target_id]
        return np.asarray(sent)

    def sent_before(self, target_id: Ints, now: int) -> Bools:
        """Which of these silent targets were sent to at least once, and for the last time before `now`."""
        reached = self.turn(target_id) < self._reached()
        reached &= self.pass_no not in self._untimed
        pass_no = np.where(reached, self.pass_no, self.pass_no - 1).astype(np.uint8)
        when = self.sent_at(target_id, pass_no)
        return np.asarray((when > 0) & (when < now))
