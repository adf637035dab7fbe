"""`python -m tests.bench.truth [--ours] [--runs N] [--only WORD] [--json FILE]`: the verdicts on known hosts.

Every scene of `tests/lab/scenes.py` and `tests/lab/unlike.py`; the wire's seed is another in each run. halfopen runs at
its defaults. In the scenes of `COMPARED` the other scanners that are installed run, too.
ZMap scans the first open port only. masscan and ZMap list open ports only, so only these are responders for them.

A line sums the runs of one scanner in one scene; frames (of the scanner's interface) and seconds are means.
*missed*: responders called silent, or left out, on hosts of which the result has an answer.
*printed*: how many of these the scan expected. *within*: the share of runs that missed at most what "at most" says.
*unseen*: responders on hosts without an answer. *if there*: what the scan said about these.
*unknown*: responders of which the scan said that it does not know.
*wrong*: false states. halfopen's `filtered` after a ban is one; so is `down` for a host that is there.
*words*: evidence that is not true.

A scene is broken by a wrong state, a false word, a scan that fails or takes two minutes, or less than 95 % within. Then
the exit code is 1, and the runs with faults are listed. A run of all scenes and scanners ends with calibration.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import reduce
from ipaddress import ip_address, ip_network, summarize_address_range
from pathlib import Path
from typing import Any, NamedTuple

from scanner.errors import ScanError
from scanner.lab import Box, PortKind
from scanner.lab.box import INTERFACE
from scanner.lab.permissions import run_inside
from tests import calibration
from tests.lab.scenes import CLAIMS, SCENES, Scene, built, state_of
from tests.lab.unlike import UNLIKE

from .running import HALFOPEN, MASSCAN, ZMAP, Run, installed, run
from .scans import READERS

LIMIT, PEER_LIMIT, BUDGET = 120.0, 60.0, 60.0  # seconds: of our runs, of another's, of all another's runs in a scene
LEAST_WITHIN = 0.95
OURS = "halfopen"
COMPARED = (
    "5 % lost each way",
    "20 % lost each way",
    "40 % lost each way",
    "half of 20 hosts at 70 % loss",
    "5 of 100 hosts at 90 % loss",
    "10 of 254 hosts 300 ms away",
    "replies at 500/s",
)
SLOW_KINDS = ("bursts in packets", "replies at 500/s", "300 SYNs/s at a gateway")  # a run takes more than a second
CALIBRATION_RUNS = 10
Target = tuple[str, int]


class Score(NamedTuple):
    """One run of a scanner, or the sum of several. What only halfopen prints is None for the others."""

    runs: int = 0
    missed: int = 0
    responders: int = 0
    printed: float | None = None
    at_most: int | None = None
    within: int | None = None  # runs
    unseen: int = 0
    if_there: float | None = None
    by_loss: float | None = None
    hosts_unheard: int | None = None  # hosts that never answered, by the scan's own count
    unknown: int = 0
    wrong: int = 0
    words: int = 0
    stopped: int | None = None  # hosts and networks that the scan said have stopped
    sure: int | None = None  # runs that said that they kept the bound
    failed: int = 0  # ended without a result, or was stopped
    frames: int = 0
    seconds: float = 0.0

    def plus(self, other: "Score") -> "Score":
        """Both together."""
        pairs = zip(self, other, strict=True)
        return Score(*(a if b is None else b if a is None else a + b for a, b in pairs))  # type: ignore[arg-type]

    @property
    def broken(self) -> bool:
        """Whether our runs, one or many, are worse than they may be."""
        return bool(self.wrong or self.words or self.failed) or (self.within or 0) < LEAST_WITHIN * self.runs


# ── the scanners ──


def commands(scene: Scene, seed: int, stats: str, alone: bool) -> dict[str, Sequence[str]]:
    """The command line of each scanner; `alone`: only halfopen at its defaults."""
    own = ("--all", "--stats", stats, "--seed", str(seed))
    found: dict[str, Sequence[str]] = {
        OURS: (*HALFOPEN, "syn", scene.targets, "-p", scene.port_list, "-f", "jsonl", *own)
    }
    if alone or scene.name not in COMPARED:
        return found
    found["nmap -T4"] = ("nmap", "-T4", "-n", "-Pn", "-sS", "-p", scene.port_list, "-oX", "-", scene.targets)
    # masscan spaces its retries by a second's worth of targets and begins anew when there are fewer.
    rate = str(min(10_000, len(scene.truth)))
    first, last = (ip_address(scene.addresses[index]) for index in (0, -1))
    blocks = [str(network) for network in summarize_address_range(first, last)]
    ports = f"-p{scene.port_list}"
    found["masscan"] = (*MASSCAN, *blocks, ports, "--rate", rate, "--retries", "2", "--wait", "3", "-oL", "-")
    found["ZMap -P 3"] = (*ZMAP, "-p", str(zmap_port(scene)), "-r", "10000", "-c", "3", "-P", "3", *blocks)
    return {name: line for name, line in found.items() if installed(line[0])}


def zmap_port(scene: Scene) -> int:
    """The first open port."""
    return next(port for port, kind in scene.ports.items() if kind is PortKind.OPEN)


def said_by(name: str, scene: Scene, finished: Run) -> Iterator[tuple[Target, str]]:
    """What a scanner said: target and state."""
    if name.startswith("ZMap"):
        yield from (((line, zmap_port(scene)), "open") for line in finished.out.split())
        return
    try:
        yield from READERS[name.split()[0]](finished)
    except (ValueError, SyntaxError, StopIteration):
        if finished.ended_itself:
            print(f"{name}, {scene.name}: unreadable: {finished.err[-200:]}", file=sys.stderr)


# ── the score ──


def score(scene: Scene, name: str, finished: Run, stats: Path) -> Score:
    """What a scanner said against what is true, without its frames."""
    truth = {target: state_of(kind).value for target, kind in scene.truth.items()}
    said = dict(said_by(name, scene, finished))
    answering = {"open"} if name.startswith(("masscan", "ZMap")) else {"open", "closed"}
    responders = [target for target, state in truth.items() if state in answering]
    if name.startswith("ZMap"):
        responders = [target for target in responders if target[1] == zmap_port(scene)]
    heard = {ip for (ip, _), state in said.items() if state in answering}
    silent = [ip for (ip, port) in responders if said.get((ip, port), "filtered") == "filtered"]
    gone = scene.banned if name == OURS else set()
    after_ban = sum(ip in gone for ip in silent)
    unseen = sum(ip not in heard | gone for ip in silent)
    false = sum(state in ("open", "closed") and state != truth.get(target) for target, state in said.items())
    found = Score(
        runs=1,
        missed=len(silent) - unseen - after_ban,
        responders=len(responders),
        unseen=unseen,
        unknown=sum(said.get(target) == "unknown" for target in responders),
        wrong=false + after_ban,
        failed=not finished.ended_itself,
        seconds=finished.seconds,
    )
    return _with_words(found, scene, finished, stats) if name == OURS else found


def _with_words(found: Score, scene: Scene, finished: Run, stats: Path) -> Score:
    """The score of a run of ours with what it said of itself."""
    if not stats.exists():
        print(f"{scene.name}: no result: {finished.err[-300:]}", file=sys.stderr)
        return found._replace(failed=1, within=0)
    told = json.loads(stats.read_text())
    rows = [json.loads(line) for line in finished.out.splitlines()]
    there, stopped = set(scene.addresses), [ip_network(name) for name in told["stopped"]]
    going = [ip_address(address) for address in there - scene.banned]
    return found._replace(
        printed=told["expected_missed"],
        at_most=told["at_most_missed"],
        within=int(found.missed <= told["at_most_missed"]),
        if_there=told["missed_if_there"] or 0.0,
        by_loss=told["missed_by_loss"],
        hosts_unheard=told["hosts_unheard"],
        wrong=found.wrong + sum(row["state"] == "down" and row["ip"] in there for row in rows),
        words=_false_words(rows, scene) + sum(any(address in name for address in going) for name in stopped),
        stopped=len(stopped),
        sure=int(told["within_bound"]),
    )


def _false_words(rows: Sequence[dict[str, Any]], scene: Scene) -> int:
    """Words of evidence that claim what is not so."""
    truth, banned = scene.truth, scene.banned
    words = [(row, word) for row in rows if row.get("port") is not None for word in row["evidence"]]
    false = sum(truth.get((row["ip"], row["port"])) not in CLAIMS[word] for row, word in words if word in CLAIMS)
    return false + sum(word == "stopped-answering" and row["ip"] not in banned for row, word in words)


# ── all runs ──


def measure(scene: Scene, seeds: Sequence[int], alone: bool) -> dict[str, list[Score]]:
    """The runs of each scanner in a scene. Another's runs end when they have used up their time."""
    found: dict[str, list[Score]] = {}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            for name, line in commands(scene, seed, str(Path(folder, "stats.json")), alone).items():
                done = found.setdefault(name, [])
                if name == OURS or sum(each.seconds for each in done) < BUDGET:
                    done.append(_once(scene, name, line, seed, Path(folder, "stats.json")))
    return found


def _once(scene: Scene, name: str, line: Sequence[str], seed: int, stats: Path) -> Score:
    stats.unlink(missing_ok=True)
    with built(scene, seed) as box:
        finished = run(box, line, limit=LIMIT if name == OURS else PEER_LIMIT, sending=LIMIT, quiet=LIMIT)
        return score(scene, name, finished, stats)._replace(frames=_sent(box))


def _sent(box: Box) -> int:
    """Frames that have left the scanner's interface since the box was built."""
    with box.scanner.entered():
        return int(Path("/proc/thread-self/net/dev").read_text().partition(f"{INTERFACE}:")[2].split()[9])


# ── the tables ──

HEADS = ("runs", "missed", "of", "printed", "within", "unseen", "if there", "unknown", "wrong", "words", "frames", "s")


def line_of(name: str, sums: Score) -> str:
    """A line of the table."""
    within = None if sums.within is None else sums.within / sums.runs
    cells = (sums.runs, sums.missed, sums.responders, _cell(sums.printed, ".2f"), _cell(within, ".0%"), sums.unseen,
             _cell(sums.if_there, ".0f"), sums.unknown, sums.wrong, sums.words, f"{sums.frames // sums.runs:,}",
             f"{sums.seconds / sums.runs:.1f}")  # fmt: skip
    note = f"  {sums.failed} not finished" if sums.failed else ""
    return name.ljust(58) + "".join(str(cell).rjust(9) for cell in cells) + note


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def faults_of(seed: int, one: Score) -> str:
    """What is not right in a run of ours."""
    return (
        f"    seed {seed}: {one.missed} missed, at most {one.at_most} (expected {one.printed}), {one.wrong} wrong, "
        f"{one.words} false words, {one.unseen} unseen, {one.unknown} unknown, {one.seconds:.1f} s"
    )


def total(scores: Sequence[Score]) -> Score:
    """All runs together."""
    return reduce(Score.plus, scores, Score())


def arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.truth", description="Known hosts, bad paths.")
    parser.add_argument("--ours", action="store_true", help="only halfopen at its defaults")
    parser.add_argument("--runs", type=int, default=1, help="runs of each scanner in each scene (default 1)")
    parser.add_argument("--first-seed", type=int, default=1, help="the seed of the first run (default 1)")
    parser.add_argument("--only", default="", help="scenes whose name has this word")
    parser.add_argument("--json", help="write all runs to this file")
    return parser.parse_args()


def measured(options: argparse.Namespace) -> dict[str, dict[str, list[Score]]]:
    """Every scene that is asked for: its runs, printed as they come."""
    seeds = range(options.first_seed, options.first_seed + options.runs)
    everything: dict[str, dict[str, list[Score]]] = {}
    print("".ljust(58) + "".join(head.rjust(9) for head in HEADS), flush=True)
    for scene in (*SCENES, *UNLIKE):
        if options.only in scene.name:
            everything[scene.name] = found = measure(scene, seeds, options.ours)
            lines = [line_of(scene.name if name == OURS else f"  {name}", total(each)) for name, each in found.items()]
            faults = [faults_of(seed, one) for seed, one in zip(seeds, found[OURS], strict=True) if one.broken]
            print("\n".join(lines + faults), flush=True)
    return everything


def main() -> int:
    """Measure and print, scene by scene; the exit code says whether halfopen kept what it promises."""
    options = arguments()
    try:
        code = run_inside(["-m", "tests.bench.truth", *sys.argv[1:]])
    except ScanError as error:
        print(error, file=sys.stderr)
        return 1
    if code is not None:
        return code
    began = time.monotonic()
    everything = measured(options)
    if options.json:
        document = {
            at: {who: [one._asdict() for one in s] for who, s in each.items()} for at, each in everything.items()
        }
        Path(options.json).write_text(json.dumps(document, indent=1) + "\n")
    broken = [name for name, found in everything.items() if total(found[OURS]).broken]
    print(f"{len(everything) - len(broken)} of {len(everything)} scenes are right; {time.monotonic() - began:.0f} s")
    print("".join(f"broken: {name}\n" for name in broken), end="", flush=True)
    if not options.ours and not options.only:
        print(f"\nCalibration, {CALIBRATION_RUNS} runs of each kind in memory:", flush=True)
        calibration.table(
            [name for name in calibration.KINDS if name not in SLOW_KINDS], range(1, 1 + CALIBRATION_RUNS)
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
