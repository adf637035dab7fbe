"""Whether the cost of a probe and the memory stay the same when the scan grows.

*In memory* a scan of 10^4 to 10^10 targets runs through its own `step`, with a transport that discards frames and a
clock that jumps over the waits, for a limited number of probes. This gives nanoseconds per probe, with windows that
open and close but without the kernel. *On the wire* the same sizes go to a target that drops; SIGINT stops the large
one after some windows. Peak memory is the kernel's account of the whole process, with interpreter and libraries.
*At a fixed rate* the share of one core is read from the running process, start-up excluded.
"""

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from scanner.halfopen.scan import Scan, Settings
from scanner.lab import Box
from scanner.verdict.loss import Bound
from tests.lab.networks import direct_box

from .result import Plan, Result
from .running import HALFOPEN, ROOT, drop_tcp, in_turns, run
from .sink import Sink, lane_of

GROUP_MEMORY, GROUP_WIRE, GROUP_RATE = "Scale, in memory", "Scale, on the wire", "At 10,000 probes/s"
SIZES: dict[str, tuple[str, int]] = {
    "10^4 targets": ("198.19.0.0/24", 40),
    "10^6 targets": ("198.19.0.0/16", 16),
    "10^8 targets": ("198.19.0.0/16", 1600),
    "10^10 targets": ("10.0.0.0/8", 600),
}
_MEGABYTE = 1e6
_PUBLIC_IPV4 = 3_702_258_432  # addresses outside IANA's special-purpose blocks (RFC 6890)


def run_all(plan: Plan) -> list[Result]:
    """Memory, wire, rate."""
    runs = min(plan.runs, 3)
    return [*in_memory(plan, runs), *on_the_wire(plan, runs), *at_a_rate(plan, runs)]


# ── in memory ──


def in_memory(plan: Plan, runs: int) -> list[Result]:
    """ns per probe and peak memory of a process of its own for each size."""
    most = 1_000_000 if plan.quick else 4_000_000

    done = in_turns({name: partial(_alone, name, most) for name in SIZES}, runs, budget=25)
    rows = [Result(GROUP_MEMORY, name, "ns/probe", tuple(cost for cost, _ in each)) for name, each in done.items()]
    return rows + [
        Result(GROUP_MEMORY, name, "MB peak", tuple(peak for _, peak in each)) for name, each in done.items()
    ]


def _alone(name: str, most: int) -> tuple[float, float]:
    """ns per probe and peak megabytes, in a process of its own."""
    spec, ports = SIZES[name]
    with direct_box() as box:  # only for the account of its process: nothing is sent
        done = run(box, (sys.executable, "-m", __name__, spec, str(ports), str(most)), limit=60)
    return float(done.out), done.peak / _MEGABYTE


def cost(spec: str, ports: int, most: int) -> float:
    """Nanoseconds per probe of a scan that nobody answers, over at least 10^6 probes and about `most` a scan."""
    made, took = 0, 0.0
    while made < 1_000_000:
        sink = Sink()
        lane = lane_of(spec, ports, sink=sink)
        scan = Scan([lane], Settings(bound=Bound(3)), lane.order_key)
        now, began = 1_000_000_000, time.perf_counter()
        while not scan.done and sink.count < most:
            now += max(1_000, int(scan.step(now) * 1e9))
            scan.windows.closed.clear()
        took += time.perf_counter() - began
        made += sink.count
    return took / made * 1e9


# ── on the wire ──


def on_the_wire(plan: Plan, runs: int) -> list[Result]:
    """Peak memory and ns per SYN at full rate against a target that drops."""
    sizes = {name: SIZES[name] for name in ("10^4 targets", "10^6 targets", "10^8 targets")}
    with direct_box() as box:
        refused = drop_tcp(box)
        if refused:
            return [Result(GROUP_WIRE, "any size", "ns/SYN", note=f"not measured: {refused}")]
        sending = 2.5 if plan.quick else 6.0
        lines = {name: _syn(spec, ports, "0") for name, (spec, ports) in sizes.items()}
        contenders = {name: partial(run, box, line, limit=30, sending=sending) for name, line in lines.items()}
        done = in_turns(contenders, runs, budget=25)
    rows = [
        Result(
            GROUP_WIRE,
            name,
            "ns/SYN",
            tuple(1e9 / each.rate for each in runs if each.rate),
            note=f"{runs[-1].frames:,} SYNs",
        )
        for name, runs in done.items()
        if SIZES[name][1] > 100  # the others are over before their rate can be seen
        or name == "10^6 targets"
    ]
    rates = [each.rate for each in done["10^8 targets"] if each.rate]
    hours = tuple(_PUBLIC_IPV4 / rate / 3600 for rate in rates)
    rows.append(Result(GROUP_WIRE, "IPv4 x 1 port at that rate", "hours", hours, note="reckoned, not scanned"))
    return rows + [
        Result(GROUP_WIRE, name, "MB peak", tuple(each.peak / _MEGABYTE for each in runs))
        for name, runs in done.items()
    ]


def _syn(spec: str, ports: int, rate: str) -> Sequence[str]:
    return (
        *HALFOPEN,
        "syn",
        spec,
        "-p",
        f"1-{ports}",
        "--rate",
        rate,
        "--open",
        "-q",
        "--retries",
        "0",
        "--timeout",
        "0.5",
    )


# ── at a fixed rate ──


def at_a_rate(plan: Plan, runs: int) -> list[Result]:
    """The share of one core while 10,000 probes a second go out and every one is answered, in percent."""
    seconds = 1.5 if plan.quick else 3.0
    with direct_box() as box:
        done = in_turns({"halfopen --rate 10000": lambda: _share(box, seconds)}, runs, budget=25)
    return [
        Result(GROUP_RATE, name, "% of a core", tuple(values), note="every SYN answered with a reset")
        for name, values in done.items()
    ]


def _share(box: Box, seconds: float) -> float:
    process = box.scanner.popen(_syn("198.19.0.0/16", 100, "10000"), stdin=-3, stdout=-3, stderr=-3, cwd=ROOT)
    try:
        time.sleep(1.5)  # start-up, and the first batches
        before, began = _cpu(process.pid), time.monotonic()
        time.sleep(seconds)
        return 100 * (_cpu(process.pid) - before) / (time.monotonic() - began)
    finally:
        process.kill()
        process.wait()


def _cpu(pid: int) -> float:
    """User and system seconds so far (proc(5), /proc/pid/stat fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    print(cost(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
