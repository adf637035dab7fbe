"""However a capture is ordered, parted, packed or copied, its rows change only as the decision table says.

Each change stands in `CHANGES` with what it may change in a row, and why. It is tried on every capture of pcaps/, and
on drawn ones (`tests/capture_changes.py: scene`). `python -m tests.test_capture_properties SEEDS` tries more of those.
"""

import gzip
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from scanner.capture.reader import open_captures
from scanner.capture.source import Capture
from scanner.classifier import classification, settle
from scanner.classifier.classification import Classification
from scanner.packet.headers import LINK_ETHERNET, LINK_RAW
from scanner.verdict.rows import Verdict
from tests import capture_changes, golden
from tests.builders import OUR_PORT, ROUTER, SECOND, THEIR_PORT, THEM, US, rst, segment, syn, synack, unreachable
from tests.capture_changes import MICRO, NANO, Packets
from tests.tunnels import nested, vxlan

SEEDS = 60  # drawn captures
WHOLE = 1 << 30
Key = tuple[str | None, str | None, str, int | None, int | None]
Rows = dict[Key, Verdict]


class Subject(NamedTuple):
    """A capture and how it is to be judged."""

    packets: Packets
    timeout: float = 0.0
    orphans: bool = False
    both_ways: bool = False
    end_time: int = 0
    drawn: bool = False


class Change(NamedTuple):
    """What is done with the packets, and what it may change: columns, or `evidence:word`, each with the reason."""

    make: capture_changes.Change
    allowed: dict[str, str]
    pieces: bool = False  # the packets come in batches of 1 to 9, or all at once
    few: int | None = None  # flows that the tables hold
    instead: capture_changes.Change | None = (
        None  # what the rows are compared with, in place of the packets as they are
    )
    path: str = "any"
    unclear: dict[str, str] = {}  # allowed besides in drawn captures, and without captured SYNs


SAME: capture_changes.Change = lambda packets, draw: packets  # noqa: E731
BEHIND = {
    f"evidence:{word}": "what a prober sends counts behind its SYN in the file (`classifier.flows`)"
    for word in ("half-open", "handshake-completed")
}
FORGOTTEN = BEHIND | {
    "evidence:conflict:reset": "the number of a SYN/ACK is not kept of a forgotten flow (`classifier.endings`)"
}
TWICE = {
    "rtt_ms": "which copy of the SYN was answered is not known",
    "attempts": "each copy of a SYN counts",
    "last_probe": "the copy is later",
}
REPEATED = TWICE | {"evidence:repeat": "that is what the word says"}
UNCLEAR = {
    "evidence:repeat": "how many replies are due is not known without the SYNs, or where replies contradict each other"
}
SHORT = {
    "evidence:icmp-quote-truncated": "the quote is cut, and the row says so",
    "evidence:syn-proxy": "the window is cut off",
    "evidence:all-open": "the window is cut off",
    "evidence:bad-checksum": "what is cut cannot be summed up",
    **dict.fromkeys(("window", "mss", "options"), "what is cut is not known"),
}
EARLY = {
    **dict.fromkeys(("attempts", "last_probe", "rtt_ms"), "an early row of a pipe does not know SYNs that follow"),
    "first_probe": "its probes are those of the attempt that was answered; README says so",
    "pass_": "an early row of a pipe does not know which attempt was answered",
    "evidence": "only the whole capture shows it; README says so",
}
WAITING = dict.fromkeys(("time", "ttl"), "an answer that stands before its SYN waits for the end of the capture")
MICROSECONDS = dict.fromkeys(("time", "rtt_ms", "first_probe", "last_probe"), "a file in microseconds")

CHANGES: dict[str, Change] = {
    "small batches": Change(SAME, {}, True, unclear=BEHIND),
    "shuffled": Change(capture_changes.shuffled, BEHIND, True),
    "shuffled, in one batch": Change(capture_changes.shuffled, BEHIND),
    "backwards": Change(capture_changes.turned, BEHIND, True),
    "small tables": Change(SAME, FORGOTTEN, True, few=6),
    "small tables, shuffled": Change(capture_changes.shuffled, FORGOTTEN, True, few=6),
    "two taps": Change(capture_changes.twice_seen, TWICE, unclear=UNCLEAR),
    "repeated packets": Change(
        capture_changes.repeated, TWICE | {"evidence:repeat": "that is what the word says"}, True
    ),
    "a pipe": Change(SAME, EARLY, True, path="-", unclear=WAITING),
    **{
        f"{snap} bytes of each packet": Change(
            capture_changes.cut_to(snap), SHORT, instead=capture_changes.readable_in(snap)
        )
        for snap in (54, 60, 68, 74, 82, 96)
    },
}


def judged(capture: Capture, subject: Subject, path: str = "any") -> list[Verdict]:
    usual = classification.open_captures
    classification.open_captures = lambda paths: capture  # type: ignore[assignment]
    try:
        reading = Classification([path], subject.timeout, subject.orphans)
    finally:
        classification.open_captures = usual
    return [row for rows in reading.batches() for row in rows]


def in_memory(subject: Subject, change: Change, draw: random.Random) -> list[Verdict]:
    size = (lambda: draw.choice((1, 1, 2, 3, 9))) if change.pieces else lambda: WHOLE
    packets, usual = change.make(subject.packets, draw), settle.FEW_FLOWS
    settle.FEW_FLOWS = change.few or usual
    try:
        return judged(
            capture_changes.capture_of(packets, size, subject.both_ways, subject.end_time), subject, change.path
        )
    finally:
        settle.FEW_FLOWS = usual


def by_key(rows: list[Verdict]) -> Rows:
    found = {(row.scanner_ip, row.tunnel, row.ip, row.port, row.scan): row for row in rows}
    assert len(found) == len(rows), "a target has two rows"
    return found


def differences(expected: list[Verdict], given: list[Verdict], allowed: dict[str, str]) -> list[tuple[Any, ...]]:
    """What differs beyond what is allowed: the key of the row, the column or word, and both values."""
    before, after = by_key(expected), by_key(given)
    found: list[tuple[Any, ...]] = [(key, "row") for key in before.keys() ^ after.keys()]
    if list(before) != list(after) and "pass_" not in allowed:
        found.append(("order of rows",))
    for key in before.keys() & after.keys():
        old, new = before[key]._asdict(), after[key]._asdict()
        words = set(old["evidence"]) ^ set(new["evidence"])
        words = {word for word in words if f"evidence:{word}" not in allowed and "evidence" not in allowed}
        columns = {name for name in old if name not in allowed and name != "evidence" and old[name] != new[name]}
        found += [(key, word) for word in words] + [(key, name, old[name], new[name]) for name in columns]
    return found


@cache
def subject_of(path: Path) -> Subject:
    """A capture of pcaps/, judged as its expected rows are."""
    arguments, whole = golden.ARGUMENTS.get(path.name, golden.USUAL), open_captures([str(path)])
    for _ in whole:
        pass
    timeout = 0.0 if "--timeout" in arguments else classification.DEFAULT_TIMEOUT
    return Subject(capture_changes.packets_of(path), timeout, "--orphans" in arguments, whole.both_ways, whole.end_time)


@cache
def drawn(seed: int) -> Subject:
    draw = random.Random(seed)
    return Subject(capture_changes.scene(draw), draw.choice((0.0, 1.0)), drawn=True)


def wrong(subject: Subject, change: Change, seed: int) -> list[tuple[Any, ...]]:
    draw = random.Random(seed)
    plain = Change(change.instead or SAME, {})
    allowed = change.allowed | (change.unclear if subject.orphans or subject.drawn else {})
    return differences(in_memory(subject, plain, draw), in_memory(subject, change, draw), allowed)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("path", golden.captures(), ids=lambda path: path.name)
def test_the_captures_of_this_repository(path: Path, change: Change) -> None:
    assert wrong(subject_of(path), change, 1) == []


@pytest.mark.parametrize("name", [name for name in CHANGES if "bytes" not in name])
def test_drawn_captures(name: str) -> None:
    found = {seed: wrong(drawn(seed), CHANGES[name], seed) for seed in range(SEEDS)}
    assert {seed: all_of for seed, all_of in found.items() if all_of} == {}


def ours(flags: str, **more: Any) -> bytes:
    """A segment of the prober."""
    return segment(flags, src=US[4], dst=THEM[4], sport=OUR_PORT, dport=THEIR_PORT, **more)


FAST_OPEN = {"seq": 1000, "ack": 0, "payload": b"abc"}  # data in the SYN (RFC 7413)
Brief = tuple[str, str, tuple[str, ...]]
# Packets of one prober and one target, each later than the one before, and the row in whatever order they stand.
SMALL: dict[str, tuple[list[bytes], Brief]] = {
    "the prober resets what was closed, and the host probes, too": (
        [syn(src=THEM[4], dst=ROUTER[4]), ours("R", seq=7, ack=0), syn(), rst(seq=0)], ("closed", "reset", ()),
    ),
    "two answers to data in a SYN": (
        [ours("S", **FAST_OPEN), synack(ack=1004), rst(seq=0, ack=1004)], ("open", "syn-ack", ("conflict:reset",)),
    ),
    "an answer to data in a SYN, twice": (
        [ours("S", **FAST_OPEN), synack(ack=1004), synack(ack=1004)], ("open", "syn-ack", ("repeat",)),
    ),
    "the end of a connection that began with data": (
        [ours("S", **FAST_OPEN), ours("PA", seq=1004, ack=78, payload=b"x"), segment("A", seq=78, ack=1005),
         segment("RA", seq=78, ack=1004)],
        ("open", "syn-ack", ("reply-not-captured",)),
    ),
    "a reset for the SYN's own number": ([syn(), rst(seq=0, ack=1000)], ("closed", "reset", ())),
}  # fmt: skip


def rows_of(frames: list[bytes], name: str, times: Sequence[int] = range(1, 9), orphans: bool = False) -> set[Brief]:
    """The rows of the target after a change of this name, tried six times."""
    packets = [(time, LINK_RAW, data) for time, data in zip(times, frames, strict=False)]
    subject, change = Subject(packets, orphans=orphans), CHANGES[name]
    given = [in_memory(subject, change, random.Random(seed)) for seed in range(6)]
    found = [[row for row in rows if (row.ip, row.port) == (THEM[4], THEIR_PORT)] for rows in given]
    assert [len(rows) for rows in found] == [1] * len(given)
    return {
        (row.state, row.reason, tuple(word for word in row.evidence if f"evidence:{word}" not in change.allowed))
        for [row] in found
    }


@pytest.mark.parametrize("name", ["small batches", "shuffled", "backwards"])
@pytest.mark.parametrize(("frames", "row"), SMALL.values(), ids=SMALL)
def test_small_captures(frames: list[bytes], row: Brief, name: str) -> None:
    assert rows_of(frames, name) == {row}


@pytest.mark.parametrize("name", ["small batches", "backwards"])
def test_of_errors_at_one_time_always_the_same_one_counts(name: str) -> None:
    errors = [unreachable(code=code) for code in (3, 1)]
    expected = ("filtered", "host-unreach", ("conflict:port-unreach",))
    assert rows_of([syn(), *errors], name, [1, 2, 2]) == {expected}


@pytest.mark.parametrize("name", ["small batches", "backwards"])
def test_the_end_of_a_connection_hides_no_answer_without_a_probe(name: str) -> None:
    expected = ("open", "syn-ack", ("probe-not-captured",))
    assert rows_of([synack(), segment("R", seq=78)], name, orphans=True) == {expected}


def test_a_reset_for_the_syn_s_own_number_counts_behind_a_wrong_answer() -> None:
    frames = [syn(), synack(ack=1000), rst(seq=0, ack=1000)]
    assert rows_of(frames, "small batches") == {("closed", "reset", ())}


@pytest.mark.parametrize("name", ["small batches", "shuffled", "backwards"])
def test_one_address_in_several_tunnels_has_its_rows_in_one_order(name: str) -> None:
    probes = [vxlan(syn(), 9), vxlan(syn(), 5), vxlan(nested(syn(), 2)[14:], 5), nested(syn(), 2), vxlan(syn(), 7)]
    subject = Subject([(at, LINK_ETHERNET, frame) for at, frame in enumerate(probes, 1)])
    order = {tuple(row.tunnel for row in in_memory(subject, CHANGES[name], random.Random(seed))) for seed in range(6)}
    assert order == {("vxlan:5", "vxlan:7", "vxlan:9", "gre/gre", "vxlan:5/gre/gre")}


# ── files and pipes ──


def gzipped(packets: Packets) -> bytes:
    return gzip.compress(capture_changes.as_pcap(packets), 1)


FILES: dict[str, tuple[Callable[[Packets], bytes], dict[str, str]]] = {
    "pcap, microseconds": (lambda packets: capture_changes.as_pcap(packets, "<", MICRO), MICROSECONDS),
    "pcap, big-endian microseconds": (lambda packets: capture_changes.as_pcap(packets, ">", MICRO), MICROSECONDS),
    "pcap, nanoseconds": (lambda packets: capture_changes.as_pcap(packets, "<", NANO), {}),
    "pcap, big-endian nanoseconds": (lambda packets: capture_changes.as_pcap(packets, ">", NANO), {}),
    "pcapng": (capture_changes.as_pcapng, {}),
    "pcapng, big-endian": (lambda packets: capture_changes.as_pcapng(packets, ">"), {}),
    "gzip": (gzipped, {}),
}


def from_files(subject: Subject, files: list[bytes], folder: Path) -> list[Verdict]:
    paths = [folder / f"{number}" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    capture = open_captures([str(path) for path in paths])
    capture.both_ways, capture.end_time = subject.both_ways, subject.end_time or capture.end_time
    return judged(capture, subject)


@pytest.mark.parametrize(("write", "allowed"), FILES.values(), ids=FILES)
@pytest.mark.parametrize("path", golden.captures(), ids=lambda path: path.name)
def test_formats(path: Path, write: Callable[[Packets], bytes], allowed: dict[str, str], tmp_path: Path) -> None:
    subject = subject_of(path)
    expected = in_memory(subject, Change(SAME, {}), random.Random(0))
    assert differences(expected, from_files(subject, [write(subject.packets)], tmp_path), allowed) == []


@pytest.mark.parametrize("snap", [WHOLE, 68, 54])
@pytest.mark.parametrize("path", golden.captures(), ids=lambda path: path.name)
def test_several_files_are_one_capture(path: Path, snap: int, tmp_path: Path) -> None:
    """Parted in any way, given in any order, and with packets that are cut at the end of a piece."""
    subject, draw = subject_of(path), random.Random(snap)
    subject = subject._replace(packets=capture_changes.cut_to(snap)(subject.packets, draw))
    files = [capture_changes.as_pcap(part) for part in capture_changes.parted(subject.packets, draw) if part]
    draw.shuffle(files)
    expected = in_memory(subject, Change(SAME, {}), draw)
    assert differences(expected, from_files(subject, files, tmp_path), {}) == []


@pytest.mark.parametrize("name", ["shuffled", "backwards"])
def test_scans_that_are_told_apart_do_not_depend_on_the_order(name: str, tmp_path: Path) -> None:
    for seed in range(SEEDS // 2):
        packets, draw = drawn(seed).packets, random.Random(seed)
        gap, change = draw.choice((1, 3)) * SECOND, CHANGES[name]
        found = []
        for each in (packets, change.make(packets, draw)):
            (tmp_path / "c").write_bytes(capture_changes.as_pcapng(each))
            batches = Classification([str(tmp_path / "c")], 0, gap=gap).batches()
            found.append([row for rows in batches for row in rows])
        assert differences(*found, change.allowed) == [], seed


@contextmanager
def standard_input(data: bytes, draw: random.Random) -> Iterator[None]:
    """The bytes come through a pipe, in random pieces."""
    read, write = os.pipe()
    kept = os.dup(0)
    os.dup2(read, 0)
    os.close(read)

    def give() -> None:
        at = 0
        with os.fdopen(write, "wb", buffering=0) as pipe:
            while at < len(data):
                at += pipe.write(data[at : at + draw.randrange(1, 4000)])

    writer = threading.Thread(target=give)
    writer.start()
    try:
        yield
    finally:
        writer.join()
        os.dup2(kept, 0)
        os.close(kept)


@pytest.mark.parametrize("path", golden.captures(), ids=lambda path: path.name)
def test_a_pipe_in_random_pieces(path: Path) -> None:
    subject, draw = subject_of(path), random.Random(7)
    with standard_input(capture_changes.as_pcapng(subject.packets), draw):
        capture = open_captures(["-"])
        capture.both_ways, capture.end_time = subject.both_ways, subject.end_time or capture.end_time
        given = judged(capture, subject, "-")
    assert differences(in_memory(subject, Change(SAME, {}), draw), given, EARLY) == []


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        for title, each in CHANGES.items():
            if "bytes" not in title and (bad := wrong(drawn(number), each, number)):
                print(number, title, bad)
