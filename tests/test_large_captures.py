"""Large captures at a size of seconds: memory by target, floods of spoofed senders, answers far from their probes.

`make bench ARGS=large` has the same captures in full size, with their speed.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner.classifier.classification import Classification
from scanner.verdict.table import Reason
from scanner.who.reading import Who
from tests.bench.captures import SCENES, write

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 200  # of memory for a silent target: 10 million take 1.1 GB
FEW, MANY = 200_000, 1_200_000

# Runs a command and prints the largest memory that it had, in KB (getrusage(2)). This is a process of its own, because
# a child counts the memory of its parent until exec().
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def memory(path: Path, verb: str = "classify") -> int:
    """The peak memory of a verb, in bytes, with all rows written."""
    timeout = ["--timeout", "0"] if verb == "classify" else []
    command = [sys.executable, "-m", "scanner", verb, str(path), "-f", "jsonl", "-q", *timeout]
    done = subprocess.run([sys.executable, "-c", MEASURED, *command], cwd=ROOT, capture_output=True, check=True)
    return int(done.stdout) * 1024


@pytest.mark.parametrize("scene", ["silent", "flood"])
def test_the_memory_of_a_silent_target(scene: str, tmp_path: Path) -> None:
    """A million more targets: of one prober, and of a million spoofed ones."""
    peaks = []
    for targets in (FEW, MANY):
        write(tmp_path / "capture.pcap", *SCENES[scene].make(targets))
        peaks.append(memory(tmp_path / "capture.pcap"))
    assert (peaks[1] - peaks[0]) / (MANY - FEW) < MOST_BYTES


@pytest.mark.parametrize("scene", ["silent", "flood"])
def test_who_takes_at_most_twice_the_memory_of_classify(scene: str, tmp_path: Path) -> None:
    write(tmp_path / "capture.pcap", *SCENES[scene].make(MANY))
    assert memory(tmp_path / "capture.pcap", "who") < 2 * memory(tmp_path / "capture.pcap")


def reasons(scene: str, targets: int, tmp_path: Path) -> Counter[str]:
    """How many rows of a scene have which reason."""
    write(tmp_path / "capture.pcap", *SCENES[scene].make(targets))
    counts: Counter[str] = Counter()
    for rows in Classification([str(tmp_path / "capture.pcap")], 0).batches():
        counts.update(Reason(number).name for number in rows.record["reason"].tolist())
    return counts


@pytest.mark.parametrize("scene", ["appended", "late", "shuffled"])
def test_answers_that_stand_far_from_their_probes_open_every_port(scene: str, tmp_path: Path) -> None:
    """600,000 probes are more flows than the tables keep, so many answers find a probe that had been forgotten."""
    assert reasons(scene, 300_000, tmp_path) == {"SYN_ACK": 300_000}


def calls_of(run: Callable[[], object]) -> int:
    """How many functions were called, because a time would depend on the machine."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


def test_a_flood_of_spoofed_senders_costs_no_step_for_each(tmp_path: Path) -> None:
    """Each sender of one SYN is a target of its own."""
    senders = 200_000
    write(tmp_path / "flood.pcap", *SCENES["flood"].make(senders))
    reading, rows = Classification([str(tmp_path / "flood.pcap")], 0), []
    calls = calls_of(lambda: rows.extend(map(len, reading.batches())))
    assert (sum(rows) == reading.targets > 0.99 * senders, calls < senders / 2) == (True, True)


def test_who_sums_up_a_flood_without_a_step_for_each_sender(tmp_path: Path) -> None:
    senders = 200_000
    write(tmp_path / "flood.pcap", *SCENES["flood"].make(senders))
    who = Who([str(tmp_path / "flood.pcap")])
    calls = calls_of(lambda: list(who.rows()))
    (flood, *_) = who.left_out
    assert (flood.endswith("a flood from spoofed addresses looks like this"), calls < senders / 2) == (True, True)
