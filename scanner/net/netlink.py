"""Routing-netlink messages: bytes to facts and back, without a socket.

Interfaces, addresses and routes are requested from the kernel itself, because other sources tell only a part:
/proc/net/route and most libraries know the main table only, /sys shows the namespace it was mounted in, and the output
of `ip` is text for people. A netlink message is a 16-byte header, a fixed header of the message family, and
attributes (length, type, value, padding to four bytes). All but addresses is in the machine's byte order.

Only messages that a scanner needs are read here. A length that does not fit ends the walk, and what was read before it
counts. That a message has its fixed header, and a number its width, is taken from the kernel without a check. Of an
attribute that comes twice the last one counts.

Sources: RFC 3549 2.3 (framing), include/uapi/linux/{netlink,rtnetlink,if_link,if_addr,fib_rules,gen_stats}.h.
"""

import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from ..packet.headers import LINK_ETHERNET, LINK_RAW

Address = IPv4Address | IPv6Address

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x01, 0x10, 0x300
RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETRULE, RTM_GETQDISC = 18, 22, 26, 34, 38
RTM_F_FIB_MATCH = 0x2000  # answer with the entry of the table, not with the route made from it

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, ARPHRD, index, flags, change
ADDR = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
QDISC = struct.Struct("=BxxxiIII")  # tcmsg: family, index, handle, parent, info
ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, dst len, src len, tos, table, protocol, scope, type, flags
VERSION = {2: 4, 10: 6}  # AF_INET, AF_INET6
FAMILY = {4: 2, 6: 10}

# include/uapi/linux/if_arp.h: ARPHRD_PPP, RAWIP, NONE, TUNNEL, TUNNEL6, SIT, IPGRE
_NO_LINK_HEADER = (512, 519, 65534, 768, 769, 776, 778)
_IFF_LOOPBACK = 0x8
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_STATS64, _IFLA_INFO_KIND = 1, 3, 18, 23, 1
_TX_DROPPED = slice(7 * 8, 8 * 8)  # the eighth field of struct rtnl_link_stats64 (if_link.h)
# Of the queue that the interface itself has (TC_H_ROOT), which counts for those below it. In struct gnet_stats_queue
# the drops stand behind two fields (include/uapi/linux/gen_stats.h).
_ROOT_QUEUE, _TCA_STATS2, _TCA_STATS_QUEUE, _QUEUE_DROPS = 0xFFFFFFFF, 7, 3, slice(8, 12)
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_UNUSABLE = 0x08 | 0x40  # IFA_F_DADFAILED, IFA_F_TENTATIVE: not, or not yet, a source address
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_VIA, _RTA_IP_PROTO = 1, 2, 4, 5, 7, 18, 27
_TYPE_BITS = 0x3FFF  # the upper two bits are NLA_F_NESTED and NLA_F_NET_BYTEORDER
_TCP = b"\x06"
_NONE = b""


class RouteType(IntEnum):
    """What the kernel does with a packet to a destination (RTN_*)."""

    UNICAST = 1
    LOCAL = 2
    BROADCAST = 3
    ANYCAST = 4
    MULTICAST = 5
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8
    THROW = 9


class Message(NamedTuple):
    """One message; `body` starts at the family's fixed header."""

    kind: int
    flags: int
    body: bytes


@dataclass(frozen=True)
class Interface:
    """One interface. `link` is the LINKTYPE_ number of its frames: Ethernet, or raw IP where they have no link header.

    `tx_dropped` counts, since the interface was made, the frames that it dropped while sending.
    """

    name: str
    index: int
    mac: bytes | None
    link: int
    loopback: bool
    addresses: tuple[Address, ...] = ()
    tx_dropped: int = field(default=0, compare=False)
    kind: str = ""  # such as "veth" or "vlan"; physical interfaces have none


@dataclass(frozen=True)
class RouteFacts:
    """One RTM_NEWROUTE; what the message does not carry is None, or 0."""

    kind: int  # a RouteType, or a newer one
    index: int  # of the outgoing interface
    gateway: Address | None
    source: Address | None


def request(kind: int, header: bytes, pairs: Iterable[tuple[int, bytes]] = (), flags: int = 0) -> bytes:
    """One request, ready to send; NLM_F_REQUEST is added to `flags`. Padded so that requests can be joined."""
    body = header + b"".join(map(_attribute, pairs))
    return HEADER.pack(HEADER.size + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body


def _attribute(pair: tuple[int, bytes]) -> bytes:
    kind, value = pair
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def route_request(to: Address, source: Address | None, index: int | None, flags: int = 0) -> bytes:
    """RTM_GETROUTE for a TCP packet to `to`: the route by policy, for this source and outgoing interface if given."""
    bits = to.max_prefixlen
    pairs = [(_RTA_DST, to.packed), (_RTA_IP_PROTO, _TCP)]
    if source is not None:
        pairs.append((_RTA_SRC, source.packed))
    if index is not None:
        pairs.append((_RTA_OIF, struct.pack("=i", index)))
    header = ROUTE.pack(FAMILY[to.version], bits, bits if source is not None else 0, 0, 0, 0, 0, 0, flags)
    return request(RTM_GETROUTE, header, pairs)


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, _, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size or at + length > len(data):
            return
        yield Message(kind, flags, data[at + HEADER.size : at + length])
        at += length + (-length % 4)


def attributes(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """The attributes of a message body from offset `at` on: type and value."""
    while at + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, at)
        if length < ATTRIBUTE.size or at + length > len(body):
            return
        yield kind & _TYPE_BITS, body[at + ATTRIBUTE.size : at + length]
        at += length + (-length % 4)


def error_number(body: bytes) -> int:
    """The errno of an NLMSG_ERROR or NLMSG_DONE, positive; 0 is success."""
    return -int.from_bytes(body[:4], sys.byteorder, signed=True)


def address_of(packed: bytes) -> Address | None:
    """Four or sixteen bytes as an address; None for any other length."""
    return ip_address(packed) if len(packed) in (4, 16) else None


def link(body: bytes) -> Interface:
    """The body of an RTM_NEWLINK; no addresses yet. A hardware address that is not six bytes long is no MAC address."""
    _, kind, index, flags, _ = LINK.unpack_from(body)
    values = dict(attributes(body, LINK.size))
    mac = values.get(_IFLA_ADDRESS, _NONE)
    return Interface(
        name=values.get(_IFLA_IFNAME, _NONE).rstrip(b"\0").decode("utf-8", "surrogateescape"),
        index=index,
        mac=mac if len(mac) == 6 else None,
        link=LINK_RAW if kind in _NO_LINK_HEADER else LINK_ETHERNET,
        loopback=bool(flags & _IFF_LOOPBACK),
        tx_dropped=int.from_bytes(values.get(_IFLA_STATS64, _NONE)[_TX_DROPPED], sys.byteorder),
        kind=dict(attributes(values.get(_IFLA_LINKINFO, _NONE), 0)).get(_IFLA_INFO_KIND, _NONE).rstrip(b"\0").decode(),
    )


def queue_drops(body: bytes) -> tuple[int, int]:
    """The body of an RTM_NEWQDISC → (interface index, frames that the queue of the whole interface has dropped)."""
    _, index, _, parent, _ = QDISC.unpack_from(body)
    stats = dict(attributes(dict(attributes(body, QDISC.size)).get(_TCA_STATS2, _NONE), 0))
    drops = int.from_bytes(stats.get(_TCA_STATS_QUEUE, _NONE)[_QUEUE_DROPS], sys.byteorder)
    return index, drops if parent == _ROOT_QUEUE else 0


def interface_address(body: bytes) -> tuple[int, Address] | None:
    """The body of an RTM_NEWADDR → (interface index, our address).

    None for an address that cannot be used (duplicate detection failed or not over) and for other families.
    """
    family, _, flags, _, index = ADDR.unpack_from(body)
    values = dict(attributes(body, ADDR.size))
    flags |= int.from_bytes(values.get(_IFA_FLAGS, _NONE), sys.byteorder)
    # On a point-to-point link IFA_ADDRESS is the other end and IFA_LOCAL is ours.
    own = address_of(values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS, _NONE)))
    if own is None or family not in VERSION or flags & _UNUSABLE:
        return None
    return index, own


def route(body: bytes) -> RouteFacts:
    """The body of an RTM_NEWROUTE that answers `route_request`."""
    values = dict(attributes(body, ROUTE.size))
    # IPv4 by way of an IPv6 router comes as a struct rtvia: family (2 bytes), address.
    via = values.get(_RTA_VIA, _NONE)
    return RouteFacts(
        kind=body[7],
        index=int.from_bytes(values.get(_RTA_OIF, _NONE), sys.byteorder),
        gateway=address_of(via[2:] or values.get(_RTA_GATEWAY, _NONE)),
        source=address_of(values.get(_RTA_PREFSRC, _NONE)),
    )


def prefix(body: bytes) -> tuple[int, int, int]:
    """The body of an RTM_NEWROUTE or RTM_NEWRULE → (IP version, first address, how many addresses) of its destination.

    A fib_rule_hdr has the layout of an rtmsg, and FRA_DST the number of RTA_DST. Version 0 for other families.
    """
    version = VERSION.get(body[0], 0)
    bits = 32 if version == 4 else 128
    # The destination comes early. Full tables are long, so the walk stops there.
    for kind, value in attributes(body, ROUTE.size):
        if kind == _RTA_DST:
            return version, int.from_bytes(value, "big"), 1 << (bits - body[1])
    return version, 0, 1 << bits
