"""A live scan from start to end: the loop that gives it time, sleep and signals.

Everything before and after is somebody else's: `wiring` makes the lanes, `live` decides, `output`
writes. Here is only the clock (the wall clock at the start, carried on by the monotonic one, so that
nothing jumps and receive time stamps compare), the waiting, and the sums for the summary.

While probes are due the loop sleeps until the token bucket is worth a batch and replies wait in the
ring; when only replies are awaited it sleeps in poll(). It never spins.
"""

import select
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from threading import Thread

import numpy as np
import numpy.typing as npt

from ..config import PUBLIC_RATE, SynConfig, key_of
from ..errors import ScanError, UsageError
from ..net.interfaces import interface
from ..net.routes import Route
from ..packet.addresses import to_text
from ..packet.cookie import Key
from ..packet.headers import LINK_ETHERNET, LINK_RAW
from ..rounds.resume_point import LaneFacts, Standing, schedule_of
from ..rounds.schedule import Stretch
from ..rounds.statistics import Glance, Sums
from ..targets.hostspace import HostSpace
from ..targets.special import any_public
from ..transport import Transport
from ..transport.ring import NO_LINK_HEADER
from ..transport.tap import See, Tap
from ..verdict.table import Verdict
from .results import rows, silent
from .scan import Scan, Settings
from .setup import Wiring, connect
from .window import Window

LONGEST_SLEEP = 0.05
LEAST_SLEEP = 0.002  # while replies trickle in: one look for many instead of one each
ROWS_A_TURN = 8192  # written between two looks at what has arrived: some 15 ms, in which 25,000 replies may come
SAME_PORT_PAUSE = 0.6  # Linux answers a half-open connection at most once in 0.5 s


def settings_of(config: SynConfig, hosts: HostSpace) -> Settings:
    """What of the configuration the scan itself decides by."""
    return Settings(
        rate=config.rate,
        max_rate=config.max_rate or (PUBLIC_RATE if any_public(hosts) else 0.0),
        passes=config.passes,
        max_missed=config.max_missed,
        max_missed_share=config.max_missed_share,
        timeout=config.timeout,
        tos=config.tos,
        pause=SAME_PORT_PAUSE if config.source_port else 0.0,
    )


class Session:
    """One scan. Iterate over `batches`; `stop` may be called from a signal handler."""

    def __init__(
        self,
        hosts: HostSpace,
        ports: npt.NDArray[np.uint16],
        config: SynConfig,
        warn: Callable[[str], None] = print,
        see: Sequence[See] = (),
        verify: bool = False,
        standing: Standing | None = None,
        keep: bool = False,
    ) -> None:
        """`see` is told of every frame sent and received; with `verify` open ports get a full handshake, too.

        `standing`: the scan goes on from there; with `keep` what an interrupt leaves
        unfinished is not given out as rows, but kept for `standing()`. Raises UsageError or ScanError.
        """
        self.key = Key(*standing.key) if standing else key_of(config)
        self.sums = Sums(asked_rate=config.rate, started=time.time())
        self._offset = time.time_ns() - time.monotonic_ns()
        self._see, self._verify = see, (config.source_ip, config.interface) if verify else None
        self.opened: deque[tuple[str, int]] = deque(maxlen=1024)  # targets just found open, if anybody wants to know
        self.links: set[int] = set()  # link types (LINKTYPE_ numbers) that `see` will meet
        self.wiring: Wiring = connect(hosts, ports, config, self.key, warn, self._tap if see else None)
        self.sums.targets = sum(lane.host_count for lane in self.wiring.lanes) * len(ports)
        lanes = self.wiring.lanes
        self._kept: list[Stretch] = []  # of windows that were given up
        self._keep = keep
        try:
            schedule = schedule_of(self._lane_facts(), len(ports), standing)
        except UsageError:
            self.wiring.close()
            raise
        self.scan = Scan(lanes, settings_of(config, hosts), self.key, schedule)
        self._names = {lane.name for lane in self.wiring.lanes}
        self._dropped_before = self._interface_drops()
        self._stops = 0
        self._ended: list[tuple[float, float | None]] = []
        self._began = time.monotonic()
        self._failure: ScanError | None = None
        self._closing: Thread | None = None

    def _lane_facts(self) -> list[LaneFacts]:
        return [
            (lane.name, lane.version, lane.host_count, "" if lane.gateway is None else to_text(lane.gateway)[0])
            for lane in self.wiring.lanes
        ]

    def standing(self) -> Standing:
        """Where the scan stands now; to be asked when all rows given out have been written."""
        at_work = [window.stretch for window in (*self.scan.open, *self.scan.closed)]
        left = [*self._kept, *at_work, *self.scan.schedule.left, *self.scan.schedule.dropped]
        return Standing((self.key.k0, self.key.k1), self._lane_facts(), self.scan.schedule.at, left)

    def now(self) -> int:
        """The scan's clock: nanoseconds since 1970, steady."""
        return time.monotonic_ns() + self._offset

    def _tap(self, transport: Transport, route: Route) -> Transport:
        link = LINK_RAW if route.interface.kind in NO_LINK_HEADER else LINK_ETHERNET
        self.links.add(link)
        for see in self._see:
            transport = Tap(transport, see, route.interface.name, link, self.now)
        return transport

    def _interface_drops(self) -> int:
        return sum(interface(name).counters.tx_dropped for name in self._names)

    def stop(self) -> None:
        """First call: send nothing more and wait out what is under way. Second call: end now."""
        self._stops += 1
        self.sums.interrupted = True

    def _heed_stops(self) -> None:
        """Between two steps, because a signal may come in the middle of one."""
        if self._stops > 1:
            self.scan.abandon()
        elif self._stops and not self.scan.interrupted:
            self.scan.interrupt()

    def batches(
        self, write_silent: bool = True, tick: Callable[["Session"], None] | None = None, only_open: bool = False
    ) -> Iterator[Iterable[Verdict]]:
        """The verdicts of each window as it closes; without `write_silent` silent targets are only counted."""
        self._began = time.monotonic()
        poll = select.poll()
        for transport in self.wiring.transports:
            if transport.fileno() >= 0:
                poll.register(transport.fileno(), select.POLLIN)
        try:
            while not self.scan.done:
                wait = self._turn()
                yield from self._closed(write_silent, only_open)
                if tick:
                    tick(self)
                self._sleep(wait, poll)
            yield from self._closed(write_silent, only_open)
            if self.scan.failed:
                raise ScanError(self.scan.failed)
        except ScanError:
            self.scan.abandon()  # what was learned before the interface failed is not lost
            yield from self._closed(write_silent, only_open)
            raise
        finally:
            self._finish()

    def _turn(self) -> float:
        """One step of the scan; in how many seconds there is more to do. Raises ScanError."""
        if self._failure:
            raise self._failure
        self._heed_stops()
        wait = self.scan.step(self.now())
        if self.scan.sending:
            self.sums.sending_seconds = time.monotonic() - self._began
        self._name_opened()
        if self.scan.done:
            self._end()
        return wait

    def _meanwhile(self, verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
        """The same verdicts; while they are being written the scan goes on, or replies would find the ring full."""
        rows = iter(verdicts)
        while chunk := list(islice(rows, ROWS_A_TURN)):
            yield from chunk
            try:
                if not self.scan.done:
                    self._turn()
            except ScanError as error:  # not the writer's fault: it is raised again where the scan is driven
                self._failure = error

    def _name_opened(self) -> None:
        while self.scan.news:
            window, targets = self.scan.news.popleft()
            hosts = to_text(window.hosts[targets // window.width])
            self.opened.extend(zip(hosts, window.lane.ports[targets % window.width].tolist(), strict=True))

    def glance(self) -> Glance:
        """Where the scan stands."""
        at_work = [*self.scan.open, *self.scan.closed]
        answered = self.sums.answered + sum(window.ledger.answered for window in at_work)
        losses = [window.estimate.loss for window in at_work if window.estimate.loss is not None]
        losses += [loss for _, loss in self._ended[-1:] if loss is not None]
        asked = sum(window.ledger.n - window.ledger.missing - window.passes.handed_first for window in self.scan.open)
        return Glance(
            self.scan.dispatch.sent["probe"],
            max((window.passes.number for window in self.scan.open), default=self.sums.passes),
            answered,
            self.scan.found_open,
            max(0, self.scan.schedule.remaining + asked),
            losses[0] if losses else None,
            self.sums.expected_missed,
        )

    def _sleep(self, wait: float, poll: select.poll) -> None:
        if wait <= 0 or self.scan.done:
            return
        if self.scan.sending:
            time.sleep(min(wait, LONGEST_SLEEP))
        elif poll.poll(min(wait, LONGEST_SLEEP) * 1000):
            time.sleep(min(wait, LEAST_SLEEP) if self.scan.replies > 1000 else 0)

    def _closed(self, write_silent: bool, only_open: bool) -> Iterator[Iterable[Verdict]]:
        while self.scan.closed:
            window = self.scan.closed.popleft()
            unverified = self._verify is not None and self.sums.interrupted
            if self._keep and (window.interrupted or unverified):
                self._kept.append(window.stretch._replace(known=window.known()))
                continue
            self.sums.expected_missed += window.estimate.missed + window.missed_with_hosts
            self.sums.answered += window.ledger.answered
            self.sums.passes = max(self.sums.passes, window.passes.number)
            if window.estimate.loss is not None:
                self._ended.append((window.ledger.answered, window.estimate.loss))
            if self._verify is not None and not self.sums.interrupted:
                self._complete_handshakes(window)
            cutoff = self.now() - int(self.scan.round_trips.wait() * 1e9)
            if not write_silent:
                self.sums.silent_counted += len(silent(window, cutoff))
            yield self._meanwhile(rows(window, cutoff, write_silent, only_open))

    def _complete_handshakes(self, window: Window) -> None:
        """What `--verify` adds to a window that has closed."""
        from ..connect.calls import Source
        from .verify import find_walls, verify_window

        assert self._verify
        source = Source(*self._verify)
        verify_window(window, self.scan.dispatch.bucket, source)
        find_walls(window, self.key.k1, self.scan.dispatch.bucket, source)

    def close(self) -> None:
        """Give ports and sockets back, if the scan is not to be run after all."""
        self.wiring.close()

    def _end(self) -> None:
        """Nothing more comes or goes: count what this machine lost, and close sockets while the rest is written."""
        drops = [transport.drops() for transport in self.wiring.transports]
        self.sums.ring_drops = sum(each.received for each in drops)
        try:
            lost = self._interface_drops() - self._dropped_before - sum(each.tried_again for each in drops)
            self.sums.interface_drops = max(0, lost) + sum(each.sent for each in drops)
        except ScanError:
            pass  # the interface has gone: there is nothing to compare
        self._closing = Thread(target=self.wiring.close)
        self._closing.start()

    def _finish(self) -> None:
        self.tally()
        if not self._closing:
            self._end()
        assert self._closing
        self._closing.join()

    def tally(self) -> Sums:
        """The sums so far."""
        sums, scan = self.sums, self.scan
        sums.seconds = time.monotonic() - self._began
        sums.sent, sums.replies, sums.late = scan.dispatch.sent, scan.replies, scan.late
        sums.rejected = Counter({cause: count for cause, count in scan.rejected.items() if count})
        weight = sum(answered for answered, _ in self._ended)
        sums.loss = (
            sum(answered * loss for answered, loss in self._ended if loss is not None) / weight if weight else None
        )
        return sums
