"""Progress of captures: what is said, the bytes that are counted, and real processes on pipes and terminals."""

import gzip
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanner.capture.reader import open_captures
from scanner.classifier.classification import Classification, Step
from scanner.cli.capture_progress import CaptureProgress
from scanner.results.read import read_results
from tests.command import halfopen
from tests.processes import PATIENCE, wait_until_it_catches

ROOT = Path(__file__).resolve().parents[1]
PACKED = ROOT / "pcaps/nmap-syn.pcap.gz"
PACKETS = 52  # in it


def reading(
    done: int, size: int | None, packets: int, step: Step = Step.READING, written: int = 0
) -> tuple[CaptureProgress, Classification]:
    """A reading that has come so far."""
    reading = Classification([str(PACKED)])
    reading.capture.bytes_read, reading.capture.size, reading.capture.frames = done, size, packets
    reading.step, reading.judged_targets, reading.handed_out = step, 4_000_000, written
    return CaptureProgress(reading), reading


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ((250_000_000, 10**9, 3_000_000), "25% of 1,000 MB; 3,000,000 packets; 1,500,000/s; 0:00:06 left"),
        ((1_000_000, 10**9, 10_000), "0% of 1,000 MB; 10,000 packets; 5,000/s"),
        ((250_000_000, None, 3_000_000), "250 MB; 3,000,000 packets; 1,500,000/s"),
        ((12 * 10**8, 10**9, 10), "100% of 1,000 MB; 10 packets; 5/s; 0:00:00 left"),  # the file grows
        ((10**9, 10**9, 13_000_000, Step.JUDGING), "13,000,000 packets read; judging"),
        (
            (10**9, 10**9, 13_000_000, Step.WRITING, 1_000_000),
            "13,000,000 packets read; writing 25% of 4,000,000 targets",
        ),
    ],
    ids=["file", "too early", "pipe", "growing", "judging", "writing"],
)
def test_the_line_after_two_seconds(state: tuple[int, int | None, int], line: str) -> None:
    progress, _ = reading(*state)
    assert progress.line(2.0) == line


def test_the_facts_of_a_file() -> None:
    progress, now = reading(250_000_000, 10**9, 3_000_000)
    first = progress.facts(2.0)
    now.step, now.handed_out = Step.WRITING, 1_000_000
    assert first == {
        "step": "reading", "bytes": 250_000_000, "size": 10**9, "packets": 3_000_000, "rate": 1_500_000,
        "targets": 4_000_000, "written": 0, "seconds_left": 6.0,
    }  # fmt: skip
    assert progress.facts(9.0) == {**first, "step": "writing", "written": 1_000_000, "seconds_left": None}


@pytest.mark.parametrize("files", [1, 2])
@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
def test_all_bytes_of_all_files_are_counted(files: int, packed: bool, tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(files)]
    for path in paths:
        path.write_bytes(PACKED.read_bytes() if packed else gzip.decompress(PACKED.read_bytes()))
    capture = open_captures(list(map(str, paths)))
    frames = sum(map(len, capture))
    size = files * paths[0].stat().st_size
    assert (capture.bytes_read, capture.size, frames) == (size, size, files * PACKETS)


def test_the_size_of_a_pipe_is_not_known(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert open_captures([str(PACKED), str(tmp_path / "pipe")]).size is None


@pytest.mark.parametrize("verb", ["classify", "who"])
def test_an_unknown_form_is_refused(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = halfopen(verb, str(PACKED), "--progress", "xml")
    assert (code, "--progress 'xml' is not one of auto, json, none" in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "capture.pcap.gz"])
def test_report_and_diff_are_told_the_bytes_of_a_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    rows = b"".join(b'{"ip":"192.0.2.7","port":%d,"state":"open","reason":"syn-ack"}\n' % n for n in range(1, 10_000))
    path.write_bytes(PACKED.read_bytes() if "capture" in name else gzip.compress(rows) if "gz" in name else rows)
    told: list[tuple[str, int, int]] = []
    count = len(list(read_results([str(path)], print, lambda *done: told.append(done))))
    size = path.stat().st_size
    assert (count, {(where, whole) for where, _, whole in told}) == (
        19 if "capture" in name else 9999, {(str(path), size)}
    )  # fmt: skip
    places = [done for _, done, _ in told]
    assert (places, 0 < places[0] <= places[-1] <= size) == (sorted(places), True)


# ── real processes ──


def command(verb: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "scanner", verb, "-", *more]


@pytest.mark.parametrize("verb", ["classify", "who"])
def test_json_lines_of_a_pipe(verb: str) -> None:
    """The first line comes while the pipe is still open; the last one when all is written."""
    with subprocess.Popen(
        command(verb, "--progress", "json", "-q"), cwd=ROOT, stdin=-1, stdout=-3, stderr=-1
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(gzip.decompress(PACKED.read_bytes()))
        process.stdin.flush()
        first = json.loads(process.stderr.readline())
        process.stdin.close()
        *_, last = map(json.loads, process.stderr.read().splitlines())
        code = process.wait(timeout=PATIENCE)
    assert code == 0
    assert [(line["step"], line["packets"], line["size"]) for line in (first, last)] == [
        ("reading", PACKETS, None), ("writing" if verb == "classify" else "judging", PACKETS, None)
    ]  # fmt: skip


def test_a_signal_is_answered_while_the_pipe_gives_nothing() -> None:
    with subprocess.Popen(command("classify"), cwd=ROOT, stdin=-1, stdout=-3, stderr=-1) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        wait_until_it_catches(process, signal.SIGUSR1)
        process.send_signal(signal.SIGUSR1)
        said = process.stderr.readline().decode()
        process.stdin.close()
        code = process.wait(timeout=PATIENCE)
    assert (code, said) == (2, "0 MB; 0 packets; 0/s\n")  # 2: an empty pipe is no capture


def on_a_terminal(*, interrupted: bool) -> Iterator[str]:
    """What a terminal gets until the line is drawn, and after that. The capture ends, or Ctrl-C ends it."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command("classify", "--open"), cwd=ROOT, stdin=-1, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        assert process.stdin is not None
        process.stdin.write(gzip.decompress(PACKED.read_bytes()))
        process.stdin.flush()
        drawn = ""
        while " packets; " not in drawn:
            drawn += os.read(ours, 1 << 16).decode()
        yield drawn
        process.send_signal(signal.SIGINT) if interrupted else process.stdin.close()
        rest = ""
        try:
            while piece := os.read(ours, 1 << 16):
                rest += piece.decode()
        except OSError:  # the end of a terminal on Linux
            pass
        process.wait(timeout=PATIENCE)
    os.close(ours)
    yield rest


@pytest.mark.parametrize("interrupted", [False, True], ids=["end", "Ctrl-C"])
def test_the_line_on_a_terminal_is_removed_before_anything_else_is_printed(interrupted: bool) -> None:
    drawn, rest = on_a_terminal(interrupted=interrupted)
    assert f" MB; {PACKETS} packets; " in drawn
    # What follows the last time that a line was erased.
    shown = rest.rpartition("\x1b[2K")[2]
    assert ("MB;" in shown, f"{PACKETS} packets: 23 probes to 19 targets" in shown) == (False, True)


def test_two_readings_are_one_way(tmp_path: Path) -> None:
    """With `--gap` a capture is read twice, and the share is that of both."""
    path = tmp_path / "a.pcap"
    path.write_bytes((ROOT / "pcaps/raw-ip.pcap").read_bytes())
    reading, size = Classification([str(path)], gap=10**9), path.stat().st_size
    shares = [reading.done for _ in reading.batches()]
    assert shares[-1] == (2 * size, 2 * size, 2 * reading.capture.frames)
