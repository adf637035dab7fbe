"""A scan by a fleet, as the command runs any scan: batches of rows, numbers, stop and resume.

A batch is a piece. Its rows leave once, when the piece is whole and its rows have been checked; the resume point holds
the pieces whose rows have not left. So outputs and the state file work as for a scan of one machine, and what is in
the files is exactly the pieces that the state calls done.

Limit: the rows of a piece are in memory at once.
"""

import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from hashlib import sha256
from typing import Any, NamedTuple

from ..config import PUBLIC_RATE, SynConfig, keys_of
from ..errors import ScanError, UsageError, escaped
from ..results.read import read_results
from ..rounds.rows import NO_NAMES, Names
from ..rounds.schedule import Keys, ResumePoint
from ..rounds.statistics import ScanStats, stats_of
from ..targets.spaces import Spaces
from ..targets.special import any_public
from ..transport.steady import steady_clock
from ..verdict.rows import Verdict
from ..verdict.table import State
from .attempts import Piece
from .board import Board
from .collector import Collector
from .gather import Gather, Whole
from .job import Job, piece_of
from .leases import LEASE_SECONDS, Leases
from .link import Access, Link
from .rows import WrongRows, checked
from .spool import Spool

WORKERS_SECONDS = 10.0  # so long a scan waits for its first worker
ALONE_SECONDS = 15.0  # without any worker, until the user is told
TURN_SECONDS = 0.05
Say = Callable[[str], None]


class Wanted(NamedTuple):
    """What a fleet is to do. `tag`: only workers that have it; `state`: the file of --resume."""

    verb: str
    spaces: Spaces
    config: SynConfig
    access: Access
    tag: str | None = None
    silent: bool = True
    only_open: bool = False
    state: str | None = None


class FleetSession:
    """One scan by a fleet. Iterate over `batches`. `stop` may be called from a signal handler."""

    def __init__(self, wanted: Wanted, resume: ResumePoint | None, say: Say) -> None:
        """Connect, and wait for the first worker. Raises UsageError; then nothing has been sent."""
        if wanted.spaces.hosts.zones:
            raise UsageError("link-local targets (%interface) belong to this machine: scan them without --fleet")
        keys = resume.keys if resume else keys_of(wanted.config)
        job, rate = _job(wanted, keys), _rate(wanted)
        self._board = Board(job.order.extent, keys, resume)
        self._job, self._say, self._order = job, say, job.order
        self.names: Names = wanted.spaces.hosts.names or NO_NAMES
        self.opened: list[tuple[str, int]] = []
        self.naming = False
        self._alone_since: float | None = None
        self._clock, self._stops = steady_clock(), 0
        self._total = ScanStats(targets=job.order.extent.targets, asked_rate=wanted.config.rate, started=time.time())
        self._total.unresolved = wanted.spaces.hosts.unresolved
        self._began, self._opened = time.monotonic(), 0
        self._resumable, self._given, self._saved = wanted.state is not None, list[Piece](), list[Piece]()
        leases = Leases(rate, time.monotonic() + LEASE_SECONDS if resume else 0.0)
        link = Link(wanted.access, "halfopen collector")
        self._spool = Spool(job.scan, wanted.state)
        self._gather = Gather(job.scan, self._board, self._spool)
        self._gather.take_kept()
        self._collector = Collector(link, job, self._board, self._gather, leases, wanted.tag)
        try:
            self._collector.begin()
            self._meet(wanted.tag)
        except BaseException:
            self._close()
            raise

    def _meet(self, tag: str | None) -> None:
        """Wait for a worker. Raises UsageError where none comes."""
        until = time.monotonic() + WORKERS_SECONDS
        while not (self._collector.workers or self._stops):
            if time.monotonic() > until or self._collector.lost:
                refused = "; ".join(f"{name}: {cause}" for name, cause in sorted(self._collector.refusals.items())[:5])
                tagged = f" with the tag {tag}" if tag else ""
                advice = f"these refuse: {refused}" if refused else "start one with halfopen worker"
                raise UsageError(f"{self._collector.lost or f'no worker{tagged} takes this scan'}: {escaped(advice)}")
            time.sleep(TURN_SECONDS)

    @property
    def targets(self) -> int:
        """All targets of the scan."""
        return self._total.targets

    @property
    def interrupted(self) -> bool:
        """Whether the scan was stopped."""
        return self._total.interrupted

    @property
    def unfinished(self) -> bool:
        """Whether a resumed scan has pieces to scan."""
        return not self._board.done

    @property
    def crew(self) -> str:
        """Who works, for the line of progress."""
        count = len(self._collector.workers)
        return "1 worker" if count == 1 else f"{count} workers"

    def now(self) -> int:
        """The clock of the scan: ns since 1970, steady."""
        return self._clock()

    def stop(self) -> None:
        """Queue nothing more, and end."""
        self._stops += 1
        self._total.interrupted = True

    def resume_point(self) -> ResumePoint:
        """What is left to do, once every row that was given out has been written."""
        for piece in self._saved:  # they are in a state that has been written
            self._spool.forget(piece)
        self._saved, self._given = self._given, []
        with self._collector.lock:
            return self._board.resume_point()

    def batches(
        self, write_silent: bool = True, tick: Callable[[], None] | None = None, only_open: bool = False
    ) -> Generator[Iterable[Verdict], None, None]:
        """The rows of each piece. (`write_silent` and `only_open` are the job's.) Raises ScanError."""
        self._began = time.monotonic()
        self._collector.queue_pieces()
        try:
            while not self._board.done and not self._stops:
                yield from self._next()
                if tick:
                    tick()
        except ScanError:
            self._total.interrupted = True
            raise
        finally:
            self.stats()
            self._close()

    def _next(self) -> Generator[Iterable[Verdict], None, None]:
        """The rows of a piece that is whole, or a short wait. Raises ScanError."""
        while self._gather.failures:
            self._say(escaped(f"worker {self._gather.failures.popleft()}"))
        if not self._gather.whole:
            if cause := self._collector.lost or self._gather.hopeless:
                raise ScanError(f"the fleet cannot go on: {escaped(cause)}")
            self._look_for_workers()
            time.sleep(TURN_SECONDS)
            return
        with self._collector.lock:
            whole = self._gather.whole.popleft()
        try:
            rows, stats = self._rows(whole), stats_of(whole.end["stats"])
        except (WrongRows, UsageError, TypeError, ValueError) as error:
            self._collector.ban(whole.end["worker"])
            with self._collector.lock:
                self._gather.reject(whole, f"its results are wrong: {error}")
            return
        with self._collector.lock:
            self._board.written(whole.piece)
        self._given.append(whole.piece)
        self._count(rows, stats)
        yield rows
        if not self._resumable:
            self._spool.forget(whole.piece)

    def _look_for_workers(self) -> None:
        """Say once that nobody works."""
        now = time.monotonic()
        if self._collector.workers:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now > self._alone_since + ALONE_SECONDS:
            self._alone_since = float("inf")
            self._say("no worker is there: the scan waits for one; Ctrl-C ends it")

    def _rows(self, whole: Whole) -> list[Verdict]:
        """The rows of a piece, checked. Raises WrongRows, UsageError."""
        paths = self._spool.batches(whole.piece, whole.attempt, whole.end["batches"])
        part, names = piece_of(self._job, self._order, *whole.piece), self.names
        rows = checked(read_results(paths, lambda text: None), part)
        return [row._replace(hostname=names[row.ip]) if row.ip in names else row for row in rows]

    def _count(self, rows: list[Verdict], stats: ScanStats) -> None:
        same: dict[str, Any] = {"seconds": 0.0, "sending_seconds": 0.0, "started": self._total.started}
        self._total = self._total.after(replace(stats, **same))
        found = [(row.ip, row.port) for row in rows if row.state == State.OPEN.value and row.port is not None]
        self._opened += len(found)
        self.opened += found if self.naming else []

    def stats(self) -> ScanStats:
        """The statistics of the pieces that are done."""
        self._total.seconds = self._total.sending_seconds = time.monotonic() - self._began
        return self._total

    def live_stats(self) -> ScanStats:
        """The same, for progress."""
        with self._collector.lock:
            remaining = self._board.remaining
        return replace(self.stats(), opened=self._opened, remaining=remaining)

    def close(self) -> None:
        """Give everything back, if the scan is not to be run after all."""
        self._close()

    def _close(self) -> None:
        if not self._ended:
            self._ended = True
            self._collector.end(self.interrupted)
            self._spool.close(self._board.done)

    _ended = False


def _job(wanted: Wanted, keys: Keys) -> Job:
    """The scan is named by its secret key, which the state of --resume keeps."""
    config = wanted.config
    return Job(
        sha256(keys.cookie.to_bytes()).hexdigest()[:16], wanted.verb, wanted.spaces, keys.order,
        replace(config, rate=None, max_rate=None, seed=None, shard=type(config.shard)()), config.rate is None,
        config.shard, wanted.silent, wanted.only_open,
    )  # fmt: skip


def _rate(wanted: Wanted) -> float:
    """The rate of the whole fleet; 0: no limit."""
    config = wanted.config
    if config.rate is not None:
        return config.rate
    return config.max_rate or (PUBLIC_RATE if any_public(wanted.spaces.hosts) else 0.0)
