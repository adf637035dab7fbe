"""Frames to loopback and to the machine's own addresses.

A frame that is injected on the loopback interface comes back without a route of its own, and the kernel drops it as a
martian. So the stamped bytes go through a raw IP socket, one system call each (about 250,000 a second), and replies
are read from a receive ring on `lo`. Our own probes arrive there as well; they are no replies, and the cookie shows it.

Frames begin with the IP header. The kernel reads the destination there, but requires it as a socket address too.
"""

import socket
from functools import lru_cache

import numpy as np

from ..errors import ScanError
from ..net.netlink import FAMILY
from ..packet.headers import LINK_RAW, Bytes, Frames
from . import Drops
from .ring import NO_PERMISSION, Receiver

_ROWS, _WIDTH = 1024, 256
_DESTINATION = {4: slice(16, 20), 6: slice(24, 40)}  # in the IP header


class RawIpTransport:
    """Send through raw IP sockets, receive from a ring."""

    link = LINK_RAW

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._rows: Bytes = np.zeros((_ROWS, _WIDTH), np.uint8)
        self._sent = self._refused = 0
        try:
            self._sockets = {
                version: socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
                for version, family in FAMILY.items()
            }
        except PermissionError as error:
            raise ScanError(NO_PERMISSION) from error
        self.fileno = receiver.fileno

    def reserve(self, limit: int) -> Bytes:
        return self._rows[:limit]

    def commit(self, rows: int, length: int) -> None:
        version = int(self._rows[0, 0]) >> 4
        send, where = self._sockets[version].sendto, _DESTINATION[version]
        for row in self._rows[:rows, :length]:
            frame = row.tobytes()
            try:
                send(frame, (_name(version, frame[where]), 0))
            except OSError:  # refused by the local firewall or a full buffer: lost, as on a network
                self._refused += 1
        self._sent += rows

    def sent(self) -> int:
        return self._sent

    def recv(self) -> Frames:
        frames = self._receiver.recv()
        if not len(frames):
            self._receiver.link_state.check()
        return frames

    def drops(self) -> Drops:
        return Drops(self._receiver.dropped(), self._refused)

    def close(self) -> None:
        for sender in self._sockets.values():
            sender.close()
        self._receiver.close()


@lru_cache(65536)
def _name(version: int, packed: bytes) -> str:
    """The text of a destination; the socket module reads no packed addresses."""
    return socket.inet_ntop(FAMILY[version], packed)
