"""How many replies a second one core takes in, and what two cores carry in both directions.

*Taken in* is the whole cost of a reply after the kernel has put it into the ring: parsing, matching its cookie,
classifying, folding into the ledger, and for a SYN/ACK stamping the reset and handing it over. The frames are already
in memory, in slots like the ring's. They answer probes that the scan has really made, in the order of those probes.
*Full duplex* is a scan at full rate of a host whose kernel answers every SYN, and then of a program that answers from
a prepared ring, so that the answers cost as little as possible. The row also shows what was dropped.
"""

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from scanner.halfopen.scan import Scan, Settings
from scanner.lab import Box
from tests.lab.networks import direct_box

from .result import Plan, Result
from .running import HALFOPEN, Run, compiled, drop_tcp, in_turns, run
from .sink import Sink, answers_to, lane_of

GROUP_MEMORY = "Replies taken in, no IO"
GROUP_DUPLEX = "Full duplex over a veth pair, every SYN answered with a reset by a kernel"
GROUP_RING = "Full duplex over a veth pair, every SYN answered from a prepared ring, one in 50 with a SYN/ACK"
_KINDS = {"all closed (RST/ACK)": 0.0, "all open (SYN/ACK, a reset each)": 1.0, "one in 50 open": 0.02}
_LONGEST = 20.0  # seconds
_DROPS = re.compile(r"kernel drops: ([\d,]+) received, ([\d,]+) sent")


def run_all(plan: Plan) -> list[Result]:
    """In memory, then over the wire."""
    return [*taken_in(plan), *duplex(plan)]


def taken_in(plan: Plan) -> list[Result]:
    """Replies per second through `Scan.step` on one core."""
    ports = 4 if plan.quick else 12
    kinds = {name: partial(_take, ports, share) for name, share in _KINDS.items()}
    done = in_turns(kinds, plan.runs, budget=20)
    return [Result(GROUP_MEMORY, name, "replies/s", tuple(values)) for name, values in done.items()]


def _take(ports: int, share_open: float) -> float:
    sink = Sink(keep=True)
    lane = lane_of("198.19.0.0/16", ports, "mss", sink)
    scan = Scan([lane], Settings(), lane.order_key)
    size = ports << 16
    while sink.count < size:
        scan.step(1_000_000)
    sink.replies = answers_to(sink.kept, share_open)
    sink.kept.clear()
    began = time.perf_counter()
    while (scan.receiver.replies < size or scan.transmit.owing) and time.perf_counter() - began < _LONGEST:
        scan.step(2_000_000)
    return scan.receiver.replies / (time.perf_counter() - began)


def duplex(plan: Plan) -> list[Result]:
    """Replies per second while probing at full rate, and what was dropped: a kernel answers, then a prepared ring."""
    ports = 8 if plan.quick else 16
    size = ports << 16
    command = (*HALFOPEN, "syn", "198.19.0.0/16", "-p", f"1-{ports}", "--rate", "0", "--open")
    with TemporaryDirectory() as folder, direct_box() as box:
        rows = _duplex_rows(GROUP_DUPLEX, size, _runs(plan, lambda: run(box, command, limit=60)))
        program = compiled("answer_loop", Path(folder))
        refused = drop_tcp(box) if program else "no C compiler"
        if refused or not program:
            return [
                *rows,
                Result(GROUP_RING, "SYNs/s that reach the target", "SYNs/s", note=f"not measured: {refused}"),
            ]
        answered = _runs(plan, lambda: _beside(box, program, command))
        return [*rows, *_duplex_rows(GROUP_RING, size, answered)]


def _runs(plan: Plan, once: Callable[[], Run]) -> list[Run]:
    return in_turns({"halfopen": once}, min(plan.runs, 3), budget=30)["halfopen"]


def _beside(box: Box, program: Path, command: Sequence[str]) -> Run:
    """A run while the answering program is at work in the target's namespace; that ends by itself."""
    line = (str(program), "host0", "50", "1")
    with box.target.popen(line, stdin=-3, stdout=subprocess.PIPE, stderr=-3, text=True) as peer:
        assert peer.stdout
        peer.stdout.readline()
        finished = run(box, command, limit=60)
        said = peer.stdout.read().strip()
    return finished._replace(out=said)


def _duplex_rows(group: str, size: int, runs: list[Run]) -> list[Result]:
    rates = tuple(size * 0.98 / _middle(each) for each in runs)
    drops = ", ".join(_drops(each) for each in runs)
    notes = f"{size:,} targets; dropped (received/sent) in each run: {drops}"
    if group == GROUP_RING and runs:
        notes += f"; the peer: {runs[-1].out}"
    return [
        Result(group, "SYNs/s that reach the target", "SYNs/s", tuple(each.rate for each in runs), note=notes),
        Result(group, "targets decided, from the first SYN to the last", "targets/s", rates),
        Result(group, "command to prompt", "s", tuple(each.seconds for each in runs)),
    ]


def _middle(finished: Run) -> float:
    """Seconds in which the middle 98 % of the frames came."""
    return 0.98 * finished.frames / finished.rate if finished.rate else float("inf")


def _drops(finished: Run) -> str:
    found = _DROPS.search(finished.err)
    return "/".join(found.groups()) if found else "?"
