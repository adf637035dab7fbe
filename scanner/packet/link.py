"""Where IP begins in a captured frame, on every kind of link.

Captures come from Ethernet with VLAN tags, MPLS labels, PPPoE sessions or LLC/SNAP, from Linux cooked captures and BSD
loopbacks. A reader that knows only Ethernet would find nothing there, without an error. Here each row is a position and
the protocol that stands at it. A table maps each protocol to one step, which moves all rows with that protocol on by
one layer. So all frames advance in lockstep, one layer at a time, until each stands on IP or has a cause why not; the
causes are counted.

Plain Ethernet with IP inside, which nearly all frames are, has a path of its own: one gather and two comparisons.

Limits: at most 24 layers; USB and the like are "not supported"; NFLOG of little-endian machines only.

Sources: the LINKTYPE_ list of tcpdump.org; IEEE 802.1Q, 802.2; RFC 1042 (SNAP), RFC 3032 (MPLS), RFC 2516 (PPPoE),
RFC 1661 and 1662 (PPP), RFC 1547 (Cisco HDLC); include/uapi/linux/netfilter/nfnetlink_log.h (NFLOG); OpenBSD's
net/if_pflog.h and net/if_enc.h; draft-smith-kandula-sxp (Cisco metadata); `radio` has those of 802.11.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from . import radio
from .headers import (
    ETHERTYPE_ARP,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    LINK_ETHERNET,
    LINK_RAW,
    U8,
    Bytes,
    Frames,
    Ints,
    number,
    read,
)
from .radio import Radio


class Cause(IntEnum):
    """Why no network layer can be read in a frame; 0 where one can."""

    NONE = 0
    LINK_TYPE = 1
    TRUNCATED = 2
    ARP = 3
    NOT_IP = 4
    MALFORMED = 5
    ETHERTYPE = 6
    NO_DATA = 7
    ENCRYPTED = 8
    AGGREGATE = 9

    @property
    def words(self) -> str:
        """The cause as it is counted and printed."""
        return _WORDS[self]


# In the order of the numbers above.
_WORDS = (
    "IP", "link type not supported", "cut off before IP begins", "ARP", "not IP", "malformed link layer",
    "another EtherType", "802.11 without data", "encrypted 802.11", "several packets in one 802.11 frame",
)  # fmt: skip


class Network(NamedTuple):
    """`at` is where IP begins in frames.buffer (if it does), `version` 4, 6 or 0 for none, `cause` why none.

    `ethertype` is what stands at `at` where the cause is ETHERTYPE; elsewhere it has no meaning.
    """

    at: Ints
    version: U8
    cause: U8
    ethertype: Ints


# What may stand at a row's position. From 0x600 up it is an EtherType; below, it is a length, and 802.2 LLC follows, as
# in the type field of Ethernet (IEEE 802.3 3.2.6). Other protocols have numbers of ours beyond 16 bits.
_LLC, _MIN_ETHERTYPE = 0, 0x600
_MPLS, _MPLS_MULTICAST, _PPPOE = 0x8847, 0x8848, 0x8864
_VLAN = (0x8100, 0x88A8, 0x9100, 0x9200)  # 802.1Q, 802.1ad, and two numbers in use before 802.1ad
_CISCO_METADATA = 0x8909
IP_PACKET, ETHERNET_FRAME, _AF, _COOKED, _COOKED2, _PPP, _SERIAL, _CISCO = range(0x10000, 0x10008)
_NFLOG, _NFLOG_FIELD = range(0x10008, 0x1000A)
_PFLOG, _ENC, _RADIOTAP, _WIFI, _WIFI_PADDED, _WIFI_DAMAGED, _AMSDU = range(0x1000A, 0x10011)
NOT_IP, _BROKEN, _UNKNOWN_LINK, _NO_DATA, _ENCRYPTED, _AGGREGATE = range(0x10011, 0x10017)  # no step exists for these
_CAUSES: dict[int, int] = {
    NOT_IP: Cause.NOT_IP, IP_PACKET: Cause.NOT_IP, _BROKEN: Cause.MALFORMED, _UNKNOWN_LINK: Cause.LINK_TYPE,
    ETHERTYPE_ARP: Cause.ARP, _NO_DATA: Cause.NO_DATA, _ENCRYPTED: Cause.ENCRYPTED, _AGGREGATE: Cause.AGGREGATE,
}  # fmt: skip
_IP = (ETHERTYPE_IPV4, ETHERTYPE_IPV6, IP_PACKET)  # IP_PACKET: the version in the header decides

# By LINKTYPE_ number: NULL and LOOP, ETHERNET, PPP (which may hold Cisco HDLC), PPP_HDLC, PPP_ETHER, C_HDLC, LINUX_SLL
# and SLL2, RAW under three numbers, IPV4, IPV6, NFLOG, PFLOG, ENC, IEEE802_11 and IEEE802_11_RADIOTAP.
LINK_TYPES = {
    0: _AF, 108: _AF, LINK_ETHERNET: ETHERNET_FRAME, 9: _SERIAL, 50: _SERIAL, 51: _PPPOE, 104: _CISCO, 113: _COOKED,
    276: _COOKED2, 12: IP_PACKET, 14: IP_PACKET, LINK_RAW: IP_PACKET, 228: ETHERTYPE_IPV4, 229: ETHERTYPE_IPV6,
    239: _NFLOG, 117: _PFLOG, 109: _ENC, 105: _WIFI, 127: _RADIOTAP,
}  # fmt: skip

# AF_INET is 2 everywhere; AF_INET6 is 10 on Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS.
_ADDRESS_FAMILIES = {2: ETHERTYPE_IPV4, 10: ETHERTYPE_IPV6, 24: ETHERTYPE_IPV6, 28: ETHERTYPE_IPV6, 30: ETHERTYPE_IPV6}
# IANA's PPP DLL protocol numbers. Behind the address and control bytes ff 03 the protocol follows (RFC 1662 3.1).
_PPP_PROTOCOLS = {0x21: ETHERTYPE_IPV4, 0x57: ETHERTYPE_IPV6, 0x281: _MPLS, 0x283: _MPLS_MULTICAST, 0xFF03: _PPP}

_RADIO: dict[int, int] = {
    Radio.FRAME: _WIFI, Radio.PADDED_FRAME: _WIFI_PADDED, Radio.DAMAGED: _WIFI_DAMAGED, Radio.LLC: _LLC,
    Radio.NO_DATA: _NO_DATA, Radio.ENCRYPTED: _ENCRYPTED, Radio.AGGREGATE: _AMSDU,
}  # fmt: skip
_SHORTEST_PFLOG = 45  # of OpenBSD before 4.0

_U8, _U16 = np.dtype("u1"), np.dtype(">u2")
_MOST_LAYERS = 24


class _Step(NamedTuple):
    """One layer of at least `needs` bytes; `move(buffer, at)` gives the next positions and what stands there."""

    needs: int
    move: Callable[[Bytes, Ints], tuple[Ints, Ints]]


def network_layer(frames: Frames) -> Network:
    """Find IP in every frame: at int64[n], version uint8[n], cause uint8[n] (numbers of Cause). Accepts any bytes."""
    buffer, start, length = frames.buffer, frames.start, frames.length
    at = start + 14
    kind = read(buffer, start + 12, _U16)
    nibble = read(buffer, at, _U8).astype(np.uint8) >> 4  # the version, if IP begins here
    is_ipv4 = (kind == ETHERTYPE_IPV4) & (nibble == 4)
    plain = is_ipv4 | ((kind == ETHERTYPE_IPV6) & (nibble == 6))
    plain &= (frames.link == LINK_ETHERNET) & (length > 14)
    version = np.where(is_ipv4, np.uint8(4), np.uint8(6))
    cause, ethertype = np.zeros(len(frames), np.uint8), np.zeros(len(frames), np.int64)
    rest = np.flatnonzero(~plain)
    if len(rest):
        protocol = _lookup(LINK_TYPES, frames.link[rest].astype(np.int64), _UNKNOWN_LINK)
        walked = network_at(buffer, start[rest], (start + length)[rest], protocol)
        at[rest], version[rest], cause[rest], ethertype[rest] = walked
    return Network(at, version, cause, ethertype)


def network_at(buffer: Bytes, at: Ints, end: Ints, protocol: Ints) -> Network:
    """The same from other places, such as the payload of a tunnel. `protocol` is an EtherType or a number from above.

    Every row moves on, layer by layer, as far as it can; then the place it has come to decides.
    """
    at, protocol, rows = at.copy(), protocol.copy(), np.arange(len(at))
    for _ in range(_MOST_LAYERS - 1):
        # A row moves if its protocol has a step, and if the frame has the bytes that the step needs.
        needs = _lookup(_NEEDS, protocol[rows], 0)
        rows = rows[(needs > 0) & (needs <= end[rows] - at[rows])]
        if not rows.size:
            break
        # All rows that stand on the same protocol take its step at once.
        here = protocol[rows]
        for kind in np.flatnonzero(np.bincount(here)).tolist():
            same = rows[here == kind]
            at[same], protocol[same] = _STEPS[kind].move(buffer, at[same])
    version = number(buffer, at, "u1") >> 4
    # The version in the header must be that of the EtherType; without an EtherType it decides itself.
    expected = np.where(protocol == ETHERTYPE_IPV4, 4, np.where(protocol == ETHERTYPE_IPV6, 6, version))
    is_ip, left = np.isin(protocol, _IP), end - at
    good = is_ip & (left > 0) & (version == expected) & ((version == 4) | (version == 6))
    # A protocol that has a step is no place to end: its bytes are missing, or there were too many layers.
    needs = np.where(is_ip, 1, _lookup(_NEEDS, protocol, 0))
    cause = np.select(
        [good, needs > left, (needs > 0) & (protocol != IP_PACKET)],
        [np.uint8(cause) for cause in (Cause.NONE, Cause.TRUNCATED, Cause.MALFORMED)],
        _lookup(_CAUSES, protocol, Cause.ETHERTYPE),
    )
    return Network(at, np.where(good, version, np.uint8(0)), cause.astype(np.uint8), protocol)


def _lookup(table: dict[int, int], keys: Ints, default: int) -> Ints:
    """table[key] for a column of keys."""
    known, values = np.array(sorted(table.items()), np.int64).T
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[place] == keys, values[place], default)


def _typed(type_at: int, payload_at: int) -> _Step:
    """A header that holds an EtherType, or a length, at a fixed place, and nothing else of interest."""

    def move(buffer: Bytes, at: Ints) -> tuple[Ints, Ints]:
        ethertype = number(buffer, at + type_at, ">u2")
        return at + payload_at, np.where(ethertype < _MIN_ETHERTYPE, _LLC, ethertype)

    return _Step(payload_at, move)


def _llc(buffer: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """802.2: SNAP (aa aa 03) with OUI 0, that of EtherTypes, goes on (RFC 1042); everything else is not IP."""
    snap = (number(buffer, at, ">u4") == 0xAAAA0300) & (number(buffer, at + 4, ">u2") == 0)
    ethertype = number(buffer, at + 6, ">u2")
    return at + 8, np.where(snap & (ethertype >= _MIN_ETHERTYPE), ethertype, NOT_IP)


def _mpls(buffer: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """One label. Behind the last one (bit 8 is set) only the version tells what follows (RFC 3032 2.1, 2.2)."""
    return at + 4, np.where(number(buffer, at, ">u4") & 0x100, IP_PACKET, _MPLS)


def _pppoe(buffer: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """Version 1, type 1, code 0 is session data; other codes are discovery (RFC 2516 4)."""
    return at + 6, np.where(number(buffer, at, ">u2") == 0x1100, _PPP, NOT_IP)


def _ppp(buffer: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """The bytes ff 03 may be left out; a protocol whose first byte is odd is one byte long (RFC 1661 2, 6.5, 6.6)."""
    first, both = number(buffer, at, "u1"), number(buffer, at, ">u2")
    short = (first & 1 == 1) & (both != 0xFF03)
    return at + np.where(short, 1, 2), _lookup(_PPP_PROTOCOLS, np.where(short, first, both), NOT_IP)


def _pflog(buffer: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """The length, which differs between systems and leaves out the padding to four bytes; then the address family."""
    size = number(buffer, at, "u1")
    protocol = _lookup(_ADDRESS_FAMILIES, number(buffer, at + 1, "u1"), NOT_IP)
    return at + (size + 3 & ~3), np.where(size < _SHORTEST_PFLOG, _BROKEN, protocol)


def _radiotap(buffer: Bytes, at: Ints) -> tuple[Ints, Ints]:
    at, kind = radio.radiotap(buffer, at)
    return at, _lookup(_RADIO, kind, NOT_IP)


def _wifi(padded: bool) -> _Step:
    """The header of an 802.11 frame."""

    def move(buffer: Bytes, at: Ints) -> tuple[Ints, Ints]:
        at, kind = radio.frame(buffer, at, padded)
        return at, _lookup(_RADIO, kind, NOT_IP)

    return _Step(24, move)


def _end(needs: int, protocol: int) -> _Step:
    """An end that was told by bytes which lie in the frame only if `needs` more bytes do."""
    return _Step(needs, lambda _, at: (at, np.full(len(at), protocol)))


def _serial(buffer: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """PPP in HDLC framing, or Cisco HDLC, which begins with 0f (unicast) or 8f (multicast)."""
    first = number(buffer, at, "u1")
    return at, np.where((first == 0x0F) | (first == 0x8F), _CISCO, _PPP)


def _af(buffer: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """An address family of the capturing machine, in its byte order: of both readings the small one is right."""
    family = number(buffer, at, ">u4")
    family = np.where(family > 0xFFFF, number(buffer, at, "<u4"), family)
    return at + 4, _lookup(_ADDRESS_FAMILIES, family, NOT_IP)


def _nflog(buffer: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """Family, version 0, resource number; then fields of length, type and value."""
    return at + 4, np.where(number(buffer, at + 1, "u1") == 0, _NFLOG_FIELD, NOT_IP)


def _nflog_field(buffer: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """Type 9 (NFULA_PAYLOAD) is the packet; other fields are skipped, padded to four bytes."""
    size = number(buffer, at, "<u2")
    payload = number(buffer, at + 2, "<u2") & 0x7FFF == 9
    protocol = np.where(size < 4, _BROKEN, np.where(payload, IP_PACKET, _NFLOG_FIELD))
    return at + np.where(payload, 4, (size + 3) & ~3), protocol


_STEPS = {
    _LLC: _Step(8, _llc),
    **{tag: _typed(2, 4) for tag in _VLAN},
    _MPLS: _Step(4, _mpls),
    _MPLS_MULTICAST: _Step(4, _mpls),
    _PPPOE: _Step(6, _pppoe),
    ETHERNET_FRAME: _typed(12, 14),
    _AF: _Step(4, _af),
    _COOKED: _typed(14, 16),
    _COOKED2: _typed(0, 20),
    _PPP: _Step(2, _ppp),
    _SERIAL: _Step(2, _serial),
    _CISCO: _typed(2, 4),
    _CISCO_METADATA: _typed(6, 8),
    _PFLOG: _Step(4, _pflog),
    _ENC: _Step(12, lambda buffer, at: (at + 12, _af(buffer, at)[1])),
    _RADIOTAP: _Step(8, _radiotap),
    _WIFI: _wifi(padded=False),
    _WIFI_PADDED: _wifi(padded=True),
    _WIFI_DAMAGED: _end(24, _BROKEN),
    _AMSDU: _end(8, _AGGREGATE),
    _NFLOG: _Step(4, _nflog),
    _NFLOG_FIELD: _Step(4, _nflog_field),
}
_NEEDS = {kind: step.needs for kind, step in _STEPS.items()}
