"""A target whose SYN/ACK is not in the capture, but that took part in the conversation, was not silent."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanner.capture.reader import open_captures
from scanner.capture.source import Capture
from scanner.classifier import classification
from scanner.classifier.classification import Classification
from scanner.packet.headers import LINK_RAW
from tests.builders import THEM, US, batch, rst, segment, syn, synack, unreachable
from tests.golden import PCAPS

Brief = tuple[str, str, tuple[str, ...]]


def ours(version: int, flags: str = "A", seq: int = 1001, ack: int = 78, **more: Any) -> bytes:
    """A segment of the prober behind its SYN."""
    return segment(flags, version, src=US[version], dst=THEM[version], sport=40000, dport=443, seq=seq, ack=ack, **more)


def read(frames: Sequence[bytes], monkeypatch: pytest.MonkeyPatch, size: int = 1000, **capture: Any) -> Classification:
    whole = Capture(opened=1, **capture)
    pieces = [frames[at : at + size] for at in range(0, len(frames), size)]
    whole.batches = map(whole.count, [batch(*piece, link=LINK_RAW) for piece in pieces])
    monkeypatch.setattr(classification, "open_captures", lambda paths: whole)
    return Classification(["any"], 0)


def verdict(frames: Sequence[bytes], monkeypatch: pytest.MonkeyPatch, size: int = 1000, **capture: Any) -> Brief:
    [row] = [row for rows in read(frames, monkeypatch, size, **capture).batches() for row in rows]
    return row.state, row.reason, row.evidence


OPEN: Brief = ("open", "syn-ack", ("reply-not-captured",))
SPOKE: Brief = ("unknown", "reply-not-captured", ())
REQUEST = b"x" * 100
ELSEWHERE = {v: rst(v, dport=9) for v in (4, 6)}  # it shows that the way back is recorded
CASES = {
    "the rest of a connection": lambda v: (
        [syn(v), ours(v), ours(v, "PA", payload=REQUEST), segment("PA", v, seq=78, ack=1101, payload=b"answer"),
         ours(v, "FA", seq=1101, ack=84), segment("FA", v, seq=84, ack=1102)],
        OPEN,
    ),
    "a banner": lambda v: ([syn(v), ours(v), segment("PA", v, seq=78, payload=b"SSH-2.0")], OPEN),
    "a FIN": lambda v: ([syn(v), ours(v), segment("FA", v, seq=78)], OPEN),
    "an ACK of the request": lambda v: ([syn(v), ours(v, "PA", payload=REQUEST), segment("A", v, ack=1101)], OPEN),
    "sequence numbers that wrap": lambda v: (
        [syn(v, seq=2**32 - 2), ours(v, "PA", seq=2**32 - 1, payload=REQUEST), segment("A", v, ack=99)], OPEN,
    ),
    "a reset ends it": lambda v: (
        [syn(v), ours(v), segment("PA", v, seq=78, payload=b"x"), segment("RA", v, seq=79)], OPEN,
    ),
    "an ICMP error and the rest of a connection": lambda v: (
        [syn(v), unreachable(v), ours(v), segment("FA", v, seq=78)],
        ("open", "syn-ack", ("reply-not-captured", "conflict:" + ("host-unreach", "admin-prohibited")[v == 6])),
    ),
    "it acknowledges more than was sent": lambda v: ([syn(v), ours(v), segment("A", v, ack=1002)], SPOKE),
    "it acknowledges less than was sent": lambda v: ([syn(v), ours(v), segment("A", v, ack=1000)], SPOKE),
    "it acknowledges nothing": lambda v: ([syn(v), ours(v), segment("F", v, ack=0)], SPOKE),
    "the prober has not gone on": lambda v: ([syn(v), segment("PA", v, payload=b"x")], SPOKE),
    "a SYN/ACK that was captured": lambda v: (
        [syn(v), synack(v), ours(v), segment("PA", v, seq=78, payload=b"x")],
        ("open", "syn-ack", ("handshake-completed",)),
    ),
    "a closed port": lambda v: ([syn(v), rst(v, seq=0)], ("closed", "reset", ())),
    "the prober has got an answer": lambda v: ([syn(v), ours(v), ELSEWHERE[v]], SPOKE),
    "the prober has got an answer and sends data": lambda v: (
        [syn(v), ours(v, "PA", payload=REQUEST), ELSEWHERE[v]], SPOKE,
    ),
    "a reset behind the prober's data": lambda v: (
        [syn(v), ours(v, "PA", payload=REQUEST), segment("RA", v, seq=78, ack=1101)], SPOKE,
    ),
    "a reset that acknowledges nothing, behind the ACK": lambda v: (
        [syn(v), ours(v), segment("R", v, seq=78, ack=0)], SPOKE,
    ),
    "an ACK of the prober with another number": lambda v: (
        [syn(v), ours(v, seq=5000), ELSEWHERE[v]], ("filtered", "no-response", ()),
    ),
    "a FIN of the prober": lambda v: ([syn(v), ours(v, "F", ack=0), ELSEWHERE[v]], ("filtered", "no-response", ())),
    "an end of the connection before, on the same ports": lambda v: (
        [segment("FA", v, seq=78), syn(v), ELSEWHERE[v]], ("filtered", "no-response", ()),
    ),
    "another pair of ports": lambda v: (
        [syn(v), segment("PA", v, dport=40001, payload=b"x")], ("filtered", "no-response", ()),
    ),
}  # fmt: skip
BOTH = {f"{name}, IPv{v}": case(v) for name, case in CASES.items() for v in (4, 6)}


@pytest.mark.parametrize(("frames", "expected"), BOTH.values(), ids=BOTH)
def test_rows(frames: list[bytes], expected: Brief, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdict(frames, monkeypatch) == expected


@pytest.mark.parametrize(("frames", "expected"), BOTH.values(), ids=BOTH)
@pytest.mark.parametrize("seed", range(3))
def test_the_order_in_the_file_does_not_matter(
    frames: list[bytes], expected: Brief, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = np.random.default_rng(seed).permutation(len(frames)).tolist()
    whole = Capture(opened=1)
    pieces = [batch(frames[at], link=LINK_RAW, times=[at + 1]) for at in order]
    whole.batches = map(whole.count, pieces)
    monkeypatch.setattr(classification, "open_captures", lambda paths: whole)
    [row] = [row for rows in Classification(["any"], 0).batches() for row in rows]
    evidence = tuple(word for word in row.evidence if word != "handshake-completed")
    assert (row.state, row.reason, evidence) == (
        *expected[:2],
        tuple(w for w in expected[2] if w != "handshake-completed"),
    )


def test_nothing_is_missing_in_the_recording_of_a_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [syn(), ours(4), segment("FA", seq=78)]
    assert verdict(frames, monkeypatch, both_ways=True) == ("filtered", "no-response", ())


def test_an_answer_that_was_captured_counts_more(monkeypatch: pytest.MonkeyPatch) -> None:
    again = [syn(sport=40001, seq=7), synack(dport=40001, ack=8)]
    frames = [syn(), ours(4), segment("FA", seq=78), *again]
    assert verdict(frames, monkeypatch) == ("open", "syn-ack", ())


def test_such_a_row_has_the_ttl_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    given = read([syn(), ours(4), segment("FA", seq=78, ttl=57)], monkeypatch)
    [row] = [row for rows in given.batches() for row in rows]
    assert (row.ttl, row.time, row.rtt_ms, row.pass_) == (57, None, None, None)


def without_syn_acks(path: Path) -> Capture:
    """A capture without its SYN/ACKs, as a filter or a lossy tap leaves it."""
    whole = open_captures([str(path)])

    def pieces(batches: Any) -> Any:
        for frames in batches:
            flags = frames.buffer[frames.start + 14 + 33]  # of Ethernet, IPv4 without options
            yield frames.take(np.flatnonzero((flags & 0x12 != 0x12) | (frames.buffer[frames.start + 12] != 8)))

    whole.batches = pieces(whole.batches)
    return whole


def test_ordinary_connections_without_their_syn_acks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every port that data passed through is open all the same."""
    usual = Classification([str(PCAPS / "clients.pcap")], 0)
    opened = {(r.ip, r.port) for rows in usual.batches() for r in rows if r.state == "open" and ":" not in r.ip}
    monkeypatch.setattr(classification, "open_captures", lambda paths: without_syn_acks(PCAPS / "clients.pcap"))
    rows = [row for rows in Classification(["any"], 0).batches() for row in rows]
    found = {(row.ip, row.port): (row.state, row.evidence) for row in rows if (row.ip, row.port) in opened}
    assert set(found.values()) == {("open", ("reply-not-captured",))}
