"""A lane: the targets that one route leads to, and how probes and replies on it look.

A scan's targets may lie behind several interfaces, gateways and families. Each combination is a
lane with its own templates, its own numbering of hosts and its own order, so a batch is always of
one kind and no code downstream asks about families or routes. Hosts are permuted; a shard takes
every n-th of them; a position in that order names a host, and arithmetic leads both ways.

`match` is the live half of the seam between replies and targets (`replay` has the other): the
cookie proves that a reply answers our own probe, and the permutation's inverse says which.
"""

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet import cookie
from ..packet.cookie import Key
from ..packet.headers import ACK, RST, SYN, Ints, Rows
from ..packet.parse import Segments
from ..packet.probe import Query, Template
from ..targets.hostspace import WHOLE, HostSpace, Shard
from ..targets.permutation import Permutation
from ..transport import Transport
from ..verdict.table import Reason, classify_icmp, classify_tcp

U16 = npt.NDArray[np.uint16]


@dataclass
class Lane:
    """One route's hosts, and everything needed to send to them and to know their replies."""

    name: str  # of the interface
    version: int
    hosts: HostSpace
    ports: U16
    transport: Transport
    our_address: Rows  # ADDRESS[1]
    pass_ports: tuple[int, ...]  # our source port in pass 1, 2, …; may repeat one port
    probe: Template
    reset: Template
    key: Key
    order_key: int
    shard: Shard = WHOLE
    query: Query | None = None  # how to ask for MAC addresses; None where frames need none
    gateway: Rows | None = None  # ADDRESS[1]; None: the hosts are on the link
    spare_port: int | None = None  # used where the target is this machine and its port is our source port

    def __post_init__(self) -> None:
        self._order = Permutation(self.hosts.size, self.order_key)
        self._port_index = np.full(65536, -1, np.int32)
        self._port_index[self.ports] = np.arange(len(self.ports))
        self._held = np.zeros(65536, np.bool_)
        self._held[[*self.pass_ports, *([self.spare_port] if self.spare_port else [])]] = True
        self._pass_of = np.zeros(65536, np.uint8)  # 0: the port does not tell
        if len(set(self.pass_ports)) == len(self.pass_ports):
            self._pass_of[list(self.pass_ports)] = np.arange(1, len(self.pass_ports) + 1)

    @property
    def host_count(self) -> int:
        """Hosts of this shard."""
        return max(0, (self.hosts.size - self.shard.number) // self.shard.of + 1)

    def hosts_at(self, position: Ints) -> Rows:
        """The hosts at these positions of this shard's order, ADDRESS[n]."""
        place = position.astype(np.uint64) * np.uint64(self.shard.of) + np.uint64(self.shard.number - 1)
        return self.hosts.pick(self._order.forward(place))

    def position_of(self, address: Rows) -> Ints:
        """ADDRESS[m] → positions in this shard's order, int64[m]; -1 for what is not this shard's target."""
        index = self.hosts.index_of(address)
        position = np.full(len(index), -1, np.int64)
        known = np.flatnonzero(index >= 0)
        if known.size:
            place = self._order.inverse(index[known]).view(np.int64) - (self.shard.number - 1)
            mine = place % self.shard.of == 0
            position[known[mine]] = place[mine] // self.shard.of
        return position

    def next_hop(self, mac: bytes) -> None:
        """The gateway's MAC address, for every frame of this lane."""
        for template in (self.probe, self.reset):
            template.frame[:6] = np.frombuffer(mac, np.uint8)

    def our_port(self, number: int, target_port: U16) -> int | U16:
        """The source port of pass `number` towards each target port."""
        port = self.pass_ports[number - 1]
        if self.spare_port is None or not (target_port == port).any():
            return port
        return np.where(target_port == port, self.spare_port, port).astype(np.uint16)

    def sequence(self, target: Rows, target_port: U16, our_port: int | U16) -> npt.NDArray[np.uint32]:
        """The cookie of each flow, uint32[n]."""
        return cookie.sequence(self.key, self.version, target, target_port, our_port)

    def match(self, segments: Segments, counts: Counter[str]) -> "Matches":
        """Replies to this lane's probes; the others are added to `counts` by cause."""
        segments = self._to_us(segments, counts)
        segments = self._without_echoes(segments, counts)
        reason = classify_tcp(segments.flags)
        if segments.icmp.any():
            reason = np.where(
                segments.icmp, classify_icmp(segments.version, segments.icmp_type, segments.icmp_code), reason
            )
        proven = self._proven(segments, reason)
        place = self.position_of(segments.src)
        port = self._port_index[segments.sport]
        causes = (
            (reason == Reason.NONE, "no-verdict"),
            (~proven, "bad-cookie"),
            ((place < 0) | (port < 0), "not-a-target"),
        )
        good = np.ones(len(segments), np.bool_)
        for wrong, cause in causes:
            counts[cause] += int(np.count_nonzero(good & wrong))
            good &= ~wrong
        if not good.all():
            segments, reason, place, port = segments.take(good), reason[good], place[good], port[good]
        return Matches(segments, reason, place, port.astype(np.int64), self._pass_of[segments.dport])

    def _to_us(self, segments: Segments, counts: Counter[str]) -> Segments:
        """Those sent to our address and one of our source ports."""
        ours = (segments.dst["lo"] == self.our_address["lo"][0]) & (segments.dst["hi"] == self.our_address["hi"][0])
        cut = ours & segments.truncated
        counts["icmp-quote-truncated"] += int(np.count_nonzero(cut))
        ours &= self._held[segments.dport] & ~cut
        counts["not-to-us"] += len(segments) - int(np.count_nonzero(ours | cut))
        return segments if ours.all() else segments.take(ours)

    def _without_echoes(self, segments: Segments, counts: Counter[str]) -> Segments:
        """Without our own probes, as loopback shows them: a bare SYN with the cookie of the flow that it belongs to."""
        bare = ~segments.icmp & (segments.flags & (SYN | ACK | RST) == SYN)
        if not bare.any():
            return segments
        echo = bare & (segments.seq == self.sequence(segments.dst, segments.dport, segments.sport))
        counts["own-probe"] += int(np.count_nonzero(echo))
        return segments.take(~echo) if echo.any() else segments

    def _proven(self, segments: Segments, reason: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which replies show our cookie: acknowledged, or quoted; a bare SYN must not show it."""
        expected = self.sequence(segments.src, segments.sport, segments.dport)
        proven = segments.ack == expected + np.uint32(1)
        proven |= (segments.flags & (RST | SYN) == RST) & (segments.ack == expected)
        if segments.icmp.any():
            proven = np.where(segments.icmp, segments.seq == expected, proven)
        bare = reason == Reason.SPLIT_HANDSHAKE_SYN
        if bare.any():
            proven = np.where(bare, segments.seq != expected, proven)
        return np.asarray(proven)


class Matches(NamedTuple):
    """Replies that are ours: reason, host position, port index and the pass answered (0: the port does not tell)."""

    segments: Segments
    reason: npt.NDArray[np.uint8]
    place: Ints
    port: Ints
    number: npt.NDArray[np.uint8]

    def take(self, rows: npt.NDArray[np.bool_]) -> "Matches":
        """The rows of a mask."""
        return Matches(
            self.segments.take(rows), self.reason[rows], self.place[rows], self.port[rows], self.number[rows]
        )
