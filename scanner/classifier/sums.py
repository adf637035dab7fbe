"""What all flows of a target show together, apart from the replies themselves.

Replies are folded into a ledger when their flow is forgotten. What else a row says follows from all flows of its
target: when the first SYN left, which SYN the winning reply answers and how many left before it, what the prober did
afterwards, repeats, and the marks of resets. These sums are made at the end, some targets at a time, and do not depend
on the order in which flows were seen or forgotten.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet.headers import U16, U32, Bools, Ints, Rows, opaque
from ..verdict.ledger import Mark, count_bits
from ..verdict.table import RANK, Reason
from .flow_numbers import NEVER
from .flows import ENDING, TAKEN
from .forgotten import FACTS, Forgotten

_OPEN = np.uint32(sum(1 << reason for reason in Reason if RANK[reason] == RANK[Reason.SYN_ACK]))


class Sent(NamedTuple):
    """What was sent to each target: times of the first and the last SYN, ns (NEVER: no SYN was seen), and how many."""

    first: Ints
    last: Ints
    attempts: U32

    def take(self, target: Ints | Bools | slice) -> "Sent":
        """The given rows (indices, mask or slice)."""
        return Sent._make(column[target] for column in self)


class Sums(NamedTuple):
    """One row for each target."""

    sent: Sent
    seen: U32  # one bit for each reason that any reply gave
    marks: U16  # Mark bits
    answered: Ints  # time of the first SYN of the flow that the winning reply answers, ns; NEVER: there is none
    alone: Bools  # that flow has no other SYN
    earlier: U32  # flows of the target that began before it


class FlowsByTarget:
    """FACTS of all flows, sorted by pieces of targets."""

    def __init__(self, forgotten: Forgotten, rank: U32, ends: Ints) -> None:
        """`rank`: the place of each target in the order of rows. `ends`: where the pieces end in this order.

        The columns of `forgotten` are sorted anew where they lie.
        """
        self._begin, self._pieces = np.concatenate([[0], ends[:-1]]), np.arange(len(ends) + 1)
        self._parts: list[tuple[Rows, Ints]] = []
        for number, facts in enumerate(forgotten.parts):
            facts["target"] = rank[facts["target"]]
            piece = np.searchsorted(ends, facts["target"], "right").astype(np.uint16)  # which numpy sorts by radix
            if (piece[1:] < piece[:-1]).any():
                order = np.argsort(piece, kind="stable")
                facts, piece = facts.take(order), piece[order]
                forgotten.parts[number] = facts
            self._parts.append((facts, np.searchsorted(piece, self._pieces)))
        self._later, self._many = (_by_rank(rank, *columns) for columns in (forgotten.later, forgotten.many))

    def sums(self, piece: int, record: Rows, seq: U32) -> Sums:
        """The sums of the targets of a piece, with the winning replies (RECORD[n]) and their SYNs' numbers."""
        begin, end = self._begin[piece], self._begin[piece] + len(record)
        rows = [facts[at[piece] : at[piece + 1]] for facts, at in self._parts if at[piece] < at[piece + 1]]
        facts = np.concatenate([opaque(np.zeros(0, FACTS)), *map(opaque, rows)]).view(FACTS)
        facts["target"] -= np.uint32(begin)
        sums = sums_of(facts, record, seq)
        for column, (target, value), add in (
            (sums.sent.last, self._later, np.maximum), (sums.sent.attempts, self._many, np.add)
        ):  # fmt: skip
            some = slice(*np.searchsorted(target, [begin, end]))
            add.at(column, target[some] - begin, value[some].astype(column.dtype))
        return sums


def _by_rank(rank: U32, target: Ints, value: Ints) -> tuple[Ints, Ints]:
    place = rank[target].astype(np.int64)
    order = np.argsort(place)
    return place[order], value[order]


def sums_of(facts: Rows, record: Rows, seq: U32) -> Sums:
    """The sums over FACTS whose targets are numbered as the rows of `record`. Each of them has a flow."""
    target, n = facts["target"], len(record)
    if (target[1:] < target[:-1]).any():
        facts = facts.take(np.argsort(target))
        target = facts["target"]
    seen, replied = facts["seen"], np.flatnonzero(facts["seen"])
    marks = np.zeros(len(facts), np.uint16)
    marks[replied] = _marks(facts.take(replied))
    at = target.astype(np.int64)
    won = (seen > 0) & (seq[at] == facts["seq"]) & (record["port"][at] == facts["our_port"])
    # The round trip is not known where several SYNs were sent: which one was answered?
    answered, alone, earlier = np.full(n, NEVER), np.zeros(n, np.bool_), np.zeros(n, np.uint32)
    answered[at[won]], alone[at[won]] = facts["first"][won], facts["probes"][won] == 1
    first, probes = facts["first"], facts["probes"].astype(np.uint32)
    if len(facts) == n:  # each target has one flow
        return Sums(Sent(first.copy(), first.copy(), probes), seen.copy(), marks, answered, alone, earlier)
    start = np.searchsorted(target, np.arange(n, dtype=np.uint32))
    earlier = np.add.reduceat((first < answered[at]).astype(np.uint32), start)
    sent = Sent(np.minimum.reduceat(first, start), np.maximum.reduceat(first, start), np.add.reduceat(probes, start))
    seen, marks = np.bitwise_or.reduceat(seen, start), np.bitwise_or.reduceat(marks, start)
    return Sums(sent, seen, marks, answered, alone, earlier)


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
