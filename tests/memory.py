"""A network inside the process: hosts that answer, and a path that loses, repeats, delays and limits.

Whole scans run against it without privileges and without waiting: the clock is a value that the caller moves on, and
every chance follows from one seed. What a host does with a port is data (`Host`), and so is the path (`Faults`,
`tests/paths.py`). A batch of probes is answered as columns, about 2 µs a probe, so that hundreds of scans take a
minute. Replies are stamped into copies of a few templates. TCP checksums are right, the others stay zero: they are not
filled in.

Limit: all hosts see one path, and only the scanner's packets and their replies use it.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scanner.packet.headers import LINK_RAW, RST, Bytes, Frames, Ints
from scanner.transport import Drops
from tests.packets import Packets, packets_of, rewrite, write_tos
from tests.passage import Passage
from tests.paths import BACK, OUT, Model, OneWay, Path
from tests.replies import Answers, Host, answer

STRAIGHT = Path()
_SLOT, _ROOM = 256, 512
__all__ = ["Faults", "Host", "MemoryTransport", "answer"]
SECOND = 1_000_000_000


@dataclass
class Faults:
    """The wire: shares of frames lost each way, and of replies repeated; delay range in seconds; further models.

    `path` stands on the hosts' side of these faults. Its seed is not used: the transport has one.
    """

    lose_probes: float = 0.0
    lose_replies: float = 0.0
    repeat: float = 0.0
    delay: tuple[float, float] = (0.001, 0.002)
    path: Path = STRAIGHT


class _Batch(NamedTuple):
    """Frames uint8[n, width] that are due one after the other; those before `at` are gone."""

    rows: Bytes
    length: Ints
    time: Ints
    at: int = 0


class _Due:
    """Frames on their way, by the time when they are due (ns)."""

    def __init__(self) -> None:
        self._order = 0
        self._heap: list[tuple[int, int, _Batch]] = []

    def push(self, rows: Bytes, length: Ints, time: Ints) -> None:
        if len(time):
            order = np.argsort(time, kind="stable")
            self._put(_Batch(rows[order], length[order], time[order]))

    def _put(self, batch: _Batch) -> None:
        self._order += 1
        heapq.heappush(self._heap, (int(batch.time[batch.at]), self._order, batch))

    @property
    def next(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    def take(self, now: int) -> list[_Batch]:
        """All that is due, batch by batch."""
        taken = []
        while self._heap and self._heap[0][0] <= now:
            batch = heapq.heappop(self._heap)[2]
            end = int(np.searchsorted(batch.time, now, "right"))
            taken.append(_Batch(*(column[batch.at : end] for column in batch[:3])))
            if end < len(batch.time):
                self._put(batch._replace(at=end))
        return taken


class MemoryTransport:
    """Frames begin with the IP header. `host_of` gives the host for an address in wire bytes, or None."""

    link = LINK_RAW

    def __init__(
        self, host_of: Callable[[bytes], Host | None], clock: Callable[[], int], faults: Faults, seed: int
    ) -> None:
        self._host_of, self._clock = host_of, clock
        out: tuple[Model, ...] = (OneWay(faults.lose_probes), *faults.path.out)
        low, high = faults.delay
        back = (*faults.path.back, OneWay(faults.lose_replies, faults.repeat, low, high - low))
        self._passage = Passage(Path(out, back, seed))
        self._rows: Bytes = np.zeros((_ROOM, _SLOT), np.uint8)
        self._sent = 0
        self._logged: list[Bytes] = []
        self._probes: list[bytes] = []
        self._resets: list[bytes] = []
        self._answers = Answers()
        self._coming, self._arriving = _Due(), _Due()  # replies that have not entered the way back; that have left it

    @property
    def probes_seen(self) -> list[bytes]:
        """The probes sent so far. It is always the same list."""
        return self._log()[0]

    @property
    def resets_seen(self) -> list[bytes]:
        """The resets sent so far. It is always the same list."""
        return self._log()[1]

    def _log(self) -> tuple[list[bytes], list[bytes]]:
        for rows in self._logged:
            for row in rows:
                frame = row.tobytes()
                flags = frame[33] if frame[0] >> 4 == 4 else frame[53]
                (self._resets if flags & RST else self._probes).append(frame)
        self._logged.clear()
        return self._probes, self._resets

    def reserve(self, limit: int) -> Bytes:
        return self._rows[:limit]

    def commit(self, rows: int, length: int) -> None:
        frames = self._rows[:rows, :length].copy()
        self._sent += rows
        self._logged.append(frames)
        now = self._clock()
        self._settle(now)
        probes = self._passage.carry(OUT, packets_of(frames, 0, OUT, now))
        resets = probes.flags & RST > 0
        if resets.any():
            probes = probes.take(~resets)
        if len(probes.row):
            self._answer(frames[probes.row], probes)

    def _answer(self, frames: Bytes, probes: Packets) -> None:
        """What hosts say to these probes goes on its way."""
        if self._passage.rewrites[OUT]:
            write_tos(frames, 0, probes.tos)
        far = frames[:, 16:20] if frames[0, 0] >> 4 == 4 else frames[:, 24:40]
        raw, size = far.tobytes(), far.shape[1]
        hosts = [self._host_of(raw[at : at + size]) for at in range(0, len(raw), size)]
        kept, stacks, actions = [], [], []
        for row, (host, port) in enumerate(zip(hosts, probes.port.tolist(), strict=True)):
            if host is not None:
                stack = host.forwards.get(port, host) if host.forwards else host
                action = stack.ports.get(port, stack.other)
                if action != "drop":
                    kept.append(row)
                    stacks.append(stack)
                    actions.append(action)
        if not kept:
            return
        replies, length = self._answers.make(frames[kept], stacks, actions)
        delay = np.array([stack.delay for stack in stacks])
        time = probes.time[kept] + (delay * SECOND).astype(np.int64)
        if self._passage.in_any_order[BACK]:
            self._return(_Batch(replies, length, time))
        else:
            self._coming.push(replies, length, time)

    def _settle(self, now: int) -> None:
        """Let replies enter the way back whose time has come, in the order of their times."""
        due = self._coming.take(now)
        if due:
            width = max(batch.rows.shape[1] for batch in due)
            rows = np.concatenate([_widened(batch.rows, width) for batch in due])
            length, time = (np.concatenate([batch[column] for batch in due]) for column in (1, 2))
            order = np.argsort(time, kind="stable")
            self._return(_Batch(rows[order], length[order], time[order]))

    def _return(self, batch: _Batch) -> None:
        arrived = self._passage.carry(BACK, packets_of(batch.rows, 0, BACK, batch.time))
        rows = batch.rows[arrived.row]
        if len(rows):
            if self._passage.rewrites[BACK]:
                rewrite(rows, 0, arrived)
            self._arriving.push(rows, batch.length[arrived.row], arrived.time)

    def sent(self) -> int:
        return self._sent

    def recv(self) -> Frames:
        now = self._clock()
        self._settle(now)
        due = self._arriving.take(now)
        if not due:
            none = np.zeros(0, np.int64)
            return Frames(np.zeros(0, np.uint8), none, none, none, np.zeros(0, np.uint16))
        start, end = [], 0
        for batch in due:
            start.append(end + np.arange(len(batch.time)) * batch.rows.shape[1])
            end += batch.rows.size
        time = np.concatenate([batch.time for batch in due])
        order = np.argsort(time, kind="stable")
        buffer = np.concatenate([batch.rows.ravel() for batch in due])
        length = np.concatenate([batch.length for batch in due])
        link = np.full(len(time), LINK_RAW, np.uint16)
        return Frames(buffer, np.concatenate(start)[order], length[order], time[order], link)

    def deliver(self, frame: bytes, when: int) -> None:
        """Let a frame arrive at this time, ns; the wire does nothing to it."""
        row = np.frombuffer(frame, np.uint8)[None].copy()
        self._arriving.push(row, np.array([len(frame)]), np.array([when]))

    def next_arrival(self) -> int | None:
        """When the next reply is due, ns, or may be; None if there is none under way."""
        return min((each for each in (self._arriving.next, self._coming.next) if each is not None), default=None)

    def fileno(self) -> int:
        return -1

    def refused(self) -> dict[int, str]:
        return {}

    def drops(self) -> Drops:
        return Drops()

    def close(self) -> None:
        pass


def _widened(rows: Bytes, width: int) -> Bytes:
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1])))
