"""How far a scan is: a line for people, lines for programs, an answer to whoever asks.

On a terminal rich draws one line on stderr. `--progress json` writes a line a second instead, for programs; the last
comes with the end. In every other case the scan is quiet until it is asked: by SIGUSR1 (`kill -USR1`) or, where
standard input is a terminal of ours, by any key. Open ports are named as they are found with `-v`, because their rows
come only when their window closes.

The time left is reckoned from what each target has cost so far, later passes and waits included.
"""

import json
import os
import select
import signal
import sys
import termios
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Protocol

from ..errors import UsageError
from ..rounds.resume_point import Standing
from ..rounds.statistics import Glance, Sums
from ..verdict.table import Verdict

FORMS = ("auto", "json", "none")
_DRAWN, _TOLD, _LOOKED = 0.2, 1.0, 0.2  # seconds between two drawings, JSON lines, looks at the keyboard
_LEAST_SHARE = 0.01  # of the targets, before the time left is more than a guess


class AnySession(Protocol):
    """What a scan shows to whoever runs it: half-open or full handshake alike."""

    sums: Sums
    opened: deque[tuple[str, int]]

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def glance(self) -> Glance: ...

    def standing(self) -> Standing: ...

    def tally(self) -> Sums: ...

    def batches(
        self, write_silent: bool = True, tick: Callable[[Any], None] | None = None, only_open: bool = False
    ) -> Iterator[Iterable[Verdict]]: ...


def check_form(form: str) -> str:
    """Raises UsageError for a form of progress that there is not."""
    if form not in FORMS:
        raise UsageError(f"--progress {form!r} is not one of {', '.join(FORMS)}")
    return form


class Progress:
    """A context manager; `tick` is called after every step of the session."""

    def __init__(self, session: AnySession, quiet: bool, verbose: bool, form: str = "auto") -> None:
        self._session, self._verbose = session, verbose
        self._json = form == "json"
        self._drawn = form == "auto" and sys.stderr.isatty() and not quiet
        self._status: Any = None
        self._began = self._looked = time.monotonic()
        self._next = self._began + (_TOLD if self._json else _DRAWN)
        self._before = (self._began, 0)  # probes at a moment a little ago
        self._rate = 0.0
        self._asked = False
        self._keys = _Keys()

    def __enter__(self) -> "Progress":
        self._handler = signal.signal(signal.SIGUSR1, self._ask)
        self._keys.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._status:
            self._status.stop()
        if self._json and kind is None:
            self._tell(time.monotonic())
        self._keys.close()
        signal.signal(signal.SIGUSR1, self._handler)

    def _ask(self, number: int, frame: object) -> None:
        self._asked = True

    def tick(self, session: object) -> None:
        """Name what was found; say how far it is, where it is time or somebody asks."""
        if self._verbose:
            self._name_open()
        now = time.monotonic()
        if now >= self._looked + _LOOKED:
            self._looked = now
            self._asked = self._keys.pressed() or self._asked
        if self._asked:
            self._asked = False
            with self.paused():
                _say(self._text(self._session.glance(), now))
        if now >= self._next:
            if self._json:
                self._next = now + _TOLD
                self._tell(now)
            elif self._drawn:
                self._next = now + _DRAWN
                self._draw(now)

    def _tell(self, now: float) -> None:
        glance = self._session.glance()
        targets = self._session.sums.targets
        facts = {
            "time": round(time.time(), 3), "seconds": round(now - self._began, 3), "targets": targets,
            "asked": targets - glance.remaining, "sent": glance.sent, "rate": round(self._speed(glance, now)),
            "pass": glance.passes, "answered": glance.answered, "open": glance.opened, "loss": glance.loss,
            "expected_missed": glance.missed, "seconds_left": self._left(glance, now),
        }  # fmt: skip
        _say(json.dumps(facts))

    def _draw(self, now: float) -> None:
        if self._status is None:
            from rich.console import Console

            self._status = Console(stderr=True).status("")
            self._status.start()
        self._status.update(self._text(self._session.glance(), now))

    def _text(self, glance: Glance, now: float) -> str:
        targets = max(1, self._session.sums.targets)
        parts = [
            f"{1 - glance.remaining / targets:.0%} of {targets:,} targets, pass {glance.passes}",
            f"{self._speed(glance, now):,.0f}/s",
            f"{glance.answered:,} answered, {glance.opened:,} open",
        ]
        if glance.loss is not None:
            parts.append(f"loss {glance.loss:.1%}, {glance.missed:.3f} missed")
        left = self._left(glance, now)
        if left is not None:
            parts.append(f"{int(left) // 3600}:{int(left) // 60 % 60:02}:{int(left) % 60:02} left")
        return "; ".join(parts)

    def _speed(self, glance: Glance, now: float) -> float:
        """Probes a second, over the last second or so."""
        then, sent = self._before
        if now - then >= _TOLD / 2:
            self._rate = (glance.sent - sent) / (now - then)
            self._before = (now, glance.sent)
        return self._rate

    def _left(self, glance: Glance, now: float) -> float | None:
        """Seconds until all targets have been asked as often as those so far; None: too early to tell."""
        targets = max(1, self._session.sums.targets)
        asked = targets - glance.remaining
        return round((now - self._began) / asked * glance.remaining, 1) if asked > _LEAST_SHARE * targets else None

    def _name_open(self) -> None:
        while self._session.opened:
            host, port = self._session.opened.popleft()
            _say(f"open {host} {port}/tcp")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While rows go to a terminal, the line steps aside."""
        if self._status:
            self._status.stop()
        try:
            yield
        finally:
            if self._status:
                self._status.start()


def _say(line: str) -> None:
    """A line on stderr; who does not listen any more takes nothing from the scan."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


class _Keys:
    """The keyboard, if standard input is a terminal and we are in its foreground; a key counts without Enter."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def open(self) -> None:
        with suppress(OSError, termios.error, ValueError):
            if sys.stdin.isatty() and _in_foreground():
                self._before = termios.tcgetattr(0)
                now = termios.tcgetattr(0)
                now[3] &= ~(termios.ICANON | termios.ECHO)  # Ctrl-C stays Ctrl-C
                termios.tcsetattr(0, termios.TCSADRAIN, now)

    def pressed(self) -> bool:
        """Whether a key was pressed since the last look."""
        if self._before is None or not select.select([0], [], [], 0)[0]:
            return False
        with suppress(OSError):
            return bool(os.read(0, 1024))
        return False

    def close(self) -> None:
        if self._before is not None:
            with suppress(OSError, termios.error):
                if _in_foreground():  # or the terminal is somebody else's by now, and would stop us
                    termios.tcsetattr(0, termios.TCSADRAIN, self._before)


def _in_foreground() -> bool:
    return os.tcgetpgrp(0) == os.getpgrp()
