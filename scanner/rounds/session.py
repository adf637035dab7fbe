"""A scan from start to end: rows as windows close, statistics, stop and resume.

The session drives an engine, half-open or connect, turn by turn. The engine knows how a probe leaves and how an answer
arrives; everything else is the same for both and stands here. The clock is handed in, and only the engine sleeps.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Protocol

from ..errors import ScanError, cause_of
from ..packet.addresses import to_text
from ..verdict.rows import Verdict
from ..verdict.sentences import plural
from .pacing import SECOND
from .rows import NO_NAMES, Names, Vendor, silent_targets, window_rows
from .schedule import MOST_CHOSEN, HostRange, Keys, LaneFacts, ResumePoint
from .statistics import ScanStats
from .window import Window
from .windows import Windows

ROWS_A_TURN = 8192  # rows written between two turns: about 15 ms, in which 25,000 replies may arrive
MOST_KEPT = 10_000  # ranges of hosts that nothing could be sent to: a state is to stay small
Clock = Callable[[], int]  # ns since 1970, steady


class Engine(Protocol):
    """One kind of scan: how probes leave and answers arrive."""

    @property
    def windows(self) -> Windows: ...

    @property
    def done(self) -> bool: ...

    @property
    def sending(self) -> bool: ...

    @property
    def refusals(self) -> Counter[str]: ...  # probes that this machine refused to send, by cause

    def turn(self, now: int) -> float: ...  # do what is due; returns the seconds until there is more to do

    def sleep(self, seconds: float) -> None: ...  # until then, or until something arrives

    def verify(self, window: Window) -> None: ...  # what --verify adds to a closed window

    def count(self, stats: ScanStats) -> None: ...  # fill in the counters of the engine

    def limit(self, rate: float) -> None: ...  # from now on at most so many frames a second; 0: no limit

    def end(self) -> None: ...  # nothing more is sent or received; sockets may close

    def close(self) -> None: ...  # everything is given back


class Session:
    """One scan. Iterate over `batches`. `stop` may be called from a signal handler."""

    def __init__(
        self,
        engine: Engine,
        stats: ScanStats,
        clock: Clock,
        keys: Keys,
        lanes: list[LaneFacts],
        *,
        verify: bool = False,
        resumable: bool = False,
        names: Names = NO_NAMES,
        vendor: Vendor = lambda block: None,
    ) -> None:
        """With `resumable` an interrupted window gives no rows: its range stays in the resume point.

        `names`: the names that the user gave, by address. `vendor`: who made a network card.
        """
        self.names = names
        self.engine = engine
        self.before_turn: Callable[[], None] = lambda: None  # before anything can be sent; may call `stop`
        self.naming = False  # whether somebody asks for `opened` in each tick
        self.opened: list[tuple[str, int]] = []  # targets just found open
        self._stats, self._clock, self._keys, self._lanes = stats, clock, keys, lanes
        self._verify, self._resumable, self._vendor = verify, resumable, vendor
        self._kept: list[HostRange] = []  # hosts of windows that were interrupted, or that nothing could be sent to
        self._stops = 0
        self._began = clock()
        self._latest_loss: float | None = None
        self._failure: ScanError | None = None
        self._ended = False

    @property
    def targets(self) -> int:
        """All targets of the scan."""
        return self._stats.targets

    @property
    def interrupted(self) -> bool:
        """Whether the scan was stopped."""
        return self._stats.interrupted

    @property
    def unfinished(self) -> bool:
        """Whether a resumed scan has hosts to ask: the scan was stopped, or this machine refused to send to them."""
        return self.interrupted or bool(self._kept)

    @property
    def crew(self) -> str:
        """Who scans: this machine alone."""
        return ""

    def now(self) -> int:
        """The clock of the scan: ns since 1970, steady."""
        return self._clock()

    def resume_point(self) -> ResumePoint:
        """What is left to do, once every row that was given out has been written."""
        windows = self.engine.windows
        begun = [window.host_range for window in (*windows.open, *windows.closed)]
        left = (*self._kept, *begun, *windows.schedule.left)
        return ResumePoint(self._keys, self._lanes, windows.schedule.at, left)

    def stop(self) -> None:
        """First call: send nothing more and wait for replies under way. Second call: end now."""
        self._stops += 1
        self._stats.interrupted = True

    def batches(
        self, write_silent: bool = True, tick: Callable[[], None] | None = None, only_open: bool = False
    ) -> Generator[Iterable[Verdict], None, None]:
        """The verdicts of each window as it closes. Without `write_silent` silent targets are only counted.

        `tick` is called after every turn. Raises ScanError after the rows of what was learned.
        """
        self._began = self._clock()
        try:
            while not self.engine.done:
                wait = self._turn()
                yield from self._closed(write_silent, only_open)
                if tick:
                    tick()
                if wait > 0 and not self.engine.done:
                    self.engine.sleep(wait)
            yield from self._closed(write_silent, only_open)
            if self._failure:  # the scan ended while rows were written
                raise self._failure
        except (ScanError, OSError, MemoryError) as error:
            self._stats.interrupted = True
            self.engine.windows.abandon()  # what was learned before the failure is not lost
            yield from self._closed(write_silent, only_open)
            raise _said(error) from error
        finally:
            self.stats()
            self._end()
            self.engine.close()
        if self.engine.windows.unsent and not self.interrupted:
            raise ScanError(self._refused())

    def _refused(self) -> str:
        causes = ", ".join(sorted(self.engine.refusals))
        return (
            f"this machine refused to send to {plural(self.engine.windows.unsent, 'target')} ({causes}): see its "
            "firewall and its routes; such targets have no row"
        )

    def _turn(self) -> float:
        """One turn of the engine; seconds until there is more to do. Raises ScanError."""
        if self._failure:
            raise self._failure
        self.before_turn()
        if self._stops > 1:
            self.engine.windows.abandon()
        elif self._stops and not self.engine.windows.stopped:
            self.engine.windows.stop()
        now = self._clock()
        wait = self.engine.turn(now)
        if self.engine.sending:
            self._stats.sending_seconds = (now - self._began) / SECOND
        self._name_opened()
        if self.engine.done:
            self._end()
        return wait

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self.engine.end()

    def _name_opened(self) -> None:
        opened = self.engine.windows.opened
        while opened:
            window, target_id = opened.popleft()
            if not self.naming:
                continue
            hosts = to_text(window.hosts[target_id // window.width])
            self.opened.extend(zip(hosts, window.ports[target_id % window.width].tolist(), strict=True))

    def _closed(self, write_silent: bool, only_open: bool) -> Iterator[Iterable[Verdict]]:
        closed = self.engine.windows.closed
        while closed:
            window = closed.popleft()
            keep = self._resumable and window.interrupted
            if not keep and not self._verified(window):
                keep = self._resumable
            if keep:
                self._kept.append(window.host_range)
                continue
            if self._resumable and (refused := _refused_hosts(window)) and self._has_room(refused):
                self._kept.append(refused)  # such hosts have no row
            self._stats.add_window(window)
            self._latest_loss = window.estimate.loss if window.estimate.loss is not None else self._latest_loss
            # Silence is silence only as long as somebody listened.
            heard_until = self.engine.windows.deaf_since or self._clock()
            cutoff = heard_until - int(self.engine.windows.patience(window) * SECOND)
            if not write_silent and not only_open:  # --open leaves out whatever is not open, and --all does not list it
                self._stats.silent_counted += len(silent_targets(window, cutoff))
            yield self._between_turns(window_rows(window, cutoff, write_silent, only_open, self.names, self._vendor))

    def _has_room(self, host_range: HostRange) -> bool:
        """Whether a state can hold this range beside those of the open windows."""
        chosen = [part.size for part in (*self._kept, host_range) if part.chosen is not None]
        return len(self._kept) < MOST_KEPT and sum(chosen) <= MOST_CHOSEN // 2

    def _verified(self, window: Window) -> bool:
        """Do what --verify adds to a closed window; whether nothing of it is missing."""
        if not self._verify:
            return True
        if self.interrupted or self._failure:
            return False
        try:
            self.engine.verify(window)
        except (ScanError, OSError, MemoryError) as error:
            self._failure = _said(error)  # raised again where the scan is driven: the rows of the window are not lost
            return False
        self._stats.sending_seconds = (self._clock() - self._began) / SECOND  # its frames count for the rate, too
        return True

    def _between_turns(self, verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
        """The same verdicts. The scan goes on while they are written, or replies would find the ring full."""
        rows = iter(verdicts)
        while chunk := list(islice(rows, ROWS_A_TURN)):
            yield from chunk
            try:
                if not self.engine.done:
                    self._turn()
            except (ScanError, OSError, MemoryError) as error:
                self._failure = _said(error)  # raised again where the scan is driven: the writer has no part in it

    def stats(self) -> ScanStats:
        """The statistics of what has closed so far."""
        self._stats.seconds = (self._clock() - self._began) / SECOND
        self.engine.count(self._stats)
        return self._stats

    def live_stats(self) -> ScanStats:
        """The same with what is under way: how far the scan is, for progress."""
        stats, windows = self.stats(), self.engine.windows
        under_way = [*windows.open, *windows.closed]
        losses = [window.estimate.loss for window in under_way if window.estimate.loss is not None]
        return replace(
            stats,
            answered=stats.answered + sum(window.ledger.answered for window in under_way),
            passes=max((window.passes.pass_no for window in windows.open), default=stats.passes),
            loss=losses[0] if losses else self._latest_loss,
            opened=windows.found_open,
            remaining=windows.unprobed,
        )

    def close(self) -> None:
        """Give ports and sockets back, if the scan is not to be run after all."""
        self.engine.close()


def _refused_hosts(window: Window) -> HostRange | None:
    """The hosts to which this machine refused to send every probe; None: there are none."""
    unprobed = window.by_host(window.ledger.silent(slice(None)) & ~window.ledger.was_probed())
    host_pos = window.host_range.host_pos()
    refused = unprobed[window.index_of(host_pos)] == window.width
    if refused.all():
        return window.host_range
    return window.host_range._replace(chosen=host_pos[refused]) if refused.any() else None


def _said(error: ScanError | OSError | MemoryError) -> ScanError:
    """The error for the user: also of a system call that no module expects to fail."""
    if isinstance(error, ScanError):
        return error
    cause = cause_of(error) if isinstance(error, OSError) else "no memory is left"
    return ScanError(f"the system refused what the scan needs: {cause}")
