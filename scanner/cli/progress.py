"""How far a scan or the reading of captures is: one line for a person, or JSON lines for a program.

On a terminal rich draws one line on stderr. `--progress json` writes one line per second instead, and one at the end.
Otherwise progress is printed only on request: on SIGUSR1 (`kill -USR1`), or on any key if standard input is the
terminal. What is said comes from a `Source`: `scan_progress` for scans, `capture_progress` for captures.

A scan calls `tick` after every step. Judging a capture has steps of many seconds, so there a thread of its own does it.

The clock is a parameter, so that tests need not wait.
"""

import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import UsageError, escaped, note
from .options import PROGRESS_FORMS
from .signals import handling, of_a_request

if TYPE_CHECKING:
    from ..targets.files import Tell

DRAW_INTERVAL, JSON_INTERVAL, KEYS_INTERVAL = 0.2, 1.0, 0.2  # seconds
READING_DELAY = 0.5  # seconds before the reading of lists is shown
SPEED_INTERVAL = 0.5  # seconds
LOOK_INTERVAL = 0.1  # seconds between ticks of the thread


def check_form(form: str) -> str:
    """Raises UsageError for an unknown form of progress."""
    if form not in PROGRESS_FORMS:
        raise UsageError(f"--progress {form!r} is not one of {', '.join(PROGRESS_FORMS)}")
    return form


class Source(Protocol):
    """What is in progress. `seconds` counts from its start."""

    def news(self) -> Iterable[str]:
        """Lines to print now."""
        ...

    def line(self, seconds: float) -> str:
        """How far it is, for a person."""
        ...

    def facts(self, seconds: float) -> dict[str, Any]:
        """How far it is, for a program."""
        ...


class Speed:
    """How fast a count grows."""

    def __init__(self, interval: float = SPEED_INTERVAL) -> None:
        """`interval`: seconds over which it is measured, at least."""
        self._interval, self._sample, self._speed = interval, (0.0, 0), 0.0

    def at(self, seconds: float, count: int) -> float:
        """Per second, over the latest interval; 0.0 before the first one is over."""
        then, counted = self._sample
        if seconds - then >= self._interval:
            self._speed = (count - counted) / (seconds - then)
            self._sample = (seconds, count)
        return self._speed


def time_left(seconds: float) -> str:
    """As people read it: `0:02:05 left`."""
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02} left"


class Progress:
    """The progress of one scan, or of one reading. `tick` prints what is due; any thread may call it."""

    def __init__(
        self,
        source: Source,
        quiet: bool,
        form: str,
        pressed: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        delay: float = DRAW_INTERVAL,
    ) -> None:
        """`pressed`: whether a key was pressed since the last call. `clock`: seconds, steady.

        `delay`: seconds before the line is drawn first.
        """
        self._source, self._pressed, self._clock = source, pressed, clock
        self._json = form == "json"
        self._drawn = form == "auto" and sys.stderr.isatty() and not quiet
        self._interval = JSON_INTERVAL if self._json else DRAW_INTERVAL
        self._started = self._keys_read = clock()
        self._next = self._started + (JSON_INTERVAL if self._json else delay)
        self._requested = False
        self._status: Any = None  # rich's line on the terminal
        self._turn = threading.RLock()  # of who prints

    def request(self) -> None:
        """Print the progress at the next step."""
        self._requested = True

    def tick(self) -> None:
        """Print what is due at this moment, or what was requested."""
        with self._turn:
            now = self._clock()
            for text in self._source.news():
                note(text, "")
            # A step may take some microseconds and a look at the keyboard is a system call, so not every step has one.
            if now >= self._keys_read + KEYS_INTERVAL:
                self._keys_read = now
                self._requested = self._pressed() or self._requested
            if self._requested:
                self._requested = False
                with self.paused():
                    note(self._source.line(now - self._started), "")
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
        seconds = now - self._started
        facts = {"time": round(time.time(), 3), "seconds": round(seconds, 3), **self._source.facts(seconds)}
        note(json.dumps(facts), "")

    def _draw(self, now: float) -> None:
        if self._status is None:  # most scans draw nothing and need not import rich
            from rich.console import Console

            self._status = Console(stderr=True).status("")
            self._status.start()
        self._status.update(self._source.line(now - self._started))

    def writing(self) -> AbstractContextManager[None]:
        """While rows are written: to a terminal, the line is taken off it."""
        return self.paused() if sys.stdout.isatty() else nullcontext()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the line off the terminal, and draw nothing meanwhile."""
        with self._turn:
            self.hide()
            try:
                yield
            finally:
                with self._while_there():
                    if self._status:
                        self._status.start()


@contextmanager
def reading(quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> Iterator["Tell"]:
    """Show on a terminal how much of a long list has been read, and how many names have been resolved.

    Yields what `config.choice_of` tells it to.
    """
    due, drawn = clock() + READING_DELAY, False

    def tell(path: str | None, done: int, size: int) -> None:
        nonlocal due, drawn
        if quiet or clock() < due or not sys.stderr.isatty():
            return
        due, drawn = clock() + DRAW_INTERVAL, True
        if path is None:
            _overwrite(f"resolving names: {done:,} of {size:,}")
            return
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
def shown(
    source: Source, quiet: bool, form: str, delay: float = DRAW_INTERVAL, by_itself: bool = False
) -> Iterator[Progress]:
    """The progress while a block runs: on a terminal, as JSON, and on request. `by_itself`: nobody else ticks."""
    with _keyboard() as pressed:
        progress = Progress(source, quiet, form, pressed, delay=delay)
        try:
            with handling(progress.request, *of_a_request()), _ticking(progress) if by_itself else nullcontext():
                yield progress
            progress.finish()
        finally:
            progress.hide()


@contextmanager
def _ticking(progress: Progress) -> Iterator[None]:
    """A thread that calls `tick` until the block ends."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(LOOK_INTERVAL):
            progress.tick()

    thread = threading.Thread(target=tick, daemon=True)  # a reader of stderr that stands still holds no exit up
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _keyboard() -> Iterator[Callable[[], bool]]:
    """Read single keys if standard input is the terminal and this process is in its foreground.

    Yields a function: whether a key was pressed since the last call. Keys are not shown and need no Enter, because the
    terminal is not in canonical mode. Ctrl-C still is a signal. Windows has no such terminals.
    """
    try:
        import termios
        import tty
    except ImportError:
        yield lambda: False
        return
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
