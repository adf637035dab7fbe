"""Progress for people: one line on stderr, while stderr is a terminal.

rich draws it; it is imported only when there is a terminal to draw on. Open ports are named as they are
found with `-v`, because their rows come only when their window closes.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol

from .standing import Standing
from .sums import Glance, Sums
from .verdict import Verdict

_INTERVAL = 0.2


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


class Progress:
    """A context manager; `tick` is called after every step of the session."""

    def __init__(self, session: AnySession, quiet: bool, verbose: bool) -> None:
        self._session, self._verbose = session, verbose
        self._shown = sys.stderr.isatty() and not quiet
        self._status: Any = None
        self._next = time.monotonic() + _INTERVAL

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._status:
            self._status.stop()

    def tick(self, session: object) -> None:
        """Name what was found; redraw a few times a second."""
        if self._verbose:
            self._name_open()
        if self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + _INTERVAL
            self._draw()

    def _draw(self) -> None:
        if self._status is None:
            from rich.console import Console

            self._status = Console(stderr=True).status("")
            self._status.start()
        sent, passes, replies = self._session.glance()
        share = min(1.0, sent / max(1, self._session.sums.targets))
        self._status.update(f"{sent:,} probes ({share:.0%} of targets), pass {passes}, {replies:,} replies")

    def _name_open(self) -> None:
        while self._session.opened:
            host, port = self._session.opened.popleft()
            print(f"open {host} {port}/tcp", file=sys.stderr)

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
