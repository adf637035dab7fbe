"""The route to each target, as the kernel chooses it.

Routing is more than a table: policy rules, several tables, next-hop objects and source addresses decide, and a program
that reads only the main table sends some packets the wrong way. So the kernel's answers for real destinations are used
(RTM_GETROUTE, as `ip route get` does), but not one for each of 2^32 addresses. The answer can change only where a
prefix of some table, or of a rule, begins or ends. These places cut the targets into groups. One request for the first
address of each group is enough, and groups with the same answer are joined.

Limits: of a route over several next hops one is used for the whole group. IPv6 source selection (RFC 6724) can differ
within a group; one valid source is used. Rules that look at marks, TOS or ports are followed for an unmarked TCP
packet to port 0. A route that changes during the scan is not noticed.

Source: rtnetlink(7); net/ipv4/route.c and net/ipv6/route.c (what RTM_GETROUTE answers).
"""

import errno
import os
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..packet.addresses import from_ints, to_ints, to_text
from ..packet.headers import MAPPED
from ..targets.blocks import Span
from ..targets.hostspace import HostSpace
from ..targets.zones import Zones, zone_at
from . import netlink
from .interfaces import Refused, dump, exchange, interfaces
from .netlink import Address, Interface, Message, RouteType

SPANS_NAMED = 20  # that cannot be scanned for one reason
_IPV4_FIRST, _IPV4_END, _END = MAPPED, MAPPED + (1 << 32), 1 << 128
_LINK_LOCAL = IPv6Network("fe80::/10")
# Destinations that no host has, whatever the tables say (RFC 6890).
_NOT_HOSTS: dict[IPv4Network | IPv6Network, str] = {
    IPv4Network("0.0.0.0/8"): "an address of 'this network', no host",
    IPv4Network("224.0.0.0/4"): "a multicast address, no host",
    IPv4Network("255.255.255.255/32"): "the broadcast address, no host",
    IPv6Network("::/128"): "the unspecified address, no host",
    IPv6Network("ff00::/8"): "a multicast address, no host",
}
_REFUSALS = {
    errno.ENETUNREACH: "no route",
    errno.EHOSTUNREACH: "no route, or one of type unreachable",
    errno.EACCES: "a route of type prohibit",
    errno.EINVAL: "a route of type blackhole",
    errno.ENODEV: "the interface is gone",
}
# IPv4 answers such routes with an error, IPv6 in some kernels with a message of this type.
_DEAD_ENDS = {
    int(RouteType.BLACKHOLE): errno.EINVAL,
    int(RouteType.UNREACHABLE): errno.EHOSTUNREACH,
    int(RouteType.PROHIBIT): errno.EACCES,
    int(RouteType.THROW): errno.ENETUNREACH,
}


@dataclass(frozen=True)
class Route:
    """How a packet leaves. `gateway` None: the target is on the link. `local`: it is this machine itself.

    The gateway may be of the other family (RFC 5549: IPv4 by way of an IPv6 router).
    """

    interface: Interface
    gateway: Address | None
    source: Address
    local: bool


class Routes(NamedTuple):
    """The hosts by the route to them, and lines about the addresses that cannot be scanned.

    Each span of them has a line, ascending. Where one reason holds for very many, one more line sums up the rest.
    `skipped`: addresses that no host has. `unreachable`: addresses without a route, which `lost` holds.
    """

    hosts: dict[Route, HostSpace]
    skipped: list[str]
    unreachable: list[str]
    lost: list[HostSpace]


class NoRoute(UsageError):
    """There is no route to a target."""


class _Unusable(NamedTuple):
    """Why a destination gets no probe; `fatal` where hosts may be, so that they are missing in the scan."""

    reason: str
    fatal: bool


class _Wish(NamedTuple):
    """What the user wants, `-e` and `--source-ip`."""

    interface: Interface | None
    source: Address | None


_Answer = Route | _Unusable


def find_routes(
    hosts: HostSpace, *, interface: Interface | None = None, source: Address | None = None, whole: bool = False
) -> Routes:  # fmt: skip
    """The routes that the kernel gives for all hosts; `interface` and `source` are the user's wishes.

    A `source` that is not an address of this machine is kept and does not choose the route. Addresses that no host has
    (broadcast, multicast …) and those without a route are skipped with the reason as long as something is left to scan.
    Raises UsageError, naming the first address, where nothing is left, or with `whole` where there is no route.
    """
    # All hosts of a group have the same answer (see the module), so its first host stands for it.
    groups = _groups(hosts)
    by_answer: dict[_Answer, list[Span]] = {}
    answers = _answers_by_zone([first for first, _ in groups], hosts.zones, _Wish(interface, source))
    for answer, group in zip(answers, groups, strict=True):
        by_answer.setdefault(answer, []).append(group)
    usable: dict[Route, HostSpace] = {}
    others: list[tuple[Span, _Unusable]] = []
    further: dict[bool, list[str]] = {False: [], True: []}
    lost: list[HostSpace] = []
    for answer, spans in by_answer.items():
        part = hosts.within(spans)
        if isinstance(answer, Route):
            usable[answer] = part
        else:
            lost += [part] * answer.fatal
            named = part.spans(SPANS_NAMED)
            others += ((span, answer) for span in named)
            unnamed = part.size - sum(last - first + 1 for first, last in named)
            if unnamed:
                end = to_text(part.pick(part.size - 1))[0]
                further[answer.fatal].append(f"{unnamed:,} more addresses up to {end}: each {answer.reason}")
    others.sort()
    fatal = [other for other in others if other[1].fatal]
    if not usable or (whole and fatal):
        span, answer = (fatal or others)[0]
        raise (NoRoute if fatal else UsageError)(f"{_text(*span)} {answer.reason}")
    lines = {kind: [f"{_text(*span)}: {why.reason}" for span, why in others if why.fatal == kind] for kind in further}
    return Routes(usable, lines[False] + further[False], lines[True] + further[True], lost)


def routes_now(targets: list[int], zones: Zones, source: Address | None) -> list[Route | None]:
    """The route to each target at this moment; None: there is none."""
    answers = _answers_by_zone(targets, zones, _Wish(None, source))
    return [answer if isinstance(answer, Route) else None for answer in answers]


def boundaries(version: int) -> list[int]:
    """Where answers may change: the first address of each prefix of a table or rule, and the one behind its last.

    Ascending integers of the IP version given (4 or 6); the end of the whole address space is 2^32 or 2^128.
    """
    header = netlink.ROUTE.pack(netlink.FAMILY[version], 0, 0, 0, 0, 0, 0, 0, 0)
    cuts: set[int] = set()
    for network in (_LINK_LOCAL, *_NOT_HOSTS):
        if network.version == version:
            cuts.update((int(network[0]), int(network[-1]) + 1))
    for kind in (netlink.RTM_GETROUTE, netlink.RTM_GETRULE):
        for message in dump(kind, header):
            family, first, size = netlink.prefix(message.body)
            if family == version:
                cuts.update((first, first + size))
    return sorted(cuts)


def _groups(hosts: HostSpace) -> list[Span]:
    """The first and the last host between each two neighbouring cuts, where there are any, ascending."""
    cuts = {_IPV4_FIRST, _IPV4_END, *(edge for zone in hosts.zones for edge in (zone.first, zone.last + 1))}
    before, through = hosts.below(from_ints([_IPV4_FIRST, _IPV4_END])).tolist()
    ipv4_hosts = through - before
    if ipv4_hosts:
        cuts.update(MAPPED + boundary for boundary in boundaries(4))
    if ipv4_hosts < hosts.size:
        cuts.update(boundaries(6))
    # Numbers follow addresses, so the hosts between two cuts have the numbers begin … end - 1.
    number = np.concatenate([[0], hosts.below(from_ints(sorted(cut for cut in cuts if cut < _END))), [hosts.size]])
    begin, end = number[:-1], number[1:]
    some = begin < end
    ends = to_ints(hosts.pick(begin[some])), to_ints(hosts.pick(end[some] - 1))
    return list(zip(*ends, strict=True))


def _answers_by_zone(targets: list[int], zones: Zones, wish: _Wish) -> list[_Answer]:
    """What becomes of each target, in order. A zone takes the place of -e. Raises UsageError for an unknown zone."""
    names = [zone_at(zones, target) for target in targets]
    found: dict[int, _Answer] = {}
    for name in dict.fromkeys(names):
        rows = [row for row, other in enumerate(names) if other == name]
        here = wish if not name else wish._replace(interface=zone_interface(name, wish.interface))
        found.update(zip(rows, _answers([_address(targets[row]) for row in rows], here), strict=True))
    return [found[row] for row in range(len(targets))]


def zone_interface(name: str, wanted: Interface | None) -> Interface:
    """The interface of a zone: a name, or a number (RFC 4007 11.2). `wanted`: that of -e. Raises UsageError."""
    known = interfaces()
    by_name = {face.name: face for face in known.values()}
    face = by_name.get(name) or (known.get(int(name)) if name.isascii() and name.isdigit() else None)
    if face is None:
        raise UsageError(f"no interface {name!r} for the zone %{name}; there are: {', '.join(sorted(by_name))}")
    if wanted is not None and face.index != wanted.index:
        raise UsageError(f"the zone %{name} is not the interface of -e, {wanted.name}: leave one of them out")
    return face


def _answers(targets: list[Address], wish: _Wish) -> list[_Answer]:
    """What becomes of each target, in order."""
    known = [_known(target, wish) for target in targets]
    by_index = interfaces()
    replies = iter(
        _replies([target for target, answer in zip(targets, known, strict=True) if not answer], by_index, wish)
    )
    return [answer or _judge(next(replies), by_index, wish) for answer in known]


def _known(target: Address, wish: _Wish) -> _Unusable | None:
    """What is certain without the kernel."""
    if wish.source is not None and wish.source.version != target.version:
        return _Unusable(f"is IPv{target.version}, unlike the source address {wish.source}: one family at a time", True)
    if target in _LINK_LOCAL and wish.interface is None:
        return _Unusable("is link-local, every interface has its own: write fe80::1%eth0, or choose one with -e", False)
    for network, reason in _NOT_HOSTS.items():
        if target in network:
            return _Unusable(f"is {reason}", False)
    return None


def _replies(targets: list[Address], by_index: dict[int, Interface], wish: _Wish) -> list[Message | Refused]:
    """The kernel's answers."""
    # The kernel would refuse a source that is not ours.
    source = wish.source if wish.source is not None and _is_ours(wish.source) else None
    if wish.interface is None:
        return exchange([netlink.route_request(target, source, None) for target in targets])
    # This machine's own addresses are never reached through another interface, whatever the user wants.
    own = {address for interface in by_index.values() for address in interface.addresses}
    index = wish.interface.index
    requests = [(target, source, None if target in own or target.is_loopback else index) for target in targets]
    replies = exchange([netlink.route_request(*request) for request in requests])
    # If the request names an interface, the kernel treats an IPv4 target without a route as a neighbour on that link.
    # A request for the entry of the table (RTM_F_FIB_MATCH) is refused for such a target.
    entries = exchange([netlink.route_request(*request, netlink.RTM_F_FIB_MATCH) for request in requests])
    return [entry if isinstance(entry, Refused) else reply for reply, entry in zip(replies, entries, strict=True)]


def _is_ours(source: Address) -> bool:
    [answer] = exchange([netlink.route_request(source, None, None)])
    return not isinstance(answer, Refused) and netlink.route(answer.body).kind == RouteType.LOCAL


def _judge(reply: Message | Refused, by_index: dict[int, Interface], wish: _Wish) -> _Answer:
    if isinstance(reply, Refused):
        return _Unusable(_refusal(reply.errno, wish), True)
    facts = netlink.route(reply.body)
    interface = by_index.get(facts.index)
    if facts.kind == RouteType.BROADCAST:
        return _Unusable(f"is a broadcast address of {interface.name if interface else 'this machine'}, no host", False)
    if facts.kind == RouteType.MULTICAST:
        return _Unusable("is a multicast address, no host", False)
    if facts.kind in _DEAD_ENDS or interface is None:
        return _Unusable(_refusal(_DEAD_ENDS.get(facts.kind, errno.ENETUNREACH), wish), True)
    local = facts.kind in (RouteType.LOCAL, RouteType.ANYCAST) or interface.loopback
    if wish.interface is not None and not local and interface.index != wish.interface.index:
        return _Unusable(_refusal(errno.ENETUNREACH, wish), True)
    source = wish.source if wish.source is not None else facts.source
    if source is None:
        return _Unusable(f"would leave by {interface.name}, which has no address to send from: give --source-ip", True)
    return Route(interface, facts.gateway, source, local)


def _refusal(number: int, wish: _Wish) -> str:
    through = f" through {wish.interface.name}" if wish.interface is not None else ""
    origin = f" from {wish.source}" if wish.source is not None else ""
    what = _REFUSALS.get(number, os.strerror(number))
    if number == errno.EINVAL and wish.source is not None:
        what += ", or the source address does not fit"
    return f"cannot be reached{through}{origin} ({what}): leave it out (--exclude), or add a route"


def _address(number: int) -> Address:
    address = IPv6Address(number)
    return address.ipv4_mapped or address


def _text(first: int, last: int) -> str:
    return str(_address(first)) if first == last else f"{_address(first)}-{_address(last)}"
