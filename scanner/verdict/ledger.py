"""What is known of each target: one byte a target, and one record for each target that answered.

The owner (a window of a live scan, or the flows of a capture) numbers its targets 0 … n-1, so the byte of a target is
found by arithmetic. The byte holds the rank of what is known, whether a probe has left, and whether the host is down.
A target that answers gets a record.

`fold` merges a batch of replies. The highest rank wins, and among equal ranks the earliest reply, in whatever order
they arrive. At equal times the smaller port, TTL, window and reason win. State, reason and TTL come from the winner
together. A reason that lost stays as one bit, so a conflict is never hidden. Folding is associative: a capture gives
the same records in any batch size and in any order.

A bare SYN proves nothing: its target gets a record, but still counts as silent. `challenge` keeps in which passes such
a target was sent a SYN/ACK, because only then an ACK of it is a proof.

Limit: 5 bytes a target plus 35 a target that answered.
"""

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import numpy.typing as npt

from ..packet.headers import Bools, Bytes, Ints, Rows, opaque
from .table import RANK, STRENGTH, Rank, Reason

_TIES = ("time", "port", "ttl", "window", "reason")  # what decides between replies of one rank
PROBED, ABSENT, GIVEN_UP = 0x80, 0x40, 0x20
_RANK_BITS, _PROVEN_BITS = 0x07, 0x06  # ranks from FILTERED on have one of the second ones

RECORD = np.dtype(
    [
        ("time", "i8"),  # of the winning reply, ns since 1970
        ("seen", "u4"),  # one bit for each reason that any reply gave
        ("detail", "u4"),  # of the winner: who sent an ICMP error, or the options of a SYN/ACK (see `details`)
        ("port", "u2"),  # our port that the winner answered
        ("window", "u2"),
        ("replies", "u2"),  # saturates
        ("marks", "u2"),  # Mark bits of all replies
        ("reason", "u1"),
        ("ttl", "u1"),
        ("pass", "u1"),  # the pass that the winner answered, from 1
        ("passes", "u4"),  # one bit for each pass that was answered; more replies than bits are repeats
        ("challenged", "u4"),  # one bit for each pass in which a bare SYN was answered with our SYN/ACK
    ]
)


class Mark(IntFlag):
    """What single replies showed, gathered per target."""

    REPLY_NOT_CAPTURED = 1  # the conversation behind it proves the answer
    LATE = 2  # arrived when a later pass was already under way
    QUOTE_TRUNCATED = 4
    RESET_MARKED = 8  # a reset that carries the probe's TOS byte
    RESET_UNMARKED = 16
    ZERO_WINDOW = 32  # a SYN/ACK with window 0
    HALF_OPEN = 64  # a SYN/ACK answered by the prober's reset
    HANDSHAKE_COMPLETED = 128
    HANDSHAKE_REFUSED = 256
    SILENT_AFTER_HANDSHAKE = 512
    REPEAT = 1024  # more replies than probes
    RESET_ODD = 2048  # a reset whose IP header is not one that netfilter's REJECT writes
    CHECKSUM_WRONG = 4096
    CHECKSUM_PASSED = 8192  # a TCP reply whose checksum is not wrong, or cannot be tested


def count_bits(words: npt.NDArray[np.uint32]) -> Ints:
    """How many bits of each uint32 are set."""
    raw = np.ascontiguousarray(words).view(np.uint8).reshape(-1, 4)
    return np.asarray(np.unpackbits(raw, axis=1).sum(axis=1, dtype=np.int64))


@dataclass(frozen=True)
class Replies:
    """Replies that belong to targets: `target` ids int64[m], and what each says, RECORD[m].

    `fold` sets `seen`, `passes` and `replies`; `challenge` sets `challenged`.
    """

    target: Ints
    record: Rows


def blank(n: int) -> Rows:
    """RECORD[n] of zeros, to be filled."""
    return np.zeros(n, RECORD)


class Ledger:
    """The state of n numbered targets."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.answered = 0  # targets with at least one reply that proves something
        self.missing = 0  # targets on hosts that are down
        self.status: Bytes = np.zeros(n, np.uint8)
        self._record_no = np.zeros(n, np.uint32)  # 0: no record
        self._records = blank(256)
        self._used = 1

    def grow(self, n: int) -> None:
        """Make room for targets up to n."""
        if n > len(self.status):
            size = max(n, 2 * len(self.status))
            self.status = np.concatenate([self.status, np.zeros(size - len(self.status), np.uint8)])
            self._record_no = np.concatenate([self._record_no, np.zeros(size - len(self._record_no), np.uint32)])
        self.n = max(self.n, n)

    def probed(self, target: Ints) -> None:
        """A probe for each of these targets has left."""
        self.status[target] |= PROBED

    def absent(self, target: Ints | Bools) -> None:
        """These targets are on a host that is down: they are not to be probed and have no verdict."""
        self.status[target] |= ABSENT
        self.missing = int(np.count_nonzero(self.status & ABSENT))

    def silent(self, target: Ints | slice) -> Bools:
        """Which of these targets have no reply that proves something, and are neither absent nor given up."""
        return np.asarray(self.status[target] & (_PROVEN_BITS | ABSENT | GIVEN_UP) == 0)

    def give_up(self, target: Ints | Bools, again: bool = False) -> None:
        """These targets are on a host that has stopped answering: they are not to be probed; `again`: they are."""
        if again:
            self.status[target] &= np.uint8(0xFF ^ GIVEN_UP)
        else:
            self.status[target] |= GIVEN_UP

    def given_up(self) -> Bools:
        """bool[n]: not to be probed, and without an answer."""
        return np.asarray(self.status[: self.n] & (GIVEN_UP | ABSENT | _PROVEN_BITS) == GIVEN_UP)

    def rank(self, target: Ints | slice) -> Bytes:
        """The Rank of what is known, uint8."""
        return np.asarray(self.status[target] & np.uint8(_RANK_BITS))

    def was_probed(self) -> Bools:
        """bool[n]: a probe has left."""
        return self.status[: self.n] & PROBED > 0

    def was_answered(self) -> Bools:
        """bool[n]: there is a record."""
        return self._record_no[: self.n] > 0

    def records(self, target: Ints) -> Rows:
        """RECORD[m] of the given targets; zeros (reason 0) where nothing answered."""
        return self._records.take(self._record_no[target])  # an index would cost twenty times as much here

    def kept(self, target: Ints) -> "Ledger":
        """These targets alone, numbered anew from 0 in this order."""
        kept = Ledger(len(target))
        kept.status = self.status[target]
        record_no = self._record_no[target]
        answered = np.flatnonzero(record_no)
        kept._records = self._records.take(np.concatenate([[0], record_no[answered]]))
        kept._used = len(kept._records)
        kept._record_no[answered] = np.arange(1, kept._used)
        kept.answered = int(np.count_nonzero(kept.status & _PROVEN_BITS))
        return kept

    def move_out(self, target: Ints) -> "Ledger":
        """These targets alone, as `kept` has them. Here they are absent from then on, and have no record."""
        moved = self.kept(target)
        self.answered -= moved.answered
        self._record_no[target], self.status[target] = 0, ABSENT
        self.absent(target)
        return moved

    def fold(self, replies: Replies) -> Ints:
        """Merge a batch; returns the row numbers (in the batch) of first answers to targets silent until now."""
        if not len(replies.target):
            return np.zeros(0, np.int64)
        winner, incoming = _best(replies)
        target = replies.target[winner]
        fresh = winner[(self.status[target] & _PROVEN_BITS == 0) & (RANK[incoming["reason"]] > Rank.UNPROVED)]
        self.answered += len(fresh)
        record_no = self._record_no[target]
        known = record_no != 0
        if known.any():
            self._merge(target[known], record_no[known], incoming.take(np.flatnonzero(known)))
            target, incoming = target[~known], incoming.take(np.flatnonzero(~known))
        first = self._allocate(len(target))
        opaque(self._records)[first : self._used] = opaque(incoming)
        self._record_no[target] = np.arange(first, self._used)
        self.status[target] |= RANK[incoming["reason"]]
        return np.asarray(fresh)

    def challenge(self, target: Ints, pass_no: Bytes) -> Bools:
        """Note that bare SYNs to these passes are answered; which of them are the first of their target and pass."""
        first = np.zeros(len(target), np.bool_)
        first[np.unique(target << 8 | pass_no, return_index=True)[1]] = True
        record_no, bit = self._record_no[target], _bit(pass_no)
        first &= self._records["challenged"][record_no] & bit == 0
        np.bitwise_or.at(self._records["challenged"], record_no[record_no > 0], bit[record_no > 0])
        return first

    def challenged(self, target: Ints, pass_no: Bytes) -> Bools:
        """Which targets were sent a SYN/ACK in that pass; with pass 0, in any."""
        wanted = np.where(pass_no == 0, np.uint32(0xFFFFFFFF), _bit(pass_no))
        return np.asarray(self.records(target)["challenged"] & wanted > 0)

    def mark(self, target: Ints, mark: Mark) -> None:
        """Set a mark on targets that have a record; others are left alone."""
        record_no = self._record_no[target]
        np.bitwise_or.at(self._records["marks"], record_no[record_no > 0], np.uint16(mark))

    def forget(self, target: Ints, reason: Reason) -> None:
        """Take back one reply with this reason from each of these targets: it answered no probe."""
        record_no = self._record_no[target]
        self._records["seen"][record_no] &= ~np.uint32(1 << reason)
        self._records["replies"][record_no] -= np.uint16(1)

    def _merge(self, target: Ints, record_no: npt.NDArray[np.uint32], incoming: Rows) -> None:
        current = self._records.take(record_no)
        keys = [
            (STRENGTH[current["reason"]], STRENGTH[incoming["reason"]]),
            *((incoming[name], current[name]) for name in _TIES),
        ]
        better, equal = np.zeros(len(target), np.bool_), np.ones(len(target), np.bool_)
        for first, second in keys:  # the first difference decides
            better |= equal & (first < second)
            equal &= first == second
        gathered = {name: incoming[name] | current[name] for name in ("seen", "marks", "passes", "challenged")}
        replies = np.minimum(incoming["replies"].astype(np.uint32) + current["replies"], 0xFFFF)
        opaque(current)[better] = opaque(incoming)[better]
        current["replies"] = replies
        for name, bits in gathered.items():
            current[name] = bits
        opaque(self._records)[record_no] = opaque(current)
        self.status[target] = self.status[target] & (PROBED | GIVEN_UP) | RANK[current["reason"]]

    def _allocate(self, count: int) -> int:
        """Take `count` records; returns the first one's number."""
        first, self._used = self._used, self._used + count
        if self._used > len(self._records):
            grown = blank(max(self._used, 2 * len(self._records)))
            opaque(grown)[:first] = opaque(self._records)[:first]
            self._records = grown
        return first


def _bit(number: Bytes) -> npt.NDArray[np.uint32]:
    """A word with the bit of each number; numbers from 31 on share the last bit."""
    return np.left_shift(np.uint32(1), np.minimum(number, 31).astype(np.uint32))


def _best(replies: Replies) -> tuple[Ints, Rows]:
    """The winning row of each distinct target, and its record with everything the target's rows saw."""
    record, target = replies.record, replies.target
    seen, passes = _bit(record["reason"]), _bit(record["pass"])
    ordered = np.sort(target)
    if (ordered[1:] != ordered[:-1]).all():  # the usual batch: each target once
        best = opaque(record).copy().view(RECORD)
        best["seen"], best["passes"], best["replies"] = seen, passes, 1
        return np.arange(len(target)), best
    strength = -STRENGTH[record["reason"]].astype(np.int8)
    order = np.lexsort((*(record[name] for name in _TIES[::-1]), strength, target))
    ordered = target[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    winner = order[starts]
    best = record.take(winner)
    best["seen"] = np.bitwise_or.reduceat(seen[order], starts)
    best["passes"] = np.bitwise_or.reduceat(passes[order], starts)
    best["marks"] = np.bitwise_or.reduceat(record["marks"][order], starts)
    best["replies"] = np.minimum(np.diff(np.append(starts, len(order))), 0xFFFF)
    return winner, best
