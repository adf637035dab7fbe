"""A scan whose system calls fail: `python -m tests.lab.injection CALL ERROR FIRST COUNT VERB …`.

The calls from number FIRST on, COUNT of them, get the error. Everything else of the program is as it is.
"""

import errno
import fcntl
import mmap
import os
import select
import socket
import sys
from collections.abc import Callable
from typing import Any

SOL_PACKET, AF_XDP, SOL_XDP = 263, 44, 283
# Methods of sockets, and which of their calls count: all, or those on packet sockets.
METHODS: dict[str, tuple[str, Callable[..., bool]]] = {
    **{name: (name, lambda *values: True) for name in ("sendto", "send", "setsockopt", "getsockopt", "recv", "bind")},
    "socket": ("__init__", lambda *values: True),
    "packet socket": ("__init__", lambda sock, family=0, *values: family == socket.AF_PACKET),
    "packet bind": ("bind", lambda sock, address: sock.family == socket.AF_PACKET),
    "packet option": ("setsockopt", lambda sock, level, *values: level == SOL_PACKET),
    "xdp socket": ("__init__", lambda sock, family=0, *values: family == AF_XDP),
    "xdp option": ("setsockopt", lambda sock, level, *values: level == SOL_XDP),
    "transmit": ("send", lambda sock, data, *flags: not data),  # what is to be sent is in shared memory
}
FUNCTIONS = {"mmap": mmap, "ioctl": fcntl, "fsync": os, "replace": os, "open": os}


class Failing:
    """The calls of one kind that fail."""

    def __init__(self, error: int, first: int, count: int) -> None:
        self.error, self.first, self.last, self.calls = error, first, first + count, 0

    def due(self) -> bool:
        """Whether the call under way is to fail."""
        self.calls += 1
        return self.first <= self.calls < self.last

    def wrap(self, act: Callable[..., Any], counts: Callable[..., bool] = lambda *values: True) -> Callable[..., Any]:
        """`act`, which fails when it is due; `counts`: whether a call is one of those that are counted."""

        def failing(*values: Any, **named: Any) -> Any:
            if counts(*values) and self.due():
                raise OSError(self.error, os.strerror(self.error))
            return act(*values, **named)

        return failing


class Poller:
    """`select.poll()` or `select.epoll()`, of which `poll` fails."""

    def __init__(self, inner: Any, failing: Failing) -> None:
        self._inner, self.poll = inner, failing.wrap(inner.poll)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def inject(call: str, failing: Failing) -> None:
    """Let calls of this kind fail from now on."""
    if call in METHODS:
        name, counts = METHODS[call]
        setattr(socket.socket, name, failing.wrap(getattr(socket.socket, name), counts))
    elif call in FUNCTIONS:
        setattr(FUNCTIONS[call], call, failing.wrap(getattr(FUNCTIONS[call], call)))
    elif call in ("poll", "epoll"):
        make = getattr(select, call)
        setattr(select, call, lambda: Poller(make(), failing))
    elif call == "connect":

        class Refusing(socket.socket):
            def connect_ex(self, address: Any) -> int:
                return failing.error if failing.due() else super().connect_ex(address)

        socket.SocketType = Refusing  # type: ignore[misc]
    else:
        raise ValueError(call)


def main() -> None:
    """The process."""
    call, error, first, count, *rest = sys.argv[1:]
    from scanner.cli.entry import run

    inject(call, Failing(getattr(errno, error), int(first), int(count)))
    sys.argv = ["halfopen", *rest]
    run()


if __name__ == "__main__":
    main()
