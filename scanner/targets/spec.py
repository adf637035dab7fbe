"""Host specifications: text → the numbered set of `hostspace`.

The grammar is what users of nmap, masscan and ZMap type: addresses, CIDR (host bits allowed), octet patterns
(10.0-3,7.*.1-254), ranges between whole addresses, the same for IPv6 where it makes sense, and host names. Targets and
excludes share it. Most lines of a long list are plain IPv4 addresses or blocks, so one regular expression reads those.
netaddr reads the IPv6 forms, which have more special cases than a pattern of ours would cover.

A spec of digits, dots, commas, dashes and stars is meant as an address and never resolved as a name: `1.2.3` and
`300.1.1.1` are mistakes. Numbers with leading zeros are refused, because some tools read them as octal and others do
not. A list may name a host twice or overlap itself; each host is numbered once.

Limits: octet patterns of one list make at most 2^20 separate blocks; larger ones are refused, because each block costs
memory. No IPv6 zones (fe80::1%eth0), because an address column has no place for an interface. No IPv6 patterns.
"""

import os
import re
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import prod
from pathlib import Path

import numpy as np

from ..errors import UsageError
from ..packet.addresses import from_ipv4
from ..packet.headers import MAPPED, Bools, Ints, Rows
from .hostspace import HostSpace, Span, edges_of, outside

Resolve = Callable[[str], list[str]]

NMAP_FOLDERS = (*filter(None, [os.environ.get("NMAPDIR")]), "/usr/share/nmap", "/usr/local/share/nmap")
MOST_BLOCKS = 1 << 20  # that octet patterns may make
_SHIFTS = (24, 16, 8, 0)  # of the four octets

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ADDRESS = r"\.".join([_OCTET] * 4)
_IPV4 = re.compile(rf"({_ADDRESS})(?:/(3[0-2]|[12]?[0-9])|-({_ADDRESS})|-({_OCTET}))?")
_NUMERIC = re.compile(r"[0-9.,*/-]+")
_NAME = re.compile(r"([\w.-]+)(/[0-9]+)?")
_OCTET_RANGE = re.compile(r"([0-9]*)(-?)([0-9]*)")


def parse_hosts(
    specs: Iterable[str], excludes: Iterable[str], resolve: Resolve, all_addresses: bool = False
) -> HostSpace:
    """Specs without excludes → the numbered set of their addresses.

    `resolve` turns a host name into literal addresses, [] (or OSError) if there are none; the first is
    used, or all with `all_addresses`; excluding a name always excludes all. Raises UsageError, naming the
    spec, for what cannot be read or resolved, for patterns of too many blocks, for an empty result, and for more than
    2^62 hosts.
    """
    return parse_targets(specs, excludes, resolve, all_addresses)[0]


def parse_targets(
    specs: Iterable[str], excludes: Iterable[str], resolve: Resolve, all_addresses: bool
) -> tuple[HostSpace, list[Span]]:
    """As `parse_hosts`, and the span from first to last address of each spec as it is written.

    Of a name these are its addresses, one by one.
    """
    include, written, largest = _edges(specs, resolve, all_addresses)
    if not largest:
        raise UsageError("no targets: name at least one address, range or host name")
    exclude, *_ = _edges(excludes, resolve, all_addresses=True)
    try:
        space = HostSpace(outside(include, exclude))
    except OverflowError:
        message = f"{largest}: too many addresses, more than 2^62 in all: name smaller blocks"
        raise UsageError(message) from None
    if not space:
        raise UsageError(f"every target was excluded (the largest was {largest}): name other targets or exclude less")
    return space, written


def read_list(path: str) -> list[str]:
    """The specs of a list file, `-` for standard input: any number a line, `#` starts a comment.

    Raises UsageError, naming the file, when it cannot be read or holds no spec at all.
    """
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the list {path}: {error.strerror}") from None
    # A broken byte stays in its spec: the error message for that spec then shows where it stands.
    text = data.decode("utf-8-sig", "replace")
    specs = [spec for line in text.splitlines() for spec in line.partition("#")[0].split()]
    if not specs:
        raise UsageError(f"the list {path} is empty: write one address, range or host name a line, or leave it out")
    return specs


def nmap_services(folders: tuple[str, ...] = NMAP_FOLDERS) -> str:
    """The text of nmap's services file; "" where nmap is not installed."""
    for folder in folders:
        with suppress(OSError):
            return Path(folder, "nmap-services").read_text("utf-8", "replace")
    return ""


def resolve(name: str) -> list[str]:
    """The addresses of a name as text, in the resolver's order, each once. Raises OSError when it has none."""
    answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in answers))


def _edges(specs: Iterable[str], resolve: Resolve, all_addresses: bool) -> tuple[Rows, list[Span], str]:
    """The edges of all specs, unsorted; the spans as written; the spec that names most addresses ("" if none does)."""
    spans: list[Span] = []
    ends: list[Span] = []  # of patterns
    patterns = [np.zeros(0, np.int64)]
    blocks = most = 0
    largest = ""
    for spec in specs:
        size = 0
        for literal in _literals(spec, resolve, all_addresses):
            span = _span(literal)
            if span is not None:
                spans.append(span)
                size += span[1] - span[0] + 1
            else:
                words = _pattern(literal, blocks)
                patterns.append(words)
                ends.append((MAPPED | int(words[0]), MAPPED | int(words[-1]) - 1))
                blocks += len(words) // 2
                size += int((words[1::2] - words[::2]).sum())
        if size > most:
            largest, most = spec, size
    return np.append(edges_of(spans), from_ipv4(np.concatenate(patterns))), spans + ends, largest


def _literals(spec: str, resolve: Resolve, all_addresses: bool) -> list[str]:
    """The spec itself when it is numeric, else the addresses of the name, each with the spec's prefix length."""
    if _NUMERIC.fullmatch(spec) or ":" in spec:
        return [spec]
    match = _NAME.fullmatch(spec)
    if match is None:
        raise UsageError(f"{spec!r} is not an address, range or host name: write 192.0.2.1, 192.0.2.0/24 or a name")
    name, prefix = match.groups(default="")
    try:
        addresses = resolve(name)
    except (OSError, UnicodeError):
        addresses = []
    if not addresses:
        raise UsageError(f"cannot resolve {name!r}: check the spelling, or give its address")
    return [address.partition("%")[0] + prefix for address in addresses[: None if all_addresses else 1]]


def _span(literal: str) -> Span | None:
    """One numeric spec without octet patterns; None for what may be a pattern. Raises UsageError."""
    match = _IPV4.fullmatch(literal)
    if match is None:
        return _ipv6(literal) if ":" in literal else None
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
    import netaddr  # here, because it takes 11 ms that a scan of IPv4 targets does not need

    if "%" in literal:
        raise UsageError(f"{literal}: zones (%) are not supported: scan a global address of that host instead")
    first, dash, last = literal.partition("-")
    try:
        if dash:
            return _ordered(int(netaddr.IPAddress(first, 6)), int(netaddr.IPAddress(last, 6)), literal)
        network = netaddr.IPNetwork(literal, version=6)
    except (netaddr.AddrFormatError, ValueError):
        message = f"{literal} is not an IPv6 address, block or range: ports go to -p, and URLs are not read"
        raise UsageError(message) from None
    return network.first, network.last


def _pattern(literal: str, before: int) -> Ints:
    """10.0-3,7.*.1-254 → the edges of its blocks, ascending, as IPv4 numbers.

    With a /prefix every address of the pattern stands for its whole block. `before` blocks come from other patterns.
    """
    address, slash, length = literal.partition("/")
    octets = address.split(".")
    if len(octets) != 4:
        raise UsageError(f"{literal} is not an IPv4 address: write four octets, and separate targets by spaces")
    if slash and not (length.isdigit() and int(length[:9]) <= 32):
        raise UsageError(f"/{length} in {literal} is not a prefix length: IPv4 blocks go from /0 to /32")
    masks = [_octet_mask(octet, literal) for octet in octets]
    if slash:
        masks = [_widen(mask, int(length) - 8 * at) for at, mask in enumerate(masks)]
    values = [np.flatnonzero(mask) for mask in masks]
    # Octets behind the last one that is not `*` only make each block longer. In that octet, each run of values is a
    # block, once for each choice of values for the octets before it.
    last = max((at for at in range(4) if len(values[at]) < 256), default=0)
    changes = np.flatnonzero(np.diff(masks[last], prepend=False, append=False))
    blocks = before + prod(map(len, values[:last])) * len(changes) // 2
    if blocks > MOST_BLOCKS:
        raise UsageError(
            f"{literal}: octet ranges may make {MOST_BLOCKS:,} separate blocks of addresses, here they make "
            f"{blocks:,}: give fewer values in the first octets, or whole blocks"
        )
    words = changes << _SHIFTS[last]
    for at in reversed(range(last)):
        words = np.add.outer(values[at] << _SHIFTS[at], words).ravel()
    return words


def _octet_mask(text: str, spec: str) -> Bools:
    """One octet, `0-3,7`, `*` or `-` → the mask of its values."""
    mask = np.zeros(256, np.bool_)
    for part in text.split(","):
        match = _OCTET_RANGE.fullmatch("-" if part == "*" else part)
        if match is None or not part:
            raise UsageError(f"{part!r} in {spec} is not an octet: write numbers, ranges or *, as in 10.0-3,7.*.1")
        low, dash, high = match.groups()
        first = _octet(low, spec) if low else 0
        last = (_octet(high, spec) if high else 255) if dash else first
        first, last = _ordered(first, last, f"{part} in {spec}")
        mask[first : last + 1] = True
    return mask


def _octet(text: str, spec: str) -> int:
    if len(text) > 1 and text[0] == "0":
        raise UsageError(f"{text} in {spec} starts with a zero: write it without, some tools read it as octal")
    if len(text) > 3 or int(text) > 255:
        raise UsageError(f"{text} in {spec} is not an octet: octets end at 255")
    return int(text)


def _widen(mask: Bools, fixed: int) -> Bools:
    """Free all but the first `fixed` bits of an octet: the block around each of its values, as CIDR has it."""
    size = 1 << 8 - min(8, max(0, fixed))
    return mask.reshape(-1, size).any(axis=1).repeat(size)
