"""Control probes: probes to targets that have answered. They are the only direct measure of loss.

A target that has answered answers again, unless a frame is lost, the host has gone, or the rate is too high. So from
the first pass on a small share of the probes goes to such targets. A control probe of pass j leaves from the source
port of pass j + 1. The target was never probed from that port, because it had answered before, so no stack takes the
control probe for a repeat. A target gets a second control probe in a pass only after a second: by then the reset to
its SYN/ACK has closed the connection (RFC 6298: a SYN/ACK is repeated after a second).

The results serve three purposes: the loss estimate counts them by host, the search for a rate counts them by time, and
a row of lost ones at the end shows that a host or the path has stopped answering.

Limit: a host whose every answered target has its control probe already gets no further one in this pass.
"""

from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet.headers import Bools, Ints

SMALL, SMALL_SHARE, SHARE = 500, 0.1, 0.04  # of the first probes of a pass, and of all further ones
REPEAT_NS = 1_000_000_000  # ns between two control probes to one target in a pass
MOST_OFFERED = 4096  # targets that wait for their control probe

PassNumbers = npt.NDArray[np.uint8]


class Outcomes(NamedTuple):
    """Control probes as columns: target, pass, when each left (ns), and whether it was answered."""

    target_id: Ints
    pass_no: Ints
    sent_at: Ints
    back: Bools


def quota(probes: int, most: int | None) -> int:
    """How many control probes may accompany so many probes of a pass; `most`: an upper end."""
    share = SMALL_SHARE * min(probes, SMALL) + SHARE * max(0, probes - SMALL)
    return int(share) if most is None else min(most, int(share))


class ControlProbes:
    """The control probes of a window. Times are ns of the scan's clock."""

    def __init__(self) -> None:
        self.pass_no = 0
        self.outstanding = 0  # handed out and not left yet
        self._handed = self._allowed = 0  # in the pass under way
        self._stopped = True
        self._offered: deque[Ints] = deque()
        self._waiting = 0
        self.repeated: set[tuple[int, int]] = set()  # (target, pass) with more than one control probe
        self._index: dict[tuple[int, int], int] = {}  # (target, pass) → place in the columns
        self._target: list[int] = []
        self._pass: list[int] = []
        self._sent: list[int] = []
        self._back: list[bool] = []

    def begin(self, answered: Ints, most: int) -> None:
        """A pass begins. `answered`: the targets that have answered; up to `most` of them are chosen, evenly."""
        self.pass_no += 1
        self._stopped = False
        self._handed = self._allowed = self._waiting = 0
        self._offered.clear()
        self.offer(answered[:: max(1, -(-len(answered) // most))] if most else answered[:0])

    def offer(self, target_id: Ints) -> None:
        """These targets have answered. Those for which there is room get a control probe in their turn."""
        room = 0 if self._stopped else MOST_OFFERED - self._waiting
        if room > 0 and len(target_id):
            self._offered.append(target_id[:room])
            self._waiting += min(room, len(target_id))

    def insist(self, target_id: Ints) -> None:
        """These targets get a control probe at once, whatever the pass allows."""
        self._offered.appendleft(target_id)
        self._waiting += len(target_id)
        self.allow_more(len(target_id))

    def allow_more(self, count: int) -> None:
        """So many more control probes may leave than have left or are allowed already."""
        self._allowed = max(self._allowed, self._handed) + count

    def allow(self, count: int) -> None:
        """Up to `count` control probes may leave in the pass under way."""
        self._allowed = max(self._allowed, count)

    @property
    def handed_out(self) -> bool:
        """Whether no control probe may leave now."""
        return self._handed >= self._allowed or not self._waiting

    @property
    def due(self) -> int:
        """How many control probes may leave now."""
        return max(0, min(self._waiting, self._allowed - self._handed))

    @property
    def all_left(self) -> bool:
        """Whether every control probe that was handed out has left."""
        return not self.outstanding

    def take(self, limit: int, now: int) -> Ints:
        """Up to `limit` targets to send a control probe to now."""
        wanted = min(limit, self._allowed - self._handed)
        taken: list[int] = []
        while self._offered and len(taken) < wanted:
            first = self._offered.popleft()
            room = wanted - len(taken)
            if len(first) > room:
                self._offered.appendleft(first[room:])
            self._waiting -= min(room, len(first))
            taken += [target for target in first[:room].tolist() if self._may_repeat(target, now)]
        for target in taken:
            if (target, self.pass_no) in self._index:
                self.repeated.add((target, self.pass_no))
            self._index[target, self.pass_no] = len(self._target)
            self._target.append(target)
        self._pass += [self.pass_no] * len(taken)
        self._sent += [now] * len(taken)
        self._back += [False] * len(taken)
        self._handed += len(taken)
        self.outstanding += len(taken)
        return np.array(taken, np.int64)

    def _may_repeat(self, target_id: int, now: int) -> bool:
        at = self._index.get((target_id, self.pass_no))
        return at is None or now - self._sent[at] > REPEAT_NS

    def left(self, target_id: Ints, now: int) -> None:
        """These control probes have left the machine."""
        self.outstanding -= len(target_id)

    def refused(self, target_id: Ints) -> None:
        """This machine has refused to send these control probes, which says nothing of the path."""
        self.outstanding -= len(target_id)
        for target in target_id.tolist():
            at = self._index.pop((target, self.pass_no), None)  # nothing can answer it
            if at is not None:
                self._back[at] = True

    def stop(self) -> None:
        """Hand out nothing more in this pass."""
        self._stopped = True
        self._offered.clear()
        self._waiting = 0

    def was_sent(self, target_id: Ints, answers: PassNumbers) -> Bools:
        """Which replies (targets, and the pass whose port they answer) may answer a control probe."""
        pairs = zip(target_id.tolist(), answers.tolist(), strict=True)
        return np.fromiter(((target, number - 1) in self._index for target, number in pairs), np.bool_, len(target_id))

    def sent_at(self, target_id: Ints, answers: PassNumbers) -> Ints:
        """When the latest control probe left that each reply may answer, ns; 0: there is none."""
        keys = zip(target_id.tolist(), (answers.astype(np.int64) - 1).tolist(), strict=True)
        at = (self._index.get(key) for key in keys)
        return np.fromiter((0 if row is None else self._sent[row] for row in at), np.int64, len(target_id))

    def answers_repeated(self, target_id: Ints, answers: PassNumbers) -> Bools:
        """Which replies may answer one of several control probes from one port: a repeat shows nothing there."""
        keys = zip(target_id.tolist(), (answers.astype(np.int64) - 1).tolist(), strict=True)
        return np.fromiter((key in self.repeated for key in keys), np.bool_, len(target_id))

    def credit(self, target_id: Ints, answers: PassNumbers) -> Ints:
        """Take in replies as `was_sent` has them. Returns when the control probe that each answers left, ns, or 0."""
        sent = np.zeros(len(target_id), np.int64)
        for row, key in enumerate(zip(target_id.tolist(), (answers.astype(np.int64) - 1).tolist(), strict=True)):
            at = self._index.get(key)
            if at is not None and not self._back[at]:
                self._back[at] = True
                sent[row] = self._sent[at]
        return sent

    def outcomes(self) -> Outcomes:
        """All control probes so far, in the order in which they left."""
        target_id, pass_no, sent_at = (np.array(column, np.int64) for column in (self._target, self._pass, self._sent))
        return Outcomes(target_id, pass_no, sent_at, np.array(self._back, np.bool_))
