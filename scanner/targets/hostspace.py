"""The hosts of a scan as one numbered space.

A scan asks for address number i, and for the number of an address, thousands of times a batch, over sets
from one host to all of IPv4. So a set is a few parts, each a list of sorted disjoint blocks with cumulative
counts: both questions are one binary search, and a /8 costs as much as a single host.

The first part's blocks are addresses. Each further part is a wide octet range (a box, see `regions`) whose
blocks are *ranks*: the rank of x is how many elements of the box are below x, four table look-ups, and back
four divisions. Excludes turn into ranks as well, so what is left of a box is again plain blocks.

Numbers run over the blocks in address order, then over each box in address order.

Limit: 2^62 hosts, so that numbers, and their sums, fit a signed word.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet.addresses import from_ints, from_words, is_ipv4
from ..packet.headers import ADDRESS, MAPPED, Bools, Ints, Rows
from .regions import IPV4, SHIFTS, Block, Box, Carved, box_size, clip, octet_values, subtract, union

Words = npt.NDArray[np.uint64]

MOST_HOSTS = 1 << 62


class Shard(NamedTuple):
    """This process's part of the hosts: number 1 … of."""

    number: int = 1
    of: int = 1


WHOLE = Shard()


class Ranks:
    """The elements of one box, numbered in address order."""

    def __init__(self, box: Box) -> None:
        self.size = box_size(box)
        self._values = [np.array(octet_values(mask), np.uint64) for mask in box]
        self._within = [np.isin(np.arange(256), values) for values in self._values]
        # Allowed values under each octet value.
        self._below: list[Ints] = [np.cumsum(within) - within for within in self._within]

    def address(self, rank: Words) -> Words:
        """Ranks uint64[n] → IPv4 addresses, low words of their mapped form, uint64[n]."""
        words = np.full(len(rank), MAPPED, np.uint64)
        for values, shift in reversed(list(zip(self._values, SHIFTS, strict=True))):
            rank, digit = np.divmod(rank, np.uint64(len(values)))
            words |= values[digit] << np.uint64(shift)
        return words

    def rank(self, word: Words) -> tuple[Ints, Bools]:
        """Low words of IPv4 addresses → how many elements are below each, and which are elements themselves."""
        below = np.zeros(len(word), np.int64)
        prefix = np.ones(len(word), np.bool_)  # all octets so far are allowed ones
        weight = self.size
        for values, within, under, shift in zip(self._values, self._within, self._below, SHIFTS, strict=True):
            octet = (word >> np.uint64(shift) & np.uint64(255)).astype(np.intp)
            weight //= len(values)
            below += np.where(prefix, under[octet], 0) * weight
            prefix &= within[octet]
        return below, prefix

    def blocks(self, blocks: list[Block]) -> list[Block]:
        """Blocks of addresses → the blocks of ranks of the elements in them."""
        inside = np.array(clip(blocks, *IPV4), np.uint64).reshape(-1, 2)
        first, _ = self.rank(inside[:, 0])
        last, ends_on = self.rank(inside[:, 1])
        last = last + ends_on - 1
        some = first <= last
        return list(zip(first[some].tolist(), last[some].tolist(), strict=True))


class Part:
    """Sorted disjoint blocks, of addresses or (with `ranks`) of the ranks of a box."""

    def __init__(self, blocks: list[Block], ranks: Ranks | None) -> None:
        self.blocks = blocks
        self.ranks = ranks
        self.before = np.cumsum([0, *(last - first + 1 for first, last in blocks)], dtype=np.int64)
        self.size = int(self.before[-1])
        start = from_ints([first for first, _ in blocks])
        self._hi, self._lo = start["hi"].copy(), start["lo"].copy()

    def pick(self, index: Ints) -> Rows:
        """Numbers within this part int64[n] → ADDRESS[n]."""
        block = np.searchsorted(self.before[1:], index, side="right")
        start = self._lo[block]
        lo = start + (index - self.before[block]).astype(np.uint64)
        if self.ranks is not None:
            return from_words(0, self.ranks.address(lo), len(lo))
        return from_words(self._hi[block] + (lo < start), lo, len(lo))

    def index_of(self, address: Rows) -> Ints:
        """ADDRESS[n] → numbers within this part int64[n], -1 for strangers."""
        hi, lo = address["hi"], address["lo"]
        if self.ranks is None:
            return self._find(hi, lo)
        rank, element = self.ranks.rank(lo)
        found = self._find(np.zeros(len(lo), np.uint64), rank.astype(np.uint64))
        return np.where(element & is_ipv4(address), found, -1)

    def within(self, spans: list[Block]) -> "Part":
        """What of this part lies in sorted disjoint blocks of addresses."""
        bounds = spans if self.ranks is None else self.ranks.blocks(spans)
        return Part(subtract(self.blocks, subtract(self.blocks, bounds)), self.ranks)

    def span(self) -> list[Block]:
        """Blocks of addresses that cover this part; a single one for a box."""
        if self.ranks is None:
            return self.blocks
        ends = self.ranks.address(np.array([self.blocks[0][0], self.blocks[-1][1]], np.uint64))
        return [(int(ends[0]), int(ends[1]))]

    def _find(self, hi: Words, lo: Words) -> Ints:
        at = np.maximum(self._at_or_below(hi, lo), 0)
        offset = lo - self._lo[at]
        same = hi - self._hi[at] == (lo < self._lo[at])  # the high word of the 128-bit difference is zero
        size = (self.before[at + 1] - self.before[at]).astype(np.uint64)
        return np.where(same & (offset < size), self.before[at] + offset.astype(np.int64), -1)

    def _at_or_below(self, hi: Words, lo: Words) -> Ints:
        """The last block that starts at or below each address, -1 for none: a search by one word, or by two."""
        if self._hi[0] == self._hi[-1]:
            at = np.searchsorted(self._lo, lo, side="right") - 1
            return np.where(hi == self._hi[0], at, np.where(hi > self._hi[0], len(self._lo) - 1, -1))
        low, high = np.zeros(len(lo), np.int64), np.full(len(lo), len(self._lo), np.int64)
        for _ in range(len(self._lo).bit_length()):
            middle = np.minimum((low + high) >> 1, len(self._lo) - 1)
            reached = (self._hi[middle] < hi) | ((self._hi[middle] == hi) & (self._lo[middle] <= lo))
            going = low < high
            low = np.where(going & reached, middle + 1, low)
            high = np.where(going & ~reached, middle, high)
        return low - 1


class HostSpace:
    """A numbered set of addresses; numbers are 0 … size-1."""

    def __init__(self, parts: list[Part]) -> None:
        self._parts = [part for part in parts if part.size]
        self._before = np.cumsum([0, *(part.size for part in self._parts)], dtype=np.int64)
        self.size = int(self._before[-1])

    def __len__(self) -> int:
        return self.size

    def pick(self, index: npt.ArrayLike) -> Rows:
        """Numbers uint64[n], each below `size` → ADDRESS[n]."""
        number = np.atleast_1d(np.asarray(index)).astype(np.int64)
        assert not number.size or 0 <= number.min() <= number.max() < self.size
        out = np.empty(len(number), ADDRESS)
        for part, first, rows in self._shares(number):
            out[rows] = part.pick(number[rows] - first)
        return out

    def index_of(self, address: Rows) -> Ints:
        """ADDRESS[n] → numbers int64[n], -1 where the address is not in the set; the inverse of `pick`."""
        number = np.full(len(address), -1, np.int64)
        for part, first in zip(self._parts, self._before, strict=False):
            found = part.index_of(address)
            number = np.where(found >= 0, found + first, number)
        return number

    def within(self, spans: Iterable[Block]) -> "HostSpace":
        """The hosts whose addresses lie in any (first, last) span (128-bit, IPv4 mapped), numbered anew."""
        bounds = union(spans)
        return HostSpace([part.within(bounds) for part in self._parts])

    def spans(self) -> list[Block]:
        """Sorted disjoint (first, last) blocks that cover the set: exact, but for a wide octet range its ends."""
        return union(block for part in self._parts for block in part.span())

    def _shares(self, number: Ints) -> Iterator[tuple[Part, int, Bools | slice]]:
        """Which rows belong to which part, and that part's first number."""
        if len(self._parts) == 1:
            yield self._parts[0], 0, slice(None)
            return
        which = np.searchsorted(self._before[1:], number, side="right")
        for at in np.unique(which).tolist():
            yield self._parts[at], int(self._before[at]), which == at


def number_hosts(carved: Carved) -> HostSpace | None:
    """Disjoint shapes → the space that numbers them; None when it would have more than `MOST_HOSTS` hosts."""
    if sum(last - first + 1 for first, last in carved.blocks) > MOST_HOSTS:
        return None
    parts = [Part(carved.blocks, None)]
    for box in carved.boxes:
        ranks = Ranks(box)
        parts.append(Part(subtract([(0, ranks.size - 1)], ranks.blocks(carved.holes)), ranks))
    space = HostSpace(parts)
    return space if space.size <= MOST_HOSTS else None
