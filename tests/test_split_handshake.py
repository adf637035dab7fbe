"""Bare SYNs as replies: what anybody can send opens nothing, and a real split handshake is found (RFC 9293 3.5)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from scanner.classifier.classification import Classification
from scanner.halfopen.scan import Settings
from scanner.packet.headers import LINK_RAW, Bytes
from scanner.rounds.rows import window_rows
from scanner.trace import Watch
from scanner.transport.tap import Tap
from scanner.verdict.loss import Bound
from scanner.verdict.rows import Verdict
from tests.builders import OUR_MAC, OUR_PORT, SECOND, segment
from tests.replies import Action, Host
from tests.simulation import Bench, Clock, Link, bench_of, lane_of, memory

HOST = {4: "198.18.1.7", 6: "2001:db8:1::7"}
THEIRS = 5000  # sequence number of their bare SYN
RTT = SECOND // 100
Heard = Callable[["Wire", TCP], None]


def parsed(frame: bytes) -> TCP:
    return (IP(frame) if frame[0] >> 4 == 4 else IPv6(frame))[TCP]


@dataclass
class Wire:
    """A wire around the network in memory. `heard` is told of each segment of ours; SYN/ACKs go no further."""

    inner: Any
    clock: Clock
    heard: Heard
    version: int = 4
    syn_acks: list[TCP] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def reserve(self, limit: int) -> Bytes:
        self.rows: Bytes = self.inner.reserve(limit)
        return self.rows

    def commit(self, rows: int, length: int) -> None:
        for row in self.rows[:rows, :length].copy():
            ours = parsed(row.tobytes())
            if ours.flags == "SA":
                self.syn_acks.append(ours)
            self.heard(self, ours)
        self.inner.commit(rows, length)

    def say(self, ours: TCP, flags: str, seq: int, ack: int, after: int = RTT) -> None:
        """A segment from the target of one of our segments."""
        fields = {"src": HOST[self.version], "sport": ours.dport, "dport": ours.sport}
        self.inner.deliver(segment(flags, self.version, seq=seq, ack=ack, **fields), self.clock.now + after)


def nobody(wire: Wire, ours: TCP) -> None:
    """Does nothing."""


def sprayed(wire: Wire, ours: TCP) -> None:
    """Bare SYNs for every probe, from somebody who sees nothing of what we send."""
    if ours.flags == "S":
        for at in (RTT // 10, RTT // 9, RTT * 2):
            wire.say(ours, "S", THEIRS, 0, at)


def split(wire: Wire, ours: TCP) -> None:
    """A host that answers a SYN with a SYN of its own, and acknowledges the SYN/ACK."""
    if ours.flags == "S":
        wire.say(ours, "S", THEIRS, 0)
    if ours.flags == "SA" and ours.ack == THEIRS + 1:
        wire.say(ours, "A", THEIRS + 1, (ours.seq + 1) % (1 << 32))


def guessing(wire: Wire, ours: TCP) -> None:
    """The same, from somebody who does not know the number of the SYN/ACK."""
    sprayed(wire, ours)
    if ours.flags == "SA":
        for number in (0, 1, THEIRS + 1, ours.ack, ours.seq, ours.seq + 2):
            wire.say(ours, "A", THEIRS + 1, number % (1 << 32))


def only_ack(wire: Wire, ours: TCP) -> None:
    """Acknowledges our SYN, and sends none."""
    if ours.flags == "S":
        wire.say(ours, "A", THEIRS, (ours.seq + 1) % (1 << 32))


def simultaneous(wire: Wire, ours: TCP) -> None:
    """A host whose SYN has crossed ours: it acknowledges ours with a SYN/ACK."""
    if ours.flags == "S":
        wire.say(ours, "S", THEIRS, 0)
        wire.say(ours, "SA", THEIRS, (ours.seq + 1) % (1 << 32), RTT * 2)


def scan(
    heard: Heard, action: Action = "drop", version: int = 4, settings: Settings | None = None, **lane: Any
) -> Bench:
    """A scan of port 80 of one host, to its end."""
    return prepared(heard, action, version, settings, **lane).run()


def brief(row: Verdict) -> tuple[str, int | None, str, str, int | None]:
    return row.ip, row.port, row.state, row.reason, row.ttl


def prepared(
    heard: Heard, action: Action = "drop", version: int = 4, settings: Settings | None = None, **lane: Any
) -> Bench:
    clock = Clock()
    wire = Wire(memory({HOST[version]: Host(other=action)}, clock), clock, heard, version)
    return bench_of(clock, [lane_of(wire, HOST[version], (80,), **lane)], settings or Settings())


CASES: dict[str, tuple[Heard, Action, str, str, tuple[str, ...]]] = {
    "a split handshake": (split, "drop", "open", "split-handshake-syn", ()),
    "a simultaneous open": (simultaneous, "drop", "open", "syn-ack", ()),
    "sprayed SYNs and silence": (sprayed, "drop", "unknown", "split-handshake-syn", ("unverified", "repeat")),
    "sprayed SYNs and a closed port": (
        sprayed, "closed", "closed", "reset", ("conflict:split-handshake-syn", "repeat"),
    ),
    "sprayed SYNs and an ICMP error": (
        sprayed, (3, 1), "filtered", "host-unreach", ("conflict:split-handshake-syn", "repeat"),
    ),
    "sprayed SYNs and an open port": (sprayed, "open", "open", "syn-ack", ("repeat",)),
    "guessed ACKs": (guessing, "drop", "unknown", "split-handshake-syn", ("unverified", "repeat")),
    "an ACK without a SYN": (only_ack, "drop", "filtered", "no-response", ()),
}  # fmt: skip


@pytest.mark.parametrize(("heard", "action", "state", "reason", "words"), CASES.values(), ids=CASES)
def test_what_a_bare_syn_makes_of_a_port(
    heard: Heard, action: Action, state: str, reason: str, words: tuple[str, ...]
) -> None:
    (row,) = scan(heard, action).rows
    assert (row.state, row.reason, set(row.evidence) - {"late"}) == (state, reason, set(words))


@pytest.mark.parametrize("name", CASES)
def test_the_recording_says_the_same(name: str, tmp_path: Path) -> None:
    # A recording in pcapng says that nothing is missing in it. So an ACK alone is no rest of a lost handshake.
    heard, action, *_ = CASES[name]
    clock, watch = Clock(), Watch(str(tmp_path / "scan.pcapng"), False, [], False)
    watch.open({LINK_RAW})
    wire = Wire(memory({HOST[4]: Host(other=action)}, clock), clock, heard)
    bench = bench_of(clock, [lane_of(Tap(wire, watch.see[0], "memory", LINK_RAW, clock), HOST[4], (80,))])
    bench.transports = [wire]  # the tap knows of no arrivals
    bench.run()
    watch.close(0, clock.now, 0)
    replayed = [row for rows in Classification([str(tmp_path / "scan.pcapng")], timeout=0).batches() for row in rows]
    assert [brief(row) for row in replayed] == [brief(row) for row in bench.rows]


@pytest.mark.parametrize("settings", [Settings(), Settings(pause=0.6)], ids=["a port a pass", "one port"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_split_handshake_gets_one_syn_ack_and_one_reset(version: int, settings: Settings) -> None:
    done = scan(split, version=version, settings=settings, source_port=OUR_PORT if settings.pause else None)
    (wire,), (reset,) = done.transports, map(parsed, done.transports[0].resets_seen)
    (syn_ack,), probe = wire.syn_acks, parsed(wire.probes_seen[0])
    assert [(row.state, row.reason) for row in done.rows] == [("open", "split-handshake-syn")]
    assert (syn_ack.sport, syn_ack.dport, syn_ack.seq, syn_ack.ack) == (probe.sport, 80, probe.seq, THEIRS + 1)
    assert (reset.sport, reset.dport, reset.seq) == (probe.sport, 80, (probe.seq + 1) % (1 << 32))


def test_the_last_pass_waits_for_the_proof() -> None:
    """Its wait counts from the moment when the SYN/ACK has left."""

    def far(wire: Wire, ours: TCP) -> None:
        if ours.flags == "S":
            wire.say(ours, "S", THEIRS, 0, SECOND * 4 // 10)
        if ours.flags == "SA":
            wire.say(ours, "A", THEIRS + 1, (ours.seq + 1) % (1 << 32), SECOND * 4 // 10)

    assert [row.state for row in scan(far, settings=Settings(bound=Bound(1), timeout=0.5)).rows] == ["open"]


def test_an_unproved_syn_changes_neither_the_passes_nor_the_loss() -> None:
    silent, unproved = (scan(heard) for heard in (nobody, sprayed))
    passes = [each.windows[0].passes.pass_no for each in (silent, unproved)]
    assert (passes[0] > 1, passes[0] == passes[1]) == (True, True)
    assert unproved.windows[0].estimate == silent.windows[0].estimate
    assert [each.windows[0].ledger.answered for each in (silent, unproved)] == [0, 0]
    assert len(unproved.transports[0].syn_acks) == passes[1]  # one a pass, of three bare SYNs


def test_an_unproved_syn_is_not_among_the_open_ports() -> None:
    done = scan(sprayed)
    assert [list(window_rows(window, done.clock.now, only_open=True)) for window in done.windows] == [[]]
    assert len(done.rows) == 1


def test_every_frame_counts_against_the_rate() -> None:
    done = scan(sprayed, settings=Settings(rate=1000.0))
    sent = done.scan.transmit.sent
    assert (set(sent), sent["syn-ack"] == sent["probe"]) == ({"probe", "syn-ack"}, True)


def test_an_ack_without_our_syn_ack_is_counted() -> None:
    done = scan(only_ack)
    counted = done.scan.receiver.rejected["no-verdict"]
    assert (counted, done.transports[0].resets_seen) == (len(done.transports[0].probes_seen), [])


def test_after_a_stop_no_syn_is_answered() -> None:
    running = prepared(split)
    running.step()
    running.scan.stop()
    running.run()
    assert running.transports[0].syn_acks == []


def test_the_syn_ack_goes_where_the_probe_went() -> None:
    """To the sender's MAC address it would show the cookie to anybody on the link who forges a SYN."""
    clock, near, forger = Clock(), "02:00:00:00:01:07", "02:00:00:00:06:66"
    seen: list[Ether] = []

    class Sniffed(Link):
        def commit(self, rows: int, length: int) -> None:
            seen.extend(Ether(row.tobytes()) for row in self.space[:rows, :length])
            super().commit(rows, length)

    link = Sniffed(memory({}, clock), clock, {HOST[4]: near})
    running = bench_of(clock, [lane_of(link, HOST[4], (80,), mac=OUR_MAC)])
    running.run(lambda bench: any(TCP in frame for frame in seen))
    (probe,) = (frame for frame in seen if TCP in frame)
    bare = segment("S", src=HOST[4], sport=80, dport=probe[TCP].sport, ack=0, ethernet=True)
    link.answers.append((clock.now + RTT, bytes.fromhex((OUR_MAC + forger).replace(":", "")) + bare[12:]))
    running.run()
    assert {frame.dst for frame in seen if TCP in frame and frame[TCP].flags == "SA"} == {near}
