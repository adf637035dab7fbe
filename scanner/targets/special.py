"""Which hosts a scan is about: what the user named, without the excludes and without special-purpose addresses.

`0.0.0.0/0` holds 600 million addresses that belong to no host of the Internet, and probes to some of them do harm. So
a range that only runs over a special-purpose block (multicast, documentation, loopback, reserved …) loses it, and the
user is told which block and why. A target that lies wholly inside such a block is meant, and stays: the lab at
198.18.0.0/24, 127.0.0.1, one address of 100.64.0.0/10. Private networks are ordinary targets and always stay.

More than 2^20 addresses of the public Internet need a confirmation. A typing error (`/8` for `/28`) starts a scan of
other people's machines that cannot be undone.

The list (`data/special.csv`) has the blocks that IANA's special-purpose registries call not globally reachable, and
multicast, broadcast and reserved space beside them. A block inside another one has an entry of its own only if users
know it by that name; the few reachable ones inside (anycast for PCP, TURN, ORCHIDv2) go with what surrounds them.
::ffff:0:0/96 is missing, because in this program it is IPv4.

Nothing is printed here. Limit: on-link broadcast addresses depend on the machine; `routes` knows those.

Sources: RFC 6890 and the two registries that it founded; RFC 5771 and RFC 4291 for multicast.
"""

from collections.abc import Callable, Iterable
from functools import cache
from ipaddress import ip_network
from typing import NamedTuple

from ..errors import UsageError
from ..packet.addresses import to_int
from ..verdict.sentences import plural
from .blocks import Blocks, Ranges, blocks_of, outside, ranges_of, union
from .files import Tell
from .hostspace import HostSpace
from .joining import assigned
from .names import Resolve, lines_of
from .own_ports import OwnPorts
from .ports import Ports, table
from .spaces import Spaces
from .spec import Specs, parse_targets, zones_in
from .zones import noted

MANY_PUBLIC = 1 << 20  # public addresses above which a scan needs a confirmation
_SKIP = "skip"


class Entry(NamedTuple):
    """A special-purpose block. `skip`: left out unless it is meant; else it is an ordinary target."""

    first: int  # 128-bit, IPv4 mapped
    last: int
    block: str
    name: str
    source: str
    skip: bool
    private: bool  # also by Python's copy of the registries, which has no shared (RFC 6598) or multicast addresses

    def __str__(self) -> str:
        return f"{self.block} ({self.name}, {self.source})"


class Taken(NamedTuple):
    """What an entry took out of a scan: so many addresses."""

    entry: Entry
    addresses: int


class Choice(NamedTuple):
    """The hosts to scan, and how they were chosen."""

    hosts: HostSpace
    excluded: list[tuple[str, int]]  # the first excludes, and how many targets each took, by itself
    excludes: int
    taken: list[Taken]
    notes: list[str]  # what the user must know of names and families
    own: OwnPorts  # which targets have ports of their own

    def spaces(self, ports: Ports) -> Spaces:
        """The hosts with their ports; `ports`: of targets without ports of their own. Raises UsageError."""
        return assigned(self.hosts, self.own, ports)


@cache
def entries() -> tuple[Entry, ...]:
    """The list, larger blocks before those inside them."""
    listed = []
    for line in table("special.csv"):
        block, name, source, care = line.split(",")
        net = ip_network(block)
        listed.append(Entry(to_int(net[0]), to_int(net[-1]), block, name, source, care == _SKIP, net.is_private))
    return tuple(sorted(listed, key=lambda entry: (entry.first, -entry.last)))


def choose(
    specs: Specs, excludes: Specs, resolve: Resolve, all_addresses: bool = False, counted: int = 0, family: int = 0,
    lenient: bool = False, tell: Tell | None = None, own: OwnPorts | None = None,
) -> Choice:  # fmt: skip
    """Specs and excludes → the hosts. `counted`: of how many excludes to count what each took. `family`, `lenient`,
    `tell`: see `names.Naming`. `own`: see `spec`.

    Raises UsageError as `parse_hosts` does, and when nothing is left.
    """
    special = _blocks(entry for entry in entries() if entry.skip)
    zoned: list[str] = []
    targets = parse_targets(
        noted(specs, zoned), excludes, resolve, all_addresses, special, counted, family, lenient, tell, own
    )
    hosts, taken = _take_out(targets.hosts, targets.written)
    if not hosts.size:
        blocks = ", ".join(str(taken_out.entry) for taken_out in taken)
        raise UsageError(f"only special-purpose addresses are left, of {blocks}: name a target inside one block")
    hosts.names, hosts.addresses = targets.names.by_address, targets.names.addresses
    hosts.unresolved = len(targets.names.unresolved)
    hosts.zones = zones_in(zoned)
    notes = [*lines_of(targets.names)]
    if targets.other_family:
        left_out = plural(targets.other_family, f"IPv{10 - family} address")
        notes.append(f"left out {left_out}: -{family} scans IPv{family} only")
    return Choice(hosts, targets.excluded, targets.excludes, taken, notes, own or OwnPorts())


def _take_out(hosts: HostSpace, written: Ranges) -> tuple[HostSpace, list[Taken]]:
    """The hosts without those of special-purpose blocks that are not meant, and what each entry took.

    `written`: each target that lies wholly inside a special-purpose block, as it was written.
    """
    holes = blocks_of(ranges_of([]))
    taken = []
    for entry in entries():
        block = _blocks([entry])
        if not entry.skip or not hosts.count(block):
            continue
        # A target that lies wholly inside the block is meant. What an outer entry took is not counted again.
        spared = blocks_of(written.inside(block))
        cut = outside(outside(block, spared), holes)
        count = hosts.count(cut)
        if count:
            taken.append(Taken(entry, count))
            holes = union(holes, cut)
    return hosts.without(holes) if taken else hosts, taken


def skipped_text(taken: Taken) -> str:
    """What an entry took out, and how to get it back."""
    return f"skipped {plural(taken.addresses, 'address')} of {taken.entry}: name a target inside that block to scan it"


def public_hosts(hosts: HostSpace) -> int:
    """How many of the hosts have addresses of the public Internet."""
    return hosts.size - hosts.count(_blocks(entries()))


def any_public(hosts: HostSpace) -> bool:
    """Whether a scan may reach other people's networks: those of the public Internet, and shared or multicast ones."""
    return hosts.count(_blocks(entry for entry in entries() if entry.private)) < hosts.size


def guard(hosts: HostSpace, yes: bool, ask: Callable[[str], bool] | None) -> None:
    """Raise UsageError if there are very many public hosts, unless the user confirms them.

    `ask` shows a question and returns whether the answer was yes; None without a terminal.
    """
    count = 0 if yes else public_hosts(hosts)
    if count <= MANY_PUBLIC:
        return
    if ask is None:
        raise UsageError(f"{count:,} public addresses are more than {MANY_PUBLIC:,}: if they are meant, add --yes")
    if not ask(f"{count:,} public addresses. Do you have permission to scan them all?"):
        raise UsageError("nothing was sent: name fewer targets, or answer y (or add --yes)")


def _blocks(chosen: Iterable[Entry]) -> Blocks:
    """Entries as a set."""
    return blocks_of(ranges_of((entry.first, entry.last) for entry in chosen))
