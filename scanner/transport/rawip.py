"""Loopback and the machine's own addresses.

A frame injected on the loopback interface comes back without a route of its own and the kernel
drops it as a martian. So the stamped bytes go through a raw IP socket, one system call each (about
250,000 a second), and replies are read from a receive ring on `lo`. Our own probes are seen there as well;
they are not replies, and the cookie tells.

Frames begin with the IP header. The kernel reads the destination from it, but wants it as a socket address too.
"""

import socket

import numpy as np

from ..errors import ScanError
from ..packet.headers import LINK_RAW, Bytes
from . import Drops
from .ring import NO_PERMISSION, Receiver

_ROWS, _WIDTH = 1024, 256
_NAMES = 65536  # destinations remembered at most
_DESTINATION = {4: slice(16, 20), 6: slice(24, 40)}


class RawIpTransport:
    """Send through raw IP sockets, receive from a ring."""

    link = LINK_RAW

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._rows: Bytes = np.zeros((_ROWS, _WIDTH), np.uint8)
        self._sent = self._refused = 0
        try:
            self._sockets = {
                4: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
                6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW),
            }
        except PermissionError as error:
            raise ScanError(NO_PERMISSION) from error
        self._names: dict[bytes, tuple[str, int]] = {}
        self.recv, self.fileno = receiver.recv, receiver.fileno

    def reserve(self, limit: int) -> Bytes:
        return self._rows[:limit]

    def commit(self, rows: int, length: int) -> None:
        version = int(self._rows[0, 0]) >> 4
        send, where = self._sockets[version].sendto, _DESTINATION[version]
        for row in self._rows[:rows, :length]:
            frame = row.tobytes()
            try:
                send(frame, self._name(frame[where]))
            except OSError:  # refused by the local firewall or a full buffer: as good as lost on the way
                self._refused += 1
        self._sent += rows

    def _name(self, packed: bytes) -> tuple[str, int]:
        name = self._names.get(packed)
        if name is None:
            if len(self._names) >= _NAMES:
                self._names.clear()
            family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
            name = self._names[packed] = (socket.inet_ntop(family, packed), 0)
        return name

    def sent(self) -> int:
        return self._sent

    def drops(self) -> Drops:
        return Drops(self._receiver.dropped(), self._refused)

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
        self._receiver.close()
