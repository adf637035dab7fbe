"""`classify --each`: every file is a capture of its own, whatever the number of processes that judge them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import wait_until

ROOT = Path(__file__).resolve().parents[1]
FILES = ("two-scanners.pcap", "vlan.pcap", "vxlan.pcap", "router.pcap", "clients.pcap")
CLASSIFY = [sys.executable, "-m", "scanner", "classify"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of captures, with the file that is no capture and the torn one that such folders have."""
    captures = tmp_path / "captures"
    captures.mkdir()
    for name in sorted(path.name for path in (ROOT / "pcaps").iterdir() if path.name in FILES):
        shutil.copy(ROOT / "pcaps" / name, captures)
    (captures / "notes.txt").write_text("no capture\n")
    return tmp_path


def classify(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*CLASSIFY, *arguments], cwd=folder, env={"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def rows(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_rows_are_those_of_each_file_alone_in_the_order_of_the_files(folder: Path) -> None:
    files = sorted(f"captures/{path.name}" for path in (folder / "captures").iterdir() if path.suffix != ".txt")
    alone = [
        {**row, "capture": name} for name in files for row in rows(classify(folder, name, "-f", "jsonl", "-q").stdout)
    ]
    done = classify(folder, "--each", "captures", "--jobs", "2", "-f", "jsonl")
    assert (rows(done.stdout), len({row["capture"] for row in alone})) == (alone, len(files))
    assert done.stderr.splitlines()[0] == "halfopen: captures: 1 file left out, which begin as no capture does"


def test_the_number_of_processes_makes_no_difference(folder: Path) -> None:
    found = {classify(folder, "--each", "captures", "--jobs", jobs, "-f", "csv").stdout for jobs in ("1", "3", "16")}
    assert (len(found), found.pop().splitlines()[0].endswith(",options,capture")) == (1, True)


BROKEN = {
    "one is torn": ({"a.pcap": 300}, ["captures"], 1, "captures/a.pcap"),
    "one is not there": ({}, ["captures", "none.pcap"], 1, "none.pcap"),
    "one is no capture": ({}, ["captures", "captures/notes.txt"], 1, "notes.txt"),
    "none is a capture": ({}, ["captures/notes.txt"], 2, "notes.txt"),
    "a folder without captures": ({}, ["empty"], 2, "empty has no capture"),
}


@pytest.mark.parametrize(("torn", "paths", "code", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_and_the_others_are_judged(
    torn: dict[str, int], paths: list[str], code: int, said: str, folder: Path
) -> None:
    whole = len(classify(folder, "--each", "captures", "-f", "jsonl", "-q").stdout.splitlines())
    (folder / "empty").mkdir()
    for name, length in torn.items():
        (folder / "captures" / name).write_bytes((folder / "captures/two-scanners.pcap").read_bytes()[:length])
    done = classify(folder, "--each", *paths, "-f", "jsonl", "-q")
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert len(done.stdout.splitlines()) >= (whole if "captures" in paths else 0)


@pytest.mark.parametrize(
    "arguments", [("--each", "-"), ("--each", "x", "--ladder"), ("--each", "x", "--stats", "s"), ("x", "--jobs", "2"),
                  ("--each", "x", "--jobs", "-1"), ("--each", "x", "--since", "noon")],
)  # fmt: skip
def test_what_does_not_go_together_is_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = classify(tmp_path, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def children(process: "subprocess.Popen[bytes]") -> list[int]:
    return list(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))


def running(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="/proc names the children")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_its_processes_end_with_it(number: signal.Signals, code: int, folder: Path) -> None:
    """A capture that is a pipe is never judged to its end."""
    os.mkfifo(folder / "pipe.pcap")
    process = subprocess.Popen(
        [*CLASSIFY, "--each", "captures", "pipe.pcap", "--jobs", "2", "-o", "a.jsonl"],
        cwd=folder, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    out = folder / "a.jsonl"
    whole = len(classify(folder, "--each", "captures", "-f", "jsonl", "-q").stdout.splitlines())
    with open(folder / "pipe.pcap", "wb"):  # one of the processes reads it
        assert wait_until(lambda: out.exists() and out.read_text().count("\n") == whole, process)
        theirs = children(process)
        process.send_signal(number)
        assert process.wait() == code
    assert wait_until(lambda: not any(map(running, theirs)))
    assert (len(theirs), out.read_text().count("\n")) == (2, whole)


def test_a_process_that_is_killed_costs_only_its_file(folder: Path) -> None:
    os.mkfifo(folder / "pipe.pcap")
    process = subprocess.Popen(
        [*CLASSIFY, "--each", "pipe.pcap", "captures", "--jobs", "1", "-o", "a.jsonl"],
        cwd=folder, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    with open(folder / "pipe.pcap", "wb"):
        (child,) = children(process)
        os.kill(child, signal.SIGKILL)
        _, said = process.communicate()
    whole = len(classify(folder, "--each", "captures", "-f", "jsonl", "-q").stdout.splitlines())
    assert (process.returncode, b"pipe.pcap: the process that judged it has ended (-9)" in said) == (1, True)
    assert (folder / "a.jsonl").read_text().count("\n") == whole
