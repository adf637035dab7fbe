"""Frames to loopback and to the machine's own addresses.

A frame that is injected on the loopback interface comes back without a route of its own, and the kernel drops it as a
martian. So the stamped bytes go through a raw IP socket, one system call each (about 250,000 a second), and replies
are read from a receive ring on `lo`. Our own probes arrive there as well; they are no replies, and the cookie shows it.

Frames begin with the IP header. The kernel reads the destination there, but requires it as a socket address too.
"""

import errno
import socket
import time
from collections import deque
from functools import lru_cache

import numpy as np

from ..errors import ScanError
from ..net.netlink import FAMILY
from ..packet.headers import LINK_RAW, Bytes, Frames
from . import Drops
from .ring import NO_PERMISSION, Receiver
from .sending import STUCK_SECONDS

_ROWS, _WIDTH = 1024, 256
_SHORT = (errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN)
_DESTINATION = {4: slice(16, 20), 6: slice(24, 40)}  # in the IP header


class RawIpTransport:
    """Send through raw IP sockets, receive from a ring."""

    link = LINK_RAW

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._rows: Bytes = np.zeros((_ROWS, _WIDTH), np.uint8)
        self._waiting: deque[bytes] = deque()
        self._sent = self._dropped = 0
        self._refused: dict[int, str] = {}
        self._progress = time.monotonic()
        try:
            self._sockets = {
                version: socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
                for version, family in FAMILY.items()
            }
        except PermissionError as error:
            raise ScanError(NO_PERMISSION) from error
        self.fileno = receiver.fileno

    def reserve(self, limit: int) -> Bytes:
        self._send()
        return self._rows[: 0 if self._waiting else limit]

    def commit(self, rows: int, length: int) -> None:
        if not self._waiting:
            self._progress = time.monotonic()
        self._waiting.extend(row.tobytes() for row in self._rows[:rows, :length])
        self._send()

    def _send(self) -> None:
        """Send what waits. Where memory is short for a moment the rest waits for the next call."""
        while self._waiting:
            frame = self._waiting[0]
            version = frame[0] >> 4
            try:
                self._sockets[version].sendto(frame, (_name(version, frame[_DESTINATION[version]]), 0))
            except OSError as error:
                if error.errno in _SHORT:
                    self._give_up_after(STUCK_SECONDS, error)
                    return
                # The firewall of this machine (EPERM), or no way out: the frame has not left and never will.
                self._refused[self._sent] = error.strerror or str(error)
                self._dropped += 1
            self._waiting.popleft()
            self._sent += 1

    def _give_up_after(self, seconds: float, error: OSError) -> None:
        if time.monotonic() - self._progress > seconds:
            raise ScanError(f"no frame to this machine could be sent for {seconds:.0f} s: {error.strerror}") from error

    def sent(self) -> int:
        self._send()
        return self._sent

    def refused(self) -> dict[int, str]:
        refused, self._refused = self._refused, {}
        return refused

    def recv(self) -> Frames:
        frames = self._receiver.recv()
        if not len(frames):
            self._receiver.link_state.check()
        return frames

    def drops(self) -> Drops:
        return Drops(self._receiver.dropped(), self._dropped)

    def close(self) -> None:
        for sender in self._sockets.values():
            sender.close()
        self._receiver.close()


@lru_cache(65536)
def _name(version: int, packed: bytes) -> str:
    """The text of a destination; the socket module reads no packed addresses."""
    return socket.inet_ntop(FAMILY[version], packed)
