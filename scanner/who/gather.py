"""What a capture's SYNs say about each prober, gathered batch by batch.

Nothing is kept of a packet. A prober is one row, of about 60 bytes, so that a flood from millions of spoofed addresses
fits. Each look of a prober that may show a tool is another row, of about 100 bytes. No row costs a Python object.

A tool shows itself in how one SYN follows another to a different target: the same source port, a sequence number one
higher. So each look of a prober keeps its latest SYN, and counts what the next one has in common with it. How many
different values a mark took is kept as 64 bits: each value sets one of them, so there are at least as many values.

Limit: packets of two runs of one tool that alternate have less in common; then less is counted, and less is said.
"""

from typing import NamedTuple

import numpy as np

from ..capture.source import NO_TIME
from ..classifier.keys import Numbering, grown
from ..packet.headers import ACK, RST, SYN, U8, U32, U64, Bools, Frames, Ints, Rows
from ..packet.parse import Segments
from .fields import SynFields, syn_fields
from .marks import Look, looks_of

NEVER = np.iinfo(np.int64).max
PROBER = np.dtype([("first", "i8"), ("last", "i8"), ("host", "i8"), ("syns", "u4")])  # times in ns; the latest host
FLOW = np.dtype(
    [
        ("time", "i8"),  # of the first SYN, ns; NEVER: not known
        ("clock", "u4"),  # its time stamp
        ("group", "i4"),  # its row in `groups`
        ("ended", "?"),  # the prober went on: an ACK or a reset behind its SYN
    ]
)
GROUP = np.dtype(
    [
        ("values", "u8"),  # a lower bound of how many values the mark took, as bits
        ("syns", "u4"),
        ("compared", "u4"),  # SYNs that follow one to another target
        ("mirrored", "u4"),  # of these: the halves of the sequence number differ by the same bits
        ("counted", "u4"),  # the sequence number is 1 to COUNT_STEPS higher
        ("same_port", "u4"),
        ("next_port", "u4"),
        ("same_seq", "u4"),
        ("small", "u4"),  # SYNs whose sequence and acknowledgement numbers are below 2^31
        ("ttls", "u8"),  # which values the TTL took, modulo 64, as bits
        ("clocked", "u4"),  # repeats of a SYN whose time stamp went on as a clock of 1000 Hz does
        ("completed", "u4"),  # handshakes: the first packet behind the SYN is an ACK
        ("reset", "u4"),  # the first packet behind the SYN is a reset
        ("seq", "u4"),  # of the latest SYN
        ("target", "u4"),  # a hash of its address and port
        ("port", "u2"),  # its source port
    ]
)
_NEW_PROBER = np.array((NEVER, -NEVER, 0, 0), PROBER)
_NEW_FLOW = np.array((NEVER, 0, -1, False), FLOW)
_NEW_GROUP = np.zeros((), GROUP)

COUNT_STEPS = 16  # a tool's threads send in a slightly different order
LEAST_ELAPSED, MOST_ELAPSED = 500, 600_000  # ms between a SYN and its repeat
MOST_FLOWS = 1 << 20  # of systems' stacks; a claim needs few
_MIX = np.uint64(0x9E37_79B9_7F4A_7C15)  # an odd number without a pattern


class Table:
    """Rows by key: `numbering` numbers the keys (two words each), `rows` has one row for each."""

    def __init__(self, blank: Rows) -> None:
        self.numbering = Numbering()
        self._blank = blank
        self._rows = np.zeros(0, blank.dtype)

    @property
    def rows(self) -> Rows:
        """One row for each key, writable; void after the next `intern`."""
        return self._rows[: self.numbering.count]

    def intern(self, a: Ints, b: Ints) -> Ints:
        """The row of each key; new keys get blank rows."""
        before, number = self.numbering.count, self.numbering.intern(a.astype(np.uint64), b.astype(np.uint64))
        count, self._rows = self.numbering.count, grown(self._rows, self.numbering.count)
        self._rows[before:count] = self._blank
        return number


class Syns(NamedTuple):
    """SYNs of a batch that have a look, as columns."""

    segments: Segments
    fields: SynFields
    look: U8
    src: Ints
    dst: Ints
    group: Ints  # rows of `groups`


class Probers:
    """All that is gathered. Addresses are numbers of AddressNumbers."""

    def __init__(self) -> None:
        self.probers = Table(_NEW_PROBER)  # key: address, 0
        self.groups = Table(_NEW_GROUP)  # key: address of the prober, look; not OTHER
        self._flows = Table(_NEW_FLOW)  # SYNs that look like a system's stack; key: `_flow_words`

    def feed(self, frames: Frames, segments: Segments, src: Ints, dst: Ints) -> None:
        """Take in a batch of frames: what `parse` made of it, and the numbers of the addresses."""
        kind = segments.flags & (SYN | ACK | RST)
        row = np.flatnonzero(~segments.icmp & (kind == SYN))
        if row.size:
            self._take(frames, segments.take(row), src[row], dst[row])
        row = np.flatnonzero(~segments.icmp & ((kind == ACK) | (kind & (SYN | RST) == RST)))
        if row.size and self._flows.numbering.count:
            self._end_flows(segments.take(row), src[row], dst[row])

    def number(self, address: Ints) -> Ints:
        """The row of each address in `probers`, -1 where it has sent no SYN."""
        return self.probers.numbering.find(address.view(np.uint64), np.zeros(len(address), np.uint64))

    def rows(self, address: Ints) -> Rows:
        """PROBER of each address; blank where it has sent no SYN."""
        number = self.number(address)
        rows = np.full(len(address), _NEW_PROBER)
        rows[number >= 0] = self.probers.rows[number[number >= 0]]
        return rows

    def looks(self, address: int) -> dict[Look, Rows]:
        """The GROUP row of each look that an address has shown."""
        row = self.groups.numbering.find(np.full(len(Look), address, np.uint64), np.arange(len(Look), dtype=np.uint64))
        return {look: self.groups.rows[row[look]] for look in Look if row[look] >= 0}

    def marked(self, address: Ints) -> Ints:
        """How many SYNs of each address have a look that no system's stack has."""
        marked = np.zeros(len(address), np.int64)
        for look in set(Look) - {Look.OTHER, Look.STACK}:
            row = self.groups.numbering.find(address.view(np.uint64), np.full(len(address), look, np.uint64))
            marked[row >= 0] += self.groups.rows["syns"][row[row >= 0]]
        return marked

    def followed(self, address: Ints) -> Ints:
        """How many handshakes the system's stack of each address has completed."""
        row = self.groups.numbering.find(address.view(np.uint64), np.full(len(address), Look.STACK, np.uint64))
        followed = np.zeros(len(address), np.int64)
        followed[row >= 0] = self.groups.rows["completed"][row[row >= 0]]
        return followed

    def _take(self, frames: Frames, segments: Segments, src: Ints, dst: Ints) -> None:
        self._count_probers(segments.time, src, dst)
        fields = syn_fields(frames, segments)
        look = looks_of(segments, fields)
        row = np.flatnonzero(look != Look.OTHER)
        if not row.size:
            return
        group = self.groups.intern(src[row], look[row].astype(np.int64))
        syns = Syns(segments.take(row), fields.take(row), look[row], src[row], dst[row], group)
        row = np.flatnonzero(syns.look == Look.STACK)
        if row.size:
            self._take_flows(syns, row)
        self._compare(syns)

    def _count_probers(self, time: Ints, src: Ints, dst: Ints) -> None:
        number = self.probers.intern(src, np.zeros_like(src))
        rows, timed = self.probers.rows, time != NO_TIME
        np.minimum.at(rows["first"], number[timed], time[timed])
        np.maximum.at(rows["last"], number[timed], time[timed])
        np.add.at(rows["syns"], number, np.uint32(1))
        rows["host"][number] = dst

    def _take_flows(self, syns: Syns, row: Ints) -> None:
        """Note SYNs of systems' stacks, and count repeats whose time stamp goes on as a clock of 1000 Hz does.

        Linux adds to its clock a secret number for each connection (net/core/secure_seq.c), so only a SYN and its own
        repeat can be compared.
        """
        part = syns.segments.take(row)
        words = _flow_words(part, syns.src[row], syns.dst[row], part.seq)
        number = self._flows.numbering.find(*words)
        room = MOST_FLOWS - self._flows.numbering.count
        new = np.flatnonzero(number < 0)[: max(0, room)]
        number[new] = self._flows.intern(*(word[new].view(np.int64) for word in words))
        flows = self._flows.rows
        fresh = new[np.unique(number[new], return_index=True)[1]]
        timed = np.where(part.time != NO_TIME, part.time, NEVER)
        clock = syns.fields.clock[row]
        flows["time"][number[fresh]], flows["clock"][number[fresh]] = timed[fresh], clock[fresh]
        flows["group"][number[fresh]] = syns.group[row[fresh]]
        again = np.flatnonzero((number >= 0) & syns.fields.timed[row] & (timed < NEVER))
        before = flows[number[again]]
        elapsed = (timed[again] - before["time"]) // 1_000_000
        ran = (clock[again] - before["clock"]).astype(np.int64)  # modulo 2^32, as the clock counts
        follows = (before["time"] < NEVER) & (elapsed >= LEAST_ELAPSED) & (elapsed <= MOST_ELAPSED)
        follows &= np.abs(ran - elapsed) <= 20 + elapsed // 64
        np.add.at(self.groups.rows["clocked"], before["group"][follows], np.uint32(1))

    def _end_flows(self, segments: Segments, src: Ints, dst: Ints) -> None:
        """Count what stands first behind a noted SYN: the ACK of a handshake, or a reset, both one number higher."""
        number = self._flows.numbering.find(*_flow_words(segments, src, dst, segments.seq - np.uint32(1)))
        row = np.flatnonzero(number >= 0)
        row = row[np.unique(number[row], return_index=True)[1]]
        row = row[~self._flows.rows["ended"][number[row]]]
        self._flows.rows["ended"][number[row]] = True
        group = self._flows.rows["group"][number[row]]
        reset = segments.flags[row] & RST > 0
        np.add.at(self.groups.rows["reset"], group[reset], np.uint32(1))
        np.add.at(self.groups.rows["completed"], group[~reset], np.uint32(1))

    def _compare(self, syns: Syns) -> None:
        """Count what each SYN has in common with the one before it in its group."""
        order = np.argsort(syns.group, kind="stable")
        group, segments = syns.group[order], syns.segments.take(order)
        begin = np.flatnonzero(np.diff(group, prepend=-1))  # where the SYNs of a group begin
        rows, own = self.groups.rows, group[begin]
        seq, port, target = segments.seq, segments.sport, _target_hash(segments)
        old_seq, old_port, old_target = np.roll(seq, 1), np.roll(port, 1), np.roll(target, 1)
        old_seq[begin], old_port[begin], old_target[begin] = rows["seq"][own], rows["port"][own], rows["target"][own]
        compared = target != old_target
        compared[begin] &= rows["syns"][own] > 0
        step = seq - old_seq
        facts = {
            "syns": np.ones(len(seq), np.bool_),
            "compared": compared,
            "mirrored": compared & (_folded(seq) == _folded(old_seq)),
            "counted": compared & (step >= 1) & (step <= COUNT_STEPS),
            "same_port": compared & (port == old_port),
            "next_port": compared & (port - old_port == 1),
            "same_seq": compared & (step == 0),
            "small": ((seq | segments.ack) >> np.uint32(31) == 0),
        }
        for name, fact in facts.items():
            rows[name][own] += np.add.reduceat(fact.astype(np.uint32), begin)
        bit = np.uint64(1) << (_values(syns, order, target) * _MIX >> np.uint64(58))
        rows["values"][own] |= np.bitwise_or.reduceat(bit, begin)
        rows["ttls"][own] |= np.bitwise_or.reduceat(
            np.uint64(1) << (segments.ttl & np.uint8(63)).astype(np.uint64), begin
        )
        last = np.append(begin[1:], len(seq)) - 1
        rows["seq"][own], rows["port"][own], rows["target"][own] = seq[last], port[last], target[last]


def _values(syns: Syns, order: Ints, target: U32) -> U64:
    """What must differ before a mark is believed: the identification that it predicts, or the target."""
    look, four = syns.look[order], syns.fields.four[order]
    predicted: Bools = four & ((look == Look.MASSCAN) | (look == Look.HALFOPEN))
    value = np.where(predicted, syns.fields.ip_id[order], target).astype(np.uint64)
    hping = look == Look.HPING  # it draws new numbers also for a repeat
    value[hping] = syns.segments.ack[order][hping]
    mirai = look == Look.MIRAI
    value[mirai] = syns.segments.dst["lo"][order][mirai]
    return value + np.uint64(1)


def _flow_words(segments: Segments, src: Ints, dst: Ints, seq: U32) -> tuple[U64, U64]:
    """The key of a flow. Two pairs of addresses may share it by a chance of 2^-64."""
    hosts = (src.astype(np.uint64) * _MIX ^ dst.astype(np.uint64)) * _MIX
    ports = segments.sport.astype(np.uint64) << np.uint64(16) | segments.dport
    return hosts, seq.astype(np.uint64) << np.uint64(32) | ports


def _target_hash(segments: Segments) -> U32:
    word = (segments.dst["hi"] * _MIX ^ segments.dst["lo"]) + (segments.dport.astype(np.uint64) << np.uint64(40))
    return np.asarray(word * _MIX >> np.uint64(32), np.uint32)


def _folded(seq: U32) -> U32:
    return (seq >> np.uint32(16)) ^ (seq & np.uint32(0xFFFF))
