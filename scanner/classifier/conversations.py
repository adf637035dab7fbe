"""TCP segments that are neither probes nor replies: what they show of silent targets, and which of them are scans.

A capture may lack the SYN/ACK of a connection and hold the rest. Then a segment of the target that acknowledges what
the prober has sent proves that the port is open, and any other segment of it shows that the target was not silent.
Where one address sends bare FIN, NULL, Xmas or ACK segments to many ports, and nothing else, it is a scan that is no
SYN scan. These packets are counted by kind and give no verdict.

So the segments are gathered by connection, whichever side began it, and wherever its SYN stands in the file. Each side
has the highest number that it sent, and the range of numbers that it acknowledged. Sequence numbers count modulo 2^32
(RFC 9293, 3.4), so they are kept as distances from the first one that was seen.

Limit: about 130 bytes a connection. If a pair of ports is used again, all its connections are taken together: then a
range that fits none of them proves nothing.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..capture.source import NO_TIME
from ..packet.headers import ACK, FIN, PSH, RST, SYN, URG, Bools, Ints, Rows
from ..packet.parse import Segments
from .addresses import AddressSet, among
from .keys import Column, Numbering, TargetKey, grown

DATA, ACKED, OTHER = 1, 2, 4  # in `shows`: carried data; acknowledged; anything but the kinds of scans
# Kinds of scans by the flags of their only segments, and how many ports an address must have sent such a segment to.
# A segment without ACK belongs to no connection (RFC 9293, 3.10.7.4). An ACK alone is usual in connections.
KINDS = {"FIN": (8, FIN, 5), "NULL": (16, 0, 5), "Xmas": (32, FIN | PSH | URG, 5), "ACK": (64, ACK, 20)}
_FLAGS = FIN | SYN | RST | PSH | ACK | URG  # without the congestion bits
_MOST_REPEATS = 3  # segments of an ACK scan to one port from one source port
_NEARLY_ALL = 0.9  # of an address's connections without a SYN: so many are the ACK scan, or there is none

_LOW_PORTS, _SYSTEM_PORTS = 10, 1024
NEVER = np.iinfo(np.int64).max
SIDE = np.dtype(
    [
        ("first", "i8"),  # time of the first segment, ns
        ("last", "i8"),  # of the latest one
        ("sent_from", "u4"),  # a number that this side has sent
        ("sent_least", "i4"),  # the lowest one, and the highest one + 1, counted from it
        ("sent", "i4"),
        ("ack_from", "u4"),  # a number that this side has acknowledged
        ("least", "i4"),  # the lowest and the highest one, counted from it
        ("most", "i4"),
        ("segments", "u4"),
        ("shows", "u1"),
        ("ttl", "u1"),  # the largest one
    ],
    align=True,
)


class Scanned(NamedTuple):
    """What the packets of scans of one kind went to, one row for each prober, target and port. Times in ns."""

    us: Ints
    them: Ints
    port: Ints
    first: Ints
    last: Ints
    packets: Ints

    def take(self, rows: Ints | Bools) -> "Scanned":
        """The given rows (indices or mask) of every column."""
        return Scanned._make(column[rows] for column in self)


class Heard(NamedTuple):
    """What the target of each flow said without a recorded SYN/ACK, one row a flow."""

    answered: Bools  # it sent something after the SYN, or the prober has sent the ACK of a handshake
    proved: Bools  # and acknowledged what the prober has sent, in a connection that the prober went on with
    ttl: npt.NDArray[np.uint8]
    segments: Ints


class Conversations:
    """Connections by their two ends; `sides` is SIDE[2n]: side 0 and side 1 of each."""

    def __init__(self) -> None:
        self._numbers = Numbering()
        self._sides = np.zeros(0, SIDE)

    @property
    def count(self) -> int:
        """How many connections there are."""
        return self._numbers.count

    @property
    def segments(self) -> int:
        """How many segments were taken in."""
        return int(self.sides["segments"].sum())

    @property
    def sides(self) -> Rows:
        """SIDE[2n]."""
        return self._sides[: 2 * self._numbers.count]

    def add(self, segments: Segments, src: Ints, dst: Ints) -> None:
        """Take in segments from and to these addresses (numbers)."""
        number, side = self._find(src, segments.sport, dst, segments.dport, add=True)
        at = 2 * number + side
        self._sides = grown(self._sides, 2 * self._numbers.count)
        sides, flags, acked = self._sides, segments.flags & _FLAGS, segments.flags & ACK > 0
        fresh = sides["segments"][at] == 0
        sides["sent_from"][at[fresh]], sides["first"][at[fresh]] = segments.seq[fresh], NEVER
        fresh = acked & (sides["shows"][at] & ACKED == 0)
        sides["ack_from"][at[fresh]] = segments.ack[fresh]
        np.minimum.at(sides["sent_least"], at, _distance(segments.seq, sides["sent_from"][at]))
        end = segments.seq + segments.size + (flags & SYN > 0)
        np.maximum.at(sides["sent"], at, _distance(end, sides["sent_from"][at]))
        distance = _distance(segments.ack, sides["ack_from"][at])[acked]
        np.minimum.at(sides["least"], at[acked], distance)
        np.maximum.at(sides["most"], at[acked], distance)
        data = segments.size > (flags & FIN > 0)
        shows = np.where(data, DATA, 0) | np.where(acked, ACKED, 0)
        kind = np.full(len(at), OTHER, np.int64)
        for bit, exactly, _ in KINDS.values():
            kind[(flags == exactly) & ~data] = bit
        np.bitwise_or.at(sides["shows"], at, (shows | kind).astype(np.uint8))
        np.add.at(sides["segments"], at, np.uint32(1))
        np.minimum.at(sides["first"], at, np.where(segments.time == NO_TIME, NEVER, segments.time))
        np.maximum.at(sides["last"], at, segments.time)
        np.maximum.at(sides["ttl"], at, segments.ttl)

    def heard(self, key: TargetKey, our_port: Column, seq: Column, first: Ints, went_on: Bools) -> Heard:
        """What targets said to SYNs with these source ports, sequence numbers and times (ns).

        `went_on`: the prober has sent the ACK of a handshake. Where it has sent nothing behind its SYN, there is no
        connection, and nothing is proved: middleboxes answer SYNs with data (Bock et al., USENIX Security 2021).
        """
        number, side = self._find(key.us, our_port, key.them, key.port, add=False)
        known = number >= 0
        ours, theirs = (self._sides[(2 * number + which) * known] for which in (side, 1 - side)) if known.any() else (
            np.zeros(len(number), SIDE), np.zeros(len(number), SIDE)
        )  # fmt: skip
        spoke = known & (theirs["segments"] > 0) & (theirs["last"] >= first)
        start = (seq + 1).astype(np.uint32)
        highest = np.where(ours["segments"] > 0, _distance(ours["sent_from"], start) + ours["sent"], 0)
        talked = went_on | (ours["segments"] > 0)
        shook = known & (ours["shows"] & ACKED > 0) & (_distance(ours["sent_from"], start) + ours["sent_least"] == 0)
        acknowledged = _distance(theirs["ack_from"], start)
        proved = spoke & talked & (theirs["shows"] & ACKED > 0) & (acknowledged + theirs["least"] >= 0)
        proved &= acknowledged + theirs["most"] <= np.maximum(highest, 0)
        return Heard(spoke | went_on | shook, proved, theirs["ttl"], theirs["segments"] * spoke)

    def with_data(self, key: TargetKey, our_port: Column) -> Bools:
        """Which flows belong to a connection that carried data, in any direction."""
        number, _ = self._find(key.us, our_port, key.them, key.port, add=False)
        known = number >= 0
        carried = known.copy()
        carried[known] = (self.sides["shows"].reshape(-1, 2)[number[known]] & DATA > 0).any(axis=1)
        return carried

    def data(self) -> tuple[TargetKey, Ints]:
        """Who sent data to whom, and from which port, one row for each connection."""
        ends = self._numbers.keys.view(np.int64)
        sent = self.sides.reshape(-1, 2)["shows"] & DATA > 0
        sender, receiver = ends[sent], ends[:, ::-1][sent]
        return TargetKey(sender >> 16, receiver >> 16, receiver & 0xFFFF), sender & 0xFFFF

    def pairs(self) -> tuple[Ints, Ints]:
        """The two hosts of each connection."""
        ends = self._numbers.keys.view(np.int64) >> 16
        return ends[:, 0], ends[:, 1]

    def scans(self, probes: TargetKey, our_port: Column, reached: AddressSet) -> dict[str, Scanned]:
        """What scans that are no SYN scans went to, by kind. The connections of these SYN probes are none.

        `reached`: addresses that something was sent to.
        """
        if not self._numbers.count:
            return {}
        begun = np.zeros(self._numbers.count, np.bool_)
        number, _ = self._find(probes.us, our_port, probes.them, probes.port, add=False)
        begun[number[number >= 0]] = True
        sides = self.sides.reshape(-1, 2)
        # Nobody answers such a segment with anything but a reset, which is not gathered here.
        alone = ~begun[:, None] & (sides["segments"] > 0) & (sides["segments"][:, ::-1] == 0)
        connections = ~begun[:, None] & (sides["shows"] & (DATA | OTHER | KINDS["ACK"][0]) > 0)
        found = {}
        for kind, (bit, _, least) in KINDS.items():
            pure = alone & (sides["shows"] & ~np.uint8(ACKED) == bit)
            if kind == "ACK":
                pure &= sides["segments"] <= _MOST_REPEATS
            scanned = self._of_scanners(pure, least)
            if kind == "ACK":
                scanned = scanned.take(self._beyond_doubt(scanned, connections, reached))
            if len(scanned.us):
                found[kind] = scanned
        return found

    def _of_scanners(self, pure: Bools, least: int) -> Scanned:
        """The chosen sides, bool[n, 2], whose address has sent such segments to at least so many ports."""
        ends = self._numbers.keys.view(np.int64)
        sender, receiver = ends[pure] >> 16, ends[:, ::-1][pure]
        pairs = np.unique(np.stack([sender, receiver]), axis=1)[0]
        address, ports = np.unique(pairs, return_counts=True)
        chosen = among(sender, address[ports >= least])
        sides = self.sides.reshape(-1, 2)[pure][chosen]
        to = receiver[chosen]
        times = sides["first"], sides["last"]
        return Scanned(sender[chosen], to >> 16, to & 0xFFFF, *times, sides["segments"].astype(np.int64))

    def _beyond_doubt(self, scanned: Scanned, others: Bools, reached: AddressSet) -> Bools:
        """Which ACKs belong to no connection. A bare ACK is usual where hosts speak, and in a sample of packets.

        `others`: sides of connections, bool[n, 2]. Nearly all of the sender's are such ACKs, and hardly anybody sends
        it anything but resets. If the way back is not in the capture, only ports below 1024 of one host are a scan.
        """
        address, us = np.unique(scanned.us, return_inverse=True)
        ends = self._numbers.keys.view(np.int64) >> 16
        mine = np.bincount(us, minlength=len(address))
        sent, came = (_counts(each[others], address) for each in (ends, ends[:, ::-1]))
        sure = (mine >= _NEARLY_ALL * sent) & (came <= (1 - _NEARLY_ALL) * mine)
        low = scanned.port < _SYSTEM_PORTS
        host = Numbering()
        pair = host.intern(scanned.us.astype(np.uint64), scanned.them.astype(np.uint64))
        many_low = np.bincount(pair[low], minlength=host.count)[pair] >= _LOW_PORTS
        return np.asarray(sure[us] & (many_low | reached.has(scanned.us)))

    def _find(self, src: Ints, sport: Column, dst: Ints, dport: Column, add: bool) -> tuple[Ints, Ints]:
        """The number of each connection (-1: unknown), and which side sends."""
        sender, receiver = src << 16 | sport.astype(np.int64), dst << 16 | dport.astype(np.int64)
        words = np.minimum(sender, receiver).view(np.uint64), np.maximum(sender, receiver).view(np.uint64)
        number = self._numbers.intern(*words) if add else self._numbers.find(*words)
        return number, (sender > receiver).astype(np.int64)


def _counts(value: Ints, of: Ints) -> Ints:
    """How often each number of `of` is among the values."""
    value = np.sort(value)
    return np.searchsorted(value, of, "right") - np.searchsorted(value, of, "left")


def _distance(number: Column, start: Column) -> Ints:
    """How far sequence numbers lie behind others, modulo 2^32: from -2^31 on."""
    return (number - start).astype(np.uint32).view(np.int32).astype(np.int64)
