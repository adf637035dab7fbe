"""Whether the rows of an attempt can be those of its piece.

A worker is another machine, and may be wrong, damaged or hostile. Its rows are read as any file of results is. Beyond
that, a row must be of a target of the piece, and no target may have two. So a worker can lie about the targets that it
was asked to scan, and about no others.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from ..packet.addresses import from_text
from ..targets.spaces import Spaces
from ..verdict.rows import Verdict
from ..verdict.table import State

CHUNK = 4096  # rows that are looked at at once


class WrongRows(ValueError):
    """Rows that cannot be those of the piece. The text says why."""


def checked(rows: Iterable[Verdict], piece: Spaces) -> Iterator[Verdict]:
    """The same rows. Raises WrongRows at the first one that is of no target of the piece, or of one for a second time.

    A host that is down has a row of its own, once.
    """
    widths = np.append(piece.widths, 0)
    before = np.cumsum(np.append(0, np.diff(np.append(0, piece.ends)) * piece.widths))
    seen, down = np.zeros(piece.targets, np.bool_), np.zeros(piece.size, np.bool_)
    each = iter(rows)
    while chunk := list(islice(each, CHUNK)):
        number = piece.number_of(from_text(*(row.ip for row in chunk)))
        if (number < 0).any():
            raise WrongRows(f"{chunk[int(np.argmin(number))].ip} is no target of the piece")
        is_down = np.array([row.port is None and row.state == State.DOWN.value for row in chunk])
        _once(down, number[is_down])
        space, port = piece.space_of(number), np.array([row.port or 0 for row in chunk], np.uint16)
        place = piece.port_index(space, port)
        if (place[~is_down] < 0).any():
            raise WrongRows("a port is none of the piece")
        begin = np.append(0, piece.ends)[space]
        _once(seen, (before[space] + (number - begin) * widths[space] + place)[~is_down])
        yield from chunk


def _once(
    marks: "np.ndarray[tuple[int], np.dtype[np.bool_]]", places: "np.ndarray[tuple[int], np.dtype[np.int64]]"
) -> None:
    """Mark these places. Raises WrongRows for one that is marked already."""
    if marks[places].any() or len(np.unique(places)) != len(places):
        raise WrongRows("a target has two rows")
    marks[places] = True
