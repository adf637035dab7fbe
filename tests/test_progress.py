"""Progress: the line for a person and the JSON lines, by a fake clock; then real processes on real terminals."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from scanner.cli.progress import Progress, check_form, reading
from scanner.cli.scan_progress import ScanProgress
from scanner.cli.signals import handling
from scanner.errors import UsageError
from scanner.rounds.schedule import HostRange, Schedule
from scanner.rounds.statistics import ScanStats
from scanner.rounds.summary import summary_lines
from scanner.targets.order import Extent
from scanner.verdict.loss import Bound
from tests.lab.live import live
from tests.lab.networks import direct_box
from tests.processes import PATIENCE, wait_until, wait_until_it_scans

ROOT = Path(__file__).resolve().parents[1]
SLOW = [sys.executable, "-m", "scanner", "connect", "127.0.0.1", "-p", "1-3000", "--rate", "1000", "--open"]


class Session:
    """A session that stands still."""

    names = {"2001:db8::1": "web.example"}
    crew = ""

    def __init__(self, stats: ScanStats) -> None:
        self.targets, self._stats = stats.targets, stats

    def live_stats(self) -> ScanStats:
        return self._stats


HALF = ScanStats(
    targets=1000, sent=Counter(probe=600), passes=2, answered=40, opened=7, remaining=500, loss=0.02,
    expected_missed=0.25,
)  # fmt: skip


def test_the_summary_counts_one_thing_in_the_singular() -> None:
    stats = ScanStats(targets=1, passes=1, sent=Counter(probe=1, query=1), replies=1, shortages=Counter(memory=1))
    first, *rest = summary_lines(stats)
    assert first == "1 target in 0.00 s, 1 pass: 1 probe, 1 query and 0 resets sent; 1 reply"
    assert "put off 1 time: memory" in rest


MEASURED = ScanStats(responders=12, hosts_heard=2, loss=0.1, tried=24)
SURE = {
    "nothing was lost, of few probes": (
        MEASURED,
        "lost 0 of 24 probes to targets that answered (at most 12%, with 95% confidence); "
        "expected missed responders: 0 on 2 hosts that answered (at most 0, with 99% confidence)",
    ),
    "little was lost": (
        replace(MEASURED, lost=3),
        "lost 3 of 24 probes to targets that answered; "
        "expected missed responders: 0 on 2 hosts that answered (at most 0, with 99% confidence)",
    ),
    "enough was lost to tell the share": (
        replace(MEASURED, tried=200, lost=20),
        "loss 10.0% a round trip; "
        "expected missed responders: 0 on 2 hosts that answered (at most 0, with 99% confidence)",
    ),
    "hosts may seem absent": (
        replace(MEASURED, expected_missed=0.1101, missed_with_hosts=0.11),
        "lost 0 of 24 probes to targets that answered (at most 12%, with 95% confidence); "
        "expected missed responders: 0.0001 on 2 hosts that answered, and 0.1100 on hosts that seem absent "
        "(at most 1, with 99% confidence)",
    ),
    "next to nothing is expected": (
        replace(MEASURED, expected_missed=0.00001),
        "lost 0 of 24 probes to targets that answered (at most 12%, with 95% confidence); "
        "expected missed responders: below 0.0001 on 2 hosts that answered (at most 0, with 99% confidence)",
    ),
    "the passes ended before the bound was reached": (
        replace(MEASURED, lost=20, tried=200, passes=11, expected_missed=0.0009, bound=Bound(11, 0.0001)),
        "loss 10.0% a round trip; "
        "expected missed responders: 0.0009 on 2 hosts that answered (at most 0, with 99% confidence)"
        ", above --max-missed 0.0001, because --retries 10 ended the passes",
    ),
    "windows add up": (
        replace(MEASURED, lost=20, tried=200, passes=4, expected_missed=0.25, bound=Bound(11, 1.0, 0.02)),
        "loss 10.0% a round trip; "
        "expected missed responders: 0.2500 on 2 hosts that answered (at most 2, with 99% confidence)"
        ", above --max-missed 2%, which is for one window",
    ),
    "the bound holds for what it is for": (
        replace(MEASURED, lost=20, tried=200, expected_missed=0.11, missed_with_hosts=0.105, bound=Bound()),
        "loss 10.0% a round trip; "
        "expected missed responders: 0.0050 on 2 hosts that answered, and 0.1050 on hosts that seem absent "
        "(at most 1, with 99% confidence)",
    ),
    "interrupted in the first window": (
        ScanStats(replies=94_606, interrupted=True),
        "loss not measured: interrupted before a window was over",
    ),
    "silence": (ScanStats(), "loss not measured: nobody answered"),
}


@pytest.mark.parametrize("case", SURE)
def test_the_second_line_says_no_more_than_was_measured(case: str) -> None:
    stats, line = SURE[case]
    assert summary_lines(stats)[1] == line


UNHEARD = {
    "one host": (ScanStats(hosts_unheard=1), "1 host never answered: nobody can tell whether it is there"),
    "two hosts": (ScanStats(hosts_unheard=2), "2 hosts never answered: nobody can tell whether they are there"),
    "others answered": (
        replace(MEASURED, hosts_unheard=1),
        "1 host never answered: if it is there, about 6 responders are missed; loss as on the others would explain 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNHEARD)
def test_hosts_that_never_answered_are_said_in_the_right_number(case: str) -> None:
    stats, line = UNHEARD[case]
    assert summary_lines(stats)[2] == line


class Clock:
    """Seconds, set by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def scan_of(session: Session, verbose: bool = False) -> ScanProgress:
    return ScanProgress(session, verbose)  # type: ignore[arg-type]


def progress_of(stats: ScanStats, clock: Clock, form: str = "auto") -> Progress:
    return Progress(scan_of(Session(stats)), quiet=False, form=form, clock=clock)


def requested(stats: ScanStats, capsys: pytest.CaptureFixture[str]) -> str:
    """What is printed on a signal, ten seconds after the start."""
    clock = Clock()
    progress = progress_of(stats, clock)
    with handling(progress.request, signal.SIGUSR1):
        signal.raise_signal(signal.SIGUSR1)
    clock.now += 10
    progress.tick()
    return capsys.readouterr().err


def test_a_signal_is_answered_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert requested(HALF, capsys) == (
        "50% of 1,000 targets, pass 2; 60/s; 40 answered, 7 open; loss 2.0%, 0.250 missed; 0:00:10 left\n"
    )


def test_too_early_for_the_time_left_and_the_loss_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    line = requested(replace(HALF, remaining=995, loss=None), capsys)
    assert ("left" in line, "loss" in line) == (False, False)


def test_without_a_request_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = progress_of(HALF, clock)
    clock.now += 10
    progress.tick()
    progress.finish()
    assert capsys.readouterr() == ("", "")


def test_the_line_says_how_many_workers_there_are() -> None:
    session = Session(HALF)
    session.crew = "3 workers"
    assert "; 3 workers" in scan_of(session).line(10.0)


def test_a_key_is_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    clock, keys = Clock(), [True, False]
    progress = Progress(scan_of(Session(HALF)), False, "none", keys.pop, clock)
    for seconds in (0.125, 0.125, 0.125, 0.125):  # the keyboard is read every 0.2 seconds
        clock.now += seconds
        progress.tick()
    assert (keys, capsys.readouterr().err.count(" of 1,000 targets, pass 2; ")) == ([], 1)


def test_open_ports_are_named_with_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    source = scan_of(Session(HALF), verbose=True)
    source.found([("192.0.2.1", 22), ("2001:db8::1", 80)])
    Progress(source, quiet=False, form="none").tick()
    assert capsys.readouterr().err == "open 192.0.2.1 22/tcp\nopen 2001:db8::1 (web.example) 80/tcp\n"


def test_json_lines_come_every_second_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = progress_of(HALF, clock, "json")
    for seconds in (0.9, 0.1, 0.0, 0.9, 8.1):
        clock.now += seconds
        progress.tick()
    progress.finish()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    facts = {"targets": 1000, "asked": 500, "sent": 600, "pass": 2, "answered": 40, "open": 7, "loss": 0.02}
    assert [line["seconds"] for line in lines] == [1.0, 10.0, 10.0]
    assert facts.items() <= lines[0].items()
    assert (lines[1]["expected_missed"], lines[1]["seconds_left"], lines[0]["rate"]) == (0.25, 10.0, 600)
    names = {*facts, "expected_missed", "seconds_left", "time", "seconds", "rate"}
    assert [line.keys() == names for line in lines] == [True] * 3


class Terminal(StringIO):
    """A terminal that keeps what is drawn on it."""

    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, stderr: StringIO, quiet: bool = False) -> list[str]:
    """What is drawn while two lists are read."""
    clock = Clock()
    monkeypatch.setattr(sys, "stderr", stderr)
    with reading(quiet, clock) as tell:
        tell("a\x1b[2J", 1 << 20, 142_000_000)
        for done in (40_000_000, 42_000_000):
            clock.now += 0.6
            tell("a\x1b[2J", done, 142_000_000)
            tell("a\x1b[2J", done + 1, 142_000_000)  # too early
        clock.now += 0.2
        tell("-", 7_000_000, 0)
        clock.now += 0.2
        tell(None, 1_200, 3_000)
    return stderr.getvalue().split("\r")


def test_the_reading_of_long_lists_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    name = r"a\x1b[2J"
    assert drawn(monkeypatch, Terminal()) == [
        "", f"reading {name}: 40 of 142 MB\x1b[K", f"reading {name}: 42 of 142 MB\x1b[K",
        "reading standard input: 7 MB\x1b[K", "resolving names: 1,200 of 3,000\x1b[K", "\x1b[K",
    ]  # fmt: skip


def test_the_reading_of_lists_is_not_shown_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (drawn(monkeypatch, StringIO()), drawn(monkeypatch, Terminal(), quiet=True)) == ([""], [""])


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(UsageError, match="--progress 'xml' is not one of auto, json, none"):
        check_form("xml")


@pytest.mark.parametrize("taken", range(5))
def test_what_remains(taken: int) -> None:
    schedule = Schedule([Extent(5, 3), Extent(7, 3)], left=[HostRange(0, 3, 2)])
    for _ in range(taken):
        schedule.next(100.0)
    assert schedule.remaining == 3 * max(0, (14, 12, 7, 0)[min(taken, 3)])


# ── real processes ──


def test_json_lines_of_a_scan() -> None:
    done = subprocess.run([*SLOW, "--progress", "json", "-q"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert len(lines) >= 3
    assert [line["sent"] for line in lines] == sorted(line["sent"] for line in lines)
    assert (lines[-1]["asked"], lines[-1]["answered"], lines[-1]["seconds_left"]) == (3000, 3000, 0.0)


def test_a_signal_to_the_process() -> None:
    with subprocess.Popen([*SLOW, "-q"], cwd=ROOT, stdout=-3, stderr=subprocess.PIPE, text=True) as scan:
        wait_until_it_scans(scan)
        scan.send_signal(signal.SIGUSR1)
        _, said = scan.communicate(timeout=PATIENCE)
    assert (scan.returncode, said.count(" of 3,000 targets, pass 1; "), said.count("\n")) == (0, 1, 1)


def test_a_key_on_the_terminal_and_its_settings_are_restored() -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    line = ["setsid", "-c", "-w", *SLOW, "-q"]
    with subprocess.Popen(line, cwd=ROOT, stdin=theirs, stdout=-3, stderr=subprocess.PIPE, text=True) as scan:
        wait_until(lambda: not termios.tcgetattr(theirs)[3] & termios.ECHO, scan)
        os.write(ours, b" ")
        _, said = scan.communicate(timeout=PATIENCE)
    after = termios.tcgetattr(theirs)
    os.close(ours)
    os.close(theirs)
    assert (scan.returncode, said.count(" of 3,000 targets, pass 1; "), after) == (0, 1, before)


def test_the_line_on_a_terminal_is_removed_at_the_end() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen([*SLOW, "-p", "1-1500"], cwd=ROOT, stdin=-3, stdout=-3, stderr=theirs) as scan:
        scan.wait(timeout=PATIENCE)
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
        _, said = scan.communicate(timeout=PATIENCE)
    kinds = Counter(text.split()[-1] for text in said.splitlines() if " TCP " in text)
    assert (scan.returncode, kinds) == (0, {"S": 2, "SA": 1, "RA": 1, "R": 1})
    assert sum("ARP" in text or "ICMPv6ND" in text for text in said.splitlines()) == 2
