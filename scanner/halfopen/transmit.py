"""The way out: who may send next, and what has really left.

All frames of a scan pass here, so the rate holds over all of them. What is owed comes first: resets, because a target
that answered SYN/ACK keeps a half-open connection until it gets one, and the SYN/ACKs that answer bare SYNs. Then come
the sources that the scan offers, in turn. A frame
counts as sent, and its target as probed, when the transport says that it has left: an interrupted scan must not call
a target filtered whose probe was still in a ring.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..packet import probe
from ..packet.headers import ETHERNET, LINK_ETHERNET, Bytes, Frames, Ints, Rows, read
from ..packet.parse import Segments
from ..rounds.pacing import Budget, TokenBucket
from ..transport import Transport
from .lane import Lane, Matches

BATCH = 8192  # frames stamped at once: 2 % faster than 4,096, and as fast as 16,384, with one ring and with two
MOST_OWED = 1 << 17  # frames that wait; a flood of SYN/ACKs must not fill the memory
_NO_IDS = np.zeros(0, np.int64)


class Sending(Protocol):
    """Ids to send to, in turn: passes, or control probes."""

    @property
    def handed_out(self) -> bool: ...

    def take(self, limit: int, now: int) -> Ints: ...

    def left(self, target_id: Ints, now: int) -> None: ...

    def refused(self, target_id: Ints) -> None: ...


class FrameSource(NamedTuple):
    """Frames to send: queries or probes of one pass, or control probes. `stamp` writes them into rows, at a time."""

    transport: Transport
    sending: Sending
    kind: str
    length: int  # bytes of each frame
    stamp: Callable[[Bytes, Ints, int], None]
    leave: int = 0  # frames that the next source is to have of what may leave now


class _Owed(NamedTuple):
    """Frames owed: to whom, from which of our ports, with which numbers, to which MAC address."""

    lane: Lane
    passes: Sending | None  # of a SYN/ACK: their waits count from the moment when it has left; None: a reset
    target: Rows
    target_port: npt.NDArray[np.uint16]
    our_port: npt.NDArray[np.uint16]
    sequence: npt.NDArray[np.uint32]
    ack: npt.NDArray[np.uint32] | None
    macs: Rows | None

    def part(self, rows: slice) -> "_Owed":
        target, ports = self.target[rows], (self.target_port[rows], self.our_port[rows])
        ack = None if self.ack is None else self.ack[rows]
        macs = None if self.macs is None else self.macs[rows]
        return _Owed(self.lane, self.passes, target, *ports, self.sequence[rows], ack, macs)


class _InFlight(NamedTuple):
    """Frames handed to a transport. They have left when it has sent `until` frames in all."""

    until: int
    sending: Sending | None
    target_id: Ints
    kind: str = ""
    number: int = 0


class Transmit:
    """The way out, for all transports of a scan."""

    def __init__(self, transports: list[Transport], rate: float) -> None:
        self.budget = Budget(TokenBucket(rate), Counter())  # kinds: probe, control, query, reset, syn-ack
        self.bucket, self.sent = self.budget
        self._transports = transports
        self._committed = {id(transport): 0 for transport in transports}
        self._in_flight: dict[int, deque[_InFlight]] = {id(transport): deque() for transport in transports}
        self._owed: deque[_Owed] = deque()
        self._refused: dict[int, dict[int, str]] = {id(transport): {} for transport in transports}
        self.unsent: Counter[str] = Counter()  # frames that the system refused to send, by kind
        self.refusals: Counter[str] = Counter()  # probes among them, by cause

    @property
    def idle(self) -> bool:
        """Whether nothing is owed and everything has left."""
        return not self._owed and not any(self._in_flight.values())

    @property
    def left(self) -> Counter[str]:
        """Frames by kind that have left this machine, as far as it is known."""
        under_way: Counter[str] = Counter()
        for frames in chain(*self._in_flight.values()):
            under_way[frames.kind] += frames.number
        return self.sent - under_way - self.unsent

    @property
    def owing(self) -> bool:
        """Whether resets or SYN/ACKs wait for the rate or for room."""
        return bool(self._owed)

    def owe_resets(self, matches: Matches, rows: Ints, lane: Lane, frames: Frames) -> int:
        """A reset for each of these SYN/ACKs, to the MAC address that it came from.

        Returns how many are not going to be sent, because too many wait already.
        """
        refused, rows = max(0, len(rows) - self.room), rows[: self.room]
        if rows.size:
            segments = matches.segments.take(rows)
            macs = None
            if lane.probe.ip and frames.link[0] == LINK_ETHERNET:
                macs = read(frames.buffer, frames.start[segments.frame], ETHERNET)["src"]
            # RFC 9293 3.10.7.3: the sequence number of the reset is the one that the SYN/ACK acknowledges.
            flow = segments.src, segments.sport, segments.dport
            self._owed.append(_Owed(lane, None, *flow, segments.ack, None, macs))
        return refused

    @property
    def room(self) -> int:
        """How many more frames may be owed."""
        return MOST_OWED - sum(len(owed.target) for owed in self._owed)

    def owe_syn_acks(self, segments: Segments, lane: Lane, passes: Sending, macs: Rows | None) -> None:
        """A SYN/ACK with our cookie for each of these bare SYNs, to the next hop of the probe (V6[n], or the lane's).

        Not to the MAC address that the SYN came from: who can forge a SYN on our link would be shown the cookie.
        """
        flow = segments.src, segments.sport, segments.dport
        self._owed.append(_Owed(lane, passes, *flow, lane.sequence(*flow), segments.seq + np.uint32(1), macs))

    def account(self, now: int) -> None:
        """Tell the passes what has left. Raises ScanError when an interface is stuck."""
        for transport in self._transports:
            queue = self._in_flight[id(transport)]
            if queue:
                sent = transport.sent()
                refused = self._refused[id(transport)]
                refused |= transport.refused()
                while queue and queue[0].until <= sent:
                    entry = self._without(queue.popleft(), refused) if refused else queue.popleft()
                    if entry.sending:
                        entry.sending.left(entry.target_id, now)

    def learn_refusals(self, now: int) -> None:
        """Account at once if anything was refused: before something that looks like an answer to it is read."""
        for transport in self._transports:
            if refused := transport.refused():
                self._refused[id(transport)] |= refused
                self.account(now)

    def _without(self, entry: _InFlight, refused: dict[int, str]) -> _InFlight:
        """The entry without what the system has refused to send: those targets have not been probed."""
        first = entry.until - entry.number
        rows = [row for row in range(entry.number) if first + row in refused]
        causes = [refused.pop(first + row) for row in rows]
        self.unsent[entry.kind] += len(rows)
        if not (rows and entry.sending and len(entry.target_id)):
            return entry
        self.refusals.update(causes)
        entry.sending.refused(entry.target_id[rows])
        return entry._replace(target_id=np.delete(entry.target_id, rows))

    def send(self, sources: Iterable[FrameSource], now: int) -> bool:
        """What is owed, then each source in turn, as the rate allows. Returns whether a transport had no room."""
        budget = self.bucket.allowed(now, BATCH)
        while self._owed and budget > 0:
            count = self._send_owed(budget)
            if not count:
                return True
            budget -= count
        full = False
        for source in sources:
            if budget <= 0:
                break
            if not source.sending.handed_out:
                rows = source.transport.reserve(max(1, budget - source.leave))
                full = full or not len(rows)
                budget -= self._fill(source, rows, now)
        return full

    def _send_owed(self, budget: int) -> int:
        owed = self._owed.popleft()
        transport = owed.lane.transport
        rows = transport.reserve(min(budget, len(owed.target)))
        count = len(rows)
        if count < len(owed.target):
            self._owed.appendleft(owed.part(slice(count, None)))
        if count:
            lane, passes, target, target_port, our_port, sequence, ack, macs = owed.part(slice(count))
            template, kind = (lane.syn_ack, "syn-ack") if passes else (lane.reset, "reset")
            probe.stamp(template, rows, target, target_port, our_port, sequence, macs, ack=ack)
            self._commit(transport, count, template.length, _InFlight(0, passes, _NO_IDS, kind, count))
        return count

    def _fill(self, source: FrameSource, rows: Bytes, now: int) -> int:
        target_id = source.sending.take(len(rows), now) if len(rows) else _NO_IDS
        count = len(target_id)
        if count:
            source.stamp(rows[:count], target_id, now)
            in_flight = _InFlight(0, source.sending, target_id, source.kind, count)
            self._commit(source.transport, count, source.length, in_flight)
        return count

    def _commit(self, transport: Transport, count: int, length: int, frames: _InFlight) -> None:
        transport.commit(count, length)
        self.budget.spend(frames.kind, count)
        self._committed[id(transport)] += count
        self._in_flight[id(transport)].append(frames._replace(until=self._committed[id(transport)]))
