"""Which host has which ports: the spaces of hosts that lists name with ports of their own, once or several times.

A target may be named several times. It gets the union of its ports. To find it, ranges become intervals of host
numbers, and the ends of all intervals cut these numbers into segments. Nearly all segments have one set. Where a
segment has several, they are added up as random 64-bit words, which tell the combinations apart; then each combination
is joined once. Ten million ranges are usual, so columns have the smallest type that holds host numbers, and are filled
piece by piece.

Limit: 2^27 pairs of a segment and a set.
"""

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..packet.addresses import from_ipv4, from_words
from ..packet.headers import U32, Ints, Rows
from .blocks import words
from .hostspace import HostSpace
from .own_ports import TOO_MANY, OwnPorts, OwnRanges, check
from .ports import Ports
from .spaces import MOST_SETS, Numbers, Runs, Spaces, numbers_of, spaces_of, union_of

_BITS = 17  # of the number of a set: 65,536 sets, and set 0
_MOST_PAIRS = 1 << 27
_PIECE = 1 << 18  # ranges looked at at once


def assigned(hosts: HostSpace, own: OwnPorts, usual: Ports) -> Spaces:
    """The spaces of these hosts: each has the ports of all ranges that name it. `usual`: those of set 0.

    Takes the ranges out of `own`, because they may be the largest columns there are. Raises UsageError for too many
    sets.
    """
    sets = [usual, *own.sets[1:]]
    if isinstance(own.ranges, int):
        return Spaces(hosts, [sets[own.ranges]])
    begin, end, label = _intervals(hosts, own.taken())
    edges = _distinct_sorted(np.concatenate([begin, end]))
    pairs = _pairs(_place(edges, begin), _place(edges, end), label)
    del begin, end, label  # ten million of each are 120 MB
    number, several = _combined(_distinct_sorted(pairs), len(sets))
    del pairs
    seen = np.flatnonzero(np.bincount(number, minlength=len(sets) + len(several)))
    combinations = [[sets[at]] if at < len(sets) else [sets[each] for each in several[at - len(sets)]] for at in seen]
    unions, which = _distinct(combinations)
    ports = np.zeros(len(sets) + len(several), np.uint16)
    ports[seen] = which
    changes = np.append(True, number[1:] != number[:-1])
    runs = Runs(edges[:-1][changes], ports[number[changes]])
    del edges, number
    return spaces_of(hosts, unions, runs)


def _intervals(hosts: HostSpace, own: OwnRanges) -> tuple[Numbers, Numbers, U32]:
    """Ranges as intervals of host numbers that hold a host, and the set of each."""
    begins, ends = np.empty(own.size, numbers_of(hosts.size)), np.empty(own.size, numbers_of(hosts.size))
    label, filled = np.empty(own.size, np.uint32), 0
    for column, labels in zip(own.ranges, own.columns(), strict=True):
        for at in range(0, len(column), _PIECE):
            first, last = column[at : at + _PIECE].T
            order = np.argsort(first)  # addresses in order are found ten times as fast
            first, last = first[order], last[order]
            begin = hosts.below(_addresses(first))
            end = begin + (hosts.index_of(_addresses(first)) >= 0)
            wide = np.flatnonzero(first != last)
            far = _addresses(last[wide])
            end[wide] = hosts.below(far) + (hosts.index_of(far) >= 0)
            kept = end > begin
            piece = slice(filled, filled := filled + int(np.count_nonzero(kept)))
            begins[piece], ends[piece], label[piece] = begin[kept], end[kept], labels[at : at + _PIECE][order][kept]
    return begins[:filled], ends[:filled], label[:filled]


def _addresses(column: npt.NDArray[np.generic]) -> Rows:
    if column.dtype == np.uint32:
        return from_ipv4(column)
    return from_words(*words(np.ascontiguousarray(column)), len(column))


def _place(edges: Numbers, column: Numbers) -> Numbers:
    """Where in the edges each value stands, in place of the values: a second column would take as much again."""
    for at in range(0, len(column), _PIECE):
        column[at : at + _PIECE] = np.searchsorted(edges, column[at : at + _PIECE])
    return column


def _pairs(first: Numbers, behind: Numbers, label: U32) -> Ints:
    """Each segment with each set that it has, in one word. Raises UsageError for very many."""
    total = int(behind.sum(dtype=np.int64) - first.sum(dtype=np.int64))
    if total > _MOST_PAIRS:
        raise UsageError("the targets of the lists overlap too often: name each address in fewer lines")
    pairs, filled = np.empty(total, np.int64), 0
    for at in range(0, len(label), _PIECE):
        begin, count = first[at : at + _PIECE].astype(np.int64), behind[at : at + _PIECE] - first[at : at + _PIECE]
        places = np.cumsum(count, dtype=np.int64)
        segment = np.repeat(begin - places + count, count) + np.arange(places[-1])
        piece = slice(filled, filled := filled + len(segment))
        pairs[piece] = segment << _BITS | np.repeat(label[at : at + _PIECE], count)
    return pairs


def _combined(pairs: Ints, sets: int) -> tuple[Ints, list[list[int]]]:
    """Which sets each segment has: the number of the only one, or `sets` and the place of a combination."""
    label = pairs.astype(np.uint32)  # the lower half
    label &= np.uint32((1 << _BITS) - 1)
    pairs >>= _BITS
    begins = np.append(True, pairs[1:] != pairs[:-1])
    number, alone = label[begins], begins & np.append(begins[1:], True)
    if alone.all():
        return number, []
    starts, label = np.flatnonzero(begins[~alone]), label[~alone]
    # Of 65,536 different sums of random words two are equal with a chance of 1 in 10^10.
    word = np.random.Philox(key=1).random_raw(sets)
    _, example, combination = np.unique(np.add.reduceat(word[label], starts), return_index=True, return_inverse=True)
    if len(example) > 4 * MOST_SETS:
        raise UsageError(TOO_MANY)
    number[~alone[begins]] = sets + combination
    bounds = np.append(starts, len(label))
    return number, [label[bounds[at] : bounds[at + 1]].tolist() for at in example.tolist()]


def _distinct_sorted(column: Numbers) -> Numbers:
    """Each number once, ascending: numpy's own function takes ten times as long."""
    column.sort()
    fresh = np.append(True, column[1:] != column[:-1])
    return column if fresh.all() else column[fresh]


def _distinct(combinations: list[list[Ports]]) -> tuple[list[Ports], Ints]:
    """Combinations of sets → the distinct unions, and which of them each combination is."""
    known: dict[bytes, int] = {}
    unions: list[Ports] = []
    total = 0
    which = np.empty(len(combinations), np.int64)
    for at, parts in enumerate(combinations):
        ports = union_of(parts)
        which[at] = known.setdefault(ports.tobytes(), len(unions))
        if which[at] == len(unions):
            unions.append(ports)
            total += len(ports)
            check(len(unions), total)
    return unions, which
