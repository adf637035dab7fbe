"""Host specifications: text → the numbered set of `hostspace`.

The grammar is what users of nmap, masscan and ZMap type: addresses, CIDR (host bits allowed), octet patterns
(10.0-3,7.*.1-254), ranges between whole addresses, the same for IPv6 where it makes sense, and host names. Targets and
excludes share it. `literals` reads one spec, and in long lists `lists` reads the usual IPv4 forms in bulk.

A spec of digits, dots, commas, dashes and stars is meant as an address and never resolved as a name: `1.2.3` and
`300.1.1.1` are mistakes. Numbers with leading zeros are refused, because some tools read them as octal and others do
not. A list may name a host twice or overlap itself; each host is numbered once.

Limits: no IPv6 patterns. The zone of fe80::1%eth0 stands beside the set (`zones`). In a long list, names, octet
patterns and IPv6 blocks take some microseconds each.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..errors import UsageError, escaped
from ..packet.headers import MAPPED, U32
from ..verdict.sentences import plural
from .blocks import NOTHING, Blocks, Ranges, Span, blocks_of, inside, joined, outside, ranges_of, size_of, union
from .files import Tell
from .hostspace import HostSpace
from .lists import Lines, place_of, read_lines, words_of
from .literals import ipv6_addresses, ipv6_span, span_of
from .names import Named, Names, Naming, Resolve, check_name, literals_of
from .own_ports import OwnPorts, OwnRanges, Shown, of_spans, split_ports, together
from .patterns import pattern
from .zones import Zones, joined_zones, zone_of

Specs = Iterable[str | bytes | Lines | Shown]  # one spec, whole lines of a list, or targets of earlier results

SPANS_HELD = 1 << 16  # Python integers take ten times the memory of a column
_NUMERIC = re.compile(r"[0-9.,*/-]+")
_NAME = re.compile(r"([\w.-]+)(/[0-9]+)?")


class Listed(NamedTuple):
    """What some specs name."""

    blocks: Blocks
    written: Ranges  # specs whole, from the first to the last address of each; of a name, its addresses one by one
    largest: str  # the spec that names most addresses; "" if there is none
    specs: int
    head: list[str]  # the first of them
    names: Names


class Targets(NamedTuple):
    """The hosts that are left, targets as they were written, and what the first excludes took, each by itself."""

    hosts: HostSpace
    written: Ranges
    excluded: list[tuple[str, int]]
    excludes: int
    names: Names
    other_family: int  # addresses that are left out because one family was chosen


def parse_hosts(specs: Specs, excludes: Specs, resolve: Resolve, all_addresses: bool = False) -> HostSpace:
    """Specs without excludes → the numbered set of their addresses.

    A text is one spec; bytes are whole lines of a list, or `Lines`, as `files.read_list` gives them.

    `resolve` turns a host name into literal addresses, [] (or OSError) if there are none; the first is
    used, or all with `all_addresses`; excluding a name always excludes all. Raises UsageError, naming the
    spec, for what cannot be read or resolved, for patterns of too many blocks, for an empty result, and for more than
    2^62 hosts.
    """
    return parse_targets(specs, excludes, resolve, all_addresses).hosts


def parse_targets(
    specs: Specs, excludes: Specs, resolve: Resolve, all_addresses: bool = False, around: Blocks = NOTHING,
    counted: int = 0, family: int = 0, lenient: bool = False, tell: Tell | None = None, own: OwnPorts | None = None,
) -> Targets:  # fmt: skip
    """As `parse_hosts`, with more about it.

    `family`, `lenient`, `tell`: see `names.Naming`. With `family` addresses of the other IP version are left out.

    `around`: of targets that lie wholly inside one of these blocks it is kept how they were written. `counted`: of how
    many excludes to count what each took. `own`: takes the ports that targets of lists have of their own; None: they
    have none.
    """
    naming = Naming(resolve, all_addresses, family, lenient, tell)
    include = _listed(specs, naming, around=around, targets=True, own=own)
    exclude = _listed(excludes, Naming(resolve, all_addresses=True, tell=tell), counted)
    if not include.specs:
        raise UsageError("no targets: name at least one address, range or host name")
    if own and own.left_out and not size_of(include.blocks):
        raise UsageError("every port of the targets was excluded: exclude fewer ports")
    blocks, other_family = _of_family(include, family)
    try:
        hosts = HostSpace(outside(blocks, exclude.blocks))
    except OverflowError:
        message = f"{include.largest}: too many addresses, more than 2^62 in all: name smaller blocks"
        raise UsageError(message) from None
    if not hosts:
        largest = include.largest
        raise UsageError(f"every target was excluded (the largest was {largest}): name other targets or exclude less")
    by_itself = [(spec, _listed([spec], Naming(resolve, all_addresses=True)).blocks) for spec in exclude.head]
    excluded = [(spec, size_of(inside(taken, blocks))) for spec, taken in by_itself]
    return Targets(hosts, include.written, excluded, exclude.specs, include.names, other_family)


def _of_family(listed: Listed, family: int) -> tuple[Blocks, int]:
    """The addresses of one IP version (0: both), and how many others there are. Raises UsageError if none is left."""
    ipv4, ipv6 = listed.blocks
    blocks = Blocks(ipv4 if family != 6 else NOTHING.ipv4, ipv6 if family != 4 else NOTHING.ipv6)
    size = size_of(blocks)
    if not size and listed.names.unresolved:
        cause, *more = listed.names.unresolved.values()
        others = f", nor {plural(len(more), 'other name')}" if more else ""
        raise UsageError(f"{cause}{others}: check the spelling, or give its address")
    if not size:
        raise UsageError(f"no target has an IPv{family} address: leave out -{family}, or name others")
    return blocks, size_of(listed.blocks) - size


class _Reader:
    """Reads specs one after the other, and keeps what they name as columns."""

    def __init__(self, targets: bool, own: OwnPorts | None) -> None:
        """`targets`: where zones count, which excludes may have for nothing. `own`: where ports count."""
        self._targets, self._own = targets, own
        self._named: list[Named] = []  # what is to be resolved
        self._parts: list[OwnRanges] = []
        self._spans: list[Span] = []  # not in a column yet
        self._sets: list[int] = []  # of ports, of each of them
        self._patterns: list[OwnRanges] = []  # their blocks
        self._ends: list[Span] = []  # of patterns
        self._blocks = self._most = self._count = 0
        self._largest = ""

    def add(self, spec: str, lines: Lines | None = None, ports: int = 0, word: str = "") -> None:
        """One spec, also of some lines of a list: then with its set of ports, and the whole word. Raises UsageError."""
        self._count += 1
        if ":" in spec or _NUMERIC.fullmatch(spec):
            self._add_literal(spec, spec, ports)
        else:
            self._named.append(_named(spec, lines)._replace(spec=word or spec, ports=ports))

    def _add_literal(self, literal: str, spec: str, ports: int) -> None:
        """A spec, or what stands for it. Raises UsageError."""
        span = span_of(literal)
        if span is not None:
            if self._targets and "%" in literal:
                zone_of(literal, *span)  # raises UsageError where a zone means nothing
            self._spans.append(span)
            self._sets.append(ports)
            size = span[1] - span[0] + 1
        else:
            words = pattern(literal, self._blocks)
            edges = (words.reshape(-1, 2) - (0, 1)).astype(np.uint32)
            self._patterns.append(OwnRanges(Ranges(edges, np.zeros((0, 2), "S16")), ports))
            self._ends.append((MAPPED | int(words[0]), MAPPED | int(words[-1]) - 1))
            self._blocks += len(words) // 2
            size = int((words[1::2] - words[::2]).sum())
        self._compare(spec, size)
        if len(self._spans) >= SPANS_HELD:
            self._put_spans()

    def _put_spans(self) -> None:
        self._parts.append(of_spans(self._spans, self._sets))
        self._spans.clear()
        self._sets.clear()

    def add_lines(self, lines: Lines) -> None:
        """Whole lines of a list. Raises UsageError."""
        words = read_lines(lines.text, self._own is not None)
        try:
            sets = self._numbers(words.own)
        except UsageError:
            for word in words_of(lines.text):  # another mistake may stand before this one
                self._add_all([word], lines)
            raise
        self._add_all(words.others[: words.before], lines)
        self._compare(words.largest, words.most)
        self._add_all(words.others[words.before :], lines)
        self._parts.append(OwnRanges(words.ranges, int(sets[0]) if words.which is None else sets[words.which]))
        self._count += len(words.ranges.ipv4)

    def _numbers(self, texts: list[str]) -> U32:
        """The sets that these texts mean; "" stands for none. Raises UsageError."""
        return np.array([self._own.number(text[1:]) if self._own and text else 0 for text in texts], np.uint32)

    def _add_all(self, words: list[str], lines: Lines) -> None:
        """Words of a list. Raises UsageError that names the place."""
        addresses = ipv6_addresses(words)
        pairs = [(word, "") for word in words]
        if addresses is None and self._own:
            pairs = list(map(split_ports, words))
            addresses = ipv6_addresses([target for target, _ in pairs])
        if addresses is None:
            for word, (target, ports) in zip(words, pairs, strict=True):
                try:
                    self.add(target, lines, int(self._numbers([ports])[0]), word)
                except UsageError as error:
                    raise UsageError(f"{place_of(word, lines)}{error}") from None
        else:
            self._compare(words[0], 1)
            self._count += len(words)
            sets = self._numbers([ports for _, ports in pairs])
            self._parts.append(OwnRanges(addresses, 0, sets if sets.any() else 0))

    def add_shown(self, shown: Shown) -> None:
        """Targets of earlier results. Raises UsageError."""
        assert self._own
        self._parts.append(self._own.of_shown(shown))
        self._count += len(shown.port)
        self._compare("earlier results", len(shown.port))

    def listed(self, head: list[str], around: Blocks, naming: Naming) -> Listed:
        """All that was read, with its names resolved. Nothing can be added then. Raises UsageError."""
        literals, names = literals_of(self._named, naming)
        for named, text in literals:
            self._add_literal(text, named.spec, named.ports)
        self._put_spans()
        empty = self._own.empty if self._own else np.zeros(1, np.bool_)
        every = together(self._parts)
        own = every.without(empty)
        left_out, blocks, written = every.size - own.size, blocks_of(own.ranges), own.ranges
        if self._blocks:
            every = together(self._patterns)
            patterns = every.without(empty)
            left_out += every.size - patterns.size
            blocks = union(blocks, blocks_of(patterns.ranges))
            written = joined([written, ranges_of(self._ends)])
            own = together([own, patterns])
        if self._own:
            self._own.left_out = left_out
            self._own.keep(own)
        return Listed(blocks, written.inside(around), self._largest, self._count, head, names)

    def _compare(self, spec: str, size: int) -> None:
        if size > self._most:
            self._largest, self._most = spec, size


def _listed(
    specs: Specs, naming: Naming, counted: int = 0, around: Blocks = NOTHING, targets: bool = False,
    own: OwnPorts | None = None,
) -> Listed:  # fmt: skip
    """All specs. The first `counted` texts are kept, and how specs inside a block of `around` are written.

    Raises UsageError.
    """
    reader, head = _Reader(targets, own), list[str]()
    for spec in specs:
        if isinstance(spec, bytes):
            spec = Lines(spec)
        if len(head) < counted:
            words = words_of(spec.text) if isinstance(spec, Lines) else [spec] if isinstance(spec, str) else []
            head += words[: counted - len(head)]
        if isinstance(spec, Lines):
            reader.add_lines(spec)
        elif isinstance(spec, Shown):
            reader.add_shown(spec)
        else:
            reader.add(spec)
    return reader.listed(head, around, naming)


def _named(spec: str, lines: Lines | None) -> Named:
    """A spec that is a name, with a prefix length behind it or not. Raises UsageError."""
    match = _NAME.fullmatch(spec)
    if match is None:
        text = f"'{escaped(spec)}' is not an address, range or host name"
        raise UsageError(f"{text}: write 192.0.2.1, 192.0.2.0/24 or a name")
    name, prefix = match.groups(default="")
    check_name(name)
    return Named(spec, name, prefix, lines)


def zones_in(specs: Iterable[str]) -> Zones:
    """The zones of specs that have one. Raises UsageError."""
    bare = (split_ports(spec)[0] for spec in specs)
    return joined_zones(zone_of(spec, *ipv6_span(spec)) for spec in bare)
