"""Sending: slots that the kernel takes frames from, and a thread that calls send() while any slot waits.

send() releases the interpreter lock. So one thread does nothing but call it, while the scan stamps the next slots. What
the slots are belongs to their kind: `ring` (AF_PACKET transmit ring) or `xdp` (AF_XDP).

A frame counts as sent when its slot is free again. Slots are used in order, and a batch is counted as a whole.
"""

import errno
import threading
import time
from collections import deque
from typing import Protocol

from ..errors import ScanError
from ..packet.headers import Bytes, Ints

STUCK_SECONDS = 5.0
STALLED_SECONDS = 0.02
FULL_PAUSE = 0.0005  # seconds; within this time a full device queue sends some hundred frames


class Slots(Protocol):
    """Memory that is shared with the kernel, as slots of equal size that are used in turn."""

    count: int

    def writable(self, first: int, limit: int) -> Bytes:
        """The free slots from `first` on as rows, uint8[m, width]: at most `limit`, without wrapping."""
        ...

    def hand_over(self, first: int, rows: int, length: int | Ints) -> None:
        """The kernel may send these slots, frames of `length` bytes (one number, or one each)."""
        ...

    def left(self, first: int, rows: int) -> bool:
        """Whether the kernel is done with all of these slots. Raises ScanError if it refused one as malformed."""
        ...

    def waiting(self) -> bool:
        """Whether slots have been handed over that the kernel has not taken."""
        ...

    def send(self) -> None:
        """Let the kernel take slots. Raises OSError; ENOBUFS says that the device queue is full."""
        ...

    def close(self) -> None: ...


class Sender:
    """Sends what is written into `slots`, through the interface of this name."""

    def __init__(self, interface: str, slots: Slots) -> None:
        self.interface, self._slots = interface, slots
        self._head = 0  # the slot that is used next
        self._batches: deque[tuple[int, int]] = deque()  # that have not left yet: first slot, frames
        self._committed = self._freed = 0
        self._progress = time.monotonic()
        self._failed: OSError | None = None
        self.tried_again = 0  # frames that a full device queue refused at first
        self._closing = False
        self._ready = threading.Event()
        # It starts with the first frame: by then the process has given up its rights, and a thread has those of its
        # creator.
        self._thread = threading.Thread(target=self._pump, name=f"send {interface}", daemon=True)

    def reserve(self, limit: int) -> Bytes:
        """Up to `limit` writable rows, as `Transport.reserve`."""
        # What a link that has stalled does not take now must not leave as a burst later.
        if self._batches and time.monotonic() - self._progress > STALLED_SECONDS:
            self.sent()
            if self._batches:
                limit = 0
        # A batch has left when its slots are free, so no slot is written anew before its batch has been counted.
        free = self._slots.count - (self._committed - self.sent())
        return self._slots.writable(self._head, min(limit, free, self._slots.count - self._head))

    def commit(self, rows: int, length: int | Ints) -> None:
        """The first `rows` reserved rows hold frames of `length` bytes: send them."""
        self._slots.hand_over(self._head, rows, length)
        if not self._batches:
            self._progress = time.monotonic()
        self._batches.append((self._head, rows))
        self._head = (self._head + rows) % self._slots.count
        self._committed += rows
        if self._thread.ident is None:
            self._thread.start()
        self._ready.set()

    def sent(self) -> int:
        """Frames that have left, in whole batches. Raises ScanError after 5 s without progress."""
        while self._batches and self._slots.left(*self._batches[0]):
            self._freed += self._batches.popleft()[1]
            self._progress = time.monotonic()
        if self._batches and time.monotonic() - self._progress > STUCK_SECONDS:
            cause = f": {self._failed.strerror}" if self._failed else ""
            raise ScanError(f"{self.interface} has sent nothing for {STUCK_SECONDS:.0f} s{cause}; does a rule of "
                            "this machine (nft, type filter hook egress) drop its frames?")  # fmt: skip
        return self._freed

    def wait_for_link(self) -> None:
        """The interface is known to be down: this is no reason to give up."""
        self._progress = time.monotonic()

    def _pump(self) -> None:
        """Send while any slot waits. After an error the slot still waits: pause a little, go on."""
        while not self._closing:
            self._ready.wait()
            self._ready.clear()
            while not self._closing and self._slots.waiting():
                try:
                    self._slots.send()
                except OSError as error:
                    self._failed = error
                    self.tried_again += error.errno == errno.ENOBUFS
                    time.sleep(FULL_PAUSE)

    def close(self) -> None:
        """Stop the thread and release the slots. What has not left is lost."""
        self._closing = True
        self._ready.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._slots.close()
