"""The hosts of a scan with their ports: one host × port space for each distinct set of ports.

Usually all hosts have the same ports, and there is one space. Lists may give targets ports of their own. Then the hosts
with the same ports are a space, and the spaces are numbered one after the other: first all hosts of the first space,
then those of the second.

All hosts together are one `HostSpace`, which numbers them in the order of their addresses. `Runs` cut this order into
runs of hosts with the same ports. A binary search leads from a host to its run, and so to its number here; another
one leads back. A run takes 18 bytes (34 of more than 2^32 hosts), and one space needs none. Nothing
here depends on IP versions.

Limits: 65,536 sets of ports, and 2^24 ports in all sets together.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet.headers import U64, Ints, Rows
from .blocks import PIECE
from .hostspace import HostSpace
from .ports import Ports

MOST_SETS, MOST_PORTS = 1 << 16, 1 << 24
Numbers = npt.NDArray[Any]  # of hosts: uint32, or int64 for more than 2^32


class Runs(NamedTuple):
    """Runs of hosts with the same ports: the number of the first host of each, ascending from 0, and its set."""

    first: Numbers
    ports: npt.NDArray[np.uint16]  # the number of the set


def numbers_of(size: int) -> type[np.unsignedinteger[Any]] | type[np.int64]:
    """The smallest type that holds the numbers of so many hosts."""
    return np.uint32 if size < 1 << 32 else np.int64


class Spaces:
    """Hosts and their ports. Numbers are 0 … size-1: space after space, and by address within a space."""

    def __init__(self, hosts: HostSpace, sets: Sequence[Ports], runs: Runs | None = None) -> None:
        """`sets`: of ports, each sorted. `runs`: which host has which set; None: all have the only one."""
        assert len(sets) == 1 or runs is not None
        self.hosts, self.sets, self.runs = hosts, list(sets), runs
        self.size = hosts.size
        self.widths = np.array([len(ports) for ports in sets], np.int64)
        self.ends = np.array([hosts.size], np.int64)  # of each space
        if runs is None:
            self._index = np.full(1 << 16, -1, np.int32)
            self._index[self.sets[0]] = np.arange(len(self.sets[0]))
            return
        order = np.argsort(runs.ports, kind="stable")  # of the spaces
        sizes = np.diff(runs.first, append=np.array([hosts.size], runs.first.dtype))[order]
        last = np.searchsorted(runs.ports[order], np.arange(len(self.sets)), "right") - 1  # run of each space
        ends = np.cumsum(sizes, dtype=sizes.dtype)
        self.ends = np.where(last < 0, 0, ends[last].astype(np.int64))
        self._begin = np.subtract(ends, sizes, out=ends)  # of each run, ascending
        del sizes  # there may be millions of runs
        self._first = runs.first[order]
        self._number = np.empty_like(self._begin)  # of the first host of each run, in the order of the addresses
        self._number[order] = self._begin
        # Space and port in one word. Both are ascending, so the column is sorted.
        space = np.repeat(np.arange(len(self.sets), dtype=np.uint32), self.widths)
        self._ports = space << np.uint32(16) | np.concatenate(self.sets)
        self._ports_before = np.cumsum(self.widths) - self.widths

    @property
    def targets(self) -> int:
        """How many targets there are."""
        sizes = np.diff(np.append(0, self.ends)).tolist()
        return sum(size * width for size, width in zip(sizes, self.widths.tolist(), strict=True))

    @property
    def ports(self) -> Ports:
        """Every port that some host has, sorted."""
        return union_of(self.sets)

    def pick(self, number: Ints | U64) -> Rows:
        """Numbers, each below `size` → ADDRESS[n]."""
        if self.runs is None:
            return self.hosts.pick(number)
        number = number.view(np.int64)
        run = np.searchsorted(self._begin, number.astype(self._begin.dtype), "right") - 1
        return self.hosts.pick(number - self._begin[run] + self._first[run])

    def number_of(self, address: Rows) -> Ints:
        """ADDRESS[n] → numbers int64[n]; -1 for what is no host here."""
        index = self.hosts.index_of(address)
        if self.runs is None:
            return index
        run = np.searchsorted(self.runs.first, index.astype(self.runs.first.dtype), "right") - 1
        return np.where(index < 0, -1, index - self.runs.first[run] + self._number[run])

    def space_of(self, number: Ints) -> Ints:
        """The space of each number."""
        return np.searchsorted(self.ends, number, "right")

    def port_index(self, space: Ints, port: npt.NDArray[np.uint16]) -> Ints:
        """The place of each port in the set of its space; -1 for a port that is not in it."""
        if self.runs is None:
            return self._index[port].astype(np.int64)
        wanted = space.astype(np.uint32) << np.uint32(16) | port
        at = np.minimum(np.searchsorted(self._ports, wanted), len(self._ports) - 1)
        return np.where(self._ports[at] == wanted, at - self._ports_before[space], -1)

    def within(self, part: HostSpace) -> "Spaces":
        """The same for some of the hosts: those of `part`."""
        if part.size == self.size:
            return self
        if self.runs is None:
            return Spaces(part, self.sets)
        first = np.empty(len(self.runs.first) + 1, numbers_of(part.size))
        first[-1] = part.size
        for at in range(0, len(self.runs.first), PIECE):
            hosts = self.hosts.pick(self.runs.first[at : at + PIECE])
            first[at : at + len(hosts)] = part.below(hosts)
        kept = first[1:] > first[:-1]
        return spaces_of(part, self.sets, Runs(first[:-1][kept], self.runs.ports[kept]))

    def digest(self) -> str:
        """16 hexadecimal digits that differ where hosts have other ports."""
        import hashlib  # 3 ms, and only for a state or a shard

        total = hashlib.sha256()
        for column in (self.widths, *self.sets, *(self.runs or ())):
            total.update(np.ascontiguousarray(column).view(np.uint8).data)
        return total.hexdigest()[:16]


def union_of(sets: Sequence[Ports]) -> Ports:
    """Every port of some sets, sorted."""
    if len(sets) == 1:
        return sets[0]
    marks = np.zeros(1 << 16, np.bool_)
    for ports in sets:
        marks[ports] = True
    return np.flatnonzero(marks).astype(np.uint16)


def spaces_of(hosts: HostSpace, sets: Sequence[Ports], runs: Runs) -> Spaces:
    """The spaces of hosts, with the sets that some host has, and without runs where there is only one."""
    seen = np.bincount(runs.ports, minlength=len(sets)) > 0
    used, number = np.flatnonzero(seen), (np.cumsum(seen) - 1).astype(np.uint16)[runs.ports]
    chosen = [sets[each] for each in used.tolist()]
    if len(chosen) == 1:
        return Spaces(hosts, chosen)
    changes = np.append(True, number[1:] != number[:-1])
    if not changes.all():
        runs, number = Runs(runs.first[changes], runs.ports), number[changes]
    return Spaces(hosts, chosen, Runs(runs.first, number))
