"""Evidence of captures claims nothing that ordinary traffic shows, too."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from scanner.capture.source import Capture
from scanner.classifier import classification
from scanner.classifier.classification import Classification
from scanner.packet.headers import LINK_RAW
from scanner.trace.ladder import LadderStep, draw
from scanner.verdict.rows import Verdict
from tests.builders import SECOND, THEM, US, batch, rst, segment, syn, synack, unreachable

Brief = tuple[str, int | None, str, str, tuple[str, ...]]
EARLY, LATE = 10 * SECOND, 20 * SECOND


def ours(flags: str = "A", seq: int = 1001, ack: int = 78, **more: Any) -> bytes:
    fields = {"src": US[4], "dst": THEM[4], "sport": 40000, "dport": 443} | more
    return segment(flags, seq=seq, ack=ack, **fields)  # type: ignore[arg-type]


def rows(
    frames: Sequence[bytes], monkeypatch: pytest.MonkeyPatch, times: Sequence[int] | None = None, timeout: float = 0
) -> tuple[list[Brief], Classification]:
    capture = Capture(opened=1)
    capture.batches = map(capture.count, [batch(*frames, link=LINK_RAW, times=times)])
    monkeypatch.setattr(classification, "open_captures", lambda paths: capture)
    given = Classification(["any"], timeout)
    brief = [(r.ip, r.port, r.state, r.reason, r.evidence) for each in given.batches() for r in each]
    return brief, given


OTHERS = {"half-open", "handshake-completed"}  # only the order in the file shows them
RESETS = {
    "a reset after data": ([syn(), synack(), ours(), ours("PA"), segment("R", seq=178)], ()),
    "a reset of an established connection": ([syn(), synack(), ours(), segment("RA", seq=78)], ()),
    "a reset of a connection that was half open": ([syn(), synack(), segment("RA", seq=78)], ()),
    "the same twice": ([syn(), synack(), segment("RA", seq=78), segment("RA", seq=78)], ()),
    "a sequence number that wraps": ([syn(), synack(seq=2**32 - 1), segment("RA", seq=5)], ()),
    "a reset that answers the SYN": ([syn(), synack(), rst(seq=0)], ("conflict:reset",)),
    "a reset with the number of the SYN/ACK": ([syn(), synack(), rst(seq=77)], ("conflict:reset",)),
}


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
@pytest.mark.parametrize(("frames", "words"), RESETS.values(), ids=RESETS)
def test_the_end_of_a_connection_is_no_conflict(
    frames: list[bytes], words: tuple[str, ...], seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = np.arange(len(frames)) if seed is None else np.random.default_rng(seed).permutation(len(frames))
    given, _ = rows([frames[at] for at in order], monkeypatch, [int(at) + 1 for at in order])
    assert [(*row[1:4], set(row[4]) - OTHERS) for row in given] == [(443, "open", "syn-ack", set(words))]


THEIRS = segment("S", ack=0)
CROSSED = [syn(), THEIRS, ours("SA", seq=1000), synack()]


@pytest.mark.parametrize("last", [[], [segment("A", seq=78)]], ids=["without", "with an ACK"])
@pytest.mark.parametrize("times", [(1, 2, 3, 4, 5), (1, 1, 1, 1, 1), (1, 2, 3, 5, 4)])
def test_a_simultaneous_open_is_proved_by_the_syn_ack(
    times: Sequence[int], last: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, _ = rows([*CROSSED, *last], monkeypatch, times[: 4 + len(last)])
    assert [(*row[:4], set(row[4]) - OTHERS) for row in given] == [(THEM[4], 443, "open", "syn-ack", set())]


def test_equal_times_give_equal_rows_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order in the file, and whatever numbers the tables draw: TTL and evidence are the same."""
    frames = [syn(), syn(sport=40001), synack(ttl=60), synack(dport=40001, ttl=50), *CROSSED]
    found = set()
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(len(frames))
        given, _ = rows([frames[at] for at in order], monkeypatch, [7] * len(frames))
        found.add(tuple((*row[:4], frozenset(set(row[4]) - OTHERS)) for row in given))
    assert len(found) == 1


def test_rows_of_ipv6_stand_in_the_order_of_the_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    order = np.random.default_rng(3).permutation(200) + 1
    given, _ = rows([syn(6, dst=f"2001:db8:1::{n:x}") for n in order.tolist()], monkeypatch)
    assert [row[0] for row in given] == [f"2001:db8:1::{n:x}" for n in range(1, 201)]


def test_an_echoed_syn_is_no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    echo = segment("S", seq=1000, ack=0)
    given, reading = rows([syn(), echo], monkeypatch)
    assert [row[:4] for row in given] == [(THEM[4], 443, "filtered", "no-response")]
    assert (reading.flows.probes, reading.as_report()["rejected"]) == (1, {"own-probe": 1})


def swapped(error: bytes) -> bytes:
    """An ICMP error as some BSD systems send it: length and fragment word of the quote have their bytes swapped."""
    at = 28
    words = [error[at + n : at + n + 2][::-1] for n in (2, 6)]
    return error[: at + 2] + words[0] + error[at + 4 : at + 6] + words[1] + error[at + 8 :]


def test_a_quote_with_swapped_bytes_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = bytearray(syn())
    probe[6:8] = b"\x40\x00"  # DF
    given, _ = rows([bytes(probe), swapped(unreachable(quoting=bytes(probe)))], monkeypatch)
    assert [row[2:4] for row in given] == [("filtered", "host-unreach")]


@pytest.mark.parametrize(("times", "reason"), [((0, 0), "no-response"), ((EARLY, EARLY), "capture-ended")])
def test_time_stamps_that_are_all_zero_say_nothing_of_the_end(
    times: Sequence[int], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, _ = rows([syn(), rst(dport=9, ack=9)], monkeypatch, times, timeout=1.0)
    assert [row[3] for row in given] == [reason]


def transfer(port: int, data: bytes) -> list[bytes]:
    """A connection to a port, with what the server sends."""
    fields = {"sport": port, "dport": 40000}
    answer = [segment("PA", seq=78, ack=1001, payload=data, **fields)] if data else []  # type: ignore[arg-type]
    return [syn(dport=port), synack(sport=port), ours(dport=port), *answer]


@pytest.mark.parametrize(("data", "words"), [(b"a file", 0), (b"", 30)], ids=["passive FTP", "a tarpit"])
def test_ports_that_the_server_chose_are_no_host_that_is_open_everywhere(
    data: bytes, words: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, _ = rows([frame for port in range(50000, 50030) for frame in transfer(port, data)], monkeypatch)
    assert sum("all-open" in row[4] for row in given) == words


def test_a_tarpit_that_also_serves_files_has_the_word_on_its_other_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [frame for port in range(50000, 50010) for frame in transfer(port, b"a file")]
    given, _ = rows([*files, *(frame for port in range(1, 31) for frame in transfer(port, b""))], monkeypatch)
    assert [row[1] for row in given if "all-open" in row[4]] == list(range(1, 31))


def test_a_ladder_counts_from_the_syn_of_each_conversation() -> None:
    steps = [
        LadderStep(at, from_us, what, 40000, seq, ack)
        for at, (from_us, what, seq, ack) in enumerate(
            [(True, "SYN", 1000, None), (False, "SYN/ACK", 77, 1001), (True, "RST", 1001, None),
             (True, "SYN", 5_000_000, None), (False, "SYN/ACK", 900, 5_000_001)]
        )
    ]  # fmt: skip
    drawn = draw("198.18.0.1", steps, Verdict("198.18.0.2", 22, "open", "syn-ack"))
    assert [drawn.count(text) for text in ("SYN seq=0 ", "SYN/ACK seq=0 ack=1 ", "RST seq=1 ")] == [2, 2, 1]
