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

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from ..config import PUBLIC_RATE, SynConfig, key_of
from ..errors import ScanError, UsageError
from ..packet.cookie import Key
from ..rounds.pacing import TokenBucket
from ..rounds.resume_point import LaneFacts, Standing, schedule_of
from ..rounds.schedule import OPEN_WINDOWS, Stretch
from ..rounds.statistics import Glance, Sums
from ..targets.hostspace import HostSpace
from ..targets.permutation import Permutation
from ..targets.special import any_public
from ..verdict.loss import RoundTrips, enough
from ..verdict.table import Reason, Verdict
from .calls import OUTCOMES, PATIENCE, SECOND, Calls, Source, descriptor_room, error_text
from .window import Block

BATCH = 256  # calls started between two looks at the answers
FIRST_CALLS = 4096
SHORTAGE_PAUSE = 0.05
SHORTAGE_LIMIT = 10.0  # seconds without any room and with nothing under way: waiting will not help
LONGEST_SLEEP = 0.05


class ConnectSession:
    """One scan by connect(). Iterate over `batches`; `stop` may be called from a signal handler."""

    def __init__(
        self,
        hosts: HostSpace,
        ports: npt.NDArray[np.uint16],
        config: SynConfig,
        standing: Standing | None = None,
        keep: bool = False,
    ) -> None:
        """`standing`, `keep`: as for a half-open scan (`Session`). Raises UsageError."""
        if config.source_port is not None:
            raise UsageError("--source-port: connect() gives every connection a port of its own; leave it out")
        key = Key(*standing.key) if standing else key_of(config)
        self.sums = Sums(targets=hosts.size * len(ports), asked_rate=config.rate, started=time.time())
        self.opened: deque[tuple[str, int]] = deque(maxlen=1024)  # targets just found open
        # The system's own stack and the number of sockets set the pace; towards public addresses so does politeness.
        self._rate = (
            config.max_rate or (PUBLIC_RATE if any_public(hosts) else 0.0) if config.rate is None else config.rate
        )
        self._hosts, self._ports, self._config, self._key = hosts, ports, config, key
        self._room = descriptor_room()
        self._limit = min(FIRST_CALLS, self._room)
        self._bucket = TokenBucket(self._rate)
        self._trips = RoundTrips(first_wait=PATIENCE, fixed=config.timeout)
        self._patience = config.timeout or PATIENCE
        self._calls: Calls[Block] = Calls(Source(config.source_ip, config.interface))
        self._blocks: list[Block] = []
        number, count = config.shard
        # One lane for whoever resumes: the kernel finds the ways.
        self._lanes: list[LaneFacts] = [("", 0, max(0, (hosts.size - number) // count + 1), "")]
        self.schedule = schedule_of(self._lanes, len(ports), standing)
        self._kept: list[Stretch] = []  # of blocks that were given up
        self._keep = keep
        self._order = Permutation(hosts.size, key.k1)
        self._opened = self._found_open = 0  # blocks, and targets
        self._closed: deque[Block] = deque()
        self._ended: list[tuple[float, float]] = []
        self._stops = 0  # asked for
        self._began = time.monotonic()
        self._paused_until = self._short_since = 0  # monotonic ns

    def _block(self, stretch: Stretch) -> Block:
        """The block of a stretch of this shard's hosts, in the keyed order."""
        number, count = self._config.shard
        place = stretch.positions().astype(np.uint64) * np.uint64(count) + np.uint64(number - 1)
        self._opened += 1
        return Block(stretch, self._hosts.pick(self._order.forward(place)), self._ports, self._key.k1 + self._opened)

    def standing(self) -> Standing:
        """Where the scan stands now; to be asked when all rows given out have been written."""
        left = [*self._kept, *(block.stretch for block in (*self._blocks, *self._closed)), *self.schedule.left]
        return Standing((self._key.k0, self._key.k1), self._lanes, self.schedule.at, left)

    def stop(self) -> None:
        """First call: start nothing more and wait out what is under way. Second call: end now."""
        self._stops += 1
        self.sums.interrupted = True

    def close(self) -> None:
        """Give the sockets back, if the scan is not to be run after all."""
        self._calls.close()

    def glance(self) -> Glance:
        """Where the scan stands."""
        blocks = self._blocks
        losses = [block.estimate.loss for block in blocks if block.estimate.loss is not None]
        losses += [loss for _, loss in self._ended[-1:]]
        return Glance(
            self.sums.sent["probe"],
            max((block.passes.number for block in blocks), default=self.sums.passes),
            self.sums.answered + sum(block.ledger.answered for block in blocks),
            self._found_open,
            self.schedule.remaining + sum(block.ledger.n - block.passes.handed_first for block in blocks),
            losses[0] if losses else None,
            self.sums.expected_missed,
        )

    def batches(
        self, write_silent: bool = True, tick: Callable[["ConnectSession"], None] | None = None, only_open: bool = False
    ) -> Iterator[Iterable[Verdict]]:
        """The verdicts of each block as it closes; without `write_silent` silent targets are only counted."""
        self._began = time.monotonic()
        offset = time.time_ns() - time.monotonic_ns()
        try:
            while self._blocks or not (self.schedule.exhausted or self._stops):
                self._step(offset)
                if any(not block.exhausted for block in self._blocks):
                    self.sums.sending_seconds = time.monotonic() - self._began
                yield from self._rows(write_silent, only_open)
                if tick:
                    tick(self)
            yield from self._rows(write_silent, only_open)
        finally:
            self._calls.close()
            self.tally()

    def tally(self) -> Sums:
        """The sums so far."""
        self.sums.seconds = time.monotonic() - self._began
        self.sums.sending_seconds = self.sums.sending_seconds or self.sums.seconds
        weight = sum(answered for answered, _ in self._ended)
        self.sums.loss = sum(answered * loss for answered, loss in self._ended) / weight if weight else None
        return self.sums

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
        if self._stops or len(self._blocks) >= OPEN_WINDOWS or not all(block.exhausted for block in self._blocks):
            return
        stretch = self.schedule.next(self._rate)
        if stretch:
            block = self._block(stretch)
            block.begin_pass(time.monotonic_ns())
            self._blocks.append(block)

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
        self.sums.shortages[error_text(code)] += 1
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
            self.sums.replies += len(mine) - sum(OUTCOMES[outcome.code] is Reason.NO_RESPONSE for outcome in mine)
            opened = fresh[block.ledger.rank(fresh) == 3]
            self._found_open += len(opened)
            for item in opened.tolist():
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
        return enough(block.passes.complete, self._config.passes, block.assess(), self._config.max_missed)

    def _close(self, block: Block, interrupted: bool) -> None:
        block.interrupted = interrupted
        self._blocks.remove(block)
        self._closed.append(block)

    def _rows(self, write_silent: bool, only_open: bool) -> Iterator[Iterable[Verdict]]:
        while self._closed:
            block = self._closed.popleft()
            if block.interrupted and self._keep:
                self._kept.append(block.stretch._replace(known=block.known()))
                continue
            estimate = block.assess()
            self.sums.expected_missed += estimate.missed
            self.sums.answered += block.ledger.answered
            self.sums.passes = max(self.sums.passes, block.passes.number)
            if estimate.loss is not None:
                self._ended.append((block.ledger.answered, estimate.loss))
            if not write_silent:
                self.sums.silent_counted += len(block.silent())
            yield block.rows(write_silent, only_open)
