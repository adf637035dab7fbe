"""Host names as targets: their addresses, many names at a time, and the name of each address.

A name server may take seconds for an answer, so up to `MOST_AT_ONCE` names are asked for at the same time, each by a
thread that waits in getaddrinfo. Names are asked for when every target has been read, so a mistake in the last line of
a list costs no question.

What a resolver gives is data of strangers: each answer must be a literal address, and everything else is dropped. Of
several addresses the first one counts, or all on request. Of several names of one address the first one that was given
stands in the results. `web.example/28` names a block, and only the address itself has the name.

Limit: the resolver of the system decides how long it waits for each name. Only one that hangs is not waited for.
"""

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple

from ..errors import UsageError
from ..packet.addresses import word_text
from ..packet.headers import MAPPED
from .files import Tell
from .lists import Lines, place_of

Resolve = Callable[[str], list[str]]
Address = IPv4Address | IPv6Address

MOST_AT_ONCE = 32  # names
MOST_KEPT = 50_000  # names of which a state holds the addresses
MOST_SHOWN = 20  # names, and addresses of a name, that are said one by one
_FAILED = "cannot resolve '{}'"
_HANGS = "the resolver has not answered for {:.0f} s ({:,} of {:,} names are done): see resolv.conf, or give addresses"
_READ_IN_TWO_WAYS = frozenset("ßẞς")  # RFC 5894, 7.2; the two others are no letters
LOOK = 0.2  # seconds between two looks at how many names are done
MOST_SILENT = 600  # looks without an answer to any name, 120 s: resolvers give up sooner (resolv.conf(5))


def resolve(name: str) -> list[str]:
    """The addresses of a name as text, in the resolver's order, each once. Raises OSError when it has none."""
    answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in answers))


def check_name(name: str) -> None:
    """Raises UsageError for a name that a resolver reads as something else than its user.

    It takes `0x7f.1` for an address (inet_aton(3)), and Python `straße` for `strasse` (RFC 3490), which to browsers is
    another domain (RFC 5891).
    """
    with suppress(OSError, ValueError):
        meant = socket.inet_ntoa(socket.inet_aton(name))
        raise UsageError(f"'{name}' is an address in a short or hexadecimal form: write {meant}, if that is meant")
    if letters := sorted(_READ_IN_TWO_WAYS.intersection(name)):
        raise UsageError(
            f"'{name}' is another domain by older and newer rules ({', '.join(letters)}): write its xn-- form"
        )


class Answers:
    """The answers of the resolver, and those that are `known` before: a resumed scan keeps the addresses of its names.

    So a name server that gives its addresses in another order each time does not change the targets.
    """

    def __init__(self, known: Mapping[str, list[str]]) -> None:
        self._known = dict(known)

    def resolve(self, name: str) -> list[str]:
        """As the function `resolve`."""
        if name not in self._known:
            self._known[name] = [text for text in resolve(name) if _literal(text)]
        return self._known[name]

    def as_text(self) -> str:
        """Each name with its addresses; "" where they are too many to keep."""
        known = sorted(self._known.items()) if len(self._known) <= MOST_KEPT else []
        return "; ".join(" ".join([name, *texts]) for name, texts in known)


def answers_of(text: str) -> Answers:
    """What `Answers.as_text` gave. A resolver is asked for whatever else it may hold."""
    each = [words for part in text.split(";") if (words := part.split())]
    return Answers({name: addresses for name, *addresses in each if addresses and all(map(_literal, addresses))})


def addresses_of(
    names: Iterable[str], resolve: Resolve, tell: Tell | None = None, most_silent: int = MOST_SILENT
) -> dict[str, list[Address]]:
    """The addresses of each name, none where the resolver fails. Each name is asked for once.

    `tell` is told how many names are done, and how many there are. Raises UsageError for a resolver that hangs: after
    `most_silent` looks, one after the other, without an answer to any name.
    """
    distinct = list(dict.fromkeys(names))
    left, done = iter(distinct), SimpleQueue[tuple[str, list[Address] | Exception]]()

    def work() -> None:
        for name in left:  # an iterator of a list gives each name to one thread
            done.put((name, _asked(name, resolve)))

    threads = [Thread(target=work, daemon=True) for _ in range(min(MOST_AT_ONCE, len(distinct)))]
    for thread in threads:
        thread.start()
    found: dict[str, list[Address]] = {}
    silent = 0
    while len(found) < len(distinct):
        try:
            name, answer = done.get(timeout=LOOK)
        except Empty:
            silent += 1
            if silent >= most_silent:
                raise UsageError(_HANGS.format(silent * LOOK, len(found), len(distinct))) from None
        else:
            silent = 0
            if isinstance(answer, Exception):
                raise answer
            found[name] = answer
        if tell:
            tell(None, len(found), len(distinct))
    for thread in threads:  # each has the rights of this process, which a scan gives up soon
        thread.join()
    return found


def _asked(name: str, resolve: Resolve) -> list[Address] | Exception:
    try:
        return list(dict.fromkeys(address for text in resolve(name) if (address := _literal(text))))
    except (OSError, UnicodeError):
        return []
    except Exception as error:  # not the resolver's word: raised again where somebody waits for it
        return error


def _literal(text: str) -> Address | None:
    """The address that a text is, without its zone; None if it is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def address_text(address: Address) -> str:
    """As the rows of results write it."""
    number = int(address) | MAPPED if address.version == 4 else int(address)
    return word_text(number >> 64, number & (1 << 64) - 1)


def further(name: str, addresses: list[Address]) -> str:
    """The sentence on a name of which only the first address is scanned."""
    first, *others = map(address_text, addresses)
    rest = len(others) - MOST_SHOWN
    also = ", ".join(others[:MOST_SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")
    return f"{name} is {first}, also {also}; --all-addresses scans them"


class Naming(NamedTuple):
    """How names become addresses. `family`: 4 or 6 for addresses of this version only; 0 for both.

    `lenient`: a name without an address is noted and left out; otherwise it is an error.
    """

    resolve: Resolve
    all_addresses: bool = False
    family: int = 0
    lenient: bool = False
    tell: Tell | None = None


class Named(NamedTuple):
    """A target that is a name, as it was given: `web.example/28` has a `prefix`. `lines`: of the list that has it."""

    spec: str
    name: str
    prefix: str
    lines: Lines | None
    ports: int = 0  # the number of its own set of ports


class Names(NamedTuple):
    """The names of targets."""

    by_address: dict[str, str]
    addresses: dict[str, list[str]]  # of each name: those that are scanned
    several: dict[str, list[Address]]  # names of which only the first address is scanned
    unresolved: dict[str, str]  # what is wrong with each name that has no address, and where it stands


class Literal(NamedTuple):
    """An address that a name stands for, with the prefix length that was given, and the text of the user."""

    named: Named
    text: str


NO_NAMES = Names({}, {}, {}, {})


def literals_of(named: list[Named], naming: Naming) -> tuple[list[Literal], Names]:
    """The addresses of names, in their order. Raises UsageError for a name without one, unless `lenient`."""
    if not named:
        return [], NO_NAMES
    found = addresses_of((each.name for each in named), naming.resolve, naming.tell)
    names, literals = Names({}, {}, {}, {}), list[Literal]()
    for each in named:
        addresses = [address for address in found[each.name] if naming.family in (0, address.version)]
        if not addresses:
            cause = f"{each.name} has no IPv{naming.family} address" if found[each.name] else _FAILED.format(each.name)
            place = place_of(each.spec, each.lines) if len(names.unresolved) < MOST_SHOWN else ""
            if not naming.lenient:
                raise UsageError(f"{place}{cause}: check the spelling, or give its address")
            names.unresolved.setdefault(each.name, place + cause)
        elif len(addresses) > 1 and not naming.all_addresses:
            names.several[each.name] = addresses
        texts = [address_text(address) for address in addresses[: None if naming.all_addresses else 1]]
        names.addresses.setdefault(each.name, texts)
        for text in texts:
            names.by_address.setdefault(text, each.name)
            literals.append(Literal(each, text + each.prefix))
    return literals, names


def lines_of(names: Names) -> Iterator[str]:
    """What the user must know of the names, with the first of many."""
    for name, addresses in islice(names.several.items(), MOST_SHOWN):
        yield further(name, addresses)
    if (rest := len(names.several) - MOST_SHOWN) > 0:
        yield f"{rest:,} more names have further addresses; --all-addresses scans them"
    for cause in islice(names.unresolved.values(), MOST_SHOWN):
        yield f"{cause}: it is left out"
    if (rest := len(names.unresolved) - MOST_SHOWN) > 0:
        yield f"{rest:,} more names have no address: they are left out"
