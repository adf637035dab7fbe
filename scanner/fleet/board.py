"""Which pieces of a scan are out, which are done, and what the queue of the server needs.

Pieces are cut from the order of the scan as windows are (`rounds.schedule`): so many hosts that a worker sends for ten
seconds at its share of the rate, which makes 20 to 30 s of work with further passes. Only a few more pieces are out
than there are workers. So pieces fit the number of workers that there are, a slow worker takes fewer of them, and the
state of a scan is small.

The server's queue may lose pieces: its data folder may vanish, or a worker may acknowledge a piece whose rows are then
lost. Pieces that are out and not done are queued again when the queue holds nothing, nobody works on a piece, and no
results wait. That can at most repeat work, because a piece counts once (`attempts`).
"""

from collections.abc import Iterator

from ..errors import UsageError
from ..rounds.schedule import WINDOW_SECONDS, HostRange, Keys, LaneFacts, ResumePoint, Schedule
from ..targets.order import Extent
from .attempts import Attempts, Piece

FLEET = LaneFacts("fleet", 0, 0, "")
OUT_EACH, OUT_LEAST = 2, 4  # pieces that are out, for each worker and at least
PIECES_EACH = 4  # the least number of pieces for each worker, if they are not too small then
USUAL_SHARE = 10_000.0  # frames a second of a worker whose rate nobody knows
MOST_FAILURES = 3  # workers that failed at one piece


class Board:
    """The pieces of one scan."""

    def __init__(self, extent: Extent, keys: Keys, resume: ResumePoint | None = None) -> None:
        """`resume`: an earlier collector stopped there. Raises UsageError if that was another scan's."""
        self._extent, self._keys = extent, keys
        self._lanes = [FLEET._replace(hosts=extent.hosts)]
        at, left = resume.restart(self._lanes) if resume else ((0, 0), ())
        if any(part.chosen is not None for part in left):
            raise UsageError("the state is damaged (it is of no fleet): scan anew")
        self._schedule = Schedule([extent], at)
        # Whether the rows of each piece are whole and wait to be written. Resumed pieces keep their bounds, so what
        # has been kept of them counts.
        self._out = {Piece(part.first, part.size): False for part in left}
        self._failures: dict[Piece, set[str]] = {}
        self.attempts = Attempts()

    @property
    def done(self) -> bool:
        """Whether every piece has been written."""
        return not self._out and self._schedule.exhausted

    @property
    def under_way(self) -> list[Piece]:
        """The pieces that are out and not whole."""
        return [piece for piece, whole in self._out.items() if not whole]

    @property
    def remaining(self) -> int:
        """Targets that are in no whole piece."""
        return self._schedule.remaining + sum(map(self.targets, self.under_way))

    def more(self, workers: int, share: float) -> list[Piece]:
        """Pieces that are to be queued now. `share`: of the rate, for each worker; 0: unknown."""
        wanted = max(OUT_LEAST, OUT_EACH * workers) - len(self.under_way)
        found: list[Piece] = []
        while len(found) < wanted and (cut := self._schedule.next(self._rate(workers, share))):
            found += self._cut(cut, self._rate(workers, share))
        self._out.update(dict.fromkeys(found, False))
        return found

    def _rate(self, workers: int, share: float) -> float:
        few = self._extent.targets / (WINDOW_SECONDS * PIECES_EACH * max(1, workers))
        return max(1.0, min(share or USUAL_SHARE, few))

    def _cut(self, hosts: HostRange, rate: float) -> Iterator[Piece]:
        """A window has at least 16 hosts, so that their loss can be compared. A piece may have one."""
        width = int(self._extent.widths[self._extent.space_at(hosts.first)])
        step = max(1, int(rate * WINDOW_SECONDS) // width)
        for first in range(hosts.first, hosts.first + hosts.size, step):
            yield Piece(first, min(step, hosts.first + hosts.size - first))

    def targets(self, piece: Piece) -> int:
        """How many targets a piece has."""
        return self._extent.targets_before(sum(piece)) - self._extent.targets_before(piece.first)

    def expects(self, piece: Piece) -> bool:
        """Whether results of this piece still count."""
        return self._out.get(piece) is False

    def take_whole(self, piece: Piece) -> None:
        """An attempt of this piece is whole and right: no other one counts from now on."""
        self._out[piece] = True
        self.attempts.drop(piece)

    def take_back(self, piece: Piece) -> None:
        """The rows of a whole attempt were wrong: the piece is still to be scanned."""
        self._out[piece] = False

    def written(self, piece: Piece) -> None:
        """The rows of this piece are in the outputs."""
        del self._out[piece]

    def failed(self, piece: Piece, worker: str) -> int:
        """An attempt of this worker failed. Returns how many workers have failed at the piece."""
        self._failures.setdefault(piece, set()).add(worker)
        return len(self._failures[piece])

    def resume_point(self) -> ResumePoint:
        """What is left to do, once every row that was given out has been written."""
        left = [HostRange(0, *piece) for piece in self._out]
        return ResumePoint(self._keys, self._lanes, self._schedule.at, tuple(left))
