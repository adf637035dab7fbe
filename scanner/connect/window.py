"""A block: some hosts with all their ports, asked by connect() until each has answered or it was enough.

What `window` is to the half-open scan, with less to know: there are no frames and no neighbours, only calls that
end. A target's number is host slot × ports + port index. Ledger, passes and the estimate of what was missed are
the same ones. A target counts as probed when a call to it has ended, not when it began, so whatever is
still under way when the user interrupts is never called silent.

Loss is measured by calls too: up to 100 targets that have answered are called again in each later pass.
Limit: 13 bytes a target plus a record for each answer.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..packet.addresses import to_text
from ..packet.headers import Ints, Rows
from ..rounds.passes import Passes
from ..rounds.schedule import Stretch
from ..targets.ports import service_name
from ..verdict import loss as retry
from ..verdict.evidence import HostFacts, words_of
from ..verdict.ledger import Known, Ledger, Mark, Replies, blank
from ..verdict.table import Reason, Verdict, state_of
from .calls import OUTCOMES, SECOND, Outcome

_WORDS = {int(reason): (state_of(reason).value, reason.word) for reason in Reason if reason}


class Block:
    """The targets of some hosts: target number = host slot × ports + port index."""

    def __init__(self, stretch: Stretch, hosts: Rows, ports: npt.NDArray[np.uint16], key: int) -> None:
        """`hosts` are the stretch's, ADDRESS[n]."""
        self.stretch = stretch
        self.hosts, self.names = hosts, to_text(hosts)
        self.ports = ports.tolist()
        self.width = len(self.ports)
        self.ledger = Ledger(len(hosts) * self.width)
        self.passes = Passes(self.ledger, key)
        self.waiting: list[int] = []  # taken for this pass, not started yet
        self.interrupted = False
        self.estimate = retry.Estimate(0.0, None)
        self.slowest = [0.0] * len(hosts)  # seconds, of each host's answers; 0: none yet
        self._trips: Ints = np.full(self.ledger.n, -1, np.int64)  # ns, of the first answer
        # First answers, and control calls sent and lost, by host; hosts with few ports share a row.
        rows = len(hosts) if self.width >= retry.OWN_ESTIMATE else 1
        self._answered = np.zeros((rows, retry.MAX_PASSES), np.int64)
        self._control = np.zeros((rows, 2), np.int64)
        self._asked_again: set[int] = set()
        if stretch.known:
            self._recall(stretch.known)

    def known(self) -> Known:
        """What has been learned so far."""
        target = np.flatnonzero(self.ledger.was_answered())
        record = self.ledger.records(target)
        return Known(target, record, record["time"] - self._trips[target], [b""], np.zeros(0, "V6"))

    def _recall(self, known: Known) -> None:
        """Take over what an earlier block of this stretch has learned; answers count as if to the first pass."""
        self.ledger.restore(known.target, known.record)
        self._trips[known.target] = known.record["time"] - known.sent
        tcp = known.target[self.ledger.rank(known.target) >= 2]
        np.add.at(self._answered[:, 0], self._group(tcp), 1)

    def _all(self) -> Ints:
        return np.arange(self.ledger.n)

    @property
    def exhausted(self) -> bool:
        """Whether every call of the pass has been started."""
        return self.passes.handed_out and not self.waiting

    def begin_pass(self, now: int) -> None:
        """The next pass; from the second on with up to 100 calls to targets that have answered, to measure loss."""
        known = np.flatnonzero(self.ledger.rank(self._all()) >= 2) if self.passes.number else np.zeros(0, np.int64)
        chosen = known[:: max(1, -(-len(known) // retry.CONTROL_PROBES))]
        np.add.at(self._control[:, 0], self._group(chosen), 1)
        self._asked_again = set(chosen.tolist())
        self.passes.begin(now, chosen if len(chosen) else None)

    def stop(self) -> None:
        """Start nothing more; what was taken and not started counts as not asked."""
        self.passes.stop()
        self.passes.outstanding -= len(self.waiting)
        self.waiting.clear()

    def near(self, item: int, seconds: float) -> bool:
        """Whether this target's host has answered, always in half of `seconds`: its silence may be called early."""
        return 0 < 2 * self.slowest[item // self.width] <= seconds

    def fold(self, ended: list[Outcome["Block"]], offset: int) -> tuple[Ints, Ints]:
        """Take outcomes in; returns the targets that answered for the first time and the round trips in ns.

        `offset` turns monotonic time into ns since 1970.
        """
        item = np.array([outcome.item for outcome in ended], np.int64)
        reason = np.array([OUTCOMES[outcome.code] for outcome in ended], np.uint8)
        started = np.array([outcome.started for outcome in ended], np.int64)
        time = np.array([outcome.ended for outcome in ended], np.int64)
        tcp = (reason == Reason.SYN_ACK) | (reason == Reason.CONN_REFUSED)
        self._count_lost(item[~tcp])
        replied = np.flatnonzero(reason != Reason.NO_RESPONSE)
        record = blank(len(replied))
        record["reason"], record["time"], record["pass"] = reason[replied], time[replied] + offset, self.passes.number
        opened = np.flatnonzero(record["reason"] == Reason.SYN_ACK)
        whole = np.array([ended[row].code == 0 for row in replied[opened].tolist()], np.bool_)
        record["marks"][opened] = np.where(whole, Mark.HANDSHAKE_COMPLETED, Mark.HANDSHAKE_REFUSED)
        fresh = replied[self.ledger.fold(Replies(item[replied], record))]
        trips = time[fresh] - started[fresh]
        self._trips[item[fresh]] = trips
        self.passes.left(item, int(time.max()))
        first = item[fresh[tcp[fresh]]]
        np.add.at(self._answered[:, self.passes.number - 1], self._group(first), 1)
        for slot, trip in zip((first // self.width).tolist(), trips[tcp[fresh]].tolist(), strict=True):
            self.slowest[slot] = max(self.slowest[slot], trip / SECOND)
        return item[fresh], trips[tcp[fresh]]

    def _count_lost(self, item: Ints) -> None:
        if self._asked_again:
            lost = np.array([each for each in item.tolist() if each in self._asked_again], np.int64)
            np.add.at(self._control[:, 1], self._group(lost), 1)

    def _group(self, item: Ints) -> Ints:
        return item // self.width if len(self._answered) > 1 else np.zeros(len(item), np.int64)

    def assess(self) -> retry.Estimate:
        """What was probably missed so far; never more than there are silent targets."""
        found = retry.estimate_hosts(self._answered[:, : self.passes.complete], self._control)
        measured = self.passes.complete >= retry.MIN_PASSES
        silent = float(self.ledger.n - self.ledger.answered)
        self.estimate = retry.Estimate(min(found.missed, silent), found.loss if measured else None)
        return self.estimate

    @property
    def everyone_answered(self) -> bool:
        """Whether no target is silent."""
        return self.ledger.answered >= self.ledger.n

    def silent(self) -> Ints:
        """Targets of which a call has ended, none with an answer."""
        return np.flatnonzero(self.ledger.was_probed() & self.ledger.silent(slice(None)))

    def rows(self, write_silent: bool = True, only_open: bool = False) -> Iterator[Verdict]:
        """The verdicts, once the block is closed; without the silent targets, or the open ones only."""
        targets = np.flatnonzero(self.ledger.rank(self._all()) >= (3 if only_open else 1))
        records = self.ledger.records(targets)
        slot, index = np.divmod(targets, self.width)
        unknown = np.zeros(len(targets), np.bool_)
        words = words_of(records, HostFacts(unknown, unknown, unknown, unknown))
        columns = (slot, index, records["reason"], self._trips[targets], records["time"], records["pass"])
        for host, at, reason, trip, when, number, evidence in zip(*(c.tolist() for c in columns), words, strict=True):
            yield Verdict(
                self.names[host], self.ports[at], *_WORDS[reason],
                service=service_name(self.ports[at]), evidence=evidence,
                rtt_ms=round(trip / 1e6, 3), time=round(when / 1e9, 6), pass_=number,
            )  # fmt: skip
        evidence = ("interrupted",) if self.interrupted else ()
        silence = _WORDS[Reason.NO_RESPONSE]
        for target in self.silent().tolist() if write_silent and not only_open else ():
            host, at = divmod(target, self.width)
            port = self.ports[at]
            yield Verdict(self.names[host], port, *silence, service=service_name(port), evidence=evidence)
