"""Carrying frames: the small interface between a scan and a network interface.

A transport lends out empty rows, is told which of them hold frames to send, and returns what has arrived. It decides
nothing: what to send, when, and what a reply means belong to the scan. The implementations are
`interface_transport` (a receive ring, and senders by AF_XDP or a ring) and `rawip` (loopback, the machine's own
addresses, and any address on request); `tap` shows the frames of any of them.
"""

from collections import Counter
from typing import NamedTuple, Protocol

from ..errors import ScanError
from ..packet.headers import Bytes, Frames


class LinkDown(ScanError):
    """The interface is down, or was since the last look: what it should have carried is lost. It may come back."""


class Drops(NamedTuple):
    """Frames lost inside this machine: by the receive ring, and by the interface while sending."""

    received: int = 0
    sent: int = 0
    tried_again: int = 0  # refused by a full device queue, and sent later: the interface counts them as dropped
    rejected: Counter[str] = Counter()  # frames that are not for this interface, by cause; not lost


class Transport(Protocol):
    """What a scan needs to send and receive. No call blocks. `link`: the LINKTYPE_ number of frames to send."""

    link: int

    def reserve(self, limit: int) -> Bytes:
        """Up to `limit` writable rows, uint8[m, width]; m may be 0. Valid until the next `commit`."""
        ...

    def commit(self, rows: int, length: int) -> None:
        """The first `rows` reserved rows hold frames of `length` bytes: send them."""
        ...

    def sent(self) -> int:
        """How many committed frames have left so far, or were refused. Raises ScanError when sending has stopped."""
        ...

    def refused(self) -> dict[int, str]:
        """Frames that the system has refused to send since the last call: number in the order of `commit`, cause."""
        ...

    def recv(self) -> Frames:
        """What has arrived, possibly nothing. The buffer is a view that is valid until the next `recv`.

        Where nothing has arrived it raises LinkDown while the interface is down, and at least once for each time that
        it was. Raises ScanError if it has gone.
        """
        ...

    def fileno(self) -> int:
        """A descriptor that polls readable when frames have arrived; -1 if there is none."""
        ...

    def drops(self) -> Drops:
        """Frames lost since the start; final only after `close`."""
        ...

    def close(self) -> None:
        """Release sockets and memory. Committed frames that have not left are lost."""
        ...
