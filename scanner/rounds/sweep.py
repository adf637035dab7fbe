"""Which hosts of a window have a MAC address: queries (ARP, RFC 826; NDP, RFC 4861) in passes, like probes.

A sweep only counts. The scan writes the queries and reads the answers. A host that never answers is absent, and none
of its ports is probed.
"""

import numpy as np

from ..packet.headers import Bools, Ints, Rows
from ..verdict.loss import MAX_PASSES, Bound, Estimate, estimate
from .passes import Passes

MOST_PASSES = 8


class Sweep:
    """Queries for n hosts; `macs` V6[n] fills up as they answer."""

    def __init__(self, n: int, key: int) -> None:
        self.n = n
        self.macs = np.zeros(n, "V6")
        self.passes = Passes(self, key)
        self.first_answers = np.zeros(MAX_PASSES, np.int64)  # by pass; of both parts where a window has split
        self._answered = np.zeros(n, np.bool_)

    def continue_from(self, other: "Sweep", hosts: Ints) -> None:
        """Go on with these hosts of another sweep."""
        self.macs, self._answered = other.macs[hosts], other._answered[hosts]
        self.first_answers = other.first_answers.copy()
        self.passes.continue_from(other.passes, hosts.__getitem__)

    def silent(self, host: Ints | slice = slice(None)) -> Bools:
        """Which of these hosts have not answered."""
        return np.asarray(~self._answered[host])

    def probed(self, host: Ints) -> None:
        """A query for each of these hosts has left. Nothing depends on it."""

    @property
    def answered(self) -> int:
        """Hosts that have answered."""
        return int(np.count_nonzero(self._answered))

    def learn(self, host: Ints, mac: Rows, time: Ints) -> Ints:
        """Take in answers: host numbers (-1: not one of ours), MAC addresses, times in ns.

        Returns the round trips of the first answers in ns, where they are known.
        """
        ours = np.flatnonzero(host >= 0)
        _, first = np.unique(host[ours], return_index=True)  # a host may answer twice in one batch
        new = ours[first]
        new = new[self.silent(host[new])]
        self.macs[host[new]] = mac[new]
        self._answered[host[new]] = True
        self.first_answers[max(0, self.passes.pass_no - 1)] += len(new)
        sent = self.passes.sent_at(host[new], np.full(len(new), self.passes.pass_no, np.uint8))
        return time[new][sent > 0] - sent[sent > 0]

    def assess(self) -> Estimate:
        """How many hosts were probably missed, from the passes in which the others answered."""
        return estimate(self.first_answers[: self.passes.complete])

    def enough(self, missed: float) -> bool:
        """Whether fewer than `missed` hosts are expected to be missed, or the passes are used up."""
        return Bound(MOST_PASSES, missed).reached(self.passes.complete, self.assess())
