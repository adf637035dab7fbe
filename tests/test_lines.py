"""Inside the lines: no frame to an excluded address or port, and never more than the rate, whoever sends it.

A scene is a scan with excludes against hosts in memory, by a seed: its rate, hosts, ports, losses, and strangers who
send us segments from excluded addresses and ports. Together the scenes have every sender of a half-open scan. What the
kernel sends for handshakes is in `tests/live/test_lines_live.py`.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from ipaddress import ip_address
from typing import Any, NamedTuple

import numpy as np
import pytest

from scanner.connect.verify import CONTROL_PORTS, HIGH, control_ports
from scanner.halfopen.lane import Lane
from scanner.halfopen.scan import Settings
from scanner.packet.headers import Bytes
from scanner.targets.ports import parse_ports
from scanner.targets.spaces import Spaces
from scanner.targets.spec import parse_hosts
from scanner.verdict.loss import Bound
from tests.builders import OUR_MAC, SECOND, segment
from tests.memory import Faults
from tests.replies import Action, Host
from tests.simulation import NET, Bench, Clock, Link, bench_of, lane_of, memory

SEEDS = range(12)
RATES = (20.0, 300.0, 1000.0, 50_000.0)
ACTIONS: tuple[Action, ...] = ("open", "closed", "closed", "reject-reset", "drop", "split")
PORTS = range(20, 44)
ETHERNET, ARP_TYPE = 14, b"\x08\x06"
SYN, RST, SYN_ACK, SOLICITATION = 0x02, 0x04, 0x12, 58


class Frame(NamedTuple):
    """One frame of ours: when (ns), which kind, to or about which address, to which port (0: a query)."""

    time: int
    kind: str
    address: str
    port: int
    our_port: int


def read(raw: bytes, time: int, linked: bool) -> Frame:
    """What a frame is. The offsets are written here a second time, apart from the scanner's."""
    ip = raw[ETHERNET:] if linked else raw
    if linked and raw[12:14] == ARP_TYPE:
        return Frame(time, "query", str(ip_address(ip[24:28])), 0, 0)
    four = ip[0] >> 4 == 4
    if not four and ip[6] == SOLICITATION:
        return Frame(time, "query", str(ip_address(ip[48:64])), 0, 0)
    address, tcp = (ip[16:20], ip[20:]) if four else (ip[24:40], ip[40:])
    flags = tcp[13]
    kind = "reset" if flags & RST else "syn-ack" if flags == SYN_ACK else "SYN" if flags == SYN else hex(flags)
    return Frame(time, kind, str(ip_address(address)), *(int.from_bytes(tcp[at : at + 2], "big") for at in (2, 0)))


@dataclass
class Notes:
    """A wire around a wire that notes each frame of ours; `heard` is told of each."""

    inner: Any
    clock: Clock
    linked: bool
    heard: Callable[[Frame, bytes], None]
    frames: list[Frame] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def reserve(self, limit: int) -> Bytes:
        self.rows: Bytes = self.inner.reserve(limit)
        return self.rows

    def commit(self, rows: int, length: int) -> None:
        for row in self.rows[:rows, :length].copy():
            raw = row.tobytes()
            frame = read(raw, self.clock.now, self.linked)
            self.frames.append(frame)
            self.heard(frame, raw)
        self.inner.commit(rows, length)


class Scene:
    """A scan with excludes, all of it chosen by a seed."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.version = chance.choice((4, 6))
        self.linked, self.rate = seed % 3 == 0, RATES[seed % len(RATES)]
        names = [str(address) for address in self._addresses()]
        self.addresses = set(chance.sample(names, 6))
        self.ports = set(chance.sample(PORTS, 9))
        actions = {port: chance.choice(ACTIONS) for port in PORTS}
        self._split = {port for port, action in actions.items() if action == "split"}
        answers = {port: "drop" if action == "split" else action for port, action in actions.items()}
        self._hosts = {name: Host(dict(answers)) for name in names if chance.random() < 0.8}
        self._faults = Faults(lose_probes=chance.choice((0.0, 0.1)), lose_replies=chance.choice((0.0, 0.1)))
        self._clock = Clock()
        self._chance = chance

    def _addresses(self) -> list[Any]:
        first = ip_address(NET[self.version].split("/")[0])
        return [first + number for number in range(16)]

    def _lane(self) -> Lane:
        inner = memory(self._hosts, self._clock, self._faults)
        if self.linked:
            macs = {name: f"02:00:00:00:01:{number:02x}" for number, name in enumerate(self._hosts)}
            self.wire = Notes(Link(inner, self._clock, macs), self._clock, True, self._heard)
        else:
            self.wire = Notes(inner, self._clock, False, self._heard)
        targets = NET[self.version]
        excluded = ",".join(map(str, sorted(self.ports)))
        ports = parse_ports(f"{PORTS[0]}-{PORTS[-1]}", excluded)
        lane = lane_of(self.wire, targets, ports, mac=OUR_MAC if self.linked else None)
        hosts = parse_hosts([targets], sorted(self.addresses), lambda name: [])
        return replace(lane, spaces=Spaces(hosts, lane.spaces.sets))

    def _heard(self, frame: Frame, raw: bytes) -> None:
        """Split handshakes; and strangers who answer each probe from an excluded address, and from an excluded port."""
        if frame.kind != "SYN":
            return
        if frame.port in self._split:
            self._say("S", frame, frame.address, frame.port)
        stranger, port = self._chance.choice(sorted(self.addresses)), self._chance.choice(sorted(self.ports))
        for source in ((stranger, frame.port), (frame.address, port)):
            self._say(self._chance.choice(("SA", "S", "R")), frame, *source)

    def _say(self, flags: str, frame: Frame, address: str, port: int) -> None:
        fields = {"src": address, "sport": port, "dport": frame.our_port, "ack": self._chance.getrandbits(32)}
        when = self._clock.now + SECOND // 100
        if self.linked:
            ethernet = segment(flags, self.version, ethernet=True, **fields)
            self.wire.answers.append((when, ethernet))
        else:
            self.wire.deliver(segment(flags, self.version, **fields), when)

    def run(self) -> Bench:
        return bench_of(self._clock, [self._lane()], Settings(rate=self.rate, bound=Bound(3))).run()


@cache
def scanned(seed: int) -> tuple[Scene, Bench]:
    scene = Scene(seed)
    return scene, scene.run()


def most_above(times: list[int], rate: float) -> float:
    """The most frames of any interval beyond what the rate gives for its time."""
    seconds = np.sort(np.array(times)) / SECOND
    surplus = np.arange(len(seconds)) - rate * (seconds - seconds[0])
    return float((surplus - np.minimum.accumulate(surplus)).max()) + 1


@pytest.mark.parametrize("seed", SEEDS)
def test_no_frame_to_an_excluded_address_or_port(seed: int) -> None:
    scene, _ = scanned(seed)
    frames = scene.wire.frames
    assert [each for each in frames if each.address in scene.addresses or each.port in scene.ports] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_no_more_than_the_rate_and_one_burst_in_any_interval(seed: int) -> None:
    scene, done = scanned(seed)
    burst = done.scan.transmit.bucket.depth
    assert most_above([frame.time for frame in scene.wire.frames], scene.rate) <= burst + 0.001


@pytest.mark.parametrize("seed", SEEDS)
def test_every_frame_is_counted_by_its_kind(seed: int) -> None:
    scene, done = scanned(seed)
    counted = Counter(done.stats().sent)
    counted["SYN"] = counted.pop("probe", 0) + counted.pop("control", 0)
    assert +counted == Counter(frame.kind for frame in scene.wire.frames)


def test_the_scenes_have_every_sender() -> None:
    kinds: set[str] = set()
    for seed in SEEDS:
        scene, done = scanned(seed)
        kinds |= set(+done.stats().sent)
        checks = set(done.scan.lanes[0].check_ports)
        kinds |= {"check" for frame in scene.wire.frames if frame.our_port in checks}
    assert kinds == {"probe", "control", "check", "query", "reset", "syn-ack"}


@pytest.mark.parametrize("excluded", ["49152-65000", "49152-65530", "1-1023,50000-65535"])
def test_control_ports_keep_to_the_excluded_ports(excluded: str) -> None:
    barred = parse_ports(excluded)
    chosen = [control_ports(barred, key) for key in range(50)]
    allowed = set(range(HIGH[0], HIGH[1] + 1)) - set(barred.tolist())
    assert [(len(ports), set(ports) <= allowed) for ports in chosen] == [(CONTROL_PORTS, True)] * 50
