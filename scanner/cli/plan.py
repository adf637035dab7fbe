"""`halfopen plan`: what a scan would do, before it does it.

A scan cannot be undone, and its options act together: excludes, special-purpose blocks, routes, shards, passes, rates.
So the plan is made by the code of the scan itself. It chooses targets, looks up routes and builds lanes as the scan
does, but opens no transport. The first targets are those of the scan's first window. Nothing is sent and no
privileges are needed, because the only socket is the one to the routing table.

Limits: the time of a scan depends on which targets answer. The plan shows the least time (every target answers at
once) and the time if no target answers. A sweep for MAC addresses may find hosts that are down, and these get no
probes. Source ports and sequence numbers are chosen when the scan starts.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from typing import cast

import numpy as np

from ..config import SynConfig, choice_of, config_of, keys_of, ports_of, usual_ports_text
from ..errors import escaped, note
from ..halfopen.lane import Lane
from ..halfopen.scan import Scan
from ..halfopen.session import settings_of
from ..halfopen.setup import lane_of, routes_of
from ..net.routes import Route
from ..packet.addresses import to_text
from ..rounds.rate import BLIND_RATE, IN_FLIGHT
from ..rounds.trips import UNHEARD_WAIT
from ..targets.ports import Ports, format_ports
from ..targets.special import MANY_PUBLIC, Choice, public_hosts
from ..transport import Transport
from ..transport.held_ports import HeldPorts
from ..verdict.loss import MIN_PASSES_UNANSWERED
from ..verdict.sentences import plural, titled
from .options import ScanRequest
from .progress import reading

PROBES_SHOWN = 10
EXCLUDES_COUNTED, SETS_SHOWN = 20, 10
LABEL_WIDTH = 10


class Plan:
    """A scan before its start, with a lane for each part of `routed`. `skipped`: sentences on hosts without a route."""

    def __init__(self, choice: Choice, ports: Ports, config: SynConfig) -> None:
        """Raises the UsageError that the scan would raise."""
        self.choice, self.spaces, self.usual, self.config = choice, choice.spaces(ports), ports, config
        self.skipped: list[str] = []
        keys = keys_of(config)
        self.routed = routes_of(choice.hosts, config, self.skipped.append).hosts
        transport = cast(Transport, None)  # a plan sends nothing
        # The order of the probes does not depend on the source ports, so any numbers will do.
        held = HeldPorts(tuple(range(1, config.passes + 2)), False)
        self.lanes = [
            lane_of(route, self.spaces.within(hosts), transport, held, config, keys)
            for route, hosts in self.routed.items()
        ]
        self.scan = Scan(self.lanes, settings_of(config, choice.hosts), keys.order)

    @property
    def targets(self) -> int:
        """The targets of this shard."""
        return sum(lane.extent.targets for lane in self.lanes)

    @property
    def queries(self) -> int:
        """The hosts and gateways whose MAC addresses are looked up first."""
        return sum(lane.host_count if lane.gateway is None else 1 for lane in self.lanes if lane.query is not None)

    @property
    def unanswered_passes(self) -> int:
        """The passes over targets that stay silent, if nothing answers at all."""
        return min(self.config.passes, MIN_PASSES_UNANSWERED)


def run_plan(request: ScanRequest) -> int:
    """Print the plan on standard output."""
    config = config_of(request.given)
    with reading() as tell:
        whole, only_open = config.shard.of > 1, request.output.only_open
        choice = choice_of(request.targets, EXCLUDES_COUNTED, tell, whole, only_open)
    plan = Plan(choice, ports_of(request.targets), config)
    for line in choice.own.notes(request.targets.ports, request.targets.top_ports):
        note(line)
    ports = usual_ports_text(request.targets)
    sys.stdout.writelines(f"{label:<{LABEL_WIDTH}} {escaped(text)}\n" for label, text in _lines(plan, ports))
    sys.stdout.flush()
    return 0


def _lines(plan: Plan, ports: str) -> Iterator[tuple[str, str]]:
    """The label and the text of each line. Only the first line of a section has its label."""
    sections = (
        ("targets", _targets(plan, ports)),
        ("names", iter(plan.choice.notes)),
        ("left out", _left_out(plan)),
        ("routes", map(_route, plan.routed, plan.lanes)),
        ("packets", _packets(plan)),
        ("time", _time(plan)),
        ("first", _first(plan)),
    )
    for label, texts in sections:
        for number, text in enumerate(texts):
            yield "" if number else label, text


def _targets(plan: Plan, ports: str) -> Iterator[str]:
    yield from _spaces(plan, ports)
    shard = plan.config.shard
    yield plural(plan.targets, "target") + (f" in shard {shard.number}/{shard.of}" if shard.of > 1 else "")
    public = public_hosts(plan.choice.hosts)
    if public > MANY_PUBLIC:
        yield f"{public:,} addresses are public: the scan asks before it starts, unless --yes is given"


def _spaces(plan: Plan, usual: str) -> Iterator[str]:
    """The hosts of each set of ports that have a route, those with most targets first."""
    hosts: Counter[bytes] = Counter()
    for lane in plan.lanes:
        sizes = np.diff(np.append(0, lane.spaces.ends)).tolist()
        for ports, size in zip(lane.spaces.sets, sizes, strict=True):
            hosts[ports.tobytes()] += size
    sets = [(size, np.frombuffer(ports, np.uint16)) for ports, size in hosts.items()]
    sets.sort(key=lambda each: -each[0] * len(each[1]))
    for size, ports in sets[:SETS_SHOWN]:
        text = usual if usual and np.array_equal(ports, plan.usual) else format_ports(ports)
        yield f"{plural(size, 'address')} × {plural(len(ports), 'port')} ({text})"
    if others := sets[SETS_SHOWN:]:
        yield f"{plural(sum(size for size, _ in others), 'address')} with {len(others):,} further sets of ports"


def _left_out(plan: Plan) -> Iterator[str]:
    choice = plan.choice
    for spec, count in choice.excluded:
        yield f"{plural(count, 'address')} by exclude {spec}"
    if choice.excludes > len(choice.excluded):
        yield f"… by {choice.excludes - len(choice.excluded):,} further excludes"
    for taken in choice.taken:
        yield f"{plural(taken.addresses, 'address')} of {taken.entry}"
    yield from plan.skipped


def _route(route: Route, lane: Lane) -> str:
    place = "this machine itself" if route.local else f"via {route.gateway}" if route.gateway else "on the link"
    return f"{route.interface.name}, {place}, from {route.source}: {plural(lane.host_count, 'address')}"


def _packets(plan: Plan) -> Iterator[str]:
    """Counts, and bytes as on the link: with Ethernet headers, without frame check sequences."""
    size = sum(lane.extent.targets * lane.probe.length for lane in plan.lanes)
    lengths = "/".join(map(str, sorted({lane.probe.length for lane in plan.lanes})))
    yield f"{plural(plan.targets, 'probe')} of {lengths} bytes ({bytes_text(size)}) if every target answers, and resets"
    passes = plan.unanswered_passes
    total = f"{plan.targets * passes:,} ({bytes_text(size * passes)})"
    yield f"{total} in {plural(passes, 'pass')} if none answers; at most {plan.config.passes}"
    if plan.queries:
        yield f"{plural(plan.queries, 'MAC address')} to look up before that"


def _time(plan: Plan) -> Iterator[str]:
    config, frames = plan.config, plan.targets + plan.queries
    probes, waits = plan.targets * plan.unanswered_passes, plan.unanswered_passes * (config.timeout or UNHEARD_WAIT)
    if config.rate:
        least, most = duration_text(frames / config.rate), duration_text(probes / config.rate + waits)
        yield f"{least} at {config.rate:,.0f}/s if every target answers; {most} if none answers"
    elif config.rate == 0:
        yield f"--rate 0: as fast as this machine sends {frames:,} frames"
    else:
        end = plan.scan.settings.max_rate
        yield (
            f"--rate auto: begins with {IN_FLIGHT} probes, doubles each round trip while control probes come back"
            f"{f', to {end:,.0f}/s' if end else ''}"
        )
        least = f"at least {duration_text(frames / end)}, and " if end else ""
        longest = probes / min(end or BLIND_RATE, BLIND_RATE) + waits
        yield f"{least}about {duration_text(longest)} if no target answers"


def _first(plan: Plan) -> Iterator[str]:
    window = plan.scan.windows.next_window(plan.scan.transmit.bucket.rate)
    assert window, "a plan has targets"
    window.passes.begin(0)
    host, port_index = np.divmod(window.passes.take(PROBES_SHOWN, 0), window.width)
    if plan.config.seed is None:
        yield "in another order each time; --seed fixes it; for example:"
    if window.sweeping:
        yield "after the MAC addresses are known; hosts that are down get no probe:"
    for ip, port in zip(to_text(window.hosts[host]), window.ports[port_index].tolist(), strict=True):
        yield titled(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}", plan.choice.hosts.names.get(ip))


def bytes_text(count: float) -> str:
    """A number of bytes with a decimal unit: `999 bytes`, `74.0 kB`."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:,.1f} {unit}"


def duration_text(seconds: float) -> str:
    """A time in at most three units: `0.5 s`, `1 min 1 s`, `1 d 1 h 1 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    texts = (f"{days} d" if days else "", f"{hours} h" if hours else "", f"{minutes} min" if minutes else "")
    return " ".join(filter(None, (*texts, f"{rest} s" if rest and not days else "")))
