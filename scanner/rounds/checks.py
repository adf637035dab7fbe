"""Check probes: before a window closes, they test what the evidence is about to say of a host.

`verdict.evidence.rows_to_check` chooses the targets. Each check probe leaves from a source port that no pass has used,
so a path that is chosen by ports may be another one. A second pass, from other ports again, goes to the targets that
did not answer the first. Replies fold into the ledger like all others. A host counts as tested when at least half of
its check probes of each kind were answered: silence tests nothing.

Limit: with one source port for all passes there is no fresh port. Then nothing is tested, and nothing is claimed.
"""

import numpy as np
import numpy.typing as npt

from ..packet.headers import Bools, Ints
from ..verdict.evidence import TURNS, Suspects
from .passes import Passes

CHECK_PASSES = 2
CHECK_PORTS = CHECK_PASSES * TURNS  # source ports that check probes need


class Checks:
    """The check probes of a window, numbered 0 … n-1: target and turn of each."""

    def __init__(self, target_id: Ints, suspects: Suspects, pass_numbers: range, key: int) -> None:
        """`pass_numbers`: of CHECK_PORTS source ports, in the order in which they are used."""
        order = np.lexsort((suspects.turn, target_id))
        self.target_id, self._turn, self._unmarked = target_id[order], suspects.turn[order], suspects.unmarked[order]
        self.n = len(order)
        self._place = self.target_id * TURNS + self._turn  # ascending
        self._first, self._end = pass_numbers.start, pass_numbers.stop
        self._answered = np.zeros(self.n, np.bool_)
        self.passes = Passes(self, key)

    def silent(self, number: Ints | slice = slice(None)) -> Bools:
        """Which of these check probes have no answer."""
        return np.asarray(~self._answered[number])

    def probed(self, number: Ints) -> None:
        """These check probes have left. Nothing depends on it."""

    def pass_numbers(self, number: Ints) -> npt.NDArray[np.uint8]:
        """The pass numbers that these check probes carry now; each stands for a source port."""
        return (self._first + TURNS * (self.passes.pass_no - 1) + self._turn[number]).astype(np.uint8)

    def was_sent(self, target_id: Ints, pass_no: npt.NDArray[np.uint8]) -> Bools:
        """Which replies (target, pass number) may answer a check probe that has been handed out."""
        if self.passes.refusals:  # by this machine: what comes may be its own firewall's
            return np.zeros(len(target_id), np.bool_)
        answers = (pass_no >= self._first) & (pass_no < self._first + TURNS * self.passes.pass_no)
        place = target_id * TURNS + (pass_no.astype(np.int64) - self._first) % TURNS
        return np.asarray(answers & np.isin(place, self._place))

    def credit(self, target_id: Ints, pass_no: npt.NDArray[np.uint8]) -> None:
        """Take in replies: of which targets, and with which pass number."""
        answers = (pass_no >= self._first) & (pass_no < self._end)
        if answers.any():
            place = target_id[answers] * TURNS + (pass_no[answers].astype(np.int64) - self._first) % TURNS
            at = np.minimum(np.searchsorted(self._place, place), self.n - 1)
            self._answered[at[self._place[at] == place]] = True

    @property
    def enough(self) -> bool:
        """Whether every check probe had its passes."""
        return self.passes.complete >= CHECK_PASSES

    def tested(self, hosts: int, width: int) -> Bools:
        """bool[hosts]: at least half of the check probes of each kind were answered."""
        group = self.target_id // width * 2 + self._unmarked
        sent = np.bincount(group, minlength=2 * hosts)
        back = np.bincount(group[self._answered], minlength=2 * hosts)
        return np.asarray(((sent > 0) & (2 * back >= sent)).reshape(-1, 2).all(axis=1))
