"""The half-open scan, one step at a time.

`Scan.step(now)` takes in what has arrived, sends what the rate allows, and moves each window along:
sweep, passes, wait, close. It is handed the time and never sleeps, so a whole scan runs as well
against a network inside the process with a clock that jumps. Windows that closed are left in
`closed` for whoever turns them into rows.

At most three windows are open, so that one sends while others wait for stragglers, and memory does
not grow with the scan. After an interrupt nothing new is sent, but the waits that were under way
are waited out: a target whose wait is not over is never called filtered.
"""

from collections import Counter, deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..packet import probe
from ..packet.addresses import to_text
from ..packet.cookie import Key
from ..packet.headers import Bools, Frames, Ints
from ..packet.parse import Segments, parse
from ..rounds.pacing import BLIND_RATE, RateController
from ..rounds.passes import Passes
from ..rounds.schedule import OPEN_WINDOWS, Schedule
from ..transport import Transport
from ..verdict.loss import RoundTrips, enough
from ..verdict.table import Reason
from .lane import Lane, Matches
from .neighbours import GatewaySweep, answers
from .timing import Timing
from .transmit import Dispatch, Source
from .window import Phase, Window

SWEEP_FIRST_WAIT, SWEEP_LEAST_WAIT, GATEWAY_PASSES = 0.4, 0.04, 3
SWEEP_LAST_WAIT = 0.3  # seconds before a host is called down: who sleeps wakes up slowly
SPLIT_WAIT = 0.02  # seconds after the first queries: who has answered by then need not wait for the others
FULL_RING_PAUSE = 0.0005
RECV_BATCHES = 16  # taken in at once, so that a flood of frames cannot keep us from sending
GOOD_BATCH = 0.8  # of a full bucket: worth waking up for
MOST_RESETS = 8  # for one target: who repeats a SYN/ACK more often than that is not waiting for a reset
HOST_START, NO_LIMIT = 200.0, 1e9
SECOND = 1_000_000_000


class Settings(NamedTuple):
    """What the scan itself decides by; the rest of the configuration is built into the lanes."""

    rate: float | None = 0.0  # frames a second, 0 unlimited; None: found while scanning
    max_rate: float = 0.0  # where the search for a rate ends; 0: nowhere
    passes: int = 11
    max_missed: float = 0.01
    max_missed_share: float | None = None  # instead: of the responders found
    timeout: float | None = None
    tos: int = probe.TOS_LOWER_EFFORT
    pause: float = 0.0  # seconds between passes, at least (one source port for all passes needs 0.6)

    def bound(self, found: int) -> float:
        """How many responders may be missed where `found` were not."""
        return self.max_missed if self.max_missed_share is None else self.max_missed_share * max(1, found)


class Scan:
    """A half-open scan over lanes. Drive it with `step` until `done`."""

    def __init__(self, lanes: list[Lane], settings: Settings, key: Key, schedule: Schedule | None = None) -> None:
        """`schedule`: what to scan, if it is not all that there is."""
        self.schedule = schedule or Schedule([lane.host_count for lane in lanes], len(lanes[0].ports) if lanes else 1)
        self.lanes, self.settings = lanes, settings
        self.replies = self.late = self.found_open = 0
        self.rejected: Counter[str] = Counter()  # frames by cause
        self.closed: deque[Window] = deque()
        self.news: deque[tuple[Window, Ints]] = deque(maxlen=1024)  # targets just found open
        self.open: list[Window] = []
        self.interrupted = False
        self.failed = ""  # why some targets could not be scanned
        self.round_trips = RoundTrips(fixed=settings.timeout)
        self._sweep_trips = RoundTrips(SWEEP_FIRST_WAIT, least=SWEEP_LEAST_WAIT)
        self._transports = list({id(lane.transport): lane.transport for lane in lanes}.values())
        controller = self._auto() if settings.rate is None else None
        self._timing = Timing(self.round_trips, controller)
        self._handed_closed = 0  # probes of first passes in windows that have closed
        self.dispatch = Dispatch(self._transports, controller.rate if controller else settings.rate or 0.0)
        self._gateways = [GatewaySweep(lane, key.k0) for lane in lanes if lane.gateway is not None and lane.query]
        self._key = key
        self._opened = 0  # windows so far

    def _auto(self) -> RateController:
        """A host starts at 200/s; many hosts share a start of at most 10,000/s."""
        hosts = sum(lane.host_count for lane in self.lanes)
        return RateController(min(HOST_START * max(1, hosts), BLIND_RATE), self.settings.max_rate or NO_LIMIT)

    @property
    def done(self) -> bool:
        """Whether every window has closed and nothing is owed or in flight."""
        return not self.open and (self.schedule.exhausted or self.interrupted) and self.dispatch.idle

    @property
    def sending(self) -> bool:
        """Whether frames are due."""
        return self.dispatch.owing or any(not window.current.handed_out for window in self.open)

    def interrupt(self) -> None:
        """Send nothing new; finish with what is known when the waits under way are over."""
        self.interrupted = True
        self._gateways.clear()
        for window in self.open:
            window.current.stop()

    def abandon(self) -> None:
        """Do not even wait: close every window now."""
        self.interrupt()
        for window in list(self.open):
            self._close(window, interrupted=True)

    def step(self, now: int) -> float:
        """Do what is due at `now` (ns since 1970); returns in how many seconds there is more to do, replies apart."""
        for transport in self._transports:
            self._receive(transport)
        self.dispatch.account(now)
        for sweep in list(self._gateways):
            self._advance_gateway(sweep, now)
        self._open_windows(now)
        sources: list[tuple[Transport, Source]] = [(sweep.lane.transport, sweep) for sweep in self._gateways]
        sources += [(window.lane.transport, window) for window in self.open]
        full = self.dispatch.send(sources, now)
        rate = self._timing.rate(sum(window.passes.handed_first for window in self.open) + self._handed_closed, now)
        self.dispatch.bucket.rate = self.dispatch.bucket.rate if rate is None else rate
        for window in list(self.open):
            self._advance(window, now)
        return FULL_RING_PAUSE if full else self._next_due(now)

    # ── what arrives ──

    def _receive(self, transport: Transport) -> None:
        for _ in range(RECV_BATCHES):
            frames = transport.recv()
            if not len(frames):
                break
            self._learn(frames)
            segments = parse(frames, self.rejected)
            for lane, rows in self._shares(transport, segments):
                self._fold(lane, lane.match(segments if rows.all() else segments.take(rows), self.rejected), frames)

    def _shares(self, transport: Transport, segments: Segments) -> Iterator[tuple[Lane, Bools]]:
        """Which segments are for which lane: by family, then by target; strangers go to a family's first lane."""
        for version in (4, 6):
            rows = segments.version == version
            lanes = [lane for lane in self.lanes if lane.transport is transport and lane.version == version]
            for lane in lanes[1:]:
                known = rows & (lane.position_of(segments.src) >= 0)
                rows = rows & ~known
                if known.any():
                    yield lane, known
            if lanes and rows.any():
                yield lanes[0], rows

    def _learn(self, frames: Frames) -> None:
        """ARP and NDP answers."""
        sweeps = [window.sweep for window in self.open if window.sweep and window.phase is Phase.SWEEP]
        if sweeps or self._gateways:
            rows, address, mac = answers(frames)
            for sweep in [*self._gateways, *sweeps]:
                self._sweep_trips.add(sweep.learn(address, mac, frames.time[rows]))

    def _fold(self, lane: Lane, found: Matches, frames: Frames) -> None:
        if not len(found.reason):
            return
        self.replies += len(found.reason)
        owed = found.reason == Reason.SYN_ACK
        left = np.ones(len(found.reason), np.bool_)
        for window in self.open:
            mine = left & (window.slots(found.place) >= 0) if window.lane is lane else np.zeros(0, np.bool_)
            if mine.any():
                left &= ~mine
                self._fold_window(window, found if mine.all() else found.take(mine))
                owed[mine] &= window.replies(found)[mine] <= MOST_RESETS
        self.rejected["late-after-close"] += int(np.count_nonzero(left))
        refused = int(np.count_nonzero((found.reason == Reason.SYN_ACK) & ~owed))
        self.rejected["reset-not-sent"] += refused + self.dispatch.owe_resets(found, np.flatnonzero(owed), lane, frames)

    def _fold_window(self, window: Window, found: Matches) -> None:
        if not found.number.all():  # one source port for all passes: a reply is the current one's
            found = found._replace(
                number=np.where(found.number == 0, window.passes.number, found.number).astype(np.uint8)
            )
        found = self._asked(window, found)
        late = found.number < window.passes.number
        self.late += int(np.count_nonzero(late))
        fresh = window.fold(found, self._timing.resent(window, found, np.flatnonzero(late)))
        self._timing.measure(window, found, fresh)
        fresh = window.target_of(found)[fresh]
        opened = fresh[window.ledger.rank(fresh) == 3]
        if len(opened):
            self.news.append((window, opened))
            self.found_open += len(opened)

    def _asked(self, window: Window, found: Matches) -> Matches:
        """Without bare SYNs that answer nothing: they show no cookie, so that port must have asked that target."""
        bare = found.reason == Reason.SPLIT_HANDSHAKE_SYN
        if bare.any():
            stray = bare & ~window.passes.asked(window.target_of(found), found.number)
            self.rejected["unasked"] += int(np.count_nonzero(stray))
            found = found.take(~stray)
        return found

    # ── moving on ──

    def _open_windows(self, now: int) -> None:
        """Open the next window when the others have sent what they have for now."""
        rests = sum(window.is_rest for window in self.open)
        full = rests >= OPEN_WINDOWS or len(self.open) - rests >= OPEN_WINDOWS
        waiting = self._gateways or self.interrupted or full
        if waiting or not all(window.current.handed_out for window in self.open):
            return
        window = self.next_window()
        if window:
            window.begin_pass(now)
            self.open.append(window)

    def next_window(self) -> Window | None:
        """The window of the next stretch, as large as the rate of the day will have it."""
        stretch = self.schedule.next(self.dispatch.bucket.rate)
        if stretch is None:
            return None
        self._opened += 1
        return Window(self.lanes[stretch.lane], stretch, self._key.k1 + self._opened, self.settings.tos)

    def _advance_gateway(self, sweep: GatewaySweep, now: int) -> None:
        if sweep.answered:
            sweep.lane.next_hop(sweep.macs[0].tobytes())
            self._gateways.remove(sweep)
        elif not sweep.passes.number or (sweep.passes.all_left and self._over(sweep.passes, now, self._sweep_trips)):
            if sweep.passes.number >= GATEWAY_PASSES:
                assert sweep.lane.gateway is not None
                gateway = to_text(sweep.lane.gateway)[0]
                self.failed = (
                    f"the gateway {gateway} on {sweep.lane.name} does not answer: nothing behind it was scanned"
                )
                self._gateways.remove(sweep)
                self.schedule.drop(self.lanes.index(sweep.lane))
            else:
                sweep.passes.begin(now)

    def _advance(self, window: Window, now: int) -> None:
        if self._may_split(window) and now - window.current.last_sent >= SPLIT_WAIT * SECOND:
            self.open.insert(self.open.index(window), window.split())  # before it: its few queries go first
            self._to_ports(window, now)
        passes, sweeping = window.current, window.phase is Phase.SWEEP
        everyone = window.everyone_answered()
        if not passes.all_left or not (
            everyone or self._over(passes, now, self._sweep_trips if sweeping else self.round_trips)
        ):
            return
        if self.interrupted:
            self._close(window, interrupted=sweeping or not (everyone or self._enough(window)))
        elif sweeping and (everyone or self._swept(window)):
            if everyone or now - passes.last_sent >= SWEEP_LAST_WAIT * SECOND:
                window.sweep_ended()
                self._to_ports(window, now)
        elif sweeping or not (everyone or self._enough(window)):
            self._begin_or_close(window, now)
        else:
            self._close(window, interrupted=False)

    def _may_split(self, window: Window) -> bool:
        """Whether some hosts of a first sweep have answered, and others have not."""
        passes = window.current
        if self.interrupted or window.phase is Phase.PROBE or passes.number != 1 or not passes.all_left:
            return False
        first = not window.is_rest and window.stretch.known is None  # what is known is numbered by all of its hosts
        return first and passes.ledger.answered > 0 and not window.everyone_answered()

    def _swept(self, window: Window) -> bool:
        """Whether so few hosts were probably missed that all their targets together are below the bound."""
        return window.sweep is not None and window.sweep.enough(self.settings.bound(1) / window.width)

    def _to_ports(self, window: Window, now: int) -> None:
        if all(lane.query is not None and lane.gateway is None for lane in self.lanes):
            self.round_trips.expect(self._sweep_trips)
        self._begin_or_close(window, now)

    def _begin_or_close(self, window: Window, now: int) -> None:
        if window.everyone_answered():
            self._close(window, interrupted=False)
        elif not window.current.number or now - window.current.last_sent >= self.settings.pause * SECOND:
            if window.phase is Phase.PROBE:
                self._timing.pass_ended(window)
            window.begin_pass(now)

    def _over(self, passes: Passes, now: int, trips: RoundTrips) -> bool:
        return now - passes.last_sent >= trips.wait() * SECOND

    def _enough(self, window: Window) -> bool:
        bound = self.settings.bound(window.responders)
        return enough(window.passes.complete, self.settings.passes, window.assess(), bound)

    def _close(self, window: Window, interrupted: bool) -> None:
        window.assess()
        window.interrupted = interrupted
        self._handed_closed += window.passes.handed_first
        self.open.remove(window)
        self.closed.append(window)

    def _next_due(self, now: int) -> float:
        """Seconds until tokens for a good batch are there, or until a wait is over."""
        if self.sending:
            return self.dispatch.bucket.wait(max(1, int(self.dispatch.bucket.depth * GOOD_BATCH)))
        if not self.dispatch.idle:
            return FULL_RING_PAUSE
        due = [sweep.passes.last_sent + self._sweep_trips.wait() * SECOND for sweep in self._gateways]
        for window in self.open:
            trips = self._sweep_trips if window.phase is Phase.SWEEP else self.round_trips
            wait = max(trips.wait(), self.settings.pause)
            if trips is self._sweep_trips and self._swept(window):
                wait = max(wait, SWEEP_LAST_WAIT)
            due.append(window.current.last_sent + (SPLIT_WAIT if self._may_split(window) else wait) * SECOND)
        return max(0.0, (min(due) - now) / SECOND) if due else 0.0
