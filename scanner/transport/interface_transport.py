"""A receive ring and one or more senders on one interface.

With several senders, several processors carry frames into the driver: each has a thread inside the kernel's send(),
while the scan's own thread stamps. Batches go to the senders in turn. A batch counts as sent only when
all batches before it are, because the scan learns what has left as one running number.
"""

from collections import deque
from threading import Thread

from ..packet.headers import Bytes, Frames
from . import Drops, LinkDown
from .ring import Receiver
from .sending import Sender


class InterfaceTransport:
    """`receiver` and `senders`, at least one, of one interface."""

    def __init__(self, receiver: Receiver, senders: list[Sender]) -> None:
        self._receiver, self._senders = receiver, senders
        self.link = receiver.link
        self.fileno = receiver.fileno
        self._turn = 0  # the sender that takes the next batch
        self._sent = 0
        self._committed = [0] * len(senders)
        self._batches: deque[tuple[int, int, int]] = deque()  # sender, frames committed to it up to this batch, frames

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
        left = [sender.sent() for sender in self._senders]
        while self._batches and left[self._batches[0][0]] >= self._batches[0][1]:
            self._sent += self._batches.popleft()[2]
        return self._sent

    def refused(self) -> dict[int, str]:
        return {}  # the kernel takes every frame; see `Sender` for what it does not send

    def recv(self) -> Frames:
        frames = self._receiver.recv()
        if not len(frames):  # what arrived before a failure comes first
            try:
                self._receiver.link_state.check()
            except LinkDown:
                for sender in self._senders:
                    sender.wait_for_link()
                raise
        return frames

    def drops(self) -> Drops:
        tried_again = sum(sender.tried_again for sender in self._senders)
        return Drops(self._receiver.dropped(), tried_again=tried_again, rejected=self._receiver.rejected)

    def close(self) -> None:
        """Close all sockets at once: for each packet socket the kernel waits some 20 ms until no processor uses it."""
        threads = [Thread(target=sender.close) for sender in self._senders]
        for thread in threads:
            thread.start()
        self._receiver.close()
        for thread in threads:
            thread.join()
