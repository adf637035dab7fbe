"""Port specifications: text → a sorted column of port numbers; the names of services, and the most popular ports.

The grammar is nmap's: numbers, ranges open at either end, and service names with the wildcards * and ?, separated by
commas. Everything becomes marks in one array of 65,536 booleans, so order, repeats and excludes take care of
themselves. Port 0 is probed only when it is named (`0` or `0-…`): real stacks hardly use it, and an open range such as
`-` or `-100` starts at 1.

Names come from IANA's registry (`data/services.csv`, TCP), one name a port, read once and only when needed. A name
says what is registered, not what listens.

`--top-ports N` follows nmap's services file where nmap is installed, so that both programs mean the same ports: it
gives each port the share of hosts that had it open. The licence of that file keeps it out of this package. Elsewhere
our own shorter list is used (`popular`), which is ordered by purpose. Without any option the ports are those of
`popular` on every machine.

Limits: TCP only; `T:` is accepted because nmap's users type it, `U:` and the other protocols are refused. The two
lists of popular ports differ, so the same N means other ports on a machine with nmap; `--list-ports` shows them.

Sources: RFC 6335 (names and ranges), nmap's manual for `-p`.
"""

import re
from functools import cache
from pkgutil import get_data  # importlib.resources takes 2 ms to import

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from .popular import POPULAR

Ports = npt.NDArray[np.uint16]
_Marks = npt.NDArray[np.bool_]

NO_PORTS: Ports = np.zeros(0, np.uint16)

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
            raise UsageError(f"every port was excluded by {exclude!r}: exclude fewer ports")
    return np.flatnonzero(marks).astype(np.uint16)


def format_ports(ports: npt.ArrayLike) -> str:
    """Ports in any order → the shortest sorted text, runs as ranges: `22,80,8000-8100`. Two neighbours stay a pair."""
    column = np.sort(np.asarray(ports, np.int64).ravel())
    column = column[np.diff(column, prepend=-1) > 0]  # np.unique imports numpy.ma, which takes 10 ms
    runs = np.split(column, np.flatnonzero(np.diff(column) != 1) + 1)
    return ",".join(_run_text(int(run[0]), int(run[-1])) for run in runs if run.size)


def table(name: str) -> list[str]:
    """The lines of a table of this package below its heading, by the file's name."""
    return (get_data("scanner", f"data/{name}") or b"").decode("ascii").splitlines()[1:]


@cache
def services() -> dict[int, str]:
    """The name that IANA registered for each TCP port that has one, by port."""
    rows = (line.partition(",") for line in table("services.csv"))
    return {int(port): name for port, _, name in rows}


def top_ports(count: int, nmap_services: str) -> Ports:
    """The `count` most popular TCP ports, uint16[count], ascending.

    `nmap_services` is the text of nmap's services file, "" for the list of our own. Raises UsageError for more ports
    than the list has.
    """
    # By falling frequency; of ports that are equally frequent, the lower one first.
    ranked = sorted(filter(None, map(_ranked, nmap_services.splitlines())))
    ports = [port for _, port in ranked] or list(POPULAR)
    if not 1 <= count <= len(ports):
        whose = "nmap's list" if ranked else "our own list (nmap is not installed)"
        raise UsageError(f"--top-ports {count}: {whose} has {len(ports):,} ports; give 1 to {len(ports):,}, or use -p")
    return np.sort(np.array(ports[:count], np.uint16))


def _run_text(first: int, last: int) -> str:
    return f"{first}-{last}" if last > first + 1 else ",".join(map(str, range(first, last + 1)))


def _marks(spec: str) -> _Marks:
    marks = np.zeros(_LAST + 1, np.bool_)
    for part in spec.split(","):
        _mark(marks, _without_protocol(part.strip(), spec))
    return marks


def _without_protocol(part: str, spec: str) -> str:
    """Drop a leading `T:`; refuse nmap's letters for other protocols."""
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
    """The TCP ports registered for a name, sorted; case does not count, `*` and `?` are wildcards."""
    if not _NAME.fullmatch(part):
        raise UsageError(f"{part!r} is not a port: write numbers, ranges and names, as in 22,80,8000-8100,http")
    pattern = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in part)
    matches = re.compile(pattern, re.IGNORECASE).fullmatch
    ports = [port for port, name in services().items() if matches(name)]
    if not ports:
        raise UsageError(f"no TCP service is registered as {part!r}: give the port's number")
    return ports


def _ranked(line: str) -> tuple[float, int] | None:
    """`ssh 22/tcp 0.182286 # …` → (-0.182286, 22); None for comments, other protocols and what cannot be read."""
    fields = line.partition("#")[0].split()
    if len(fields) != 3 or not fields[1].endswith("/tcp"):
        return None
    try:
        return -float(fields[2]), int(fields[1].removesuffix("/tcp"))
    except ValueError:
        return None
