"""Which hosts a scan is about: what was named, minus the excludes, minus what nobody means.

Live scans, the plan and the Python interface all choose here, so that care is taken once and in one way: ranges lose
their special-purpose blocks (`special`), and more than 2^20 addresses of the public Internet need a second word. A slip
of the keyboard (`/8` for `/28`) is a scan of other people's machines that cannot be taken back; a question costs a
second.

Nothing is printed here; who is asked, and where the names of skipped blocks go, is the caller's business.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from ..errors import UsageError
from .hostspace import HostSpace
from .spec import Resolve, parse_hosts, written_blocks
from .special import MANY_PUBLIC, Taken, public_hosts, take_out


class Choice(NamedTuple):
    """The hosts to scan, and how it came to them."""

    hosts: HostSpace
    specs: Sequence[str]
    excludes: Sequence[str]
    taken: list[Taken]


def choose(specs: Sequence[str], excludes: Sequence[str], resolve: Resolve, all_addresses: bool = False) -> Choice:
    """Specs and excludes → the hosts. Raises UsageError as `parse_hosts` does, and when nothing is left."""
    once = cache(resolve)
    before = parse_hosts(specs, excludes, once, all_addresses)
    hosts, taken = take_out(before, lambda: written_blocks(specs, once, all_addresses))
    if not hosts.size:
        blocks = ", ".join(str(each.entry) for each in taken)
        raise UsageError(f"only special-purpose addresses are left, of {blocks}: name a target inside one block")
    return Choice(hosts, specs, excludes, taken)


def skipped_text(taken: Taken) -> str:
    """What an entry took out, and how to get it back."""
    count = f"{taken.addresses:,} address" + ("es" if taken.addresses != 1 else "")
    return f"skipped {count} of {taken.entry}: name a target inside that block to scan it"


def guard(hosts: HostSpace, yes: bool, ask: Callable[[str], bool] | None) -> None:
    """Raise UsageError if there are very many public hosts and nobody says that they are meant.

    `ask` puts a question to a person and returns whether the answer was yes; None where there is nobody.
    """
    count = 0 if yes else public_hosts(hosts)
    if count <= MANY_PUBLIC:
        return
    if ask is None:
        raise UsageError(f"{count:,} public addresses are more than {MANY_PUBLIC:,}: if they are meant, add --yes")
    if not ask(f"{count:,} public addresses. Do you have permission to scan them all?"):
        raise UsageError("nothing was sent: name fewer targets, or answer y (or add --yes)")
