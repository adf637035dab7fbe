"""A receive ring and the senders of one interface.

Up to 50,000 frames a second go through the queueing layer, where taps of this machine see them: tcpdump beside a scan
shows its probes. Faster ones go past it. What asks for room for many frames at once is faster, because a token bucket
holds 10 ms of the rate.

With several fast senders, several processors carry frames into the driver: each has a thread inside the kernel's
send(), while the scan's own thread stamps. Batches go to them in turn. A batch counts as sent only when all batches
before it are, because the scan learns what has left as one running number.
"""

from collections import deque
from threading import Thread
from typing import NamedTuple

from ..packet.headers import Bytes, Frames
from . import Drops, LinkDown
from .ring import Receiver
from .sending import Sender

ORDINARY_RATE = 50_000  # frames a second that taps see
_ORDINARY_BATCH = ORDINARY_RATE // 100  # 10 ms of it


class Senders(NamedTuple):
    """The senders of an interface: of few frames at once, which taps see, and of many. One of both may be missing."""

    seen: Sender | None
    fast: list[Sender]


class InterfaceTransport:
    """`receiver` and `senders` of one interface."""

    def __init__(self, receiver: Receiver, senders: Senders) -> None:
        self._receiver, self._fast = receiver, len(senders.fast)
        self._senders = senders.fast if senders.seen is None else [*senders.fast, senders.seen]
        self.link = receiver.link
        self.fileno = receiver.fileno
        self._turn = 0  # the fast sender that takes the next batch
        self._chosen = 0  # the sender whose rows are lent out
        self._sent = 0
        self._committed = [0] * len(self._senders)
        self._batches: deque[tuple[int, int, int]] = deque()  # sender, frames committed to it up to this batch, frames

    def reserve(self, limit: int) -> Bytes:
        if not self._fast or (len(self._senders) > self._fast and limit <= _ORDINARY_BATCH):
            self._chosen = self._fast
            return self._senders[self._fast].reserve(limit)
        for _ in range(self._fast):
            self._chosen, self._turn = self._turn, (self._turn + 1) % self._fast
            rows = self._senders[self._chosen].reserve(limit)
            if len(rows):
                break
        return rows

    def commit(self, rows: int, length: int) -> None:
        self._senders[self._chosen].commit(rows, length)
        self._committed[self._chosen] += rows
        self._batches.append((self._chosen, self._committed[self._chosen], rows))

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
