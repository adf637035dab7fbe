"""`halfopen plan`: what a scan would do, before it does it.

A scan cannot be taken back, and its options act together: excludes, special-purpose blocks, routes, shards, passes,
rates. So the plan is not computed beside the scan but by it: targets are chosen, routes asked and lanes built by the
same code, only on a transport that leads nowhere, and the first probes are what the first window hands out.
Nothing is sent and no privileges are needed, because no socket is opened but the one to the routing table.

Limits: how long a scan takes depends on who answers, so there is the least (everybody does, at once) and the time if
nobody does; a sweep for MAC addresses may find hosts down, whose probes are then never sent. Source ports are chosen
when the scan holds them.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..config import SynConfig, key_of
from ..halfopen.lane import Lane
from ..halfopen.scan import Scan
from ..halfopen.session import settings_of
from ..halfopen.setup import Way, lane_of, ways_of
from ..halfopen.window import Phase
from ..packet.addresses import to_text
from ..targets.ports import format_ports
from ..targets.spec import parse_hosts, resolve
from ..targets.special import MANY_PUBLIC, Choice, public_hosts
from ..transport.held_ports import HeldPorts
from ..transport.memory import Faults, MemoryTransport
from ..verdict.loss import FIRST_WAIT, MIN_PASSES_UNANSWERED
from .request import ScanRequest
from .run import print_ports

PROBES_SHOWN = 10
EXCLUDES_COUNTED = 20  # each costs a reading of the target list
_LABEL = 10  # columns of the label


@dataclass(frozen=True)
class Plan:
    """A scan that was not begun. `skipped`: what routes refuse, as sentences."""

    choice: Choice
    ports: npt.NDArray[np.uint16]
    config: SynConfig
    ways: list[Way]
    skipped: list[str]
    scan: Scan

    @property
    def lanes(self) -> list[Lane]:
        """One for each way."""
        return self.scan.lanes

    @property
    def targets(self) -> int:
        """Of this shard."""
        return sum(lane.host_count for lane in self.lanes) * len(self.ports)

    @property
    def queries(self) -> int:
        """Hosts that are asked for their MAC address first, and gateways."""
        return sum(lane.host_count if lane.gateway is None else 1 for lane in self.lanes if lane.query is not None)


def make_plan(choice: Choice, ports: npt.NDArray[np.uint16], config: SynConfig) -> Plan:
    """The plan of these targets. Raises UsageError where the scan would."""
    skipped: list[str] = []
    key = key_of(config)
    ways = ways_of(choice.hosts, config, skipped.append)
    nowhere = MemoryTransport(lambda address: None, lambda: 0, Faults(), 0)
    held = HeldPorts(tuple(range(1, config.passes + 2)), False)  # stand-ins: the order does not depend on them
    lanes = [lane_of(way, nowhere, held, ports, config, key) for way in ways]
    return Plan(choice, ports, config, ways, skipped, Scan(lanes, settings_of(config, choice.hosts), key))


def first_probes(plan: Plan) -> tuple[list[tuple[str, int]], bool]:
    """The first (address, port) pairs in the order of sending, and whether a sweep for MAC addresses comes before."""
    window = plan.scan.next_window()
    assert window, "a plan has targets"
    window.passes.begin(0)
    slot, index = np.divmod(window.passes.take(PROBES_SHOWN, 0), window.width)
    addresses = to_text(window.hosts[slot])
    return list(zip(addresses, plan.ports[index].tolist(), strict=True)), window.phase is Phase.SWEEP


def run_plan(request: ScanRequest) -> int:
    """Print the plan on standard output."""
    if request.list_ports:
        return print_ports(request)
    plan = make_plan(request.choice(), request.port_column(), request.config())
    sys.stdout.writelines(f"{label:<{_LABEL}} {text}\n" for label, text in _lines(plan))
    sys.stdout.flush()
    return 0


def _lines(plan: Plan) -> Iterator[tuple[str, str]]:
    """Label and text of each line; further lines of a label have none."""
    sections = (
        ("targets", _targets(plan)),
        ("left out", _left_out(plan)),
        ("ways", [_way(way, lane) for way, lane in zip(plan.ways, plan.lanes, strict=True)]),
        ("packets", _packets(plan)),
        ("time", _time(plan)),
        ("first", _first(plan)),
    )
    for label, texts in sections:
        for at, text in enumerate(texts):
            yield "" if at else label, text


def _targets(plan: Plan) -> Iterator[str]:
    hosts = sum(way.hosts.size for way in plan.ways)
    yield f"{_many(hosts, 'address', 'es')} × {_many(len(plan.ports), 'port')} ({format_ports(plan.ports)})"
    shard = plan.config.shard
    yield f"{_many(plan.targets, 'target')}" + (f" in shard {shard.number}/{shard.of}" if shard.of > 1 else "")
    public = public_hosts(plan.choice.hosts)
    if public > MANY_PUBLIC:
        yield f"{public:,} addresses are public: the scan asks before it starts, or wants --yes"


def _left_out(plan: Plan) -> Iterator[str]:
    excludes = plan.choice.excludes
    size = parse_hosts(plan.choice.specs, [], resolve).size if excludes else 0
    for spec in excludes[:EXCLUDES_COUNTED]:
        count = size - parse_hosts(plan.choice.specs, [spec], resolve).size
        yield f"{_many(count, 'address', 'es')} by exclude {spec}"
    if len(excludes) > EXCLUDES_COUNTED:
        yield f"… by {len(excludes) - EXCLUDES_COUNTED:,} further excludes"
    for taken in plan.choice.taken:
        yield f"{_many(taken.addresses, 'address', 'es')} of {taken.entry}"
    yield from plan.skipped


def _way(way: Way, lane: Lane) -> str:
    route = way.route
    place = "this machine itself" if route.local else f"via {route.gateway}" if route.gateway else "on the link"
    return f"{route.interface.name}, {place}, from {route.source}: {_many(lane.host_count, 'address', 'es')}"


def _packets(plan: Plan) -> Iterator[str]:
    """Counts and bytes as on the link: Ethernet headers included, check sequences not."""
    width = len(plan.ports)
    size = sum(lane.host_count * width * lane.probe.length for lane in plan.lanes)
    lengths = "/".join(str(each) for each in sorted({lane.probe.length for lane in plan.lanes}))
    yield f"{_many(plan.targets, 'probe')} of {lengths} bytes ({_bytes(size)}) if everybody answers, and resets"
    most, usual = plan.config.passes, _unanswered_passes(plan.config)
    total = f"{plan.targets * usual:,} ({_bytes(size * usual)})"
    yield f"{total} in {_many(usual, 'pass', 'es')} if nobody does; at most {most}"
    if plan.queries:
        yield f"{_many(plan.queries, 'MAC address', 'es')} to ask for before that"


def _unanswered_passes(config: SynConfig) -> int:
    return min(config.passes, MIN_PASSES_UNANSWERED)


def _time(plan: Plan) -> Iterator[str]:
    config, passes = plan.config, _unanswered_passes(plan.config)
    frames = plan.targets + plan.queries
    waits = passes * (config.timeout or FIRST_WAIT)
    if config.rate:
        most = _duration(plan.targets * passes / config.rate + waits)
        yield f"{_duration(frames / config.rate)} at {config.rate:,.0f}/s if everybody answers; {most} if nobody does"
    elif config.rate == 0:
        yield f"--rate 0: as fast as this machine sends {frames:,} frames"
    else:
        start, end = plan.scan.dispatch.bucket.rate, plan.scan.settings.max_rate
        grows = f"grows while nothing is lost by it{f', to {end:,.0f}/s at most' if end else ''}"
        yield f"--rate auto: begins at {start:,.0f}/s and {grows}"
        least = f"at least {_duration(frames / end)}, and " if end else ""
        yield f"{least}{_duration(plan.targets * passes / start + waits)} if it never grew and nobody answered"


def _first(plan: Plan) -> Iterator[str]:
    probes, sweep = first_probes(plan)
    if plan.config.seed is None:
        yield "in another order each time; --seed fixes it; for example:"
    if sweep:
        yield "after the MAC addresses; hosts that are down are passed over:"
    yield from (f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in probes)


def _many(count: int, what: str, plural: str = "s") -> str:
    return f"{count:,} {what}{'' if count == 1 else plural}"


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:,.1f} {unit}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    texts = (f"{days} d" if days else "", f"{hours} h" if hours else "", f"{minutes} min" if minutes else "")
    return " ".join(filter(None, (*texts, f"{rest} s" if rest and not days else "")))
