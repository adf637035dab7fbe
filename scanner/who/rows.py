"""Rows of probers as text: a table for people, JSON lines and CSV for programs.

All three have the same facts. JSON lines and CSV have the columns of `COLUMNS` in this order; in CSV an unknown value
is an empty cell, and the tools are joined by `;`. The table keeps within 80 columns: what has no room in
the columns stands in the lines below them, and of a long list of ports only the beginning.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from ..output.csv import quote
from ..output.layout import GAP, HOST, JOINED, WIDE, filled, paragraph, titled_line
from ..verdict.sentences import printable
from .gather import NEVER
from .reading import ProberRow
from .sums import STATES

COLUMNS = ("prober", "first", "last", "probes", "targets", "hosts", "ports", "port_count", "rate", "kind",
           "shape", *STATES, "tools", "not_told", "tunnel")  # fmt: skip
FORMS = ("table", "jsonl", "csv")
_HEADS = ("PROBES", "HOSTS", "PORTS", "RATE", "SHAPE")
_LONGEST_PORTS = 40  # characters in the table
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LATEST = 253_402_300_799_999_999_000  # ns: the end of the year 9999


def texts(rows: Iterable[ProberRow], form: str) -> Iterator[str]:
    """The rows in one of FORMS, as pieces of whole lines."""
    if form == "csv":
        yield ",".join(COLUMNS) + "\n"
        yield from map(_csv, rows)
    elif form == "jsonl":
        yield from (json.dumps(fields(row)) + "\n" for row in rows)
    else:
        yield from _table(list(rows))


def fields(row: ProberRow) -> dict[str, Any]:
    """The columns of one row, as JSON takes them. Times are UTC, the rate is in probes per second."""
    tools = [
        {"tool": claim.tool, "probes": claim.syns, "chance": _chance(claim.chance), "seen": claim.seen}
        for claim in row.claims
    ]
    return {
        "prober": row.prober,
        "first": moment(row.first),
        "last": moment(row.last),
        "probes": row.probes,
        "targets": row.targets,
        "hosts": row.hosts,
        "ports": row.ports,
        "port_count": row.port_count,
        "rate": None if row.rate is None else round(row.rate, 3),
        "kind": row.kinds,
        "shape": row.shape,
        **dict(zip(STATES, row.states, strict=True)),
        "tools": tools,
        "not_told": row.not_told,
        "tunnel": row.tunnel,
    }


def moment(ns: int) -> str | None:
    """A time in UTC, to the microsecond; None where it is not known."""
    if not 0 <= ns < min(NEVER, _LATEST):
        return None
    return (_EPOCH + timedelta(microseconds=ns // 1000)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _chance(log10: float | None) -> str | None:
    """The chance as text, because a float ends at 10^-308."""
    return None if log10 is None else f"1e{round(log10)}"


def tool_texts(row: ProberRow) -> list[str]:
    """The tools, each with its number of probes where there are several."""
    words = [claim.tool for claim in row.claims]
    if len(words) > 1 or (words and row.not_told):
        words = [f"{claim.tool} ({claim.syns:,})" for claim in row.claims]
        words += [f"not told ({row.not_told:,})"] if row.not_told else []
    return [f"{word};" for word in words[:-1]] + (words[-1:] or ["not told"])


def _csv(row: ProberRow) -> str:
    cells = fields(row)
    cells |= {"kind": ";".join(row.kinds), "tools": ";".join(claim.tool for claim in row.claims)}
    return ",".join(quote("" if cells[name] is None else str(cells[name])) for name in COLUMNS) + "\n"


def ports_text(row: ProberRow) -> str:
    """The ports, as far as they are few enough to be read."""
    text = row.ports.replace(",", ", ")
    if len(text) > _LONGEST_PORTS:
        text = text[:_LONGEST_PORTS].rpartition(", ")[0] + ", …"
    return f"{'port' if row.port_count == 1 else 'ports'} {text}"


def _table(rows: list[ProberRow]) -> Iterator[str]:
    """A line of columns for each prober, and below it what has no room there. No line has more than 80 columns."""
    if not rows:
        return
    titles = [f"{row.prober} in {printable(row.tunnel)}" if row.tunnel else row.prober for row in rows]
    cells = [_HEADS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    tools = [["TOOL"], *map(tool_texts, rows)]
    room = WIDE - sum(width + GAP for width in widths) - GAP - max(len(words[0]) for words in tools)
    width = max(HOST, min(room, max(map(len, titles), default=0)))
    for title, line, words, row in zip(["PROBER", *titles], cells, tools, [None, *rows], strict=True):
        columns = (" " * GAP).join(cell.ljust(size) for cell, size in zip(line, widths, strict=True))
        yield titled_line(title, width) + " " * GAP + filled(columns, words, width + GAP)
        if row:
            yield paragraph(" " * GAP + "; ".join(_facts(row)))


def _cells(row: ProberRow) -> tuple[str, ...]:
    rate = "-" if row.rate is None else f"{row.rate:,.0f}/s" if row.rate >= 10 else f"{row.rate:.2g}/s"
    return f"{row.probes:,}", f"{row.hosts:,}", f"{row.port_count:,}", rate, row.shape


def _facts(row: ProberRow) -> Iterator[str]:
    """When, how, where to, and what came of it."""
    first, last = moment(row.first), moment(row.last)
    if first and last:
        until = last[11:19] if last[:10] == first[:10] else last[:19].replace("T", " ")
        yield f"{first[:19].replace('T', ' ')} to {until} UTC"
    yield ", ".join(row.kinds)
    yield ports_text(row)
    answers = [
        f"{count:,}{JOINED}{word.replace('_', '-')}" for word, count in zip(STATES, row.states, strict=True) if count
    ]
    yield ", ".join(answers) or "no answer is judged"
