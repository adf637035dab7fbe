"""Packets inside packets: where a tunnel's payload begins, and which tunnel it is.

A mirror port of a switch (ERSPAN), a cloud's traffic mirror (VXLAN), a network of virtual machines (VXLAN, GENEVE) or
of mobile phones (GTP-U) sends the packets of interest inside others. A reader of the outside alone finds no TCP there.
Here a column of IP packets goes in, and the positions of what they carry come out, with a protocol at which `link` goes
on. Two customers may both have 10.0.0.1, so each tunnel has an id, and `Tunnels` gives every tunnel a number.

A live scan never looks inside: a reply in a tunnel is no reply to its probe.

Limits: NVGRE's flow id is taken as a part of the GRE key. GRE with routing (RFC 1701) and of version 1 (PPTP) is not
read. Only first fragments of the outside are. A tunnel without an id (IPIP, 6in4, GRE without a key) is known by its
kind alone, because mirrors spread their packets over many outer addresses.

Sources: RFC 2784 and 2890 (GRE), RFC 2003 and 2473 (IP in IP), RFC 4213 (6in4), RFC 7348 (VXLAN), RFC 8926 (GENEVE),
draft-foschiano-erspan-03, 3GPP TS 29.281 5.1 and 5.2 (GTP-U).
"""

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from .headers import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Bools, Bytes, Ints, number
from .ip import Packets
from .link import ETHERNET_FRAME, IP_PACKET, NOT_IP

MOST_NESTED = 4
NESTED_DEEPER = "tunnels nested too deep"
NOT_READ = "GRE not understood"
NO_ID = -1

_IPIP, _UDP, _SIX, _GRE = 4, 17, 41, 47  # protocol numbers
_UDP_BYTES = 8
_MIN_ETHERTYPE = 0x600
_CHECKSUM, _ROUTING, _KEY, _SEQUENCE, _GRE_VERSION = 0x8000, 0x4000, 0x2000, 0x1000, 7
_BRIDGED, _ERSPAN_2, _ERSPAN_3 = 0x6558, 0x88BE, 0x22EB  # in the protocol field of GRE and GENEVE
_MOST_EXTENSIONS = 8  # of GTP-U


class Kind(IntEnum):
    """Kinds of tunnels; `words` is what rows and reports say."""

    GRE = 1
    IPIP = 2
    SIX_IN_FOUR = 3
    VXLAN = 4
    GENEVE = 5
    ERSPAN = 6
    GTP_U = 7

    @property
    def words(self) -> str:
        """The kind as it is printed."""
        return _WORDS[self]


_WORDS = {Kind.GRE: "gre", Kind.IPIP: "ipip", Kind.SIX_IN_FOUR: "6in4", Kind.VXLAN: "vxlan", Kind.GENEVE: "geneve",
          Kind.ERSPAN: "erspan", Kind.GTP_U: "gtp-u"}  # fmt: skip


class Inside(NamedTuple):
    """What tunnels carry, one row each. `row` is that of the packets; `id` is NO_ID where the tunnel has none."""

    row: Ints
    at: Ints
    end: Ints
    protocol: Ints  # a protocol of `link`
    kind: Ints
    id: Ints

    def take(self, rows: Ints | Bools) -> "Inside":
        """The given rows (indices or mask) of every column."""
        return Inside._make(column[rows] for column in self)


class Tunnels:
    """Numbers for tunnels, from 1; a tunnel inside another one is a tunnel of its own. 0 is no tunnel.

    A tunnel costs 24 bytes, so that a flood of made-up ids costs less than the flows inside.
    """

    def __init__(self) -> None:
        self.packets = np.zeros(len(Kind) + 1, np.int64)  # that were looked into, by kind
        self._keys = np.zeros(1, np.int64)  # by number: outer tunnel (27 bits), kind (3), id + 1 (33)
        self._sorted, self._numbers = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def enter(self, outer: Ints, inside: Inside) -> Ints:
        """The number of each packet's tunnel. `outer`: the number of the tunnel around it."""
        self.packets += np.bincount(inside.kind, minlength=len(self.packets))
        keys, back = np.unique(outer << 36 | inside.kind << 33 | inside.id + 1, return_inverse=True)
        place = self._places(keys)
        new = np.append(self._sorted, -1)[place] != keys
        if new.any():
            numbers = len(self._keys) + np.arange(np.count_nonzero(new))
            self._keys = np.concatenate([self._keys, keys[new]])
            self._sorted = np.insert(self._sorted, place[new], keys[new])
            self._numbers = np.insert(self._numbers, place[new], numbers)
            place = self._places(keys)
        return np.asarray(self._numbers[place][back])

    def text(self, tunnel: int) -> str | None:
        """`vxlan:5001`, or `vxlan:5001/gre` for a tunnel in a tunnel; None for no tunnel."""
        if not tunnel:
            return None
        around, kind, tunnel_id = self._parts(tunnel)
        own = kind.words if tunnel_id == NO_ID else f"{kind.words}:{tunnel_id}"
        return f"{self.text(around)}/{own}" if around else own

    def ranks(self) -> Ints:
        """By number, a rank that follows from kinds and ids alone. The numbers differ with the size of batches."""
        outer, own = self._keys >> 36, self._keys & (1 << 36) - 1
        rank, ranked = np.zeros(len(outer), np.int64), 1
        level = np.flatnonzero(outer == 0)[1:]  # tunnels that are in no other one; then those in them, and so on
        while level.size:
            order = level[np.lexsort((own[level], rank[outer[level]]))]
            rank[order] = np.arange(ranked, ranked + len(order))
            ranked += len(order)
            level = np.flatnonzero(np.isin(outer, level))
        return rank

    def names_its_customer(self, tunnel: int) -> bool:
        """Whether packets with another id cannot belong to the same conversation.

        A TEID is chosen by the end that receives (3GPP TS 29.281 5.1), and a mirror session may hold one direction.
        """
        if not tunnel:
            return False
        around, kind, tunnel_id = self._parts(tunnel)
        return (tunnel_id != NO_ID and kind not in (Kind.GTP_U, Kind.ERSPAN)) or self.names_its_customer(around)

    def _places(self, keys: Ints) -> Ints:
        return np.asarray(np.searchsorted(self._sorted, keys))

    def _parts(self, tunnel: int) -> tuple[int, Kind, int]:
        """Outer tunnel, kind and id."""
        key = int(self._keys[tunnel])
        return key >> 36, Kind(key >> 33 & 7), (key & (1 << 33) - 1) - 1


def look_inside(buffer: Bytes, family: int, packets: Packets) -> tuple[Inside, Bools]:
    """What the packets carry, and which of them are tunnels that cannot be read."""
    protocol = packets.protocol
    found = []
    unread = np.zeros(len(protocol), np.bool_)
    for kind, read in ((_GRE, _gre), (_UDP, _udp)):
        rows = np.flatnonzero(protocol == kind)
        if rows.size:
            inside, good = read(buffer, packets.at[rows], packets.end[rows])
            found.append(inside._replace(row=rows).take(good))
            if kind == _GRE:  # other UDP is no tunnel
                unread[rows[~good]] = True
    for kind, ethertype, name in (
        (_IPIP, ETHERTYPE_IPV4, Kind.IPIP),
        (_SIX, ETHERTYPE_IPV6, Kind.SIX_IN_FOUR if family == 4 else Kind.IPIP),
    ):
        rows = np.flatnonzero(protocol == kind)
        if rows.size:
            at, end = packets.at[rows], packets.end[rows]
            found.append(Inside(rows, at, end, *(np.full(len(rows), value) for value in (ethertype, name, NO_ID))))
    return join(found), unread


def join(parts: list[Inside]) -> Inside:
    """Several parts as one."""
    none = np.zeros(0, np.int64)
    return Inside(*(np.concatenate(columns) for columns in zip(*parts, strict=True))) if parts else Inside(*[none] * 6)


# ── each kind: positions, and which of them can be read ──


def _gre(buffer: Bytes, at: Ints, end: Ints) -> tuple[Inside, Bools]:
    """RFC 2784 2, RFC 2890 2: flags, protocol, then a checksum, a key and a sequence number where flags say so."""
    flags, protocol = number(buffer, at, ">u2"), number(buffer, at + 2, ">u2")
    has_key = flags & _KEY > 0
    key_at = at + 4 + np.where(flags & _CHECKSUM > 0, 4, 0)
    payload = key_at + np.where(has_key, 4, 0) + np.where(flags & _SEQUENCE > 0, 4, 0)
    good = (flags & (_GRE_VERSION | _ROUTING) == 0) & (payload <= end)
    tunnel_id = np.where(has_key, number(buffer, key_at, ">u4"), NO_ID)
    # ERSPAN I has no header of its own, and no sequence number (draft-foschiano-erspan 4.1).
    second = (protocol == _ERSPAN_2) & (flags & _SEQUENCE > 0)
    third = protocol == _ERSPAN_3
    erspan = third | (protocol == _ERSPAN_2)
    session = number(buffer, payload + 2, ">u2") & 0x3FF
    tunnel_id = np.where(second | third, session, np.where(erspan, NO_ID, tunnel_id))
    # ERSPAN III: 12 bytes, and 8 more if the last bit is set. Frame type 2 is IP, 0 Ethernet (4.3).
    last = number(buffer, payload + 10, ">u2")
    is_ip = third & (last >> 10 & 0x1F == 2)
    fixed = payload + np.where(third, 12, np.where(second, 8, 0))
    good &= fixed <= end
    payload = fixed + np.where(third & (last & 1 > 0), 8, 0)
    good &= payload <= end
    inner = np.where(protocol < _MIN_ETHERTYPE, NOT_IP, protocol)
    inner = np.where((protocol == _BRIDGED) | erspan, ETHERNET_FRAME, inner)
    inner = np.where(is_ip, IP_PACKET, inner)
    return Inside(at, payload, end, inner, np.where(erspan, Kind.ERSPAN, Kind.GRE), tunnel_id), good


def _udp(buffer: Bytes, at: Ints, end: Ints) -> tuple[Inside, Bools]:
    """Tunnels over UDP, known by the destination port."""
    port = np.where(at + _UDP_BYTES <= end, number(buffer, at + 2, ">u2"), 0)
    found = [np.zeros(len(at), np.int64) for _ in Inside._fields]
    inside = Inside(*found)
    good = np.zeros(len(at), np.bool_)
    for known, read in _BY_PORT.items():
        rows = np.flatnonzero(port == known)
        if rows.size:
            part, good[rows] = read(buffer, at[rows] + _UDP_BYTES, end[rows])
            for column, values in zip(inside, part, strict=True):
                column[rows] = values
    return inside, good


def _vxlan(buffer: Bytes, at: Ints, end: Ints) -> tuple[Inside, Bools]:
    """RFC 7348 5: the flag I, and the VNI. The first bit is set by Linux's group policy extension."""
    good = (at + 8 <= end) & (number(buffer, at, "u1") & 0x7F == 0x08)
    return _inside(at + 8, end, ETHERNET_FRAME, Kind.VXLAN, number(buffer, at + 4, ">u4") >> 8), good


def _geneve(buffer: Bytes, at: Ints, end: Ints) -> tuple[Inside, Bools]:
    """RFC 8926 3.4: version 0, options in words of four bytes, no control packet (bit O)."""
    first, protocol = number(buffer, at, ">u2"), number(buffer, at + 2, ">u2")
    payload = at + 8 + (first >> 8 & 0x3F) * 4
    good = (payload <= end) & (first >> 14 == 0) & (first & 0x80 == 0) & (protocol >= _MIN_ETHERTYPE)
    inner = np.where(protocol == _BRIDGED, ETHERNET_FRAME, protocol)
    return _inside(payload, end, inner, Kind.GENEVE, number(buffer, at + 4, ">u4") >> 8), good


def _gtp(buffer: Bytes, at: Ints, end: Ints) -> tuple[Inside, Bools]:
    """TS 29.281 5.1: version 1, message 255 (T-PDU), 4 more bytes if a flag is set, then extension headers (5.2)."""
    first, message = number(buffer, at, "u1"), number(buffer, at + 1, "u1")
    long = first & 7 > 0
    payload = at + np.where(long, 12, 8)
    good = (first >> 4 == 3) & (message == 255) & (payload <= end)
    more = good & (first & 4 > 0)
    for _ in range(_MOST_EXTENSIONS):
        more &= number(buffer, payload - 1, "u1") > 0  # the type of the next extension ends the header before it
        if not more.any():
            break
        size = number(buffer, payload, "u1") * 4
        good &= ~more | ((size > 0) & (payload + size <= end))
        more &= good
        payload = payload + np.where(more, size, 0)
    tunnel_id = number(buffer, at + 4, ">u4")
    return _inside(payload, end, IP_PACKET, Kind.GTP_U, tunnel_id), good & ~more  # ~more: the last one was found


def _inside(at: Ints, end: Ints, protocol: Ints | int, kind: Kind, tunnel_id: Ints) -> Inside:
    return Inside(at, at, end, np.broadcast_to(protocol, at.shape), np.full(len(at), kind), tunnel_id)


_BY_PORT: dict[int, Callable[[Bytes, Ints, Ints], tuple[Inside, Bools]]] = {
    4789: _vxlan,
    8472: _vxlan,  # Linux's default
    6081: _geneve,
    2152: _gtp,
}
