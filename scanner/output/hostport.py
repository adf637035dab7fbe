"""`host:port`, one line for each open port: what the next tool of a pipe takes as its targets.

The host is the name that the user gave, because a web server may answer by it alone; otherwise the address.

On standard output a port leaves as soon as it is found, and once. So the row that comes when its window closes writes
nothing more. In a file it leaves with its row: what a window has given can be cut back when a scan is resumed.

A capture may hold a target several times, by prober, tunnel or scan. It is one line here. Live, each target has one
row, so only what was written early is remembered, and only until its window closes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from ..errors import escaped
from ..targets.zones import Zones, with_zone
from ..verdict.columns import Columns
from ..verdict.rows import Verdict
from ..verdict.table import RANK, Rank, State
from .jsonl import chunks
from .stream import Format

_OPEN = State.OPEN.value


def list_format(early: bool, names: Mapping[str, str] = MappingProxyType({}), zones: Zones = ()) -> Format:
    """The Format of one file. `early`: it also takes ports that were just found. `names`: of hosts, by address.

    `zones`: the links of link-local addresses.
    """
    known = _List(names, zones)
    return Format(known.texts, found=known.found if early else None)


class _List:
    """What has been written, as far as it may come again."""

    def __init__(self, names: Mapping[str, str], zones: Zones) -> None:
        self._names, self._zones = names, zones
        self._shared = {name for name, count in Counter(names.values()).items() if count > 1}
        self._written: set[tuple[str, int]] = set()
        self._lines: set[str] = set()  # of names that several addresses have

    def texts(self, verdicts: Iterable[Verdict]) -> Iterator[str]:
        """A batch: its open ports that were not written before."""
        if isinstance(verdicts, Columns):
            verdicts = verdicts.take(RANK[verdicts.record["reason"]] == Rank.OPEN)
        rows = (row for row in verdicts if row.state == _OPEN and row.protocol == "tcp" and self._is_new(row))
        return chunks(filter(None, (self._line(row.ip, row.port or 0) for row in rows)))

    def found(self, targets: Iterable[tuple[str, int]]) -> str:
        """Targets just found open. A window that is scanned anew finds them again."""
        fresh = [target for target in dict.fromkeys(targets) if target not in self._written]
        self._written.update(fresh)
        return "".join(self._line(ip, port) for ip, port in fresh)

    def _is_new(self, row: Verdict) -> bool:
        target = row.ip, row.port or 0
        fresh, captured = target not in self._written, row.scanner_ip is not None
        if captured:
            self._written.add(target)
        else:
            self._written.discard(target)
        return fresh

    def _line(self, ip: str, port: int) -> str:
        """IPv6 in brackets (RFC 3986 3.2.2). A name with several addresses has one line a port, "" at the next ones."""
        host = escaped(self._names.get(ip) or with_zone(ip, self._zones))
        line = f"[{host}]:{port}\n" if ":" in host else f"{host}:{port}\n"
        if self._names.get(ip) in self._shared:
            if line in self._lines:
                return ""
            self._lines.add(line)
        return line
