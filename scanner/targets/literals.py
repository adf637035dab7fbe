"""One literal spec: the text of addresses, a block or a range → its first and last address.

One regular expression reads the usual IPv4 forms. netaddr reads the IPv6 forms, which have more special cases than a
pattern of ours would cover. Octet patterns are in `patterns`, host names in `spec`.

Limit: some microseconds each. `lists` reads the usual IPv4 forms in bulk.
"""

import re
import socket
from contextlib import suppress

import numpy as np

from ..errors import UsageError
from ..packet.headers import MAPPED
from .blocks import Ranges, Span
from .zones import without_zone

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ADDRESS = r"\.".join([_OCTET] * 4)
_IPV4 = re.compile(rf"({_ADDRESS})(?:/(3[0-2]|[12]?[0-9])|-({_ADDRESS})|-({_OCTET}))?")


def span_of(literal: str) -> Span | None:
    """One numeric spec without octet patterns; None for what may be a pattern. Raises UsageError."""
    if ":" in literal:
        return ipv6_span(literal)
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


def ipv6_span(literal: str) -> Span:
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
        how = "ports go to -p (in lists: [2001:db8::1]:80), and URLs are not read"
        raise UsageError(f"{literal} is not an IPv6 address, block or range: {how}") from None
    return network.first, network.last


def ipv6_addresses(specs: list[str]) -> Ranges | None:
    """The same for many specs at once if all of them are single IPv6 addresses that are not mapped IPv4 ones."""
    try:
        raw = b"".join([socket.inet_pton(socket.AF_INET6, spec) for spec in specs])
    except (OSError, ValueError):
        return None
    if not raw or bytes(10) + b"\xff\xff" in raw:
        return None
    return Ranges(np.zeros((0, 2), np.uint32), np.frombuffer(raw, "S16").repeat(2).reshape(-1, 2))
