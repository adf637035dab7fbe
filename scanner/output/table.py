"""The table for people: what matters of a scan on one screen, whatever the size of the scan.

A host is a block: its ports in order, and one "Not shown" line for the states that more than 25 of its ports
share (see `hosts`). A batch with one row for each host (one port on a whole network) is a single table with
a line for each host. Hosts that did not answer at all are summed at the end, by name while they are few;
so are hosts that are down. `everything` (`--all`) folds and sums nothing.

Rows are padded by hand, because rich draws 2,300 rows/s and this some 300,000. Columns have minimal widths that fit
the usual words; they grow with a block, never within it. Text from outside is made printable first.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import escaped
from ..packet.headers import Ints
from ..verdict.columns import Columns
from ..verdict.rows import Verdict
from ..verdict.sentences import plural, printable, titled
from ..verdict.table import Reason, State
from .hosts import FIREWALL_RESET, Details, HostRows, details_of, fold_key, gather
from .jsonl import chunks
from .lines import Hosts, details, lines, widest
from .stream import Format, Summary

FEW = 8  # silent or down hosts that are still named

_COLOURS = {State.OPEN.value: "32", State.CLOSED.value: "31", State.FILTERED.value: "33"}
_HEADS = ("STATE", "REASON", "TTL", "SERVICE", "EVIDENCE")
_WIDTHS = (8, 16, 3, 12, 0)  # at least
_PORT = 9  # 65535/tcp
_HOST = 15  # an IPv4 address
_WIDEST = 1 << 12  # a column that a resumed scan goes on with
_SILENT = (State.FILTERED.value, Reason.NO_RESPONSE.word)

_Cells = tuple[str, ...]  # STATE to EVIDENCE
_Widths = tuple[int, ...]


@dataclass
class _Absent:
    """Hosts that are summed at the end: the first few by name, all by number."""

    count: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.names) < FEW:
            self.names.append(name)

    def sentence(self, what: str) -> str:
        hosts = plural(self.count, "host") if self.count > len(self.names) else ", ".join(self.names)
        return f"Not shown: {hosts} {what}\n"


def _recalled(memory: dict[str, Any]) -> _Absent:
    return _Absent(int(memory["count"]), [escaped(name) for name in memory["names"][:FEW]])


def table_format(everything: bool, colour: bool, summary: bool) -> Format:
    """The Format of one file. `summary`: it ends with the summary of the run, as a file for people does."""
    table = _Table(everything, colour, summary)
    return Format(table.texts, end=table.end, memory=table.memory, recall=table.recall)


class _Table:
    """What the table must know from batch to batch."""

    def __init__(self, everything: bool, colour: bool, summary: bool) -> None:
        self._everything, self._colour, self._summary = everything, colour, summary
        self._silent = _Absent()
        self._down: dict[str, _Absent] = {}
        self._begun = False  # whether anything has been written
        # The widths of the table with a line for each host, HOST first, if that table was written last.
        self._compact: _Widths = ()
        self._scanners: set[str | None] = set()  # of all batches until one with a second scanner

    def texts(self, verdicts: Iterable[Verdict]) -> Iterator[str]:
        """A batch: its hosts in address order; hosts without any answer are kept for the end."""
        if isinstance(verdicts, Columns) and not (verdicts.in_tunnels or verdicts.scan.any()):
            yield from self._columns(verdicts)
        else:
            yield from self._rows(verdicts)

    def _columns(self, rows: Columns) -> Iterator[str]:
        """A batch of columns: silent hosts are summed, and hosts of one row each drawn, without a loop over rows."""
        hosts = Hosts.of(rows)
        if len(hosts.first) < 2:
            yield from self._rows(rows)
            return
        if len(self._scanners) < 2:
            self._scanners.update(row.scanner_ip for row in rows.take(_ends(rows)))
        if not self._everything:
            silent = hosts.first[hosts.silent]
            for row in rows.take(silent[:FEW]):
                self._silent.add(self._name(row.ip, row.scanner_ip))
            self._silent.count += len(silent[FEW:])
            hosts = Hosts._make(column[~hosts.silent] for column in hosts)
        if (hosts.size == 1).all():
            if len(hosts.first):
                yield from self._column_lines(rows.take(hosts.first))
            return
        shown = np.zeros(len(rows) + 1, np.int64)
        shown[hosts.first] += 1
        np.subtract.at(shown, hosts.first + hosts.size, 1)
        yield from self._rows(rows.take(np.cumsum(shown[:-1]) > 0), several=True)

    def _rows(self, verdicts: Iterable[Verdict], several: bool = False) -> Iterator[str]:
        """A batch, row by row. `several`: it had more than one host."""
        hosts = gather(verdicts, self._everything)
        if len(self._scanners) < 2:
            self._scanners.update(host.scanner for host in hosts)
        # A silent host is shown if it is the only one: the table of a scan of one host must not be empty.
        alone = len(hosts) == 1 and not several and not self._begun and not self._silent.count
        shown = [host for host in hosts if not self._absent(host, alone)]
        row_count = sum(len(group.ports) for host in shown for group in host.groups.values())
        one_each = row_count == len(shown) > 0  # no host is without a row
        if one_each and (len(hosts) > 1 or several or self._compact):
            yield self._lines(shown)
        else:
            yield from chunks(map(self._block, shown))

    def end(self, summary: Summary) -> str:
        """The hosts that were summed, and in a file the summary."""
        lines = [self._silent.sentence("with all ports filtered (no-response)")] if self._silent.count else []
        lines += [absent.sentence(f"down ({reason})") for reason, absent in self._down.items()]
        if self._summary and summary.text:
            lines.append(summary.text.rstrip("\n") + "\n")
        return "\n" * (self._begun and bool(lines)) + "".join(lines)

    def memory(self) -> dict[str, Any]:
        """The hosts that are summed at the end, and what the shape of the next block depends on."""
        return {
            "silent": asdict(self._silent),
            "down": {reason: asdict(absent) for reason, absent in self._down.items()},
            "begun": self._begun,
            "compact": list(self._compact),
        }

    def recall(self, memory: dict[str, Any]) -> None:
        """What `memory` gave."""
        self._silent = _recalled(memory["silent"])
        self._down = {printable(reason): _recalled(absent) for reason, absent in memory["down"].items()}
        self._begun, self._compact = bool(memory["begun"]), tuple(map(int, memory["compact"]))
        if len(self._compact) not in (0, 1 + len(_WIDTHS)) or not all(0 <= width <= _WIDEST for width in self._compact):
            raise ValueError("columns that no table has")

    def _absent(self, host: HostRows, alone: bool) -> bool:
        """Whether a host is summed at the end: it is down, or silent on every port and not the only host there is."""
        if self._everything or len(host.groups) != 1:
            return False
        ((state, reason),) = host.groups
        if state == State.DOWN.value:
            self._down.setdefault(reason, _Absent()).add(self._title(host))
            return True
        if (state, reason) != _SILENT or alone:
            return False
        self._silent.add(self._title(host))
        return True

    def _title(self, host: HostRows) -> str:
        """The host, its tunnel, the number of the scan, and who scanned it where a capture holds several scanners."""
        name = titled(host.ip, host.hostname)
        name = f"{name} in {printable(host.tunnel)}" if host.tunnel else name
        return self._name(f"{name}, scan {host.scan}" if host.scan else name, host.scanner)

    def _name(self, ip: str, scanner: str | None) -> str:
        return f"{ip} (scanner {scanner})" if len(self._scanners) > 1 and scanner else ip

    def _block(self, host: HostRows) -> str:
        """One host: its name, what is folded, its ports."""
        text = "\n" * self._begun + self._title(host) + "\n"
        folded = sorted((-len(group.ports), key) for key, group in host.groups.items() if not group.rows)
        if folded:
            text += "Not shown: " + ", ".join(_sum(-minus, *key) for minus, key in folded) + "\n"
        if rows := host.shown():
            tails, widths = _draw(list(map(details_of, rows)), _WIDTHS, self._colour)
            text += f"{'PORT':<{_PORT}}  {_pad(_HEADS, widths, False)}"
            text += "".join(f"{_port(row):<{_PORT}}  {tail}" for row, tail in zip(rows, tails, strict=True))
        self._begun, self._compact = True, ()
        return text

    def _lines(self, hosts: list[HostRows]) -> str:
        """A line for each host, each of which has one row. Batch after batch continues the same table."""
        rows = [row for host in hosts for group in host.groups.values() for row in group.rows]
        least, *others = self._compact or (_HOST, *_WIDTHS)
        titles = [self._title(host) for host in hosts]
        width = max(least, *map(len, titles))
        tails, widths = _draw(list(map(details_of, rows)), tuple(others), self._colour)
        texts = [
            f"{title:<{width}}  {_port(row):<{_PORT}}  {tail}"
            for title, row, tail in zip(titles, rows, tails, strict=True)
        ]
        return self._head((width, *widths)) + "".join(texts)

    def _column_lines(self, rows: Columns) -> Iterator[str]:
        """The same for columns."""
        least, *others = self._compact or (_HOST, *_WIDTHS)
        scanners = len(self._scanners) > 1
        width = max(least, widest(rows, scanners))
        every, number = details(rows)
        tails, widths = _draw(every, tuple(others), self._colour)
        yield self._head((width, *widths))
        yield from lines(rows, scanners, width, _PORT, tails, number)

    def _head(self, widths: _Widths) -> str:
        """What stands before the lines of a batch, which may continue those of the batch before it."""
        width, *others = widths
        head = "\n" * self._begun + f"{'HOST':<{width}}  {'PORT':<{_PORT}}  {_pad(_HEADS, tuple(others), False)}"
        text = "" if self._compact else head
        self._begun, self._compact = True, widths
        return text


def _ends(rows: Columns) -> Ints:
    """Rows of two probers, if there are two."""
    other = (rows.scanner["lo"] != rows.scanner["lo"][0]) | (rows.scanner["hi"] != rows.scanner["hi"][0])
    return np.unique([0, int(np.argmax(other))])


def _draw(rows: list[Details], least: _Widths, colour: bool) -> tuple[list[str], _Widths]:
    """STATE to EVIDENCE of each row, and the widths used. Rows share few distinct cells; each is padded once."""
    all_cells = list(map(_cells, rows))
    distinct = set(all_cells)
    columns = zip(least, *distinct, strict=True)
    widths = tuple(max(width, *map(len, column)) for width, *column in columns)
    texts = {cells: _pad(cells, widths, colour) for cells in distinct}
    return [texts[cells] for cells in all_cells], widths


@lru_cache(maxsize=1 << 14)
def _pad(cells: _Cells, widths: _Widths, colour: bool) -> str:
    """The cells as the end of a line; only the state is coloured."""
    state, *others = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    text = "  ".join([state, *others]).rstrip() + "\n"
    code = _COLOURS.get(cells[0].partition(" ")[0]) if colour else None
    return text if code is None else f"\033[{code}m{cells[0]}\033[0m{text[len(cells[0]) :]}"


@lru_cache(maxsize=1 << 14)
def _cells(details: Details) -> _Cells:
    """STATE to EVIDENCE; an ICMP error names the router that sent it."""
    state, reason, ttl, service, evidence, router = details
    words = evidence if router is None else (*evidence, f"from {router}")
    known = ("-" if ttl is None else str(ttl), "-" if service is None else printable(service))
    return (*fold_key(state, reason, evidence), *known, printable(" ".join(words)))


def _port(row: Verdict) -> str:
    return "-" if row.port is None else f"{row.port}/{row.protocol}"


def _sum(count: int, state: str, reason: str) -> str:
    """`997 closed (reset)`; the firewall's resets already say what they are."""
    return f"{count:,} {state}" if state == FIREWALL_RESET else f"{count:,} {state} ({reason})"
