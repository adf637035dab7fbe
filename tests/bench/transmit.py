"""SYNs per second: built, and sent through a wire.

*Built* is the whole cost of a probe without sending: the order's permutation, the cookie, and stamping the frame into
an array, by the same code that fills the slots of a sender. *Through the wire* is counted by the target. It drops each
frame as soon as its kernel sees it (an nftables ingress rule), so there are no answers. The interfaces have two queues,
one for each sender. halfopen sends by AF_XDP, and by packet ring where the row says so. The C loops send one fixed
frame through a ring, and through AF_XDP, of the same shape and compute nothing; these are the limits of both ways on
this machine. Frame sizes differ between tools, so each row shows its own, and another scanner is compared with our row
of the nearest size.
"""

import shlex
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from scanner.halfopen.transmit import BATCH
from scanner.lab import Box
from scanner.packet import probe
from scanner.rounds.schedule import HostRange
from scanner.rounds.window import Window
from tests.lab.networks import direct_box

from .result import Plan, Result
from .running import HALFOPEN, MACS, MASSCAN, ZMAP, Run, compiled, drop_tcp, in_turns, installed, run
from .sink import lane_of

GROUP_BUILT, GROUP_WIRE, GROUP_WALL = "Probes built, no IO", "SYNs through a veth pair", "Wall time of the same runs"
LOOP, TWO_LOOPS = "C loop by ring, one fixed frame", "two C loops by ring at once"
XDP_LOOP, TWO_XDP_LOOPS = "C loop by AF_XDP, one fixed frame", "two C loops by AF_XDP at once"
BY_RING = "halfopen --options mss --transport ring"
TWO_SENDERS, TWO_BY_RING = "halfopen --options mss --senders 2", f"{BY_RING} --senders 2"
OURS = {f"halfopen --options {options}": options for options in ("none", "mss", "os")}


def run_all(plan: Plan) -> list[Result]:
    """Built, then sent."""
    return [*built(plan), *sent(plan)]


def built(plan: Plan) -> list[Result]:
    """Probes per second that one core builds, in batches as the scan does."""
    seconds = 0.3 if plan.quick else 1.0
    kinds = {
        "IPv4, --options os": partial(_build, 4, "os", seconds),
        "IPv4, --options mss": partial(_build, 4, "mss", seconds),
        "IPv6, --options os": partial(_build, 6, "os", seconds),
    }
    done = in_turns(kinds, plan.runs, budget=20)
    return [Result(GROUP_BUILT, name, "probes/s", tuple(values)) for name, values in done.items()]


def _build(version: int, options: str, seconds: float) -> float:
    spec = "198.19.0.0/16" if version == 4 else "2001:db8:ff::/112"
    lane = lane_of(spec, ports=16, options=options)
    hosts = HostRange(0, 0, lane.host_count)
    window = Window(hosts, lane.hosts_at(hosts.host_pos()), lane.ports_at(0), key=1)
    rows = np.zeros((BATCH, 256), np.uint8)
    window.begin_pass(0)
    made, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        target_id = window.passes.take(len(rows), 0)
        host, port_index = np.divmod(target_id, window.width)
        lane.stamp_probes(rows[: len(target_id)], window.hosts[host], window.ports[port_index], 1, None, 0)
        if not len(target_id):
            window.begin_pass(0)
        made += len(target_id)
    return made / took


def sent(plan: Plan) -> list[Result]:
    """SYNs per second that reach the target, for each contender that is here."""
    with TemporaryDirectory() as folder, direct_box(queues=2) as box:
        refused = drop_tcp(box)
        if refused:
            return [Result(GROUP_WIRE, "halfopen", "SYNs/s", note=f"not measured: {refused}")]
        contenders, missing = _contenders(box, plan, Path(folder))
        done = in_turns(contenders, plan.runs, budget=40)
    sizes = {name: runs[-1].frame_size for name, runs in done.items()}
    beside = {name: _nearest(name, sizes) for name in done}
    rows = [_rate(name, runs, beside[name]) for name, runs in done.items()]
    rows += [Result(GROUP_WIRE, name, "SYNs/s", note=why) for name, why in missing.items()]
    return rows + [
        _wall(name, runs, beside[name]) for name, runs in done.items() if any(each.ended_itself for each in runs)
    ]


def _contenders(box: Box, plan: Plan, folder: Path) -> tuple[dict[str, Callable[[], Run]], dict[str, str]]:
    """What to run, and what cannot be run with the reason."""
    ports = 17 if plan.quick else 32  # times 65,536 hosts
    count = ports << 16
    syn = (
        *HALFOPEN,
        "syn",
        "198.19.0.0/16",
        "-p",
        f"1-{ports}",
        "--rate",
        "0",
        "--retries",
        "0",
        "--timeout",
        "0.2",
        "--open",
        "-q",
    )
    zmap = (*ZMAP, "-p", "80", "-r", "0", "-c", "0", "-P", str(ports // 2), "198.18.0.0/15")
    commands: dict[str, Sequence[str]] = {name: (*syn, "--options", options) for name, options in OURS.items()}
    commands[TWO_SENDERS] = (*syn, "--options", "mss", "--senders", "2")
    by_ring = (*syn, "--options", "mss", "--transport", "ring")
    commands |= {BY_RING: by_ring, TWO_BY_RING: (*by_ring, "--senders", "2")}
    commands |= {"ZMap -T 1": (*zmap, "-T", "1"), "ZMap -T 2": (*zmap, "-T", "2")}
    commands["masscan"] = (*MASSCAN, "198.19.0.0/16", f"-p1-{ports}", "--rate", "100000000", "--wait", "0")
    loops = _loops(folder, count)
    missing = {} if loops else {LOOP: "no C compiler", XDP_LOOP: "no C compiler"}
    commands |= loops
    missing |= {name: "not installed" for name, line in commands.items() if not installed(line[0])}
    present = {name: line for name, line in commands.items() if name not in missing}
    return {name: partial(run, box, line, limit=25, quiet=3) for name, line in present.items()}, missing


def _loops(folder: Path, count: int) -> dict[str, Sequence[str]]:
    """The C loops, alone and two at once; none without a compiler."""
    ring, xdp = compiled("ring_loop", folder), compiled("xdp_loop", folder)
    if not ring or not xdp:
        return {}
    frame = (_frame().hex(), str(count))
    by_ring, *by_xdp = (str(ring), "scan0", *frame), *((str(xdp), "scan0", queue, *frame) for queue in "01")
    pairs = {TWO_LOOPS: (by_ring, by_ring), TWO_XDP_LOOPS: by_xdp}
    both = {
        name: ("sh", "-c", f"{shlex.join(one)} & {shlex.join(other)}; wait") for name, (one, other) in pairs.items()
    }
    return {LOOP: by_ring, XDP_LOOP: by_xdp[0], **both}


def _frame() -> bytes:
    """The SYN that the C loop repeats: the same template, stamped for one target."""
    lane = lane_of("198.19.0.1", ports=1, options="mss", macs=MACS)
    rows = np.zeros((1, lane.probe.length), np.uint8)
    port = np.array([80], np.uint16)
    target = lane.hosts_at(np.zeros(1, np.int64))
    probe.stamp(lane.probe, rows, target, port, 40000, lane.sequence(target, port, 40000))
    return rows.tobytes()


def _nearest(name: str, sizes: dict[str, float]) -> str:
    """Our row whose frames are as long as this peer's, or nearest to it; "" for our own rows."""
    if name in (TWO_LOOPS, TWO_XDP_LOOPS, TWO_BY_RING, "ZMap -T 2"):
        return TWO_SENDERS
    return "" if name in OURS or name == TWO_SENDERS else min(OURS, key=lambda ours: abs(sizes[ours] - sizes[name]))


def _rate(name: str, runs: list[Run], versus: str) -> Result:
    note = f"{runs[-1].frame_size:.0f}-byte frames, {runs[-1].frames:,} of them"
    return Result(GROUP_WIRE, name, "SYNs/s", tuple(each.rate for each in runs), versus, note)


def _wall(name: str, runs: list[Run], versus: str) -> Result:
    whole = tuple(each.seconds for each in runs if each.ended_itself)
    return Result(GROUP_WALL, name, "s", whole, versus, f"{runs[-1].frames:,} frames")
