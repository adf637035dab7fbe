"""Host specifications: text → the numbered space of `targets`.

The grammar is what users of nmap, masscan and ZMap type: addresses, CIDR (host bits allowed), octet
ranges and wildcards (10.0-3,7.*.1-254), a-b ranges between whole addresses, IPv6 alike, and host names. Targets and
excludes share it. A plain IPv4 address or block is by far the most common line of a list of 100,000, so it
is read by one pattern; netaddr judges the IPv6 forms, which have more traps than a pattern of ours would see.

A spec made of digits, dots, commas, dashes and stars is meant as an address and never asked of a name server:
`1.2.3` and `300.1.1.1` are mistakes, not names. Numbers with leading zeros are refused, since half of all
tools read them as octal. A list may name a host twice, or overlap itself; each host is numbered once.

Limit: no IPv6 zones (fe80::1%eth0): an address column has no room for an interface. No octet ranges in IPv6.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..errors import UsageError
from ..packet.headers import MAPPED
from .hostspace import HostSpace, number_hosts
from .regions import (
    FEW_BLOCKS,
    FULL,
    Block,
    Box,
    Region,
    block_count,
    box_blocks,
    box_size,
    carve,
    octet_values,
    octets,
)

Resolve = Callable[[str], list[str]]

__all__ = ["HostSpace", "Resolve", "parse_hosts", "read_list", "written_blocks"]

_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ADDRESS = r"\.".join([_OCTET] * 4)
_PLAIN = re.compile(rf"{_ADDRESS}(?:/(3[0-2]|[12]?[0-9]))?")
_FROM_TO = re.compile(rf"{_ADDRESS}-(?:{_ADDRESS}|{_OCTET})")
_NUMERIC = re.compile(r"[0-9.,*/-]+")
_NAME = re.compile(r"([\w.-]+)(/[0-9]+)?")
_OCTET_RANGE = re.compile(r"([0-9]*)(-?)([0-9]*)")


def parse_hosts(
    specs: Iterable[str], excludes: Iterable[str], resolve: Resolve, all_addresses: bool = False
) -> HostSpace:
    """Specs without excludes → the numbered set of their addresses.

    `resolve` turns a host name into literal addresses, [] (or OSError) if there are none; the first is
    used, or all with `all_addresses`; excluding a name always excludes all. Raises UsageError, naming the
    spec, for what cannot be read or resolved, for an empty result, and for more than 2^62 hosts.
    """
    include, largest = _region(specs, resolve, all_addresses)
    if not largest:
        raise UsageError("no targets: name at least one address, range or host name")
    exclude, _ = _region(excludes, resolve, all_addresses=True)
    carved = carve(include, exclude)
    space = number_hosts(carved)
    if space is None:
        raise UsageError(f"{largest}: too many addresses, more than 2^62 in all: name smaller blocks")
    if not space:
        raise UsageError(f"every target was excluded (the largest was {largest}): name other targets or exclude less")
    return space


def written_blocks(specs: Iterable[str], resolve: Resolve, all_addresses: bool = False) -> Iterator[Block]:
    """The block from first to last address of each spec as it is written; a name's addresses are one by one."""
    for spec in specs:
        for literal in _literals(spec, resolve, all_addresses):
            region = Region([], [])
            _add(region, literal)
            ends = [*region.blocks, *map(_ends, region.boxes)]
            yield min(first for first, _ in ends), max(last for _, last in ends)


def _ends(box: Box) -> Block:
    """The lowest and the highest address of a box."""
    low, high = (int.from_bytes(bytes(pick(octet_values(mask)) for mask in box), "big") for pick in (min, max))
    return MAPPED | low, MAPPED | high


def read_list(path: str) -> list[str]:
    """The specs of a list file, `-` for standard input: any number a line, `#` starts a comment.

    Raises UsageError, naming the file, when it cannot be read or holds no spec at all.
    """
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the list {path}: {error.strerror}") from None
    # A broken byte is left in its spec, whose own error then shows where it stands.
    text = data.decode("utf-8-sig", "replace")
    found = [spec for line in text.splitlines() for spec in line.partition("#")[0].split()]
    if not found:
        raise UsageError(f"the list {path} is empty: write one address, range or host name a line, or leave it out")
    return found


def _region(specs: Iterable[str], resolve: Resolve, all_addresses: bool) -> tuple[Region, str]:
    """All specs as one region, and the spec that names most addresses ("" if there is none)."""
    region = Region([], [])
    largest, most = "", 0
    for spec in specs:
        size = 0
        for literal in _literals(spec, resolve, all_addresses):
            size += _add(region, literal)
        if size > most:
            largest, most = spec, size
    return region, largest


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


def _add(region: Region, literal: str) -> int:
    """Put one numeric spec into the region; how many addresses it has."""
    block = _plain(literal)
    if block is None and ":" in literal:
        block = _ipv6(literal)
    if block is None and "/" not in literal:
        block = _from_to(literal)
    if block is not None:
        region.blocks.append(block)
        return block[1] - block[0] + 1
    box = _octet_box(literal)
    if block_count(box) <= FEW_BLOCKS:
        region.blocks.extend(box_blocks(box))
    else:
        region.boxes.append(box)
    return box_size(box)


def _plain(literal: str) -> Block | None:
    """192.0.2.1 or 192.0.2.0/24."""
    match = _PLAIN.fullmatch(literal)
    if match is None:
        return None
    a, b, c, d, prefix = match.groups()
    first = int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)
    rest = (1 << 32 - int(prefix)) - 1 if prefix else 0
    return MAPPED | first & ~rest, MAPPED | first | rest


def _from_to(literal: str) -> Block | None:
    """192.0.2.1-192.0.2.20, or 192.0.2.1-20 for short."""
    match = _FROM_TO.fullmatch(literal)
    if match is None:
        return None
    start, end = match.groups()[:4], match.groups()[4:8]
    if end[0] is None:
        end = (*start[:3], match[9])
    first, last = (int.from_bytes(bytes(map(int, octet)), "big") for octet in (start, end))
    return _ordered(MAPPED | first, MAPPED | last, literal)


def _ordered(first: int, last: int, spec: str) -> Block:
    if last < first:
        raise UsageError(f"range {spec} ends before it starts: swap its ends")
    return first, last


def _ipv6(literal: str) -> Block:
    """2001:db8::1, 2001:db8::/64, 2001:db8::1-2001:db8::ff; an embedded IPv4 address is the mapped IPv4 one."""
    import netaddr  # here: 11 ms that a scan of IPv4 targets need not wait

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


def _octet_box(literal: str) -> Box:
    """10.0-3,7.*.1-254, with /prefix if need be: every address of the range then stands for its whole block."""
    address, slash, length = literal.partition("/")
    parts = address.split(".")
    if len(parts) != 4:
        raise UsageError(f"{literal} is not an IPv4 address: write four octets, and separate targets by spaces")
    if slash and not (length.isdigit() and int(length[:9]) <= 32):
        raise UsageError(f"/{length} in {literal} is not a prefix length: IPv4 blocks go from /0 to /32")
    masks = [_octet_mask(part, literal) for part in parts]
    if slash:
        masks = [_widen(mask, int(length) - 8 * at) for at, mask in enumerate(masks)]
    return masks[0], masks[1], masks[2], masks[3]


def _octet_mask(text: str, spec: str) -> int:
    """One octet, `0-3,7`, `*` or `-` → the mask of its values."""
    mask = 0
    for part in text.split(","):
        match = _OCTET_RANGE.fullmatch(part)
        if part == "*":
            match = _OCTET_RANGE.fullmatch("-")
        if match is None or not part:
            raise UsageError(f"{part!r} in {spec} is not an octet: write numbers, ranges or *, as in 10.0-3,7.*.1")
        low, dash, high = match.groups()
        first = _octet(low, spec) if low else 0
        last = (_octet(high, spec) if high else 255) if dash else first
        mask |= octets(*_ordered(first, last, f"{part} in {spec}"))
    return mask


def _octet(text: str, spec: str) -> int:
    if len(text) > 1 and text[0] == "0":
        raise UsageError(f"{text} in {spec} starts with a zero: write it without, some tools read it as octal")
    if len(text) > 3 or int(text) > 255:
        raise UsageError(f"{text} in {spec} is not an octet: octets end at 255")
    return int(text)


def _widen(mask: int, fixed: int) -> int:
    """Free all but the first `fixed` bits of an octet's values."""
    if fixed <= 0:
        return FULL
    size = 1 << max(0, 8 - fixed)
    starts = {value & -size for value in range(256) if mask >> value & 1}
    return sum(octets(start, start + size - 1) for start in starts)
