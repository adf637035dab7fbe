"""Results as rows, and rows as a plain table.

A row has all values of all runs; the table shows the median, the smallest and the largest. Another scanner's row names
the row of ours to compare with. The ratio is always ours / theirs: above 1 is better for a rate, below 1 for a
time. The note of a row without values gives the reason: not installed, or not possible here.
"""

import statistics
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

_HEADS = ("", "unit", "median", "min", "max", "runs", "ours/it", "")


class Result(NamedTuple):
    """One measured quantity. `versus` is the name of our row that this one is compared with ("" for our own rows)."""

    group: str
    name: str
    unit: str
    values: tuple[float, ...] = ()
    versus: str = ""
    note: str = ""

    @property
    def median(self) -> float | None:
        """The median of the runs; None where there was none."""
        return statistics.median(self.values) if self.values else None


class Plan(NamedTuple):
    """How much to measure: `runs` of each contender, and `quick` for smaller work."""

    runs: int
    quick: bool


def ratio(row: Result, rows: Iterable[Result]) -> float | None:
    """Our median by this row's; None where one of the two is missing."""
    ours = next((each.median for each in rows if (each.group, each.name) == (row.group, row.versus)), None)
    return ours / row.median if ours is not None and row.median else None


def tables(rows: Sequence[Result]) -> str:
    """All rows as text: a title and a table for each group."""
    parts = []
    for group, members in groupby(rows, key=lambda row: row.group):
        cells = [_HEADS, *(_cells(row, rows) for row in members)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADS))]
        parts.append("\n".join([group, *(_line(line, widths) for line in cells)]))
    return "\n\n".join(parts)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = (0, 1, len(cells) - 1)
    parts = (
        f"{cell:<{width}}" if at in left else f"{cell:>{width}}"
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  " + "  ".join(parts).rstrip()


def _cells(row: Result, rows: Sequence[Result]) -> tuple[str, ...]:
    if row.median is None:
        return (row.name, row.unit, "-", "-", "-", "0", "", row.note)
    beside = ratio(row, rows)
    figures = (_figure(each) for each in (row.median, min(row.values), max(row.values)))
    return (row.name, row.unit, *figures, str(len(row.values)), "" if beside is None else f"{beside:.2f}", row.note)


def _figure(value: float) -> str:
    """Three significant digits or whole thousands, whichever a reader needs."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def as_json(row: Result, rows: Sequence[Result]) -> dict[str, object]:
    """One row for `bench.json`."""
    spread = {"min": min(row.values), "max": max(row.values)} if row.values else {}
    return {**row._asdict(), "median": row.median, **spread, "ratio": ratio(row, rows)}
