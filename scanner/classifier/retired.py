"""What remains of flows that are over: one row a target.

A capture that is larger than memory has more flows than memory holds, yet few targets. So when flows
have become much more than targets, those that are over are folded into their target's row here,
and forgotten. That costs what only the flow knew: a further reply to it counts as one without a probe, which for a
probed target changes nothing, and what its prober did later is not noticed.

Limit: about 80 bytes a target that has such flows; none before.
"""

import numpy as np
import numpy.typing as npt

from ..packet.headers import Bools, Ints, Rows
from ..verdict.ledger import Ledger, Replies

NEVER = np.iinfo(np.int64).max


class Retired:
    """Columns by target number; `grow` before use."""

    def __init__(self) -> None:
        self.flows = 0  # with a probe
        self.ledger = Ledger(0)
        self.seen = np.zeros(0, np.uint32)  # one bit for each reason
        self.first = np.zeros(0, np.int64)  # time of the first SYN; NEVER: none
        self.attempts = np.zeros(0, np.int64)
        self.trip = np.zeros(0, np.int64)  # of the reply at `trip_end`, both ns; -1: unknown
        self.trip_end = np.zeros(0, np.int64)

    def grow(self, n: int) -> None:
        """Make room for targets up to n."""
        more = max(n, 2 * len(self.first)) - len(self.first) if n > len(self.first) else 0
        if more:
            self.ledger.grow(len(self.first) + more)
            for name, empty in (("seen", 0), ("first", NEVER), ("attempts", 0), ("trip", -1), ("trip_end", 0)):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.full(more, empty, column.dtype)]))

    @property
    def probed(self) -> Bools:
        """Which targets a SYN was sent to."""
        return self.first < NEVER

    def add(self, target: Ints, first: Ints) -> None:
        """Flows with a probe: their targets, and when each was probed first."""
        self.flows += len(target)
        np.minimum.at(self.first, target, first)
        np.add.at(self.attempts, target, 1)

    def answered(self, target: Ints, record: Rows, trip: Ints) -> None:
        """Of those, the answered ones: RECORD[m], and the round trip in ns, -1 where that is not known."""
        self.ledger.fold(Replies(target, record))
        np.bitwise_or.at(self.seen, target, record["seen"])
        known = (trip >= 0) & (self.ledger.records(target)["time"] == record["time"])
        self.trip[target[known]], self.trip_end[target[known]] = trip[known], record["time"][known]

    def part(self, n: int) -> tuple[Ints, Rows, npt.NDArray[np.uint32]]:
        """The answered targets, their records, and the reasons seen."""
        target = np.flatnonzero(self.ledger.was_answered()[:n])
        return target, self.ledger.records(target), self.seen[target]
