"""What the page draws: bars, a histogram of round-trip times, and maps. Numbers only; template and script draw.

Round-trip times span decades (a neighbour in 0.1 ms, a satellite in 700 ms), so the bins are even on a logarithmic
scale, 8 a decade, from the start of a decade to the end of one. A time of 0 or less has no place there and is counted
in the first bin. All bars have one scale: their full length is 100 %, so charts can be compared with each other.

A map is a coloured cell for every target or every address. Its kind depends on what can be told apart. Few hosts with
few ports are a grid: a row for each host, a column for each port. Few hosts with many ports get a square of the whole
port space each. Many hosts are drawn as the address space itself, along a Hilbert curve: addresses that are close
stay close, so networks show as blocks. A curve has at most 256 × 256 cells. Where a range is larger, a cell is a
subnet and shows the strongest state in it.

Addresses far apart (10.0.0.0/16 and 192.168.0.0/16) would leave such a map empty, so each /16 (IPv6: /112) has its own
map as long as they are few. The script in the page walks the curve; here cells are in the order of the addresses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet.addresses import from_ints, is_ipv4, to_ints, to_text
from ..packet.headers import Ints, Rows
from ..results.columns import HOST_ONLY, host_numbers

PER_DECADE = 8
_TICKS = 6  # labels on an axis that are whole on a phone
_LEAST, _MOST = 1e-3, 1e6  # milliseconds; times beyond need not be told apart

GRID_HOSTS, GRID_PORTS = 256, 1024
SQUARES = 16  # hosts that may have a square of their own
BLOCK_BITS = 16
MOST_BLOCKS = 12
_ORDER = 8  # 2^8 × 2^8 cells
_ADDRESS_BITS = 128

# The states of a cell in the order of their codes; the codes are in the page, the names in its style sheet.
STYLES = ("none", "open", "closed", "firewall", "filtered", "other", "unknown", "down")
_RANK = np.array([0, 7, 6, 5, 4, 3, 2, 1])  # by code: which of several a cell shows

_Styles = npt.NDArray[np.uint8]  # indices of STYLES


# ── bars and the histogram ──


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart. `style` names its colour, `percent` is its share of all and its length."""

    label: str
    style: str
    count: int
    percent: float
    share: str
    hint: str = ""


class Bin(NamedTuple):
    """One column of a histogram: its place in percent of the drawing, and what it says."""

    x: float
    y: float
    width: float
    height: float
    label: str


class Histogram(NamedTuple):
    """A drawing, and the words that stand for it where it cannot be seen.

    `ticks`: (x in percent, label) of marks on the axis of times. `most`: the rows in the highest column.
    """

    bins: list[Bin]
    ticks: list[tuple[float, str]]
    most: int
    words: str


def bars(entries: Sequence[tuple[str, str, int, str]], total: int) -> list[Bar]:
    """(label, style, count, hint) → bars, without those that count nothing; shares are of `total`."""
    return [
        Bar(label, style, count, round(100 * count / total, 2), _share(count, total), hint)
        for label, style, count, hint in entries
        if count
    ]


def _share(count: int, total: int) -> str:
    percent = 100 * count / total
    return "< 0.1 %" if percent < 0.1 else f"{percent:.1f} %"


def histogram(times: npt.NDArray[np.float32]) -> Histogram | None:
    """Round-trip times in ms (NaN: unknown) → the drawing; None if none is known."""
    known = np.clip(times[np.isfinite(times)].astype(np.float64), _LEAST, _MOST)
    if not len(known):
        return None
    low, high = int(np.floor(np.log10(known.min()))), int(np.ceil(np.log10(known.max())))
    high = max(high, low + 1)
    counts, edges = np.histogram(np.log10(known), bins=(high - low) * PER_DECADE, range=(low, high))
    width, most = 100 / len(counts), int(counts.max())
    drawn = [
        Bin(round(at * width, 2), round(100 * (1 - count / most), 2), round(0.9 * width, 2),
            round(100 * count / most, 2), f"{ms(10 ** edges[at])} to {ms(10 ** edges[at + 1])}: {count:,}")
        for at, count in enumerate(counts.tolist())
        if count
    ]  # fmt: skip
    marks = range(low, high + 1, -(-(high + 1 - low) // _TICKS))
    ticks = [(round(100 * (at - low) / (high - low), 2), ms(10.0**at)) for at in marks]
    half, nearly = np.percentile(known, (50, 95))
    words = f"{len(known):,} replies; half within {ms(half)}, 95 % within {ms(nearly)}, the slowest {ms(known.max())}"
    return Histogram(drawn, ticks, most, words)


def ms(value: float) -> str:
    """Milliseconds with the digits that matter: 0.35 ms, 12 ms, 1.5 s, 1,000 s."""
    if value >= 1e5:
        return f"{value / 1000:,.0f} s"
    return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.2g} ms" if value < 10 else f"{value:.0f} ms"


# ── maps ──


class Map(NamedTuple):
    """One map: `cells` is a digit for each cell, an index of STYLES. The rest depends on `kind`.

    grid: row by row, `hosts` names the rows and `ports` the columns. ports: along the curve, of the one host.
    hilbert: along the curve from `base` on, 2^`bits` addresses in a cell.
    """

    kind: str
    title: str
    cells: str
    order: int = 0
    hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    base: str = ""
    bits: int = 0


def maps_of(rows: Rows, styles: _Styles) -> list[Map]:
    """ROW columns sorted by address, and the style of each → the maps that show them."""
    if not len(rows):
        return []
    host = host_numbers(rows)
    hosts = int(host[-1]) + 1
    ports = np.unique(rows["port"][rows["port"] != HOST_ONLY])
    if hosts <= GRID_HOSTS and len(ports) <= GRID_PORTS:
        return [_grid(rows, styles, host, ports)]
    if hosts <= SQUARES:
        return [_square(rows[host == at], styles[host == at]) for at in range(hosts)]
    return [_hilbert(rows[part], styles[part]) for part in _blocks(rows)]


def _grid(rows: Rows, styles: _Styles, host: Ints, ports: npt.NDArray[np.int32]) -> Map:
    names = tuple(to_text(rows[np.flatnonzero(np.diff(host, prepend=-1))]))
    columns = max(1, len(ports))  # hosts that are all down have no ports, but still a row
    cells = np.zeros((len(names), columns), np.uint8)
    alone = rows["port"] == HOST_ONLY
    cells[host[alone]] = styles[alone][:, None]  # a host that is down colours its whole row
    at = host * columns + np.searchsorted(ports, rows["port"])
    _put(cells.reshape(-1), at[~alone], styles[~alone])
    title = f"{len(names):,} hosts × {len(ports):,} ports"
    return Map("grid", title, _digits(cells), hosts=names, ports=tuple(ports.tolist()))


def _square(rows: Rows, styles: _Styles) -> Map:
    cells = np.zeros(1 << 16, np.uint8)
    alone = rows["port"] == HOST_ONLY
    _put(cells, rows["port"][~alone].astype(np.int64), styles[~alone])
    (name,) = to_text(rows[:1])
    return Map("ports", name, _digits(cells), 8, hosts=(name,))


def _blocks(rows: Rows) -> list[slice]:
    """The rows of each map: of a /16 or /112, or, if those are many, of a whole address family."""
    block = rows["lo"] >> np.uint64(BLOCK_BITS)
    begins = (np.diff(rows["hi"], prepend=rows["hi"][:1]) != 0) | (np.diff(block, prepend=block[:1]) != 0)
    if np.count_nonzero(begins) >= MOST_BLOCKS:
        ipv4 = is_ipv4(rows)
        begins = np.diff(ipv4, prepend=ipv4[:1])
    starts = [0, *np.flatnonzero(begins).tolist()]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(rows)], strict=True)]


def _hilbert(rows: Rows, styles: _Styles) -> Map:
    low, high = to_ints(rows[[0, -1]])
    span = (low ^ high).bit_length()
    span += span & 1  # a square needs an even number of bits
    order = min(_ORDER, max(1, span // 2))
    span = max(span, 2 * order)
    bits = span - 2 * order  # a cell holds 2^bits addresses
    base = low >> span << span
    cells = np.zeros(1 << 2 * order, np.uint8)
    _put(cells, _cells(rows, base, bits, span), styles)
    prefix = (32 if is_ipv4(rows[:1])[0] else _ADDRESS_BITS) - span
    (text,) = to_text(from_ints([base]))
    return Map("hilbert", f"{text}/{prefix}", _digits(cells), order, base=text, bits=bits)


def _cells(rows: Rows, base: int, bits: int, span: int) -> Ints:
    """The cell of each row in a range of 2^`span` addresses."""
    if span <= 62:
        return (rows["lo"] - np.uint64(base & (1 << 64) - 1)).view(np.int64) >> bits
    return np.array([number - base >> bits for number in to_ints(rows)], np.int64)  # too wide for 64 bits


def _put(cells: npt.NDArray[np.uint8], at: Ints, styles: _Styles) -> None:
    """Each style to its cell; of several the strongest stays."""
    order = np.argsort(_RANK[styles], kind="stable")
    cells[at[order]] = styles[order]  # numpy keeps the last value that is written to a cell


def _digits(cells: npt.NDArray[np.uint8]) -> str:
    return (cells.reshape(-1) + ord("0")).astype(np.uint8).tobytes().decode("ascii")
