"""Ports of their own: what `192.0.2.7:22,80` in a list, or a row of earlier results, adds to a target.

Each range of addresses has the number of its set of ports, in a column beside the ranges. Set 0 stands for the ports of
targets without ports of their own. One number stands for a whole part of a list where all its ranges have the same
set, so a list where every target has the same own ports needs no column.

A target may be named several times. It gets the union of its ports (`joining`).

Limits: 65,536 sets of ports, and 2^24 ports in all of them.
"""

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..packet.addresses import is_ipv4
from ..packet.headers import U32, Bools, Rows
from ..verdict.sentences import plural
from .blocks import FIRST_IPV4, LAST_IPV4, Ranges, Span, joined, keys_of, ranges_of
from .ports import NO_PORTS, Ports, parse_ports
from .spaces import MOST_PORTS, MOST_SETS

Labels = int | U32  # the set of each range, or that of all

TOO_MANY = f"more than {MOST_SETS:,} distinct sets of ports: scan parts of the list one after the other"
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
        self.some, self.mixed = False, True  # whether some targets have ports of their own, and whether some have none
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
                check(len(self.sets) - 1, self._total)
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
        self.some = only != 0
        self.mixed = only == 0 or (only is None and not (np.all(ranges.ipv4) and np.all(ranges.others)))

    def taken(self) -> "OwnRanges":
        """The ranges, which are then no longer held here."""
        assert not isinstance(self.ranges, int)
        ranges, self.ranges = self.ranges, 0
        return ranges

    def notes(self, ports: str | None, top_ports: int | None) -> list[str]:
        """What a user must know who has given `-p` or `--top-ports`, or excluded ports."""
        lines = []
        if self.left_out:
            lines.append(f"left out {plural(self.left_out, 'target')} of the lists: each of its ports is excluded")
        if self.some and (ports is not None or top_ports is not None):
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


def check(sets: int, ports: int) -> None:
    """Raises UsageError for more distinct sets, or more ports in all of them, than there may be."""
    if sets > MOST_SETS:
        raise UsageError(TOO_MANY)
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
