"""Open TCP ports inside a namespace.

A listening socket is enough for a half-open scan: the kernel answers the SYN, and the scanner's RST ends the handshake.
So one process holds a thousand open ports and needs no thread. Full handshakes (`connect`, `--verify`) stay in the
backlog, which is long.

A socket stays in the namespace where it was made, even when its thread moves on.
"""

import socket
from collections.abc import Iterable

from .namespace import Namespace

BACKLOG = 65535  # the kernel cuts it to net.core.somaxconn


class Listeners:
    """Open TCP ports on every address of a namespace, until `close`."""

    def __init__(self, namespace: Namespace, ports: Iterable[int], versions: Iterable[int] = (4, 6)) -> None:
        """Listen on each port in each IP version; OSError (port taken, no IPv6) leaves nothing open."""
        self.sockets: list[socket.socket] = []
        versions = tuple(versions)
        try:
            with namespace.entered():
                self.sockets.extend(_listener(version, port) for port in ports for version in versions)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every socket; safe to call twice."""
        for listener in self.sockets:
            listener.close()
        self.sockets.clear()

    def __enter__(self) -> "Listeners":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _listener(version: int, port: int) -> socket.socket:
    family, any_address = (socket.AF_INET, "0.0.0.0") if version == 4 else (socket.AF_INET6, "::")
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if version == 6:
            # Otherwise an IPv6 socket takes IPv4 connections too, and the IPv4 socket finds its port taken.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((any_address, port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
