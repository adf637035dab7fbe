"""The hosts of a scan as one numbered set, and the arithmetic of such sets.

A scan needs address number i, and the number of an address, thousands of times a batch, for sets from one host to all
of IPv4. The set is therefore a list of sorted, disjoint blocks with cumulative counts. Both questions are one binary
search, and a /8 costs as much as a single host. Numbers follow the order of the addresses.

A set is written as its *edges*: an ADDRESS column in which the first address of a block and the address behind its
last one alternate. An edge is where membership changes, so one sort and two running sums answer every question about
two sets (see `_sweep`), whatever overlaps.

Limits: 2^62 hosts, so that numbers, and their sums, fit a signed word. Memory grows with the number of blocks: some
60 bytes for each.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet.addresses import from_ints, from_words, to_ints
from ..packet.headers import Bools, Ints, Rows

Span = tuple[int, int]  # first and last address, both inside: 128-bit integers with IPv4 mapped
Keys = npt.NDArray[np.bytes_]

MOST_HOSTS = 1 << 62
_EVERY_ADDRESS = (1 << 128) - 1
_BIG_ENDIAN = np.dtype([("hi", ">u8"), ("lo", ">u8")])


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


def edges_of(spans: Iterable[Span]) -> Rows:
    """Spans in any order, with any overlaps → their edges, unsorted, ADDRESS[2n].

    The edge behind the last of all addresses is 2^128, which a column cannot hold: it becomes 0.
    """
    return from_ints([edge for first, last in spans for edge in (first, (last + 1) & _EVERY_ADDRESS)])


def outside(edges: Rows, holes: Rows) -> Rows:
    """What lies in `edges` but not in `holes`, as sorted edges of disjoint blocks that do not touch."""
    return _sweep(edges, holes, covered=False)


def _sweep(edges: Rows, others: Rows, covered: bool) -> Rows:
    """Walk over all addresses once, from edge to edge; keep what is in `edges` and (not) `covered` by `others`."""
    ours, theirs = _steps(edges), _steps(others)
    both = np.concatenate([edges, others])
    order = np.lexsort((both["lo"], both["hi"]))
    both = both[order]
    # Behind each edge: how many blocks of each set are open there.
    depth = np.cumsum(np.concatenate([ours, np.zeros_like(theirs)])[order])
    other_depth = np.cumsum(np.concatenate([np.zeros_like(ours), theirs])[order])
    kept = (depth > 0) & ((other_depth > 0) == covered)
    # Of several edges at one address only the last one counts: behind it all of them have been added up.
    hi, lo = both["hi"], both["lo"]
    final = np.append((hi[1:] != hi[:-1]) | (lo[1:] != lo[:-1]), np.ones(min(1, len(both)), np.bool_))
    both, kept = both[final], kept[final]
    changes = kept != np.append(np.zeros(min(1, len(kept)), np.bool_), kept[:-1])
    result = both[changes]
    # A set that is still open at the end reaches to 2^128, which is written as 0.
    return np.append(result, np.zeros(len(result) % 2, result.dtype))


def _steps(edges: Rows) -> Ints:
    """+1 where a block begins and -1 where it ends; an end at 2^128, written as 0, never comes."""
    steps = np.ones(len(edges), np.int64)
    steps[1::2] = -((edges["hi"][1::2] | edges["lo"][1::2]) != 0).astype(np.int64)
    return steps


def _keys(column: Rows) -> Keys:
    """128-bit numbers as 16 bytes each, whose order is that of the numbers: numpy searches bytes, but no pairs."""
    return column.astype(_BIG_ENDIAN).view("S16")


class HostSpace:
    """A numbered set of addresses; numbers are 0 … size-1, in the order of the addresses."""

    def __init__(self, edges: Rows) -> None:
        """`edges` are those of sorted disjoint blocks. Raises OverflowError for more than `MOST_HOSTS` hosts."""
        start, end = edges[::2], edges[1::2]
        # Last minus first in two words. The last address is `end` - 1; only so a block of all 2^128 addresses, whose
        # two edges are both 0, differs from an empty one.
        rest = end["lo"] - start["lo"] - np.uint64(1)
        beyond = end["hi"] - start["hi"] - (end["lo"] <= start["lo"])
        if beyond.any() or sum(rest.tolist()) + len(rest) > MOST_HOSTS:
            raise OverflowError("more than 2^62 hosts")
        self._edges, self._keys = edges, _keys(start)
        self._hi, self._lo = start["hi"].copy(), start["lo"].copy()
        self._sizes = rest + np.uint64(1)
        # Hosts before each block; behind the last one, all of them.
        self._before = np.concatenate([[0], np.cumsum(self._sizes.astype(np.int64))])
        self.size = int(self._before[-1])

    def __len__(self) -> int:
        return self.size

    def pick(self, index: npt.ArrayLike) -> Rows:
        """Numbers uint64[n], each below `size` → ADDRESS[n]."""
        number = np.atleast_1d(np.asarray(index)).astype(np.int64)
        assert not number.size or 0 <= number.min() <= number.max() < self.size
        block = np.searchsorted(self._before[1:], number, side="right")
        start = self._lo[block]
        lo = start + (number - self._before[block]).astype(np.uint64)
        return from_words(self._hi[block] + (lo < start), lo, len(lo))  # the low word may have run over

    def index_of(self, address: Rows) -> Ints:
        """ADDRESS[n] → numbers int64[n], -1 where the address is not in the set; the inverse of `pick`."""
        block, offset, member = self._find(address)
        return np.where(member, self._before[block] + offset, -1)

    def below(self, address: Rows) -> Ints:
        """ADDRESS[n] → how many hosts have lower addresses, int64[n]."""
        block, offset, member = self._find(address)
        # Outside the block, all hosts up to its end are below: for block -1 those before block 0, none.
        return np.where(member, self._before[block] + offset, self._before[block + 1])

    def count(self, edges: Rows) -> int:
        """How many hosts lie in the blocks between `edges`, which are sorted and disjoint."""
        below = self.below(edges)
        ends_behind_all = edges["hi"][1::2] | edges["lo"][1::2] == 0
        below[1::2][ends_behind_all] = self.size
        return int((below[1::2] - below[::2]).sum())

    def within(self, spans: Iterable[Span]) -> "HostSpace":
        """The hosts whose addresses lie in any span, numbered anew."""
        return HostSpace(_sweep(self._edges, edges_of(spans), covered=True))

    def without(self, edges: Rows) -> "HostSpace":
        """The hosts that no block of `edges` holds, numbered anew."""
        return HostSpace(outside(self._edges, edges))

    def spans(self) -> list[Span]:
        """The sorted disjoint spans that make up the set."""
        edges = to_ints(self._edges)
        return [(first, (end - 1) & _EVERY_ADDRESS) for first, end in zip(edges[::2], edges[1::2], strict=True)]

    def _find(self, address: Rows) -> tuple[Ints, Ints, Bools]:
        """Each address: the last block that starts at or below it (-1: none), the offset, and whether it is inside."""
        block = np.searchsorted(self._keys, _keys(address), side="right") - 1
        if not self.size:
            return block, block, block >= 0
        # The distance from its start, a 128-bit difference: its high word is 0 if the high words differ by the borrow.
        lo, start = address["lo"], self._lo[block]
        offset = lo - start
        near = address["hi"] - self._hi[block] == (lo < start)
        member = (block >= 0) & near & (offset < self._sizes[block])
        return block, offset.astype(np.int64), member
