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

Limits: no TTL of the reply, no ICMP sender, no words that compare replies (firewall-reset, all-open):
the kernel keeps what they would need to itself.
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
from .evidence import HostFacts, words_of
from .handshake import OUTCOMES as REASON_OF
from .handshake import PATIENCE, SECOND, Calls, Outcome, Source, descriptor_room, error_text
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
from .verdict import Reason, Verdict, state_of

BATCH = 256  # calls started between two looks at the answers
FIRST_CALLS = 4096
SHORTAGE_PAUSE = 0.05
SHORTAGE_LIMIT = 10.0  # seconds without any room and with nothing under way: waiting will not help
LONGEST_SLEEP = 0.05

_WORDS = {int(reason): (state_of(reason).value, reason.word) for reason in Reason if reason}


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
        targets = np.flatnonzero(self.ledger.rank(self._all()) > 0)
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
        for target in self.silent().tolist() if write_silent else ():
            host, at = divmod(target, self.width)
            port = self.ports[at]
            yield Verdict(self.names[host], port, *silence, service=service_name(port), evidence=evidence)


class ConnectSession:
    """One scan by connect(). Iterate over `batches`; `stop` may be called from a signal handler."""

    def __init__(self, hosts: HostSpace, ports: npt.NDArray[np.uint16], config: SynConfig) -> None:
        if config.source_port is not None:
            raise UsageError("--source-port: connect() gives every connection a port of its own; leave it out")
        seed = os.urandom(16) if config.seed is None else config.seed.to_bytes(16, "little", signed=True)
        key = Key.from_bytes(seed)
        self.sums = Sums(targets=hosts.size * len(ports))
        self.opened: deque[tuple[str, int]] = deque(maxlen=1024)  # targets just found open
        self.shortages: Counter[str] = Counter()  # starts put off, by error name
        self._hosts, self._ports, self._config, self._key = hosts, ports, config, key
        self._room = descriptor_room()
        self._limit = min(FIRST_CALLS, self._room)
        self._bucket = TokenBucket(config.rate)
        self._trips = RoundTrips(first_wait=PATIENCE, fixed=config.timeout)
        self._patience = config.timeout or PATIENCE
        self._calls: Calls[Block] = Calls(Source(config.source_ip, config.interface))
        self._blocks: list[Block] = []
        self._upcoming = self._plan()
        self._pending = next(self._upcoming, None)
        self._closed: deque[Block] = deque()
        self._ended: list[tuple[float, float]] = []
        self._stops = 0  # asked for
        self._paused_until = self._short_since = 0  # monotonic ns

    def _plan(self) -> Iterator[Block]:
        """Blocks of this shard's hosts, in the keyed order."""
        number, count = self._config.shard
        order, width = Permutation(self._hosts.size, self._key.k1), len(self._ports)
        mine = max(0, (self._hosts.size - number) // count + 1)
        targets = self._config.rate * WINDOW_SECONDS if self._config.rate else WINDOW_TARGETS
        size = max(1, min(max(WINDOW_HOSTS, int(targets) // width), WINDOW_TARGETS // width))
        for turn, first in enumerate(range(0, mine, size), 1):
            position = np.arange(first, min(mine, first + size), dtype=np.uint64)
            hosts = self._hosts.pick(order.forward(position * np.uint64(count) + np.uint64(number - 1)))
            yield Block(hosts, self._ports, self._key.k1 + turn)

    def stop(self) -> None:
        """First call: start nothing more and wait out what is under way. Second call: end now."""
        self._stops += 1
        self.sums.interrupted = True

    def glance(self) -> Glance:
        """Where the scan stands."""
        sent = self.sums.sent["probe"]
        return Glance(sent, max((block.passes.number for block in self._blocks), default=0), self.sums.replies)

    def batches(
        self, write_silent: bool = True, tick: Callable[["ConnectSession"], None] | None = None
    ) -> Iterator[Iterable[Verdict]]:
        """The verdicts of each block as it closes. With `write_silent` False, silent targets are only counted."""
        self.sums.started = time.time()
        began = time.monotonic()
        offset = time.time_ns() - time.monotonic_ns()
        try:
            while self._blocks or (self._pending and not self._stops):
                self._step(offset)
                if any(not block.exhausted for block in self._blocks):
                    self.sums.sending_seconds = time.monotonic() - began
                yield from self._rows(write_silent)
                if tick:
                    tick(self)
            yield from self._rows(write_silent)
        finally:
            self._calls.close()
            self.sums.seconds = time.monotonic() - began
            self.sums.sending_seconds = self.sums.sending_seconds or self.sums.seconds
            weight = sum(answered for answered, _ in self._ended)
            self.sums.loss = sum(answered * loss for answered, loss in self._ended) / weight if weight else None

    def _step(self, offset: int) -> None:
        self._obey()
        self._open_block()
        self._start()
        self._calls.collect(self._sleep())
        wait = self._trips.wait()
        self._calls.give_up(wait, lambda block, item: block.near(item, wait), self._patience)
        self._fold(offset)
        for block in list(self._blocks):
            self._advance(block)

    def _obey(self) -> None:
        """What a signal has asked for."""
        if self._stops:
            for block in self._blocks:
                block.stop()
        if self._stops > 1:
            for block in list(self._blocks):
                self._close(block, interrupted=True)

    def _open_block(self) -> None:
        """Open the next block when the others have started what they have for now."""
        room = len(self._blocks) < OPEN_WINDOWS and not self._stops
        if self._pending and room and all(block.exhausted for block in self._blocks):
            self._pending.begin_pass(time.monotonic_ns())
            self._blocks.append(self._pending)
            self._pending = next(self._upcoming, None)

    # ── calls ──

    def _start(self) -> None:
        """Start what rate, room and order allow."""
        now = time.monotonic_ns()
        if now < self._paused_until:
            return
        allowed = min(self._bucket.allowed(now, BATCH), self._limit - len(self._calls))
        started = 0
        for block in self._blocks:
            if allowed > started and not block.exhausted:
                started += self._start_block(block, allowed - started, now)
                if now < self._paused_until:
                    break
        self._bucket.spend(started)
        self.sums.sent["probe"] += started

    def _start_block(self, block: Block, limit: int, now: int) -> int:
        if not block.waiting:
            block.waiting = block.passes.take(limit, now).tolist()[::-1]
        waiting, names, ports, width, start = block.waiting, block.names, block.ports, block.width, self._calls.start
        most = min(limit, len(waiting))
        for done in range(most):
            item = waiting.pop()
            if not start(block, item, names[item // width], ports[item % width]):
                waiting.append(item)
                self._run_short(now)
                return done
        self._short_since = 0
        return most

    def _run_short(self, now: int) -> None:
        """Nothing may be started for a moment, and then less at once."""
        code = self._calls.shortage
        self.shortages[error_text(code)] += 1
        self._limit = max(1, min(self._limit, len(self._calls)) // 2)
        self._paused_until = now + int(SHORTAGE_PAUSE * SECOND)
        self._short_since = self._short_since or now
        if not len(self._calls) and now - self._short_since > SHORTAGE_LIMIT * SECOND:
            raise ScanError(f"connect() keeps failing with {error_text(code)}: close other programs, or lower --rate")

    def _sleep(self) -> float:
        """Seconds until there is more to do, answers apart."""
        now = time.monotonic_ns()
        due = self._calls.due(self._trips.wait(), self._patience)
        if any(not block.exhausted for block in self._blocks) and len(self._calls) < self._limit:
            pause = max(0.0, (self._paused_until - now) / SECOND)
            due = min(due, max(pause, self._bucket.wait(max(1, int(self._bucket.depth / 2)))))
        return min(due, LONGEST_SLEEP) if len(self._calls) or due != float("inf") else 0.0

    # ── outcomes ──

    def _fold(self, offset: int) -> None:
        ended = self._calls.take()
        if not ended:
            return
        self._limit = min(self._room, self._limit + len(ended))
        owners = {id(outcome.owner): outcome.owner for outcome in ended}
        for block in owners.values():
            mine = ended if len(owners) == 1 else [outcome for outcome in ended if outcome.owner is block]
            fresh, trips = block.fold(mine, offset)
            self._trips.add(trips)
            self.sums.replies += len(mine) - sum(REASON_OF[outcome.code] is Reason.NO_RESPONSE for outcome in mine)
            for item in fresh[block.ledger.rank(fresh) == 3].tolist():
                self.opened.append((block.names[item // block.width], block.ports[item % block.width]))

    def _advance(self, block: Block) -> None:
        if not block.passes.all_left:
            return
        over = block.everyone_answered or self._enough(block)
        if self._stops or over:
            self._close(block, interrupted=not over)
        else:
            block.begin_pass(time.monotonic_ns())

    def _enough(self, block: Block) -> bool:
        return enough(block.passes.number, self._config.passes, block.assess(), self._config.max_missed)

    def _close(self, block: Block, interrupted: bool) -> None:
        block.interrupted = interrupted
        self._blocks.remove(block)
        self._closed.append(block)

    def _rows(self, write_silent: bool) -> Iterator[Iterable[Verdict]]:
        while self._closed:
            block = self._closed.popleft()
            estimate = block.assess()
            self.sums.expected_missed += estimate.missed
            self.sums.answered += block.ledger.answered
            self.sums.passes = max(self.sums.passes, block.passes.number)
            if estimate.loss is not None:
                self._ended.append((block.ledger.answered, estimate.loss))
            if not write_silent:
                self.sums.silent_counted += len(block.silent())
            yield block.rows(write_silent)
