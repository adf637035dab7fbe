"""Is somebody really there? A full handshake with each target that answered a SYN.

A SYN/ACK shows that something answers for a port, not that a service does. A SYN proxy answers every SYN itself,
with its window closed, and calls the service only when the handshake is complete. What happens next tells:

- the window is (or soon is) open and the connection stands: `handshake-completed`;
- it is refused, at the handshake or by a reset just after it: `handshake-refused`. A proxy passes on the reset
  of a host on which nobody listens;
- the window stays closed, or the handshake is never answered: `silent-after-handshake`. A proxy does this whose
  host drops the packets, rejects them with ICMP, or is not there.

So every connection is watched for a moment (`SETTLE`, and twice its own round trip) for the reset, and one with a
closed window for `WAIT`, in which a proxy's own SYN may be lost and sent again. No byte of data is sent.

A host that seems open on every port is asked on random high ports that nobody chose: where those complete
as well, its open ports say little (`all-open`).

Limits: a tarpit that opens its window looks like a slow service. Kernels before 5.4 do not tell the window; there
every connection that stands is complete. Source of the offsets: include/uapi/linux/tcp.h (struct tcp_info).
"""

import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..connect.calls import (
    ANYWHERE,
    OUTCOMES,
    PATIENCE,
    SECOND,
    Calls,
    Outcome,
    Source,
    descriptor_room,
    error_text,
    hang_up,
)
from ..errors import ScanError
from ..packet.addresses import to_text
from ..packet.headers import Bools, Ints, Rows
from ..rounds.pacing import TokenBucket
from ..targets.permutation import Permutation
from ..verdict.ledger import Mark
from ..verdict.table import Reason
from .window import Window

CONCURRENT = 256
SETTLE = 0.05  # seconds after the handshake in which a reset would come
WAIT = 3.5  # for an answer, or for a window to open: the kernel's (a proxy's) SYNs leave after 0, 1 and 3 s
ATTEMPTS = 3  # at a handshake that nobody answers
LOOK = 0.005  # seconds between two looks at the connections that stand
MOST_SHORT = 2000  # looks
CONTROL_PORTS = 4
HIGH = (49152, 65535)  # RFC 6335, section 6: dynamic ports, which no service is assigned

_INFO_BYTES, _SND_WND = 232, 228  # of struct tcp_info, and where tcpi_snd_wnd lies in it
_CLOSED, _CLOSE_WAIT = 7, 8  # tcpi_state: reset by the peer, or closed in good order (include/net/tcp_states.h)


class _Standing(NamedTuple):
    """A connection that came about, and is watched."""

    item: int
    connection: socket.SocketType
    since: int  # monotonic ns
    trip: int  # ns that the handshake took

    def judge(self, now: int, wait: float) -> Mark | None:
        """What it has shown so far; None: too early to say."""
        info = self.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        age = now - self.since
        if info[0] == _CLOSED:
            return Mark.HANDSHAKE_REFUSED
        if info[0] == _CLOSE_WAIT:
            return Mark.HANDSHAKE_COMPLETED
        if len(info) < _INFO_BYTES or int.from_bytes(info[_SND_WND:], "little"):
            return Mark.HANDSHAKE_COMPLETED if age >= max(SETTLE * SECOND, 2 * self.trip) else None
        return Mark.SILENT_AFTER_HANDSHAKE if age >= wait * SECOND else None


class Verification:
    """Handshakes with some targets, at most `CONCURRENT` at once. Call `step` until `done`; then read `marks`."""

    def __init__(
        self,
        hosts: Sequence[str],
        ports: Sequence[int],
        bucket: TokenBucket,
        source: Source = ANYWHERE,
        wait: float = WAIT,
    ) -> None:
        assert len(hosts) == len(ports)
        self.marks = [Mark(0)] * len(hosts)
        self.connected = [False] * len(hosts)  # whether a SYN/ACK came, whatever followed
        self._hosts, self._ports, self._bucket, self._wait = hosts, ports, bucket, wait
        self._room = min(CONCURRENT, descriptor_room())
        self._todo = list(range(len(hosts)))[::-1]
        self._attempts = [0] * len(hosts)
        self._calls: Calls[None] = Calls(source, keep=True)
        self._standing: list[_Standing] = []
        self._short = 0  # starts in a row that this machine had no room for

    @property
    def done(self) -> bool:
        """Whether every target has its mark."""
        return not (self._todo or len(self._calls) or self._standing)

    def step(self, now: int) -> None:
        """Start, take in and watch what is due at `now` (ns of the bucket's clock); waits `LOOK` at most."""
        self._start(now)
        self._calls.collect(0 if self._calls.ended else LOOK)
        self._calls.give_up(self._wait, lambda owner, item: True, self._wait)
        for outcome in self._calls.take():
            self._take(outcome)
        moment = time.monotonic_ns()
        watched, self._standing = self._standing, []
        for each in watched:
            mark = each.judge(moment, self._wait)
            if mark is None:
                self._standing.append(each)
            else:
                self.marks[each.item] = mark
                hang_up(each.connection)

    def _start(self, now: int) -> None:
        room = self._room - len(self._calls) - len(self._standing)
        for _ in range(min(self._bucket.allowed(now, room), len(self._todo)) if room > 0 else 0):
            item = self._todo.pop()
            if not self._calls.start(None, item, self._hosts[item], self._ports[item]):
                self._todo.append(item)
                self._run_short()
                return
            self._short = 0
            self._bucket.spend(1)
            self._attempts[item] += 1

    def _run_short(self) -> None:
        self._room, self._short = max(1, self._room // 2), self._short + 1
        if self._short > MOST_SHORT:
            raise ScanError(f"connect() keeps failing with {error_text(self._calls.shortage)}: close other programs")

    def _take(self, outcome: Outcome[None]) -> None:
        item = outcome.item
        self.connected[item] = OUTCOMES[outcome.code] is Reason.SYN_ACK
        if outcome.connection is not None:
            self._standing.append(_Standing(item, outcome.connection, outcome.ended, outcome.ended - outcome.started))
        elif OUTCOMES[outcome.code] is not Reason.NO_RESPONSE:
            self.marks[item] = Mark.HANDSHAKE_REFUSED
        elif self._attempts[item] < ATTEMPTS:
            self._todo.insert(0, item)
        else:
            self.marks[item] = Mark.SILENT_AFTER_HANDSHAKE

    def close(self) -> None:
        """Drop what is under way; targets without a mark keep none."""
        for each in self._standing:
            hang_up(each.connection)
        self._standing.clear()
        self._calls.close()


def verify(
    hosts: Sequence[str], ports: Sequence[int], bucket: TokenBucket, source: Source = ANYWHERE, wait: float = WAIT
) -> Verification:  # fmt: skip
    """A handshake with each hosts[i]:ports[i]; then `marks[i]` is one of the three marks. Blocks until all have one."""
    verification = Verification(hosts, ports, bucket, source, wait)
    offset = time.time_ns() - time.monotonic_ns()
    try:
        while not verification.done:
            verification.step(time.monotonic_ns() + offset)
    finally:
        verification.close()
    return verification


def verify_window(window: Window, bucket: TokenBucket, source: Source = ANYWHERE, wait: float = WAIT) -> Ints:
    """Mark each open target of a closed window in its ledger; returns those targets. Blocks."""
    targets = np.flatnonzero(window.ledger.rank(np.arange(window.ledger.n)) == 3)
    slot, index = np.divmod(targets, window.width)
    marks = verify(to_text(window.hosts[slot]), window.lane.ports[index].tolist(), bucket, source, wait).marks
    for mark in set(marks):
        window.ledger.mark(targets[[each is mark for each in marks]], mark)
    return targets


def control_ports(probed: npt.NDArray[np.uint16], key: int, count: int = CONTROL_PORTS) -> list[int]:
    """`count` keyed random high ports that were not probed; fewer where nearly all were."""
    first, last = HIGH
    order = Permutation(last - first + 1, key).forward(np.arange(last - first + 1)).astype(np.int64) + first
    chosen: list[int] = order[~np.isin(order, probed)][:count].tolist()
    return chosen


def find_walls(window: Window, key: int, bucket: TokenBucket, source: Source = ANYWHERE) -> None:
    """Ask hosts of a closed window whose every probed port is open on control ports; `window.walls` tells. Blocks."""
    opened = (window.ledger.rank(slice(None)) == 3).reshape(len(window.hosts), window.width)
    suspects = np.flatnonzero(opened.all(axis=1))
    if suspects.size:
        window.walls[suspects] = open_everywhere(window.hosts[suspects], window.lane.ports, key, bucket, source)


def open_everywhere(
    hosts: Rows, probed: npt.NDArray[np.uint16], key: int, bucket: TokenBucket, source: Source = ANYWHERE
) -> Bools:
    """bool[hosts]: every control port answered a SYN with SYN/ACK, whatever followed. Blocks.

    All False when too few ports are left to ask.
    """
    ports = control_ports(probed, key)
    if len(ports) < CONTROL_PORTS:
        return np.zeros(len(hosts), np.bool_)
    names = [name for name in to_text(hosts) for _ in ports]
    found = verify(names, ports * len(hosts), bucket, source, wait=PATIENCE)
    connected = np.array(found.connected, np.bool_).reshape(len(hosts), len(ports))
    return np.asarray(connected.all(axis=1))
