"""From a request to lanes: the only place that joins routes, ports, templates and transports.

The kernel is asked how each destination block leaves; blocks that leave alike become one lane. Each
source address gets a run of held source ports, one for each pass, and each interface one transport,
whose receive ring is armed before anything is sent.
"""

from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..config import SynConfig
from ..errors import UsageError
from ..net import routes
from ..net.interfaces import interface
from ..net.routes import Route
from ..packet import probe
from ..packet.addresses import from_ints, to_int
from ..packet.cookie import Key
from ..targets.hostspace import HostSpace
from ..transport import Transport
from ..transport.bpf import program
from ..transport.held_ports import HeldPorts, hold
from ..transport.rawip import RawIpTransport
from ..transport.ring import BLOCK, NO_LINK_HEADER, RX_BLOCKS, SLOT, TX_BLOCKS, Receiver, Sender
from ..transport.ring_transport import RingTransport
from .lane import Lane

LEAST_RX_BLOCKS = 8  # 8,192 frames

Warn = Callable[[str], None]


class Wiring(NamedTuple):
    """Lanes ready to scan; `close` gives sockets and ports back."""

    lanes: list[Lane]
    transports: list[Transport]
    close: Callable[[], None]


class Way(NamedTuple):
    """What makes a lane: the route, and the part of the hosts that it leads to."""

    route: Route
    version: int
    hosts: HostSpace


Wrap = Callable[[Transport, Route], Transport]


def connect(
    hosts: HostSpace,
    ports: npt.NDArray[np.uint16],
    config: SynConfig,
    key: Key,
    warn: Warn,
    wrap: Wrap | None = None,
) -> Wiring:
    """Look up routes, hold ports, open transports, each put into `wrap` if there is one.

    Raises UsageError or ScanError; then nothing stays open.
    """
    with ExitStack() as stack:
        ways = ways_of(hosts, config, warn)
        held = {source: stack.enter_context(each) for source, each in _hold(ways, config, key, warn).items()}
        transports = {}
        for route in {_wire(way.route): way.route for way in ways}.values():
            sources = {way.route.source for way in ways if _wire(way.route) == _wire(route)}
            used = [port for source in sources for port in held[source].ports]
            transport = stack.enter_context(
                _Closing(_open(route, min(used), max(used), hosts.size * len(ports), config.senders))
            ).transport
            transports[_wire(route)] = wrap(transport, route) if wrap else transport
        lanes = [lane_of(way, transports[_wire(way.route)], held[way.route.source], ports, config, key) for way in ways]
        return Wiring(lanes, list(transports.values()), stack.pop_all().close)
    raise AssertionError("unreachable")


class _Closing(NamedTuple):
    """A transport as a context manager."""

    transport: Transport

    def __enter__(self) -> "_Closing":
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close()


def _wire(route: Route) -> tuple[int, bool]:
    return route.interface.index, route.local


def ways_of(hosts: HostSpace, config: SynConfig, warn: Warn) -> list[Way]:
    """The hosts by the way to them; what has none is told. Sends and opens nothing. Raises UsageError."""
    wished = interface(config.interface) if config.interface else None
    source = _source(config)
    found = routes.paths(hosts, interface=wished, source=source)
    for skipped in found.skipped:
        warn(f"skipped {_block(skipped.first, skipped.last)}: {skipped.reason}")
    blocks: dict[tuple[object, ...], tuple[Route, int, list[tuple[int, int]]]] = {}
    for path in found.paths:
        version = 4 if path.last >> 32 == 0xFFFF else 6
        kind = (path.route.interface.index, path.route.gateway, path.route.source, path.route.local, version)
        blocks.setdefault(kind, (path.route, version, []))[2].append((path.first, path.last))
    ways = [Way(route, version, hosts.within(spans)) for route, version, spans in blocks.values()]
    return [way for way in ways if way.hosts.size]


def _source(config: SynConfig) -> IPv4Address | IPv6Address | None:
    if config.source_ip is None:
        return None
    try:
        source = ip_address(config.source_ip)
    except ValueError:
        raise UsageError(f"--source-ip {config.source_ip!r} is not an address") from None
    if source.is_unspecified or source.is_multicast or int(source) == 0xFFFFFFFF:
        raise UsageError(
            f"--source-ip {source} is no address that a host can have; leave it out or name one of this machine"
        )
    return source


def _block(first: int, last: int) -> str:
    texts = [
        str(IPv4Address(each & 0xFFFFFFFF) if each >> 32 == 0xFFFF else IPv6Address(each)) for each in (first, last)
    ]
    return texts[0] if first == last else "-".join(texts)


def _hold(ways: list[Way], config: SynConfig, key: Key, warn: Warn) -> dict[object, HeldPorts]:
    """A run of source ports on each source address: one a pass and a spare one, or the single one asked for."""
    held: dict[object, HeldPorts] = {}
    for way in ways:
        source = way.route.source
        if source not in held:
            count = 1 if config.source_port else config.passes + 1
            quiet = any(not other.route.local for other in ways if other.route.source == source)
            held[source] = hold(source, config.source_port, count, key.k0, way.route.interface.index, quiet)
            if not held[source].held:
                warn(f"{source} is not an address of this machine: whoever has it may reset what we open")
    return held


def _open(route: Route, first_port: int, last_port: int, targets: int, senders: int) -> Transport:
    """The receive ring is sized by the scan: a large one takes tens of milliseconds to make."""
    face = route.interface
    sieve = program(0 if face.kind in NO_LINK_HEADER else 14, first_port, last_port)
    blocks = max(LEAST_RX_BLOCKS, min(RX_BLOCKS, 2 * targets // (BLOCK // SLOT)))
    receiver = Receiver(face.name, face.kind, sieve, blocks)
    if route.local:
        return RawIpTransport(receiver)
    blocks = TX_BLOCKS if senders == 1 else 2 * TX_BLOCKS
    return RingTransport(receiver, [Sender(face.name, blocks) for _ in range(senders)])


def lane_of(
    way: Way,
    transport: Transport,
    held: HeldPorts,
    ports: npt.NDArray[np.uint16],
    config: SynConfig,
    key: Key,
) -> Lane:
    """The lane of a way: its templates, its numbering and its order."""
    route = way.route
    mac = (
        None
        if route.local or route.interface.kind in NO_LINK_HEADER or route.interface.mac is None
        else _text(route.interface.mac)
    )
    endpoint = probe.Endpoint(way.version, str(route.source), mac)
    passes = held.ports[:-1] if len(held.ports) > 1 else held.ports * config.passes
    gateway = None if mac is None or route.gateway is None else from_ints([to_int(route.gateway)])
    asked = probe.Endpoint(route.gateway.version if route.gateway else way.version, _asker(route, way.version), mac)
    return Lane(
        name=route.interface.name,
        version=way.version,
        hosts=way.hosts,
        ports=ports,
        transport=transport,
        our_address=from_ints([to_int(route.source)]),
        pass_ports=passes,
        probe=probe.syn(endpoint, options=config.options, ttl=config.ttl, tos=config.tos, stamp=key.k0 & 0x7FFFFFFF),
        reset=probe.reset(endpoint, ttl=config.ttl, tos=config.tos),
        key=key,
        order_key=key.k1,
        shard=config.shard,
        query=None if mac is None else probe.query(asked),
        gateway=gateway,
        spare_port=held.ports[-1] if route.local and len(held.ports) > 1 else None,
    )


def _asker(route: Route, version: int) -> str:
    """The address to ask neighbours from; an IPv4 route through an IPv6 router asks from a link-local one."""
    if route.gateway is None or route.gateway.version == version:
        return str(route.source)
    fitting = [str(each.ip) for each in route.interface.addresses if each.version == route.gateway.version]
    return fitting[0] if fitting else str(route.source)


def _text(mac: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in mac)
