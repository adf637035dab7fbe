"""The number of each flow: by its target, and for further flows of a target by a hash table.

Most targets of a scan have one flow. So the number of a target leads to its first flow, and source port and sequence
number are compared there: 10 ns where a hash table takes 25, and 100 for a new flow. Only further flows of a target are
entered in a table (`keys.Numbering`).

Limit: 2^31 flows.
"""

import numpy as np

from ..packet.headers import U64, Ints, Rows
from .keys import FlowKey, Numbering, grown

NEVER = np.iinfo(np.int64).max
_PORT_BITS = 16

# What is kept of each flow, by its number.
FLOW = np.dtype(
    [
        ("first", "i8"),  # time of the first SYN, ns; NEVER: no SYN was seen
        ("last", "i8"),  # time of the last SYN, ns
        ("probes", "u4"),  # SYNs
        ("seen", "u4"),  # one bit for each reason that replies gave before the flow was forgotten and recalled
        ("reply_seq", "u4"),  # of the latest SYN/ACK; without one, of the latest reset that has a sequence number
        ("replies", "u2"),  # so many came before that; saturates
        ("marks", "u2"),  # Mark bits of what the prober did afterwards; ENDING and TAKEN of `flows`
        ("tos", "u1"),  # TOS byte of the SYN
        ("ttl", "u1"),  # of the latest SYN
        ("reply_tos", "u1"),  # of the latest reset
    ],
    align=True,
)


class FlowNumbers:
    """A growing set of flows, numbered from 0 as they appear."""

    def __init__(self) -> None:
        self.count = 0
        self._first = np.zeros(1, np.int32)  # by target: number + 1 of a flow; 0: it has none
        self._target = np.zeros(1, np.uint32)  # by flow
        self._probe = np.zeros(1, np.uint64)  # by flow: sequence number << 16 | source port
        self._further = Numbering()  # flows of targets that have another one in `_first`
        self._number = np.zeros(0, np.int32)  # of the flow, by its number in `_further`

    def keys(self, flow: Ints | slice) -> FlowKey:
        """The keys of the given flows; slice(None) is all of them."""
        target, probe = (column[: self.count][flow] for column in (self._target, self._probe))
        return FlowKey(target.astype(np.int64), (probe & 0xFFFF).view(np.int64), (probe >> _PORT_BITS).view(np.int64))

    def targets(self, flow: Ints | slice) -> Ints:
        """The numbers of the targets of the given flows."""
        return self._target[: self.count][flow].astype(np.int64)

    def find(self, key: FlowKey) -> Ints:
        """The number of each flow, -1 for those never seen."""
        self._first = grown(self._first, int(key.target.max(initial=-1)) + 1)
        probe = _probe(key)
        number = self._first.take(key.target).astype(np.int64) - 1
        other = self._probe.take(number) != probe  # -1 reads some flow, and stays -1
        if self._further.count and other.any():
            row = np.flatnonzero(other & (number >= 0))
            further = self._further.find(*key.take(row).words())
            number[row], other[row] = self._number.take(further), further < 0
        number[other] = -1
        return number

    def intern(self, key: FlowKey) -> Ints:
        """The number of each flow; flows never seen get the next numbers."""
        number = self.find(key)
        new = np.flatnonzero(number < 0)
        if not new.size:
            return number
        free = new[self._first.take(key.target[new]) == 0]
        if free.size:
            # Several flows of a target may be new: each writes its own index there, and the one that remains is first.
            target, index = key.target[free], np.arange(1, len(free) + 1, dtype=np.int32)
            self._first[target] = index
            won = self._first.take(target) == index
            numbers = self._append(key.take(free[won]))
            self._first[target[won]] = numbers + 1
            number[free[won]] = numbers
            new = new[number[new] < 0]
        if new.size:
            number[new] = self._enter_further(key.take(new))
        return number

    def _enter_further(self, key: FlowKey) -> Ints:
        """Flows of targets that have one: it may be the same."""
        number = self.find(key)
        new = np.flatnonzero(number < 0)
        if new.size:
            known = self._further.count
            at = self._further.intern(*key.take(new).words())
            order = np.empty(self._further.count - known, np.int64)
            order[at - known] = new  # one row of each new flow
            numbers = self._append(key.take(order))
            self._number = grown(self._number, self._further.count)
            self._number[known : self._further.count] = numbers
            number[new] = self._number[at]
        return number

    def _append(self, key: FlowKey) -> Ints:
        """Flows that are new, each once: their numbers."""
        first, self.count = self.count, self.count + len(key.target)
        self._target, self._probe = grown(self._target, self.count), grown(self._probe, self.count)
        self._target[first : self.count], self._probe[first : self.count] = key.target, _probe(key)
        return np.arange(first, self.count)


def note_probes(table: Rows, flow: Ints, time: Ints, each_new: bool) -> None:
    """Count SYNs of these flows at these times (ns) in FLOW[n]. `each_new`: no flow has been there before, or twice."""
    if each_new:
        table["first"][flow], table["last"][flow], table["probes"][flow] = time, time, 1
        return
    np.minimum.at(table["first"], flow, time)
    np.maximum.at(table["last"], flow, time)
    np.add.at(table["probes"], flow, np.uint32(1))


def _probe(key: FlowKey) -> U64:
    """What tells the flows of a target apart. Sequence numbers count modulo 2^32 (RFC 9293, 3.4)."""
    return ((key.seq.astype(np.int64) & 0xFFFF_FFFF) << _PORT_BITS | key.our_port).view(np.uint64)
