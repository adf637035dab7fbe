"""Scapy in a process beside ours, while ours is still starting.

Importing Scapy's layers takes 70 to 90 ms, a fifth of the time from the command to the first SYN, and nothing before
the first template needs them. So the verb forks before it imports anything large; the child imports Scapy on
another core and answers recipes with frames, while this process reads options, asks for routes and waits for
rings. A child that cannot be had, or dies, costs nothing but time: then the frame is built here.

Limit: only for a program that has no thread yet, as the command at its start; a library must not fork.
"""

import marshal
import os
import signal
import socket
import sys
import threading
from typing import NoReturn

from .template import Recipe, build

_LONGEST = 4096  # bytes of a message


class Ahead:
    """The helper process as a context manager; `build` as `scapy_frames.build`, `done` when no more is to be built."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._pid = 0
        if len(os.sched_getaffinity(0)) > 1 and threading.active_count() == 1:
            self._start()

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_: object) -> None:
        self.done()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)  # it may still be importing, for a request that was refused
            os.waitpid(self._pid, 0)

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._pid = os.fork()
        except OSError:  # no more processes for this user: not needed, either
            ours.close()
        else:
            if not self._pid:
                ours.close()
                _serve(theirs)
            self._socket = ours
        theirs.close()

    def build(self, recipe: Recipe) -> bytes:
        """The frame of a recipe."""
        frame = b""
        if self._socket:
            try:
                self._socket.send(marshal.dumps(tuple(recipe)))
                frame = self._socket.recv(_LONGEST)
            except OSError:
                pass
        return frame or build(recipe)

    def done(self) -> None:
        """Let the helper go: it ends when nobody can ask any more."""
        if self._socket:
            self._socket.close()
            self._socket = None


def _serve(requests: socket.socket) -> NoReturn:
    """The child's life: Scapy, then frames until nobody asks any more. Ctrl-C is the parent's business."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        build(Recipe("query", 6, "::", "00:00:00:00:00:00"))  # everything is imported by that one
        build(Recipe("syn", 4, "0.0.0.0", None))
        while request := requests.recv(_LONGEST):
            requests.send(build(Recipe(*marshal.loads(request))))
    except BaseException as error:
        print(f"halfopen: Scapy's helper process: {error!r}", file=sys.stderr)
    finally:
        os._exit(0)
