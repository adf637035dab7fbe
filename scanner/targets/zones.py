"""Zones: which link a link-local target is meant on, as in `fe80::1%eth0`.

Every link has its own fe80::/64, so such an address means nothing without its link (RFC 4007 11). An address column has
no place for a link. So zones stand beside the set of hosts, and routes and connections look there. The zone is the
name of an interface, or its number.

Limits: an address has one zone in a scan, and rows show it without the zone. An exclude counts on every link.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address
from typing import NamedTuple, TypeVar

from ..errors import UsageError
from .lists import Lines, words_of

# An address, block or range of addresses; the zone; the prefix length, which stands behind the zone (RFC 4007 11.7).
_ZONED = re.compile(r"([0-9A-Fa-f:.-]+)%([^%/\s]+)(/[0-9]+)?")
_LINK_LOCAL_FIRST, _LINK_LOCAL_LAST = 0xFE80 << 112, (0xFEC0 << 112) - 1

Spec = TypeVar("Spec")


class Zone(NamedTuple):
    """Addresses from first to last (128-bit integers), and the link that they are meant on."""

    first: int
    last: int
    name: str


Zones = tuple[Zone, ...]  # ascending, and disjoint


def without_zone(spec: str) -> tuple[str, str]:
    """A spec and its zone, "" if it has none. Raises UsageError for a % that is no zone."""
    if "%" not in spec:
        return spec, ""
    match = _ZONED.fullmatch(spec)
    if match is None:
        raise UsageError(f"{spec} is not an address with a zone: write fe80::1%eth0, or fe80::%eth0/120")
    address, name, prefix = match.groups(default="")
    return address + prefix, name


def zone_at(zones: Zones, address: int) -> str:
    """The zone of an address, "" if it has none."""
    at = bisect_right(zones, address, key=lambda zone: zone.first) - 1
    return zones[at].name if at >= 0 and address <= zones[at].last else ""


def with_zone(ip: str, zones: Zones) -> str:
    """An address as text, with its zone behind it if it has one: what the next program needs to reach it."""
    zone = zone_at(zones, int(IPv6Address(ip))) if zones and ip.startswith("fe") and "%" not in ip else ""
    return f"{ip}%{zone}" if zone else ip


def zones_by(zones: Zones, interface: str | None) -> Zones:
    """The same; without any, all link-local addresses are on the interface of -e."""
    return zones or ((Zone(_LINK_LOCAL_FIRST, _LINK_LOCAL_LAST, interface),) if interface else ())


def zone_of(spec: str, first: int, last: int) -> Zone:
    """The zone of a spec that names these addresses. Raises UsageError where it has no meaning."""
    if not _LINK_LOCAL_FIRST <= first <= last <= _LINK_LOCAL_LAST:
        raise UsageError(f"{spec}: only link-local addresses (fe80::/10) have a zone; choose an interface with -e")
    return Zone(first, last, without_zone(spec)[1])


def joined_zones(zones: Iterable[Zone]) -> Zones:
    """Zones in any order → ascending and disjoint. Raises UsageError for an address with two zones."""
    found: list[Zone] = []
    for zone in sorted(zones):
        if found and zone.first <= found[-1].last + 1 and zone.name == found[-1].name:
            found[-1] = found[-1]._replace(last=max(zone.last, found[-1].last))
        elif found and zone.first <= found[-1].last:
            names = f"%{found[-1].name} and %{zone.name}"
            raise UsageError(f"one address has two zones ({names}): scan one link after the other")
        else:
            found.append(zone)
    return tuple(found)


def noted(specs: Iterable[Spec], zoned: list[str]) -> Iterator[Spec]:
    """The same specs; those with a zone, also in whole lines of a list, are added to `zoned` as they pass by."""
    for spec in specs:
        if isinstance(spec, str):
            if "%" in spec:
                zoned.append(spec)
        elif isinstance(spec, bytes | Lines) and b"%" in (text := spec.text if isinstance(spec, Lines) else spec):
            zoned += [word for word in words_of(text) if "%" in word]
        yield spec
