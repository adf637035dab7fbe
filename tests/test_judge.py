"""Flows packet by packet: what was recorded, and the row that it must become."""

from collections.abc import Sequence

import numpy as np
import pytest

from scanner.capture.source import NO_TIME, Capture
from scanner.classifier import classification
from scanner.classifier import settle as module
from scanner.classifier.classification import Classification
from scanner.classifier.flow_numbers import NEVER
from scanner.classifier.flows import Flows
from scanner.classifier.judge import judge
from scanner.classifier.rows import rows
from scanner.classifier.settle import retire, settle
from scanner.packet.headers import LINK_RAW
from tests.builders import ROUTER, SECOND, THEM, US, batch, rst, segment, syn, synack, unreachable

Row = tuple[str | None, str, int | None, str, str, tuple[str, ...]]


def verdicts(
    frames: Sequence[bytes], times: Sequence[int], orphans: bool, size: int = 1000, too_late: int = NEVER
) -> list[Row]:
    """The rows of a capture that is read in batches of `size` frames."""
    flows = Flows()
    for first in range(0, len(frames), size):
        flows.feed(batch(*frames[first : first + size], times=times[first : first + size]))
    settle(flows)
    given = rows(flows, judge(flows, too_late, False, orphans).whole())
    return [(row.scanner_ip, row.ip, row.port, row.state, row.reason, row.evidence) for row in given]


def ours(flags: str = "R", version: int = 4, **more: int) -> bytes:
    """What the prober sends after its SYN."""
    fields = {"src": US[version], "dst": THEM[version], "sport": 40000, "dport": 443, "seq": 1001, "ack": 78} | more
    return segment(flags, version, **fields)  # type: ignore[arg-type]


def row(state: str, reason: str, *evidence: str, port: int = 443, version: int = 4, us: str | None = None) -> Row:
    return (us or US[version], THEM[version], port, state, reason, evidence)


def long_syn(version: int, data: bytes = b"x" * 24, flags: str = "S") -> bytes:
    """A SYN with data behind it, as TCP Fast Open and `hping3 -d` send."""
    here = {"src": US[version], "dst": THEM[version], "sport": 40000, "dport": 443}
    return segment(flags, version, seq=1000, ack=0, payload=data, **here)  # type: ignore[arg-type]


def damaged(packet: bytes) -> bytes:
    """With another TCP checksum."""
    return packet[:36] + bytes([packet[36] ^ 0x55]) + packet[37:]


OTHER = "198.18.0.9"
NOISE = rst(sport=9, dport=9, ack=9)  # something that reached the prober, so that silence is no one-way capture

EITHER_FAMILY = {
    "open": lambda v: ([syn(v), synack(v)], [row("open", "syn-ack", version=v)]),
    "open, congestion bits set": lambda v: (
        [syn(v), segment("SAEC", v)],
        [row("open", "syn-ack", version=v)],
    ),
    "half-open": lambda v: ([syn(v), synack(v), ours("R", v)], [row("open", "syn-ack", "half-open", version=v)]),
    "handshake": lambda v: (
        [syn(v), synack(v), ours("A", v), ours("PA", v), ours("FA", v, seq=1006)],
        [row("open", "syn-ack", "handshake-completed", version=v)],
    ),
    "a connection made and then reset": lambda v: (
        [syn(v), synack(v), ours("A", v), ours("R", v)],
        [row("open", "syn-ack", "handshake-completed", version=v)],
    ),
    "closed": lambda v: ([syn(v), rst(v)], [row("closed", "reset", version=v)]),
    "closed, a reset without ACK": lambda v: ([syn(v), segment("R", v)], [row("closed", "reset", version=v)]),
    "closed, with data behind the SYN": lambda v: (
        [long_syn(v), rst(v, ack=1025, seq=0)],
        [row("closed", "reset", version=v)],
    ),
    "closed, with FIN in the SYN": lambda v: (
        [long_syn(v, b"", "SF"), rst(v, ack=1002, seq=0)],
        [row("closed", "reset", version=v)],
    ),
    "open, and the data is acknowledged, too": lambda v: (
        [long_syn(v), synack(v, ack=1025), ours("R", v, seq=1025)],
        [row("open", "syn-ack", "half-open", version=v)],
    ),
    "open, and the data is not acknowledged": lambda v: (
        [long_syn(v), synack(v)],
        [row("open", "syn-ack", version=v)],
    ),
    "closed, a reset that acknowledges the SYN's own number": lambda v: (
        [syn(v), rst(v, ack=1000)],
        [row("closed", "reset", version=v)],
    ),
    "an ICMP error": lambda v: (
        [syn(v), unreachable(v, code=3)],
        [row("filtered", ("port", "host")[v == 6] + "-unreach", version=v)],
    ),
    "an ICMP error cut to the ports": lambda v: (
        [syn(v), unreachable(v, quoted_tcp=4)],
        [row("filtered", "no-response", "icmp-quote-truncated", version=v)],
    ),
    "an open port and a router that contradicts": lambda v: (
        [syn(v), synack(v), unreachable(v, code=1)],
        [row("open", "syn-ack", "conflict:" + ("host-unreach", "admin-prohibited")[v == 6], version=v)],
    ),
    "a host that contradicts itself": lambda v: (
        [syn(v), synack(v), rst(v)],
        [row("open", "syn-ack", "conflict:reset", version=v)],
    ),
    "a SYN sent twice, answered once": lambda v: ([syn(v), syn(v), synack(v)], [row("open", "syn-ack", version=v)]),
    "a SYN sent twice, answered twice": lambda v: (
        [syn(v), syn(v), synack(v), synack(v)],
        [row("open", "syn-ack", version=v)],
    ),
    "a SYN sent once, answered twice": lambda v: (
        [syn(v), synack(v), synack(v)],
        [row("open", "syn-ack", "repeat", version=v)],
    ),
    "two source ports, the second is answered": lambda v: (
        [syn(v), syn(v, sport=40001, seq=7), synack(v, dport=40001, ack=8)],
        [row("open", "syn-ack", version=v)],
    ),
    "a split handshake": lambda v: (
        [syn(v), segment("S", v, ack=0)],
        [row("unknown", "split-handshake-syn", "unverified", version=v)],
    ),
    "a split handshake, and a SYN/ACK that nobody acknowledges": lambda v: (
        [syn(v), segment("S", v, ack=0), ours("SA", v, seq=1000)],
        [row("unknown", "split-handshake-syn", "unverified", version=v)],
    ),
    "a split handshake, and an ACK of another number": lambda v: (
        [syn(v), segment("S", v, ack=0), ours("SA", v, seq=1000), segment("A", v, seq=78, ack=1002)],
        [row("unknown", "split-handshake-syn", "unverified", version=v)],
    ),
    "a split handshake, and an ACK without a SYN/ACK": lambda v: (
        [syn(v), segment("S", v, ack=0), segment("A", v, seq=78)],
        [row("unknown", "split-handshake-syn", "unverified", version=v)],
    ),
    "a bare SYN, and a reset": lambda v: (
        [syn(v), segment("S", v, ack=0), rst(v)],
        [row("closed", "reset", "conflict:split-handshake-syn", version=v)],
    ),
    "a simultaneous open": lambda v: (
        [syn(v), segment("S", v, ack=0), segment("SA", v)],
        [row("open", "syn-ack", version=v)],
    ),
}
# Only the order in the file shows what somebody did behind a SYN of theirs.
PROVED = {
    "a split handshake, proved": lambda v: (
        [syn(v), segment("S", v, ack=0), ours("SA", v, seq=1000), segment("A", v, seq=78), ours("R", v)],
        [row("open", "split-handshake-syn", version=v)],
    ),
    "a split handshake that goes on": lambda v: (
        [
            syn(v),
            segment("S", v, ack=0),
            ours("SA", v, seq=1000),
            *[segment("A", v, seq=78)] * 2,
            segment("PA", v, seq=78),
        ],
        [row("open", "split-handshake-syn", version=v)],
    ),
}
CASES = {f"{name}, IPv{version}": case(version) for name, case in EITHER_FAMILY.items() for version in (4, 6)} | {
    "two scanners of one target": (
        [syn(), syn(src=OTHER), synack(), rst(dst=OTHER)],
        [row("open", "syn-ack"), row("closed", "reset", us=OTHER)],
    ),
    "answers with a wrong acknowledgement": ([syn(), synack(ack=1002), rst(ack=5)], [row("filtered", "no-response")]),
    "an ICMP error about another sequence number": (
        [syn(), unreachable(quoting=syn(seq=999))],
        [row("filtered", "no-response")],
    ),
    "silence, while others were answered": ([syn(), NOISE], [row("filtered", "no-response")]),
    "silence, and nothing ever came": ([syn()], [row("unknown", "one-way-capture")]),
    "other flags": ([syn(), segment("A"), segment("FA"), segment("")], [row("unknown", "reply-not-captured")]),
    "replies alone": ([synack(), rst(sport=80), unreachable(quoting=syn(dport=81))], []),
    "the prober's own SYN recorded on two interfaces": ([syn(), syn(), rst()], [row("closed", "reset")]),
    "this machine scans itself": (
        [syn(src=US[4], dst=US[4]), syn(src=US[4], dst=US[4]), rst(src=US[4], dst=US[4])],
        [(US[4], US[4], 443, "closed", "reset", ())],
    ),
    "a server that resets in the middle of a connection": (
        [syn(), synack(), ours("A"), ours("PA"), segment("RA", seq=78, ack=1099)],
        [row("open", "syn-ack", "handshake-completed")],
    ),
    "resets without the mark whose header is not that of REJECT": (
        [
            frame
            for port, tos in ((1, 4), (2, 4), (3, 0))
            for frame in (syn(dport=port), rst(sport=port, tos=tos, seq=0, identity=7))
        ],
        [row("closed", "reset", port=1), row("closed", "reset", port=2), row("closed", "reset", port=3)],
    ),
    "marked resets and a forged one": (
        [
            frame
            for port, tos in ((1, 4), (2, 4), (3, 0))
            for frame in (syn(dport=port), rst(sport=port, tos=tos, seq=0))
        ],
        [
            row("closed", "reset", "host-reset", port=1),
            row("closed", "reset", "host-reset", port=2),
            row("closed", "reset", "firewall-reset", port=3),
        ],
    ),
    "resets of a host that copies nothing": (
        [frame for port in (1, 2, 3) for frame in (syn(dport=port), rst(sport=port, tos=0, seq=0))],
        [row("closed", "reset", port=port) for port in (1, 2, 3)],
    ),
    "a closed window": ([syn(), synack(window=0)], [row("open", "syn-ack", "syn-proxy")]),
}


IN_ORDER = CASES | {f"{name}, IPv{version}": case(version) for name, case in PROVED.items() for version in (4, 6)}


@pytest.mark.parametrize(("frames", "expected"), IN_ORDER.values(), ids=IN_ORDER)
def test_rows(frames: list[bytes], expected: list[Row]) -> None:
    assert verdicts(frames, range(1, 100), False) == expected


def without_aftermath(given: list[Row]) -> list[Row]:
    """Only the order in the file shows what the prober did after the answer."""
    aftermath = {"half-open", "handshake-completed"}
    return [(*row[:5], tuple(word for word in row[5] if word not in aftermath)) for row in given]


@pytest.mark.parametrize(("frames", "expected"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("seed", range(4))
def test_neither_order_nor_batches_matter(frames: list[bytes], expected: list[Row], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(frames)).tolist()
    shuffled, times = [frames[at] for at in order], [at + 1 for at in order]
    given = verdicts(shuffled, times, False, size=1 + seed)
    assert without_aftermath(given) == without_aftermath(expected)


UNPROBED = "probe-not-captured"
ORPHANS = {
    "a SYN/ACK": ([synack()], [row("open", "syn-ack", UNPROBED)]),
    "a reset that answers a SYN": ([rst(seq=0)], [row("closed", "reset", UNPROBED)]),
    "a reset that ends a connection": ([rst(seq=4711)], []),
    "a reset in a connection begun before": ([ours("PA"), segment("PA", seq=78), rst(seq=80, ack=1050)], []),
    "an ICMP error": ([unreachable()], [row("filtered", "host-unreach", UNPROBED)]),
    "a target that was also probed": ([syn(), rst(), synack(dport=5)], [row("closed", "reset")]),
}


@pytest.mark.parametrize(("frames", "expected"), ORPHANS.values(), ids=ORPHANS)
def test_replies_without_probe(frames: list[bytes], expected: list[Row]) -> None:
    assert verdicts(frames, range(1, 100), True) == expected


# When the SYN was sent, when the last packet came (None: no times), the timeout in seconds; what silence means.
SILENCE = {
    "waited long enough": (5, 7, 1.0, "no-response"),
    "waited exactly as long": (5, 6, 1.0, "no-response"),
    "too short": (5, 5.5, 1.0, "capture-ended"),
    "a longer timeout": (5, 7, 3.0, "capture-ended"),
    "the rule is off": (5, 5, 0.0, "no-response"),
    "no times": (NO_TIME / SECOND, None, 1.0, "no-response"),
}


@pytest.mark.parametrize(("sent", "last", "timeout", "reason"), SILENCE.values(), ids=SILENCE)
def test_silence_at_the_end(
    sent: float, last: float | None, timeout: float, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = Capture(opened=1, end_time=NO_TIME if last is None else int(last * SECOND))
    capture.batches = map(capture.count, [batch(syn(), NOISE, link=LINK_RAW, times=[int(sent * SECOND)] * 2)])
    monkeypatch.setattr(classification, "open_captures", lambda paths: capture)
    (given,) = Classification(["any"], timeout).batches()
    state = "unknown" if reason == "capture-ended" else "filtered"
    assert [(row.port, row.state, row.reason) for row in given] == [(443, state, reason)]


def test_a_repeated_syn_has_waited_since_its_first() -> None:
    given = verdicts([syn(), syn(), NOISE], [SECOND, 9 * SECOND, 9 * SECOND], False, too_late=8 * SECOND)
    assert given == [row("filtered", "no-response")]


TOWARDS = {
    "a reply for another port": rst(sport=9, ack=9),
    "an ICMP error that is cut": unreachable(quoted_tcp=4),
    "an ICMP error cut in the quoted header": unreachable()[:35],
    "UDP": segment().replace(b"\x40\x06", b"\x40\x11", 1),
}


@pytest.mark.parametrize("frame", TOWARDS.values(), ids=TOWARDS)
def test_any_packet_towards_the_prober_shows_the_other_direction(frame: bytes) -> None:
    reasons = [row[4] for row in verdicts([syn(dport=1), frame], [1, 2], False)]
    assert reasons == ["no-response"]


def test_the_sender_and_the_round_trip_of_an_icmp_error() -> None:
    flows = Flows()
    flows.feed(batch(syn(), unreachable(ttl=61), link=LINK_RAW, times=[5 * SECOND, 5 * SECOND + 1_500_000]))
    settle(flows)
    (given,) = rows(flows, judge(flows, NEVER, False, False).whole())
    assert (given.icmp_from, given.ttl, given.rtt_ms, given.time, given.pass_) == (ROUTER[4], 61, 1.5, 5.0015, 1)


AND_MORE = {name: case for name, case in IN_ORDER.items() if name != "silence, and nothing ever came"}


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize(("frames", "expected"), AND_MORE.values(), ids=AND_MORE)
def test_flows_that_are_over_may_be_forgotten(
    frames: list[bytes], expected: list[Row], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same flows, and behind them many more, all to one port."""
    monkeypatch.setattr(module, "FEW_FLOWS", 8)
    flows = Flows()
    ports = range(1, 40)
    again = [[syn(dport=1000, sport=port) for port in ports], [rst(sport=1000, dport=port, seq=0) for port in ports]]
    every, forgot = [*frames, *again[0], *again[1]], False
    for first in range(0, len(every), size):
        fresh = flows.count
        flows.feed(batch(*every[first : first + size], times=range(first + 1, first + size + 1)))
        retire(flows, fresh)
        forgot = forgot or flows.forgotten.count > 0
    settle(flows)
    given = [
        (row.scanner_ip, row.ip, row.port, row.state, row.reason, row.evidence)
        for row in rows(flows, judge(flows, NEVER, False, False).whole())
    ]
    assert forgot
    assert [row for row in given if row[2] != 1000] == expected


# ── hosts that probe each other, and other rare cases ──

BACK = {"src": THEM[4], "dst": US[4], "sport": 443, "dport": 40000}  # a SYN the other way on the same ports
SYN_BACK = syn(seq=7, **BACK)  # type: ignore[arg-type]
RST_BACK = segment("RA", src=US[4], dst=THEM[4], sport=40000, dport=443, seq=0, ack=8)
BOTH_CLOSED = [row("closed", "reset"), ("198.18.1.7", "198.18.0.1", 40000, "closed", "reset", ())]
RARE = {
    "a reset first, then a SYN of its own": ([syn(), rst(seq=0), SYN_BACK, RST_BACK], [1, 2, 3, 4], BOTH_CLOSED),
    "silence, then much later a SYN of its own": (
        [syn(), SYN_BACK, RST_BACK],
        [0, 600 * SECOND, 600 * SECOND + 1],
        [row("filtered", "no-response"), BOTH_CLOSED[1]],
    ),
    "nothing was sent to the prober, but it answers other hosts": (
        [syn(), segment("SA", src=US[4], dst=OTHER, sport=40000, dport=5)],
        [1, 2],
        [row("unknown", "one-way-capture")],
    ),
    "two hosts behind one address": (
        [syn(), rst(), syn(sport=40001, seq=2000), synack(dport=40001, ack=2001)],
        range(4),
        [row("open", "syn-ack", "conflict:reset")],
    ),
    "every checksum of the host is wrong": (
        [syn(), damaged(synack()), syn(dport=80), damaged(rst(sport=80))],
        range(4),
        [row("open", "syn-ack", "bad-checksum"), row("closed", "reset", "bad-checksum", port=80)],
    ),
    "a time to live of 0": ([syn(), synack(ttl=0), NOISE], range(3), [row("filtered", "no-response")]),
    **{
        f"an error from {sender}": (
            [syn(), unreachable(sender=sender), NOISE],
            range(3),
            [row("filtered", "no-response")],
        )
        for sender in ("127.0.0.1", US[4], "224.0.0.1", "255.255.255.255")
    },
    "one SYN 65,536 times": ([syn()] * 65536 + [synack()], range(65537), [row("open", "syn-ack")]),
    "a router that changed the length in the header that it quotes": (
        [syn(), unreachable(quoting=syn()[:2] + b"\0\x14" + syn()[4:], code=13)],
        [1, 2],
        [row("filtered", "admin-prohibited")],
    ),
}


@pytest.mark.parametrize(("frames", "times", "expected"), RARE.values(), ids=RARE)
def test_rare_cases(frames: list[bytes], times: Sequence[int], expected: list[Row]) -> None:
    assert sorted(verdicts(frames, list(times), False, size=1 << 17)) == sorted(expected)


def test_many_routers_are_numbered() -> None:
    flows = Flows()
    frames = []
    for number in range(3000):
        probe = syn(dport=number + 1)
        frames += [probe, unreachable(quoting=probe, sender=f"198.19.{number >> 8}.{number & 255}")]
    flows.feed(batch(*frames, times=range(len(frames))))
    settle(flows)
    senders = {row.icmp_from for row in rows(flows, judge(flows, NEVER, False, False).whole())}
    assert len(senders) == 3000
