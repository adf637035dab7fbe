"""Addresses that nobody means when a large range is typed: multicast, documentation, loopback, reserved …

`0.0.0.0/0` holds 600 million addresses that belong to no host of the Internet, and probes to some of them go where
they disturb. So a range that merely runs over a special-purpose block loses it, and the user is told which and
why. Who writes a target that lies wholly inside such a block means it, and it stays: the lab at
198.18.0.0/24, 127.0.0.1, one address of 100.64.0.0/10. Private networks are ordinary targets and always stay.

The list (`data/special.csv`) has the blocks that IANA's special-purpose registries call not globally reachable, and
multicast, broadcast and reserved space beside them. Blocks inside others need no word of their own unless users meet
them under that name; the few reachable ones inside (anycast for PCP, TURN, ORCHIDv2) go with what surrounds them.
::ffff:0:0/96 is missing, because here it *is* IPv4.

Limit: on-link broadcast addresses depend on the machine; `routes` knows those.

Sources: RFC 6890 and the two registries that it founded; RFC 5771 and RFC 4291 for multicast.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from functools import cache
from importlib import resources
from ipaddress import ip_network
from typing import NamedTuple

from ..packet.addresses import to_int
from .hostspace import HostSpace
from .regions import Block, subtract, union

MANY_PUBLIC = 1 << 20  # public addresses above which a scan needs a second word
_EVERYTHING = (0, (1 << 128) - 1)
_SKIP = "skip"


class Entry(NamedTuple):
    """A special-purpose block. `skip`: left out unless it is meant; else it is private, an ordinary target."""

    first: int  # 128-bit, IPv4 mapped
    last: int
    block: str
    name: str
    source: str
    skip: bool

    def __str__(self) -> str:
        return f"{self.block} ({self.name}, {self.source})"


class Taken(NamedTuple):
    """What an entry took out of a scan: so many addresses."""

    entry: Entry
    addresses: int


@cache
def entries() -> tuple[Entry, ...]:
    """The list, larger blocks before those inside them."""
    text = resources.files("scanner").joinpath("data/special.csv").read_text("ascii")
    found = []
    for line in text.splitlines()[1:]:
        block, name, source, care = line.split(",")
        network = ip_network(block)
        found.append(Entry(to_int(network[0]), to_int(network[-1]), block, name, source, care == _SKIP))
    return tuple(sorted(found, key=lambda entry: (entry.first, -entry.last)))


def take_out(hosts: HostSpace, written: Callable[[], Iterable[Block]]) -> tuple[HostSpace, list[Taken]]:
    """The hosts without those of special-purpose blocks that nobody meant, and what each entry took.

    `written` gives the blocks of the targets as they were written, each whole; it is asked only if it matters.
    """
    spans = hosts.spans()
    touched = [entry for entry in entries() if entry.skip and _overlaps(spans, entry)]
    if not touched:
        return hosts, []
    meant = list(written())
    holes: list[Block] = []
    taken = []
    for entry in touched:
        inside = union(each for each in meant if entry.first <= each[0] and each[1] <= entry.last)
        cut = subtract(subtract([(entry.first, entry.last)], inside), union(holes))
        count = hosts.within(cut).size if cut else 0
        if count:
            taken.append(Taken(entry, count))
            holes += cut
    return (hosts.within(subtract([_EVERYTHING], union(holes))) if holes else hosts), taken


def public_hosts(hosts: HostSpace) -> int:
    """How many of the hosts have addresses of the public Internet."""
    spans = hosts.spans()
    special = union((entry.first, entry.last) for entry in entries() if _overlaps(spans, entry))
    return hosts.within(subtract([_EVERYTHING], special)).size if special else hosts.size


def _overlaps(spans: list[Block], entry: Entry) -> bool:
    """Whether sorted disjoint spans have a common address with an entry."""
    start = bisect_left(spans, entry.first, key=lambda span: span[1])  # the first span that ends inside or behind
    return start < bisect_right(spans, entry.last, key=lambda span: span[0])
