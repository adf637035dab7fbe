"""What is kept of flows that the tables forget, so that a late answer still finds its probe.

The tables of `flows` are for flows that packets still belong to. A large capture has more flows than these tables
should hold. Most are over, but nobody knows which ones: Linux repeats a SYN/ACK after 1, 3 and 7 s, and a capture may
hold everything that was sent before everything that came back. So a flow that is forgotten leaves its key and what was
counted of it here, 32 bytes in columns without a table. What its replies said goes to the ledger of the targets.

An answer to such a flow makes a flow of its own, like any answer that stands before its probe in the file. `recall`
then goes once through all columns and brings back the flows that something belongs to. So the order of packets and the
size of the tables do not change what is found.

Limit: what a prober sends behind a SYN is noticed only while the flow is in the tables.
"""

from collections.abc import Callable

import numpy as np

from ..packet.headers import Bools, Ints, Rows
from ..verdict.ledger import Ledger, Replies
from .keys import Column, grown

FACTS = np.dtype(
    [
        ("first", "i8"),  # time of the first SYN, ns
        ("target", "u4"),
        ("seq", "u4"),  # of the SYN
        ("seen", "u4"),  # one bit for each reason that any reply gave
        ("our_port", "u2"),
        ("probes", "u2"),  # SYNs; saturates
        ("replies", "u2"),  # saturates
        ("marks", "u2"),  # as in FLOW
        ("tos", "u1"),  # TOS byte and TTL of the SYN, TOS byte of the latest reset
        ("ttl", "u1"),
        ("reply_tos", "u1"),
    ],
    align=True,
)
MOST = 0xFFFF  # of what saturates
_PIECE = 1 << 18  # rows that are handled at once
_KEY = ("target", "our_port", "seq")


class TargetTable:
    """What replies said of each target: `ledger`, and `seq`, the sequence number of the SYN that the winner answers."""

    def __init__(self) -> None:
        self.ledger = Ledger(0)
        self.seq = np.zeros(0, np.uint32)

    def grow(self, count: int) -> None:
        """Make room for `count` targets."""
        self.ledger.grow(count)
        self.seq = grown(self.seq, count)

    def add(self, target: Ints, record: Rows, seq: Column) -> None:
        """Fold records of flows, RECORD[n], whose SYNs have these sequence numbers."""
        first = self.ledger.fold(Replies(target, record))
        if len(first) == len(target):  # each target once, and none was known
            self.seq[target] = seq
            return
        winner = self.ledger.records(target)
        won = (winner["time"] == record["time"]) & (winner["port"] == record["port"])
        won &= winner["reason"] == record["reason"]
        won = np.flatnonzero(won)
        won = won[np.argsort(seq[won])[::-1]]  # of equal winners the smallest number, which is written last
        self.seq[target[won]] = seq[won]


class Forgotten:
    """Flows that left the tables, in columns."""

    def __init__(self) -> None:
        self.parts: list[Rows] = []  # FACTS
        self._later: list[tuple[Column, Ints]] = []
        self._many: list[tuple[Column, Ints]] = []
        self.count = 0

    @property
    def later(self) -> tuple[Ints, Ints]:
        """Targets, and times (ns) of their flows' last SYNs where a flow had several SYNs.

        A time stays here when its flow is recalled. That changes nothing, because only the maximum is asked for.
        """
        return _columns(self._later)

    @property
    def many(self) -> tuple[Ints, Ints]:
        """Targets of flows with more SYNs than FACTS has room for, and how many more."""
        return _columns(self._many)

    def add(self, facts: Rows, last: Ints, probes: Column | None = None) -> None:
        """FACTS[n] of flows that are forgotten now, the times of their last SYNs (ns), and how many SYNs."""
        self.parts.append(facts)
        self.count += len(facts)
        if (again := last > facts["first"]).any():
            self._later.append((facts["target"][again], last[again]))
        if probes is not None and (many := probes > MOST).any():
            self._many.append((facts["target"][many], probes[many].astype(np.int64) - MOST))

    def take(self, wanted: Callable[[Rows], Bools]) -> Rows:
        """Remove the rows for which `wanted` (FACTS[n] → bool[n]) is true, and return them."""
        taken, parts = [np.zeros(0, FACTS)], []
        for part in self.parts:
            mask = wanted(part)
            if mask.any():
                taken.append(part.take(np.flatnonzero(mask)))
                part = part.take(np.flatnonzero(~mask))
            parts.append(part)
        self.parts = [part for part in parts if len(part)]
        rows = np.concatenate(taken)
        self.count -= len(rows)
        return rows

    def merge(self, targets: int) -> None:
        """Make one row of all rows of a flow: its SYN was sent again after the flow had been forgotten."""
        flows = np.zeros(targets, np.uint32)
        for part in self.parts:
            np.add.at(flows, part["target"], np.uint32(1))
        if not (flows > 1).any():
            return
        # Some targets at a time, so that few rows are held twice.
        places = np.cumsum(np.where(flows > 1, flows, 0), dtype=np.int64) // (4 * _PIECE)
        for group in range(int(places[-1]) + 1):
            chosen = (flows > 1) & (places == group)
            self.add(*merged(self.take(lambda part, chosen=chosen: chosen[part["target"]])))  # type: ignore[misc]


def _columns(pieces: list[tuple[Column, Ints]]) -> tuple[Ints, Ints]:
    """Pieces of two columns as two columns."""
    none = np.zeros(0, np.int64)
    targets, values = zip((none, none), *pieces, strict=True)
    return np.concatenate(targets).astype(np.int64), np.concatenate(values)


def merged(facts: Rows) -> tuple[Rows, Ints]:
    """FACTS[n] → one row for each flow, and the latest of its times."""
    facts = facts.take(np.lexsort([facts[name] for name in _KEY]))
    new = np.ones(len(facts), np.bool_)
    new[1:] = np.logical_or.reduce([facts[name][1:] != facts[name][:-1] for name in _KEY])
    if new.all():
        return facts, facts["first"]
    at = np.flatnonzero(new)
    rows = facts.take(at)
    rows["first"] = np.minimum.reduceat(facts["first"], at)
    for name in ("probes", "replies"):
        rows[name] = np.minimum(np.add.reduceat(facts[name].astype(np.uint32), at), MOST)
    for name in ("seen", "marks"):
        rows[name] = np.bitwise_or.reduceat(facts[name], at)
    for name in ("tos", "ttl", "reply_tos"):
        rows[name] = np.maximum.reduceat(facts[name], at)
    return rows, np.maximum.reduceat(facts["first"], at)
