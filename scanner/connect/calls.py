"""Many connect() calls at once, through the sockets of an ordinary user.

The kernel does the handshake; this module keeps account of the calls. A call is started without blocking, epoll says
when it has an answer, and the answer is an error number (`outcomes`). Some errors speak of this machine, which is short
of descriptors, ports or memory. Then nothing was sent, and the caller waits and tries again with fewer calls at once.

Every frame takes a token out of the bucket of the scan, also those that the kernel sends (see `handshake`). What is
owed leaves before new calls: first the ACKs of handshakes, because the kernel sends them by itself after a while, then
the resets that end connections.

This loop decides the speed of the scan, so it does little. Sockets are of the bare C type and never block. Closing a
socket takes it out of epoll.

Limits: the kernel repeats a SYN by itself after one second, so a call that counts as one probe must be given up before
that (`PATIENCE`); a later answer is lost, because the socket is gone.

Sources: connect(2), tcp(7), socket(7).
"""

import errno
import heapq
import resource
import select
import socket
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Generic, NamedTuple

from ..errors import ScanError
from ..rounds.pacing import SECOND, Budget
from .handshake import FIRST_REPEAT, LATER_REPEATS, Call, Owner
from .local_end import ANYWHERE, LocalEnd
from .outcomes import ABOUT_TARGET, OUTCOMES, REFUSALS, RETRY, unexpected

WaitOf = Callable[[Owner, int], float]  # owner and target id → seconds

# Seconds: the kernel sends its second SYN after 1 s (TCP_TIMEOUT_INIT), and its third after 2 s (3 s before Linux 6.5).
PATIENCE, LONG_PATIENCE = 0.95, 1.95
RECHECK = 0.2  # seconds
SPARE_DESCRIPTORS = 64  # for outputs, libraries and the terminal
MOST_CALLS = 16_384  # at once, whatever the descriptor limit

_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


def descriptor_room() -> int:
    """How many calls may be open at once: the soft descriptor limit is raised to the hard one first."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = MOST_CALLS if hard == resource.RLIM_INFINITY else min(MOST_CALLS, hard - SPARE_DESCRIPTORS)
    if room < 1:
        raise ScanError(f"the descriptor limit of {hard} leaves no room for connections; raise it (ulimit -n 1024)")
    return room


class Outcome(NamedTuple, Generic[Owner]):
    """How a call ended: owner and target id, an error number of `OUTCOMES`, times in ns, and the call if kept."""

    owner: Owner
    target_id: int
    code: int
    started: int
    ended: int
    connection: Call[Owner] | None


class Calls(Generic[Owner]):
    """The calls under way. `ended` collects outcomes until `take`.

    With `keep`, an established connection is handed over open with its outcome, and the taker gives it back by
    `hang_up`.
    """

    def __init__(
        self, budget: Budget, local_end: LocalEnd = ANYWHERE, keep: bool = False,
        clock: Callable[[], int] = monotonic_ns,
    ) -> None:  # fmt: skip
        self.ended: list[Outcome[Owner]] = []
        self.refused: list[tuple[Owner, int, int]] = []  # calls that this machine refused: owner, target id, error
        self.shortage = 0  # the error number of the latest start that failed for lack of something
        self.budget = budget
        self.local_end, self._keep, self._clock = local_end, keep, clock
        self._plain = local_end == ANYWHERE
        self._epoll = select.epoll()
        self._open: dict[int, Call[Owner]] = {}
        self._checks: list[tuple[int, int, Call[Owner]]] = []  # when each call may have to be given up, ns: a heap
        self._repeats: list[tuple[int, int, Call[Owner]]] = []  # when the kernel sends a SYN again, ns: a heap
        self._acks: deque[Call[Owner]] = deque()  # established, and the kernel holds the ACK back
        self._resets: deque[Call[Owner]] = deque()  # to be closed
        self._margins = 0  # tokens that calls have given back
        self._asked: set[str] = set()  # neighbours whose MAC address the kernel has been made to ask for

    def __len__(self) -> int:
        return len(self._open) + len(self._acks) + len(self._resets)

    @property
    def owing(self) -> bool:
        """Whether ACKs or resets wait for the rate."""
        return bool(self._acks or self._resets)

    def room(self, now: int, limit: int) -> int:
        """How many frames new calls may send now, at most `limit`: what is owed leaves first."""
        self._pay(now)
        return 0 if self.owing else self.budget.bucket.allowed(now, limit)

    def start(
        self, owner: Owner, target_id: int, host: str, port: int, kind: str = "probe", patience: float = PATIENCE,
        on_link: bool = False,
    ) -> int:  # fmt: skip
        """Call host:port, as a frame of this kind. Returns how many tokens that took out of the bucket.

        `patience`: the most seconds until the call is given up. `on_link`: the kernel asks for the MAC address of the
        host. 0: nothing was started, this machine is short of `shortage`. See also `refused`.
        """
        started = self._clock()
        try:
            connection = socket.SocketType(socket.AF_INET6 if ":" in host else socket.AF_INET, _STREAM)
        except OSError as error:
            return self._short(error.errno or 0)
        if not self._plain:
            self.local_end.bind(connection)
        call = Call(connection, owner, target_id, started)
        call.hold_ack()
        code = connection.connect_ex(self.local_end.name_of(host, port))
        if code in REFUSALS:
            connection.close()
            self.refused.append((owner, target_id, code))
            self.budget.bucket.spend(1)  # nothing has left, but refusals must not keep the machine busy
            return 1
        if code == errno.EINPROGRESS:
            # On loopback and virtual links the answer arrives while connect() runs; a look is cheaper than epoll.
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.EINPROGRESS
        if OUTCOMES.get(code) is RETRY:
            connection.close()
            return self._short(code)
        self.budget.spend(kind, 1)
        asks = on_link and host not in self._asked
        if asks:
            self._asked.add(host)
            self.budget.spend("query")
        if code == errno.EINPROGRESS:
            return 1 + asks + self._wait_for(call, patience)
        self._settle(call, code, self._clock())
        return 1 + asks

    def _wait_for(self, call: Call[Owner], patience: float) -> int:
        """An answer is to come. Returns how many tokens were taken for a SYN that the kernel may repeat."""
        call.fd = call.socket.fileno()
        self._epoll.register(call.fd, select.EPOLLOUT)
        self._open[call.fd] = call
        self._check(call, call.started, patience)
        if patience <= PATIENCE:
            return 0
        call.margin = True
        heapq.heappush(self._repeats, (call.started + FIRST_REPEAT, id(call), call))
        if self._margins:
            self._margins -= 1
            return 0
        self.budget.bucket.spend(1)
        return 1

    def _short(self, code: int) -> int:
        if OUTCOMES.get(code) is not RETRY:
            raise unexpected(code)
        self.shortage = code
        return 0

    def collect(self, seconds: float) -> None:
        """Take in answers, and send what is owed. Waits up to `seconds` for the first answer, or for the rate."""
        if self.owing:
            seconds = min(seconds, self.budget.bucket.wait())
        ready = self._epoll.poll(seconds, max(1, len(self._open)))
        now = self._clock()
        for fd, _ in ready:
            call = self._open.pop(fd)
            self._settle(call, call.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), now)
        self._count_repeats(now)
        self._pay(now)

    def _count_repeats(self, now: int) -> None:
        """The first repeat of a SYN is counted when it is due, later ones when they have left."""
        while self._repeats and self._repeats[0][0] <= now:
            due, key, call = heapq.heappop(self._repeats)
            if self._open.get(call.fd) is call:
                if due == call.started + FIRST_REPEAT:
                    call.expect_repeat(self.budget)
                    due += LATER_REPEATS
                else:
                    call.count_repeats(self.budget)
                    due += SECOND
                heapq.heappush(self._repeats, (due, key, call))

    def _pay(self, now: int) -> None:
        """Send the ACKs and resets that the rate allows."""
        allowed = self.budget.bucket.allowed(now, 2 * len(self._acks) + len(self._resets)) if self.owing else 0
        while allowed > 0 and self.owing:
            if self._resets and not self._acks:
                allowed -= self._resets.popleft().reset(self.budget)
                continue
            call = self._acks.popleft()
            allowed -= call.acknowledge(self.budget)
            if self._keep:
                self._end(call, 0, call)
            else:
                self._resets.append(call)

    def _check(self, call: Call[Owner], now: int, left: float) -> None:
        """Look at the call again when its time is over, or sooner, because its host may show that it is near."""
        heapq.heappush(self._checks, (now + int(min(left, RECHECK) * SECOND), id(call), call))

    def give_up(self, wait_of: WaitOf[Owner]) -> None:
        """End calls that are unanswered for too long: `wait_of(owner, target_id)` seconds."""
        now = self._clock()
        while self._checks and self._checks[0][0] <= now:
            call = heapq.heappop(self._checks)[2]
            if self._open.get(call.fd) is call:
                left = wait_of(call.owner, call.target_id) - (now - call.started) / SECOND
                if left > 0:
                    self._check(call, now, left)
                else:
                    del self._open[call.fd]
                    self._settle(call, errno.ETIMEDOUT, now)

    def due(self) -> float:
        """In how many seconds the next call may have to be given up; infinity when there is none."""
        return max(0.0, (self._checks[0][0] - self._clock()) / SECOND) if self._checks else float("inf")

    def _settle(self, call: Call[Owner], code: int, now: int) -> None:
        """The call is answered, or given up."""
        if code not in ABOUT_TARGET:
            call.close()
            raise unexpected(code)
        call.ended = now
        if now - call.started >= FIRST_REPEAT:
            call.count_repeats(self.budget)
        elif call.margin:
            self._margins += 1
        if not code and call.fd >= 0:
            self._epoll.unregister(call.fd)
        if code == errno.ECONNRESET:
            call.look(self.budget)
        if code:
            call.close()
        elif call.met_itself:
            code = errno.ECONNREFUSED  # nothing listens there
            self._resets.append(call)
        else:
            self._acks.append(call)
            if self._keep:
                return  # the outcome is told when the ACK has left
        self._end(call, code, None)

    def _end(self, call: Call[Owner], code: int, kept: Call[Owner] | None) -> None:
        self.ended.append(Outcome(call.owner, call.target_id, code, call.started, call.ended, kept))

    def hang_up(self, call: Call[Owner]) -> None:
        """End a connection that was handed over, when the rate allows."""
        self._resets.append(call)

    def take(self) -> list[Outcome[Owner]]:
        """The outcomes since the last time."""
        ended, self.ended = self.ended, []
        return ended

    def close(self) -> None:
        """Drop every call, without an outcome and without regard to the rate."""
        for call in (*self._open.values(), *self._acks, *self._resets):
            call.close()
        for calls in (self._open, self._acks, self._resets, self._repeats, self._checks):
            calls.clear()
        self._epoll.close()
