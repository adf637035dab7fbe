"""Host specifications: text → the numbered set of `hostspace`.

The grammar is what users of nmap, masscan and ZMap type: addresses, CIDR (host bits allowed), octet patterns
(10.0-3,7.*.1-254), ranges between whole addresses, the same for IPv6 where it makes sense, and host names. Targets and
excludes share it. One regular expression reads the usual IPv4 forms, and in long lists `lists` reads them in bulk.
netaddr reads the IPv6 forms, which have more special cases than a pattern of ours would cover.

A spec of digits, dots, commas, dashes and stars is meant as an address and never resolved as a name: `1.2.3` and
`300.1.1.1` are mistakes. Numbers with leading zeros are refused, because some tools read them as octal and others do
not. A list may name a host twice or overlap itself; each host is numbered once.

Limits: no IPv6 patterns. The zone of fe80::1%eth0 stands beside the set (`zones`). In a long list, names, octet
patterns and IPv6 blocks take some microseconds each.
"""

import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from ..errors import UsageError, escaped
from ..packet.headers import MAPPED
from ..verdict.sentences import plural
from .blocks import NOTHING, Blocks, Ranges, Span, blocks_of, inside, joined, outside, ranges_of, size_of, union
from .files import Tell
from .hostspace import HostSpace
from .lists import Lines, place_of, read_lines, words_of
from .names import Named, Names, Naming, Resolve, literals_of
from .patterns import pattern
from .zones import Zones, joined_zones, without_zone, zone_of

Specs = Iterable[str | bytes | Lines]  # one spec, or whole lines of a list

SPANS_HELD = 1 << 16  # Python integers take ten times the memory of a column
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ADDRESS = r"\.".join([_OCTET] * 4)
_IPV4 = re.compile(rf"({_ADDRESS})(?:/(3[0-2]|[12]?[0-9])|-({_ADDRESS})|-({_OCTET}))?")
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
    counted: int = 0, family: int = 0, lenient: bool = False, tell: Tell | None = None,
) -> Targets:  # fmt: skip
    """As `parse_hosts`, with more about it.

    `family`, `lenient`, `tell`: see `names.Naming`. With `family` addresses of the other IP version are left out.

    `around`: of targets that lie wholly inside one of these blocks it is kept how they were written. `counted`: of how
    many excludes to count what each took.
    """
    include = _listed(specs, Naming(resolve, all_addresses, family, lenient, tell), around=around, targets=True)
    exclude = _listed(excludes, Naming(resolve, all_addresses=True, tell=tell), counted)
    if not include.specs:
        raise UsageError("no targets: name at least one address, range or host name")
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

    def __init__(self, targets: bool) -> None:
        """`targets`: where zones count, which excludes may have for nothing."""
        self._targets = targets
        self._named: list[Named] = []  # what is to be resolved
        self._parts: list[Ranges] = []
        self._spans: list[Span] = []  # not in a column yet
        self._patterns = [np.zeros(0, np.int64)]
        self._ends: list[Span] = []  # of patterns
        self._blocks = self._most = self._count = 0
        self._largest = ""

    def add(self, spec: str, lines: Lines | None = None) -> None:
        """One spec, also of some lines of a list. Raises UsageError."""
        self._count += 1
        if ":" in spec or _NUMERIC.fullmatch(spec):
            self._add_literal(spec, spec)
        else:
            self._named.append(_named(spec, lines))

    def _add_literal(self, literal: str, spec: str) -> None:
        """A spec, or what stands for it. Raises UsageError."""
        span = _span(literal)
        if span is not None:
            if self._targets and "%" in spec:
                zone_of(spec, *span)  # raises UsageError where a zone means nothing
            self._spans.append(span)
            size = span[1] - span[0] + 1
        else:
            words = pattern(literal, self._blocks)
            self._patterns.append(words)
            self._ends.append((MAPPED | int(words[0]), MAPPED | int(words[-1]) - 1))
            self._blocks += len(words) // 2
            size = int((words[1::2] - words[::2]).sum())
        self._compare(spec, size)
        if len(self._spans) >= SPANS_HELD:
            self._parts.append(ranges_of(self._spans))
            self._spans.clear()

    def add_lines(self, lines: Lines) -> None:
        """Whole lines of a list. Raises UsageError."""
        words = read_lines(lines.text)
        self._add_all(words.others[: words.before], lines)
        self._compare(words.largest, words.most)
        self._add_all(words.others[words.before :], lines)
        self._parts.append(words.ranges)
        self._count += len(words.ranges.ipv4)

    def _add_all(self, specs: list[str], lines: Lines) -> None:
        addresses = _ipv6_addresses(specs)
        if addresses is None:
            for spec in specs:
                try:
                    self.add(spec, lines)
                except UsageError as error:
                    raise UsageError(f"{place_of(spec, lines)}{error}") from None
        else:
            self._compare(specs[0], 1)
            self._count += len(specs)
            self._parts.append(addresses)

    def listed(self, head: list[str], around: Blocks, naming: Naming) -> Listed:
        """All that was read, with its names resolved. Nothing can be added then. Raises UsageError."""
        literals, names = literals_of(self._named, naming)
        for named, text in literals:
            self._add_literal(text, named.spec)
        self._parts.append(ranges_of(self._spans))
        ranges = joined(self._parts)
        blocks = blocks_of(ranges)
        if self._blocks:
            edges = np.concatenate(self._patterns).reshape(-1, 2) - (0, 1)
            blocks = union(blocks, blocks_of(Ranges(edges.astype(np.uint32), ranges.others[:0])))
            ranges = joined([ranges, ranges_of(self._ends)])
        return Listed(blocks, ranges.inside(around), self._largest, self._count, head, names)

    def _compare(self, spec: str, size: int) -> None:
        if size > self._most:
            self._largest, self._most = spec, size


def _listed(
    specs: Specs, naming: Naming, counted: int = 0, around: Blocks = NOTHING, targets: bool = False
) -> Listed:  # fmt: skip
    """All specs. The first `counted` texts are kept, and how specs inside a block of `around` are written.

    Raises UsageError.
    """
    reader, head = _Reader(targets), list[str]()
    for spec in specs:
        if isinstance(spec, bytes):
            spec = Lines(spec)
        if len(head) < counted:
            head += (words_of(spec.text) if isinstance(spec, Lines) else [spec])[: counted - len(head)]
        if isinstance(spec, Lines):
            reader.add_lines(spec)
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
    return Named(spec, name, prefix, lines)


def _span(literal: str) -> Span | None:
    """One numeric spec without octet patterns; None for what may be a pattern. Raises UsageError."""
    if ":" in literal:
        return _ipv6(literal)
    match = _IPV4.fullmatch(literal)
    if match is None:
        return None
    address, prefix, last_address, last_octet = match.groups()
    first = _number(address)
    if last_octet:  # 192.0.2.1-20
        last_address = f"{address.rpartition('.')[0]}.{last_octet}"
    if last_address:
        return _ordered(first, _number(last_address), literal)
    host_bits = (1 << 32 - int(prefix or 32)) - 1
    return first & ~host_bits, first | host_bits


def _number(address: str) -> int:
    """An IPv4 address that is known to be well-formed, mapped."""
    return MAPPED | int.from_bytes(socket.inet_aton(address), "big")


def _ordered(first: int, last: int, spec: str) -> Span:
    if last < first:
        raise UsageError(f"range {spec} ends before it starts: swap its ends")
    return first, last


def _ipv6(literal: str) -> Span:
    """2001:db8::1, 2001:db8::/64, 2001:db8::1-2001:db8::ff; an embedded IPv4 address is the mapped IPv4 one."""
    with suppress(OSError, ValueError):  # one address, as nearly always: much faster than netaddr
        address = int.from_bytes(socket.inet_pton(socket.AF_INET6, literal), "big")
        return address, address
    import netaddr  # here, because it takes 11 ms that a scan of IPv4 targets does not need

    literal, _ = without_zone(literal)  # `zones` keeps them
    first, dash, last = literal.partition("-")
    try:
        if dash:
            return _ordered(int(netaddr.IPAddress(first, 6)), int(netaddr.IPAddress(last, 6)), literal)
        network = netaddr.IPNetwork(literal, version=6)
    except (netaddr.AddrFormatError, ValueError):
        message = f"{literal} is not an IPv6 address, block or range: ports go to -p, and URLs are not read"
        raise UsageError(message) from None
    return network.first, network.last


def zones_in(specs: Iterable[str]) -> Zones:
    """The zones of specs that have one. Raises UsageError."""
    return joined_zones(zone_of(spec, *_ipv6(spec)) for spec in specs)


def _ipv6_addresses(specs: list[str]) -> Ranges | None:
    """The same for many specs at once if all of them are single IPv6 addresses that are not mapped IPv4 ones."""
    try:
        raw = b"".join([socket.inet_pton(socket.AF_INET6, spec) for spec in specs])
    except (OSError, ValueError):
        return None
    if not raw or bytes(10) + b"\xff\xff" in raw:
        return None
    return Ranges(np.zeros((0, 2), np.uint32), np.frombuffer(raw, "S16").repeat(2).reshape(-1, 2))
