"""Whole scans against the network in memory, for tests.

A `Bench` is a scan over lanes made by hand. Its clock jumps to whatever happens next, so no test waits.
A `Link` puts Ethernet around the network in memory, with neighbours that answer ARP and neighbour discovery.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

import numpy as np
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from scanner.config import SynConfig
from scanner.halfopen.lane import Lane
from scanner.halfopen.scan import Scan, Settings
from scanner.halfopen.session import LiveScan, lane_facts
from scanner.halfopen.setup import Lanes
from scanner.packet import addresses, probe
from scanner.packet.cookie import Key
from scanner.packet.headers import LINK_ETHERNET, Bytes, Frames
from scanner.packet.template import Recipe
from scanner.rounds.checks import CHECK_PORTS
from scanner.rounds.rows import window_rows
from scanner.rounds.schedule import Keys
from scanner.rounds.session import Session
from scanner.rounds.statistics import ScanStats
from scanner.rounds.window import Window
from scanner.targets.hostspace import Shard
from scanner.targets.spaces import Spaces
from scanner.targets.spec import parse_hosts
from scanner.verdict.rows import Verdict
from tests.builders import KEY, OUR_MAC, OUR_PORT, SECOND, US
from tests.memory import Faults, Host, MemoryTransport

WHOLE, USUAL = Shard(), Settings()
KEYS = Keys(KEY, 5)
STEP = 200_000  # ns that one step takes, about as long as the program needs; what arrives meanwhile is read together


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
    source_port: int | None = None, shard: Shard = WHOLE, key: Key = KEY, order_key: int = KEY.k1,
    mac: str | None = None, gateway: str | None = None, spare_port: int | None = None, spaces: Spaces | None = None,
) -> Lane:  # fmt: skip
    """A lane by hand: source ports 40000 … one a pass, or the same one for all of them."""
    hosts = parse_hosts([targets], [], lambda name: [])
    version = 6 if ":" in targets else 4
    sender = (version, US[version], mac)
    return Lane(
        name="memory",
        version=version,
        spaces=Spaces(hosts, [np.array(list(ports), np.uint16)]) if spaces is None else spaces,
        transport=transport,
        our_address=addresses.from_text(US[version]),
        pass_ports=(source_port,) * (passes + 1) if source_port else tuple(range(OUR_PORT, OUR_PORT + passes + 1)),
        check_ports=() if source_port else tuple(range(OUR_PORT + passes + 1, OUR_PORT + passes + 1 + CHECK_PORTS)),
        probe=probe.prepare(Recipe("syn", *sender)),
        reset=probe.prepare(Recipe("reset", *sender)),
        syn_ack=probe.prepare(Recipe("syn-ack", *sender)),
        key=key,
        order_key=order_key,
        shard=shard,
        query=probe.prepare(Recipe("query", *sender)) if mac else None,
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
    least_step: int = STEP

    def step(self) -> None:
        """One step; then the clock jumps to the next arrival or deadline."""
        wait = self.scan.step(self.clock.now)
        self.collect()
        due = self.clock.now + max(1, math.ceil(wait * SECOND))
        arrivals = [when for transport in self.transports if (when := transport.next_arrival()) is not None]
        self.clock.now = max(self.clock.now + self.least_step, min([due, *arrivals]))

    def collect(self) -> None:
        """Take the rows of what has closed, as a session does."""
        windows = self.scan.windows
        while windows.closed:
            window = windows.closed.popleft()
            self.windows.append(window)
            self.rows += window_rows(window, self.clock.now - int(windows.patience(window) * SECOND))

    def stats(self) -> ScanStats:
        """The statistics of the windows that have closed."""
        stats = ScanStats()
        for window in self.windows:
            stats.add_window(window)
        self.scan.count(stats)
        return stats

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
    return Bench(Scan(lanes, settings, lanes[0].order_key), clock, transports)


def session_of(clock: Clock, lanes: list[Any], settings: Settings, **more: bool) -> Session:
    """A session whose sleep moves the clock on."""
    lanes = [replace(lane, name="lo") for lane in lanes]  # an interface whose drops can be counted
    scan = Scan(lanes, settings, lanes[0].order_key)
    engine = LiveScan(scan, Lanes(lanes, [lane.transport for lane in lanes], lambda: None), SynConfig(), clock, 1)

    def sleep(seconds: float) -> None:
        clock.now += max(1000, int(seconds * SECOND))

    engine.sleep = sleep  # type: ignore[method-assign]
    return Session(engine, ScanStats(), clock, KEYS, [lane_facts(lane) for lane in lanes], **more)


# ── the hosts of most whole scans ──

NET = {4: "198.18.1.0/28", 6: "2001:db8:1::/124"}
SILENCE = ("filtered", "no-response")
OPEN, CLOSED = ("open", "syn-ack"), ("closed", "reset")
NET_PORTS: dict[int, Any] = {22: "open", 80: "open", 81: "closed", 82: "drop", 443: "unreachable"}
WANTED = {22: OPEN, 80: OPEN, 81: CLOSED, 82: SILENCE, 443: ("filtered", "host-unreach")}


def answers_all(version: int = 4, count: int = 16, **ports: Any) -> dict[str, Host]:
    """Hosts that fill the net of the tests."""
    prefix = NET[version].split("/")[0].removesuffix("0" if version == 4 else "")
    if ports.get("ports"):
        unreachable = (3, 1) if version == 4 else (1, 3)
        actions = {port: unreachable if act == "unreachable" else act for port, act in ports["ports"].items()}
        ports = {**ports, "ports": actions}
    return {prefix + (str(i) if version == 4 else f"{i:x}" if i else ""): Host(**ports) for i in range(count)}


def wanted(version: int = 4) -> dict[tuple[str, int | None], tuple[str, str]]:
    return {(host, port): state for host in answers_all(version) for port, state in WANTED.items()}


def target(frame: bytes) -> tuple[str, int, int, int]:
    """(their address, their port, our port, sequence number) of a frame that we sent."""
    packet = IP(frame) if frame[0] >> 4 == 4 else IPv6(frame)
    return packet.dst, packet[TCP].dport, packet[TCP].sport, packet[TCP].seq


@dataclass
class Link:
    """Ethernet around the network in memory: neighbours answer for their address, the first `deaf` times not.

    `macs` may change while a scan runs: a neighbour without an entry is gone. `slow`: seconds that a neighbour takes to
    answer a query. `strict`: a frame to a wrong MAC address is lost; otherwise it is only counted.
    """

    inner: Any
    clock: Clock
    macs: dict[str, str]
    deaf: int = 0
    slow: dict[str, float] = field(default_factory=dict)
    strict: bool = False
    queries: list[str] = field(default_factory=list)
    wrong_macs: int = 0
    count: int = 0
    answers: list[tuple[int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.space = np.zeros((512, 256), np.uint8)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def reserve(self, limit: int) -> Bytes:
        return self.space[:limit]

    def sent(self) -> int:
        return self.count

    def next_arrival(self) -> int | None:
        due = [when for when, _ in self.answers] + [when for when in [self.inner.next_arrival()] if when is not None]
        return min(due, default=None)

    def commit(self, rows: int, length: int) -> None:
        self.count += rows
        frames = self.space[:rows, :length]
        packets = []
        for row in frames:
            raw = row.tobytes()
            if raw[12:14] == b"\x08\x06" or (raw[12:14] == b"\x86\xdd" and raw[20] == 58):
                self.ask(Ether(raw))
            else:
                address = ip_address(raw[30:34] if raw[14] >> 4 == 4 else raw[38:54]).compressed
                mac = self.macs.get(address, self.macs.get("gateway", ""))
                wrong = raw[:6] != bytes.fromhex(mac.replace(":", ""))
                self.wrong_macs += wrong
                if not (wrong and self.strict):
                    packets.append(row[14:])
        for at in range(0, len(packets), 512):
            part = packets[at : at + 512]
            self.inner.reserve(len(part))[:, : length - 14] = part
            self.inner.commit(len(part), length - 14)

    def ask(self, frame: Any) -> None:
        wanted = frame[ARP].pdst if ARP in frame else frame[ICMPv6ND_NS].tgt
        self.queries.append(wanted)
        mac = self.macs.get(wanted)
        if mac is None or self.queries.count(wanted) <= self.deaf:
            return
        if ARP in frame:
            reply = ARP(op=2, hwsrc=mac, psrc=wanted, hwdst=OUR_MAC, pdst=US[4])
        else:
            reply = IPv6(src=wanted, dst=US[6], hlim=255) / ICMPv6ND_NA(tgt=wanted) / ICMPv6NDOptDstLLAddr(lladdr=mac)
        when = self.clock.now + int(self.slow.get(wanted, 0.001) * SECOND)
        self.answers.append((when, bytes(Ether(src=mac, dst=OUR_MAC) / reply)))

    def recv(self) -> Frames:
        due = [answer for answer in self.answers if answer[0] <= self.clock.now]
        self.answers = [answer for answer in self.answers if answer[0] > self.clock.now]
        inner = self.inner.recv()
        for start, length, when in zip(inner.start, inner.length, inner.time, strict=True):
            packet = inner.buffer[start : start + length].tobytes()
            kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
            source = IP(packet).src if packet[0] >> 4 == 4 else IPv6(packet).src
            mac = self.macs.get(source) or self.macs.get("gateway")
            if mac is None:  # the neighbour has gone
                continue
            due.append((int(when), bytes.fromhex((OUR_MAC + mac).replace(":", "")) + kind + packet))
        length = np.array([len(frame) for _, frame in due], np.int64)
        start = np.cumsum(length) - length
        buffer = np.frombuffer(b"".join(frame for _, frame in due), np.uint8)
        return Frames(
            buffer,
            start,
            length,
            np.array([when for when, _ in due], np.int64),
            np.full(len(due), LINK_ETHERNET, np.uint16),
        )


def link(version: int, names: list[str], deaf: int = 0) -> tuple[Link, Clock]:
    clock = Clock()
    hosts = answers_all(version, ports=NET_PORTS)
    inner = memory({name: hosts[name] for name in names}, clock)
    macs = {name: f"02:00:00:00:01:{number:02x}" for number, name in enumerate(names)}
    return Link(inner, clock, macs, deaf), clock
