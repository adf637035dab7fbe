"""Captures from pipes: open rows come as they are found, each target is judged once, and Ctrl-C loses nothing."""

import gzip
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scanner.capture.reader import open_captures
from scanner.capture.source import Capture
from scanner.classifier import classification
from scanner.classifier.classification import Classification
from scanner.packet.headers import LINK_RAW
from scanner.verdict.rows import Verdict
from tests import golden
from tests.builders import THEM, US, batch, segment, syn, synack
from tests.command import halfopen
from tests.processes import PATIENCE, wait_until_it_catches

ROOT = Path(__file__).resolve().parents[1]
CAPTURE = ROOT / "pcaps/nmap-syn.pcap.gz"
ROWS = 19  # of this capture, in one file
Brief = tuple[str, int | None, str, str, str | None]


def brief(rows: list[Verdict]) -> list[Brief]:
    return sorted((row.ip, row.port or 0, row.state, row.reason, row.scanner_ip or "") for row in rows)


def read(capture: Capture, path: str, monkeypatch: pytest.MonkeyPatch) -> list[list[Verdict]]:
    """The batches of rows of a capture."""
    monkeypatch.setattr(classification, "open_captures", lambda paths: capture)
    return [list(rows) for rows in Classification([path], 0).batches()]


def in_pieces(path: Path, seed: int) -> Capture:
    """A small capture in random pieces, as a pipe may give it."""
    draw, capture = random.Random(seed), open_captures([str(path)])

    def pieces() -> Iterator[Any]:
        for frames in whole:
            at = 0
            while at < len(frames):
                size = draw.randrange(1, 20)
                yield frames.take(slice(at, at + size))  # type: ignore[arg-type]
                at += size

    whole, capture.batches = capture.batches, pieces()
    return capture


@pytest.mark.parametrize("path", golden.captures(), ids=lambda path: path.name)
def test_a_pipe_in_pieces_says_what_the_file_says(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = read(open_captures([str(path)]), "file", monkeypatch)
    batches = read(in_pieces(path, seed=1), "-", monkeypatch)
    assert brief([row for rows in batches for row in rows]) == brief(whole)
    assert {row.state for rows in batches[:-1] for row in rows} <= {"open"}


def test_everything_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judged, judge = [], classification.judge
    monkeypatch.setattr(classification, "judge", lambda *given: judged.append(given) or judge(*given))  # type: ignore[func-returns-value]
    batches = read(in_pieces(CAPTURE, seed=2), "-", monkeypatch)
    assert (len(batches) > 2, len(judged)) == (True, 1)


def test_early_rows_claim_nothing_of_the_whole_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty open ports in a piece are no host that is open everywhere: the piece does not show the others."""
    probes = [syn(dport=port) for port in range(1, 301)]
    capture = Capture(opened=1)
    answers = [synack(sport=port) for port in range(1, 31)]
    capture.batches = map(capture.count, [batch(*probes, link=LINK_RAW), batch(*answers, link=LINK_RAW)])
    early, rest = read(capture, "-", monkeypatch)
    assert ([row.evidence for row in early], len(rest)) == ([()] * 30, 270)


def test_a_syn_that_was_an_answer_gets_no_early_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simultaneous open (RFC 9293 3.5): both sides send SYN and SYN/ACK, and only one of them scans."""
    theirs = segment("S", seq=77, ack=0)
    ours = {"src": US[4], "dst": THEM[4], "sport": 40000, "dport": 443}
    both = [segment("SA", seq=1000, ack=78, **ours), segment("SA", seq=77, ack=1001)]  # type: ignore[arg-type]
    capture = Capture(opened=1)
    pieces = [batch(frame, link=LINK_RAW, times=[at]) for at, frame in enumerate([syn(), theirs, *both], 1)]
    capture.batches = map(capture.count, pieces)
    rows = [row for rows in read(capture, "-", monkeypatch) for row in rows]
    assert brief(rows) == [(THEM[4], 443, "open", "syn-ack", US[4])]


# ── signals ──


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_costs_no_row_of_what_a_pipe_gave(number: signal.Signals) -> None:
    """Kept: the open row that came early, and every other row of what the pipe gave, although its writer stays."""
    line = [sys.executable, "-m", "scanner", "classify", "-", "--timeout", "0", "-f", "jsonl"]
    with subprocess.Popen(line, cwd=ROOT, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(gzip.decompress(CAPTURE.read_bytes()))
        process.stdin.flush()
        early = process.stdout.readline()
        process.send_signal(number)
        rest, said = process.stdout.read(), process.stderr.read().decode().splitlines()
        code = process.wait(timeout=PATIENCE)
    assert (code, b'"state":"open"' in early.replace(b" ", b""), len(rest.splitlines()) + 1) == (130, True, ROWS)
    assert (said[0], said[-1]) == (
        "halfopen: 52 packets: 23 probes to 19 targets",
        "halfopen: interrupted: only what had been read by then is judged",
    )


NOTHING = ["halfopen: 0 packets: 0 probes to 0 targets"]


def test_a_signal_before_anything_came_ends_quietly() -> None:
    line = [sys.executable, "-m", "scanner", "classify", "-", "-f", "jsonl"]
    with subprocess.Popen(line, cwd=ROOT, stdin=-1, stdout=-1, stderr=-1) as process:
        wait_until_it_catches(process, signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said = process.stderr.read().decode().splitlines()
        code = process.wait(timeout=PATIENCE)
    # It may come while modules are still imported. Then there is nothing to say.
    assert (code, said[:1] or NOTHING) == (130, NOTHING)


def large(path: Path) -> None:
    """A capture that does not fit the buffer of the reader: SYNs to 90,000 addresses."""
    head = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000065000000")
    frame = bytearray(syn())
    with path.open("wb") as file:
        file.write(head)
        for number in range(90_000):
            frame[17:20] = number.to_bytes(3, "big")
            file.write(bytes(8) + len(frame).to_bytes(4, "little") * 2 + frame)


def killing(capture: Capture, times: int) -> Capture:
    """This process gets a signal after the first batch."""

    def batches(whole: Iterator[Any]) -> Iterator[Any]:
        for frames in whole:
            yield frames
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

    capture.batches = batches(capture.batches)
    return capture


@pytest.mark.parametrize(("times", "some"), [(1, True), (2, False)])
def test_ctrl_c_in_a_file(
    times: int, some: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kept: a row for each probe of the first batch, without a complaint about the rest. The second one ends it all."""
    large(tmp_path / "large.pcap")
    capture = killing(open_captures([str(tmp_path / "large.pcap")]), times)
    monkeypatch.setattr(classification, "open_captures", lambda paths: capture)
    code = halfopen("classify", "any", "-f", "jsonl", "--timeout", "0")
    out, said = capsys.readouterr()
    assert (code, 1000 < len(out.splitlines()) < 90_000) == (130, some)
    assert [line.split(": ")[1] for line in said.splitlines()[1:]] == ["interrupted"] * some
