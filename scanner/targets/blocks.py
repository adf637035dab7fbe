"""Sets of addresses as columns, and what can be asked of two sets.

A list of targets may name ten million ranges. As Python objects they need gigabytes, so they are columns from the
start: a range of IPv4 addresses takes 8 bytes, one of IPv6 addresses 32. Sorting and searching such columns answers
every question about two sets, whatever overlaps.

A set is kept as its *edges*: the first address of a block and the address behind its last one alternate, sorted. So a
binary search says whether an address is in the set: it is, if an odd number of edges lies at or below it. A set that
reaches to the last of all addresses has no edge there, and its number of edges is odd. IPv4 and IPv6 have columns of
their own, of words and of 16 bytes in the order of the network. No block lies in both.

Limit: a set is made from all its ranges at once, which are sorted; adding one range costs as much as adding all.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet.headers import MAPPED, U32, U64, Bools

Span = tuple[int, int]  # first and last address, both inside: 128-bit integers with IPv4 mapped
Keys = npt.NDArray[np.bytes_]  # 128-bit numbers as 16 bytes each: numpy sorts and searches bytes, but no pairs
Edges = npt.NDArray[Any]  # of one family, sorted: words or keys

FIRST_IPV4, LAST_IPV4 = MAPPED, MAPPED | 0xFFFFFFFF
PIECE = 1 << 20  # edges looked at at once, because numpy's positions of them take 8 bytes each; an even number
_BIG_ENDIAN = np.dtype([("hi", ">u8"), ("lo", ">u8")])


class Blocks(NamedTuple):
    """A set of addresses: the edges of sorted disjoint blocks that do not touch."""

    ipv4: U32  # unmapped
    ipv6: Keys


NOTHING = Blocks(np.zeros(0, np.uint32), np.zeros(0, "S16"))
EVERYTHING = Blocks(np.zeros(1, np.uint32), np.zeros(1, "S16"))


class Ranges(NamedTuple):
    """Ranges in any order, with any overlaps: first and last address of each."""

    ipv4: U32  # [n, 2], unmapped
    others: Keys  # [m, 2], of IPv6; a range may hold all of IPv4 too

    def inside(self, blocks: Blocks) -> "Ranges":
        """The ranges that lie wholly inside one block each."""
        return Ranges(_inside(self.ipv4, blocks.ipv4), _inside(self.others, blocks.ipv6))

    def spans(self) -> list[Span]:
        """The same as integers, IPv4 first."""
        ipv4 = [(MAPPED | first, MAPPED | last) for first, last in self.ipv4.tolist()]
        return ipv4 + [(_number(first), _number(last)) for first, last in self.others.tolist()]


def ranges_of(spans: Iterable[Span]) -> Ranges:
    """Spans as columns."""
    ipv4: list[int] = []
    others: list[bytes] = []
    for first, last in spans:
        if first >= FIRST_IPV4 and last <= LAST_IPV4:
            ipv4 += (first & 0xFFFFFFFF, last & 0xFFFFFFFF)
        else:
            others += (_key(first), _key(last))
    return Ranges(np.array(ipv4, np.uint32).reshape(-1, 2), np.array(others, "S16").reshape(-1, 2))


def joined(parts: list[Ranges]) -> Ranges:
    """The ranges of all parts. Empties the list, so that no more than one column is in memory twice."""
    ipv4 = np.concatenate([np.zeros((0, 2), np.uint32), *(part.ipv4 for part in parts)])
    others = np.concatenate([np.zeros((0, 2), "S16"), *(part.others for part in parts)])
    parts.clear()
    return Ranges(ipv4, others)


def blocks_of(ranges: Ranges) -> Blocks:
    """The set of all addresses in any of the ranges."""
    others = ranges.others
    across = (others[:, 0] <= _key(LAST_IPV4)) & (others[:, 1] >= _key(FIRST_IPV4))
    if not across.any():
        return Blocks(_merged(ranges.ipv4), _merged(others))
    pieces = []
    for first, last in Ranges(ranges.ipv4[:0], others[across]).spans():
        cuts = (first, FIRST_IPV4 - 1), (max(first, FIRST_IPV4), min(last, LAST_IPV4)), (LAST_IPV4 + 1, last)
        pieces += [cut for cut in cuts if cut[0] <= cut[1]]
    return blocks_of(joined([Ranges(ranges.ipv4, others[~across]), ranges_of(pieces)]))


def outside(blocks: Blocks, holes: Blocks) -> Blocks:
    """What lies in `blocks` but not in `holes`."""
    return Blocks(_outside(blocks.ipv4, holes.ipv4), _outside(blocks.ipv6, holes.ipv6))


def inside(blocks: Blocks, others: Blocks) -> Blocks:
    """What lies in both sets."""
    return outside(blocks, _complement(others))


def union(blocks: Blocks, others: Blocks) -> Blocks:
    """What lies in any of the two sets."""
    return _complement(outside(_complement(blocks), others))


def size_of(blocks: Blocks) -> int:
    """How many addresses the set has."""
    four, six = (_total(edges[1::2]) - _total(edges[::2]) for edges in blocks)
    return four + six + (len(blocks.ipv4) % 2 << 32) + (len(blocks.ipv6) % 2 << 128)


def spans_of(blocks: Blocks) -> list[Span]:
    """The blocks as integers, ascending; those that touch where IPv4 begins or ends are one."""
    four = [MAPPED | edge for edge in blocks.ipv4.tolist()]
    six = [_number(edge) for edge in blocks.ipv6.tolist()]
    edges = sorted([*four, *six, *[LAST_IPV4 + 1] * (len(four) % 2), *[1 << 128] * (len(six) % 2)])
    for border in (FIRST_IPV4, LAST_IPV4 + 1):
        if edges.count(border) == 2:  # it ends one block and begins the next
            edges = [edge for edge in edges if edge != border]
    return [(first, end - 1) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def words(keys: Keys) -> tuple[U64, U64]:
    """Keys → high and low words."""
    pairs = np.ascontiguousarray(keys).view(_BIG_ENDIAN)
    return pairs["hi"].astype(np.uint64), pairs["lo"].astype(np.uint64)


def keys_of(hi: npt.ArrayLike, lo: npt.NDArray[Any]) -> Keys:
    """High and low words → keys."""
    pairs = np.empty(len(lo), _BIG_ENDIAN)
    pairs["hi"], pairs["lo"] = hi, lo
    return pairs.view("S16")


def trimmed(edges: Edges) -> Edges:
    """Edges without a last one that is 0, which stands for the end of all addresses."""
    return edges[:-1] if len(edges) and edges[-1] == np.zeros(1, edges.dtype)[0] else edges


def _merged(ranges: npt.NDArray[Any]) -> Edges:
    """Ranges [n, 2] of one family → the edges of their union."""
    # First and last addresses are sorted apart. At the i-th first address, i ranges have begun before; it begins a new
    # block if all of them are over, so if the i lowest last addresses lie below it, and not just below it.
    first, last = np.sort(ranges[:, 0]), np.sort(ranges[:, 1])
    begins, over = np.ones(len(first), np.bool_), np.ones(len(last), np.bool_)
    begins[1:] = over[:-1] = (first[1:] > last[:-1]) & (first[1:] != _after(last[:-1]))
    edges = np.empty(2 * np.count_nonzero(begins), first.dtype)
    edges[::2] = first[begins]
    del first  # the columns of a long list are much of the memory
    edges[1::2] = _after(last[over])
    return trimmed(edges)


def _after(column: Edges) -> Edges:
    """The next address of each; 0 after the last of all."""
    if column.dtype == np.uint32:
        return np.asarray(column + np.uint32(1))
    hi, lo = words(column)
    lo += np.uint64(1)
    return keys_of(hi + (lo == 0), lo)


def _outside(edges: Edges, holes: Edges) -> Edges:
    if not len(edges) or not len(holes):
        return edges
    # The edge of a hole cuts a block if it lies within, and not where the block begins or ends.
    end = len(holes) if len(edges) % 2 else np.searchsorted(holes, edges[-1])
    cuts = holes[np.searchsorted(holes, edges[0]) : end]
    cuts = cuts[_odd(edges, cuts, "left") & _odd(edges, cuts, "right")]
    result = np.empty(len(edges) + len(cuts), edges.dtype)
    size = done = 0
    for begin in range(0, len(edges), PIECE):
        own = edges[begin : begin + PIECE]
        kept = np.empty(len(own), np.bool_)
        kept[::2] = ~_odd(holes, own[::2], "right")  # a block begins where no hole is
        kept[1::2] = ~_odd(holes, own[1::2], "left")  # and ends if its last address is in no hole
        # No cut lies between the last block of a piece and the next one.
        here = cuts[done : len(cuts) if len(own) % 2 else np.searchsorted(cuts, own[-1])]
        own = own[kept]
        own = np.insert(own, np.searchsorted(own, here), here)
        result[size : size + len(own)] = own
        size, done = size + len(own), done + len(here)
    return result[:size]


def _inside(ranges: npt.NDArray[Any], edges: Edges) -> npt.NDArray[Any]:
    """Those of the ranges [n, 2] that lie inside one block each."""
    kept = np.empty(len(ranges), np.bool_)
    for begin in range(0, len(ranges), PIECE):
        first, last = np.searchsorted(edges, ranges[begin : begin + PIECE], "right").T
        kept[begin : begin + PIECE] = (first == last) & (first % 2 == 1)
    return ranges[kept]


def _odd(edges: Edges, addresses: Edges, side: Any) -> Bools:
    """Whether an odd number of edges lies at or below ("right"), or below ("left") each address."""
    odd = np.empty(len(addresses), np.bool_)
    for begin in range(0, len(addresses), PIECE):
        part = slice(begin, begin + PIECE)
        odd[part] = np.searchsorted(edges, addresses[part], side) & 1
    return odd


def _total(column: Edges) -> int:
    """The sum of addresses."""
    width = column.dtype.itemsize // 4  # in words of 32 bits, whose sums fit 64 bits
    words = np.ascontiguousarray(column).view(">u4" if width > 1 else np.uint32).reshape(-1, width)
    return sum(total << 32 * power for power, total in enumerate(reversed(words.sum(0, np.uint64).tolist())))


def _complement(blocks: Blocks) -> Blocks:
    """Every other address."""
    return Blocks(_others_of(blocks.ipv4), _others_of(blocks.ipv6))


def _others_of(edges: Edges) -> Edges:
    zero = np.zeros(1, edges.dtype)
    return edges[1:] if len(edges) and edges[0] == zero[0] else np.concatenate([zero, edges])


def _key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def _number(key: bytes) -> int:
    """A key, which numpy gives without the zeros at its end."""
    return int.from_bytes(key.ljust(16, b"\0"), "big")
