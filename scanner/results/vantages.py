"""The same targets as several vantage points saw them: which of them the views differ on.

Scans from different places are independent, and a port may be open from one and filtered from another: a firewall in
between, a route that loses frames, an address that answers only its neighbours. A target counts as seen differently if
some of the vantage points that have a row for it saw it open, and others did not.

Limit: rows without a vantage point are left out, because nobody knows from where they are.
"""

from typing import NamedTuple

import numpy as np

from ..packet.addresses import to_text
from ..packet.headers import Rows
from ..verdict.sentences import plural
from ..verdict.table import State
from .columns import HOST_ONLY, Vocabulary, same_target, strongest


class Views(NamedTuple):
    """`vantages`: how many there are. `differ`: targets that some of them saw open and others not.

    `first`: of these, the first as (address, port, how many saw it open, how many have a row for it). `notes`: a line
    where only some rows have a vantage point.
    """

    vantages: int
    differ: int
    first: list[tuple[str, int, int, int]]
    notes: list[str]


def views(texts: Vocabulary, rows: Rows, most: int) -> Views:
    """ROW columns with their texts → the views; `most` targets are named."""
    known = strongest(texts, rows[rows["vantage"] > 0], by_scanner=True)
    known = known[known["port"] != HOST_ONLY]
    plain = int(np.count_nonzero(rows["vantage"] == 0))
    if not len(known):
        return Views(0, 0, [], [])
    starts = np.flatnonzero(~np.concatenate([[False], same_target(texts, known)[:-1]]))
    is_open = np.array([kind.state == State.OPEN.value for kind in texts.kinds], np.int64)
    opened, seen = np.add.reduceat(is_open[known["kind"]], starts), np.diff(starts, append=len(known))
    differ = np.flatnonzero((opened > 0) & (opened < seen))
    named = known[starts[differ[:most]]]
    numbers = (named["port"], opened[differ[:most]], seen[differ[:most]])
    first = list(zip(to_text(named), *(column.tolist() for column in numbers), strict=True))
    mixed = f"{plural(plain, 'row')} without a vantage point beside {plural(len(known), 'row')} with one"
    notes = [f"{mixed}: only the latter are compared by vantage point"] if plain else []
    return Views(len(np.unique(known["vantage"])), len(differ), first, notes)
