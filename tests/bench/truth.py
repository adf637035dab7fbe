"""`python -m tests.bench.truth [--runs N] [--only WORD] [--json FILE]`: the verdicts of scanners on known hosts.

Every scene of `tests/lab/scenes.py`, as often as wished, each time with another seed of the wire (the seed of
run n is n), for halfopen at its defaults and with a tight bound, and for the scanners that are installed: nmap -sS,
masscan with two retries, ZMap with three probes (only in scenes with one open port, because it scans one port).

The table sums all runs. *missed*: targets that answer and were called silent or left out (open ones only for masscan
and ZMap, which list open ports only). *false open*, *false closed*: wrong verdicts. *claims*: evidence that is not
true. *printed*: the missed responders that the scan itself reported, and then the largest number of misses that agrees
with it in 99 of 100 cases (Poisson). A scene whose truth cannot be known is marked with *.

One command has a minute, and a scanner that has used its time for a scene does no further run.
"""

import argparse
import json
import math
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from scanner.errors import ScanError
from scanner.lab import Box, PortKind
from scanner.lab.box import INTERFACE
from scanner.lab.permissions import run_inside
from tests.lab.scenes import CLAIMS, FAR_NET, SCENES, Scene, built, state_of

from .running import HALFOPEN, MASSCAN, ZMAP, Run, installed, run
from .scans import READERS

LIMIT, BUDGET = 60.0, 120.0
OURS, SURE = "halfopen", "halfopen, tight"
_HEADS = ("", "runs", "missed", "of", "open", "false open", "false closed", "claims", "printed", "limit", "frames", "s")


class Score(NamedTuple):
    """One run of one contender, or the sum of several; `printed` is None where nothing was."""

    runs: int = 0
    missed: int = 0
    responders: int = 0
    missed_open: int = 0
    false_open: int = 0
    false_closed: int = 0
    claims: int = 0
    printed: float | None = None
    unfinished: int = 0  # stopped after a minute: what it had found by then is lost
    frames: int = 0
    seconds: float = 0.0

    def plus(self, other: "Score") -> "Score":
        """Both together."""
        pairs = zip(self, other, strict=True)
        return Score(*(a if b is None else b if a is None else a + b for a, b in pairs))  # type: ignore[arg-type]


def commands(scene: Scene, seed: int, stats: str) -> dict[str, Sequence[str]]:
    """The command line of each contender."""
    ours = (*HALFOPEN, "syn", scene.targets, "-p", scene.port_list, "-f", "jsonl", "--all", "--stats", stats)
    found: dict[str, Sequence[str]] = {
        OURS: (*ours, "--seed", str(seed)),
        SURE: (*ours, "--seed", str(seed), "--max-missed", "0.0001", "--retries", "30"),
        "nmap -sS": ("nmap", "-n", "-Pn", "-sS", "-p", scene.port_list, "-oX", "-", scene.targets),
    }
    ports = f"-p{scene.port_list}"
    # masscan spaces its retries by a second's worth of targets and begins anew when there are fewer.
    rate = str(min(10_000, len(scene.truth)))
    targets = re.sub(r"^(\d+\.\d+\.\d+\.)(\d+)-(\d+)$", r"\1\2-\1\3", scene.targets)  # its way to write a range
    found["masscan"] = (*MASSCAN, targets, ports, "--rate", rate, "--retries", "2", "--wait", "3", "-oL", "-")
    if scene.targets == FAR_NET:
        found["ZMap"] = (*ZMAP, "-p", "80", "-r", "10000", "-c", "3", "-P", "3", scene.targets)
    return {name: line for name, line in found.items() if installed(line[0])}


def score(scene: Scene, name: str, finished: Run, stats: Path, sent: int) -> Score:
    """What a finished contender said against what is true; `sent` frames left the scanner's interface."""
    truth = {target: state_of(kind).value for target, kind in scene.truth.items()}
    said = {target: state for target, state in _said(name, finished) if target in truth}
    if not said and finished.ended_itself:
        print(f"{name}, {scene.name}: nothing found: {finished.err[-200:]}", file=sys.stderr)
    answering = {"open"} if name in ("masscan", "ZMap") else {"open", "closed"}
    responders = [target for target, state in truth.items() if state in answering]
    missed = [target for target in responders if said.get(target, "filtered") == "filtered"]
    ours = name in (OURS, SURE)
    return Score(
        1,
        len(missed),
        len(responders),
        sum(truth[target] == "open" for target in missed),
        sum(state == "open" != truth[target] for target, state in said.items()),
        sum(state == "closed" != truth[target] for target, state in said.items()),
        _false_claims(finished.out, scene.truth) if ours else 0,
        json.loads(stats.read_text())["expected_missed"] if ours and stats.exists() else None,
        not finished.ended_itself,
        sent,
        finished.seconds,
    )


def _said(name: str, finished: Run) -> Iterator[tuple[tuple[str, int], str]]:
    try:
        yield from READERS[name.split()[0].strip(",")](finished)
    except (ValueError, SyntaxError, StopIteration):
        if finished.ended_itself:
            print(f"{name}: unreadable: {finished.err[-200:]}", file=sys.stderr)


def _false_claims(out: str, truth: dict[tuple[str, int], PortKind]) -> int:
    """Words of evidence that claim what is not so."""
    rows = [row for row in map(json.loads, out.splitlines()) if row.get("port") is not None]
    words = [((row["ip"], row["port"]), word) for row in rows for word in row["evidence"] if word in CLAIMS]
    return sum(truth.get(target) not in CLAIMS[word] for target, word in words)


def limit_of(mean: float, share: float = 0.99) -> int:
    """The most events that `share` of the Poisson variables with this mean stay within."""
    count, term = 0, math.exp(-mean)
    total = term
    while total < share and count < 100_000:
        count += 1
        term *= mean / count
        total += term
    return count


def measure(scene: Scene, runs: int) -> dict[str, Score]:
    """The sum of all runs of each contender on a scene."""
    sums: dict[str, Score] = {}
    used: dict[str, float] = {}
    for seed in range(1, runs + 1):
        with tempfile.TemporaryDirectory() as folder:
            stats = Path(folder, "stats.json")
            for name, line in commands(scene, seed, str(stats)).items():
                if used.get(name, 0.0) < BUDGET:
                    stats.unlink(missing_ok=True)
                    began = time.monotonic()
                    with built(scene, seed) as box:
                        one = score(scene, name, run(box, line, limit=LIMIT), stats, _sent(box))
                    used[name] = used.get(name, 0.0) + time.monotonic() - began
                    sums[name] = sums.get(name, Score()).plus(one)
    return sums


def _sent(box: Box) -> int:
    """Frames that have left the scanner's interface since the box was built."""
    with box.scanner.entered():
        line = Path("/proc/thread-self/net/dev").read_text().partition(f"{INTERFACE}:")[2]
    return int(line.split()[9])


def table(scene: Scene, sums: dict[str, Score]) -> str:
    """A scene's contenders, one a line."""
    lines = [(scene.name + (" *" if scene.unknowable else ""), *_HEADS[1:])]
    for name, each in sums.items():
        printed = ("-", "-") if each.printed is None else (f"{each.printed:.3f}", str(limit_of(each.printed)))
        numbers = (each.missed, each.responders, each.missed_open, each.false_open, each.false_closed, each.claims)
        note = f"  ({each.unfinished} not finished)" if each.unfinished else ""
        figures = (f"{each.frames // each.runs:,}", f"{each.seconds / each.runs:.1f}")
        lines.append((f"  {name}{note}", str(each.runs), *(str(number) for number in numbers), *printed, *figures))
    widths = [max(44 if not column else 0, *(len(line[column]) for line in lines)) for column in range(len(_HEADS))]
    rows = (zip(line, widths, strict=True) for line in lines)
    pad: Callable[[int, str, int], str] = lambda at, cell, width: cell.rjust(width) if at else cell.ljust(width)  # noqa: E731
    return "\n".join("  ".join(pad(at, *cell) for at, cell in enumerate(row)) for row in rows)


def main() -> int:
    """Measure and print, scene by scene; the exit code says whether we kept what we promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.truth", description="Known hosts, bad paths.")
    parser.add_argument(
        "--runs", type=int, default=3, help="runs of each contender, each with another seed (default 3)"
    )
    parser.add_argument("--only", default="", help="scenes whose name has this word")
    parser.add_argument("--json", help="write the sums to this file")
    options = parser.parse_args()
    try:
        code = run_inside(["-m", "tests.bench.truth", *sys.argv[1:]])
    except ScanError as error:
        print(error, file=sys.stderr)
        return 1
    if code is not None:
        return code
    everything: dict[str, dict[str, Score]] = {}
    for scene in SCENES:
        if options.only in scene.name:
            everything[scene.name] = measure(scene, options.runs)
            print(table(scene, everything[scene.name]), end="\n\n", flush=True)
    if options.json:
        document = {scene: {who: sums._asdict() for who, sums in each.items()} for scene, each in everything.items()}
        Path(options.json).write_text(json.dumps(document, indent=1) + "\n")
    known = {scene.name for scene in SCENES if not scene.unknowable}
    return 0 if all(_kept(name, sums) for name, sums in everything.items() if name in known) else 1


def _kept(scene: str, sums: dict[str, Score]) -> bool:
    """Nothing false; nothing missed with the tight bound up to 20 % loss; at the defaults no more than was printed."""
    usual, sure = sums[OURS], sums[SURE]
    false = sum(each.false_open + each.false_closed + each.claims for each in (usual, sure))
    return not false and (not sure.missed or "40 %" in scene) and usual.missed <= limit_of(usual.printed or 0.0)


if __name__ == "__main__":
    sys.exit(main())
