"""Full handshakes with targets that answered a SYN: is a service there, or only something that answers for it?

A SYN/ACK shows that something answers for a port. A SYN proxy answers every SYN itself, with a closed window, and
calls the service only when the handshake is complete. What happens next tells:

- `handshake-completed`: the window is open, or opens soon, and the connection stands.
- `handshake-refused`: the connection is refused, at the handshake or by a reset just after it. A proxy passes on the
  reset of a host on which nothing listens.
- `silent-after-handshake`: the window stays closed, or the handshake is never answered. A proxy does this when its
  host drops the packets, rejects them with ICMP, or is absent.

So every connection is watched for the reset for a moment (`SETTLE`, and twice its own round trip). One with a closed
window is watched for `WAIT`, in which the SYN of a proxy may be lost and sent again. No data is sent.

A host that seems open on every port is also probed on random high ports, but never on those that the user excludes.
Where these complete as well, its open ports say little (`all-open`).

Limits: a rule of this machine's own firewall against the handshake looks like the target's: `silent-after-handshake`
where it drops, `handshake-refused` where it rejects. A call that connect() itself refuses gives no evidence, and that
is not said. A tarpit that opens its window looks like a slow service. Kernels before 5.4 do not report the window;
there every connection that stands is complete. Source of the offsets: include/uapi/linux/tcp.h (struct tcp_info).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import ScanError
from ..packet.addresses import to_text
from ..packet.headers import Bools, Rows
from ..rounds.pacing import SECOND, Budget
from ..rounds.window import Window
from ..targets.permutation import Permutation
from ..targets.ports import Ports
from ..verdict.ledger import Mark
from ..verdict.table import Rank, Reason
from .calls import PATIENCE, Calls, Outcome, descriptor_room
from .handshake import CLOSE_WAIT, CLOSED, INFO_BYTES, Call
from .local_end import ANYWHERE, LocalEnd
from .outcomes import OUTCOMES, error_text

CONCURRENT = 256
SETTLE = 0.05  # seconds after the handshake in which a reset would come
WAIT = 3.5  # for an answer, or for a window to open: the kernel's (a proxy's) SYNs leave after 0, 1 and 3 s
ATTEMPTS = 3  # at a handshake that nothing answers
LOOK = 0.005  # seconds between two looks at the connections that stand
MOST_SHORT = 2000  # starts in a row that this machine had no room for
CONTROL_PORTS = 4
HIGH = (49152, 65535)  # RFC 6335, section 6: dynamic ports, which no service is assigned

_SND_WND = slice(228, 232)  # where tcpi_snd_wnd lies in struct tcp_info

Clock = Callable[[], int]  # ns


class _Watched(NamedTuple):
    """A connection that is established and watched."""

    call: Call[None]
    since: int  # ns of the clock
    trip: int  # ns that the handshake took

    def judge(self, info: bytes, now: int, wait: float) -> Mark | None:
        """What it has shown so far, by its TCP_INFO; None: too early to say."""
        age = now - self.since
        if info[0] == CLOSED:
            return Mark.HANDSHAKE_REFUSED
        if info[0] == CLOSE_WAIT:
            return Mark.HANDSHAKE_COMPLETED
        if len(info) < INFO_BYTES or any(info[_SND_WND]):
            return Mark.HANDSHAKE_COMPLETED if age >= max(SETTLE * SECOND, 2 * self.trip) else None
        return Mark.SILENT_AFTER_HANDSHAKE if age >= wait * SECOND else None


class Verification:
    """Handshakes with some targets, at most `CONCURRENT` at once. Call `step` until `done`; then read `marks`.

    The ids of its calls are indices of `hosts` and `ports`.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        ports: Sequence[int],
        budget: Budget,
        clock: Clock,
        local_end: LocalEnd = ANYWHERE,
        wait: float = WAIT,
        on_link: bool = False,
    ) -> None:
        """`on_link`: the kernel asks for the MAC address of each host."""
        assert len(hosts) == len(ports)
        self.marks = [Mark(0)] * len(hosts)
        self.connected = [False] * len(hosts)  # whether a SYN/ACK came, whatever followed
        self._hosts, self._ports, self._clock, self._wait = hosts, ports, clock, wait
        self._on_link = on_link
        self._room = min(CONCURRENT, descriptor_room())
        self._todo = list(range(len(hosts)))[::-1]
        self._attempts = [0] * len(hosts)
        self._calls: Calls[None] = Calls(budget, local_end, keep=True, clock=clock)
        self._watched: list[_Watched] = []
        self._short = 0  # such starts so far

    @property
    def done(self) -> bool:
        """Whether every target has its mark."""
        return not (self._todo or len(self._calls) or self._watched)

    def step(self) -> None:
        """Start, take in and watch what is due; waits `LOOK` at most."""
        self._start()
        self._calls.collect(0 if self._calls.ended else LOOK)
        self._calls.give_up(lambda owner, index: self._wait)
        for outcome in self._calls.take():
            self._take(outcome)
        now = self._clock()
        watched, self._watched = self._watched, []
        for connection in watched:
            call = connection.call
            mark = connection.judge(call.look(self._calls.budget), now, self._wait)
            if mark is None:
                self._watched.append(connection)
            else:
                self.marks[call.target_id] = mark
                self._calls.hang_up(call)

    def _start(self) -> None:
        room = self._room - len(self._calls) - len(self._watched)
        tokens = self._calls.room(self._clock(), max(0, room))
        while tokens > 0 and self._todo:
            target_id = self._todo.pop()
            host, port = self._hosts[target_id], self._ports[target_id]
            paid = self._calls.start(None, target_id, host, port, "handshake", self._wait, self._on_link)
            if not paid:
                self._todo.append(target_id)
                self._run_short()
                return
            tokens -= paid
            self._short = 0
            self._attempts[target_id] += 1

    def _run_short(self) -> None:
        self._room, self._short = max(1, self._room // 2), self._short + 1
        if self._short > MOST_SHORT:
            raise ScanError(f"connect() keeps failing with {error_text(self._calls.shortage)}: close other programs")

    def _take(self, outcome: Outcome[None]) -> None:
        target_id = outcome.target_id
        self.connected[target_id] = OUTCOMES[outcome.code] is Reason.SYN_ACK
        if outcome.connection is not None:
            trip = outcome.ended - outcome.started
            self._watched.append(_Watched(outcome.connection, self._clock(), trip))
        elif OUTCOMES[outcome.code] is not Reason.NO_RESPONSE:
            self.marks[target_id] = Mark.HANDSHAKE_REFUSED
        elif self._attempts[target_id] < ATTEMPTS:
            self._todo.insert(0, target_id)
        else:
            self.marks[target_id] = Mark.SILENT_AFTER_HANDSHAKE

    def close(self) -> None:
        """Drop what is under way; targets without a mark keep none."""
        for watched in self._watched:
            watched.call.close()
        self._watched.clear()
        self._calls.close()


def verify(
    hosts: Sequence[str], ports: Sequence[int], budget: Budget, clock: Clock, local_end: LocalEnd = ANYWHERE,
    wait: float = WAIT, on_link: bool = False,
) -> Verification:  # fmt: skip
    """A handshake with each hosts[i]:ports[i]; then `marks[i]` is one of the three marks. Blocks until all have one."""
    verification = Verification(hosts, ports, budget, clock, local_end, wait, on_link)
    try:
        while not verification.done:
            verification.step()
    finally:
        verification.close()
    return verification


def verify_window(
    window: Window, budget: Budget, clock: Clock, local_end: LocalEnd = ANYWHERE, wait: float = WAIT,
    on_link: bool = False,
) -> None:  # fmt: skip
    """Mark each open target of a closed window in its ledger. Blocks. `on_link`: its hosts are on the link."""
    targets = np.flatnonzero(window.ledger.rank(slice(None)) == Rank.OPEN)
    host, port_index = np.divmod(targets, window.width)
    ports = window.ports[port_index].tolist()
    found = verify(to_text(window.hosts[host]), ports, budget, clock, local_end, wait, on_link)
    marks = np.array(found.marks, np.uint16)
    for mark in np.unique(marks).tolist():
        window.ledger.mark(targets[marks == mark], Mark(mark))


def control_ports(barred: Ports, key: int, count: int = CONTROL_PORTS) -> list[int]:
    """`count` keyed random high ports without the barred ones (probed or excluded); fewer where nearly all are."""
    first, last = HIGH
    order = Permutation(last - first + 1, key).forward(np.arange(last - first + 1)).astype(np.int64) + first
    chosen: list[int] = order[~np.isin(order, barred)][:count].tolist()
    return chosen


def find_open_everywhere(
    window: Window, excluded: Ports, key: int, budget: Budget, clock: Clock, local_end: LocalEnd = ANYWHERE
) -> None:
    """Probe control ports of hosts whose every probed port is open; sets `window.open_everywhere`. Blocks."""
    opened = (window.ledger.rank(slice(None)) == Rank.OPEN).reshape(len(window.hosts), window.width)
    suspects = np.flatnonzero(opened.all(axis=1))
    if suspects.size:
        ports = control_ports(np.union1d(window.ports, excluded), key)
        window.open_everywhere[suspects] = open_everywhere(window.hosts[suspects], ports, budget, clock, local_end)


def open_everywhere(
    hosts: Rows, ports: Sequence[int], budget: Budget, clock: Clock, local_end: LocalEnd = ANYWHERE
) -> Bools:
    """bool[hosts]: every control port answered a SYN with SYN/ACK, whatever followed. Blocks.

    All False when too few ports are left to probe.
    """
    if len(ports) < CONTROL_PORTS:
        return np.zeros(len(hosts), np.bool_)
    names = [name for name in to_text(hosts) for _ in ports]
    verification = verify(names, [*ports] * len(hosts), budget, clock, local_end, wait=PATIENCE)
    connected = np.array(verification.connected, np.bool_).reshape(len(hosts), len(ports))
    return np.asarray(connected.all(axis=1))
