"""One piece, scanned by the ordinary engine under a lease that may end at any moment.

Before each turn of the engine the lease is looked at, so nothing leaves after it is over: then the scan of the piece
ends at once, and what it has learned does not count. A new rate takes effect with the next turn.

The rows become JSON lines in batches, and each batch is one message. Limit: they are all kept in memory until the piece
is done.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from ..errors import ScannerError
from ..output.jsonl import line
from ..rounds.session import Session
from ..rounds.statistics import ScanStats
from ..targets.spaces import Spaces
from ..verdict.rows import Verdict
from .job import Job

CHUNK = 512  # rows that are made into text at once
MOST_NAMED = 1000  # entries of each counter that an end carries


class Task(NamedTuple):
    """A piece to scan. `rate`: frames a second that may be sent now (0: no limit), or None; asked before each turn."""

    job: Job
    part: Spaces
    rate: Callable[[], float | None]
    most_bytes: int  # of a batch


class Done(NamedTuple):
    """What came of it. `cause`: why the piece was not scanned; `cut`: its lease was over. Then there are no batches."""

    batches: list[bytes]
    stats: dict[str, Any]
    cause: str | None = None
    cut: bool = False


def scan_piece(task: Task, warn: Callable[[str], None]) -> Done:
    """Scan a piece."""
    rate = task.rate()
    if rate is None:
        return Done([], {}, cut=True)
    job, batches = task.job, list[bytes]()
    try:
        session = _session(task, rate, warn)
        guard = _Guard(session, task.rate, rate)
        session.before_turn = guard.look
        with closing(session):
            rows = (row for batch in session.batches(job.silent, None, job.only_open) for row in batch)
            batches += _batches(rows, task.most_bytes)
    except ScannerError as error:
        return Done([], {}, cause=str(error)[:500])
    return Done([], {}, cut=True) if session.interrupted else Done(batches, stats_document(session.stats()))


class _Guard:
    """What is asked before each turn."""

    def __init__(self, session: Session, allowed: Callable[[], float | None], rate: float) -> None:
        self._session, self._allowed, self._rate = session, allowed, rate

    def look(self) -> None:
        rate = self._allowed()
        if rate is None:
            self._session.stop()
            self._session.stop()  # at once: replies to what has left do not count either
        elif rate != self._rate:
            self._rate = rate
            self._session.engine.limit(rate)


def _session(task: Task, rate: float, warn: Callable[[str], None]) -> Session:
    """Raises UsageError or ScanError."""
    job = task.job
    config = replace(job.config, max_rate=rate or None) if job.auto else replace(job.config, rate=rate)
    if job.verb == "connect":
        from ..connect.probing import with_routes
        from ..connect.scan import connect_session

        return connect_session(task.part.within(with_routes(task.part.hosts, config, warn)), config)
    from ..halfopen.session import syn_session

    return syn_session(task.part, config, warn)


def _batches(rows: Iterable[Verdict], most: int) -> Iterator[bytes]:
    """Rows as JSON lines, at most so many bytes in each batch."""
    lines, size, each = list[bytes](), 0, iter(rows)
    while texts := [line(row).encode("utf-8", "backslashreplace") for row in islice(each, CHUNK)]:
        added = sum(map(len, texts))
        if lines and size + added > most:
            yield b"".join(lines)
            lines, size = [], 0
        lines += texts
        size += added
    if lines:
        yield b"".join(lines)


def stats_document(stats: ScanStats) -> dict[str, Any]:
    """The numbers of a piece, in a message."""
    cut = {
        name: dict(value.most_common(MOST_NAMED))
        for name, value in vars(stats).items()
        if hasattr(value, "most_common")
    }
    return stats.as_json() | cut
