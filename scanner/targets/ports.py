"""Port specifications: text → a sorted column of port numbers, and the names of services.

The grammar is nmap's: numbers, ranges open at either end, and service names with the wildcards * and
?, separated by commas. Everything becomes marks on one array of 65,536 booleans, so order, repeats
and excludes need no thought. Port 0 is probed only when it is named (`0` or `0-…`): real stacks hardly use it,
and an open range such as `-` or `-100` starts at 1.

Names come from IANA's registry (`data/services.csv`, TCP), one name a port, read once and only
when somebody asks. A name says what is registered, not what listens.

Limit: TCP only. `T:` is accepted because nmap's users type it; `U:` and the other protocols are refused.

Sources: RFC 6335 (names and ranges), nmap's manual for `-p`.
"""

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

from ..errors import UsageError

Ports = npt.NDArray[np.uint16]
_Marks = npt.NDArray[np.bool_]

USUAL_PORTS = "1-1024"  # where nothing is said

_LAST = 65535
_RANGE = re.compile(r"([0-9]*)(-?)([0-9]*)")
_NAME = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9*?._-]*")


def parse_ports(spec: str, exclude: str | None = None) -> Ports:
    """`22,80,8000-8100,http*` (minus `exclude`, in the same grammar) → uint16[m], sorted, each once.

    Raises UsageError, naming the bad part, for what is not a port, an unknown name, a range that ends
    before it starts, a protocol other than TCP, and when nothing is left.
    """
    marks = _marks(spec)
    if exclude is not None:
        marks &= ~_marks(exclude)
        if not marks.any():
            raise UsageError(f"every port of {spec!r} was excluded by {exclude!r}: exclude fewer ports")
    return np.flatnonzero(marks).astype(np.uint16)


def format_ports(ports: npt.ArrayLike) -> str:
    """Ports in any order → the shortest sorted text, runs as ranges: `22,80,8000-8100`. Two neighbours stay a pair."""
    column = np.unique(np.asarray(ports, np.int64))
    runs = np.split(column, np.flatnonzero(np.diff(column) != 1) + 1)
    return ",".join(_run_text(int(run[0]), int(run[-1])) for run in runs if run.size)


def service_name(port: int) -> str | None:
    """The name that IANA registered for a TCP port, None where there is none."""
    return _names().get(port)


def service_names(ports: Iterable[int]) -> list[str | None]:
    """`service_name` of each port of a column."""
    return list(map(_names().get, ports))


def service_ports(name: str) -> list[int]:
    """The TCP ports registered for a name, sorted; case does not count, `*` and `?` are wildcards; [] if unknown."""
    pattern = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in name)
    matches = re.compile(pattern, re.IGNORECASE).fullmatch
    return [port for port, registered in _names().items() if matches(registered)]


def _run_text(first: int, last: int) -> str:
    return f"{first}-{last}" if last > first + 1 else ",".join(map(str, range(first, last + 1)))


def _marks(spec: str) -> _Marks:
    marks = np.zeros(_LAST + 1, np.bool_)
    for part in spec.split(","):
        _mark(marks, _without_protocol(part.strip(), spec))
    return marks


def _without_protocol(part: str, spec: str) -> str:
    """Drop a leading `T:`; nmap's other protocol letters are understood well enough to be refused."""
    letter, colon, rest = part.rpartition(":")
    if colon and letter.upper() in ("U", "S", "P"):
        raise UsageError(f"{part!r}: only TCP ports can be scanned, leave the {letter}: ports out of {spec!r}")
    if colon and letter.upper() != "T":
        raise UsageError(f"{part!r} is not a port: write numbers, ranges and names, as in 22,80,8000-8100,http")
    if not rest:
        raise UsageError(f"port list {spec!r} has an empty part: write ports with single commas, as in 22,80,8000-8100")
    return rest


def _mark(marks: _Marks, part: str) -> None:
    match = _RANGE.fullmatch(part)
    if match is None:
        marks[_named(part)] = True
        return
    low, dash, high = match.groups()
    first = int(low[:6]) if low else 1
    last = (int(high[:6]) if high else _LAST) if dash else first
    for text, value in ((low, first), (high, last)):
        if len(text) > 5 or value > _LAST:
            raise UsageError(f"port {text} in {part!r} is too large: ports end at {_LAST}")
    if last < first:
        raise UsageError(f"port range {part!r} ends before it starts: swap its ends")
    marks[first : last + 1] = True


def _named(part: str) -> list[int]:
    found = service_ports(part) if _NAME.fullmatch(part) else None
    if found is None:
        raise UsageError(f"{part!r} is not a port: write numbers, ranges and names, as in 22,80,8000-8100,http")
    if not found:
        raise UsageError(f"no TCP service is registered as {part!r}: give the port's number")
    return found


@cache
def _names() -> dict[int, str]:
    text = resources.files("scanner").joinpath("data/services.csv").read_text("ascii")
    rows = (line.partition(",") for line in text.splitlines()[1:])
    return {int(port): name for port, _, name in rows}
