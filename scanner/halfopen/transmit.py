"""Everything that leaves: who may send next, and what has really left.

All frames of a scan pass here, so the rate holds over all of them. Resets come first, because a
target that answered SYN/ACK is owed one; then whatever source the scan offers. A frame counts as
sent, and its target as probed, when the transport says that it has left: an interrupted scan must
not call a target filtered whose probe was still in a ring.
"""

from collections import Counter, deque
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..packet import probe
from ..packet.headers import ETHERNET, LINK_ETHERNET, Bytes, Frames, Ints, Rows, read
from ..rounds.pacing import TokenBucket
from ..rounds.passes import Passes
from ..transport import Transport
from .lane import Lane, Matches

BATCH = 8192  # frames stamped at once: 2 % more than 4,096, and no less than 16,384, with one ring and with two
MOST_OWED = 1 << 17
_NOTHING = np.zeros(0, np.int64)


class Source(Protocol):
    """Something with frames to send: a window, or a sweep for neighbours."""

    @property
    def current(self) -> Passes: ...

    @property
    def length(self) -> int: ...

    @property
    def kind(self) -> str: ...

    def fill(self, rows: Bytes, now: int) -> Ints: ...


class _Reset(NamedTuple):
    """Resets owed: to whom, from which of our ports, with which sequence number, to which MAC address."""

    lane: Lane
    target: Rows
    target_port: npt.NDArray[np.uint16]
    our_port: npt.NDArray[np.uint16]
    sequence: npt.NDArray[np.uint32]
    macs: Rows | None

    def part(self, rows: slice) -> "_Reset":
        macs = None if self.macs is None else self.macs[rows]
        return _Reset(
            self.lane, self.target[rows], self.target_port[rows], self.our_port[rows], self.sequence[rows], macs
        )


class _InFlight(NamedTuple):
    """Frames handed to a transport: they have left when it has sent `until` frames in all."""

    until: int
    passes: Passes | None
    items: Ints


class Dispatch:
    """The way out, for all transports of a scan."""

    def __init__(self, transports: list[Transport], rate: float) -> None:
        self.bucket = TokenBucket(rate)
        self.sent: Counter[str] = Counter()  # frames by kind: probe, query, reset
        self._transports = transports
        self._committed = {id(transport): 0 for transport in transports}
        self._in_flight: dict[int, deque[_InFlight]] = {id(transport): deque() for transport in transports}
        self._owed: deque[_Reset] = deque()

    @property
    def idle(self) -> bool:
        """Whether nothing is owed and everything has left."""
        return not self._owed and not any(self._in_flight.values())

    @property
    def owing(self) -> bool:
        """Whether resets wait for the rate or for room."""
        return bool(self._owed)

    def owe_resets(self, found: Matches, rows: Ints, lane: Lane, frames: Frames) -> int:
        """A reset for each of these SYN/ACKs, to the MAC address that it came from.

        Returns how many are not going to be sent, because a flood of SYN/ACKs has filled the queue.
        """
        room = MOST_OWED - sum(len(owed.target) for owed in self._owed)
        refused, rows = max(0, len(rows) - room), rows[:room]
        if not rows.size:
            return refused
        segments = found.segments.take(rows)
        macs = None
        if lane.probe.ip and frames.link[0] == LINK_ETHERNET:
            macs = read(frames.buffer, frames.start[segments.frame], ETHERNET)["src"]
        self._owed.append(_Reset(lane, segments.src, segments.sport, segments.dport, segments.ack, macs))
        return refused

    def account(self, now: int) -> None:
        """Tell the rounds what has left. Raises ScanError when an interface is stuck."""
        for transport in self._transports:
            queue = self._in_flight[id(transport)]
            if queue:
                sent = transport.sent()
                while queue and queue[0].until <= sent:
                    entry = queue.popleft()
                    if entry.passes:
                        entry.passes.left(entry.items, now)

    def send(self, sources: list[tuple[Transport, Source]], now: int) -> bool:
        """Resets, then each source in turn, as far as the rate allows; returns whether a transport had no room."""
        budget = self.bucket.allowed(now, BATCH)
        while self._owed and budget > 0:
            count = self._send_resets(budget)
            if not count:
                return True
            budget -= count
        full = False
        for transport, source in sources:
            if budget <= 0:
                break
            if not source.current.handed_out:
                rows = transport.reserve(budget)
                full = full or not len(rows)
                budget -= self._fill(transport, source, rows, now)
        return full

    def _send_resets(self, budget: int) -> int:
        owed = self._owed.popleft()
        transport = owed.lane.transport
        rows = transport.reserve(min(budget, len(owed.target)))
        count = len(rows)
        if count < len(owed.target):
            self._owed.appendleft(owed.part(slice(count, None)))
        if count:
            now = owed.part(slice(count))
            probe.stamp(owed.lane.reset, rows, now.target, now.target_port, now.our_port, now.sequence, now.macs)
            self._commit(transport, count, owed.lane.reset.length, "reset", None, _NOTHING)
        return count

    def _fill(self, transport: Transport, source: Source, rows: Bytes, now: int) -> int:
        items = source.fill(rows, now) if len(rows) else _NOTHING
        if len(items):
            self._commit(transport, len(items), source.length, source.kind, source.current, items)
        return len(items)

    def _commit(
        self, transport: Transport, count: int, length: int, kind: str, passes: Passes | None, items: Ints
    ) -> None:
        transport.commit(count, length)
        self.bucket.spend(count)
        self.sent[kind] += count
        self._committed[id(transport)] += count
        self._in_flight[id(transport)].append(_InFlight(self._committed[id(transport)], passes, items))
