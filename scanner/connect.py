"""The full-handshake scan: connect() for every target, no privileges needed.

The same scan as the half-open one with another way to ask. Hosts and targets are permuted, windows are blocks of hosts
with all their ports, passes go over the silent targets until the expected number of missed responders is
below the bound, and rows leave when their window closes. What differs is that the kernel holds a socket
for every question, so a question ends (answered, or given up) instead of merely having been sent: a pass
is over when its last call has ended, and nothing answers late.

How long a call may stay silent is therefore decided with care. A host that has answered gets what the measured
round trips call for, at least twice its own slowest; a host that has not gets the full patience, just
under the second after which the kernel would send a SYN of its own that no pass knows of.

How many calls are open at once starts at `FIRST_CALLS`, grows with every call that ends, up to the descriptor limit,
and halves when this machine runs short of descriptors, ports or memory; the target is never blamed for that.

Limits: no TTL of the reply, no ICMP sender, no forged-reset evidence: the kernel keeps them to itself.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from . import retry
from .addresses import to_text
from .config import SynConfig
from .cookie import Key
from .errors import ScanError, UsageError
from .evidence import host_facts, words_of
from .handshake import PATIENCE, SECOND, Calls, Outcome, Source, descriptor_room, shortage_text
from .handshake import OUTCOMES as REASON_OF
from .headers import Ints, Rows
from .ledger import Ledger, Mark, Replies, blank
from .live import OPEN_WINDOWS, WINDOW_HOSTS, WINDOW_SECONDS, WINDOW_TARGETS
from .pacing import TokenBucket
from .passes import Passes
from .permutation import Permutation
from .ports import service_name
from .retry import RoundTrips, enough
from .session import Sums
from .targets import HostSpace
from .verdict import Reason, State, Verdict, state_of

BATCH = 256  # calls started between two looks at the answers
FIRST_CALLS = 512
SHORTAGE_PAUSE = 0.05
SHORTAGE_LIMIT = 10.0  # seconds without any room and with nothing under way: waiting will not help
LONGEST_SLEEP = 0.05

_STATE = {reason: state_of(reason).value for reason in Reason if reason}


class Glance(NamedTuple):
    """For the progress line: calls so far, the latest pass, answers."""

    sent: int
    passes: int
    replies: int


class Block:
    """The targets of some hosts: target number = host slot × ports + port index."""

    def __init__(self, hosts: Rows, ports: npt.NDArray[np.uint16], key: int) -> None:
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

    @property
    def exhausted(self) -> bool:
        """Whether every call of the pass has been started."""
        return self.passes.handed_out and not self.waiting

    def begin_pass(self, now: int) -> None:
        """The next pass; from the second on with up to 100 calls to targets that have answered, to measure loss."""
        known = np.flatnonzero(self.ledger.rank(slice(None)) >= 2) if self.passes.number else np.zeros(0, np.int64)
        chosen = known[:: max(1, -(-len(known) // retry.CONTROL_PROBES))]
        np.add.at(self._control, (self._group(chosen), 0), 1)
        self._asked_again = set(chosen.tolist())
        self.passes.begin(now, chosen if len(chosen) else None)

    def stop(self) -> None:
        """Start nothing more; what was taken and not started counts as not asked."""
        self.passes.stop()
        self.passes.outstanding -= len(self.waiting)
        self.waiting.clear()

    def near(self, item: int) -> bool:
        """Whether this target's host has answered before, so that silence may be called early."""
        return self.slowest[item // self.width] > 0

    def fold(self, ended: list[Outcome["Block"]], offset: int) -> tuple[Ints, Ints]:
        """Take outcomes in; returns the targets that answered for the first time and the round trips in ns.

        `offset` turns monotonic time into ns since 1970.
        """
        item = np.array([outcome.item for outcome in ended], np.int64)
        reason = np.array([REASON_OF[outcome.code] for outcome in ended], np.uint8)
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
        np.add.at(self._answered, (self._group(first), self.passes.number - 1), 1)
        for slot, trip in zip((first // self.width).tolist(), trips[tcp[fresh]].tolist(), strict=True):
            self.slowest[slot] = max(self.slowest[slot], trip / SECOND)
        return item[fresh], trips[tcp[fresh]]

    def _count_lost(self, item: Ints) -> None:
        if self._asked_again:
            lost = np.array([each for each in item.tolist() if each in self._asked_again], np.int64)
            np.add.at(self._control, (self._group(lost), 1), 1)

    def _group(self, item: Ints) -> Ints:
        return item // self.width if len(self._answered) > 1 else np.zeros(len(item), np.int64)

    def assess(self) -> retry.Estimate:
        """What was probably missed so far; never more than there are silent targets."""
        found = retry.estimate_hosts(self._answered[:, : self.passes.number], self._control)
        measured = self.passes.number >= retry.MIN_PASSES
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

    def rows(self, write_silent: bool = True) -> Iterator[Verdict]:
        """The verdicts, once the block is closed."""
        targets = np.flatnonzero(self.ledger.rank(slice(None)) > 0)
        records = self.ledger.records(targets)
        slot, index = np.divmod(targets, self.width)
        asked = np.bincount(np.flatnonzero(self.ledger.was_probed()) // self.width, minlength=len(self.hosts))
        words = words_of(records, host_facts(slot, asked, records))
        columns = (slot, index, records["reason"], self._trips[targets], records["time"], records["pass"])
        for host, at, reason, trip, when, number, evidence in zip(*(c.tolist() for c in columns), words, strict=True):
            yield Verdict(
                self.names[host], self.ports[at], _STATE[reason], Reason(reason).word,
                service=service_name(self.ports[at]), evidence=evidence,
                rtt_ms=round(trip / 1e6, 3), time=round(when / 1e9, 6), pass_=number,
            )  # fmt: skip
        evidence = ("interrupted",) if self.interrupted else ()
        state, reason_word = State.FILTERED.value, Reason.NO_RESPONSE.word
        for target in self.silent().tolist() if write_silent else ():
            host, at = divmod(target, self.width)
            port = self.ports[at]
            yield Verdict(self.names[host], port, state, reason_word, service=service_name(port), evidence=evidence)
