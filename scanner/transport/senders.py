"""Several transmit rings on one interface, used in turn: one processor each carries frames into the driver.

A sender is a ring and a thread inside the kernel's send(); stamping stays with the scan's own
thread. Batches go round; a batch counts as sent only when all batches before it are, because the
scan learns what has left as one running number.
"""

from collections import deque

from ..packet.headers import Bytes
from .ring import Sender


class Senders:
    """The transmit half made of several rings."""

    def __init__(self, senders: list[Sender]) -> None:
        self._senders = senders
        self._turn = 0
        self._sent = 0
        self._committed = [0 for _ in senders]
        self._batches: deque[tuple[int, int, int]] = deque()  # ring, its running number, frames

    @property
    def tried_again(self) -> int:
        """Frames that a full device queue refused at first."""
        return sum(each.tried_again for each in self._senders)

    def reserve(self, limit: int) -> Bytes:
        for _ in self._senders:
            rows = self._senders[self._turn].reserve(limit)
            if len(rows):
                break
            self._turn = (self._turn + 1) % len(self._senders)
        return rows

    def commit(self, rows: int, length: int) -> None:
        turn = self._turn
        self._senders[turn].commit(rows, length)
        self._committed[turn] += rows
        self._batches.append((turn, self._committed[turn], rows))
        self._turn = (turn + 1) % len(self._senders)

    def sent(self) -> int:
        done = [each.sent() for each in self._senders]
        while self._batches and done[self._batches[0][0]] >= self._batches[0][1]:
            self._sent += self._batches.popleft()[2]
        return self._sent

    def close(self) -> None:
        for each in self._senders:
            each.close()
