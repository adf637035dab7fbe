"""What all flows of a target show together, apart from the replies themselves.

Replies are folded into a ledger when their flow is forgotten. What else a row says follows from all flows of its
target: when the first SYN left, which SYN the winning reply answers and how many left before it, what the prober did
afterwards, repeats, and the marks of resets. These sums are made at the end, in pieces, and do not depend on the order
in which flows were seen or forgotten.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet.headers import U16, U32, Bools, Ints, Rows
from ..verdict.ledger import Mark, count_bits
from ..verdict.table import RANK, Reason
from .flows import ENDING, NEVER, TAKEN, Flows
from .forgotten import MOST, TargetTable

_PIECE = 1 << 18  # flows that are handled at once
_OPEN = np.uint32(sum(1 << reason for reason in Reason if RANK[reason] == RANK[Reason.SYN_ACK]))


class Sums(NamedTuple):
    """One row for each target."""

    first: Ints  # time of the first SYN, ns; NEVER: no SYN was seen
    last: Ints  # time of the last SYN, ns; NEVER: no SYN was seen
    attempts: U32  # SYNs
    seen: U32  # one bit for each reason that any reply gave
    marks: U16  # Mark bits
    sent: Ints  # time of the first SYN of the flow that the winning reply answers, ns; NEVER: there is none
    alone: Bools  # that flow has no other SYN
    earlier: U32  # flows of the target that began before it

    def take(self, target: Ints) -> "Sums":
        """The rows of the given targets."""
        return Sums._make(column[target] for column in self)


class Sent(NamedTuple):
    """When the first and the last SYN of each target left, and how many there were: as in `Sums`."""

    first: Ints
    last: Ints
    attempts: U32

    def take(self, target: Ints) -> "Sent":
        """The rows of the given targets."""
        return Sent._make(column[target] for column in self)


def target_sums(flows: Flows, flow: Ints, table: TargetTable) -> Sums:
    """The sums over all forgotten flows and the given ones. The winners are those of `table`."""
    table.grow(flows.targets.count)
    sums = sums_of(lambda: pieces_of(flows, flow), flows.targets.count, table)
    for target, last in (*flows.forgotten.later, (flows.keys(flow).target, flows.table["last"][flow])):
        np.maximum.at(sums.last, target, last)
    many = flow[flows.table["probes"][flow] > MOST]
    np.add.at(sums.attempts, flows.keys(many).target, flows.table["probes"][many] - np.uint32(MOST))
    return sums


def sums_of(pieces: Callable[[], Iterable[Rows]], n: int, table: TargetTable) -> Sums:
    """The sums over FACTS in `pieces`, whose targets are numbered up to `n` as in `table`."""
    sums = Sums(
        np.full(n, NEVER), np.full(n, -NEVER), np.zeros(n, np.uint32), np.zeros(n, np.uint32),
        np.zeros(n, np.uint16), np.full(n, NEVER), np.zeros(n, np.bool_), np.zeros(n, np.uint32),
    )  # fmt: skip
    for facts in pieces():
        _add(sums, facts, table)
    if (sums.attempts > 1).any():
        for facts in pieces():
            target = facts["target"]
            np.add.at(sums.earlier, target[facts["first"] < sums.sent[target]], np.uint32(1))
    return sums


def pieces_of(flows: Flows, flow: Ints) -> Iterator[Rows]:
    """FACTS of all flows."""
    yield from flows.forgotten
    for at in range(0, len(flow), _PIECE):
        yield flows.facts(flow[at : at + _PIECE])


def _add(sums: Sums, facts: Rows, table: TargetTable) -> None:
    np.minimum.at(sums.first, facts["target"], facts["first"])
    np.maximum.at(sums.last, facts["target"], facts["first"])
    np.add.at(sums.attempts, facts["target"], facts["probes"].astype(np.uint32))
    facts = facts[facts["seen"] > 0]
    target = facts["target"]
    np.bitwise_or.at(sums.seen, target, facts["seen"])
    np.bitwise_or.at(sums.marks, target, _marks(facts))
    won = (table.seq[target] == facts["seq"]) & (table.ledger.records(target)["port"] == facts["our_port"])
    # The round trip is not known where several SYNs were sent: which one was answered?
    sums.sent[target[won]], sums.alone[target[won]] = facts["first"][won], facts["probes"][won] == 1


def _marks(facts: Rows) -> npt.NDArray[np.uint16]:
    """What flows show that were answered: what the prober did, TOS marks of resets, repeats."""
    seen, tos, marks = facts["seen"], facts["tos"], facts["marks"] & ~(ENDING | TAKEN)
    completed = (marks & np.uint16(Mark.HANDSHAKE_COMPLETED) > 0) | (seen & (1 << Reason.SPLIT_HANDSHAKE_SYN) > 0)
    marks[completed] &= ~np.uint16(Mark.HALF_OPEN)  # a connection that was made and then reset
    opened = seen & _OPEN > 0
    marks[~opened] = 0  # only behind an open port do they mean something
    # A Linux host copies the probe's TOS byte into its reset, a firewall's forged reset has none (see `evidence`).
    reset = ~opened & (seen & (1 << Reason.RESET) > 0) & (tos > 0)
    same = facts["reply_tos"] == tos
    marks[reset & same] |= np.uint16(Mark.RESET_MARKED)
    marks[reset & ~same] |= np.uint16(Mark.RESET_UNMARKED)
    # Replies that contradict each other are no repeats: each reason has one reply of its own.
    surplus = facts["replies"] - np.maximum(count_bits(seen), 1) + 1
    marks[surplus > np.maximum(facts["probes"], 1)] |= np.uint16(Mark.REPEAT)
    return marks
