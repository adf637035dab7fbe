"""Which hosts come next, and how many of them at once.

The hosts of a scan are numbered along the keyed order of each lane. Two numbers say how far a scan has come: the
lane, and the position in its order. What is left to do is everything behind that place, and the host ranges that were
begun and have not closed. A resumed scan takes those first. Shards and excludes are below this, in the numbering.

A window takes hosts of one space (`targets.spaces`), so they have the same ports. It takes what fills 10 s at the
current rate, at least 16 hosts and at most 2^20 targets. Smaller windows would write rows earlier, but the loss is
estimated by window: with few responders in each, a sparse scan would need a third pass over its silent targets. At slow
rates a window takes fewer hosts, so that the open windows of a scan together hold at most about ten minutes of sending:
that is what an interrupted scan does again when it is resumed.
Limits: a window holds whole hosts, so one host with many ports at a very low rate takes longer. Many small spaces make
many small windows.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..errors import UsageError
from ..packet.cookie import Key
from ..packet.headers import Ints
from ..targets.order import Extent

OPEN_WINDOWS = 3  # at slow rates, where a window is sent for longer than its replies take
WINDOW_SECONDS, WINDOW_HOSTS, WINDOW_TARGETS = 10.0, 16, 1 << 20
RESUME_SECONDS = 600.0  # of sending that all open windows hold at most
MOST_CHOSEN = 1 << 23  # hosts in ranges of which only some are left; open windows hold 1.5 M (`windows.MEMORY`)
USUAL_PASSES = 3  # over targets that stay silent, where nothing answers


class HostRange(NamedTuple):
    """`size` hosts of a lane's order from position `first` on; with `chosen`, only those positions (ascending)."""

    lane: int
    first: int
    size: int
    chosen: Ints | None = None

    def host_pos(self) -> Ints:
        """The positions of the hosts in the order of the lane, int64[hosts], ascending."""
        return np.arange(self.first, self.first + self.size) if self.chosen is None else self.chosen

    def as_json(self) -> dict[str, Any]:
        """The document of one range. `chosen` has a bit for each of `size` hosts, the highest bit first, as base64."""
        document: dict[str, Any] = {"lane": self.lane, "first": self.first, "size": self.size}
        if self.chosen is not None:
            bits = np.zeros(self.size, np.uint8)
            bits[self.chosen - self.first] = 1
            document["chosen"] = b64encode(np.packbits(bits).tobytes()).decode("ascii")
        return document

    @property
    def begin(self) -> int:
        """The position of its first host."""
        return self.first if self.chosen is None else int(self.chosen[0])

    @property
    def hosts(self) -> int:
        """How many hosts it has."""
        return self.size if self.chosen is None else len(self.chosen)

    def index_of(self, host_pos: Ints) -> Ints:
        """Positions int64[m] → the index of each host in this range, from 0; -1 for other hosts."""
        if self.chosen is None:
            index = host_pos - self.first
            return np.where((index >= 0) & (index < self.size), index, -1)
        at = np.minimum(np.searchsorted(self.chosen, host_pos), len(self.chosen) - 1)
        return np.where(self.chosen[at] == host_pos, at, -1)


class LaneFacts(NamedTuple):
    """What positions of a lane refer to: interface, IP version, hosts of this shard, gateway or ""."""

    interface: str
    version: int
    hosts: int
    gateway: str


class Keys(NamedTuple):
    """The two keys of a scan: that of the cookies, which is secret, and that of the order, which a seed may fix."""

    cookie: Key
    order: int


@dataclass(frozen=True)
class ResumePoint:
    """All that another process needs to continue a scan: its keys, and what is left to do."""

    keys: Keys
    lanes: list[LaneFacts]
    at: tuple[int, int] = (0, 0)
    left: tuple[HostRange, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The document that `resume_point_of` reads."""
        return {
            "cookie_key": self.keys.cookie.to_bytes().hex(),
            "order_key": str(self.keys.order),
            "lanes": [lane._asdict() for lane in self.lanes],
            "at": {"lane": self.at[0], "position": self.at[1]},
            "left": [host_range.as_json() for host_range in self.left],
        }

    def restart(self, lanes: list[LaneFacts]) -> tuple[tuple[int, int], tuple[HostRange, ...]]:
        """Where a Schedule over these lanes starts, and what it takes before that.

        Raises UsageError where this point belongs to other lanes, or names positions that they do not have.
        """
        if self.lanes != lanes:
            raise UsageError("the routes to the targets differ from those when the scan began: scan anew")
        sizes = [lane.hosts for lane in lanes]
        lane, position = self.at
        valid = 0 <= lane <= len(sizes) and 0 <= position <= (sizes[lane] if lane < len(sizes) else 0)
        if not valid or not all(_inside(host_range, sizes) for host_range in self.left):
            raise UsageError("the state is damaged (it names hosts that do not exist): scan anew")
        ahead = any((part.lane, part.first + part.size) > (lane, position) for part in self.left if part.lane >= lane)
        if ahead or any(map(_overlap, _by_lane(self.left))):
            raise UsageError("the state is damaged (it names hosts twice): scan anew")
        return self.at, self.left


def resume_point_of(document: dict[str, Any]) -> ResumePoint:
    """What `as_json` gave. Types are checked before; raises ValueError for values that are wrong."""
    keys, at = Keys(Key.from_bytes(bytes.fromhex(document["cookie_key"])), int(document["order_key"])), document["at"]
    left = tuple(map(_host_range_of, document["left"]))
    if sum(part.size for part in left if part.chosen is not None) > MOST_CHOSEN:
        raise ValueError("more hosts than a scan has at once")
    return ResumePoint(keys, [LaneFacts(**lane) for lane in document["lanes"]], (at["lane"], at["position"]), left)


def _host_range_of(document: dict[str, Any]) -> HostRange:
    """What `HostRange.as_json` gave. Raises ValueError."""
    whole = HostRange(document["lane"], document["first"], document["size"])
    if "chosen" not in document:
        return whole
    bits = np.frombuffer(b64decode(document["chosen"], validate=True), np.uint8)
    if len(bits) != -(-whole.size // 8):
        raise ValueError(f"{len(bits)} bytes of bits for {whole.size} hosts")
    return whole._replace(chosen=whole.first + np.flatnonzero(np.unpackbits(bits)))


def _inside(host_range: HostRange, sizes: Sequence[int]) -> bool:
    lane, first, size, chosen = host_range
    if not (0 <= lane < len(sizes) and first >= 0 < size and first + size <= sizes[lane]):
        return False
    if chosen is None:
        return True
    return len(chosen) > 0 and int(chosen[-1]) < first + size


def _by_lane(left: Iterable[HostRange]) -> Iterable[list[HostRange]]:
    lanes: dict[int, list[HostRange]] = {}
    for part in left:
        lanes.setdefault(part.lane, []).append(part)
    return lanes.values()


def _overlap(left: Sequence[HostRange]) -> bool:
    """Whether two of these ranges of one lane share a host."""
    whole = sorted((part.first, part.first + part.size) for part in left if part.chosen is None)
    if any(end > first for (_, end), (first, _) in pairwise(whole)):
        return True
    chosen = np.sort(
        np.concatenate([np.zeros(0, np.int64), *(part.chosen for part in left if part.chosen is not None)])
    )
    begins = np.searchsorted(chosen, np.array([first for first, _ in whole], np.int64))
    ends = np.searchsorted(chosen, np.array([end - 1 for _, end in whole], np.int64), side="right")
    return bool((chosen[1:] == chosen[:-1]).any() or (begins < ends).any())


class Schedule:
    """The host ranges of a scan over lanes. The hosts of a range have the same ports."""

    def __init__(self, extents: Sequence[Extent], at: tuple[int, int] = (0, 0), left: Iterable[HostRange] = ()) -> None:
        """`extents`: of the lanes. `at`: lane and position to continue from; `left`: ranges to take before that."""
        self._extents, self._sizes, self._left = list(extents), [extent.hosts for extent in extents], list(left)
        self._lane, self._position = at
        self.dropped: list[HostRange] = []
        self._skip_finished_lanes()

    def _skip_finished_lanes(self) -> None:
        while self._lane < len(self._sizes) and self._position >= self._sizes[self._lane]:
            self._lane, self._position = self._lane + 1, 0

    @property
    def at(self) -> tuple[int, int]:
        """The lane and the position from which on nothing has been handed out."""
        return self._lane, self._position

    @property
    def left(self) -> list[HostRange]:
        """Ranges of an earlier part of the scan that have not been handed out, and those of dropped lanes.

        A dropped lane behind `at` is not among them: everything behind that place is still to be handed out.
        """
        return [*self._left, *(part for part in self.dropped if part.lane < self._lane)]

    @property
    def remaining(self) -> int:
        """Targets that have not been handed out."""
        extents = zip(self._extents[self._lane :], self._sizes[self._lane :], strict=True)
        behind = sum(extent.targets_before(size) for extent, size in extents)
        before = 0 if self._lane >= len(self._sizes) else self._extents[self._lane].targets_before(self._position)
        return sum(map(self._targets, self._left)) + behind - before

    def _targets(self, host_range: HostRange) -> int:
        lane, first, size, chosen = host_range
        extent = self._extents[lane]
        if chosen is None:
            return extent.targets_before(first + size) - extent.targets_before(first)
        return int(extent.widths[extent.space_at(chosen)].sum())

    @property
    def exhausted(self) -> bool:
        """Whether no range is left."""
        return not self._left and self._lane >= len(self._sizes)

    def next(self, rate: float) -> HostRange | None:
        """The next range, for `rate` probes a second (0: unlimited); None: there is none."""
        if self._left:
            host_range, rest = self._cut(self._left.pop(0), rate)
            self._left[:0] = rest
            return host_range
        if self.exhausted:
            return None
        behind = HostRange(self._lane, self._position, self._sizes[self._lane] - self._position)
        host_range, _ = self._cut(behind, rate)
        self._position += host_range.size
        self._skip_finished_lanes()
        return host_range

    def _cut(self, host_range: HostRange, rate: float) -> tuple[HostRange, list[HostRange]]:
        """What a window takes of this range, and the rest: a window ends where its space ends."""
        extent, (lane, first, size, chosen) = self._extents[host_range.lane], host_range
        space = int(extent.space_at(host_range.begin))
        end = int(extent.ends[space])
        if chosen is not None:
            here = int(np.searchsorted(chosen, end))
            rest = [host_range._replace(chosen=chosen[here:])] if here < len(chosen) else []
            return host_range._replace(chosen=chosen[:here]), rest
        taken = min(size, end - first, _most_hosts(rate, int(extent.widths[space])))
        rest = [HostRange(lane, first + taken, size - taken)] if taken < size else []
        return HostRange(lane, first, taken), rest

    def put_back(self, host_range: HostRange) -> None:
        """Hand this range out once more, before the others."""
        self._left.insert(0, host_range)

    def drop(self, lane: int) -> None:
        """Hand out nothing more of this lane, because its hosts cannot be reached now; see `left`."""
        self.dropped += [host_range for host_range in self._left if host_range.lane == lane]
        self._left = [host_range for host_range in self._left if host_range.lane != lane]
        first = self._position if lane == self._lane else 0
        if lane >= self._lane and first < self._sizes[lane]:
            self.dropped.append(HostRange(lane, first, self._sizes[lane] - first))
        self._sizes[lane] = 0
        self._skip_finished_lanes()


def _most_hosts(rate: float, width: int) -> int:
    """The most hosts of a window, with so many ports each."""
    most = WINDOW_TARGETS // width
    if rate:
        fill = max(WINDOW_HOSTS, int(rate * WINDOW_SECONDS) // width)
        again = int(rate * RESUME_SECONDS / (OPEN_WINDOWS * USUAL_PASSES)) // width
        most = min(most, fill, again)
    return max(1, most)
