"""A live half-open scan as a session: sockets, clock, sleep and counters around `Scan`.

The clock is the wall clock at the start, carried on by the monotonic one: nothing jumps, and the kernel's receive time
stamps compare. While probes are due the loop sleeps until the token bucket holds a good batch, and replies wait in the
ring. When only replies are awaited it sleeps in poll(). It never spins.
"""

import select
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread

from ..config import SynConfig, keys_of
from ..errors import ScanError, UsageError
from ..net.interfaces import frames_dropped, interface
from ..net.routes import Route
from ..net.vendors import vendor_of
from ..packet.addresses import to_text
from ..rounds.schedule import LaneFacts, ResumePoint, Schedule
from ..rounds.session import Clock, Session
from ..rounds.statistics import ScanStats
from ..rounds.window import Window
from ..rounds.windows import Windows
from ..targets.hostspace import HostSpace
from ..targets.ports import NO_PORTS, Ports
from ..targets.spaces import Spaces
from ..targets.zones import Zones
from ..transport import Transport
from ..transport.steady import Steady, steady_clock
from ..transport.tap import See, Tap
from .lane import Lane
from .scan import Scan, Settings
from .setup import Lanes, max_rate_of, open_lanes

LONGEST_SLEEP = 0.05
LEAST_SLEEP = 0.002  # while many replies arrive: one look for several of them instead of one each
MANY_REPLIES = 1000
SAME_PORT_PAUSE = 0.6  # Linux answers a half-open connection at most once in 0.5 s (tcp_invalid_ratelimit)


def settings_of(config: SynConfig, hosts: HostSpace) -> Settings:
    """What of the configuration the scan itself decides by."""
    return Settings(
        rate=config.rate,
        max_rate=max_rate_of(config, hosts),
        bound=config.bound,
        timeout=config.timeout,
        tos=config.tos,
        pause=SAME_PORT_PAUSE if config.source_port else 0.0,
    )


class LiveScan:
    """The engine of a half-open scan: a `Scan` with real transports."""

    def __init__(
        self, scan: Scan, lanes: Lanes, config: SynConfig, clock: Clock, order_key: int,
        excluded_ports: Ports = NO_PORTS, zones: Zones = (),
    ) -> None:  # fmt: skip
        self.windows: Windows = scan.windows
        self._scan, self._lanes, self._clock, self._order_key = scan, lanes, clock, order_key
        self._excluded_ports = excluded_ports
        self._way = config.source_ip, config.interface, zones  # of handshakes for --verify
        self._indices = {interface(lane.name).index for lane in lanes.lanes}  # names may change
        self._dropped_before = frames_dropped(self._indices)
        self._ring_drops = self._lost = 0
        self._rejected: Counter[str] = Counter()
        self._closing: Thread | None = None
        self._poll = select.poll()
        for transport in lanes.transports:
            if transport.fileno() >= 0:
                self._poll.register(transport.fileno(), select.POLLIN)

    @property
    def done(self) -> bool:
        """Whether the scan is over."""
        return self._scan.done

    @property
    def sending(self) -> bool:
        """Whether frames are due."""
        return self._scan.sending

    @property
    def refusals(self) -> Counter[str]:
        """Probes that this machine refused to send, by cause."""
        return self._scan.transmit.refusals

    def turn(self, now: int) -> float:
        """One step of the scan. Raises ScanError at its end where some targets could not be scanned."""
        wait = self._scan.step(now)
        if self._scan.done and self._scan.failed:
            raise ScanError(self._scan.failed)
        return wait

    def sleep(self, seconds: float) -> None:
        """Wait for tokens, or for replies."""
        if self._scan.sending:
            time.sleep(min(seconds, LONGEST_SLEEP))
        elif self._poll.poll(min(seconds, LONGEST_SLEEP) * 1000):
            time.sleep(min(seconds, LEAST_SLEEP) if self._scan.receiver.replies > MANY_REPLIES else 0)

    def verify(self, window: Window) -> None:
        """A full handshake with each open target of a closed window."""
        from ..connect.local_end import LocalEnd
        from ..connect.verify import find_open_everywhere, verify_window

        common = self._scan.transmit.budget, self._clock, LocalEnd(*self._way)
        verify_window(window, *common, on_link=self._scan.lanes[window.host_range.lane].needs_macs)
        find_open_everywhere(window, self._excluded_ports, self._order_key, *common)

    def count(self, stats: ScanStats) -> None:
        """The counters of what was sent, received and lost."""
        self._scan.count(stats)
        stats.ring_drops, stats.interface_drops = self._ring_drops, self._lost
        stats.rejected += self._rejected

    def limit(self, rate: float) -> None:
        """From now on at most so many frames a second; 0: no limit."""
        self._scan.limit(rate)

    def end(self) -> None:
        """Count what this machine lost, and close the sockets while the last rows are written."""
        with suppress(ScanError, OSError):  # counters are not worth the rows
            drops = [transport.drops() for transport in self._lanes.transports]
            self._ring_drops = sum(drop.received for drop in drops)
            self._rejected = sum((drop.rejected for drop in drops), Counter())
            self._lost = sum(drop.sent for drop in drops)
            lost = frames_dropped(self._indices) - self._dropped_before - sum(drop.tried_again for drop in drops)
            self._lost += max(0, lost)
        self._closing = Thread(target=self._lanes.close)
        self._closing.start()

    def close(self) -> None:
        """Give ports and sockets back."""
        if self._closing:
            self._closing.join()
        else:
            self._lanes.close()


def syn_session(
    spaces: Spaces,
    config: SynConfig,
    warn: Callable[[str], None] = print,
    see: Sequence[See] = (),
    before_frames: Callable[[set[int]], None] = lambda links: None,
    verify: bool = False,
    excluded_ports: Ports = NO_PORTS,
    resume: ResumePoint | None = None,
    resumable: bool = False,
) -> Session:
    """A half-open scan. `see` is told of every frame; with `verify` open ports get a full handshake, too.

    `excluded_ports`: ports that no frame may go to, beyond those of the targets.

    `before_frames` is called with the link types (LINKTYPE_ numbers) that `see` will meet.
    `resume`: the scan goes on from there. Raises UsageError or ScanError; then nothing stays open.
    """
    keys = resume.keys if resume else keys_of(config)
    clock = steady_clock()
    links: set[int] = set()

    def tapped(transport: Transport, route: Route) -> Transport:
        links.add(route.interface.link)
        transport = Steady(transport, clock)
        for listener in see:
            transport = Tap(transport, listener, route.interface.name, route.interface.link, clock)
        return transport

    opened = open_lanes(spaces, config, keys, warn, tapped)
    try:
        facts = [lane_facts(lane) for lane in opened.lanes]
        schedule = Schedule([lane.extent for lane in opened.lanes], *(resume.restart(facts) if resume else ()))
        scan = Scan(opened.lanes, settings_of(config, spaces.hosts), keys.order, schedule)
        before_frames(links)
        engine = LiveScan(scan, opened, config, clock, keys.order, excluded_ports, spaces.hosts.zones)
    except (UsageError, ScanError):
        opened.close()
        raise
    targets = sum(lane.extent.targets for lane in opened.lanes)
    stats = ScanStats(targets=targets, asked_rate=config.rate, bound=config.bound, started=time.time())
    hosts = spaces.hosts
    stats.unresolved, stats.unrouted = hosts.unresolved, opened.unrouted
    return Session(
        engine, stats, clock, keys, facts, verify=verify, resumable=resumable, names=hosts.names, vendor=vendor_of
    )


def lane_facts(lane: Lane) -> LaneFacts:
    """What a resumed scan recognises a lane by."""
    gateway = "" if lane.gateway is None else to_text(lane.gateway)[0]
    return LaneFacts(lane.name, lane.version, lane.host_count, gateway)
