"""Frames made by Scapy, and whole scans against the network in memory, for all unit tests.

Scapy is the second opinion: no builder here uses the scanner's own tables, so a wrong offset cannot agree
with itself. Every argument has a default, and a test states only what it is about. A `Bench` is a scan
over hand-made lanes with a clock that jumps to whatever happens next.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import numpy as np
from scapy.config import conf

conf.route_autoload = conf.route6_autoload = False

from scapy.layers.inet import ICMP, IP, TCP  # noqa: E402
from scapy.layers.inet6 import ICMPv6Unknown, IPv6  # noqa: E402
from scapy.layers.l2 import Ether  # noqa: E402
from scapy.packet import Packet  # noqa: E402

from scanner.halfopen import results  # noqa: E402
from scanner.halfopen.lane import Lane  # noqa: E402
from scanner.halfopen.scan import Scan, Settings  # noqa: E402
from scanner.halfopen.window import Window  # noqa: E402
from scanner.packet import addresses, probe  # noqa: E402
from scanner.packet.cookie import Key  # noqa: E402
from scanner.packet.headers import LINK_ETHERNET, LINK_RAW, Frames  # noqa: E402
from scanner.targets.hostspace import Shard  # noqa: E402
from scanner.targets.spec import parse_hosts  # noqa: E402
from scanner.transport.memory import Faults, Host, MemoryTransport  # noqa: E402
from scanner.verdict.table import Verdict  # noqa: E402

US = {4: "198.18.0.1", 6: "2001:db8::1"}
THEM = {4: "198.18.1.7", 6: "2001:db8:1::7"}
ROUTER = {4: "198.18.9.9", 6: "2001:db8:9::9"}
OUR_MAC, THEIR_MAC = "02:00:00:00:00:01", "02:00:00:00:00:07"
OUR_PORT, THEIR_PORT = 40000, 443
KEY = Key(0x0706050403020100, 0x0F0E0D0C0B0A0908)
SECOND = 1_000_000_000
WHOLE, USUAL = Shard(), Settings()


def wrap(packet: Packet, ethernet: bool, ours: bool = False) -> bytes:
    """An IP packet as bytes, with an Ethernet header if wished."""
    source, target = (OUR_MAC, THEIR_MAC) if ours else (THEIR_MAC, OUR_MAC)
    return bytes(Ether(src=source, dst=target) / packet if ethernet else packet)


def network(version: int, src: str, dst: str, ttl: int = 64, tos: int = 0, **more: Any) -> Packet:
    """An IP header of either family."""
    if version == 4:
        return IP(src=src, dst=dst, ttl=ttl, tos=tos, **more)
    return IPv6(src=src, dst=dst, hlim=ttl, tc=tos, **more)


def syn(
    version: int = 4, *, src: str | None = None, dst: str | None = None, sport: int = OUR_PORT, dport: int = THEIR_PORT,
    seq: int = 1000, ethernet: bool = False, ttl: int = 64, tos: int = 4, **tcp: Any,
) -> bytes:  # fmt: skip
    """Our probe."""
    ip = network(version, src or US[version], dst or THEM[version], ttl, tos)
    return wrap(ip / TCP(sport=sport, dport=dport, seq=seq, flags="S", **tcp), ethernet, ours=True)


def segment(
    flags: str | int = "SA", version: int = 4, *, src: str | None = None, dst: str | None = None,
    sport: int = THEIR_PORT, dport: int = OUR_PORT, seq: int = 77, ack: int = 1001, window: int = 64240,
    ethernet: bool = False, ttl: int = 64, tos: int = 0, options: Sequence[tuple[str, Any]] = (), payload: bytes = b"",
) -> bytes:  # fmt: skip
    """A TCP segment from them to us, any flags."""
    ip = network(version, src or THEM[version], dst or US[version], ttl, tos)
    tcp = TCP(sport=sport, dport=dport, seq=seq, ack=ack, flags=flags, window=window, options=list(options))
    return wrap(ip / tcp / payload, ethernet)


def synack(version: int = 4, **more: Any) -> bytes:
    """The answer of a listener."""
    return segment("SA", version, **more)


def rst(version: int = 4, **more: Any) -> bytes:
    """The answer of a closed port."""
    return segment("RA", version, **more)


def unreachable(
    version: int = 4, *, quoting: bytes | None = None, kind: int | None = None, code: int = 1, quoted_tcp: int = 8,
    sender: str | None = None, dst: str | None = None, ethernet: bool = False, ttl: int = 64,
) -> bytes:  # fmt: skip
    """An ICMP error that quotes a probe: its IP header and the first `quoted_tcp` bytes behind it."""
    quote = (syn(version) if quoting is None else quoting)[: (20 if version == 4 else 40) + quoted_tcp]
    ip = network(version, sender or ROUTER[version], dst or US[version], ttl)
    if version == 4:
        return wrap(ip / ICMP(type=3 if kind is None else kind, code=code) / quote, ethernet)
    return wrap(ip / ICMPv6Unknown(type=1 if kind is None else kind, code=code, msgbody=bytes(4) + quote), ethernet)


def batch(*frames: bytes, link: int | Sequence[int] = LINK_RAW, times: Sequence[int] | None = None) -> Frames:
    """Frames in one buffer with strangers' bytes before, between and behind them."""
    gap = b"\x45\xff\x60"
    length = np.array([len(frame) for frame in frames], np.int64)
    start = len(gap) + np.cumsum(length + len(gap)) - length - len(gap)
    buffer = np.frombuffer(gap + b"".join(frame + gap for frame in frames), np.uint8)
    links = np.broadcast_to(np.asarray(link, np.uint16), len(frames)).copy()
    return Frames(buffer, start, length, np.array(times or range(1, len(frames) + 1), np.int64)[: len(frames)], links)


def ethernet_batch(*frames: bytes) -> Frames:
    """Frames that begin with an Ethernet header."""
    return batch(*frames, link=LINK_ETHERNET)


# ── whole scans ──


class Clock:
    """Nanoseconds since 1970, moved on by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        return self.now


def wire_bytes(text: str) -> bytes:
    """An address as it stands in an IP header."""
    return ip_address(text).packed


def memory(hosts: dict[str, Host], clock: Clock, faults: Faults | None = None, seed: int = 1) -> MemoryTransport:
    """A network of the given hosts; nobody else answers."""
    known = {wire_bytes(text): host for text, host in hosts.items()}
    return MemoryTransport(known.get, clock, faults or Faults(), seed)


def lane_of(
    transport: Any, targets: str = "198.18.1.0/28", ports: Iterable[int] = (22, 80, 443), *, passes: int = 11,
    source_port: int | None = None, shard: Shard = WHOLE, key: Key = KEY, mac: str | None = None,
    gateway: str | None = None, spare_port: int | None = None,
) -> Lane:  # fmt: skip
    """A lane by hand: source ports 40000 … one a pass, or the same one for all of them."""
    hosts = parse_hosts([targets], [], lambda name: [])
    version = 6 if ":" in targets else 4
    endpoint = probe.Endpoint(version, US[version], mac)
    return Lane(
        name="memory",
        version=version,
        hosts=hosts,
        ports=np.array(list(ports), np.uint16),
        transport=transport,
        our_address=addresses.from_text(US[version]),
        pass_ports=(source_port,) * passes if source_port else tuple(range(OUR_PORT, OUR_PORT + passes)),
        probe=probe.syn(endpoint),
        reset=probe.reset(endpoint),
        key=key,
        order_key=key.k1,
        shard=shard,
        query=probe.query(endpoint) if mac else None,
        gateway=addresses.from_text(gateway) if gateway else None,
        spare_port=spare_port,
    )


@dataclass
class Bench:
    """A scan, its clock, and everything it said."""

    scan: Scan
    clock: Clock
    transports: list[Any]
    rows: list[Verdict] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)

    def step(self) -> None:
        """One step; then the clock jumps to the next arrival or deadline."""
        wait = self.scan.step(self.clock.now)
        self.collect()
        due = self.clock.now + max(1, math.ceil(wait * SECOND))
        arrivals = [when for transport in self.transports if (when := transport.next_arrival()) is not None]
        self.clock.now = max(self.clock.now + 1, min([due, *arrivals]))

    def collect(self) -> None:
        """Take the rows of what has closed, as a session does."""
        cutoff = self.clock.now - int(self.scan.round_trips.wait() * SECOND)
        while self.scan.closed:
            window = self.scan.closed.popleft()
            self.windows.append(window)
            self.rows += results.rows(window, cutoff)

    def run(self, until: Callable[["Bench"], bool] = lambda bench: False) -> "Bench":
        """To the end, or until something is the case; a scan that does not end is an error."""
        for _ in range(300_000):
            if self.scan.done or until(self):
                self.collect()
                return self
            self.step()
        raise AssertionError("the scan does not end")

    def table(self) -> dict[tuple[str, int | None], tuple[str, str]]:
        """(address, port) → (state, reason); a target with two rows is an error."""
        found = {(row.ip, row.port): (row.state, row.reason) for row in self.rows}
        assert len(found) == len(self.rows)
        return found


def bench(
    hosts: dict[str, Host], *, faults: Faults | None = None, seed: int = 1, settings: Settings = USUAL, **lane: Any
) -> Bench:
    """A scan of one lane against hosts in memory."""
    clock = Clock()
    transport = memory(hosts, clock, faults, seed)
    return bench_of(clock, [lane_of(transport, **lane)], settings)


def bench_of(clock: Clock, lanes: list[Lane], settings: Settings = USUAL) -> Bench:
    """A scan of the given lanes."""
    transports = list({id(lane.transport): lane.transport for lane in lanes}.values())
    return Bench(Scan(lanes, settings, lanes[0].key), clock, transports)
