"""Many connect() calls at once, through the sockets of an ordinary user.

The kernel does the handshake; this module keeps account of the calls. A call is started without blocking, epoll says
when it has an answer, and the answer is an error number. `OUTCOMES` is the whole table of what connect() can say about
a target. Some errors speak of this machine instead (no descriptor, no port, no memory). Then nothing was sent, and the
caller waits and tries again with fewer calls at once.

This loop decides the speed of the scan, so it does little. Sockets are of the bare C type and never block. Closing a
socket takes it out of epoll. An established connection is closed by a reset (SO_LINGER with a time of 0), so that no
TIME_WAIT entries collect here and no FIN exchange follows. A socket that never connected sends nothing when it closes.

Limits: the kernel repeats a SYN by itself after one second, so a call that counts as one probe must be given up before
that (`PATIENCE`); a later answer is lost, because the socket is gone. The kernel maps several ICMP codes to one error:
a port unreachable arrives as "refused", a prohibited host as "unreachable".

Sources: connect(2), tcp(7), socket(7); net/ipv4/icmp.c (icmp_err_convert); net/ipv4/tcp_input.c (tcp_reset:
ECONNREFUSED only while the SYN is out, ECONNRESET only after the SYN/ACK).
"""

import errno
import os
import resource
import select
import socket
from collections import deque
from collections.abc import Callable
from time import monotonic_ns, time_ns
from typing import Generic, NamedTuple, TypeVar

from ..errors import ScanError
from ..verdict.table import Reason

Owner = TypeVar("Owner")
WaitOf = Callable[[Owner, int], float]  # owner and target id → seconds
SECOND = 1_000_000_000  # ns

RETRY = Reason.NONE  # the error says nothing of the target: this machine was short of something

OUTCOMES: dict[int, Reason] = {
    0: Reason.SYN_ACK,
    errno.ECONNRESET: Reason.SYN_ACK,  # connected, and reset before we looked
    errno.ECONNREFUSED: Reason.CONN_REFUSED,
    errno.EACCES: Reason.ADMIN_PROHIBITED,
    errno.EPERM: Reason.ADMIN_PROHIBITED,
    errno.ENOPROTOOPT: Reason.PROTO_UNREACH,
    errno.EHOSTUNREACH: Reason.HOST_UNREACH,
    errno.ENETUNREACH: Reason.NET_UNREACH,
    errno.ENONET: Reason.DEST_UNREACH,
    errno.ETIMEDOUT: Reason.NO_RESPONSE,  # also when we gave up ourselves
    errno.EHOSTDOWN: Reason.NO_RESPONSE,
    errno.EMFILE: RETRY,
    errno.ENFILE: RETRY,
    errno.EADDRNOTAVAIL: RETRY,
    errno.ENOBUFS: RETRY,
}

_ABOUT_TARGET = {code for code, reason in OUTCOMES.items() if reason is not RETRY}

PATIENCE = 0.95  # seconds: the kernel sends its second SYN after 1 s (TCP_TIMEOUT_INIT)
SPARE_DESCRIPTORS = 64  # for outputs, libraries and the terminal
MOST_CALLS = 16_384  # at once, whatever the descriptor limit

_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_RESET_ON_CLOSE = b"\1\0\0\0\0\0\0\0"  # struct linger { l_onoff = 1, l_linger = 0 }
_IP_BIND_ADDRESS_NO_PORT = 24  # include/uapi/linux/in.h: the port is chosen by connect(), for the whole 4-tuple


def steady_clock() -> Callable[[], int]:
    """A clock of nanoseconds since 1970 that never jumps."""
    offset = time_ns() - monotonic_ns()
    return lambda: monotonic_ns() + offset


def descriptor_room() -> int:
    """How many calls may be open at once: the soft descriptor limit is raised to the hard one first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = MOST_CALLS if hard == resource.RLIM_INFINITY else min(MOST_CALLS, hard - SPARE_DESCRIPTORS)
    if room < 1:
        raise ScanError(f"the descriptor limit of {hard} leaves no room for connections; raise it (ulimit -n 1024)")
    return room


class LocalEnd(NamedTuple):
    """Where calls come from, if the routes are not to decide: an address of this machine, the name of an interface."""

    address: str | None = None
    interface: str | None = None


ANYWHERE = LocalEnd()


class Outcome(NamedTuple, Generic[Owner]):
    """How a call ended: owner and target id, an error number of `OUTCOMES`, times in ns, and the socket if kept."""

    owner: Owner
    target_id: int
    code: int
    started: int
    ended: int
    connection: socket.SocketType | None


class _Call(NamedTuple, Generic[Owner]):
    """One call under way. `fd` is its number in epoll, -1 for a call that was answered at once."""

    socket: socket.SocketType
    fd: int
    owner: Owner
    target_id: int
    started: int  # ns


class Calls(Generic[Owner]):
    """The calls under way. `ended` collects outcomes until `take`.

    With `keep`, an established connection is handed over open with its outcome, and the taker closes it.
    """

    def __init__(
        self, local_end: LocalEnd = ANYWHERE, keep: bool = False, clock: Callable[[], int] = monotonic_ns
    ) -> None:
        self.ended: list[Outcome[Owner]] = []
        self.shortage = 0  # the error number of the latest start that failed for lack of something
        self._local_end, self._keep, self._clock = local_end, keep, clock
        self._plain = local_end == ANYWHERE
        self._epoll = select.epoll()
        self._open: dict[int, _Call[Owner]] = {}
        self._young: deque[_Call[Owner]] = deque()  # in the order of their start
        self._old: deque[_Call[Owner]] = deque()  # those that get the full patience

    def __len__(self) -> int:
        return len(self._open)

    def start(self, owner: Owner, target_id: int, host: str, port: int) -> bool:
        """Call host:port. False: nothing was started, this machine is short of `shortage`."""
        started = self._clock()
        try:
            call = socket.SocketType(socket.AF_INET6 if ":" in host else socket.AF_INET, _STREAM)
        except OSError as error:
            return self._short(error.errno or 0)
        if not self._plain:
            self._bind(call)
        code = call.connect_ex((host, port))
        if code == errno.EINPROGRESS:
            # On loopback and virtual links the answer arrives while connect() runs; a look is cheaper than epoll.
            code = call.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.EINPROGRESS
        if code == errno.EINPROGRESS:
            fd = call.fileno()
            self._epoll.register(fd, select.EPOLLOUT)
            self._open[fd] = entry = _Call(call, fd, owner, target_id, started)
            self._young.append(entry)
            return True
        if OUTCOMES.get(code) is RETRY:
            call.close()
            return self._short(code)
        if code and code in _ABOUT_TARGET:
            # Most calls over fast links end here. No connection stands, so there is nothing to reset.
            call.close()
            self.ended.append(Outcome(owner, target_id, code, started, self._clock(), None))
            return True
        self._settle(_Call(call, -1, owner, target_id, started), code, self._clock())
        return True

    def _short(self, code: int) -> bool:
        if OUTCOMES.get(code) is not RETRY:
            raise _stop(code)
        self.shortage = code
        return False

    def _bind(self, call: socket.SocketType) -> None:
        try:
            if self._local_end.interface:
                call.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._local_end.interface.encode())
            if self._local_end.address:
                call.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                call.bind((self._local_end.address, 0))
        except OSError as error:
            call.close()
            wanted = " ".join(filter(None, self._local_end))
            raise ScanError(f"cannot connect from {wanted}: {error.strerror}; is it this machine's?") from error

    def collect(self, seconds: float) -> None:
        """Take in answers. Waits up to `seconds` for the first one."""
        ready = self._epoll.poll(seconds, max(1, len(self._open)))
        now = self._clock()
        for fd, _ in ready:
            entry = self._open.pop(fd)
            self._settle(entry, entry.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), now)

    def give_up(self, least: float, wait_of: WaitOf[Owner]) -> None:
        """End calls that are unanswered for too long: `wait_of(owner, target_id)` seconds, and `least` at least."""
        now = self._clock()
        for queue, look in ((self._young, least), (self._old, 0.0)):
            while queue:
                entry = queue[0]
                # An entry that has ended stays in its queue until it comes to the front; its descriptor may be in use
                # again by another call.
                if self._open.get(entry.fd) is entry:
                    age = (now - entry.started) / SECOND
                    if age < look:
                        break  # those behind it are younger
                    if age >= wait_of(entry.owner, entry.target_id):
                        del self._open[entry.fd]
                        self._settle(entry, errno.ETIMEDOUT, now)
                    elif queue is self._young:
                        self._old.append(entry)
                    else:
                        break
                queue.popleft()

    def due(self, least: float, wait_of: WaitOf[Owner]) -> float:
        """In how many seconds the next call may have to be given up; infinity when there is none."""
        now = self._clock()
        left = [least - (now - queue[0].started) / SECOND for queue in (self._young,) if queue]
        left += [
            wait_of(entry.owner, entry.target_id) - (now - entry.started) / SECOND for entry in list(self._old)[:1]
        ]
        return max(0.0, min(left, default=float("inf")))

    def _settle(self, entry: "_Call[Owner]", code: int, now: int) -> None:
        if code not in _ABOUT_TARGET:
            entry.socket.close()
            raise _stop(code)
        kept = None
        if code == 0 and _met_itself(entry.socket):
            code = errno.ECONNREFUSED  # nothing listens there
        if code == 0 and self._keep:
            kept = entry.socket
            if entry.fd >= 0:
                self._epoll.unregister(entry.fd)
        else:
            hang_up(entry.socket)
        self.ended.append(Outcome(entry.owner, entry.target_id, code, entry.started, now, kept))

    def take(self) -> list[Outcome[Owner]]:
        """The outcomes since the last time."""
        ended, self.ended = self.ended, []
        return ended

    def close(self) -> None:
        """Drop every call that is under way, without an outcome."""
        for entry in self._open.values():
            hang_up(entry.socket)
        self._open.clear()
        self._young.clear()
        self._old.clear()
        self._epoll.close()


def _met_itself(connection: socket.SocketType) -> bool:
    """Whether a call to our own address was given the very port that it calls, and connected to itself."""
    try:
        return bool(connection.getsockname() == connection.getpeername())
    except OSError:  # it has been reset meanwhile
        return False


def hang_up(connection: socket.SocketType) -> None:
    """Close: an established connection by a reset, a call under way without a packet."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    connection.close()


def error_text(code: int) -> str:
    """The error number's name and words."""
    return f"{errno.errorcode.get(code, code)} ({os.strerror(code)})"


def _stop(code: int) -> ScanError:
    hint = "a link-local address (fe80::) needs --interface" if code == errno.EINVAL else "see connect(2)"
    return ScanError(f"connect() failed with {error_text(code)}: {hint}")
