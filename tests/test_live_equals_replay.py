"""A scan and its own recording say the same: every row's target, state, reason and TTL, and what its SYN/ACK said.

First whole scans against the network in memory, with every fault of the wire drawn from a seed; then the
lab's scenes, with real kernels, through the program's own session and its recording.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scanner.classifier.classification import Classification
from scanner.config import SynConfig
from scanner.halfopen.scan import Settings
from scanner.halfopen.session import syn_session
from scanner.lab import Box, PortKind
from scanner.lab.demo import add_demo_ports
from scanner.packet.headers import LINK_RAW
from scanner.targets.ports import parse_ports
from scanner.targets.spaces import Spaces
from scanner.targets.spec import parse_hosts
from scanner.trace import Watch
from scanner.transport.tap import Tap
from scanner.verdict.rows import Verdict
from tests.lab.live import live
from tests.lab.networks import direct_box, prefix_box, require, routed_box
from tests.memory import Faults, Host
from tests.simulation import Clock, bench_of, lane_of, memory

Row = tuple[str | int | None, ...]


def brief(rows: list[Verdict]) -> list[Row]:
    rows = sorted(rows, key=lambda row: (row.ip, row.port or 0))
    return [
        (row.ip, row.port, row.state, row.reason, row.ttl, row.icmp_from, row.window, row.mss, row.options)
        for row in rows
    ]


def replayed(path: Path) -> list[Verdict]:
    return [row for rows in Classification([str(path)], timeout=0).batches() for row in rows]


# ── in memory ──

WIRES = {
    "a clean wire": Faults(),
    "probes are lost": Faults(lose_probes=0.3),
    "replies are lost": Faults(lose_replies=0.3),
    "replies come twice": Faults(repeat=0.5),
    "replies overtake each other": Faults(delay=(0.0, 0.4)),
    "all of it": Faults(lose_probes=0.2, lose_replies=0.2, repeat=0.3, delay=(0.0, 0.3)),
}
PORTS = {22: "open", 80: "syn-proxy", 113: "reject-reset", 135: "drop"}
OPTIONS = [b"", bytes.fromhex("020405b4"), bytes.fromhex("020405b40402080a00000001000000020103030a")]
HOSTS4 = {f"198.18.1.{n}": Host(PORTS | {7: (3, n)}, ttl=50 + n, options=OPTIONS[n % 3]) for n in range(14)}
HOSTS6 = {f"2001:db8::{n:x}": Host(PORTS | {7: (1, n % 7)}, ttl=50 + n, options=OPTIONS[n % 3]) for n in range(14)}


@pytest.mark.parametrize("faults", WIRES.values(), ids=WIRES)
@pytest.mark.parametrize(("seed", "suffix"), [(0, "pcap"), (1, "pcapng.gz")])
@pytest.mark.parametrize("version", [4, 6])
def test_a_scan_in_memory(faults: Faults, seed: int, version: int, suffix: str, tmp_path: Path) -> None:
    clock = Clock()
    wire = memory(HOSTS4 if version == 4 else HOSTS6, clock, faults, seed)
    watch = Watch(str(tmp_path / f"scan.{suffix}"), False, [], False)
    watch.open({LINK_RAW})
    lane = lane_of(
        Tap(wire, watch.see[0], "memory", LINK_RAW, clock),
        "198.18.1.0/28" if version == 4 else "2001:db8::/124",
        (7, 22, 80, 113, 135, 443),
    )
    bench = bench_of(clock, [lane], Settings(timeout=1.0, rate=500.0 * seed))
    bench.transports = [wire]  # the tap knows of no arrivals
    bench.run()
    watch.close(0, clock.now, 0)
    assert brief(replayed(tmp_path / f"scan.{suffix}")) == brief(bench.rows)


def test_the_recording_of_silence_is_no_capture_of_one_direction(tmp_path: Path) -> None:
    clock = Clock()
    watch = Watch(str(tmp_path / "scan.pcapng"), False, [], False)
    watch.open({LINK_RAW})
    wire = memory({}, clock)
    bench = bench_of(clock, [lane_of(Tap(wire, watch.see[0], "memory", LINK_RAW, clock), "198.18.1.1", (80,))])
    bench.transports = [wire]
    bench.run()
    watch.close(0, clock.now, 0)
    rows = brief(replayed(tmp_path / "scan.pcapng"))
    assert rows == brief(bench.rows) == [("198.18.1.1", 80, "filtered", "no-response", *[None] * 5)]


# ── in the lab ──


@contextmanager
def routed() -> Iterator[Box]:
    with routed_box() as box:
        box.listen([22, 80])
        box.install(
            {PortKind.TCP_RESET: [113], PortKind.ADMIN_PROHIBITED: [3013], PortKind.DROP: [135]}, box.router, "forward"
        )
        box.install({PortKind.PORT_UNREACHABLE: [3003], PortKind.TCP_RESET: [114]})
        yield box


@contextmanager
def lossy() -> Iterator[Box]:
    with direct_box() as box:
        add_demo_ports(box)
        lose = "add rule inet loss input tcp dport 1-65535 numgen random mod 10 < 3 drop"
        require(
            box.target,
            f"add table inet loss\nadd chain inet loss input {{ type filter hook input priority -9 ; }}\n{lose}",
        )
        yield box


@contextmanager
def crowd() -> Iterator[Box]:
    with prefix_box(26) as box:
        box.listen([22])
        yield box


@contextmanager
def plain() -> Iterator[Box]:
    with direct_box() as box:
        add_demo_ports(box)
        yield box


MANY = "22,23,25,80,113,114,135,139,3000-3013,3102,3105,3106,8443"
SCENES: dict[str, tuple[Callable[[], object], list[str], str, float]] = {
    "every kind of port": (plain, ["198.18.0.2", "2001:db8::2"], MANY, 0),
    "behind a router": (routed, ["198.18.1.2", "2001:db8:1::2"], MANY, 0),
    "a firewall that drops three of ten": (lossy, ["198.18.0.2", "2001:db8::2"], MANY, 5000),
    "sixty neighbours": (crowd, ["198.18.0.0/26"], "22,23", 5000),
    "a network behind a next hop": (plain, ["198.19.0.0/27", "2001:db8:ff::/124"], "22,23,135,3013", 5000),
    "the machine itself": (plain, ["127.0.0.1", "198.18.0.1", "::1"], "22,23", 0),
    "two interfaces": (plain, ["127.0.0.1", "198.18.0.2"], "22,23,135", 0),
}


@pytest.mark.parametrize(("scene", "targets", "ports", "rate"), SCENES.values(), ids=SCENES)
@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
@live
def test_a_scan_in_the_lab(
    scene: Callable[[], object], targets: list[str], ports: str, rate: float, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"scan.{suffix}"
    watch = Watch(str(path), False, [], False)
    with scene() as box, box.scanner.entered():  # type: ignore[attr-defined]
        spaces = Spaces(parse_hosts(targets, [], lambda name: []), [parse_ports(ports)])
        config = SynConfig(rate=rate)
        session = syn_session(spaces, config, see=watch.see, before_frames=watch.open)
        started = session.now()
        rows = [row for batch in session.batches() for row in batch]
        watch.close(started, session.now(), session.stats().ring_drops)
    assert brief(replayed(path)) == brief(rows)
