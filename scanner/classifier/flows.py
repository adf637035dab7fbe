"""The exchanges in a capture: who probed what, and what came back, gathered packet column by packet column.

Whose capture it is does not matter. A SYN without ACK is a probe and its sender a scanner; a flow is
one probe as (scanner, target, port, source port, sequence number), so a retransmitted SYN is the
same flow, and a probe from another port another flow of the same target. A SYN/ACK or RST names its
flow by the acknowledgement, an ICMP error by the quoted header, and what the scanner sends
afterwards (RST, ACK) by its own sequence number. Each flow gets its number from that key alone, so a
reply that stands before its probe in the file finds it all the same.

Nothing is kept of a packet but what its flow's record gathers: memory grows with distinct flows
(about 100 bytes each), not with packets, and `replay` retires flows that are over when they become many.

Limits: packets that belong to no half-open exchange (a connection's data) are read past. What a
scanner sends afterwards only counts behind its SYN in the file: it acknowledges nothing of its own, and a flow for
every segment of every connection would be the price.
"""

from collections import Counter

import numpy as np
import numpy.typing as npt

from ..packet.addresses import is_ipv4
from ..packet.headers import ACK, MAPPED, RST, SYN, Bools, Frames, Ints, Rows
from ..packet.parse import Aside, Segments, parse
from ..verdict.evidence import IcmpSenders
from ..verdict.ledger import Ledger, Mark, Replies, blank
from ..verdict.table import Reason, classify_icmp, classify_tcp
from .numbering import Numbering
from .retired import NEVER, Retired

U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

_SHIFT = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_SIX = np.uint64(1 << 16)  # in a target's key, above the port: the addresses are numbers of IPv6 addresses
ENDING = np.uint16(1 << 15)  # in `marks`: a reset that need not be an answer to a SYN
TAKEN = np.uint16(1 << 14)  # in `marks`: a SYN that was the reply to another one


class Exchanges:
    """All flows of a capture, gathered batch by batch."""

    def __init__(self) -> None:
        self.targets, self.flows = Numbering(), Numbering()
        self.ledger = Ledger(0)  # of flows: what the replies said
        self.first = np.zeros(0, np.int64)  # by flow: time of the first SYN; NEVER: no SYN seen
        self.probes = np.zeros(0, np.uint32)  # by flow: SYNs
        self.tos = np.zeros(0, np.uint8)  # by flow: the probe's TOS byte
        self.marks = np.zeros(0, np.uint16)  # by flow: what the scanner did afterwards
        self.ttl = np.zeros(0, np.uint8)  # by flow: of the latest SYN
        self.reply_tos = np.zeros(0, np.uint8)  # by flow: of the latest reset
        self.retired = Retired()
        self.counts: Counter[str] = Counter()
        self.cut_quotes: set[tuple[int, int]] = set()  # (scanner, target) whose ICMP errors lack the ports
        self.reached: set[int] = set()  # addresses that something was sent to, SYNs apart
        self._scanners = np.zeros(0, np.uint64)  # who has sent a SYN, ascending
        self._reached_last = np.uint64(0)
        self.senders = IcmpSenders()
        self.behind: dict[tuple[int, int, int], int] = {}  # flows of SYNs that carry data or FIN, by what follows it
        self._six = Numbering()

    # ── keys ──

    def _number(self, address: Rows, four: Bools) -> U64:
        """Each address as 32 bits: an IPv4 address itself, an IPv6 address its number."""
        if four.all():
            return np.asarray(address["lo"] & _LOW)
        number = np.asarray(address["lo"] & _LOW)
        six = ~four
        number[six] = self._six.intern(address["hi"][six].copy(), address["lo"][six].copy()).view(np.uint64)
        return number

    def words_of(self, number: U64, six: Bools) -> tuple[U64, U64]:
        """The two address words of each number."""
        hi, lo = np.zeros(len(number), np.uint64), number | np.uint64(MAPPED)
        if six.any():
            keys = self._six.keys[number[six].view(np.int64)]
            hi[six], lo[six] = keys[:, 0], keys[:, 1]
        return hi, lo

    def _target(self, scanner: U64, target: U64, port: U16, six: Bools, add: bool) -> Ints:
        b = port.astype(np.uint64)
        if six.any():
            b |= np.where(six, _SIX, np.uint64(0))
        look = self.targets.intern if add else self.targets.find
        return look(scanner << _SHIFT | target, b)

    def _flow(self, target: Ints, our_port: U16, seq: U32, add: bool) -> Ints:
        look = self.flows.intern if add else self.flows.find
        found = look(target.view(np.uint64) << _SHIFT | seq, our_port.astype(np.uint64))
        self._grow(self.flows.count)
        return found

    def flow_behind(self, target: Ints, our_port: U16, seq: U32) -> Ints:
        """The flow whose SYN, with its data and FIN, ends before `seq` + 1; -1 where there is none."""
        keys = zip(target.tolist(), our_port.tolist(), seq.tolist(), strict=True)
        return np.array([self.behind.get(key, -1) for key in keys], np.int64)

    def _grow(self, count: int) -> None:
        self.ledger.grow(count)
        if count > len(self.first):
            more = max(count, 2 * len(self.first)) - len(self.first)
            self.first = np.concatenate([self.first, np.full(more, NEVER)])
            for name in ("probes", "tos", "ttl", "marks", "reply_tos"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros(more, column.dtype)]))

    def keep(self, flows: Ints) -> None:
        """Forget all other flows."""
        keys, columns = self.flows.keys[flows], ("first", "probes", "tos", "ttl", "marks", "reply_tos")
        self.flows = Numbering()
        number = self.flows.intern(keys[:, 0].copy(), keys[:, 1].copy())
        old = np.empty_like(flows)
        old[number] = flows
        self.ledger = self.ledger.kept(old)
        place = dict(zip(old.tolist(), range(len(old)), strict=True)) if self.behind else {}
        self.behind = {key: place[flow] for key, flow in self.behind.items() if flow in place}
        for name in columns:
            setattr(self, name, getattr(self, name)[old])

    # ── a batch ──

    def feed(self, frames: Frames) -> None:
        """Take in a batch of frames."""
        aside = Aside()
        segments = parse(frames, self.counts, aside)
        self._take_aside(aside)
        if not len(segments):
            return
        four = segments.version == 4
        src, dst = self._number(segments.src, four), self._number(segments.dst, four)
        kind = segments.flags & (SYN | ACK | RST)
        probe = ~segments.icmp & (kind == SYN)
        self._probes(segments, src, dst, probe, ~four)
        rest = np.flatnonzero(~probe & ~segments.truncated)
        self._truncated(segments, src, dst)
        if rest.size:
            everything = rest.size == len(segments)
            part = segments if everything else segments.take(rest)
            self._others(part, src[rest], dst[rest], ~four[rest])

    def _take_aside(self, aside: Aside) -> None:
        """Packets of other protocols judge nothing, but they show that somebody can be reached."""
        for towards in aside.towards:
            distinct = np.unique(towards)
            four = is_ipv4(distinct)
            self._reach(self._number(distinct, four), ~four)
        for sender, receiver in aside.cut:
            src, dst = self._number(sender, is_ipv4(sender)), self._number(receiver, is_ipv4(receiver))
            self._note_cut(dst, src, ~is_ipv4(receiver))

    def _reach(self, number: U64, six: Bools) -> None:
        marked = np.where(six, number | np.uint64(1 << 32), number)
        news = marked[marked != self._reached_last]  # mostly one scanner's replies
        if news.size:
            self.reached.update(np.unique(news).tolist())
            self._reached_last = news[-1]

    def _probes(self, segments: Segments, src: U64, dst: U64, rows: Bools, six: Bools) -> None:
        at = np.flatnonzero(rows)
        if not at.size:
            return
        target = self._target(src[at], dst[at], segments.dport[at], six[at], True)
        flow = self._flow(target, segments.sport[at], segments.seq[at], True)
        np.minimum.at(self.first, flow, segments.time[at])
        np.add.at(self.probes, flow, np.uint32(1))
        self.tos[flow], self.ttl[flow] = segments.tos[at], segments.ttl[at]
        long = np.flatnonzero(segments.size[at])
        if long.size:
            behind = segments.seq[at[long]] + segments.size[at[long]]
            keys = zip(target[long].tolist(), segments.sport[at[long]].tolist(), behind.tolist(), strict=True)
            self.behind.update(zip(keys, flow[long].tolist(), strict=True))
        if not self._sent_by_scanner(src[at]).all():
            self._scanners = np.union1d(self._scanners, src[at])

    def _truncated(self, segments: Segments, src: U64, dst: U64) -> None:
        if segments.truncated.any():
            cut = segments.truncated
            self._note_cut(dst[cut], src[cut], segments.version[cut] == 6)

    def _note_cut(self, scanners: U64, targets: U64, six: Bools) -> None:
        """ICMP errors that quote too little: which target they were for is known at best, which port is not."""
        self.counts["icmp-quote-truncated"] += len(scanners)
        self.cut_quotes.update(zip(scanners.tolist(), targets.tolist(), strict=True))
        self._reach(scanners, six)

    def _others(self, segments: Segments, src: U64, dst: U64, six: Bools) -> None:
        """Replies, and what scanners send after them."""
        self._reach(dst, six)
        afterwards = self._afterwards(segments, src, dst, six)
        reason = classify_tcp(segments.flags)
        if segments.icmp.any():
            reason = np.where(
                segments.icmp, classify_icmp(segments.version, segments.icmp_type, segments.icmp_code), reason
            )
        reply = np.flatnonzero((reason != Reason.NONE) & ~afterwards)
        if reply.size:
            part = segments if reply.size == len(segments) else segments.take(reply)
            self._replies(part, src[reply], dst[reply], six[reply], reason[reply])

    def _afterwards(self, segments: Segments, src: U64, dst: U64, six: Bools) -> Bools:
        """Marks flows whose prober goes on (sequence = the probe's + 1); returns which rows did that."""
        found = np.zeros(len(segments), np.bool_)
        wanted = ~segments.icmp & (segments.flags & SYN == 0) & (segments.flags & (ACK | RST) != 0)
        rows = np.flatnonzero(wanted & self._sent_by_scanner(src))
        if not rows.size:
            return found
        target = self._target(src[rows], dst[rows], segments.dport[rows], six[rows], False)
        rows, target = rows[target >= 0], target[target >= 0]
        flow = self._flow(target, segments.sport[rows], segments.seq[rows] - np.uint32(1), False)
        if self.behind and (flow < 0).any():
            behind = self.flow_behind(target, segments.sport[rows], segments.seq[rows] - np.uint32(1))
            flow = np.where(flow < 0, behind, flow)
        rows, flow = rows[flow >= 0], flow[flow >= 0]
        found[rows] = True
        reset = segments.flags[rows] & RST != 0
        mark = np.where(reset, np.uint16(Mark.HALF_OPEN), np.uint16(Mark.HANDSHAKE_COMPLETED))
        np.bitwise_or.at(self.marks, flow, mark)
        return found

    def _sent_by_scanner(self, src: U64) -> Bools:
        """Which rows were sent by somebody who has sent a SYN before (families are not told apart here)."""
        if len(self._scanners) == 1:
            return np.asarray(src == self._scanners[0])
        place = np.minimum(np.searchsorted(self._scanners, src), len(self._scanners) - 1)
        return np.asarray(self._scanners[place] == src) if len(self._scanners) else np.zeros(len(src), np.bool_)

    def _replies(self, segments: Segments, src: U64, dst: U64, six: Bools, reason: npt.NDArray[np.uint8]) -> None:
        target = self._target(dst, src, segments.sport, six, True)
        seq = np.where(segments.icmp, segments.seq, segments.ack - np.uint32(1))
        reset = (reason == Reason.RESET) & ~segments.icmp
        flow = self._replied_flow(segments, target, seq, reset)
        record = blank(len(flow))
        record["reason"], record["time"], record["port"] = reason, segments.time, segments.dport
        record["window"], record["ttl"], record["pass"] = segments.window, segments.ttl, 1
        record["marks"] = np.where(
            (reason == Reason.SYN_ACK) & (segments.window == 0), np.uint16(Mark.ZERO_WINDOW), np.uint16(0)
        )
        record["sender"] = self.senders.numbers(segments)
        self.reply_tos[flow[reset]] = segments.tos[reset]
        self.ledger.fold(Replies(flow, record))
        # A reset that answers a SYN has sequence number 0 (RFC 9293 3.10.7.1); another one ends some connection.
        ending = flow[reset & (segments.seq != 0)]
        self.marks[ending] |= ENDING

    def _replied_flow(self, segments: Segments, target: Ints, seq: U32, reset: Bools) -> Ints:
        """The flow that each reply answers; a new one where its probe has not been seen."""
        flow = self._flow(target, segments.dport, seq, False)
        # An RST may acknowledge the sequence number itself; where that probe is known, it is the one.
        odd = np.flatnonzero((flow < 0) & reset)
        if odd.size:
            flow[odd] = self._flow(target[odd], segments.dport[odd], segments.ack[odd], False)
        new = np.flatnonzero(flow < 0)
        if new.size and self.behind:
            flow[new] = self.flow_behind(target[new], segments.dport[new], seq[new])
            new = np.flatnonzero(flow < 0)
        if new.size:
            flow[new] = self._flow(target[new], segments.dport[new], seq[new], True)
        return flow
