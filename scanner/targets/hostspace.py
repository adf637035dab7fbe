"""The hosts of a scan as one numbered set.

A scan needs address number i, and the number of an address, thousands of times a batch, for sets from one host to all
of IPv4. The set is therefore a list of sorted, disjoint blocks (`blocks`) with cumulative counts. Both questions are
one binary search, and a /8 costs as much as a single host. Numbers follow the order of the addresses.

Each family has blocks of its own, because a word is searched faster than 16 bytes and takes less memory: 12 bytes for
a block of IPv4 addresses, 24 for one of IPv6 addresses. IPv4 lies within IPv6 (mapped), so the numbers of some IPv6
hosts come before those of all IPv4 hosts, and the others behind them.

Limit: 2^62 hosts, so that numbers, and their sums, fit a signed word.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet.addresses import from_ipv4, from_words, is_ipv4
from ..packet.headers import Bools, Ints, Rows
from .blocks import (
    FIRST_IPV4,
    LAST_IPV4,
    Blocks,
    Edges,
    Span,
    blocks_of,
    inside,
    keys_of,
    outside,
    ranges_of,
    spans_of,
    trimmed,
    words,
)
from .zones import Zones

MOST_HOSTS = 1 << 62


class Shard(NamedTuple):
    """The part of the hosts that this process scans: number 1 … of."""

    number: int = 1
    of: int = 1

    def count(self, hosts: int) -> int:
        """How many of so many hosts belong to this shard."""
        return max(0, (hosts - self.number) // self.of + 1)

    def positions(self, host_pos: Ints) -> npt.NDArray[np.uint64]:
        """Positions in this shard's order → positions in the order of all hosts, uint64[n]."""
        return host_pos.astype(np.uint64) * np.uint64(self.of) + np.uint64(self.number - 1)


WHOLE = Shard()


class _Family:
    """The blocks of one family, numbered from 0."""

    def __init__(self, starts: Edges, sizes: Ints) -> None:
        """`sizes`: 0, and the number of addresses in each block. The array becomes part of this object."""
        self.starts = starts
        # Hosts before each block; behind the last one, all of them.
        self.before = np.cumsum(sizes, out=sizes)
        self.size = int(self.before[-1])

    def place(self, number: Ints) -> tuple[Any, Ints]:
        """Numbers → the first address of the block of each, and the offset in it."""
        block = np.searchsorted(self.before[1:], number, side="right")
        return self.starts[block], number - self.before[block]

    def lower(self, address: Edges) -> tuple[Ints, Bools]:
        """Addresses → how many hosts have lower addresses, and whether each is a host itself."""
        block = np.searchsorted(self.starts, address, side="right") - 1
        if not self.size:
            return block + 1, block >= 0
        size = self.before[block + 1] - self.before[block]
        offset = _distance(address, self.starts[block])
        member = (block >= 0) & (offset < size.view(np.uint64))
        # Outside the block, all hosts up to its end are below: for block -1 those before block 0, none.
        return np.where(member, self.before[block] + offset.view(np.int64), self.before[block + 1]), member

    def edges(self) -> Edges:
        """The edges of the blocks."""
        edges = np.empty(2 * len(self.starts), self.starts.dtype)
        edges[::2] = self.starts
        if self.starts.dtype == np.uint32:
            np.subtract(self.before[1:], self.before[:-1], out=edges[1::2], casting="unsafe")
            edges[1::2] += self.starts
        else:
            edges[1::2] = keys_of(*_sum(self.starts, np.diff(self.before)))
        return trimmed(edges)


class HostSpace:
    """A numbered set of addresses; numbers are 0 … size-1, in the order of the addresses.

    `zones`: the links of link-local addresses. `names`: the names that the user gave, by address. `addresses`: of each
    name, also where another name of the address was given before. `unresolved` and
    `unrouted`: names without an address and addresses without a route that have been left out. Subsets keep none of it.
    """

    zones: Zones = ()
    names: Mapping[str, str] = MappingProxyType({})
    addresses: Mapping[str, list[str]] = MappingProxyType({})
    unresolved = unrouted = 0

    def __init__(self, blocks: Blocks) -> None:
        """Raises OverflowError for more than `MOST_HOSTS` hosts."""
        self._four = _Family(blocks.ipv4[::2].copy(), _sizes_ipv4(blocks.ipv4))
        self._six = _Family(blocks.ipv6[::2].copy(), _sizes_ipv6(blocks.ipv6, MOST_HOSTS - self._four.size))
        self.size = self._four.size + self._six.size
        # IPv6 hosts below the IPv4 ones.
        self._below = int(self._six.lower(keys_of(0, np.array([FIRST_IPV4], np.uint64)))[0][0])

    def __len__(self) -> int:
        return self.size

    @property
    def blocks(self) -> Blocks:
        """The sorted disjoint blocks that make up the set."""
        return Blocks(self._four.edges(), self._six.edges())

    def pick(self, index: npt.ArrayLike) -> Rows:
        """Numbers uint64[n], each below `size` → ADDRESS[n]."""
        number = np.atleast_1d(np.asarray(index)).astype(np.int64)
        assert not number.size or 0 <= number.min() <= number.max() < self.size
        four = (number >= self._below) & (number < self._below + self._four.size)
        if four.all():
            start, offset = self._four.place(number - self._below)
            return from_ipv4(start + offset)
        if four.any():
            column = from_words(0, 0, len(number))
            column[four], column[~four] = self.pick(number[four]), self.pick(number[~four])
            return column
        number -= np.where(number < self._below, 0, self._four.size)
        return from_words(*_sum(*self._six.place(number)), len(number))

    def index_of(self, address: Rows) -> Ints:
        """ADDRESS[n] → numbers int64[n], -1 where the address is not in the set; the inverse of `pick`."""
        lower, member = self._lower(address)
        return np.where(member, lower, -1)

    def below(self, address: Rows) -> Ints:
        """ADDRESS[n] → how many hosts have lower addresses, int64[n]."""
        return self._lower(address)[0]

    def count(self, blocks: Blocks) -> int:
        """How many hosts lie in the blocks."""
        return _count(self._four, blocks.ipv4) + _count(self._six, blocks.ipv6)

    def within(self, spans: Iterable[Span]) -> "HostSpace":
        """The hosts whose addresses lie in any span, numbered anew."""
        blocks = blocks_of(ranges_of(spans))
        return self if self.count(blocks) == self.size else HostSpace(inside(self.blocks, blocks))

    def without(self, blocks: Blocks) -> "HostSpace":
        """The hosts that no block holds, numbered anew."""
        return HostSpace(outside(self.blocks, blocks))

    def spans(self, most: int = MOST_HOSTS) -> list[Span]:
        """The first `most` of the sorted disjoint spans that make up the set. Each takes 200 bytes."""
        ipv4, ipv6 = self.blocks
        return spans_of(Blocks(ipv4[: 2 * most], ipv6[: 2 * most]))[:most]

    def digest(self) -> str:
        """16 hexadecimal digits that differ between different sets."""
        import hashlib  # 3 ms, and only for a state or a shard

        total = hashlib.sha256()
        for family in (self._four, self._six):
            for column in (family.starts, family.before):
                total.update(column.view(np.uint8).data)
        return total.hexdigest()[:16]

    def _lower(self, address: Rows) -> tuple[Ints, Bools]:
        """How many hosts have lower addresses, and whether each address is a host."""
        four = is_ipv4(address)
        if four.all():
            lower, member = self._four.lower(address["lo"].astype(np.uint32))
            return lower + self._below, member
        hi, lo = address["hi"], address["lo"]
        lower, member = self._six.lower(keys_of(hi, lo))
        lower += np.where((hi > 0) | (lo > LAST_IPV4), self._four.size, 0)
        if four.any():
            lower[four], member[four] = self._lower(address[four])
        return lower, member


def _sizes_ipv4(edges: Edges) -> Ints:
    """0, and the number of addresses in each block."""
    sizes = np.full(len(edges[::2]) + 1, 1 << 32, np.int64)
    sizes[0] = 0
    sizes[1 : 1 + len(edges) // 2] = edges[1::2]
    sizes[1:] -= edges[::2]
    return sizes


def _sizes_ipv6(edges: Edges, most: int) -> Ints:
    """0, and the number of addresses in each block. Raises OverflowError for more than `most` in all."""
    hi, lo = words(edges)
    # A missing last edge is 2^128. The last address is the edge - 1; only so a block of all addresses, whose two edges
    # would both be 0, differs from an empty one.
    end_hi, end_lo = (np.append(word[1::2], np.zeros(len(edges) % 2, np.uint64)) for word in (hi, lo))
    rest = end_lo - lo[::2] - np.uint64(1)
    beyond = end_hi - hi[::2] - (end_lo <= lo[::2])
    total = (int((rest >> np.uint64(32)).sum()) << 32) + int((rest & np.uint64(0xFFFFFFFF)).sum()) + len(rest)
    if beyond.any() or total > most:
        raise OverflowError("more than 2^62 hosts")
    return np.append(0, rest.view(np.int64) + 1)


def _sum(starts: Edges, offset: Ints) -> tuple[Any, Any]:
    """IPv6 addresses so far behind others, as two words."""
    hi, lo = words(starts)
    end = lo + offset.view(np.uint64)
    return hi + (end < lo), end  # the low word may have run over


def _distance(address: Edges, starts: Edges) -> npt.NDArray[np.uint64]:
    """How far addresses lie behind others, uint64[n]; a number above all sizes if they do not, or very far."""
    if address.dtype == np.uint32:
        return (address.astype(np.int64) - starts).view(np.uint64)
    (hi, lo), (start_hi, start_lo) = words(address), words(starts)
    # A 128-bit difference: its high word is 0 if the high words differ by the borrow.
    return np.where(hi - start_hi == (lo < start_lo), lo - start_lo, np.uint64((1 << 64) - 1))


def _count(family: _Family, edges: Edges) -> int:
    """How many hosts lie in the blocks between edges."""
    below = np.append(family.lower(edges)[0], [family.size] * (len(edges) % 2))
    return int((below[1::2] - below[::2]).sum())
