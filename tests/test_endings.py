"""How a command ends whose terminal, reader or disk has gone: by its exit code, its files, and what it says."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scanner.lab import Namespace
from tests.lab.live import live
from tests.processes import PATIENCE, wait_until_it_catches

ROOT = Path(__file__).resolve().parents[1]
PORTS = 3000
HALFOPEN = [sys.executable, "-m", "scanner"]
SLOW = [*HALFOPEN, "connect", "127.0.0.1", "-p", f"1-{PORTS}", "--rate", "1000"]
IGNORING = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]  # as `nohup` starts a program


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, each of them whole."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def started(path: Path, *under: str) -> "subprocess.Popen[bytes]":
    """A scan of our own closed ports into a file, of which about a third has been probed."""
    line = [*under, *SLOW, "-f", "jsonl", "-o", str(path), "--progress", "json", "-q"]
    scan = subprocess.Popen(line, cwd=ROOT, stdout=-3, stderr=subprocess.PIPE)
    assert scan.stderr is not None
    assert json.loads(scan.stderr.readline())["sent"] > 100
    return scan


# ── a lost terminal ──


@pytest.mark.parametrize("times", [1, 2])
def test_sighup_ends_a_scan_as_one_ctrl_c_does(tmp_path: Path, times: int) -> None:
    """Kept: a row for every port that was probed. The shell and the kernel may both send the signal."""
    with started(tmp_path / "out.jsonl") as scan:
        for _ in range(times):
            scan.send_signal(signal.SIGHUP)
        scan.communicate(timeout=PATIENCE)
    found = rows(tmp_path / "out.jsonl")
    assert (scan.returncode, {row["state"] for row in found} - {"open"}) == (130, {"closed"})
    assert 100 < len(found) < PORTS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_any_verb_as_ctrl_c_does(number: signal.Signals) -> None:
    """Also before a scan has begun, and in verbs that do not scan."""
    line = [*HALFOPEN, "diff", "-", "README.md"]
    with subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stdout=-3, stderr=subprocess.PIPE) as verb:
        wait_until_it_catches(verb, number)
        verb.send_signal(number)
        said = verb.communicate(timeout=PATIENCE)[1]
    assert (verb.returncode, b"Traceback" in said) == (130, False)


def test_under_nohup_sighup_changes_nothing(tmp_path: Path) -> None:
    """Kept: everything, because the scan goes on."""
    with started(tmp_path / "out.jsonl", *IGNORING) as scan:
        scan.send_signal(signal.SIGHUP)
        scan.communicate(timeout=PATIENCE)
    assert (scan.returncode, len(rows(tmp_path / "out.jsonl"))) == (0, PORTS)


@pytest.mark.parametrize("ignoring", [False, True])
def test_a_terminal_that_has_gone_costs_no_row_of_a_file(tmp_path: Path, ignoring: bool) -> None:
    """Kept: the rows of what was probed, or all of them where the scan does not hear of it. Its lines are lost."""
    ours, theirs = pty.openpty()
    line = [*(IGNORING if ignoring else ()), "setsid", "-c", "-w", *SLOW, "-o", str(tmp_path / "out.jsonl")]
    with subprocess.Popen(line, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs) as scan:
        os.close(theirs)
        drawn = b""
        while b"answered" not in drawn:
            drawn += os.read(ours, 1 << 16)
        os.close(ours)  # the kernel sends SIGHUP to the session, and every write gets EIO
        scan.wait(timeout=PATIENCE)
    found = rows(tmp_path / "out.jsonl")
    assert scan.returncode == (0 if ignoring else 130)
    assert len(found) == PORTS if ignoring else 100 < len(found) < PORTS


# ── a reader who has left ──

VERBS = {
    "connect": ["connect", "127.0.0.1", "-p", "1-40"],
    "classify": ["classify", "pcaps/nmap-syn.pcap.gz", "-q"],
    "who": ["who", "pcaps/nmap-syn.pcap.gz", "-q"],
    "plan": ["plan", "127.0.0.1", "-p", "1-40", "--seed", "7"],
    "list": ["connect", "-p", "1-2000", "--list-ports"],
    "diff": ["diff", "pcaps/nmap-syn.jsonl", "pcaps/loss.jsonl"],
    "report": ["report", "pcaps/nmap-syn.pcap.gz", "-o", "-"],
    "help": ["syn", "--help"],
    "version": ["--version"],
}


@pytest.fixture
def nobody() -> Iterator[int]:
    """The end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_ends_quietly_when_its_reader_has_left(verb: str, nobody: int) -> None:
    done = subprocess.run([*HALFOPEN, *VERBS[verb]], cwd=ROOT, stdout=nobody, stderr=subprocess.PIPE, check=False)
    assert (done.returncode in (0, 141), done.stderr) == (True, b"")


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_needs_no_standard_error(verb: str, nobody: int) -> None:
    """Kept: the whole of standard output, and the exit code."""
    line = [*HALFOPEN, *VERBS[verb]]
    without = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=nobody, check=False)
    complete = subprocess.run(line, cwd=ROOT, capture_output=True, check=False)
    assert (without.returncode, len(without.stdout)) == (complete.returncode, len(complete.stdout))
    assert complete.stdout


def test_head_costs_no_row_of_a_file(tmp_path: Path, nobody: int) -> None:
    """Kept: every port that was probed until the first row was to be printed."""
    line = [*HALFOPEN, "connect", "127.0.0.1", "-p", "1-40", "-o", str(tmp_path / "out.jsonl")]
    done = subprocess.run(line, cwd=ROOT, stdout=nobody, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr, len(rows(tmp_path / "out.jsonl"))) == (141, b"", 40)


@live
def test_a_half_open_scan_ends_quietly_when_its_reader_has_left(nobody: int) -> None:
    with Namespace.create() as alone:
        alone.ip(["link set lo up"])
        line = [*HALFOPEN, "syn", "127.0.0.1", "-p", "1-40"]
        with alone.popen(line, cwd=ROOT, stdout=nobody, stderr=subprocess.PIPE) as scan:
            _, said = scan.communicate(timeout=PATIENCE)
    assert (scan.returncode, said) == (141, b"")


# ── a full disk ──


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_behind_standard_output_is_one_line(verb: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*HALFOPEN, *VERBS[verb]], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False)
    said = done.stderr.decode().splitlines()
    assert done.returncode == (2 if verb == "diff" else 1)
    assert [line for line in said if "No space left" in line] == said[-1:]
    assert "Traceback" not in done.stderr.decode()
