"""The open windows of a scan, moved along by the lifecycle table.

Both kinds of scan have one of these. It opens a window when the others have sent what they have for now, asks the
table what is due for each, executes it, and keeps what has closed for the writer of rows. As many windows are open as
keep the rate: while some wait for replies, the next one sends. Together they take at most `MEMORY` bytes, so memory
does not grow with the scan.
"""

from collections import deque
from collections.abc import Callable, Container
from functools import partial

import numpy as np

from ..packet.addresses import networks
from ..packet.headers import Ints
from ..verdict.loss import Bound
from ..verdict.table import Rank
from .lifecycle import Action, Event, Rule, Wait, WindowState, due_rule, next_wait
from .measure import assess
from .pacing import SECOND
from .schedule import HostRange, Schedule
from .stopped import look, stop_unheard
from .window import Window

MEMORY = 100_000_000  # bytes that open windows take at most
LOOK_NS = 250_000_000  # ns between two looks at hosts that may have stopped answering
FEW_OPEN, REST_NS = 64, 50_000_000  # of more windows, those that only wait are looked at once in so many ns
TURN, MOST_AT_ONCE = 0.01, 256  # seconds and probes: of small windows, what is opened in one turn
Waits = Callable[[Window, Wait], float]  # seconds


class Windows:
    """What a scan has under way. Times are ns of the scan's clock."""

    def __init__(
        self,
        schedule: Schedule,
        make: Callable[[HostRange, int], Window],
        bound: Bound,
        waits: Waits,
        before_pass: Callable[[Window, int], None] = lambda window, now: None,
    ) -> None:
        """`make`: a window from its range and its number, from 1. `waits`: how long a wait is for a window.

        `before_pass` is called before each pass of probes, except the first one of a window that does not sweep.
        """
        self.schedule, self.bound = schedule, bound
        self.open: list[Window] = []
        self.closed: deque[Window] = deque()
        self.opened: deque[tuple[Window, Ints]] = deque()  # targets found open in this turn
        self.found_open = 0
        self.stopped = False
        self.unsent = 0  # targets to which this machine refused to send every probe, in windows that have closed
        self.deaf_since = 0  # when an interface stopped carrying frames, ns; 0: all of them carry frames
        self._make, self._waits, self._before_pass = make, waits, before_pass
        self._count = 0
        self._networks: dict[int, int] = {}  # that have stopped answering, and when, ns
        self.to_suspects = 0  # control probes that are under way to hosts that may have stopped
        self._suspected: set[int] = set()  # networks of hosts that may have stopped
        self._look_at = 0  # when hosts are looked at next, ns
        self._handed_closed = 0
        self._asleep_until: dict[int, int] = {}  # by id of the window: when it is looked at again, ns

    @property
    def done(self) -> bool:
        """Whether every window has closed and none is to be opened."""
        return not self.open and (self.schedule.exhausted or self.stopped)

    @property
    def sending(self) -> bool:
        """Whether any window has something to send."""
        return any(not (window.current.handed_out and window.control.handed_out) for window in self.open)

    @property
    def held_back(self) -> bool:
        """Whether no window has anything to send but to hosts that limit their answers."""
        current = [(window.current, window.control) for window in self.open]
        return all((passes.handed_out or passes.held_back) and control.handed_out for passes, control in current)

    @property
    def handed_first(self) -> int:
        """Probes of first passes that have been handed out, in all windows."""
        return sum(window.passes.handed_first for window in self.open) + self._handed_closed

    @property
    def unprobed(self) -> int:
        """Targets that no first pass has come to yet."""
        begun = sum(window.ledger.n - window.ledger.missing - window.passes.handed_first for window in self.open)
        return max(0, self.schedule.remaining + begun)

    def patience(self, window: Window) -> float:
        """Seconds after a probe of this window in which its reply may still come."""
        return self._waits(window, Wait.REPLIES)

    def add_opened(self, window: Window, target_id: Ints) -> None:
        """These targets have just been found open."""
        if len(target_id):
            self.opened.append((window, target_id))
            self.found_open += len(target_id)

    def open_next(self, now: int, rate: float) -> list[Window]:
        """Open the next window if the others have sent what they have for now; `rate` in probes a second.

        Of small windows, as hosts with ports of their own have, so many are opened as keep the rate until the next
        turn. A turn costs as much as a small window.
        """
        if self.stopped or not all(window.current.handed_out for window in self.open):
            return []
        fresh: list[Window] = []
        memory = sum(window.memory for window in self.open)
        probes = min(rate * TURN, MOST_AT_ONCE) if rate else MOST_AT_ONCE
        while not fresh or probes > 0:
            if self.open and memory + self.open[-1].memory > MEMORY:
                break
            window = self.next_window(rate)
            if window is None:
                break
            window.begin_pass(now)
            self.open.append(window)
            self._asleep_until.pop(id(window), None)  # a closed window may have had this id
            fresh.append(window)
            memory, probes = memory + window.memory, probes - window.ledger.n
        return fresh

    def awake(self, now: int) -> list[Window]:
        """The open windows that something may be due for. Of very many, those that only wait are seldom looked at."""
        if len(self.open) <= FEW_OPEN:
            return list(self.open)
        return [window for window in self.open if self._asleep_until.get(id(window), 0) <= now]

    def _rest(self, window: Window, now: int) -> None:
        """Nothing is due for this window at the moment, and nothing of it is to be sent."""
        if len(self.open) > FEW_OPEN and window.current.all_left and window.control.all_left:
            self._asleep_until[id(window)] = now + REST_NS

    def next_window(self, rate: float) -> Window | None:
        """The window of the next host range."""
        host_range = self.schedule.next(rate)
        if host_range is None:
            return None
        self._count += 1
        return self._make(host_range, self._count)

    def advance(self, now: int) -> None:
        """Execute what is due."""
        due = now >= self._look_at and not self.stopped
        if due:
            self.to_suspects = 0
            suspects = [window.hosts[window.suspect] for window in self.open if window.suspect.any()]
            self._suspected = {network for hosts in suspects for network in networks(hosts).tolist()}
            # A look at a million targets, or at 100,000 hosts, takes some 30 ms.
            targets = sum(window.ledger.n for window in self.open)
            hosts = sum(len(window.hosts) for window in self.open)
            self._look_at = now + LOOK_NS * (1 + (targets >> 17) + (hosts >> 14))
        awake = list(self.open) if due else self.awake(now)
        for window in awake:
            if due and not window.sweeping:
                self.to_suspects += look(window, now, self._networks)
            while rule := self._due(window, now):
                self._execute(rule.action, window, now)
                window.state = rule.next
            self._rest(window, now)
        if due:
            self._asleep_until = {key: until for key, until in self._asleep_until.items() if until > now}

    def _due(self, window: Window, now: int) -> Rule | None:
        elapsed = (now - window.current.last_sent) / SECOND
        return due_rule(window.state, elapsed, lambda event: self._holds(event, window), partial(self._waits, window))

    def _holds(self, event: Event, window: Window) -> bool:
        if event is Event.ALL_SENT:
            return window.current.all_left and window.control.all_left
        if event is Event.ALL_ANSWERED:
            return window.all_answered
        if event is Event.SOME_SILENT:
            return not window.all_answered
        if event is Event.STOPPED:
            return self.stopped
        if event is Event.FIRST_ANSWERED:
            return window.may_split
        enough = window.enough(self.bound)
        # A window with suspects waits: they may answer again.
        probing = not (window.sweeping or window.checking)
        if self._suspected and probing and np.isin(networks(window.hosts[window.unheard]), list(self._suspected)).any():
            return False  # its network may have stopped, or be out for a moment
        if window.suspect.any() and not window.sweeping:
            return event is Event.NOT_ENOUGH and not enough and bool(window.silent_hosts.any())
        return enough is (event is Event.ENOUGH)

    def _execute(self, action: Action, window: Window, now: int) -> None:
        if action is Action.BEGIN_PASS:
            if window.current is window.passes:
                self._before_pass(window, now)
            window.begin_pass(now)
        elif action is Action.AWAIT:
            window.control.stop()
        elif action is Action.CHECK:
            if not self.stopped:  # a stopped scan tests nothing, and so claims nothing
                window.begin_checks(now)
        elif action is Action.SPLIT:
            # The rest stands before the window: its few queries leave first.
            self.open.insert(self.open.index(window), window.split())
        elif action is Action.END_SWEEP:
            window.end_sweep()
        elif action in (Action.CLOSE, Action.CLOSE_EARLY):
            self._close(window, interrupted=action is Action.CLOSE_EARLY)

    def _close(self, window: Window, interrupted: bool) -> None:
        assess(window)
        stop_unheard(window, self._networks)
        window.interrupted, window.state = interrupted, WindowState.CLOSED
        self._handed_closed += window.passes.handed_first
        self.open.remove(window)
        self.closed.append(window)
        if not interrupted:
            self.unsent += int(np.count_nonzero(window.ledger.silent(slice(None)) & ~window.ledger.was_probed()))

    def stop(self) -> None:
        """Send nothing new. The waits under way are waited out: only then silence may be claimed."""
        self.stopped = True
        for window in self.open:
            window.current.stop()
            window.control.stop()

    def abandon(self) -> None:
        """Close every window now, without any wait."""
        self.stop()
        for window in list(self.open):
            self._close(window, interrupted=True)

    def restart(self, lanes: Container[int]) -> None:
        """Scan the open windows of these lanes anew: nobody knows what they would have heard."""
        for window in [window for window in self.open if window.host_range.lane in lanes]:
            self.open.remove(window)
            self.found_open -= int(np.count_nonzero(window.ledger.rank(slice(None)) == Rank.OPEN))
            self.schedule.put_back(window.host_range)

    def next_due(self, now: int) -> float | None:
        """Seconds until a wait is over; None: there is no wait."""
        waits = [self._next_wait(window, now) for window in self.open]
        if self._suspected or any(window.suspect.any() for window in self.open):
            waits.append(max(0, self._look_at - now) / SECOND)
        return min((wait for wait in waits if wait is not None), default=None)

    def _next_wait(self, window: Window, now: int) -> float | None:
        """The same of one window. What is over while it is not looked at is over when it is."""
        wait = next_wait(window.state, (now - window.current.last_sent) / SECOND, partial(self._waits, window))
        asleep = (self._asleep_until.get(id(window), 0) - now) / SECOND
        return wait if wait is None or len(self.open) <= FEW_OPEN else max(wait, asleep)
