"""Each piece counts once: which batches of which attempts have been kept, and which attempt of a piece is whole first.

The server delivers a piece again when its worker seems to be gone, and messages may come twice, late and in any order.
So a piece can have several attempts, by one worker or by two. An attempt counts when all its batches are there and its
end says how many there are. The first whole attempt of a piece is taken. Everything else of that piece is dropped,
before and afterwards, so no row can come twice, and rows of two attempts are never mixed.

Attempts are told apart by a number that the worker draws. The server's count of deliveries would not do: it begins
anew when the server has lost its data.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

MOST_ATTEMPTS = 16  # of one piece that are kept at the same time


class Piece(NamedTuple):
    """A stretch of the order of hosts: the position of its first one, and how many."""

    first: int
    size: int


@dataclass
class _Attempt:
    batches: set[int] = field(default_factory=set)
    of: int | None = None  # how many batches it has, once its end is there

    @property
    def whole(self) -> bool:
        return self.of is not None and len(self.batches) == self.of


class Attempts:
    """What has been kept of the pieces that are not done."""

    def __init__(self) -> None:
        self._open: dict[Piece, dict[str, _Attempt]] = {}

    def wants(self, piece: Piece, attempt: str, batch: int | None) -> bool:
        """Whether this batch (None: the end) is new. `piece` is not done."""
        known = self._open.get(piece, {}).get(attempt, _Attempt())
        if batch is None:
            return known.of is None
        return batch not in known.batches and (known.of is None or batch < known.of)

    def add_batch(self, piece: Piece, attempt: str, batch: int) -> bool:
        """A batch has been kept. Returns whether its attempt is whole now."""
        known = self._attempt(piece, attempt)
        known.batches.add(batch)
        return known.whole

    def add_end(self, piece: Piece, attempt: str, of: int) -> bool:
        """The end of an attempt with so many batches has been kept. Returns whether it is whole now."""
        known = self._attempt(piece, attempt)
        known.of = of
        known.batches = {batch for batch in known.batches if batch < of}
        return known.whole

    def _attempt(self, piece: Piece, attempt: str) -> _Attempt:
        attempts = self._open.setdefault(piece, {})
        if attempt not in attempts and len(attempts) >= MOST_ATTEMPTS:
            del attempts[next(iter(attempts))]  # the oldest
        return attempts.setdefault(attempt, _Attempt())

    def drop(self, piece: Piece, attempt: str | None = None) -> None:
        """Forget an attempt, or all of a piece, which is done."""
        if attempt is None:
            self._open.pop(piece, None)
        else:
            self._open.get(piece, {}).pop(attempt, None)
