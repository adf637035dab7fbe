"""What the collector does with each message that carries results: keep it, drop it, or find that a piece is whole.

A message may be acknowledged when `take` has returned: then it is in the store, or nobody needs it. The store is a
folder (`spool`), or a dictionary in tests. Another collector that goes on with the scan begins with what the store has.

Limit: a worker that is not trusted can fill the store with batches of pieces that are out, up to a bound for each
attempt that follows from the number of targets.
"""

import json
from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from .attempts import Piece
from .board import MOST_FAILURES, Board
from .messages import BadMessage, Message, decode, decode_result

LEAST_BATCH = 500  # rows in a batch that is not the last one: a row has at most some 900 bytes


class Kept(NamedTuple):
    """One message in a store. `batch`: None for the end of an attempt; `data`: the rows, or the end as JSON."""

    piece: Piece
    attempt: str
    batch: int | None
    data: bytes


class Store(Protocol):
    """Where results stay until they are written."""

    def keep(self, kept: Kept) -> None: ...  # it is on the disk when this returns

    def forget(self, piece: Piece, attempt: str | None = None) -> None: ...

    def all(self) -> Iterable[Kept]: ...


class Whole(NamedTuple):
    """A piece whose rows are all in the store, under this attempt."""

    piece: Piece
    attempt: str
    end: Message


class Gather:
    """The results of one scan."""

    def __init__(self, scan: str, board: Board, store: Store) -> None:
        self._scan, self._board, self._store = scan, board, store
        self._ends: dict[tuple[Piece, str], Message] = {}
        self.whole: deque[Whole] = deque()  # in the order in which they became so
        self.dropped: Counter[str] = Counter()  # messages, by cause
        self.hopeless: str | None = None  # why a piece cannot be scanned
        self.failures: deque[str] = deque()  # what workers said of attempts that failed
        self.workers = 0  # that there are

    def take_kept(self) -> None:
        """What an earlier collector has left in the store, once the pieces that are left are known to be out."""
        for kept in list(self._store.all()):
            if not self._board.expects(kept.piece):
                self._store.forget(kept.piece, kept.attempt)
                continue
            try:
                self._add(kept)
            except BadMessage:  # the disk was full, or somebody changed it
                self._store.forget(kept.piece, kept.attempt)

    def take(self, data: bytes) -> None:
        """A message. Raises OSError if it cannot be kept: then it is not to be acknowledged."""
        try:
            message, rows = decode_result(data)
        except BadMessage as error:
            self.dropped[str(error)] += 1
            return
        piece, attempt = Piece(message["first"], message["size"]), str(message["attempt"])
        if message["scan"] != self._scan or not self._board.expects(piece):
            self.dropped["of no piece that is out"] += 1
        elif message["kind"] == "end" and message["failed"] is not None:
            self._fail(piece, message)
        else:
            self._keep(Kept(piece, attempt, message.get("batch"), rows or json.dumps(message).encode("ascii")))

    def _keep(self, kept: Kept) -> None:
        if kept.batch is not None and kept.batch > self._board.targets(kept.piece) // LEAST_BATCH + 1:
            self.dropped["more batches than a piece has"] += 1
        elif not self._board.attempts.wants(kept.piece, kept.attempt, kept.batch):
            self.dropped["a second time"] += 1
        else:
            self._store.keep(kept)
            self._add(kept)

    def _add(self, kept: Kept) -> None:
        """Something is in the store."""
        piece, attempt, batch, data = kept
        if batch is None:
            end = decode(data, "end")
            self._ends[piece, attempt] = end
            whole = self._board.attempts.add_end(piece, attempt, end["batches"])
        else:
            whole = self._board.attempts.add_batch(piece, attempt, batch)
        if whole:
            self._board.take_whole(piece)
            self.whole.append(Whole(piece, attempt, self._ends[piece, attempt]))
            self._ends = {key: end for key, end in self._ends.items() if key[0] != piece}

    def reject(self, whole: Whole, cause: str) -> None:
        """The rows of an attempt turned out to be wrong: its piece is to be scanned once more."""
        self._store.forget(whole.piece, whole.attempt)
        self._board.take_back(whole.piece)
        self._fail(whole.piece, {**whole.end, "failed": cause})

    def _fail(self, piece: Piece, message: Message) -> None:
        self.failures.append(f"{message['worker']}: {message['failed']}")
        if self._board.failed(piece, message["worker"]) >= max(1, min(MOST_FAILURES, self.workers)):
            self.hopeless = message["failed"]
