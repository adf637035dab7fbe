"""The order in which the hosts of a scan are probed, and how far each space reaches in it.

Spaces come one after the other, and the hosts of each are permuted by a key. A shard takes every n-th host of the whole
order, so spaces of one host spread over all shards, too. Positions of a shard are 0 … hosts-1. Each space is a run of
them, so a range of positions that ends where its space ends has hosts with the same ports. Arithmetic leads from a
position to its host and back.

Limit: of many spaces the bijections of some thousand are kept, and the others are made again when they are needed.
"""

from collections.abc import Callable
from itertools import accumulate, chain

import numpy as np
import numpy.typing as npt

from ..packet.headers import U64, Ints, Rows
from .hostspace import WHOLE, Shard
from .permutation import Permutation
from .ports import Ports
from .spaces import Spaces

MOST_KEPT = 4096  # bijections, of a kilobyte each


class Extent:
    """How far the spaces of a lane reach: the positions behind the last host of each, and its number of ports."""

    def __init__(self, ends: npt.ArrayLike, widths: npt.ArrayLike) -> None:
        """`ends` ascend. A space may have no host."""
        self.ends, self.widths = np.atleast_1d(np.asarray(ends, np.int64)), np.atleast_1d(np.asarray(widths, np.int64))
        sizes = np.diff(np.append(0, self.ends)).tolist()
        each = (size * width for size, width in zip(sizes, self.widths.tolist(), strict=True))
        self._before = list(accumulate(chain([0], each)))  # Python's integers, because 2^62 hosts have more targets

    @property
    def hosts(self) -> int:
        """All hosts."""
        return int(self.ends[-1])

    @property
    def targets(self) -> int:
        """All targets."""
        return int(self._before[-1])

    def space_at(self, host_pos: npt.ArrayLike) -> Ints:
        """The space of each position."""
        return np.searchsorted(self.ends, np.asarray(host_pos, np.int64), "right")

    def targets_before(self, position: int) -> int:
        """How many targets the hosts before this position have."""
        if position >= self.hosts:
            return self.targets
        space = int(self.space_at(position))
        begin = int(self.ends[space - 1]) if space else 0
        return int(self._before[space]) + (position - begin) * int(self.widths[space])


class Order:
    """The hosts of some spaces in keyed order, as far as they belong to a shard."""

    def __init__(self, spaces: Spaces, key: int, shard: Shard = WHOLE) -> None:
        self.spaces, self._key, self._shard = spaces, key, shard
        self.extent = Extent([shard.count(end) for end in spaces.ends.tolist()], spaces.widths)
        self._sizes = np.diff(np.append(0, spaces.ends)).tolist()
        self._kept: dict[int, Permutation] = {}

    def hosts_at(self, host_pos: Ints) -> Rows:
        """The hosts at these positions, ADDRESS[n]."""
        return self.spaces.pick(self._mixed(self._shard.positions(host_pos), Permutation.forward))

    def position_of(self, address: Rows) -> Ints:
        """ADDRESS[m] → positions int64[m]; -1 for what is no host of this shard."""
        number = self.spaces.number_of(address)
        host_pos = np.full(len(number), -1, np.int64)
        known = np.flatnonzero(number >= 0)
        if known.size:
            # Shard i of n has the positions i-1, i-1+n, … of the whole order.
            mixed = self._mixed(number[known].astype(np.uint64), Permutation.inverse)
            offset = mixed.view(np.int64) - (self._shard.number - 1)
            mine = offset % self._shard.of == 0
            host_pos[known[mine]] = offset[mine] // self._shard.of
        return host_pos

    def ports_at(self, position: int) -> Ports:
        """The ports of the host at this position."""
        return self.spaces.sets[int(self.extent.space_at(position))]

    def _mixed(self, number: U64, step: Callable[[Permutation, U64], U64]) -> U64:
        """A step of each number's bijection, within its space."""
        if self.spaces.runs is None:
            return step(self._permutation(0), number)
        space = self.spaces.space_of(number.view(np.int64))
        result = np.empty_like(number)
        by_space = np.argsort(space, kind="stable")
        for rows in np.split(by_space, np.flatnonzero(np.diff(space[by_space])) + 1):
            if rows.size:
                each = int(space[rows[0]])
                begin = np.uint64(self.spaces.ends[each - 1] if each else 0)
                result[rows] = step(self._permutation(each), number[rows] - begin) + begin
        return result

    def _permutation(self, space: int) -> Permutation:
        if space not in self._kept:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[space] = Permutation(self._sizes[space], self._key + space)
        return self._kept[space]
