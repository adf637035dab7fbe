"""Real listeners inside a namespace.

For a half-open scan a socket in the listening state is a whole service: the kernel answers the SYN, and
our RST ends the matter before anybody would have to accept. So one process holds a thousand open ports
without a thread. Full handshakes (`connect`, `--verify`) fill the backlog, which is large; with
`accepting` one thread takes each connection off it and closes it at once.

Sockets stay in the namespace where they were made, wherever their thread goes afterwards.
"""

import selectors
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType

from .namespace import Namespace

BACKLOG = 65535  # the kernel cuts it to net.core.somaxconn


def _listener(version: int, port: int) -> socket.socket:
    family, anywhere = (socket.AF_INET, "0.0.0.0") if version == 4 else (socket.AF_INET6, "::")
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if version == 6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((anywhere, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


class Listeners:
    """Open TCP ports on every address of a namespace, until `close`."""

    def __init__(
        self, namespace: Namespace, ports: Iterable[int], versions: Iterable[int] = (4, 6), accepting: bool = False
    ) -> None:
        """Listen on each port in each IP version; OSError (port taken, no IPv6) leaves nothing open."""
        self.sockets: list[socket.socket] = []
        self._thread: threading.Thread | None = None
        self._wake, self._woken = socket.socketpair()
        versions = tuple(versions)
        try:
            with namespace.entered():
                self.sockets.extend(_listener(version, port) for port in ports for version in versions)
        except BaseException:
            self.close()
            raise
        if accepting:
            self._thread = threading.Thread(target=self._accept, daemon=True)
            self._thread.start()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            for listener in (*self.sockets, self._woken):
                selector.register(listener, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._woken:
                        return
                    assert isinstance(key.fileobj, socket.socket)
                    with suppress(OSError):  # the peer may be gone before we get to it
                        key.fileobj.accept()[0].close()

    def close(self) -> None:
        """Stop accepting and close every socket; safe to call twice."""
        if self._thread is not None:
            self._wake.send(b"x")
            self._thread.join()
            self._thread = None
        for listener in (*self.sockets, self._wake, self._woken):
            listener.close()
        self.sockets.clear()

    def __enter__(self) -> "Listeners":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
