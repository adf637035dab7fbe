"""Maps: every target, or every address, as a coloured cell.

What can be told apart decides the kind. Few hosts with few ports are a grid, a line a host and a column a port. Few
hosts with many ports get a square of the whole port space each. Many hosts are drawn as the address space itself,
along a Hilbert curve: addresses that are close stay close, so that networks show as blocks. A curve has at most
256 × 256 cells; where a range is larger, a cell is a subnet and shows the most that any port in it claims.

Addresses far apart (10.0.0.0/16 and 192.168.0.0/16) would leave such a map empty, so each /16 (IPv6: /112) has its own
map as long as they are few. The curve itself is walked by the page; here cells are in the order of the addresses.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..packet.addresses import word_text
from ..packet.headers import Ints, Rows
from ..results.columns import HOST_ONLY, host_numbers

GRID_HOSTS, GRID_PORTS = 256, 1024
SQUARES = 16  # hosts that may have a square of their own
BLOCK_BITS = 16
MOST_BLOCKS = 12
_ORDER = 8  # 2^8 × 2^8 cells
_ADDRESS_BITS = 128

# The states of a cell in the order of their codes; the codes are in the page, the names in its style sheet.
STYLES = ("none", "open", "closed", "firewall", "filtered", "other", "unknown", "down")
_WINS = np.array([0, 7, 6, 5, 4, 3, 2, 1])  # by code: what a cell shows of several


@dataclass(frozen=True)
class Map:
    """One map: `cells` is a digit a cell, an index of STYLES. What the rest means depends on `kind`.

    grid: line by line, `ports` names the columns; `hosts` the lines. ports: along the curve, of the one host.
    hilbert: along the curve from `base` on, 2^`bits` addresses a cell.
    """

    kind: str
    title: str
    cells: str
    order: int = 0
    hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    base: str = ""
    bits: int = 0


def maps_of(rows: Rows, codes: npt.NDArray[np.uint8]) -> list[Map]:
    """ROW columns sorted by address and the index in STYLES of each → the maps that show them."""
    if not len(rows):
        return []
    host = host_numbers(rows)
    ports = np.unique(rows["port"][rows["port"] != HOST_ONLY])
    first = np.flatnonzero(np.diff(host, prepend=-1))
    if len(first) <= GRID_HOSTS and len(ports) <= GRID_PORTS:
        return [_grid(rows, codes, host, first, ports)]
    if len(first) <= SQUARES:
        return [_square(rows[host == at], codes[host == at]) for at in range(len(first))]
    return [_hilbert(rows[part], codes[part]) for part in _blocks(rows)]


def _grid(rows: Rows, codes: npt.NDArray[np.uint8], host: Ints, first: Ints, ports: npt.NDArray[np.int32]) -> Map:
    columns = max(1, len(ports))  # hosts that are all down have no ports, and still a line
    cells = np.zeros((len(first), columns), np.uint8)
    alone = rows["port"] == HOST_ONLY
    cells[host[alone]] = codes[alone][:, None]
    _put(cells.reshape(-1), (host * columns + np.searchsorted(ports, rows["port"]))[~alone], codes[~alone])
    names = tuple(_text(row) for row in rows[first])
    title = f"{len(first):,} hosts × {len(ports):,} ports"
    return Map("grid", title, _digits(cells), hosts=names, ports=tuple(ports.tolist()))


def _square(rows: Rows, codes: npt.NDArray[np.uint8]) -> Map:
    cells = np.zeros(1 << 16, np.uint8)
    alone = rows["port"] == HOST_ONLY
    _put(cells, rows["port"][~alone].astype(np.int64), codes[~alone])
    return Map("ports", _text(rows[0]), _digits(cells), 8, hosts=(_text(rows[0]),))


def _blocks(rows: Rows) -> list[slice]:
    """Rows of one map each: a /16 or /112, or, if those are many, a whole family."""
    block = rows["lo"] >> np.uint64(BLOCK_BITS)
    four = (rows["hi"] == 0) & (rows["lo"] >> np.uint64(32) == 0xFFFF)
    fresh = np.diff(rows["hi"], prepend=rows["hi"][:1]) != 0
    fresh |= np.diff(block, prepend=block[:1]) != 0
    starts = [0, *np.flatnonzero(fresh).tolist()]
    if len(starts) > MOST_BLOCKS:
        starts = [0, *np.flatnonzero(np.diff(four.astype(np.int8), prepend=four[:1].astype(np.int8))).tolist()]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(rows)], strict=True)]


def _hilbert(rows: Rows, codes: npt.NDArray[np.uint8]) -> Map:
    low, high = _number(rows[0]), _number(rows[-1])
    span = (low ^ high).bit_length()
    span += span & 1  # a square needs an even number of bits
    order = min(_ORDER, max(1, span // 2))
    bits = max(0, span - 2 * order)
    base = low >> max(span, 2 * order) << max(span, 2 * order)
    cells = np.zeros(1 << 2 * order, np.uint8)
    _put(cells, _offsets(rows, base) >> bits if span <= 62 else _far(rows, base, bits), codes)
    four = rows["hi"][0] == 0 and int(rows["lo"][0]) >> 32 == 0xFFFF
    prefix = (32 if four else _ADDRESS_BITS) - max(span, 2 * order)
    text = word_text(base >> 64, base & (1 << 64) - 1)
    return Map("hilbert", f"{text}/{prefix}", _digits(cells), order, base=text, bits=bits)


def _offsets(rows: Rows, base: int) -> Ints:
    return (rows["lo"] - np.uint64(base & (1 << 64) - 1)).view(np.int64)


def _far(rows: Rows, base: int, bits: int) -> Ints:
    """Places in a range too wide for 64 bits."""
    return np.array([_number(row) - base >> bits for row in rows], np.int64)


def cell_of_hosts(drawn: Map, numbers: list[int]) -> list[int]:
    """The cell of each host (addresses as integers) in a map of addresses; -1 where it is not in it."""
    assert drawn.kind == "hilbert", "other maps name their hosts"
    from ipaddress import ip_address

    from ..packet.addresses import to_int

    base = to_int(ip_address(drawn.base))
    cells = [number - base >> drawn.bits for number in numbers]
    return [cell if 0 <= cell < len(drawn.cells) else -1 for cell in cells]


def _put(cells: npt.NDArray[np.uint8], at: Ints, codes: npt.NDArray[np.uint8]) -> None:
    """Each code to its cell; of several the strongest stays."""
    order = np.argsort(_WINS[codes], kind="stable")
    cells[at[order]] = codes[order]  # the strongest is written last


def _digits(cells: npt.NDArray[np.uint8]) -> str:
    return (cells.reshape(-1) + ord("0")).astype(np.uint8).tobytes().decode("ascii")


def _number(row: Rows) -> int:
    return int(row["hi"]) << 64 | int(row["lo"])


def _text(row: Rows) -> str:
    return word_text(int(row["hi"]), int(row["lo"]))
