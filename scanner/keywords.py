"""The options of the Python interface: what a program hands over → what the command line would say.

A program has numbers, addresses of `ipaddress`, and paths of `pathlib`, where a person types text. Both forms are
accepted: `rate="auto"` and `rate=500`, `max_missed="1%"` and `max_missed=0.01`, `retries="3"` and `retries=3`. The kind
of an option is that of its declaration in `config`, and texts are read by the same functions as on the command line.
None is an option that is not given. Whatever else stands there raises `UsageError`, which names the option.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from os import PathLike, fspath
from typing import Any, SupportsFloat, SupportsIndex, TypedDict

from .config import per_second
from .declare import Option, Texts
from .errors import UsageError

Address = IPv4Address | IPv6Address | IPv4Network | IPv6Network  # an interface is an address, and meant as its network
Spec = str | Address
Path = str | PathLike[str]
PortSpec = str | int | Iterable[int]

Whole = SupportsIndex | str
Number = SupportsFloat | str


class ScanOptions(TypedDict, total=False):
    """The types of the options of `scan`, for type checkers and editors."""

    targets_file: Path | Iterable[Path] | None
    again: Path | Iterable[Path] | None
    exclude: Spec | Iterable[Spec] | None
    exclude_file: Path | Iterable[Path] | None
    all_addresses: bool | None
    ipv4: bool | None
    ipv6: bool | None
    yes: bool | None
    top_ports: Whole | None
    exclude_ports: PortSpec | None
    rate: Number | None
    max_rate: Number | None
    retries: Whole | None
    max_missed: Number | None
    timeout: Number | None
    seed: Whole | None
    shard: str | tuple[int, int] | None
    senders: Whole | None
    transport: str | None
    interface: str | None
    source_ip: str | IPv4Address | IPv6Address | None
    source_port: Whole | None
    ttl: Whole | None
    tos: Whole | None
    options: str | None


_FILES = ("targets_file", "again", "exclude_file")
_ADDRESSES = (str, IPv4Address, IPv6Address, IPv4Network, IPv6Network)
_PATHS = (str, PathLike)


def values_of(options: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options by name, as `config.config_of` and `config.TargetOptions` take them. Raises UsageError."""
    return {name: _value(options[name], value) for name, value in given.items() if value is not None}


def _value(option: Option, value: Any) -> Any:
    flag = max(option.names, key=len, default=option.name)
    if option.name == "exclude_ports":
        return port_text(flag, value)
    if option.kind == Texts:
        return tuple(paths_of(flag, value) if option.name in _FILES else specs_of(flag, value))
    if option.kind is bool:
        return flag_of(flag, value)
    if option.kind in (int, int | None):
        return whole(flag, value)
    if option.kind in (float, float | None):
        return number(flag, value, per_second if option.name == "max_rate" else float)
    return _shard(flag, value) if option.name == "shard" else _text(flag, value, option.typed is not None)


def flag_of(flag: str, value: object) -> bool:
    """True or False."""
    if isinstance(value, bool):
        return value
    raise UsageError(f"{flag} {value!r} is not True or False")


def whole(flag: str, value: Any) -> int:
    """A whole number, or its text."""
    try:
        if not isinstance(value, bool):
            return int(value) if isinstance(value, str) else operator.index(value)
    except (TypeError, ValueError):
        pass
    raise UsageError(f"{flag} {value!r} is not a whole number")


def number(flag: str, value: Any, read: Callable[[str], float] = float) -> float:
    """A number, or its text."""
    try:
        if not isinstance(value, bool):
            return read(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"{flag} {value!r} is not a number")


def _shard(flag: str, value: Any) -> str:
    """`1/4`, or its two numbers."""
    if isinstance(value, tuple) and len(value) == 2:
        return "/".join(str(whole(flag, part)) for part in value)
    if isinstance(value, str):
        return value
    raise UsageError(f"{flag} {value!r} is not i/n, such as '1/4' or (1, 4)")


def _text(flag: str, value: Any, typed: bool) -> str:
    """A text, or an address. Of an option that is `typed` also a number."""
    if isinstance(value, _ADDRESSES):
        return without_zero(flag, str(value))
    if typed:
        return str(number(flag, value))
    raise UsageError(f"{flag} {value!r} is not text")


def without_zero(flag: str, text: str) -> str:
    """The text. No command line can hold a zero byte, and no system call takes one."""
    if "\0" in text:
        raise UsageError(f"{flag} {text!r} holds a zero byte")
    return text


def specs_of(flag: str, given: Any) -> list[str]:
    """Texts and addresses, one or several, as texts. Raises UsageError."""
    return [str(each) for each in _each(flag, given, _ADDRESSES, "text or an address")]


def paths_of(flag: str, given: Any) -> list[str]:
    """Paths, one or several, as texts. Raises UsageError."""
    return [without_zero(flag, fspath(each)) for each in _each(flag, given, _PATHS, "a path")]


def _each(flag: str, given: Any, kinds: tuple[type, ...], wanted: str) -> list[Any]:
    """One value, or several: a network could be iterated, too, and is one value."""
    if isinstance(given, kinds):
        return [given]
    several = list(given) if isinstance(given, Iterable) and not isinstance(given, bytes) else [given]
    for each in several:
        if not isinstance(each, kinds):
            raise UsageError(f"{flag} {each!r} is not {wanted}")
    return several


def port_text(flag: str, ports: PortSpec | None) -> str | None:
    """Ports as the command line takes them. Raises UsageError."""
    if ports is None or isinstance(ports, str):
        return ports
    numbers = [whole(flag, port) for port in (ports if isinstance(ports, Iterable) else [ports])]
    for port in numbers:
        if port < 0:  # as text it would be a range without a start
            raise UsageError(f"port {port} is below 0: ports are numbers from 0 to 65535")
    return ",".join(map(str, numbers))
