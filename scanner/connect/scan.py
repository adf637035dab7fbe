"""The connect scan: connect() for every target, no privileges needed.

The same scan as the half-open one, with another way to probe. Windows, passes, the loss estimate and the rows are the
shared ones of `rounds`. What differs: the kernel holds a socket for every probe, so a call ends (answered or given
up) instead of merely having been sent. A pass is over when its last call has ended, and nothing answers late. A
target counts as probed when a call to it has ended, so what is under way at an interrupt is never called silent.

How long a call may stay silent is decided by host (`probing`).

Each call pays for every frame that the kernel sends for it (`handshake`): the ACK and the reset of an open port leave
before further calls, and the scan ends when they have left.

The number of open calls starts at `FIRST_CALLS`, grows with every call that ends, up to the descriptor limit, and
halves when this machine runs short of descriptors, ports or memory. That is never taken as an answer of the target.

Limits: no TTL of the reply, no ICMP sender, no evidence that compares replies (firewall-reset, all-open): the kernel
keeps what it would need to itself.
"""

import time
from collections import Counter

import numpy as np

from ..config import PUBLIC_RATE, SynConfig, keys_of
from ..errors import ScanError, UsageError
from ..net.interfaces import interface
from ..net.routes import zone_interface
from ..packet.headers import MAPPED
from ..rounds.measure import judge_pass
from ..rounds.pacing import SECOND, Budget, TokenBucket
from ..rounds.rate import RateController
from ..rounds.schedule import HostRange, LaneFacts, ResumePoint, Schedule
from ..rounds.session import Clock, Session
from ..rounds.statistics import ScanStats
from ..rounds.trips import RoundTrips
from ..rounds.window import Window
from ..rounds.windows import Windows
from ..targets.hostspace import HostSpace
from ..targets.order import Order
from ..targets.spaces import Spaces
from ..targets.special import any_public
from ..transport.steady import steady_clock
from ..verdict.loss import CONTROL_PROBES
from ..verdict.table import Rank, Reason
from .calls import Calls, descriptor_room
from .local_end import LocalEnd
from .outcomes import GONE, OUTCOMES, error_text
from .probing import Probing, neighbours_of, routes_of
from .way import Way

BATCH = 256  # calls started between two looks at the answers
FIRST_CALLS = 4096
NO_LIMIT = 1e9  # --rate auto: no upper end
SHORTAGE_PAUSE = 0.05  # seconds
SHORTAGE_LIMIT = 10.0  # seconds without any room and with nothing under way: waiting will not help
LONGEST_SLEEP = 0.05


class ConnectScan:
    """The engine of a connect scan."""

    def __init__(self, order: Order, config: SynConfig, order_key: int, schedule: Schedule, clock: Clock) -> None:
        hosts = order.spaces.hosts
        self._hosts, self._order, self._order_key, self._clock = hosts, order, order_key, clock
        # When the last call of a pass has ended, nothing is left to wait for.
        self.windows = Windows(schedule, self._window, config.bound, lambda window, wait: 0.0, self._before_pass)
        limit = config.max_rate or (PUBLIC_RATE if any_public(hosts) else NO_LIMIT)
        self._controller = RateController(limit) if config.rate is None else None
        self._bucket = TokenBucket(self._controller.rate if self._controller else config.rate or 0.0)
        self._budget = Budget(self._bucket, Counter())  # kinds: probe, control, repeat, ack, reset
        self._room = descriptor_room()
        self._limit = min(FIRST_CALLS, self._room)
        self._trips, self._timeout = RoundTrips(), config.timeout
        self._calls: Calls[Probing] = Calls(
            self._budget, LocalEnd(config.source_ip, config.interface, hosts.zones), clock=clock
        )
        self._probing: dict[int, Probing] = {}  # by id of the window
        self._neighbours: list[HostSpace] | None = None  # the hosts on the link
        self._way: Way | None = None
        self._replies, self._most = 0, NO_LIMIT
        self.refusals: Counter[str] = Counter()  # calls that this machine refused, by cause
        self._shortages: Counter[str] = Counter()
        self._paused_until = self._short_since = 0  # ns

    def _window(self, host_range: HostRange, number: int) -> Window:
        """The window of a range of this shard's hosts, in the keyed order."""
        hosts, ports = self._order.hosts_at(host_range.host_pos()), self._order.ports_at(host_range.begin)
        return Window(host_range, hosts, ports, self._order_key + number, own_trips=True)

    @property
    def done(self) -> bool:
        """Whether every window has closed and nothing is owed."""
        return self.windows.done and not self._calls.owing

    @property
    def sending(self) -> bool:
        """Whether frames are due."""
        waiting = any(probing.waiting for probing in self._probing.values())
        return self.windows.sending or waiting or self._calls.owing

    def turn(self, now: int) -> float:
        """Take in answers, give up calls, start what is due. Returns seconds until there is more to do."""
        self._calls.collect(0)
        self._calls.give_up(self._wait_of)
        self._fold()
        self._probing = {
            id(window): self._probing.get(id(window)) or self._probing_of(window) for window in self.windows.open
        }
        if self.windows.stopped:
            for probing in self._probing.values():
                probing.drop_waiting()
        now = self._clock()
        self.windows.advance(now)
        self._check_way(now)
        for window in self.windows.open_next(now, self._bucket.rate):
            self._probing[id(window)] = self._probing_of(window)
        self._start(now)
        if self._controller:
            self._controller.judge(now, self._trips.wait())
            self._bucket.rate = min(self._controller.rate, self._most)
        return self._next_due()

    def _check_way(self, now: int) -> None:
        """Raises ScanError where calls leave by another interface. What has just closed has no silent targets then."""
        try:
            if self._way:
                self._way.check(now, at_once=bool(self.windows.closed))
        except ScanError:
            self.windows.deaf_since = 1  # nobody knows since when
            for window in self.windows.closed:
                window.interrupted = True
            raise

    def _probing_of(self, window: Window) -> Probing:
        if self._neighbours is None:  # looked up late: the namespace of the calls counts
            routes = routes_of(self._hosts, self._calls.local_end)
            self._neighbours, self._way = neighbours_of(routes), Way(routes, self._calls.local_end)
        return Probing(window, self._neighbours)

    def _wait_of(self, probing: Probing, call_id: int) -> float:
        return probing.wait(call_id, self._timeout)

    def _before_pass(self, window: Window, now: int) -> None:
        judge_pass(window, [*window.outages, *(self._controller.too_fast if self._controller else [])])

    def sleep(self, seconds: float) -> None:
        """Wait for answers."""
        self._calls.collect(min(seconds, LONGEST_SLEEP))

    def verify(self, window: Window) -> None:
        """Nothing: every open port has completed its handshake."""

    def count(self, stats: ScanStats) -> None:
        """The counters of calls."""
        stats.sent, stats.replies, stats.shortages = self._budget.sent, self._replies, self._shortages
        stats.carries = self._controller.carries if self._controller else None
        if self.done and not stats.sending_seconds:  # every call was started in the first turn
            stats.sending_seconds = stats.seconds

    def limit(self, rate: float) -> None:
        """From now on at most so many frames a second; 0: no limit."""
        self._most = rate or NO_LIMIT
        self._bucket.rate = min(self._controller.rate, self._most) if self._controller else rate

    def end(self) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Give the sockets back."""
        self._calls.close()

    def _start(self, now: int) -> None:
        """Start what the rate and the number of open calls allow."""
        if now < self._paused_until:
            return
        frames = self._calls.room(now, BATCH)
        for window in self.windows.open:
            probing = self._probing[id(window)]
            eager = self._controller is not None and self._controller.testing
            window.allow_control(None if self._controller else CONTROL_PROBES, eager)
            if frames > 0 and (probing.waiting or not (window.passes.handed_out and window.control.handed_out)):
                frames -= self._start_window(probing, frames, now)
                if now < self._paused_until:
                    break

    def _start_window(self, probing: Probing, frames: int, now: int) -> int:
        """Start calls for so many tokens. Returns how many they have paid."""
        window, limit = probing.window, min(frames, self._limit - len(self._calls))
        if not probing.waiting and limit > 0:
            control = ~window.control.take(limit, now)
            taken = [*control.tolist(), *window.passes.take(limit - len(control), now).tolist()]
            probing.waiting = taken[::-1]
        waiting = probing.waiting
        started = control_started = paid = 0
        while waiting and paid < frames and started < limit:
            call_id = waiting.pop()
            tokens = self._start_call(probing, call_id)
            if not tokens:
                waiting.append(call_id)
                self._run_short(now)
                break
            started += 1
            control_started += call_id < 0
            paid += tokens
        else:
            self._short_since = 0
        if self._controller and started:
            self._controller.sent(started, control_started, now)
        return paid

    def _start_call(self, probing: Probing, call_id: int) -> int:
        """Start one call. Returns how many tokens it has paid; 0: this machine is short of something."""
        target_id, kind = (call_id, "probe") if call_id >= 0 else (~call_id, "control")
        number, port_index = divmod(target_id, probing.window.width)
        if kind == "probe":
            probing.choose_scout(target_id)
        patience = self._wait_of(probing, call_id)
        port, on_link = probing.ports[port_index], probing.on_link[number]
        return self._calls.start(probing, call_id, probing.names[number], port, kind, patience, on_link)

    def _run_short(self, now: int) -> None:
        """Start nothing for a moment, and then fewer calls at once."""
        cause = error_text(self._calls.shortage)
        self._shortages[cause] += 1
        self._limit = max(1, min(self._limit, len(self._calls)) // 2)
        self._paused_until = now + int(SHORTAGE_PAUSE * SECOND)
        self._short_since = self._short_since or now
        if not len(self._calls) and now - self._short_since > SHORTAGE_LIMIT * SECOND:
            raise ScanError(f"connect() keeps failing with {cause}: close other programs, or lower --rate")

    def _take_refused(self) -> None:
        """Calls that this machine refused. Raises ScanError where the way to a target has gone since it was called."""
        refused, self._calls.refused = self._calls.refused, []
        for probing, call_id, code in refused:
            self.refusals[error_text(code)] += 1
            if probing.refuse(call_id) and code in GONE:
                self.windows.deaf_since = 1  # nobody knows since when
                raise ScanError(f"a target that was called before cannot be called any more: {error_text(code)}")

    def _fold(self) -> None:
        self._take_refused()
        ended = self._calls.take()
        self._limit = min(self._room, self._limit + len(ended))
        for probing in {id(outcome.owner): outcome.owner for outcome in ended}.values():
            mine = [outcome for outcome in ended if outcome.owner is probing]
            first, trips, back = probing.fold(mine)
            self._trips.add(trips)
            if self._controller and len(trips):
                times = np.array([outcome.started for outcome in mine], np.int64)
                self._controller.answered(times, self._trips.quantile(0.5))
            if self._controller and len(back):
                self._controller.came_back(back)
            self._replies += sum(OUTCOMES[outcome.code] is not Reason.NO_RESPONSE for outcome in mine)
            self.windows.add_opened(probing.window, first[probing.window.ledger.rank(first) == Rank.OPEN])

    def _next_due(self) -> float:
        """Seconds until there is more to do, answers apart."""
        now = self._clock()
        due = self._calls.due()
        if self._calls.owing:
            return min(due, self._bucket.wait())
        if self.sending and len(self._calls) < self._limit:
            pause = max(0.0, (self._paused_until - now) / SECOND)
            due = min(due, max(pause, self._bucket.wait(max(1, int(self._bucket.depth / 2)))))
        return due if len(self._calls) or due != float("inf") else 0.0


def connect_session(
    spaces: Spaces, config: SynConfig, resume: ResumePoint | None = None, resumable: bool = False
) -> Session:
    """A connect scan. `resume`: the scan goes on from there. Raises UsageError or ScanError."""
    if config.source_port is not None:
        raise UsageError("--source-port: connect() gives every connection a port of its own; leave it out")
    hosts = spaces.hosts
    # The kernel connects to this machine instead, also where its addresses are excluded.
    for unspecified in (MAPPED, 0):
        if hosts.within([(unspecified, unspecified)]).size:
            raise UsageError(f"{'0.0.0.0' if unspecified else '::'} is no host: write the address of the machine")
    for zone in hosts.zones:
        zone_interface(zone.name, interface(config.interface) if config.interface else None)
    keys = resume.keys if resume else keys_of(config)
    order = Order(spaces, keys.order, config.shard)
    lanes = [LaneFacts("", 0, order.extent.hosts, "")]  # one lane: the kernel finds the routes
    schedule = Schedule([order.extent], *(resume.restart(lanes) if resume else ()))
    clock = steady_clock()
    engine = ConnectScan(order, config, keys.order, schedule, clock)
    stats = ScanStats(targets=order.extent.targets, asked_rate=config.rate, bound=config.bound, started=time.time())
    stats.unresolved, stats.unrouted = hosts.unresolved, hosts.unrouted
    return Session(engine, stats, clock, keys, lanes, resumable=resumable, names=hosts.names)
