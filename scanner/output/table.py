"""The table for people: what matters of a scan on one screen, whatever the size of the scan.

A host is a block: its ports in order, and one "Not shown" line for the states that more than 25 of its ports
share (see `hosts`). A batch with one row for each host (one port on a whole network) is a single table with
a line for each host. With `--open` several hosts have a line each that names their ports. Hosts that did not answer at
all are summed at the end, by name while they are few; so are hosts that are down. `everything` (`--all`) folds and sums
nothing.

The windows of a scan close in any order. So with `Run.in_order` their hosts are held until the end, and written in the
order of their addresses, as long as few enough rows are held. After that each window is written as it closes.

Rows are padded by hand, because rich draws 2,300 rows/s and this some 300,000. Widths (`layout`) grow with a block,
never within it. Text from outside is made printable first.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..errors import escaped
from ..packet.headers import Ints
from ..verdict.columns import Columns
from ..verdict.rows import Verdict
from ..verdict.sentences import placed, plural, printable, titled
from ..verdict.table import Reason, State
from .hosts import Details, HostRows, details_of, gather, in_order
from .jsonl import chunks
from .layout import (
    GAP,
    HEADS,
    JOINED,
    PORT,
    WIDE,
    Widths,
    brief_line,
    brief_port,
    count_of,
    head,
    lines_fit,
    paragraph,
    tail,
    titled_line,
    widths_of,
)  # fmt: skip
from .lines import Hosts, details, lines, widest
from .stream import Format, Run, Summary

FEW = 8  # silent or down hosts that are still named

HELD = 1 << 16  # rows that wait for the end, at least one a host: some 100 MB
_WIDEST = 1 << 12  # a column that a resumed scan goes on with
_SILENT = (State.FILTERED.value, Reason.NO_RESPONSE.word)


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
        return paragraph(f"Not shown: {hosts} {what}")


def _recalled(memory: dict[str, Any]) -> _Absent:
    return _Absent(int(memory["count"]), [escaped(name) for name in memory["names"][:FEW]])


def table_format(everything: bool, colour: bool, summary: bool, run: Run | None = None) -> Format:
    """The Format of one file. `summary`: it ends with the summary of the run, as a file for people does."""
    table = _Table(everything, colour, summary, run or Run())
    return Format(table.texts, end=table.end, memory=table.memory, recall=table.recall)


class _Table:
    """What the table must know from batch to batch."""

    def __init__(self, everything: bool, colour: bool, summary: bool, run: Run) -> None:
        self._everything, self._colour, self._summary = everything, colour, summary
        self._may_be_brief = run.only_open and not everything
        self._silent = _Absent()
        self._down: dict[str, _Absent] = {}
        self._begun = False  # whether anything has been written
        # The widths of the table with a line for each host, HOST first, if that table was written last.
        self._compact: Widths = ()
        self._brief = False  # whether lines of `--open` were written last
        self._holding = run.in_order
        self._held: list[HostRows] = []
        self._held_rows = self._hosts = 0
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
        self._hosts += len(hosts)
        # A silent host is shown if it is the only one: the table of a scan of one host must not be empty.
        alone = len(hosts) == self._hosts == 1 and not several and not self._begun and not self._silent.count
        shown = [host for host in hosts if not self._absent(host, alone)]
        if self._holding:
            self._held += shown
            self._held_rows += sum(max(1, len(host.shown())) for host in shown)
            if self._held_rows <= HELD:
                return
            yield from self._release()
            return
        yield from self._shown(shown, several or len(hosts) > 1)

    def _release(self) -> Iterator[str]:
        """Write the hosts that were held, in the order of their addresses, and hold no more."""
        several = self._hosts > 1
        held = [host for host in self._held if not (several and self._absent(host, alone=False))]
        self._held, self._holding = [], False
        yield from self._shown(in_order(held), several)

    def _shown(self, hosts: list[HostRows], several: bool) -> Iterator[str]:
        """These hosts, in the shortest form. `several`: there are others."""
        row_count = sum(len(group.ports) for host in hosts for group in host.groups.values())
        one_each = row_count == len(hosts) > 0  # no host is without a row
        if one_each and (several or self._compact):
            yield from self._lines(hosts)
        elif self._may_be_brief and hosts and (several or self._brief):
            yield from self._brief_lines(hosts)
        else:
            yield from chunks(map(self._block, hosts))

    def end(self, summary: Summary) -> str:
        """The hosts that were held and summed, and in a file the summary."""
        held = "".join(self._release())
        lines = [self._silent.sentence("with all ports filtered (no-response)")] if self._silent.count else []
        lines += [absent.sentence(f"down ({reason})") for reason, absent in self._down.items()]
        if self._summary and summary.text:
            lines.append(summary.text.rstrip("\n") + "\n")
        return held + "\n" * (self._begun and bool(lines)) + "".join(lines)

    def memory(self) -> dict[str, Any]:
        """The hosts that are summed at the end, and what the shape of the next block depends on."""
        return {
            "silent": asdict(self._silent),
            "down": {reason: asdict(absent) for reason, absent in self._down.items()},
            "begun": self._begun,
            "compact": list(self._compact),
            "brief": self._brief,
        }

    def recall(self, memory: dict[str, Any]) -> None:
        """What `memory` gave."""
        self._silent = _recalled(memory["silent"])
        self._down = {printable(reason): _recalled(absent) for reason, absent in memory["down"].items()}
        self._begun, self._compact = bool(memory["begun"]), tuple(map(int, memory["compact"]))
        self._brief = bool(memory["brief"])
        if len(self._compact) not in (0, 1 + len(HEADS)) or not all(0 <= width <= _WIDEST for width in self._compact):
            raise ValueError("columns that no table has")

    def _absent(self, host: HostRows, alone: bool) -> bool:
        """Whether a host is summed at the end: it is down, or silent on every port and not the only host there is."""
        if self._everything or len(host.groups) != 1:
            return False
        ((state, reason, *_),) = host.groups
        if state == State.DOWN.value:
            self._down.setdefault(reason, _Absent()).add(self._title(host))
            return True
        if (state, reason) != _SILENT or alone:
            return False
        self._silent.add(self._title(host))
        return True

    def _title(self, host: HostRows) -> str:
        """The host, its tunnel, scan, vantage and capture, and the scanner where there are several."""
        name = placed(titled(host.ip, host.hostname), host.tunnel, host.vantage, host.capture)
        return self._name(f"{name}, scan {host.scan}" if host.scan else name, host.scanner)

    def _name(self, ip: str, scanner: str | None) -> str:
        return f"{ip} (scanner {scanner})" if len(self._scanners) > 1 and scanner else ip

    def _block(self, host: HostRows) -> str:
        """One host: its name, what is folded, its ports."""
        text = "\n" * self._begun + paragraph(self._title(host))
        folded = sorted((-len(group.ports), key) for key, group in host.groups.items() if not group.rows)
        if folded:
            text += paragraph(
                "Not shown: " + ", ".join(count_of(-minus, *key).replace(" ", JOINED) for minus, key in folded)
            )
        if rows := host.shown():
            every = list(map(details_of, rows))
            widths = widths_of(set(every), (), PORT + GAP)
            text += f"{'PORT':<{PORT}}  {head(widths, PORT + GAP)}"
            tails = {each: tail(each, widths, PORT + GAP, self._colour) for each in set(every)}
            text += "".join(f"{_port(row):<{PORT}}  {tails[each]}" for row, each in zip(rows, every, strict=True))
        self._begun, self._compact, self._brief = True, (), False
        return text

    def _lines(self, hosts: list[HostRows]) -> Iterator[str]:
        """A line for each host, each of which has one row. Batch after batch continues the same table."""
        rows = [row for host in hosts for group in host.groups.values() for row in group.rows]
        every, titles = list(map(details_of, rows)), [self._title(host) for host in hosts]
        begun = self._begin_lines(every, max(map(len, titles)))
        if begun is None:
            yield from chunks(map(self._block, hosts))
            return
        first, width, tails = begun
        yield first + "".join(
            f"{titled_line(title, width)}  {_port(row):<{PORT}}  {tails[each]}"
            for title, row, each in zip(titles, rows, every, strict=True)
        )

    def _column_lines(self, rows: Columns) -> Iterator[str]:
        """The same for columns."""
        scanners = len(self._scanners) > 1
        every, number = details(rows)
        if (longest := widest(rows, scanners)) > WIDE:  # two long addresses: `lines` breaks no title
            yield from self._lines(gather(rows, self._everything))
            return
        begun = self._begin_lines(every, longest)
        if begun is None:
            yield from chunks(map(self._block, gather(rows, self._everything)))
            return
        first, width, tails = begun
        yield first
        yield from lines(rows, scanners, width, PORT, [tails[each] for each in every], number)

    def _begin_lines(self, every: list[Details], longest: int) -> tuple[str, int, dict[Details, str]] | None:
        """What stands before the lines of a batch, the width of HOST, and the end of each line.

        `longest`: the longest title. None: a line for each host would be too long.
        """
        distinct, kept = set(every), self._compact
        fitting = lines_fit(distinct, kept, longest)
        if fitting is None:
            return None
        width, *others = fitting
        widths, before = tuple(others), width + GAP + PORT + GAP
        names = f"{'HOST':<{width}}  {'PORT':<{PORT}}  {head(widths, before)}"
        # A table that is gone on with has its names already, unless a column has been added.
        same = bool(kept) and [each > 0 for each in kept[1:]] == [each > 0 for each in widths]
        first = "" if same else "\n" * self._begun + names
        self._begun, self._compact, self._brief = True, fitting, False
        return first, width, {each: tail(each, widths, before, self._colour) for each in distinct}

    def _brief_lines(self, hosts: list[HostRows]) -> Iterator[str]:
        """A line for each host with its open ports, for `--open`."""
        titles = [self._title(host) for host in hosts]
        width = max(map(len, titles))
        first = "\n" * (self._begun and not self._brief)
        self._begun, self._compact, self._brief = True, (), True
        yield from chunks(
            (first if at == 0 else "") + brief_line(title, width, list(map(brief_port, host.shown())))
            for at, (title, host) in enumerate(zip(titles, hosts, strict=True))
        )


def _ends(rows: Columns) -> Ints:
    """Rows of two probers, if there are two."""
    other = (rows.scanner["lo"] != rows.scanner["lo"][0]) | (rows.scanner["hi"] != rows.scanner["hi"][0])
    return np.unique([0, int(np.argmax(other))])


def _port(row: Verdict) -> str:
    return "-" if row.port is None else f"{row.port}/{row.protocol}"
