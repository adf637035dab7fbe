"""From a configuration to lanes: the only place that joins routes, ports, templates and transports.

The kernel is asked how each destination block leaves, and blocks that leave alike become one lane. Each source address
gets a run of held source ports, one for each pass. Each interface gets one transport, whose receive ring is armed
before anything is sent.
"""

import math
import os
from collections.abc import Callable, Collection
from contextlib import ExitStack, closing
from typing import NamedTuple

from ..config import PUBLIC_RATE, SynConfig
from ..net.interfaces import interface, interfaces, source_of
from ..net.netlink import Address
from ..net.routes import Route, Routes, find_routes
from ..packet import probe
from ..packet.addresses import from_ints, to_int
from ..packet.headers import ETHERNET, LINK_RAW
from ..packet.template import Recipe
from ..rounds.checks import CHECK_PORTS
from ..rounds.schedule import Keys
from ..targets.hostspace import HostSpace
from ..targets.spaces import Spaces
from ..targets.special import any_public
from ..transport import Transport
from ..transport.bpf import program
from ..transport.held_ports import HeldPorts, hold
from ..transport.interface_transport import ORDINARY_RATE, InterfaceTransport
from ..transport.rawip import RawIpTransport
from ..transport.ring import BLOCK, RX_BLOCKS, SLOT, Receiver
from ..transport.senders import open_senders
from ..verdict.loss import MAX_PASSES
from ..verdict.sentences import plural
from .lane import Lane

LEAST_RX_BLOCKS = 8  # 8,192 frames
FEW_TARGETS = 5000  # they need no senders for a higher rate, which take 10 ms to open

Warn = Callable[[str], None]


class Lanes(NamedTuple):
    """Lanes ready to scan. `close` gives sockets and ports back."""

    lanes: list[Lane]
    transports: list[Transport]
    close: Callable[[], None]
    unrouted: int = 0  # addresses without a route


Wrap = Callable[[Transport, Route], Transport]


def open_lanes(spaces: Spaces, config: SynConfig, keys: Keys, warn: Warn, wrap: Wrap) -> Lanes:
    """Look up routes, hold ports, open transports, and put each transport into `wrap`.

    Raises UsageError or ScanError; then nothing stays open.
    """
    with ExitStack() as stack:
        routes = routes_of(spaces.hosts, config, warn)
        routed = routes.hosts
        held = _hold(routed, config, warn, stack)
        transports = {}
        for wire, route in {_wire(route): route for route in routed}.items():
            sources = {other.source for other in routed if _wire(other) == wire}
            used = [port for source in sources for port in held[source].ports]
            transport = _open(route, sources, min(used), max(used), spaces, config, warn)
            stack.enter_context(closing(transport))
            transports[wire] = wrap(transport, route)
        lanes = [
            lane_of(route, spaces.within(part), transports[_wire(route)], held[route.source], config, keys)
            for route, part in routed.items()
        ]
        return Lanes(lanes, list(transports.values()), stack.pop_all().close, sum(map(len, routes.lost)))
    raise AssertionError("unreachable")


def _wire(route: Route) -> tuple[int, bool]:
    """Lanes with the same wire share a transport: interface, and whether it is this machine itself."""
    return route.interface.index, route.local


def routes_of(hosts: HostSpace, config: SynConfig, warn: Warn) -> Routes:
    """The hosts by the route to them. What has none is told. Sends and opens nothing.

    Raises UsageError if no host has a route, or one has none and shards must number the same hosts.
    """
    wanted = interface(config.interface) if config.interface else None
    routes = find_routes(hosts, interface=wanted, source=source_of(config.source_ip), whole=config.shard.of > 1)
    for skipped in (*routes.skipped, *routes.unreachable):
        warn(f"skipped {skipped}")
    return routes


def _hold(routed: Collection[Route], config: SynConfig, warn: Warn, stack: ExitStack) -> dict[object, HeldPorts]:
    """A run of source ports on each source address, or the single one of --source-port.

    The run has one port for each pass, one more for the control probes of the last pass, those for check probes, and a
    spare one.

    `stack` takes them over, so that those held before an error are given back.
    """
    held: dict[object, HeldPorts] = {}
    for route in routed:
        source = route.source
        if source not in held:
            count = 1 if config.source_port else config.passes + _check_ports(config) + 2
            quiet = any(not other.local for other in routed if other.source == source)
            ports_held = hold(source, config.source_port, count, _random(), _scope(route), quiet)
            held[source] = stack.enter_context(closing(ports_held))
            if not held[source].held:
                warn(f"{source} is not an address of this machine: the host that has it may reset what we open")
    return held


def _check_ports(config: SynConfig) -> int:
    """How many source ports check probes get; none where a record has no bits left for their pass numbers."""
    return CHECK_PORTS if config.passes + 1 + CHECK_PORTS <= MAX_PASSES else 0


def _scope(route: Route) -> int:
    """The index of the interface that has the source address: a route to this machine itself leads through `lo`."""
    faces = interfaces().values() if route.local else ()
    return next((face.index for face in faces if route.source in face.addresses), route.interface.index)


def _open(
    route: Route, sources: set[Address], first_port: int, last_port: int, spaces: Spaces, config: SynConfig, warn: Warn
) -> Transport:
    """The receive ring is sized by the scan: a large one takes tens of milliseconds to make."""
    face, targets = route.interface, spaces.targets
    sieve = program(0 if face.link == LINK_RAW else ETHERNET.itemsize, first_port, last_port)
    blocks = max(LEAST_RX_BLOCKS, min(RX_BLOCKS, 2 * targets // (BLOCK // SLOT)))
    receiver = Receiver(face.name, face.link, sieve, blocks)
    receiver.link_state.needs = frozenset(sources.intersection(face.addresses))
    if by_kernel(route, config):
        return RawIpTransport(receiver)
    receiver.link_state.mac = face.mac
    most = config.rate
    if most is None:
        most = ORDINARY_RATE if targets <= FEW_TARGETS else max_rate_of(config, spaces.hosts) or math.inf
    senders = open_senders(face, config.transport, config.senders, most)
    if config.transport == "xdp" and len(senders.fast) < config.senders:
        warn(f"{face.name} has {plural(len(senders.fast), 'transmit queue')}, so that AF_XDP uses {len(senders.fast)} "
             f"of {config.senders} senders; --transport ring uses all")  # fmt: skip
    return InterfaceTransport(receiver, senders)


def max_rate_of(config: SynConfig, hosts: HostSpace) -> float:
    """The upper end of --rate auto in frames a second; 0: none."""
    return config.max_rate or (PUBLIC_RATE if any_public(hosts) else 0.0)


def by_kernel(route: Route, config: SynConfig) -> bool:
    """Whether frames begin with the IP header, and the kernel finds their way."""
    return route.local or config.transport == "raw"


def lane_of(route: Route, spaces: Spaces, transport: Transport, held: HeldPorts, config: SynConfig, keys: Keys) -> Lane:
    """The lane of a route, and of the hosts that it leads to: its templates, its numbering and its order."""
    face = route.interface
    # Without a MAC address of ours, frames begin with the IP header.
    mac = None if by_kernel(route, config) or face.link == LINK_RAW or face.mac is None else face.mac.hex(":")
    sender = (route.source.version, str(route.source), mac)
    several = len(held.ports) > 1
    querier = ((route.gateway or route.source).version, _querier(route), mac)
    return Lane(
        name=face.name,
        version=route.source.version,
        spaces=spaces,
        transport=transport,
        our_address=from_ints([to_int(route.source)]),
        pass_ports=held.ports[: config.passes + 1] if several else held.ports * (config.passes + 1),
        probe=probe.prepare(Recipe("syn", *sender, config.options, config.ttl, config.tos)),
        reset=probe.prepare(Recipe("reset", *sender, ttl=config.ttl, tos=config.tos)),
        syn_ack=probe.prepare(Recipe("syn-ack", *sender, ttl=config.ttl, tos=config.tos)),
        key=keys.cookie,
        order_key=keys.order,
        shard=config.shard,
        query=None if mac is None else probe.prepare(Recipe("query", *querier)),
        gateway=None if mac is None or route.gateway is None else from_ints([to_int(route.gateway)]),
        clock_offset=_random(),
        check_ports=held.ports[config.passes + 1 : -1] if several else (),
        spare_port=held.ports[-1] if route.local and several else None,
    )


def _random() -> int:
    """32 bits that tell nothing of the keys: source ports and TCP time stamps are seen by everyone."""
    return int.from_bytes(os.urandom(4), "little")


def _querier(route: Route) -> str:
    """The address to query neighbours from. An IPv4 route through an IPv6 router (RFC 5549) uses an IPv6 address."""
    if route.gateway is None or route.gateway.version == route.source.version:
        return str(route.source)
    fitting = [str(address) for address in route.interface.addresses if address.version == route.gateway.version]
    return fitting[0] if fitting else str(route.source)
