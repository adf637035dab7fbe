"""Large captures of many kinds (`captures.SCENES`): speed and memory of `classify`, beside tshark in the same run.

Each capture is classified with all its rows written as JSON lines to a file. The rates are packets per second of wall
time, and of CPU time after the start, which is the CPU time for a capture of one packet. Memory is the peak resident
set, and what it is above that of the start, by target.

tshark prints what an analyst would list to find the answers: `tshark -n -r FILE -T fields -e frame.time_epoch
-e ip.src -e tcp.srcport -e ip.dst -e tcp.dstport -e tcp.flags`. It gives no verdicts. It is much slower and its memory
grows with every connection, so it gets the first packets of each capture only, and its own start is left out too.
"""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .captures import FRAME, HEAD, SCENES, write
from .result import Plan, Result
from .running import HALFOPEN, Cost, cost_of, in_turns, installed

GROUP = "Large captures"
_TSHARK = ("tshark", "-n", "-T", "fields", *(f"-e{name}" for name in (
    "frame.time_epoch", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport", "tcp.flags",
)))  # fmt: skip
_TSHARK_PACKETS = 300_000
_BUDGET = 60.0  # seconds for all runs of one program over one capture


def run_all(plan: Plan) -> list[Result]:
    """All scenes, one after the other: each is made, read by both programs in turns, and removed."""
    rows: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder, "one.pcap")
        write(one, SCENES["scan"].make(1000)[0][:1])
        start = _turns(one, one, plan.runs)
        for name, scene in SCENES.items():
            path, head = Path(folder, "whole.pcap"), Path(folder, "head.pcap")
            targets = scene.targets // 10 if plan.quick else scene.targets
            write(path, *scene.make(targets))
            with path.open("rb") as whole:
                head.write_bytes(whole.read(HEAD.nbytes + _TSHARK_PACKETS * FRAME.itemsize))
            rows += _rows(
                f"{name}, {_packets(path):,} packets", path, head, _turns(path, head, plan.runs), start, targets
            )
    return rows


def _turns(path: Path, head: Path, runs: int) -> dict[str, list[Cost]]:
    out = path.with_suffix(".out")
    contenders: dict[str, Callable[[], Cost]] = {
        "halfopen": partial(cost_of, (*HALFOPEN, "classify", str(path), "-f", "jsonl", "-q"), out)
    }
    if installed("tshark"):
        contenders["tshark"] = partial(cost_of, (*_TSHARK, "-r", str(head)), out)
    return in_turns(contenders, runs, _BUDGET)


def _packets(path: Path) -> int:
    return (os.path.getsize(path) - HEAD.nbytes) // FRAME.itemsize


def _rows(
    name: str, path: Path, head: Path, done: dict[str, list[Cost]], start: dict[str, list[Cost]], targets: int
) -> list[Result]:
    ours, theirs, packets = done["halfopen"], done.get("tshark", []), _packets(path)
    note = f"the first {_packets(head):,} packets" if theirs else "not installed"
    above = tuple((each.peak - start["halfopen"][0].peak) / targets for each in ours)
    return [
        Result(GROUP, name, "packets/s", tuple(packets / each.seconds for each in ours), note="start included"),
        Result(GROUP, f"{name}, CPU", "packets/s", _after_start(packets, ours, start["halfopen"])),
        Result(GROUP, f"{name}, memory", "MB", tuple(each.peak / 1e6 for each in ours)),
        Result(GROUP, f"{name}, memory a target", "bytes", above, note=f"{targets:,} targets"),
        Result(
            GROUP, f"{name}: tshark, CPU", "packets/s", _after_start(_packets(head), theirs, start.get("tshark", [])),
            f"{name}, CPU", note,
        ),
        Result(GROUP, f"{name}: tshark, memory", "MB", tuple(each.peak / 1e6 for each in theirs), "", note),
    ]  # fmt: skip


def _after_start(packets: int, costs: list[Cost], start: list[Cost]) -> tuple[float, ...]:
    least = min((each.cpu for each in start), default=0.0)
    return tuple(packets / (each.cpu - least) for each in costs)
