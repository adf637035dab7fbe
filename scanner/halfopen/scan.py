"""The half-open scan, one step at a time.

`Scan.step(now)` takes in what has arrived, sends what the rate allows, and moves each window along its lifecycle. The
time is handed in, and nothing here sleeps. So a whole scan runs as well against a network in memory, with a clock
that jumps. Windows that have closed wait in `windows.closed` for the writer of rows.

After a stop nothing new is sent, but the waits under way go on: a target whose wait is not over is never called
filtered.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from ..packet.headers import U8, Bytes, Ints, Rows
from ..packet.probe import Template, stamp_query
from ..packet.template import TOS_LOWER_EFFORT
from ..rounds.lifecycle import Wait
from ..rounds.measure import judge_pass
from ..rounds.pacing import SECOND, limit_hosts
from ..rounds.passes import Passes
from ..rounds.rate import RateController
from ..rounds.schedule import HostRange, Schedule
from ..rounds.statistics import ScanStats
from ..rounds.trips import FIRST_PROBE, UNHEARD_WAIT, Patience, RoundTrips
from ..rounds.window import Window
from ..rounds.windows import Windows
from ..transport import Transport
from ..verdict.loss import CONTROL_PROBES, Bound
from .lane import Lane
from .neighbours import GATEWAY_PASSES, GatewaySweep
from .outage import LOOK, Outages
from .receive import Receive
from .transmit import FrameSource, Sending, Transmit

SWEEP_FIRST_WAIT, SWEEP_LEAST_WAIT = 0.4, 0.04
SPLIT_WAIT = 0.02  # seconds after the first queries: hosts that have answered by then do not wait for the others
FULL_RING_PAUSE = 0.0005
HELD_BACK_PAUSE = 0.002  # where all probes that are left go to hosts that limit their answers
GOOD_BATCH = 0.8  # of a full bucket: enough to wake up for
GOLDEN = 0x9E3779B1  # its multiples have bits without a pattern (Knuth, The Art of Computer Programming, 6.4)
NO_LIMIT = 1e9  # --rate auto: no upper end
GATEWAY_REFRESH = 1.0  # seconds between queries for the MAC address of a gateway, which may change
JUDGE_MARGIN, JUDGE_LEAST = 1.5, 0.005  # replies to an epoch have come after the slow tail times this, plus this


class Settings(NamedTuple):
    """What the scan itself decides by. The rest of the configuration is in the lanes."""

    rate: float | None = 0.0  # frames a second, 0 unlimited; None: found while scanning
    max_rate: float = 0.0  # upper end of the search for a rate; 0: none
    bound: Bound = Bound()
    timeout: float | None = None
    tos: int = TOS_LOWER_EFFORT
    pause: float = 0.0  # seconds between passes, at least (one source port for all passes needs 0.6)


class Scan:
    """A half-open scan over lanes. Drive it with `step` until `done`."""

    def __init__(self, lanes: list[Lane], settings: Settings, order_key: int, schedule: Schedule | None = None) -> None:
        """`schedule`: what to scan, if it is not everything."""
        schedule = schedule or Schedule([lane.extent for lane in lanes])
        self.lanes, self.settings, self._order_key = lanes, settings, order_key
        self.failed = ""  # why some targets could not be scanned
        self.round_trips, self.patience = RoundTrips(), Patience(settings.timeout)
        self._sweep_trips = RoundTrips(SWEEP_FIRST_WAIT, SWEEP_LEAST_WAIT)
        self._transports = list({id(lane.transport): lane.transport for lane in lanes}.values())
        self._controller = RateController(settings.max_rate or NO_LIMIT) if settings.rate is None else None
        self._batches, self._limit = 0, NO_LIMIT
        self._counted = 0, 0  # probes and control probes that the controller knows of
        self._gateways = [GatewaySweep(lane, order_key) for lane in lanes if lane.gateway is not None and lane.query]
        self._refresh_at = 0  # when the gateways are queried again, ns
        self.windows = Windows(schedule, self._window, settings.bound, self._waits, self._before_pass)
        self._outages = Outages(self.windows)
        self.transmit = Transmit(self._transports, self._controller.rate if self._controller else settings.rate or 0.0)
        self.receiver = Receive(
            lanes, self.windows, self.transmit, self._controller, self.round_trips, self._sweep_trips, self.patience,
            settings.tos,
        )  # fmt: skip

    def _window(self, host_range: HostRange, number: int) -> Window:
        lane = self.lanes[host_range.lane]
        hosts = lane.hosts_at(host_range.host_pos())
        return Window(
            host_range, hosts, lane.ports_at(host_range.begin), self._order_key + number,
            needs_macs=lane.needs_macs, check_passes=lane.check_passes,
        )  # fmt: skip

    @property
    def done(self) -> bool:
        """Whether every window has closed and nothing is owed or in flight."""
        return self.windows.done and self.transmit.idle

    @property
    def sending(self) -> bool:
        """Whether frames are due."""
        return self.transmit.owing or self.windows.sending

    def count(self, stats: ScanStats) -> None:
        """The counters of what was sent and received, and what the path carries."""
        receiver = self.receiver
        stats.sent, stats.replies, stats.late = self.transmit.left, receiver.replies, receiver.late
        stats.bad_checksums, stats.two_macs = receiver.bad_checksums, receiver.two_macs.found
        stats.rejected = Counter({cause: count for cause, count in receiver.rejected.items() if count})
        stats.shortages = self._outages.causes
        stats.carries = self._controller.carries if self._controller else None

    def stop(self) -> None:
        """Send nothing new. Finish with what is known when the waits under way are over."""
        self.windows.stop()

    def abandon(self) -> None:
        """Close every window now, without any wait."""
        self.windows.abandon()

    def step(self, now: int) -> float:
        """Do what is due at `now` (ns since 1970). Returns in how many seconds there is more to do, replies apart."""
        if self.windows.stopped:
            self._gateways.clear()
        up, back = self._outages.take_in(self._transports, partial(self.receiver.receive, gateways=self._gateways), now)
        self.transmit.account(now)
        if not up:
            return LOOK
        if back:
            self._go_on(back)
        self._judge_rate(now)  # what leaves now leaves at the new rate
        for gateway in list(self._gateways):
            self._advance_gateway(gateway, now)
        if not any(gateway.first for gateway in self._gateways):
            self._refresh_gateways(now)
            self.windows.open_next(now, self.transmit.bucket.rate)
        full = self.transmit.send(list(self._sources(now)), now)
        self._count_sent(now)
        self.windows.advance(now)
        self.transmit.learn_refusals(now)
        return FULL_RING_PAUSE if full else self._next_due(now)

    def _go_on(self, back: list[Transport]) -> None:
        """Begin again behind interfaces that were down."""
        lanes = {number for number, lane in enumerate(self.lanes) if lane.transport in back}
        if self.windows.stopped:
            self.windows.abandon()
        self.windows.restart(lanes)
        self._gateways = [GatewaySweep(old.lane, self._order_key, old.first) for old in self._gateways]

    # ── what leaves ──

    def _sources(self, now: int) -> Iterator[FrameSource]:
        """Gateways first: nothing behind them can be probed before they answer."""
        for gateway in self._gateways:
            yield self._queries(gateway.lane, gateway.sweep.passes, gateway.address)
        for window in self.windows.awake(now):
            lane = self.lanes[window.host_range.lane]
            if window.sweeping:
                yield self._queries(lane, window.current, window.hosts)
            else:
                yield from self._probes(lane, window)

    def _queries(self, lane: Lane, passes: Passes, addresses: Rows) -> FrameSource:
        query = lane.query
        assert query
        stamp = partial(_stamp_queries, query, addresses)
        return FrameSource(lane.transport, passes, "query", query.length, stamp)

    def _probes(self, lane: Lane, window: Window) -> Iterator[FrameSource]:
        """Control probes leave from the port of the next pass, as often before the probes of a batch as after them.

        A queue that fills up loses the end of a batch. Control probes that always came first would not show that.
        """
        if window.checking:
            stamp = partial(_stamp_checks, lane, window)
            yield FrameSource(lane.transport, window.current, "probe", lane.probe.length, stamp)
            return
        pass_no = window.passes.pass_no
        if not self.windows.stopped and (pass_no > 1 or not lane.one_port):
            eager = self._controller is not None and self._controller.testing
            window.allow_control(None if self._controller else CONTROL_PROBES, eager)
        self._batches += 1
        last = bool(self._batches * GOLDEN >> 31 & 1)
        control = self._source(lane, window, window.control, "control", pass_no + 1)
        probes = self._source(lane, window, window.passes, "probe", pass_no)
        yield from (probes._replace(leave=window.control.due), control) if last else (control, probes)

    def _source(self, lane: Lane, window: Window, sending: Sending, kind: str, pass_no: int) -> FrameSource:
        stamp = partial(_stamp_probes, lane, window, pass_no)
        return FrameSource(lane.transport, sending, kind, lane.probe.length, stamp)

    # ── time ──

    def _waits(self, window: Window, wait: Wait) -> float:
        """The seconds of a wait of the lifecycle table, for one window."""
        if wait is Wait.NONE:
            return 0.0
        if not window.sweeping:
            # With one source port for all passes a reply may be credited to a later pass, and its round trip look too
            # short. So the last pass is given as long as the others.
            return window.waits.seconds(wait, window, self.patience, self.settings.pause)
        if wait is Wait.SPLIT:
            return SPLIT_WAIT
        if wait is Wait.SILENCE:
            passes, least = window.current, self.settings.timeout or UNHEARD_WAIT
            return max(least, FIRST_PROBE * least - (passes.last_sent - passes.first_ended) / SECOND)
        return self._sweep_trips.wait()

    def _before_pass(self, window: Window, now: int) -> None:
        """Learn from the pass that is over."""
        if window.passes.pass_no:
            judge_pass(window, [*window.outages, *(self._controller.too_fast if self._controller else [])])
            limit_hosts(window, now)

    def _judge_rate(self, now: int) -> None:
        if controller := self._controller:
            tail = self.round_trips.quantile(0.99)
            controller.judge(now, self.round_trips.first_wait if tail is None else JUDGE_MARGIN * tail + JUDGE_LEAST)
            self.transmit.bucket.rate = min(controller.rate, self._limit)

    def _count_sent(self, now: int) -> None:
        """Tell the controller what has left."""
        if (controller := self._controller) is None:
            return
        probes, control = self.transmit.sent["probe"], self.transmit.sent["control"]
        new_probes, new_control = probes - self._counted[0], control - self._counted[1]
        if new_probes or new_control:
            apart = min(new_control, self.windows.to_suspects)  # they tell of their hosts and not of the path
            self.windows.to_suspects -= apart
            controller.sent(new_probes + new_control, new_control - apart, now)
            self._counted = probes, control
            self.transmit.bucket.rate = min(controller.rate, self._limit)  # the first probes have left

    def limit(self, rate: float) -> None:
        """From now on at most so many frames a second; 0: no limit. A rate that the scan finds stays below it."""
        self._limit = rate or NO_LIMIT
        self.transmit.bucket.rate = min(self._controller.rate, self._limit) if self._controller else rate

    def _advance_gateway(self, gateway: GatewaySweep, now: int) -> None:
        """A gateway is queried in a few passes. Without an answer nothing behind it is scanned."""
        passes = gateway.sweep.passes
        if gateway.sweep.answered:
            gateway.lane.next_hop(gateway.sweep.macs[0].tobytes())
            self._gateways.remove(gateway)
        elif not passes.pass_no or (passes.all_left and self._gateway_due(gateway) <= now):
            if passes.pass_no < GATEWAY_PASSES:
                passes.begin(now)
                return
            self._gateways.remove(gateway)
            if gateway.first:
                self.failed = f"the gateway {gateway.name} does not answer: nothing behind it was scanned"
                self.windows.schedule.drop(self.lanes.index(gateway.lane))

    def _refresh_gateways(self, now: int) -> None:
        """Query the gateways again from time to time: one that changes or comes back may have another MAC address."""
        if self._refresh_at and now >= self._refresh_at and not self.windows.stopped:
            lanes = [lane for lane in self.lanes if lane.gateway is not None and lane.query and lane.resolved]
            self._gateways = [GatewaySweep(lane, self._order_key, first=False) for lane in lanes]
            for gateway in list(self._gateways):
                self._advance_gateway(gateway, now)
        if not self._refresh_at or now >= self._refresh_at:
            self._refresh_at = now + int(GATEWAY_REFRESH * SECOND)

    def _gateway_due(self, gateway: GatewaySweep) -> int:
        return gateway.sweep.passes.last_sent + int(self._sweep_trips.wait() * SECOND)

    def _next_due(self, now: int) -> float:
        """Seconds until tokens for a good batch are there, or until a wait is over."""
        bucket = self.transmit.bucket
        if self.sending or any(not gateway.sweep.passes.handed_out for gateway in self._gateways):
            wait = bucket.wait(max(1, int(bucket.depth * GOOD_BATCH)))
            # A full bucket is no reason to wake up while only hosts are left that have to wait.
            held_back = self.sending and not self.transmit.owing and self.windows.held_back
            return max(wait, HELD_BACK_PAUSE) if held_back else wait
        if not self.transmit.idle:
            return FULL_RING_PAUSE
        due = [max(0.0, (self._gateway_due(gateway) - now) / SECOND) for gateway in self._gateways]
        window = self.windows.next_due(now)
        return min(due if window is None else [*due, window], default=0.0)


def _stamp_queries(query: Template, addresses: Rows, rows: Bytes, host: Ints, now: int) -> None:
    stamp_query(query, rows, addresses[host])


def _stamp_checks(lane: Lane, window: Window, rows: Bytes, number: Ints, now: int) -> None:
    assert window.checks
    target_id, pass_numbers = window.checks.target_id[number], window.checks.pass_numbers(number)
    _stamp_probes(lane, window, pass_numbers, rows, target_id, now)


def _stamp_probes(
    lane: Lane, window: Window, pass_no: int | U8, rows: Bytes, target_id: Ints, now: int
) -> None:  # fmt: skip
    if window.width > 1:
        host, port_index = np.divmod(target_id, window.width)
    else:  # a division for each probe is a cost that shows
        host, port_index = target_id, np.zeros(len(target_id), np.int64)
    macs = window.sweep.macs[host] if window.sweep else None
    lane.stamp_probes(rows, window.hosts[host], window.ports[port_index], pass_no, macs, now)
