"""Whole scans, against a network in memory and a clock that jumps."""

import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from scanner.halfopen.neighbours import answers
from scanner.halfopen.scan import Settings
from scanner.packet.addresses import from_text, to_text
from scanner.packet.cookie import sequence
from scanner.packet.headers import Bytes, Frames
from scanner.targets.hostspace import Shard
from scanner.verdict.loss import Bound
from scanner.verdict.rows import Verdict
from tests.builders import KEY, OUR_MAC, OUR_PORT, SECOND, THEIR_MAC, ethernet_batch, rst, segment, synack
from tests.memory import Faults, Host
from tests.simulation import (
    CLOSED,
    NET,
    NET_PORTS,
    OPEN,
    SILENCE,
    WANTED,
    Bench,
    Clock,
    answers_all,
    bench,
    bench_of,
    lane_of,
    link,
    memory,
    target,
    wanted,
    wire_bytes,
)

PORT_1 = OUR_PORT.to_bytes(2, "big")
HOST = {4: "198.18.1.7", 6: "2001:db8:1::7"}


def flow_words(frame: bytes) -> tuple[bytes, bytes]:
    """The same without Scapy, for comparing many: the target's address, and ports with sequence number."""
    return (frame[16:20], frame[20:28]) if frame[0] >> 4 == 4 else (frame[24:40], frame[40:48])


@dataclass
class Tap:
    """A wire around a wire: notes what was sent when and what arrived, has little room, lets frames leave late."""

    inner: Any
    clock: Clock
    rows: Callable[[int], int] = lambda limit: limit
    lag: int = 0  # ns that a frame stays in the ring
    arrived: list[bytes] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    queued: deque[tuple[int, int]] = field(default_factory=deque)  # when frames leave, and how many have left then
    left: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def reserve(self, limit: int) -> Bytes:
        rows: Bytes = self.inner.reserve(min(limit, self.rows(limit)))
        return rows

    def commit(self, rows: int, length: int) -> None:
        self.inner.commit(rows, length)
        self.times += [self.clock.now] * rows
        self.queued.append((self.clock.now + self.lag, self.inner.sent()))

    def sent(self) -> int:
        while self.queued and self.queued[0][0] <= self.clock.now:
            self.left = self.queued.popleft()[1]
        return self.left

    def recv(self) -> Frames:
        frames: Frames = self.inner.recv()
        self.arrived += [frames.buffer[s : s + n].tobytes() for s, n in zip(frames.start, frames.length, strict=True)]
        return frames

    def inject(self, frame: bytes, after: float) -> None:
        """A frame from a stranger, so many seconds from now."""
        self.inner.deliver(frame, self.clock.now + int(after * SECOND))


def tapped(hosts: dict[str, Host], faults: Faults | None = None, seed: int = 1, **tap: Any) -> tuple[Tap, Clock]:
    clock = Clock()
    return Tap(memory(hosts, clock, faults, seed), clock, **tap), clock


# ── one row of each kind ──

STATES: dict[int, dict[int, tuple[Any, tuple[str, str], tuple[str, ...]]]] = {
    4: {
        1: ("open", OPEN, ()),
        2: ("closed", CLOSED, ()),
        3: ("drop", SILENCE, ()),
        4: ("reject-reset", CLOSED, ()),
        5: ("syn-proxy", OPEN, ("syn-proxy",)),
        6: ((3, 0), ("filtered", "net-unreach"), ()),
        7: ((3, 1), ("filtered", "host-unreach"), ()),
        8: ((3, 2), ("filtered", "proto-unreach"), ()),
        9: ((3, 3), ("filtered", "port-unreach"), ()),
        10: ((3, 7), ("filtered", "dest-unreach"), ()),
        11: ((3, 9), ("filtered", "net-prohibited"), ()),
        12: ((3, 10), ("filtered", "host-prohibited"), ()),
        13: ((3, 13), ("filtered", "admin-prohibited"), ()),
        14: ((11, 0), ("filtered", "time-exceeded"), ()),
        15: ((5, 0), SILENCE, ()),
        16: ((0, 0), SILENCE, ()),
    },
    6: {
        1: ("open", OPEN, ()),
        2: ("closed", CLOSED, ()),
        3: ("drop", SILENCE, ()),
        4: ("reject-reset", CLOSED, ()),
        6: ((1, 0), ("filtered", "no-route"), ()),
        7: ((1, 1), ("filtered", "admin-prohibited"), ()),
        8: ((1, 2), ("filtered", "beyond-scope"), ()),
        9: ((1, 3), ("filtered", "host-unreach"), ()),
        10: ((1, 4), ("filtered", "port-unreach"), ()),
        11: ((1, 5), ("filtered", "admin-prohibited"), ()),
        12: ((1, 6), ("filtered", "reject-route"), ()),
        13: ((3, 0), ("filtered", "time-exceeded"), ()),
        14: ((4, 1), ("filtered", "param-problem"), ()),
        15: ((2, 0), SILENCE, ()),
        16: ((129, 0), SILENCE, ()),
    },
}


@pytest.mark.parametrize("version", [4, 6])
def test_every_state(version: int) -> None:
    kinds = STATES[version]
    ports = {port: action for port, (action, *_) in kinds.items()}
    done = bench({HOST[version]: Host(dict(ports), ttl=57)}, targets=HOST[version], ports=ports).run()
    assert done.table() == {(HOST[version], port): state for port, (_, state, _) in kinds.items()}


def bare(row: Verdict) -> Verdict:
    """Without what the random delays decide."""
    assert row.reason == "no-response" or (row.rtt_ms is not None and 0.9 < row.rtt_ms < 2.2 and row.time)
    return row._replace(time=None, rtt_ms=None)


def test_whole_rows() -> None:
    ports: dict[int, Any] = {80: "open", 81: "closed", 82: "drop", 443: (3, 13)}
    done = bench({HOST[4]: Host(ports, ttl=57)}, targets=HOST[4], ports=ports).run()
    assert sorted(map(bare, done.rows), key=lambda row: row.port or 0) == [
        Verdict(HOST[4], 80, "open", "syn-ack", ttl=57, service="http", pass_=1, window=64240, options="none"),
        Verdict(HOST[4], 81, "closed", "reset", ttl=57, pass_=1),
        Verdict(HOST[4], 82, "filtered", "no-response", service="xfer"),
        Verdict(HOST[4], 443, "filtered", "admin-prohibited", ttl=57, service="https", pass_=1),
    ]


# ── what the wire does to frames changes no verdict ──

WIRES = {
    "perfect": Faults(),
    "a fifth lost each way": Faults(lose_probes=0.2, lose_replies=0.2),
    "probes lost": Faults(lose_probes=0.3),
    "replies lost": Faults(lose_replies=0.3),
    "everything twice": Faults(repeat=1.0),
    "far away, out of order": Faults(delay=(0.05, 0.9)),
    "all of it": Faults(0.1, 0.1, 0.3, (0.001, 0.6)),
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", WIRES)
def test_a_wire_with_faults(name: str, version: int) -> None:
    done = bench(answers_all(version, ports=NET_PORTS), faults=WIRES[name], targets=NET[version], ports=NET_PORTS).run()
    assert done.table() == wanted(version)
    assert max(window.estimate.missed for window in done.windows) < 0.011


def test_replies_slower_than_the_first_wait_still_count() -> None:
    """The next pass is under way when they come; they are credited to the one they answer."""
    hosts = {HOST[4]: Host({80: "open", 81: "closed"})}
    done = bench(hosts, faults=Faults(delay=(1.5, 1.6)), targets=HOST[4], ports=(80, 81)).run()
    assert sorted((row.port, row.state, row.pass_, row.evidence) for row in done.rows) == [
        (80, "open", 1, ("late",)),
        (81, "closed", 1, ("late",)),
    ]
    assert all(1500 <= (row.rtt_ms or 0) <= 1600 for row in done.rows)


def test_repeats_are_named() -> None:
    host = Host({80: "open", 81: "closed", 82: "drop"})
    done = bench({HOST[4]: host}, faults=Faults(repeat=1.0), targets=HOST[4], ports=(80, 81, 82)).run()
    assert {row.port: row.evidence for row in done.rows} == {80: ("repeat",), 81: ("repeat",), 82: ()}


def owed_and_paid(tap: Tap) -> None:
    """One reset to each SYN/ACK's sender, with the acknowledged number."""
    accepted = [IP(frame) for frame in tap.arrived if frame[9] == 6 and frame[33] & 0x12 == 0x12]
    owed = Counter((reply.src, reply[TCP].sport, reply[TCP].dport, reply[TCP].ack) for reply in accepted)
    assert Counter(target(frame) for frame in tap.resets_seen) == owed


@pytest.mark.parametrize("name", WIRES)
def test_a_reset_for_every_syn_ack_and_for_nothing_else(name: str) -> None:
    tap, clock = tapped(answers_all(ports=NET_PORTS), WIRES[name])
    # A target with more than eight replies gets no reset for the later ones, so there are eight passes at most.
    bench_of(clock, [lane_of(tap, ports=NET_PORTS)], Settings(bound=Bound(8))).run()
    owed_and_paid(tap)
    assert {str(IP(frame)[TCP].flags) for frame in tap.resets_seen} == {"R"}


# ── what is sent ──


def test_passes_have_their_own_ports_and_ask_only_the_silent() -> None:
    """Besides control probes to those that have answered."""
    hosts = {HOST[4]: Host({80: "open", 81: "closed", 82: "drop", 83: (3, 1)})}
    done = bench(hosts, targets=HOST[4], ports=(80, 81, 82, 83), settings=Settings(bound=Bound(3, 1e-9))).run()
    asked: dict[int, list[int]] = {}
    for _, port, source, _ in map(target, done.transports[0].probes_seen):
        asked.setdefault(source, []).append(port)
    assert {source: sorted(ports) for source, ports in asked.items()} == {
        OUR_PORT: [80, 81, 82, 83],
        OUR_PORT + 1: [82],
        OUR_PORT + 2: [80, 81, 82],  # control probes of pass 2 leave from the port of pass 3
        OUR_PORT + 3: [80, 81],
    }


@pytest.mark.parametrize("version", [4, 6])
def test_every_probe_carries_its_cookie(version: int) -> None:
    done = bench({}, targets=NET[version], ports=(80,), settings=Settings(bound=Bound(1))).run()
    for address, port, source, number in map(target, done.transports[0].probes_seen):
        assert sequence(KEY, version, from_text(address), np.array([port], np.uint16), source).tolist() == [number]


def first_probes(done: Bench) -> Counter[tuple[bytes, bytes]]:
    """How often each (address, port) was asked in the first pass."""
    flows = (flow_words(frame) for each in done.transports for frame in each.probes_seen)
    return Counter((address, ports[2:4]) for address, ports in flows if ports[:2] == OUR_PORT.to_bytes(2, "big"))


@pytest.mark.parametrize("rate", [10.0, 50.0, 0.0])
@pytest.mark.parametrize("count", [1, 3])
def test_many_windows_and_shards_ask_every_target_once(rate: float, count: int) -> None:
    space = "198.18.4.0/24"
    settings = Settings(rate=rate, bound=Bound(2), timeout=0.5)
    asked: Counter[tuple[bytes, bytes]] = Counter()
    table: dict[tuple[str, int | None], tuple[str, str]] = {}
    windows = 0
    for number in range(1, count + 1):
        done = bench({}, targets=space, ports=(22, 80), settings=settings, shard=Shard(number, count)).run()
        asked += first_probes(done)
        assert not table.keys() & done.table().keys()
        table |= done.table()
        windows += len(done.windows)
    everyone = {(f"198.18.4.{i}", port) for i in range(256) for port in (22, 80)}
    assert (table, set(asked.values()), len(asked)) == (dict.fromkeys(everyone, SILENCE), {1}, 512)
    assert windows >= (256 / (10 * rate / 2) if rate else 1)


def test_as_many_windows_are_open_as_keep_the_rate() -> None:
    """Each window is sent in two seconds, and its silence takes two times 30 s. The rate does not wait for that."""
    tap, clock = tapped({})
    lane = lane_of(tap, "198.18.4.0/24", (22, 80))
    done = bench_of(clock, [lane], Settings(rate=16, bound=Bound(2), timeout=30)).run()
    first = [when for when, frame in zip(tap.times, tap.probes_seen, strict=True) if flow_words(frame)[1][:2] == PORT_1]
    assert (len(first), (first[-1] - first[0]) / SECOND) == (512, pytest.approx(512 / 16, abs=3))
    assert len(done.windows) > 3


@pytest.mark.parametrize("rate", [3.0, 200.0, 5000.0])
def test_the_rate_holds_over_everything_that_is_sent(rate: float) -> None:
    tap, clock = tapped({HOST[4]: Host(other="open")}, Faults(delay=(0.2, 0.3)))
    ports = range(1, 31) if rate < 10 else range(1, 1001)
    bench_of(clock, [lane_of(tap, HOST[4], ports)], Settings(rate=rate, bound=Bound(3))).run()
    times, depth = np.array(tap.times), max(1.0, rate / 100)
    assert len(tap.resets_seen) >= len(ports)
    for span in (1, 10, 100, 1000):
        if span < len(times):
            seconds = (times[span:] - times[:-span]) / SECOND
            assert (span + 1 <= rate * seconds + depth + 1e-6).all()


def test_the_same_seed_gives_the_same_scan() -> None:
    def scan(order_key: int) -> Bench:
        return bench(
            answers_all(ports=NET_PORTS), faults=WIRES["all of it"], ports=NET_PORTS, order_key=order_key
        ).run()

    one, same, other = scan(5), scan(5), scan(6)
    assert one.rows == same.rows
    assert one.transports[0].probes_seen == same.transports[0].probes_seen
    order = [list(map(flow_words, each.transports[0].probes_seen[:80])) for each in (one, other)]
    assert order[0] != order[1]
    assert one.table() == other.table()


@pytest.mark.parametrize("lag", [0, SECOND // 20])
@pytest.mark.parametrize("seed", range(4))
def test_a_wire_with_little_room(seed: int, lag: int) -> None:
    """0 to 5 rows at a time, and frames that leave later than they were written."""
    chance = random.Random(seed)
    tap, clock = tapped(answers_all(ports=NET_PORTS), rows=lambda limit: chance.randint(0, 5), lag=lag)
    done = bench_of(clock, [lane_of(tap, ports=NET_PORTS)]).run()
    assert done.table() == wanted()
    assert set(first_probes(done).values()) == {1}
    owed_and_paid(tap)


# ── one source port ──


def test_one_source_port_without_loss() -> None:
    settings = Settings(pause=0.6)
    tap, clock = tapped(answers_all(ports=NET_PORTS))
    done = bench_of(clock, [lane_of(tap, ports=NET_PORTS, source_port=5555)], settings).run()
    assert done.table() == wanted()
    assert {source for _, _, source, _ in map(target, tap.probes_seen)} == {5555}


def test_one_source_port_keeps_its_passes_apart() -> None:
    tap, clock = tapped({})
    bench_of(
        clock, [lane_of(tap, ports=(80,), source_port=5555)], Settings(pause=0.6, timeout=0.1, bound=Bound(4))
    ).run()
    times: dict[bytes, list[int]] = {}
    for frame, when in zip(tap.probes_seen, tap.times, strict=True):
        times.setdefault(flow_words(frame)[0], []).append(when)
    assert {len(each) for each in times.values()} == {3}
    assert min(b - a for each in times.values() for a, b in itertools.pairwise(each)) >= 0.6 * SECOND


def test_one_source_port_waits_after_the_last_pass_as_after_the_others() -> None:
    """Replies take longer than the time limit, and less than the pause between passes."""
    settings = Settings(pause=0.6, timeout=0.1, bound=Bound(1))
    done = bench(answers_all(ports=NET_PORTS), faults=Faults(delay=(0.3, 0.5)), ports=NET_PORTS, source_port=5555,
                 settings=settings).run()  # fmt: skip
    assert done.table() == wanted()


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_one_source_port_measures_like_many(loss: float) -> None:
    hosts = answers_all(ports=dict.fromkeys(range(1, 11), "open"), other="drop")
    faults, settings = Faults(lose_probes=loss, lose_replies=loss), Settings(pause=0.6)
    done = bench(hosts, faults=faults, ports=range(1, 21), source_port=5555, settings=settings).run()
    (window,) = done.windows
    assert window.estimate.loss == pytest.approx(1 - (1 - loss) ** 2, abs=0.05)
    assert window.estimate.missed < 0.02
    assert max(row.rtt_ms or 0 for row in done.rows) < 2.1
    assert {row.evidence for row in done.rows} == {()}


# ── interrupts ──

SLOW = Faults(delay=(0.3, 0.5))  # within the wait before anything is known, and far beyond a batch


def promises_kept(done: Bench, tap: Tap) -> None:
    """No row without a probe, no responder called silent, every silent row marked unless its window was complete."""
    asked = {(address, int.from_bytes(ports[2:4], "big")) for address, ports in map(flow_words, tap.probes_seen)}
    for row in done.rows:
        assert row.port is not None
        assert (wire_bytes(row.ip), row.port) in asked
        assert (row.state, row.reason) == WANTED[row.port]
    for window in done.windows:
        if window.interrupted:
            hosts = set(to_text(window.hosts))
            marked = {row.evidence for row in done.rows if row.ip in hosts and row.reason == "no-response"}
            assert marked <= {("interrupted",)}


@pytest.mark.parametrize("how", ["interrupt", "abandon", "both"])
@pytest.mark.parametrize("lag", [0, SECOND // 3])
@pytest.mark.parametrize("seed", range(12))
def test_interrupted_at_any_moment(seed: int, lag: int, how: str) -> None:
    chance = random.Random(seed)
    tap, clock = tapped(answers_all(ports=NET_PORTS), SLOW, seed=seed, lag=lag)
    settings = Settings(rate=chance.choice([5.0, 40.0, 1000.0]), bound=Bound(4))
    running = bench_of(clock, [lane_of(tap, ports=NET_PORTS)], settings)
    for _ in range(chance.randint(0, 300)):
        if not running.scan.done:
            running.step()
    before = len(tap.probes_seen)
    running.scan.stop()
    if how != "abandon":
        for _ in range(chance.randint(0, 20) if how == "both" else 10_000):
            if not running.scan.done:
                running.step()
    if how != "interrupt":
        running.scan.abandon()
        running.collect()
    running.run()
    assert len(tap.probes_seen) == before
    assert running.scan.done
    promises_kept(running, tap)
    running.table()


def test_an_interrupt_waits_for_what_is_under_way() -> None:
    tap, clock = tapped(answers_all(ports={80: "open"}), SLOW)
    running = bench_of(clock, [lane_of(tap, ports=(80,))])
    running.step()
    running.scan.stop()
    done = running.run()
    assert (len(tap.probes_seen), done.table()) == (16, {(host, 80): OPEN for host in answers_all()})


def test_abandoned_at_once_says_nothing_of_silence() -> None:
    tap, clock = tapped(answers_all(ports=NET_PORTS), SLOW)
    running = bench_of(clock, [lane_of(tap, ports=NET_PORTS)])
    running.step()
    running.scan.abandon()
    assert (running.run().rows, len(tap.probes_seen)) == ([], 80)


def test_what_is_still_in_the_ring_was_not_probed() -> None:
    """Written long ago, never left: no row, however long the wait was."""
    tap, clock = tapped({}, lag=60 * SECOND)
    running = bench_of(clock, [lane_of(tap, ports=(80,))])
    began = clock.now
    running.run(lambda each: clock.now > began + 5 * SECOND)
    running.scan.abandon()
    running.collect()
    assert running.rows == []


def test_interrupted_before_it_began() -> None:
    tap, clock = tapped(answers_all(ports=NET_PORTS))
    running = bench_of(clock, [lane_of(tap, ports=NET_PORTS)])
    running.scan.stop()
    assert (running.run().rows, tap.probes_seen) == ([], [])


def test_a_pass_that_was_cut_is_said_to_be() -> None:
    """The second pass is cut after a few probes: what it did not ask is not as sure as what two passes say."""
    tap, clock = tapped({HOST[4]: Host(dict.fromkeys(range(1, 400), "open"), other="drop")})
    running = bench_of(clock, [lane_of(tap, HOST[4], range(1, 801))], Settings(rate=1000))
    running.run(lambda each: len([1 for frame in tap.probes_seen if flow_words(frame)[1][:2] == b"\x9c\x41"]) > 110)
    running.scan.stop()
    done = running.run()
    second = {flow_words(frame)[1][2:4] for frame in tap.probes_seen if flow_words(frame)[1][:2] == b"\x9c\x41"}
    assert 100 < len(second) < 300
    assert {row.evidence for row in done.rows if row.reason == "no-response"} == {("interrupted",)}


# ── strangers ──


def test_forged_and_late_frames_change_no_row() -> None:
    tap, clock = tapped({HOST[4]: Host({80: "open"}, other="drop")}, Faults(delay=(0.1, 0.2)))
    running = bench_of(clock, [lane_of(tap, HOST[4], (80, 81))])
    tap.inject(rst(src=HOST[4], sport=80, ack=12345), 0.01)
    tap.inject(synack(src=HOST[4], sport=81, ack=12345), 0.01)
    tap.inject(synack(src="198.18.3.3", sport=80, ack=12345), 0.01)
    done = running.run()
    assert done.table() == {(HOST[4], 80): OPEN, (HOST[4], 81): SILENCE}
    assert (done.scan.receiver.rejected["bad-cookie"], len(tap.resets_seen)) == (3, done.scan.receiver.replies)


def test_a_bare_syn_from_a_probed_target_proves_nothing() -> None:
    tap, clock = tapped({})
    running = bench_of(clock, [lane_of(tap, HOST[4], (80,))])
    tap.inject(segment("S", src=HOST[4], sport=80, ack=0), 0.2)
    rows = running.run().rows
    assert [(row.state, row.reason, row.evidence) for row in rows] == [
        ("unknown", "split-handshake-syn", ("unverified",))
    ]
    assert tap.resets_seen == []


@pytest.mark.parametrize(
    ("after", "port"), [(0.0, OUR_PORT), (0.2, OUR_PORT + 5)], ids=["not yet asked", "a later pass's"]
)
def test_a_bare_syn_that_answers_no_probe_is_nothing(after: float, port: int) -> None:
    tap, clock = tapped({})
    running = bench_of(clock, [lane_of(tap, "198.18.1.0/30", (80,))], Settings(rate=1, bound=Bound(6, 1e-9)))
    running.step()
    (asked,) = {target(frame)[0] for frame in tap.probes_seen}
    last = {f"198.18.1.{i}" for i in range(4)} - {asked}
    for host in last if port == OUR_PORT else {asked}:
        tap.inject(segment("S", src=host, sport=80, dport=port, ack=0), after)
    assert set(running.run().table().values()) == {SILENCE}


def test_a_reply_after_its_window_closed_gets_its_reset_and_no_row() -> None:
    """Two windows; the first host's SYN/ACK comes when its window is long closed and the other still at work."""
    clock = Clock()
    tap = Tap(memory({}, clock), clock)
    ours = lane_of(tap, "198.18.4.0/26", (80,))
    running = bench_of(clock, [ours], Settings(rate=2, bound=Bound(2), timeout=0.5))
    running.run(lambda each: bool(each.windows))
    host = running.windows[0].hosts[:1]
    number = int(ours.sequence(host, np.array([80], np.uint16), OUR_PORT)[0])
    tap.inject(synack(src=to_text(host)[0], sport=80, ack=(number + 1) % (1 << 32)), 0.1)
    done = running.run()
    assert (done.scan.receiver.rejected["late-after-close"], len(tap.resets_seen), set(done.table().values())) == (
        1,
        1,
        {SILENCE},
    )
    assert [target(frame)[3] for frame in tap.resets_seen] == [(number + 1) % (1 << 32)]


# ── both families, several lanes ──


def test_families_side_by_side_over_one_wire() -> None:
    tap, clock = tapped(answers_all(4, ports=NET_PORTS) | answers_all(6, ports=NET_PORTS), WIRES["all of it"])
    lanes = [lane_of(tap, NET[version], NET_PORTS) for version in (4, 6)]
    assert bench_of(clock, lanes).run().table() == wanted(4) | wanted(6)


def test_lanes_of_one_family_over_one_wire_do_not_reject_each_others_replies() -> None:
    """As with hosts on the link and hosts behind its gateway."""
    tap, clock = tapped(answers_all(ports=NET_PORTS))
    done = bench_of(clock, [lane_of(tap, part, NET_PORTS) for part in ("198.18.1.0/29", "198.18.1.8/29")]).run()
    assert (done.table(), dict(+done.scan.receiver.rejected)) == (wanted(), {})


def test_lanes_over_wires_of_their_own() -> None:
    clock = Clock()
    wires = [memory(answers_all(version, ports=NET_PORTS), clock, WIRES["all of it"], version) for version in (4, 6)]
    lanes = [lane_of(wire, NET[version], NET_PORTS) for wire, version in zip(wires, (4, 6), strict=True)]
    assert bench_of(clock, lanes).run().table() == wanted(4) | wanted(6)
    assert [{frame[0] >> 4 for frame in wire.probes_seen} for wire in wires] == [{4}, {6}]


# ── on a link ──

NA = ICMPv6ND_NA(tgt=HOST[6])
OPTION = ICMPv6NDOptDstLLAddr(lladdr=THEIR_MAC)
OTHER_MAC = "02:00:00:00:00:99"
NEIGHBOURS: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "arp reply": (ARP(op=2, hwsrc=THEIR_MAC, psrc=HOST[4]), [(HOST[4], THEIR_MAC)]),
    "arp request": (ARP(op=1, hwsrc=THEIR_MAC, psrc=HOST[4]), []),
    "advertisement": (IPv6(src=HOST[6], hlim=255) / NA / OPTION, [(HOST[6], THEIR_MAC)]),
    "without its option, the frame's sender": (IPv6(src=HOST[6], hlim=255) / NA, [(HOST[6], OTHER_MAC)]),
    "passed on by a router": (IPv6(src=HOST[6], hlim=254) / NA / OPTION, []),
    "solicitation": (IPv6(src=HOST[6], hlim=255) / ICMPv6ND_NS(tgt=HOST[6]) / OPTION, []),
    "a segment": (IP(src=HOST[4]) / TCP() / bytes(20), []),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours_answers(name: str) -> None:
    packet, expected = NEIGHBOURS[name]
    whole = bytes(Ether(src=OTHER_MAC, dst=OUR_MAC) / packet)
    rows, address, mac = answers(ethernet_batch(whole, whole[:41]))
    found = [(host, bytes(each).hex(":")) for host, each in zip(to_text(address), mac, strict=True)]
    assert (found, rows.tolist()) == (expected, [0] * len(expected))


@pytest.mark.parametrize("deaf", [0, 1, 2])
@pytest.mark.parametrize("version", [4, 6])
def test_neighbours_are_asked_first_and_the_absent_are_down(version: int, deaf: int) -> None:
    everyone = list(answers_all(version))
    wire, clock = link(version, everyone[:5], deaf)
    done = bench_of(clock, [lane_of(wire, NET[version], NET_PORTS, mac=OUR_MAC)]).run()
    down = ("down", "no-arp" if version == 4 else "no-ndp")
    present: dict[tuple[str, int | None], tuple[str, str]]
    present = {(host, port): state for host in everyone[:5] for port, state in WANTED.items()}
    assert done.table() == present | {(host, None): down for host in everyone[5:]}
    asked = {target(frame)[0] for frame in wire.probes_seen}
    most = wire.queries.count(everyone[-1])
    assert (asked, wire.wrong_macs, Counter(wire.queries)) == (
        set(everyone[:5]), 0, Counter(dict.fromkeys(everyone[:5], deaf + 1) | dict.fromkeys(everyone[5:], most)),
    )  # fmt: skip
    assert 3 < most <= 8  # the later the others answered, the longer are these asked


@pytest.mark.parametrize("deaf", [0, 1, 2])
def test_hosts_that_answer_at_once_do_not_wait_for_those_that_do_not(deaf: int) -> None:
    """The window splits: the late host of the rest is found as well, and every target is decided once."""
    everyone = list(answers_all(4))
    wire, clock = link(4, everyone[:6])
    late = everyone[5]
    answer = wire.ask
    heard: Counter[str] = Counter()

    def ask(frame: Any) -> None:
        wanted_ip = frame[ARP].pdst
        heard[wanted_ip] += 1
        if wanted_ip == late and heard[late] <= deaf:
            wire.queries.append(late)
        else:
            answer(frame)

    wire.ask = ask  # type: ignore[method-assign]
    done = bench_of(clock, [lane_of(wire, NET[4], NET_PORTS, mac=OUR_MAC)]).run()
    assert done.table() == {(host, port): state for host in everyone[:6] for port, state in WANTED.items()} | {
        (host, None): ("down", "no-arp") for host in everyone[6:]
    }
    assert [window.is_rest for window in done.windows] in ([True, False], [False, True])
    most = heard[everyone[-1]]
    assert heard == Counter(dict.fromkeys(everyone[:5], 1) | {late: deaf + 1} | dict.fromkeys(everyone[6:], most))
    assert 3 < most <= 8


def test_too_deaf_to_be_there() -> None:
    wire, clock = link(4, [HOST[4]], deaf=3)
    done = bench_of(clock, [lane_of(wire, HOST[4], (80,), mac=OUR_MAC)]).run()
    assert (done.table(), wire.probes_seen) == ({(HOST[4], None): ("down", "no-arp")}, [])


@pytest.mark.parametrize("version", [4, 6])
def test_the_gateway_is_asked_once_for_all(version: int) -> None:
    gateway = "198.18.0.254" if version == 4 else "2001:db8::fe"
    hosts = answers_all(version)
    wire, clock = link(version, list(hosts))
    wire.macs = {gateway: "02:00:00:00:02:01", "gateway": "02:00:00:00:02:01"}
    done = bench_of(clock, [lane_of(wire, NET[version], NET_PORTS, mac=OUR_MAC, gateway=gateway)]).run()
    assert (done.table(), wire.queries, wire.wrong_macs) == (wanted(version), [gateway], 0)


def test_a_gateway_that_does_not_answer_costs_only_what_is_behind_it() -> None:
    wire, clock = link(4, [])
    other = memory(answers_all(6, ports=NET_PORTS), clock)
    lanes = [lane_of(wire, mac=OUR_MAC, gateway="198.18.0.254"), lane_of(other, NET[6], NET_PORTS)]
    done = bench_of(clock, lanes).run()
    assert (done.table(), wire.queries, wire.probes_seen) == (wanted(6), ["198.18.0.254"] * 3, [])
    assert done.scan.failed == "the gateway 198.18.0.254 on memory does not answer: nothing behind it was scanned"


def test_interrupted_among_the_queries_nobody_is_down() -> None:
    wire, clock = link(4, [])
    running = bench_of(clock, [lane_of(wire, mac=OUR_MAC)])
    running.step()
    running.scan.stop()
    assert (running.run().rows, len(wire.queries)) == ([], 16)
