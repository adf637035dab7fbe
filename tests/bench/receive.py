"""How many replies a second one core takes in, and what two cores carry in both directions.

*Taken in* is all that a reply costs after the kernel has put it into the ring: parsed, matched by its cookie,
classified, folded into the ledger, and for a SYN/ACK the reset stamped and handed over. The frames lie ready in memory
in slots like the ring's, answer probes that the scan has really made, and come in the order of those probes.
*Full duplex* is a scan at full rate of a host whose kernel answers every SYN; what was dropped stands beside it.
"""

import re
import time
from functools import partial

from scanner.lab import Box
from scanner.live import Scan, Settings

from .result import Plan, Result
from .running import HALFOPEN, Run, in_turns, run
from .sink import KEY, Sink, answers_to, lane_of

GROUP_MEMORY, GROUP_DUPLEX = "Replies taken in, no IO", "Full duplex over a veth pair, every SYN answered with a reset"
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
    scan = Scan([lane_of("198.19.0.0/16", ports, "mss", sink)], Settings(), KEY)
    size = ports << 16
    while sink.count < size:
        scan.step(1_000_000)
    sink.replies = answers_to(sink.kept, share_open)
    sink.kept.clear()
    began = time.perf_counter()
    while (scan.replies < size or scan.dispatch.owing) and time.perf_counter() - began < _LONGEST:
        scan.step(2_000_000)
    return scan.replies / (time.perf_counter() - began)


def duplex(plan: Plan) -> list[Result]:
    """Replies per second while probing at full rate, and what was dropped."""
    ports = 8 if plan.quick else 16
    size = ports << 16
    command = (*HALFOPEN, "syn", "198.19.0.0/16", "-p", f"1-{ports}", "--rate", "0", "--open")
    with Box() as box:
        runs = in_turns({"halfopen": lambda: run(box, command, limit=60)}, min(plan.runs, 3), budget=30)["halfopen"]
    rates = tuple(size * 0.98 / _middle(each) for each in runs)
    drops = ", ".join(_drops(each) for each in runs)
    notes = f"{size:,} targets; dropped (received/sent) in each run: {drops}"
    return [
        Result(GROUP_DUPLEX, "SYNs/s that reach the target", "SYNs/s", tuple(each.rate for each in runs), note=notes),
        Result(GROUP_DUPLEX, "targets decided, from the first SYN to the last", "targets/s", rates),
        Result(GROUP_DUPLEX, "command to prompt", "s", tuple(each.seconds for each in runs)),
    ]


def _middle(finished: Run) -> float:
    """Seconds in which the middle 98 % of the frames came."""
    return 0.98 * finished.frames / finished.rate if finished.rate else float("inf")


def _drops(finished: Run) -> str:
    found = _DROPS.search(finished.err)
    return "/".join(found.groups()) if found else "?"
