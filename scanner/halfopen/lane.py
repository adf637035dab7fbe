"""A lane: the targets that one route leads to, and how probes and replies look there.

The targets of a scan may lie behind several interfaces, gateways and IP versions. Each combination is a lane with its
own templates, its own numbering of hosts and its own order. So a batch is always of one kind, and no other code
depends on versions or routes. Hosts are permuted, and a shard takes every n-th of them. A position in that order
names a host, and arithmetic leads both ways.

`match` ties live replies to targets (`classifier` does it for captures): the cookie proves that a reply answers our
own probe, and the inverse of the permutation says which one.
"""

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet import cookie, probe
from ..packet.cookie import Key
from ..packet.headers import ACK, RST, SYN, U8, Bools, Bytes, Ints, Rows
from ..packet.parse import Segments
from ..packet.probe import Template
from ..targets.hostspace import WHOLE, Shard
from ..targets.order import Extent, Order
from ..targets.ports import Ports
from ..targets.spaces import Spaces
from ..transport import Transport
from ..verdict.strange import without_strange
from ..verdict.table import Codes, Reason, Rejected, classify_icmp, classify_tcp

U16 = npt.NDArray[np.uint16]
MILLISECOND = 1_000_000  # ns


@dataclass
class Lane:
    """The hosts behind one route, and all that is needed to send to them and to recognise their replies."""

    name: str  # of the interface
    version: int
    spaces: Spaces
    transport: Transport
    our_address: Rows  # ADDRESS[1]
    pass_ports: tuple[int, ...]  # our source port in pass 1, 2, …; may repeat one port
    probe: Template
    reset: Template
    syn_ack: Template
    key: Key
    order_key: int
    shard: Shard = WHOLE
    query: Template | None = None  # for MAC addresses; None where frames need none
    gateway: Rows | None = None  # ADDRESS[1]; None: the hosts are on the link
    clock_offset: int = 0  # of the TCP time stamps, in ms
    check_ports: tuple[int, ...] = ()  # our source ports for check probes; their pass numbers come after the others
    spare_port: int | None = None  # used where the target is this machine and its port is our source port

    def __post_init__(self) -> None:
        self.resolved = False  # whether the MAC address of the gateway is known
        self._order = Order(self.spaces, self.order_key, self.shard)
        self._held = np.zeros(65536, np.bool_)
        self._held[[*self.pass_ports, *self.check_ports, *([self.spare_port] if self.spare_port else [])]] = True
        self._port_of = np.array([0, *self.pass_ports, *self.check_ports], np.uint16)  # by pass
        self._pass_of = np.zeros(65536, np.uint8)  # by our port; 0: the port does not say which pass
        if len(set(self.pass_ports)) == len(self.pass_ports):
            self._pass_of[self._port_of[1:]] = np.arange(1, len(self._port_of))

    @property
    def check_passes(self) -> range:
        """The pass numbers of the source ports for check probes."""
        return range(len(self.pass_ports) + 1, len(self._port_of))

    @property
    def needs_macs(self) -> bool:
        """Whether each host needs its own MAC address: the hosts are on the link."""
        return self.query is not None and self.gateway is None

    @property
    def one_port(self) -> bool:
        """Whether every pass has the same source port."""
        return len(set(self.pass_ports)) == 1

    @property
    def extent(self) -> Extent:
        """The hosts of this shard, space by space."""
        return self._order.extent

    @property
    def host_count(self) -> int:
        """Hosts of this shard."""
        return self.extent.hosts

    def hosts_at(self, host_pos: Ints) -> Rows:
        """The hosts at these positions of this shard's order, ADDRESS[n]."""
        return self._order.hosts_at(host_pos)

    def ports_at(self, position: int) -> Ports:
        """The ports of the host at this position."""
        return self._order.ports_at(position)

    def position_of(self, address: Rows) -> Ints:
        """ADDRESS[m] → positions in this shard's order, int64[m]; -1 for what is no target of this shard."""
        return self._order.position_of(address)

    def next_hop(self, mac: bytes) -> None:
        """The MAC address of the gateway, for every frame of this lane."""
        for template in (self.probe, self.reset, self.syn_ack):
            template.frame[:6] = np.frombuffer(mac, np.uint8)
        self.resolved = True

    def stamp_probes(
        self, rows: Bytes, target: Rows, target_port: U16, pass_no: int | U8, macs: Rows | None, now: int
    ) -> None:
        """Write probes into `rows`: ADDRESS[n], uint16[n], and V6[n] where hosts need their own MAC.

        `pass_no` is one for all, or uint8[n].
        """
        ours = self.our_port(pass_no, target_port)
        sequence = self.sequence(target, target_port, ours)
        probe.stamp(self.probe, rows, target, target_port, ours, sequence, macs, clock=self.clock(now))

    def clock(self, now: int) -> int:
        """The TCP time stamp at `now` (ns): milliseconds, as common systems count them (RFC 7323 5.4)."""
        return now // MILLISECOND + self.clock_offset & 0xFFFFFFFF

    def our_port(self, pass_no: int | U8, target_port: U16) -> int | U16:
        """The source port of a pass towards each target port."""
        port = int(self._port_of[pass_no]) if isinstance(pass_no, int) else self._port_of[pass_no]
        if self.spare_port is None or not (target_port == port).any():
            return port
        return np.where(target_port == port, self.spare_port, port).astype(np.uint16)

    def sequence(self, target: Rows, target_port: U16, our_port: int | U16) -> npt.NDArray[np.uint32]:
        """The cookie of each flow, uint32[n]."""
        return cookie.sequence(self.key, self.version, target, target_port, our_port)

    def match(self, segments: Segments, counts: Counter[str]) -> "Matches":
        """Replies to the probes of this lane. The others are added to `counts` by cause.

        Source: RFC 9293 3.10.7.3 (what a SYN may draw); RFC 792 (what an ICMP error quotes).
        """
        segments = self._to_us(segments, counts)
        honest = without_strange(segments, counts)
        segments = segments if honest.all() else segments.take(honest)
        segments = self._without_echoes(segments, counts)
        reason = classify_tcp(segments.flags)
        if segments.icmp.any():
            icmp_reason = classify_icmp(segments.version, segments.icmp_type, segments.icmp_code)
            reason = np.where(segments.icmp, icmp_reason, reason)
        expected = self.sequence(segments.src, segments.sport, segments.dport)
        # An ACK alone proves a split handshake, if we have answered the SYN of this target. The caller knows that.
        alone = ~segments.icmp & (segments.flags & (SYN | ACK | RST) == ACK) & (segments.ack == expected + np.uint32(1))
        if alone.any():
            reason = np.where(alone, np.uint8(Reason.SPLIT_HANDSHAKE_SYN), reason)
        proven = self._proven(segments, reason, expected)
        host_pos = self.position_of(segments.src)
        port_index = self.spaces.port_index(self.extent.space_at(np.maximum(host_pos, 0)), segments.sport)
        causes = (
            (reason == Reason.NONE, Rejected.NO_VERDICT),
            (~proven, Rejected.BAD_COOKIE),
            ((host_pos < 0) | (port_index < 0), Rejected.NOT_A_TARGET),
        )
        good = np.ones(len(segments), np.bool_)
        for wrong, cause in causes:
            counts[cause.value] += int(np.count_nonzero(good & wrong))
            good &= ~wrong
        if not good.all():
            segments, reason = segments.take(good), reason[good]
            host_pos, port_index = host_pos[good], port_index[good]
        return Matches(segments, reason, host_pos, port_index, self._pass_of[segments.dport])

    def _to_us(self, segments: Segments, counts: Counter[str]) -> Segments:
        """Those sent to our address and one of our source ports."""
        ours = (segments.dst["lo"] == self.our_address["lo"][0]) & (segments.dst["hi"] == self.our_address["hi"][0])
        cut = ours & segments.truncated
        counts[Rejected.QUOTE_TRUNCATED.value] += int(np.count_nonzero(cut))
        ours &= self._held[segments.dport] & ~cut
        counts[Rejected.NOT_TO_US.value] += len(segments) - int(np.count_nonzero(ours | cut))
        return segments if ours.all() else segments.take(ours)

    def _without_echoes(self, segments: Segments, counts: Counter[str]) -> Segments:
        """Without our own probes, as loopback shows them: a bare SYN with the cookie of its own flow."""
        bare = ~segments.icmp & (segments.flags & (SYN | ACK | RST) == SYN)
        if not bare.any():
            return segments
        echo = bare & (segments.seq == self.sequence(segments.dst, segments.dport, segments.sport))
        counts[Rejected.OWN_PROBE.value] += int(np.count_nonzero(echo))
        return segments.take(~echo) if echo.any() else segments

    def _proven(self, segments: Segments, reason: Codes, expected: npt.NDArray[np.uint32]) -> Bools:
        """Which replies show our cookie `expected`: acknowledged or quoted. A bare SYN must not show it."""
        # RFC 9293 3.10.7.3: the acceptable acknowledgement in SYN-SENT is ISS + 1.
        proven = segments.ack == expected + np.uint32(1)
        # Some stacks acknowledge our sequence number itself in their reset.
        proven |= (segments.flags & (RST | SYN) == RST) & (segments.ack == expected)
        # The sequence number of an ICMP row is the quoted one. The 8 quoted TCP bytes always hold it (RFC 792).
        if segments.icmp.any():
            proven = np.where(segments.icmp, segments.seq == expected, proven)
        # A bare SYN acknowledges nothing. One that carries our cookie is our own probe, sent back.
        bare = reason == Reason.UNPROVED_SYN
        if bare.any():
            proven = np.where(bare, segments.seq != expected, proven)
        return np.asarray(proven)


class Matches(NamedTuple):
    """Replies that are ours, as columns."""

    segments: Segments
    reason: Codes
    host_pos: Ints  # in the order of the lane
    port_index: Ints
    pass_no: npt.NDArray[np.uint8]  # the pass that was answered; 0: the port does not say

    def take(self, rows: Bools) -> "Matches":
        """The rows of a mask."""
        segments = self.segments.take(rows)
        return Matches(segments, self.reason[rows], self.host_pos[rows], self.port_index[rows], self.pass_no[rows])
