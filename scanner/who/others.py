"""Probes that are no SYNs: FIN, NULL, Xmas and ACK packets, and UDP datagrams.

FIN alone, no flag at all, and FIN, PSH and URG together do not occur in a connection (RFC 9293 3.10.7.4: every segment
but the first has ACK), so one packet is enough. An ACK and a datagram are ordinary packets. They count as probes only
where one address sends them to many targets and nothing else speaks for a conversation: no data and no other segment
between the two hosts, at most few packets a target, and no datagram back.

Limits: a capture that holds one direction only shows no answers. There, ACKs from a client to many servers are left out
by their number alone, and datagrams from a server's port (below 1024) are never probes. UDP is read in IPv4 and IPv6
without regard to its contents.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from ..capture.source import NO_TIME
from ..classifier.flows import Flows
from ..classifier.keys import AddressNumbers, Column, TargetKey, target_key
from ..packet.addresses import is_ipv4
from ..packet.headers import ACK, FIN, PSH, RST, SYN, Bools, Frames, Ints, Rows, read
from ..packet.ip import ip_layer
from ..packet.link import Cause, network_layer
from ..packet.parse import Segments
from .gather import NEVER, Table

URG, _FLAGS = 0x20, 0x3F  # without ECE and CWR
_UDP = np.dtype([("sport", ">u2"), ("dport", ">u2"), ("length", ">u2"), ("checksum", ">u2")])  # RFC 768
_PROTO_UDP = 17
LEAST_TARGETS = 10  # of ACKs and datagrams
MOST_EACH = 3  # ACKs a target
_SERVER_PORTS = 1024
_GROUPS4, _GROUPS6 = 0xE000_0000, np.uint64(0xFF)  # multicast and broadcast: 224.0.0.0 and above, ff00::/8

STRAY = np.dtype([("first", "i8"), ("last", "i8"), ("packets", "u4"), ("answered", "?")])  # times in ns
_NEW_STRAY = np.array((NEVER, -NEVER, 0, False), STRAY)


class Kind(IntEnum):
    """What was sent that is no SYN."""

    FIN = 0
    NULL = 1
    XMAS = 2
    ACK = 3
    UDP = 4


class Strays(NamedTuple):
    """Targets that got such packets, one row each: addresses as numbers, Kind, STRAY."""

    us: Ints
    them: Ints
    port: Column
    kind: Ints
    rows: Rows


class Others:
    """All such packets of a capture. Addresses are the numbers of `addresses`."""

    def __init__(self, addresses: AddressNumbers) -> None:
        self._addresses = addresses
        self._targets = [Table(_NEW_STRAY) for _ in Kind]
        self._talks = Table(np.zeros((), "?"))  # pairs of hosts that have a conversation, the smaller number first

    def feed(self, frames: Frames, segments: Segments) -> None:
        """Take in a batch of frames, and what `parse` made of it."""
        self._take_tcp(segments)
        rest = np.ones(len(frames), np.bool_)
        rest[segments.frame] = False
        if rest.any():
            self._take_udp(frames.take(rest))

    def _take_tcp(self, segments: Segments) -> None:
        flags, tcp = segments.flags & _FLAGS, ~segments.icmp
        bare = tcp & (flags == ACK) & (segments.size == 0)
        talk = tcp & ~bare & (flags & ACK > 0) & (flags & (SYN | RST) == 0)
        if talk.any():
            self._talks.intern(*_pairs(*self._hosts(segments.take(talk))))
        masks = {
            Kind.FIN: flags == FIN,
            Kind.NULL: flags == 0,
            Kind.XMAS: flags == FIN | PSH | URG,
            Kind.ACK: bare,
        }
        for kind, mask in masks.items():
            row = np.flatnonzero(mask & tcp)
            if row.size:
                part = segments.take(row)
                us, them = self._hosts(part)
                self._count(kind, us, them, part.dport, part.time)

    def _hosts(self, segments: Segments) -> tuple[Ints, Ints]:
        four = segments.version == 4
        return self._addresses.numbers(segments.src, four), self._addresses.numbers(segments.dst, four)

    def _take_udp(self, frames: Frames) -> None:
        layer = network_layer(frames)
        end = frames.start + frames.length
        for family in (4, 6):
            rows = np.flatnonzero((layer.version == family) & (layer.cause == Cause.NONE))
            packets = ip_layer(frames.buffer, family, rows, layer.at[rows], end[rows])
            packets = packets.take((packets.protocol == _PROTO_UDP) & packets.first & (packets.at + 8 <= packets.end))
            if not len(packets.row):
                continue
            ports = read(frames.buffer, packets.at, _UDP)
            src, dst = (self._addresses.numbers(column, is_ipv4(column)) for column in (packets.src, packets.dst))
            sport, dport, time = ports["sport"].astype(np.int64), ports["dport"].astype(np.int64), frames.time
            asked = ~_to_group(packets.dst) & ~((sport < _SERVER_PORTS) & (dport >= _SERVER_PORTS))
            if asked.any():
                self._count(Kind.UDP, src[asked], dst[asked], dport[asked], time[packets.row[asked]])
            self._answer(dst, src, sport)

    def _count(self, kind: Kind, us: Ints, them: Ints, port: Column, time: Ints) -> None:
        table = self._targets[kind]
        number = table.intern(*(word.view(np.int64) for word in TargetKey(us, them, port).words()))
        timed = time != NO_TIME
        np.minimum.at(table.rows["first"], number[timed], time[timed])
        np.maximum.at(table.rows["last"], number[timed], time[timed])
        np.add.at(table.rows["packets"], number, np.uint32(1))

    def _answer(self, us: Ints, them: Ints, port: Ints) -> None:
        """Datagrams from `them` to `us` answer those that `us` sent to that port."""
        table = self._targets[Kind.UDP]
        number = table.numbering.find(*TargetKey(us, them, port).words())
        table.rows["answered"][number[number >= 0]] = True

    # ── at the end ──

    def probes(self, flows: Flows, target: Ints) -> list[Strays]:
        """The targets that were probed, by kind. `target`: the numbers in `flows` of those that got a SYN."""
        return [found for found in self._found(flows, target) if len(found.us)]

    def _found(self, flows: Flows, target: Ints) -> Iterator[Strays]:
        for kind, table in zip(Kind, self._targets, strict=True):
            us, them, port = target_key(table.numbering.keys)
            keep = np.ones(len(us), np.bool_)
            if kind is Kind.ACK and len(us):
                # The third packet of a handshake is a bare ACK, too.
                asked = np.isin(flows.targets.find(*TargetKey(us, them, port).words()), target)
                keep = self._asked_by_ack(us, them) & ~asked
            elif kind is Kind.UDP and len(us):
                # Peers of a tunnel send to the same port both ways, from ports that change.
                peers = table.numbering.find(*TargetKey(them, us, port).words()) >= 0
                keep = ~table.rows["answered"] & ~peers
            if kind in (Kind.ACK, Kind.UDP):
                keep &= _from_many(us, keep, table.rows["packets"])
            yield Strays(us[keep], them[keep], port[keep], np.full(int(keep.sum()), kind), table.rows[keep])

    def _asked_by_ack(self, us: Ints, them: Ints) -> Bools:
        """Bare ACKs between hosts that have no conversation."""
        a, b = (column.astype(np.uint64) for column in _pairs(us, them))
        talked = self._talks.numbering.find(a, b) >= 0
        return np.asarray(~talked & ~np.isin(us << 30 ^ them, them << 30 ^ us))  # keep-alives go both ways


def _pairs(us: Ints, them: Ints) -> tuple[Ints, Ints]:
    return np.minimum(us, them), np.maximum(us, them)


def _to_group(address: Rows) -> Bools:
    """Which addresses are those of a group or broadcast."""
    four = is_ipv4(address)
    low = address["lo"] & np.uint64(0xFFFF_FFFF)
    return np.where(four, low >= _GROUPS4, address["hi"] >> np.uint64(56) == _GROUPS6)


def _from_many(us: Ints, keep: Bools, packets: Rows) -> Bools:
    """Which senders sent them to many targets, few to each."""
    senders, back = np.unique(us, return_inverse=True)
    targets = np.bincount(back, keep, len(senders))
    # Of all its targets, also those that are left out: a busy host's few stray packets are no scan.
    everything = np.bincount(back, minlength=len(senders))
    sent = np.bincount(back, np.where(keep, packets, 0), len(senders))
    many = (targets >= LEAST_TARGETS) & (2 * targets > everything) & (sent <= MOST_EACH * targets)
    return np.asarray(many[back])
