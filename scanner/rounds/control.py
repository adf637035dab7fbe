"""Control probes: targets that have answered are asked again, which is the only direct measure of loss.

Up to 100 a pass, from the second one on, spread evenly over those that answered. Which of them came back tells the loss
of the path; and where every one of a host's was lost, in two passes, the host has gone and tells nothing of the path.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..packet.headers import Bools, Ints
from ..verdict import loss as retry
from ..verdict.ledger import Ledger

GONE_PROBES, GONE_PASSES = 30, 2  # control probes of a host, in so many passes, none of them answered: it has gone

Group = Callable[[Ints], Ints]  # targets → the number of the group that is estimated together


@dataclass
class Control:
    """The control probes of one pass."""

    targets: Ints  # ascending
    back: Bools


class Controls:
    """The control probes of a window, pass by pass."""

    def __init__(self) -> None:
        self._passes: list[Control] = []

    def choose(self, ledger: Ledger, passes: int) -> Ints | None:
        """Those of the pass that begins, when `passes` have been before."""
        self._passes.append(Control(np.zeros(0, np.int64), np.zeros(0, np.bool_)))
        if not passes:
            return None
        known = np.flatnonzero(ledger.rank(slice(None)) >= 2)
        chosen = known[:: max(1, -(-len(known) // retry.CONTROL_PROBES))] if len(known) else known
        self._passes[-1] = Control(chosen, np.zeros(len(chosen), np.bool_))
        return chosen if len(chosen) else None

    def credit(self, target: Ints, number: npt.NDArray[np.uint8], prompt: Bools) -> None:
        """Replies came: of which targets, to which pass, and whether in time and from the target itself."""
        for at, control in enumerate(self._passes, 1):
            if len(control.targets):
                answers = target[(number == at) & prompt]
                place = np.minimum(np.searchsorted(control.targets, answers), len(control.targets) - 1)
                control.back[place[control.targets[place] == answers]] = True

    @property
    def latest(self) -> tuple[int, int]:
        """Of the latest pass: how many, and how many of them were lost."""
        back = self._passes[-1].back if self._passes else np.zeros(0, np.bool_)
        return len(back), int(np.count_nonzero(~back))

    def sums(self, group: Group, groups: int) -> Ints:
        """int64[groups, 2]: sent and lost."""
        found = np.zeros((groups, 2), np.int64)
        for each in self._passes:
            np.add.at(found[:, 0], group(each.targets), 1)
            np.add.at(found[:, 1], group(each.targets[~each.back]), 1)
        return found

    def gone(self, passes: int, group: Group, groups: int) -> Bools:
        """bool[groups]: which have fallen silent for good: every control probe of their last passes was lost."""
        lost, last_passes = np.zeros((2, groups), np.int64)
        silent_since = np.ones(groups, np.bool_)
        for each in reversed(self._passes[:passes]):
            asked = np.bincount(group(each.targets), minlength=groups)
            silent_since &= np.bincount(group(each.targets[each.back]), minlength=groups) == 0
            lost += np.where(silent_since, asked, 0)
            last_passes += silent_since & (asked > 0)
        return np.asarray((lost >= GONE_PROBES) & (last_passes >= GONE_PASSES))
