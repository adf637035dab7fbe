"""The table with a line for each host, made of columns: for a port on a million hosts, or a flood from as many.

It writes the same text as `table` does row by row. What is the same in many lines is made once, and the lines are put
together by `text`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..packet.addresses import is_ipv4
from ..packet.headers import Bools, Bytes, Ints, Rows
from ..verdict.columns import PIECE, Columns
from ..verdict.details import sender_numbers
from ..verdict.evidence import distinct
from ..verdict.table import Reason
from .hosts import Details
from .text import Part, addresses, beside, chosen, joined, where


class Hosts(NamedTuple):
    """The hosts of columns, in the order of `hosts.gather`: their first rows, how many rows, and if all are silent."""

    first: Ints
    size: Ints
    silent: Bools

    @classmethod
    def of(cls, rows: Columns) -> "Hosts":
        """The rows of a host are neighbours; a host is one address as one prober saw it."""
        new = np.ones(len(rows), np.bool_)
        new[1:] = _differs(rows.ip) | _differs(rows.scanner)
        first = np.flatnonzero(new)
        if not first.size:
            return cls(first, first, new)
        silent = np.logical_and.reduceat(rows.record["reason"] == Reason.NO_RESPONSE, first)
        size = np.diff(first, append=len(rows))
        keys = [key for column in (rows.scanner, rows.ip) for key in _order(column[first])]
        order = np.lexsort(keys)
        return cls(first[order], size[order], silent[order])


def _differs(column: Rows) -> Bools:
    """Which rows differ from the one before."""
    return np.asarray((column["lo"][1:] != column["lo"][:-1]) | (column["hi"][1:] != column["hi"][:-1]))


def _order(column: Rows) -> tuple[Ints, Ints, Bools]:
    """Keys of np.lexsort: IPv4 first, then by number."""
    return column["lo"], column["hi"], ~is_ipv4(column)


def details(rows: Columns) -> tuple[list[Details], Ints]:
    """The distinct details of rows, and the number of each row's."""
    shared, number = rows.shared()
    values, back = distinct(number << 32 | sender_numbers(rows.record))
    every: list[Details] = []
    for each in values.tolist():
        state, reason, _, ttl, service, evidence = shared[each >> 32]
        every.append((state, reason, ttl, service, evidence, rows.senders[each & 0xFFFF_FFFF]))
    return every, back


def titles(rows: Columns, scanners: bool) -> Bytes:
    """The names of hosts, one a row, and who scanned them if `scanners`."""
    scanner: list[Part] = [" (scanner ", addresses(rows.scanner), ")"] if scanners else []
    return beside(len(rows), addresses(rows.ip), *scanner)


def widest(rows: Columns, scanners: bool) -> int:
    """The length of the longest title."""
    return max((int(_lengths(titles(piece, scanners)).max()) for piece in rows.pieces()), default=0)


def _lengths(text: Bytes) -> Ints:
    return np.asarray((np.ascontiguousarray(text.T) != 0).sum(axis=0))


def lines(rows: Columns, scanners: bool, width: int, port_width: int, tails: list[str], number: Ints) -> Iterator[str]:
    """A line for each row: its title, its port, and the tail of its number."""
    for at, piece in zip(range(0, len(rows), PIECE), rows.pieces(), strict=True):
        title = titles(piece, scanners)
        lacking = width - _lengths(title)
        spaces = np.where(np.arange(max(0, int(lacking.max()))) < lacking[:, None], np.uint8(ord(" ")), np.uint8(0))
        # A title that is too long has a line of its own.
        below = where(lacking < 0, "\n" + " " * width) if lacking.min() < 0 else []
        ports, which = np.unique(piece.port, return_inverse=True)
        port = chosen([f"{f'{port}/tcp':<{port_width}}" for port in ports.tolist()], which.ravel())
        yield from joined(len(piece), title, spaces, *below, "  ", port, "  ", chosen(tails, number[at : at + PIECE]))
