"""Carrying frames: the one small surface between the scan and a wire.

A transport lends out empty rows, is told which of them are ready, and hands back what arrived. It
decides nothing: what to send, when, and what a reply means belong to the scan. The implementations are `ring`
(AF_PACKET rings), `rawip` (loopback and the machine's own addresses) and `memory` (a seeded network
inside the process, for tests).
"""

from typing import NamedTuple, Protocol

from ..packet.headers import Bytes, Frames


class Drops(NamedTuple):
    """Frames lost inside this machine: by the receive ring, and by the interface while sending."""

    received: int = 0
    sent: int = 0
    tried_again: int = 0  # refused by a full device queue, and sent later: the interface counts them as dropped


class Transport(Protocol):
    """What the scan needs of a wire. None of the calls blocks. `link`: the LINKTYPE_ number of frames to send."""

    link: int

    def reserve(self, limit: int) -> Bytes:
        """Up to `limit` writable rows, uint8[m, width]; m may be 0. Valid until the next `commit`."""
        ...

    def commit(self, rows: int, length: int) -> None:
        """The first `rows` reserved rows hold frames of `length` bytes: send them."""
        ...

    def sent(self) -> int:
        """How many committed frames have left so far. Raises ScanError when sending has stopped for good."""
        ...

    def recv(self) -> Frames:
        """What has arrived, possibly nothing. The buffer is a view that dies at the next `recv`."""
        ...

    def fileno(self) -> int:
        """A descriptor that polls readable when frames have arrived; -1 if there is none."""
        ...

    def drops(self) -> Drops:
        """Frames lost since the start; final only after `close` was asked for."""
        ...

    def close(self) -> None:
        """Give everything back. Committed frames that have not left are lost."""
        ...
