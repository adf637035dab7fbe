"""How far a scan is: for people, for programs, and for whoever asks; on real processes, through real terminals."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scanner.cli.progress import Progress, check_form
from scanner.errors import UsageError
from scanner.rounds.resume_point import Standing
from scanner.rounds.schedule import Schedule, Stretch
from scanner.rounds.statistics import Glance, Sums
from tests.lab.live import live
from tests.lab.networks import direct_box

ROOT = Path(__file__).resolve().parents[1]
SLOW = [sys.executable, "-m", "scanner", "connect", "127.0.0.1", "-p", "1-3000", "--rate", "1000", "--open"]


class Session:
    """A session that stands still."""

    def __init__(self, glance: Glance) -> None:
        self.sums, self.opened, self._glance = Sums(targets=1000), deque[tuple[str, int]](), glance

    def glance(self) -> Glance:
        return self._glance

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def standing(self) -> Standing:
        return Standing((0, 0), [])

    def tally(self) -> Sums:
        return self.sums

    def batches(self, *_: Any, **__: Any) -> Iterator[Iterable[Any]]:
        return iter(())


HALF = Glance(sent=600, passes=2, answered=40, opened=7, remaining=500, loss=0.02, missed=0.25)


def told(glance: Glance, capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    """What is said once a second is over, or when somebody asks."""
    with Progress(Session(glance), False, False, **options) as progress:
        progress._began -= 10
        progress._next = 0
        signal.raise_signal(signal.SIGUSR1)
        progress.tick(None)
        return capsys.readouterr().err


def test_a_signal_is_answered_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = told(HALF, capsys)
    assert line.startswith("50% of 1,000 targets, pass 2; ")
    assert "; 40 answered, 7 open; loss 2.0%, 0.250 missed; 0:00:10 left\n" in line
    assert line.count("\n") == 1


def test_too_early_for_a_time_and_nothing_known_of_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    line = told(HALF._replace(remaining=995, loss=None), capsys)
    assert ("left" in line, "loss" in line) == (False, False)


def test_nobody_asks_and_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(Session(HALF), False, False) as progress:
        progress._next = 0
        progress.tick(None)
    assert capsys.readouterr() == ("", "")


def test_a_line_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(Session(HALF), True, False, "json") as progress:
        progress._began -= 10
        progress._next = 0
        progress.tick(None)
        progress.tick(None)
    first, last = map(json.loads, capsys.readouterr().err.splitlines())
    facts = {"targets": 1000, "asked": 500, "sent": 600, "pass": 2, "answered": 40, "open": 7, "loss": 0.02}
    assert facts.items() <= first.items()
    assert (first["expected_missed"], first["seconds_left"]) == (0.25, pytest.approx(10, abs=0.2))
    assert first.keys() == last.keys() == {*facts, "expected_missed", "seconds_left", "time", "seconds", "rate"}


def test_a_form_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="--progress 'xml' is not one of auto, json, none"):
        check_form("xml")


@pytest.mark.parametrize("taken", range(5))
def test_what_remains(taken: int) -> None:
    schedule = Schedule([5, 7], 3, left=[Stretch(0, 9, 2)])
    for _ in range(taken):
        schedule.next(0.1)
    assert schedule.remaining == 3 * max(0, (14, 12, 7, 0)[min(taken, 3)])


# ── real processes ──


def test_json_lines_of_a_scan() -> None:
    done = subprocess.run([*SLOW, "--progress", "json", "-q"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert len(lines) >= 3
    assert [line["sent"] for line in lines] == sorted(line["sent"] for line in lines)
    assert (lines[-1]["asked"], lines[-1]["answered"], lines[-1]["seconds_left"]) == (3000, 3000, 0.0)


def wait_until(condition: Callable[[], bool], scan: "subprocess.Popen[str]") -> None:
    """Until the condition holds or the scan has ended."""
    while not condition() and scan.poll() is None:
        time.sleep(0.01)


def catches(scan: "subprocess.Popen[str]", number: signal.Signals) -> bool:
    """Whether the process has a handler for this signal (proc(5), SigCgt)."""
    try:
        lines = Path(f"/proc/{scan.pid}/status").read_text().splitlines()
    except ProcessLookupError:
        return False
    masks = [int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")]
    return bool(masks and masks[0] >> (number - 1) & 1)


def test_asked_by_signal() -> None:
    with subprocess.Popen([*SLOW, "-q"], cwd=ROOT, stdout=-3, stderr=subprocess.PIPE, text=True) as scan:
        wait_until(lambda: catches(scan, signal.SIGUSR1), scan)
        scan.send_signal(signal.SIGUSR1)
        _, said = scan.communicate(timeout=30)
    assert (scan.returncode, said.count(" of 3,000 targets, pass 1; "), said.count("\n")) == (0, 1, 1)


def test_asked_by_key_and_the_terminal_is_as_before() -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    line = ["setsid", "-c", "-w", *SLOW, "-q"]
    with subprocess.Popen(line, cwd=ROOT, stdin=theirs, stdout=-3, stderr=subprocess.PIPE, text=True) as scan:
        wait_until(lambda: not termios.tcgetattr(theirs)[3] & termios.ECHO, scan)
        during = termios.tcgetattr(theirs)
        os.write(ours, b" ")
        _, said = scan.communicate(timeout=30)
    after = termios.tcgetattr(theirs)
    os.close(ours)
    os.close(theirs)
    assert (scan.returncode, said.count(" of 3,000 targets, pass 1; ")) == (0, 1)
    assert (bool(during[3] & termios.ECHO), after) == (False, before)


def test_drawn_on_a_terminal_and_taken_away_again() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen([*SLOW, "-p", "1-1500"], cwd=ROOT, stdin=-3, stdout=-3, stderr=theirs) as scan:
        scan.wait(timeout=30)
    os.close(theirs)
    drawn = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert " targets, pass 1" in drawn
    assert "1,500 targets in " in drawn  # the summary below


@live
@pytest.mark.parametrize("family", [4, 6])
def test_packet_trace_shows_each_frame(family: int) -> None:
    with direct_box() as box:
        box.listen([80])
        target = box.target_ip if family == 4 else "2001:db8::2"
        line = [sys.executable, "-m", "scanner", "syn", target, "-p", "80,81", "--packet-trace", "-q"]
        scan = box.scanner.popen(line, stdin=-3, stdout=-3, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        _, said = scan.communicate(timeout=30)
    kinds = Counter(text.split()[-1] for text in said.splitlines() if " TCP " in text)
    assert (scan.returncode, kinds) == (0, {"S": 2, "SA": 1, "RA": 1, "R": 1})
    assert sum("ARP" in text or "ICMPv6ND" in text for text in said.splitlines()) == 2
