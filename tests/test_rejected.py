"""What answers no probe is counted by cause, and scans that are no SYN scans by kind."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scanner.capture.source import Capture
from scanner.classifier import classification
from scanner.classifier.classification import Classification
from scanner.packet.headers import LINK_RAW
from tests.builders import ROUTER, THEM, US, batch, rst, segment, syn, synack, unreachable
from tests.command import halfopen
from tests.golden import PCAPS

Counts = dict[str, int]


def reading(
    frames: Sequence[bytes], monkeypatch: pytest.MonkeyPatch, orphans: bool = False, size: int = 1000
) -> tuple[list[Any], Classification]:
    """The rows of a capture of these frames, and what is known of the rest."""
    capture = Capture(opened=1)
    pieces = [frames[at : at + size] for at in range(0, len(frames), size)]
    capture.batches = map(capture.count, [batch(*piece, link=LINK_RAW) for piece in pieces])
    monkeypatch.setattr(classification, "open_captures", lambda paths: capture)
    given = Classification(["any"], 0, orphans)
    return [row for rows in given.batches() for row in rows], given


def ours(flags: str = "A", **more: Any) -> bytes:
    """A segment from the prober to the target."""
    return segment(flags, **{"src": US[4], "dst": THEM[4], "sport": 40000, "dport": 443} | more)


def version6(**more: Any) -> list[bytes]:
    return [syn(6), unreachable(6, **more)]


def proto(frame: bytes, number: int) -> bytes:
    """An IPv4 packet, or the quote of an ICMP error, of another protocol."""
    at = 28 + 9 if frame[9] == 1 else 9
    return frame[:at] + bytes([number]) + frame[at + 1 :]


BAD, NOTHING = {"bad-cookie": 1}, {"no-verdict": 1}
# What comes back for one SYN; what is rejected; the state and reason of the row.
CASES: dict[str, tuple[list[bytes], Counts, str]] = {
    "a SYN/ACK that acknowledges another number": ([syn(), synack(ack=5)], BAD, "filtered no-response"),
    "a SYN/ACK that acknowledges the SYN's own number": ([syn(), synack(ack=1000)], BAD, "filtered no-response"),
    "a SYN/ACK to another port of the prober": ([syn(), synack(dport=40001)], BAD, "filtered no-response"),
    "a reset that acknowledges another number": ([syn(), rst(ack=5, seq=0)], BAD, "filtered no-response"),
    "a reset with a sequence number that acknowledges another number": (
        [syn(), rst(ack=5)], BAD, "filtered no-response"),
    "a reset to another port of the prober": ([syn(), rst(dport=1, seq=0)], BAD, "filtered no-response"),
    "a reset without ACK for another number": ([syn(), segment("R", ack=0, seq=0)], BAD, "filtered no-response"),
    "an ACK": ([syn(), segment("A", ack=7)], NOTHING, "unknown reply-not-captured"),
    "a FIN": ([syn(), segment("FA")], NOTHING, "unknown reply-not-captured"),
    "data": ([syn(), segment("PA", payload=b"x")], NOTHING, "unknown reply-not-captured"),
    "no flags": ([syn(), segment("")], NOTHING, "unknown reply-not-captured"),
    "an ICMP error that quotes another sequence number": (
        [syn(), unreachable(quoting=syn(seq=7))], BAD, "filtered no-response"),
    "an ICMP error that quotes another port of the prober": (
        [syn(), unreachable(quoting=syn(sport=7))], BAD, "filtered no-response"),
    "an ICMP error that quotes another protocol": (
        [syn(), proto(unreachable(), 17)], {"icmp-quotes-other": 1}, "filtered no-response"),
    "an ICMP error that is cut": ([syn(), unreachable(quoted_tcp=4)], {"icmp-quote-truncated": 1},
                                  "filtered no-response"),
    "an ICMP code that no table has": ([syn(), unreachable(code=77)], NOTHING, "filtered no-response"),
    "ICMP source quench": ([syn(), unreachable(kind=4, code=0)], NOTHING, "filtered no-response"),
    "ICMP redirect": ([syn(), unreachable(kind=5)], NOTHING, "filtered no-response"),
    "ICMP parameter problem": ([syn(), unreachable(kind=12, code=0)], NOTHING, "filtered no-response"),
    "ICMPv6 packet too big": (version6(kind=2, code=0), NOTHING, "filtered no-response"),
    "an ICMPv6 code that no table has": (version6(code=9), NOTHING, "filtered no-response"),
    "an ICMP error from the prober itself": (
        [syn(), unreachable(sender=US[4])], {"icmp-from-us": 1}, "filtered no-response"),
    "a reply with TTL 0": ([syn(), synack(ttl=0)], {"ttl-zero": 1}, "filtered no-response"),
    "an ICMP error from a loopback address": (
        [syn(), unreachable(sender="127.0.0.1")], {"icmp-from-loopback": 1}, "filtered no-response"),
    "an ICMP error from a multicast address": (
        [syn(), unreachable(sender="224.0.0.1")], {"icmp-from-multicast": 1}, "filtered no-response"),
    "a reset that stands before its SYN and has the SYN's own number": (
        [rst(ack=1000, seq=0), syn()], {}, "closed reset"),
    "the end of a connection, behind data": (
        [syn(), synack(), ours("PA", seq=1001, payload=b"x"), segment("RA", seq=78, ack=1002)], {}, "open syn-ack"),
    "an answer to one of two SYNs of a pair of ports, and a stray segment": (
        [syn(), syn(seq=7), segment("A", ack=5)], NOTHING, "unknown reply-not-captured"),
    "the end of a connection that nothing in the capture began": (
        [syn(), segment("RA", sport=1, seq=78)], {}, "filtered no-response"),
    "an answer without a probe": ([syn(), synack(sport=1)], {"not-asked": 1}, "filtered no-response"),
}  # fmt: skip


@pytest.mark.parametrize(("frames", "rejected", "verdict"), CASES.values(), ids=CASES)
def test_what_is_rejected_is_counted(
    frames: list[bytes], rejected: Counts, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, given = reading([*frames, unreachable(quoting=syn(dport=9), sender=ROUTER[4])], monkeypatch)
    numbers = given.as_report()
    counted = numbers["rejected"] | {k: v for k, v in numbers["not_judged"].items() if k.startswith("icmp")}
    counted["not-asked"] -= 1  # the last packet shows that the way back is recorded
    assert {cause: count for cause, count in counted.items() if count} == rejected
    assert [f"{row.state} {row.reason}" for row in rows if row.port == 443] == [verdict]
    if "not-asked" not in rejected:  # that one has a line of its own
        assert [cause for cause in rejected if not any(f"1 {cause}" in line for line in given.report()[1:])] == []


ACK_SCAN = [ours("A", dport=port, seq=0, ack=0) for port in range(1, 31)]
KINDS: dict[str, tuple[list[bytes], Counts]] = {
    "a FIN scan": ([ours("F", dport=port, ack=0) for port in range(1, 31)], {"FIN": 30}),
    "a NULL scan": ([ours("", dport=port, ack=0) for port in range(1, 31)], {"NULL": 30}),
    "an Xmas scan": ([ours("FPU", dport=port, ack=0) for port in range(1, 31)], {"Xmas": 30}),
    "an ACK scan": (ACK_SCAN, {"ACK": 30}),
    "an ACK scan that is answered": ([*ACK_SCAN, *(segment("R", sport=port) for port in range(1, 31))], {"ACK": 30}),
    "an ACK scan of many hosts": (
        [f for host in range(1, 41) for f in (ours("A", dst=f"198.18.2.{host}", sport=50000 + host),
                                              segment("R", src=f"198.18.2.{host}", dport=50000 + host))],
        {"ACK": 40}),
    "ACKs to many hosts, and nothing that comes back": (
        [ours("A", dst=f"198.18.2.{host}", sport=50000 + host) for host in range(1, 41)], {}),
    "a sample of downloads": (
        [f for host in range(1, 81) for f in [
            ours("A", dst=f"198.18.2.{host}", sport=50000 + host) if host % 2 else
            segment("A", src=f"198.18.2.{host}", sport=443, dport=50000 + host, payload=b"x")]], {}),
    "two scans of one address": ([*ACK_SCAN, *(ours("F", dport=port, sport=5) for port in range(1, 9))],
                                 {"ACK": 30, "FIN": 8}),
    "a few stray segments": ([ours("F"), ours("", dport=200), *ACK_SCAN[:10]], {}),
    "FINs with data": ([ours("F", dport=port, payload=b"x") for port in range(1, 31)], {}),
    "FINs to what was probed": ([f for port in range(1, 31) for f in (syn(dport=port), ours("F", dport=port))], {}),
    "a SYN scan and the ACKs of its handshakes": (
        [f for port in range(1, 31) for f in (syn(dport=port), synack(sport=port),
                                              ours("A", dport=port, seq=1001, ack=78))], {}),
    "connections that began before the capture": (
        [f for port in range(1, 31) for f in (ours("A", dport=port), segment("PA", sport=port, payload=b"x"))], {}),
    "one direction of such connections": ([ours("A", dport=port, ack=ack) for port in range(1, 31)
                                           for ack in range(5)], {}),
    "data in one direction": ([ours("PA", dport=port, payload=b"x") for port in range(1, 31)], {}),
    "ACKs of one side among its other connections": (
        [*ACK_SCAN, *(ours("PA", dport=port, payload=b"x") for port in range(100, 130))], {}),
}  # fmt: skip


@pytest.mark.parametrize(("frames", "scans"), KINDS.values(), ids=KINDS)
def test_scans_of_other_kinds(frames: list[bytes], scans: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    _, given = reading(frames, monkeypatch)
    said = [line for line in given.report() if line.endswith("scan: not judged")]
    words = {"FIN": "a FIN", "NULL": "a NULL", "Xmas": "an Xmas", "ACK": "an ACK"}
    assert given.as_report()["scans"] == scans
    assert sorted(said) == sorted(f"{count} packets of {words[kind]} scan: not judged" for kind, count in scans.items())


@pytest.mark.parametrize("name", ["clients.pcap", "nmap-connect.pcap.gz", "begun-late.pcap", "demo.pcapng.gz"])
def test_ordinary_traffic_and_syn_scans_are_no_other_scan(name: str) -> None:
    given = Classification([str(PCAPS / name)], 0)
    assert sum(1 for rows in given.batches() for _ in rows) > 0
    assert given.as_report()["scans"] == {}


def test_every_segment_of_a_connection_is_accounted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [syn(), synack(), ours("A", seq=1001, ack=78), ours("PA", seq=1001, payload=b"x"), segment("PA", seq=78)]
    _, given = reading(frames, monkeypatch)
    assert given.report() == ["5 packets: 1 probe to 1 target", "not judged: 2 other-tcp"]


def test_resets_that_end_connections_are_accounted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _, given = reading([syn(), synack(), segment("R", seq=78), segment("R", seq=79)], monkeypatch)
    assert given.report() == ["4 packets: 1 probe to 1 target", "not judged: 2 other-tcp"]


@pytest.mark.parametrize("reply", [rst(ack=1000, seq=0), synack()], ids=["a reset for the SYN's number", "a SYN/ACK"])
def test_an_answer_that_stands_before_its_probe_is_not_rejected(reply: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, given = reading([reply, syn()], monkeypatch, size=1)
    assert (len(rows), given.as_report()["rejected"]) == (1, {})


@pytest.mark.parametrize(("orphans", "counts"), [(False, {"not-asked": 1}), (True, {})])
def test_an_answer_without_a_probe_is_counted_or_has_a_row(
    orphans: bool, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, given = reading([synack()], monkeypatch, orphans)
    assert (len(rows), given.as_report()["rejected"]) == (orphans, counts)


def test_the_numbers_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = halfopen("classify", str(PCAPS / "nmap-syn.pcap.gz"), "-q", "--stats", str(tmp_path / "numbers.json"))
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert (code, numbers["packets"], numbers["probes"], numbers["not_judged"]["other-icmp"]) == (0, 52, 23, 4)


def test_a_file_of_numbers_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "numbers.json").write_text("kept")
    code = halfopen("classify", str(PCAPS / "nmap-syn.pcap.gz"), "-q", "--stats", str(tmp_path / "numbers.json"))
    assert (code, (tmp_path / "numbers.json").read_text(), capsys.readouterr().out) == (2, "kept", "")
