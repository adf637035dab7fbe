"""How far a scan is: one line for a person, or JSON lines for a program.

On a terminal rich draws one line on stderr. `--progress json` writes one line per second instead, and one at the end.
Otherwise the scan prints its progress only on request: on SIGUSR1 (`kill -USR1`), or on any key if standard input
is the terminal. With `-v` open ports are named when they are found, because their rows come when their window closes.

The time left is estimated from the time that each target has taken so far, later passes and waits included.

The clock is a parameter, so that tests need not wait.
"""

import json
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, escaped, note
from ..rounds.statistics import ScanStats
from .signals import handling

if TYPE_CHECKING:
    from ..rounds.session import Session
    from ..targets.files import Tell

FORMS = ("auto", "json", "none")
DRAW_INTERVAL, JSON_INTERVAL, KEYS_INTERVAL = 0.2, 1.0, 0.2  # seconds
READING_DELAY = 0.5  # seconds before the reading of lists is shown
SPEED_INTERVAL = 0.5  # seconds over which the speed is measured, at least
LEAST_SHARE = 0.01  # the share of targets probed before there is an estimate of the time left


def check_form(form: str) -> str:
    """Raises UsageError for an unknown form of progress."""
    if form not in FORMS:
        raise UsageError(f"--progress {form!r} is not one of {', '.join(FORMS)}")
    return form


class Progress:
    """The progress of one scan. The session calls `tick` after every step."""

    def __init__(
        self,
        session: "Session",
        quiet: bool,
        verbose: bool,
        form: str,
        pressed: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`pressed`: whether a key was pressed since the last call. `clock`: seconds, steady."""
        self._session, self._verbose, self._pressed, self._clock = session, verbose, pressed, clock
        self._json = form == "json"
        self._drawn = form == "auto" and sys.stderr.isatty() and not quiet
        self._interval = JSON_INTERVAL if self._json else DRAW_INTERVAL
        self._started = self._keys_read = clock()
        self._next = self._started + self._interval
        self._sample = (self._started, 0)  # a moment, and the probes sent until then
        self._speed = 0.0
        self._requested = False
        self._status: Any = None  # rich's line on the terminal

    def request(self) -> None:
        """Print the progress at the next step."""
        self._requested = True

    def tick(self) -> None:
        """Print what is due at this moment, or what was requested."""
        now = self._clock()
        while self._verbose and self._session.opened:
            host, port = self._session.opened.popleft()
            note(f"open {host} {port}/tcp", "")
        # A step may take some microseconds and a look at the keyboard is a system call, so not every step has one.
        if now >= self._keys_read + KEYS_INTERVAL:
            self._keys_read = now
            self._requested = self._pressed() or self._requested
        if self._requested:
            self._requested = False
            with self.paused():
                note(self._line(now), "")
        if now >= self._next and (self._json or self._drawn):
            self._next = now + self._interval
            if self._json:
                self._print_json(now)
            else:
                with self._while_there():
                    self._draw(now)

    def finish(self) -> None:
        """Print the last JSON line."""
        if self._json:
            self._print_json(self._clock())

    def hide(self) -> None:
        """Take the line off the terminal."""
        with self._while_there():
            if self._status:
                self._status.stop()

    @contextmanager
    def _while_there(self) -> Iterator[None]:
        """Draw nothing any more once the terminal has gone. The scan goes on without it."""
        try:
            yield
        except OSError:
            self._status, self._drawn = None, False

    def _print_json(self, now: float) -> None:
        stats = self._measure(now)
        targets = self._session.targets
        facts = {
            "time": round(time.time(), 3), "seconds": round(now - self._started, 3), "targets": targets,
            "asked": targets - stats.remaining, "sent": stats.sent["probe"], "rate": round(self._speed),
            "pass": stats.passes, "answered": stats.answered, "open": stats.opened, "loss": stats.loss,
            "expected_missed": stats.expected_missed, "seconds_left": self._seconds_left(stats, now),
        }  # fmt: skip
        note(json.dumps(facts), "")

    def _draw(self, now: float) -> None:
        if self._status is None:  # most scans draw nothing and need not import rich
            from rich.console import Console

            self._status = Console(stderr=True).status("")
            self._status.start()
        self._status.update(self._line(now))

    def _line(self, now: float) -> str:
        stats = self._measure(now)
        targets = max(1, self._session.targets)
        parts = [
            f"{1 - stats.remaining / targets:.0%} of {targets:,} targets, pass {stats.passes}",
            f"{self._speed:,.0f}/s",
            f"{stats.answered:,} answered, {stats.opened:,} open",
        ]
        if stats.loss is not None:
            parts.append(f"loss {stats.loss:.1%}, {stats.expected_missed:.3f} missed")
        seconds = self._seconds_left(stats, now)
        if seconds is not None:
            minutes, second = divmod(int(seconds), 60)
            parts.append(f"{minutes // 60}:{minutes % 60:02}:{second:02} left")
        return "; ".join(parts)

    def _measure(self, now: float) -> ScanStats:
        """Where the scan stands; updates the speed, in probes per second."""
        stats = self._session.live_stats()
        then, sent = self._sample
        if now - then >= SPEED_INTERVAL:
            self._speed = (stats.sent["probe"] - sent) / (now - then)
            self._sample = (now, stats.sent["probe"])
        return stats

    def _seconds_left(self, stats: ScanStats, now: float) -> float | None:
        """The estimated seconds until every target is probed as often as those so far. None: too early to tell."""
        targets = max(1, self._session.targets)
        probed = targets - stats.remaining
        return round((now - self._started) / probed * stats.remaining, 1) if probed > LEAST_SHARE * targets else None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the line off the terminal while rows are written."""
        self.hide()
        try:
            yield
        finally:
            with self._while_there():
                if self._status:
                    self._status.start()


@contextmanager
def reading(quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> Iterator["Tell"]:
    """Show on a terminal how much of a long list has been read. Yields what `config.choice_of` tells it to."""
    due, drawn = clock() + READING_DELAY, False

    def tell(path: str, done: int, size: int) -> None:
        nonlocal due, drawn
        if quiet or clock() < due or not sys.stderr.isatty():
            return
        due, drawn = clock() + DRAW_INTERVAL, True
        name = "standard input" if path == "-" else escaped(path)
        _overwrite(f"reading {name}: {done / 1e6:,.0f}{f' of {size / 1e6:,.0f}' if size else ''} MB")

    try:
        yield tell
    finally:
        if drawn:
            _overwrite("")


def _overwrite(text: str) -> None:
    """Put a text in place of the last line of the terminal. A closed standard error is ignored."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"\r{text}\x1b[K")  # and erase the rest of the line
        sys.stderr.flush()


@contextmanager
def shown(session: "Session", quiet: bool, verbose: bool, form: str) -> Iterator[Progress]:
    """The progress of a scan while it runs: on a terminal, as JSON, and on request."""
    with _keyboard() as pressed:
        progress = Progress(session, quiet, verbose, form, pressed)
        try:
            with handling(progress.request, signal.SIGUSR1):
                yield progress
            progress.finish()
        finally:
            progress.hide()


@contextmanager
def _keyboard() -> Iterator[Callable[[], bool]]:
    """Read single keys if standard input is the terminal and this process is in its foreground.

    Yields a function: whether a key was pressed since the last call. Keys are not shown and need no Enter, because the
    terminal is not in canonical mode. Ctrl-C still is a signal.
    """
    before: list[Any] | None = None  # the settings of the terminal
    with suppress(OSError, termios.error, ValueError):
        if sys.stdin.isatty() and _in_foreground():
            before = termios.tcgetattr(0)
            tty.setcbreak(0, termios.TCSADRAIN)

    def pressed() -> bool:
        with suppress(OSError):
            return before is not None and bool(select.select([0], [], [], 0)[0] and os.read(0, 1024))
        return False

    try:
        yield pressed
    finally:
        with suppress(OSError, termios.error):
            # In the background the kernel would stop this process for changing the terminal (SIGTTOU).
            if before is not None and _in_foreground():
                termios.tcsetattr(0, termios.TCSADRAIN, before)


def _in_foreground() -> bool:
    return os.tcgetpgrp(0) == os.getpgrp()
