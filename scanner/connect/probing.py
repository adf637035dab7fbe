"""A window of a connect scan: its calls, and what their outcomes say of its targets.

The ids of calls are those of targets, and ~id for a control probe. How long a call may stay silent is decided by host,
as in the half-open scan (`rounds.trips`). The first few calls to a host that has never answered (`SCOUTS`) last nearly
two seconds, and in that time the kernel sends a second SYN by itself. All others end just before the kernel would do
that. If a scout shows that its host is far away, later calls to the host wait as long as it needs.

Outcomes fold into the ledger of the window as replies do in the half-open scan.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..config import SynConfig
from ..errors import ScannerError
from ..net.interfaces import interface, source_of
from ..net.routes import NoRoute, Route, find_routes
from ..packet.addresses import to_text
from ..packet.headers import Ints
from ..rounds.pacing import SECOND
from ..rounds.trips import FIRST_PROBE
from ..rounds.window import Window
from ..targets.hostspace import HostSpace
from ..verdict.ledger import Mark, blank
from ..verdict.table import Reason
from .calls import LONG_PATIENCE, PATIENCE, Outcome
from .local_end import LocalEnd
from .outcomes import OUTCOMES

SCOUTS = 3  # calls to a host


def routes_of(hosts: HostSpace, local_end: LocalEnd) -> dict[Route, HostSpace]:
    """The hosts by the route to them. None where the routes cannot be read, or a host has no route."""
    try:
        wanted = interface(local_end.interface) if local_end.interface else None
        return find_routes(hosts, interface=wanted).hosts
    except ScannerError:
        return {}


def with_routes(hosts: HostSpace, config: SynConfig, warn: Callable[[str], None]) -> HostSpace:
    """The hosts without those that no route leads to, which are told.

    With -e the kernel would take hosts without a route for neighbours, and ask the link for them in vain. Where routes
    cannot be read all hosts stay. Raises UsageError if no host has a route, or one has none and shards must number the
    same hosts, or if no connection can come from --source-ip or -e.
    """
    source = source_of(config.source_ip)
    LocalEnd(config.source_ip, config.interface).check()
    try:
        wanted = interface(config.interface) if config.interface else None
        routes = find_routes(hosts, interface=wanted, source=source, whole=config.shard.of > 1)
    except NoRoute:
        raise
    except ScannerError:
        return hosts
    left = hosts
    for part in routes.lost:
        left = left.without(part.blocks)
    left.zones, left.names, left.addresses, left.unresolved = (
        hosts.zones, hosts.names, hosts.addresses, hosts.unresolved,
    )  # fmt: skip
    left.unrouted = hosts.size - left.size
    for line in routes.unreachable:
        warn(f"skipped {line}")
    return left


def neighbours_of(routes: dict[Route, HostSpace]) -> list[HostSpace]:
    """The hosts on a link that has MAC addresses."""
    on_link = (route.gateway is None and not route.local and route.interface.mac for route in routes)
    return [part for part, near in zip(routes.values(), on_link, strict=True) if near]


@dataclass
class Probing:
    """A window and its calls: the owner of outcomes."""

    window: Window
    neighbours: Sequence[HostSpace] = ()  # the hosts on the link, whose MAC addresses the kernel asks for
    on_link: list[bool] = field(init=False)
    names: list[str] = field(init=False)
    ports: list[int] = field(init=False)
    # Ids taken for this pass and not started, last one first. ~id: a control probe to that target.
    waiting: list[int] = field(default_factory=list)
    waits: dict[int, float] = field(default_factory=dict)  # seconds, of the hosts that have answered

    def __post_init__(self) -> None:
        self._scouts: set[int] = set()
        self._scouts_of = [0] * len(self.window.hosts)  # how many each host has
        self.names, self.ports = to_text(self.window.hosts), self.window.ports.tolist()
        on_link = np.zeros(len(self.names), np.bool_)
        for part in self.neighbours:
            on_link |= part.index_of(self.window.hosts) >= 0
        self.on_link = on_link.tolist()

    def wait(self, call_id: int, timeout: float | None) -> float:
        """Seconds that a call may stay silent."""
        host = (call_id if call_id >= 0 else ~call_id) // self.window.width
        if host in self.waits:
            return self.waits[host] if timeout is None else min(timeout, self.waits[host])
        if call_id in self._scouts and self.window.passes.pass_no == 1:
            return FIRST_PROBE * timeout if timeout else LONG_PATIENCE
        return timeout or PATIENCE

    def choose_scout(self, target_id: int) -> None:
        """Before a call of the first pass: the first few calls to a host wait longer, in case it is far away."""
        host = target_id // self.window.width
        if self.window.passes.pass_no == 1 and self._scouts_of[host] < SCOUTS and target_id not in self._scouts:
            self._scouts_of[host] += 1
            self._scouts.add(target_id)

    def refuse(self, call_id: int) -> bool:
        """This machine has refused a call. Returns whether its target has been called before."""
        target_id = np.array([call_id if call_id >= 0 else ~call_id])
        (self.window.passes if call_id >= 0 else self.window.control).refused(target_id)
        return bool(self.window.ledger.was_probed()[target_id[0]])

    def drop_waiting(self) -> None:
        """What was taken and not started counts as not probed."""
        passes, control = self.window.passes, sum(call_id < 0 for call_id in self.waiting)
        passes.outstanding -= len(self.waiting) - control
        self.window.control.outstanding -= control
        passes.cut_short = passes.cut_short or bool(self.waiting)
        self.waiting.clear()

    def fold(self, ended: list[Outcome["Probing"]]) -> tuple[Ints, Ints, Ints]:
        """Take in outcomes. Returns the targets that answered for the first time, TCP round trips in ns, and when
        the control probes left that were answered, ns.
        """  # fmt: skip
        window, pass_no = self.window, self.window.passes.pass_no
        call_id = np.array([outcome.target_id for outcome in ended], np.int64)
        target_id, control = np.where(call_id < 0, ~call_id, call_id), call_id < 0
        reason = np.array([OUTCOMES[outcome.code] for outcome in ended], np.uint8)
        trip = np.array([outcome.ended - outcome.started for outcome in ended], np.int64)
        time = np.array([outcome.ended for outcome in ended], np.int64)
        replied = np.flatnonzero(reason != Reason.NO_RESPONSE)
        record = blank(len(replied))
        record["reason"], record["time"], record["pass"] = reason[replied], time[replied], pass_no + control[replied]
        # Connected and still connected, or reset before we looked.
        whole = np.array([outcome.code == 0 for outcome in ended], np.bool_)[replied]
        mark = np.where(whole, Mark.HANDSHAKE_COMPLETED, Mark.HANDSHAKE_REFUSED).astype(np.uint16)
        record["marks"] = np.where(record["reason"] == Reason.SYN_ACK, mark, 0)
        tcp = (record["reason"] == Reason.SYN_ACK) | (record["reason"] == Reason.CONN_REFUSED)
        fresh, back = window.fold(target_id[replied], record, tcp)
        if not control.all():
            window.passes.left(target_id[~control], int(time.max()))
        window.control.left(target_id[control], int(time.max()))
        first, trips = target_id[replied][fresh], trip[replied][fresh]
        assert window.target_trips is not None
        window.target_trips[first] = trips
        host = first[tcp[fresh]] // window.width
        if host.size:
            window.trips.add(host, trips[tcp[fresh]] / SECOND)
            self.waits.update(zip(host.tolist(), window.trips.waits(host).tolist(), strict=True))
        return first, trips[tcp[fresh]], back[back > 0]
