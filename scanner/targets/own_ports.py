"""Ports of their own: what `192.0.2.7:22,80` in a list, or a row of earlier results, adds to a target.

Each range of addresses has the number of its set of ports, in a column beside the ranges. Set 0 stands for the ports of
targets without ports of their own. One number stands for a whole part of a list where all its ranges have the same
set, so a list where every target has the same own ports needs no column.

A target may be named several times. It gets the union of its ports. To find this union, ranges become intervals of host
numbers, and the ends of all intervals cut these numbers into segments. A segment's sets are added up as random
64-bit words, which tell the combinations apart; then each combination is joined once.

Limits: 65,536 sets of ports, 2^24 ports in all of them, and 2^27 pairs of a segment and a set.
"""

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..packet.addresses import from_ipv4, from_words, is_ipv4
from ..packet.headers import U32, Bools, Ints, Rows
from ..verdict.sentences import plural
from .blocks import FIRST_IPV4, LAST_IPV4, PIECE, Ranges, Span, joined, keys_of, ranges_of, words
from .hostspace import HostSpace
from .ports import NO_PORTS, Ports, parse_ports
from .spaces import MOST_PORTS, MOST_SETS, Runs, Spaces, spaces_of, union_of

Labels = int | U32  # the set of each range, or that of all

_BITS = 17  # of the number of a set: 65,536 sets, and set 0
_MOST_PAIRS = 1 << 27
_TOO_MANY = f"more than {MOST_SETS:,} distinct sets of ports: scan parts of the list one after the other"
_BRACKETS = re.compile(r"\[([^\]]*)\](/[0-9]+)?(:.*)?", re.DOTALL)


def split_ports(word: str) -> tuple[str, str]:
    """A word of a list → target and ports with their colon, or "": `[2001:db8::1]:443`, `web.example:80,443`.

    Without brackets a word with several colons is an IPv6 address.
    """
    if match := _BRACKETS.fullmatch(word):
        address, length, ports = match.groups()
        return address + (length or ""), ports or ""
    target, colon, ports = word.partition(":")
    return (word, "") if ":" in ports else (target, colon + ports)


class Shown(NamedTuple):
    """Targets that earlier results show: ADDRESS[n] and uint16[n]."""

    address: Rows
    port: npt.NDArray[np.uint16]


class OwnPorts:
    """The sets of ports that targets have of their own, by number, without the excluded ports."""

    def __init__(self, excluded: Ports = NO_PORTS) -> None:
        self.sets: list[Ports] = [NO_PORTS]  # set 0 stands for the ports of all other targets
        self.ranges: OwnRanges | int = 0  # the set of each range, or of all, when they have been read
        self.left_out = 0  # ranges whose every port is excluded
        self._excluded = excluded
        self._by_text: dict[str, int] = {}
        self._by_ports: dict[bytes, int] = {}
        self._total = 0

    def number(self, text: str) -> int:
        """The number of the set that this text means. Raises UsageError."""
        known = self._by_text.get(text)
        if known is None:
            ports = parse_ports(text)
            ports = ports[~np.isin(ports, self._excluded)]
            known = self._by_ports.setdefault(ports.tobytes(), len(self.sets))
            if known == len(self.sets):
                self.sets.append(ports)
                self._total += len(ports)
                _check(len(self.sets) - 1, self._total)
            if len(self._by_text) < 4 * MOST_SETS:  # as a rule every text is another set
                self._by_text[text] = known
        return known

    @property
    def empty(self) -> Bools:
        """Which sets have no port, because all of them are excluded; set 0 is not one of them."""
        return np.array([False, *(not len(ports) for ports in self.sets[1:])])

    def keep(self, ranges: "OwnRanges") -> None:
        """All ranges have been read. Where all have the same set, they are not kept."""
        only = ranges.one_set
        self.ranges = ranges if only is None else only

    @property
    def mixed(self) -> bool:
        """Whether some targets have no ports of their own."""
        if isinstance(self.ranges, int):
            return not self.ranges
        return not (np.all(self.ranges.ipv4) and np.all(self.ranges.others))

    def notes(self, ports: str | None, top_ports: int | None) -> list[str]:
        """What a user must know who has given `-p` or `--top-ports`, or excluded ports."""
        lines = []
        if self.left_out:
            lines.append(f"left out {plural(self.left_out, 'target')} of the lists: each of its ports is excluded")
        if self.ranges != 0 and (ports is not None or top_ports is not None):
            given = f"--top-ports {top_ports}" if ports is None else f"-p {ports}"
            rest = "the others" if self.mixed else "no target"
            lines.append(f"targets with ports of their own are scanned on these, and {given} is for {rest}")
        return lines

    def of_shown(self, shown: Shown) -> "OwnRanges":
        """Targets of earlier results as ranges of one address."""
        distinct, index = np.unique(shown.port, return_inverse=True)
        sets = np.array([self.number(str(port)) for port in distinct.tolist()], np.uint32)[index]
        ipv4 = is_ipv4(shown.address)
        four, six = shown.address[ipv4]["lo"].astype(np.uint32), shown.address[~ipv4]
        ranges = Ranges(four.repeat(2).reshape(-1, 2), keys_of(six["hi"], six["lo"]).repeat(2).reshape(-1, 2))
        return OwnRanges(ranges, sets[ipv4], sets[~ipv4])


def _check(sets: int, ports: int) -> None:
    if sets > MOST_SETS:
        raise UsageError(_TOO_MANY)
    if ports > MOST_PORTS:
        raise UsageError(f"the sets of ports have more than {MOST_PORTS:,} ports in all: scan the list in parts")


class OwnRanges(NamedTuple):
    """Ranges, and the set of each, by family."""

    ranges: Ranges
    ipv4: Labels = 0
    others: Labels = 0

    @property
    def size(self) -> int:
        """How many ranges there are."""
        return len(self.ranges.ipv4) + len(self.ranges.others)

    @property
    def one_set(self) -> int | None:
        """The set of all ranges, where they have the same. Of no ranges it is 0."""
        pairs = ((self.ipv4, self.ranges.ipv4), (self.others, self.ranges.others))
        labels = {label if isinstance(label, int) else -1 for label, column in pairs if len(column)}
        return None if len(labels) > 1 or -1 in labels else min(labels, default=0)

    def columns(self) -> tuple[U32, U32]:
        """The set of each range as columns."""
        pairs = ((self.ipv4, self.ranges.ipv4), (self.others, self.ranges.others))
        ipv4, others = (np.broadcast_to(np.asarray(label, np.uint32), len(column)) for label, column in pairs)
        return ipv4, others

    def without(self, empty: Bools) -> "OwnRanges":
        """Those whose set is not empty; `empty` by the number of the set."""
        if not empty.any():
            return self
        columns = self.columns()
        (ipv4, others), kept = columns, [~empty[column] for column in columns]
        ranges = Ranges(self.ranges.ipv4[kept[0]], self.ranges.others[kept[1]])
        return OwnRanges(ranges, ipv4[kept[0]], others[kept[1]])


def of_spans(spans: list[Span], sets: list[int]) -> OwnRanges:
    """Spans, and the set of each."""
    if not any(sets):
        return OwnRanges(ranges_of(spans))
    column, ipv4 = np.array(sets, np.uint32), [first >= FIRST_IPV4 and last <= LAST_IPV4 for first, last in spans]
    four = np.array(ipv4, np.bool_)
    return OwnRanges(ranges_of(spans), column[four], column[~four])


def together(parts: list[OwnRanges]) -> OwnRanges:
    """All ranges of some parts. Empties the list."""
    ranges = [part.ranges for part in parts]
    sets = {part.one_set for part in parts if part.size}
    if len(sets) < 2 and None not in sets:
        parts.clear()
        only = next(iter(sets), 0) or 0
        return OwnRanges(joined(ranges), only, only)
    columns = [part.columns() for part in parts]
    parts.clear()
    ipv4, others = (np.concatenate([pair[family] for pair in columns]) for family in (0, 1))
    return OwnRanges(joined(ranges), ipv4, others)


def assigned(hosts: HostSpace, own: OwnPorts, usual: Ports) -> Spaces:
    """The spaces of these hosts: each has the ports of all ranges that name it. `usual`: those of set 0.

    Raises UsageError for too many sets.
    """
    sets = [usual, *own.sets[1:]]
    if isinstance(own.ranges, int):
        return Spaces(hosts, [sets[own.ranges]])
    begin, end, label = _intervals(hosts, own.ranges)
    order = np.argsort(begin, kind="stable")
    begin, end, label = begin[order], end[order], label[order]
    if (end[:-1] <= begin[1:]).all():
        changes = np.append(True, label[1:] != label[:-1])
        seen = np.bincount(label) > 0
        used, number = np.flatnonzero(seen).tolist(), (np.cumsum(seen) - 1)[label[changes]]
        return spaces_of(hosts, *_distinct([[sets[each]] for each in used], begin[changes], number))
    return spaces_of(hosts, *_combined(begin, end, label, sets))


def _intervals(hosts: HostSpace, own: OwnRanges) -> tuple[Ints, Ints, U32]:
    """Ranges as intervals of host numbers that hold a host, and the set of each."""
    found: list[tuple[Ints, Ints, U32]] = []
    for column, labels in zip(own.ranges, own.columns(), strict=True):
        for at in range(0, len(column), PIECE):
            first, last = column[at : at + PIECE].T
            order = np.argsort(first)  # addresses in order are found ten times as fast
            first, last, label = first[order], last[order], labels[at : at + PIECE][order]
            begin = hosts.below(_addresses(first))
            end = begin + (hosts.index_of(_addresses(first)) >= 0)
            wide = np.flatnonzero(first != last)
            far = _addresses(last[wide])
            end[wide] = hosts.below(far) + (hosts.index_of(far) >= 0)
            kept = end > begin
            found.append((begin[kept], end[kept], label[kept]))
    begin, end, label = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return begin, end, label


def _addresses(column: npt.NDArray[np.generic]) -> Rows:
    if column.dtype == np.uint32:
        return from_ipv4(column)
    return from_words(*words(np.ascontiguousarray(column)), len(column))


def _combined(begin: Ints, end: Ints, label: U32, sets: list[Ports]) -> tuple[list[Ports], Runs]:
    """The sets and the runs of intervals that overlap."""
    edges = _distinct_sorted(np.concatenate([begin, end]))
    first, behind = np.searchsorted(edges, begin), np.searchsorted(edges, end)
    count = behind - first
    if count.sum() > _MOST_PAIRS:
        raise UsageError("the targets of the lists overlap too often: name each address in fewer lines")
    segment = np.repeat(first - (np.cumsum(count) - count), count) + np.arange(count.sum())
    pair = _distinct_sorted(segment << _BITS | np.repeat(label, count))
    segment, label = pair >> _BITS, (pair & ((1 << _BITS) - 1)).astype(np.uint32)
    starts = np.flatnonzero(np.append(True, segment[1:] != segment[:-1]))
    # Of 65,536 different sums of random words two are equal with a chance of 1 in 10^10.
    word = np.random.Philox(key=1).random_raw(len(sets))
    _, example, number = np.unique(np.add.reduceat(word[label], starts), return_index=True, return_inverse=True)
    if len(example) > 4 * MOST_SETS:
        raise UsageError(_TOO_MANY)
    bounds = np.append(starts, len(label))
    combinations = [[sets[each] for each in label[bounds[at] : bounds[at + 1]].tolist()] for at in example.tolist()]
    return _distinct(combinations, edges[:-1], number)


def _distinct_sorted(column: Ints) -> Ints:
    """Each number once, ascending: numpy's own function takes ten times as long."""
    column.sort()
    return np.asarray(column[np.append(True, column[1:] != column[:-1])])


def _distinct(combinations: list[list[Ports]], first: Ints, number: Ints) -> tuple[list[Ports], Runs]:
    """Combinations of sets, and which of them each run has → the distinct unions, and the runs."""
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
            _check(len(unions), total)
    return unions, Runs(first, which[number].astype(np.uint16))
