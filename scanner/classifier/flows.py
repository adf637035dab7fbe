"""What a capture says about each flow, gathered batch by batch.

A SYN without ACK is a probe, and its sender a prober. A flow is one probe: (prober, target, port, source port,
sequence number). A SYN that is sent again belongs to the same flow; a SYN from another source port is another flow of
the same target. A SYN/ACK or RST names its flow by the acknowledgement number, an ICMP error by the header that it
quotes, and a later packet of the prober (RST, ACK) by its own sequence number. So a reply finds its flow also where it
stands before its probe in the file, and it does not matter which program sent the probes.

Only what a flow's row gathers is kept of a packet. When flows become many, `retire` moves some to `forgotten`. What is
neither a probe nor a reply goes to `conversations`.

Limits: a later packet of the prober counts only where its SYN stands before it in the file; otherwise every segment of
every connection would need a flow. The same holds for the ACK that proves a split handshake: before its SYN it proves
nothing, and the port is unknown.
"""

from collections import Counter

import numpy as np

from ..packet.headers import ACK, RST, SYN, U32, Bools, Frames, Ints, Rows
from ..packet.parse import Segments, parse
from ..packet.tunnel import Tunnels
from ..packet.unread import Aside
from ..verdict.details import ReplyDetails
from ..verdict.evidence import marks_of, records_of
from ..verdict.ledger import Ledger, Mark, Replies
from ..verdict.strange import without_strange
from ..verdict.table import Codes, Reason, Rejected, classify_icmp, classify_tcp
from .addresses import AddressFilter, AddressSet
from .arp import ArpScans
from .conversations import Conversations, Scanned
from .datagrams import Questions
from .endings import ends
from .flow_numbers import FLOW, NEVER, FlowNumbers, note_probes
from .forgotten import FACTS, MOST, Forgotten, TargetTable
from .keys import AddressNumbers, FlowKey, LongSyns, Numbering, TargetKey, grown, target_key
from .scan_times import ScanTimes

ENDING = np.uint16(1 << 15)  # in `marks`: a reset that need not be an answer to a SYN
_PIECE = 1 << 16  # flows that are handled at once
TAKEN = np.uint16(1 << 14)  # in `marks`: a SYN or a reply that was counted as a reply of another flow


class Flows:
    """All flows of a capture. `table` (FLOW) and `ledger` (what the replies said) have one row a flow."""

    def __init__(self, tunnels: Tunnels | None = None, scans: ScanTimes | None = None) -> None:
        self.tunnels, self.scans = tunnels, scans  # that are looked into; that are told apart
        self.addresses, self.targets, self.ledger = AddressNumbers(), Numbering(), Ledger(0)
        self.forgotten, self.retired = Forgotten(), TargetTable()  # and what replies to forgotten flows said
        self.limit = 0  # flows in the tables above which some are to be forgotten
        self.counts, self.bad_checksums = Counter[str](), 0  # what was not understood, by cause; replies
        self.arp, self.conversations, self.questions = ArpScans(), Conversations(), Questions()
        self.scanned: dict[str, Scanned] = {}  # by scans that are no SYN scans; known when all has been judged
        self.accepted = np.zeros(0, np.int64)  # flows that a SYN/ACK of the latest batch answered
        self.cut_quotes: set[tuple[int, int]] = set()  # (prober, target) whose ICMP errors lack the ports
        self.details, self.long_syns = ReplyDetails(), LongSyns()
        self.reached = AddressSet()  # addresses that something was sent to, apart from SYNs
        self._numbers, self._table = FlowNumbers(), np.zeros(0, FLOW)
        self.probers, self.probed = AddressFilter(), AddressFilter()  # who has sent a SYN, and to whom
        self.may_cross = False  # a prober may have been probed by whom it probes

    # ── rows by key, keys by row ──

    @property
    def count(self) -> int:
        """How many flows there are."""
        return self._numbers.count

    @property
    def table(self) -> Rows:
        """FLOW[count], writable; void when the next batch is fed."""
        return self._table[: self.count]

    def keys(self, flow: Ints | slice = slice(None)) -> FlowKey:
        """The keys of the given flows."""
        return self._numbers.keys(flow)

    def target_keys(self, target: Ints | U32 | slice) -> TargetKey:
        """The keys of the given targets."""
        return target_key(self.targets.key(target))

    def target_of(self, flow: Ints | slice = slice(None)) -> Ints:
        """The numbers of the targets of the given flows."""
        return self._numbers.targets(flow)

    def find(self, key: FlowKey) -> Ints:
        """The number of each flow, -1 where there is none."""
        return self._numbers.find(key)

    def _intern(self, key: FlowKey) -> Ints:
        count, number = self.count, self._numbers.intern(key)
        self._table = grown(self._table, self.count)
        self._table["first"][count : self.count], self._table["last"][count : self.count] = NEVER, -NEVER
        self.ledger.grow(self.count)
        return number

    @property
    def probes(self) -> int:
        """How many flows have a SYN, in the tables or not."""
        return int(np.count_nonzero(self.table["probes"])) + self.forgotten.count

    def facts(self, flow: Ints) -> Rows:
        """FACTS of the given flows."""
        facts, record, table = np.zeros(len(flow), FACTS), self.ledger.records(flow), self.table.take(flow)
        facts["target"], facts["our_port"], facts["seq"] = self.keys(flow)
        for name in ("first", "marks", "tos", "ttl", "reply_tos"):
            facts[name] = table[name]
        facts["seen"] = table["seen"] | record["seen"]
        facts["probes"] = np.minimum(table["probes"], MOST)
        facts["replies"] = np.minimum(table["replies"] + record["replies"].astype(np.uint32), MOST)
        return facts

    def fold(self, flow: Ints) -> None:
        """Add what replies to these flows said to their targets in `retired`."""
        self.retired.grow(self.targets.count)
        for at in range(0, len(flow), _PIECE):
            part = flow[at : at + _PIECE]
            part = part[self.ledger.was_answered()[part]]
            key = self.keys(part)
            self.retired.add(key.target, self.ledger.records(part), key.seq)

    def forget(self, flow: Ints) -> None:
        """Move flows from the tables to `forgotten`; the others get new numbers."""
        for at in range(0, len(flow), _PIECE):
            part = flow[at : at + _PIECE]
            self.forgotten.add(self.facts(part), self.table["last"][part], self.table["probes"][part])
        kept = np.flatnonzero(np.bincount(flow, minlength=self.count) == 0)
        key, self._numbers = self.keys(kept), FlowNumbers()
        number = self._numbers.intern(key)
        old = np.empty_like(kept)
        old[number] = kept
        self.ledger, self._table = self.ledger.kept(old), self._table.take(old)

    def recall(self, facts: Rows, last: Ints) -> None:
        """Bring forgotten flows back to the tables: FACTS[n] with each flow once, and times of later SYNs."""
        flow = self._intern(FlowKey(facts["target"].astype(np.int64), facts["our_port"], facts["seq"]))
        table = self.table
        # A reset that came in the meantime is the latest one.
        reset = facts["seen"] & ~self.ledger.records(flow)["seen"] & (1 << Reason.RESET) > 0
        table["reply_tos"][flow[reset]] = facts["reply_tos"][reset]
        fresh = table["probes"][flow] == 0
        for name in ("tos", "ttl"):
            table[name][flow[fresh]] = facts[name][fresh]
        table["first"][flow] = np.minimum(table["first"][flow], facts["first"])
        table["last"][flow] = np.maximum(table["last"][flow], last)
        table["probes"][flow] += facts["probes"]
        table["replies"][flow] = facts["replies"]
        for name in ("seen", "marks"):
            table[name][flow] |= facts[name]

    # ── a batch ──

    def feed(self, frames: Frames) -> tuple[Segments, Ints, Ints]:
        """Take in a batch of frames. Returns its segments, and the numbers of their `src` and `dst`."""
        aside, self.accepted = Aside(), np.zeros(0, np.int64)
        segments = parse(frames, self.counts, aside, self.tunnels)
        self._take_aside(aside)
        four = segments.version == 4
        src, dst = (self.addresses.numbers(each, four, segments.tunnel) for each in (segments.src, segments.dst))
        probe = ~segments.icmp & (segments.flags & (SYN | ACK | RST) == SYN)
        if self.scans is not None:
            src, dst = self.scans.apart(segments, probe, src, dst, self.reached)
        self._take_probes(segments, src, dst, np.flatnonzero(probe))
        if segments.truncated.any():
            self._note_cut_quotes(dst[segments.truncated], src[segments.truncated])
        rest = np.flatnonzero(~probe & ~segments.truncated)
        if rest.size:
            part = segments.take(rest) if rest.size < len(segments) else segments
            self._take_others(frames, part, src[rest], dst[rest])
        return segments, src, dst

    def _take_aside(self, aside: Aside) -> None:
        """Packets of other protocols give no verdict, but they show that packets towards an address are recorded."""
        for towards, tunnel in aside.towards:
            self.reached.add(self.addresses.numbers(towards, tunnel=tunnel))
        self.arp.see(aside.arp)
        self.questions.add(aside.udp, self.addresses)
        for sender, receiver, tunnel in aside.cut:
            self._note_cut_quotes(*(self.addresses.numbers(each, tunnel=tunnel) for each in (receiver, sender)))

    def _note_cut_quotes(self, us: Ints, them: Ints) -> None:
        """ICMP errors that quote too little: at best the target's address is known, its port is not."""
        self.counts["icmp-quote-truncated"] += len(us)
        self.cut_quotes.update(zip(us.tolist(), them.tolist(), strict=True))
        self.reached.add(us)

    def _take_probes(self, segments: Segments, src: Ints, dst: Ints, row: Ints) -> None:
        """SYNs: each makes its flow, or is one more probe of it."""
        us, our_port = src[row], segments.sport[row]
        target = self.targets.intern(*TargetKey(us, dst[row], segments.dport[row]).words())
        count, flow = self.count, self._intern(FlowKey(target, our_port, segments.seq[row]))
        note_probes(self.table, flow, segments.time[row], each_new=self.count - count == len(flow))
        self.table["tos"][flow], self.table["ttl"][flow] = segments.tos[row], segments.ttl[row]
        self.long_syns.add(FlowKey(target, our_port, segments.seq[row]), segments.size[row])
        self.probers.add(us)
        self.probed.add(dst[row])
        self.may_cross = self.may_cross or bool((self.probed.may_have(us) & self.probers.may_have(dst[row])).any())

    def _take_others(self, frames: Frames, segments: Segments, src: Ints, dst: Ints) -> None:
        """Replies, and what probers send after them."""
        self.reached.add(dst)
        row, flow = self._take_aftermath(segments, src, dst)
        later = np.zeros(len(segments), np.bool_)
        later[row] = True
        reason = classify_tcp(segments.flags)
        if segments.icmp.any():
            error = classify_icmp(segments.version, segments.icmp_type, segments.icmp_code)
            reason = np.where(segments.icmp, error, reason)
        honest = without_strange(segments, self.counts)
        reply = (reason != Reason.NONE) & ~later & honest
        if reply.all():
            self._take_replies(frames, segments, src, dst, reason)
        elif reply.any():  # whatever else a connection consists of gives no verdict
            self._take_replies(frames, segments.take(reply), src[reply], dst[reply], reason[reply])
        self._take_proofs(segments, src, dst, row, flow)
        nothing = honest & (reason == Reason.NONE)
        self.counts[Rejected.NO_VERDICT.value] += int(np.count_nonzero(nothing & segments.icmp))
        # The ACK of a handshake says no more than its mark.
        talk = nothing & ~segments.icmp & (~later | (segments.size > 0))
        if talk.any():
            self.conversations.add(segments.take(talk), src[talk], dst[talk])

    def _take_aftermath(self, segments: Segments, src: Ints, dst: Ints) -> tuple[Ints, Ints]:
        """Mark flows whose prober sends on behind its SYN; returns which rows are such packets, and their flows."""
        wanted = ~segments.icmp & (segments.flags & SYN == 0) & (segments.flags & (ACK | RST) != 0)
        row = np.flatnonzero(wanted)
        row = row[self.probers.may_have(src[row])]  # most packets need no look into the tables
        target = self.targets.find(*TargetKey(src[row], dst[row], segments.dport[row]).words())
        row, target = row[target >= 0], target[target >= 0]
        # The SYN took one sequence number: the reset of a half-open scan and the handshake's ACK carry the next one.
        key = FlowKey(target, segments.sport[row], segments.seq[row] - np.uint32(1))
        flow = self.find(key)
        if self.long_syns.count:
            flow = np.where(flow < 0, self.find(self.long_syns.syn(key)), flow)
        # Without a SYN it may be a stray reset's flow: resets have the numbers 0 so often that one seems to follow it.
        row, flow = row[self._probed(flow)], flow[self._probed(flow)]
        mark = np.where(segments.flags[row] & RST, np.uint16(Mark.HALF_OPEN), np.uint16(Mark.HANDSHAKE_COMPLETED))
        np.bitwise_or.at(self.table["marks"], flow, mark)
        return row, flow

    def _take_proofs(self, segments: Segments, src: Ints, dst: Ints, row: Ints, flow: Ints) -> None:
        """The ACKs that prove a split handshake, among packets (`row`) that are sent behind a SYN (`flow`).

        A host has answered a probe with a bare SYN, got a SYN/ACK, and acknowledges it. That SYN/ACK has the sequence
        number of the probe (RFC 9293 3.5), so its ACK names the probe's flow.
        """
        ack = (segments.flags[row] & RST == 0) & (self.ledger.records(flow)["reason"] == Reason.SYN_ACK)
        row = row[ack]
        target = self.targets.find(*TargetKey(dst[row], src[row], segments.sport[row]).words())
        row, target = row[target >= 0], target[target >= 0]
        flow = self.find(FlowKey(target, segments.dport[row], segments.ack[row] - np.uint32(1)))
        # Further segments acknowledge the same number until the prober sends data. The first one counts.
        first = np.zeros(len(flow), np.bool_)
        first[np.unique(flow, return_index=True)[1]] = True
        first &= (flow >= 0) & (self.ledger.records(flow)["seen"] & (1 << Reason.SPLIT_HANDSHAKE_SYN) == 0)
        if first.any():
            row, flow = row[first], flow[first]
            proof = segments.take(row)
            self.ledger.fold(Replies(flow, records_of(proof, np.full(len(row), Reason.SPLIT_HANDSHAKE_SYN, np.uint8))))

    def _take_replies(self, frames: Frames, segments: Segments, src: Ints, dst: Ints, reason: Codes) -> None:
        reset = (reason == Reason.RESET) & ~segments.icmp
        target = self.targets.intern(*TargetKey(dst, src, segments.sport).words())
        flow = self._answered_flow(segments, target, reset)
        if (ended := ends(self.table, self.ledger, flow, segments, reason, ENDING)).any():
            self.counts["other-tcp"] += int(np.count_nonzero(ended))
            flow, segments, reason, reset = flow[~ended], segments.take(~ended), reason[~ended], reset[~ended]
        record = records_of(segments, reason)
        record["marks"] = marks_of(frames, segments, 0)
        record["detail"] = self.details.numbers(frames, segments, reason)
        self.bad_checksums += int(np.count_nonzero(record["marks"] & Mark.CHECKSUM_WRONG))
        self.ledger.fold(Replies(flow, record))
        self.accepted, table = flow[reason == Reason.SYN_ACK], self.table
        table["reply_tos"][flow[reset]] = segments.tos[reset]
        # A reset that answers a SYN has sequence number 0 (RFC 9293, 3.10.7.1); any other one ends some connection.
        table["marks"][flow[reset & (segments.seq != 0)]] |= ENDING

    def _answered_flow(self, segments: Segments, target: Ints, reset: Bools) -> Ints:
        """The flow that each reply answers; a new one where its probe has not been seen."""
        # A TCP reply acknowledges the SYN's number + 1 (RFC 9293, 3.10.7.3); an ICMP error quotes the number itself.
        key = FlowKey(target, segments.dport, np.where(segments.icmp, segments.seq, segments.ack - np.uint32(1)))
        flow = self.find(key)
        # Some stacks send an RST that acknowledges the SYN's own number: it counts where that probe is known.
        odd = np.flatnonzero(reset)
        odd = odd[~self._probed(flow[odd])]
        own = self.find(FlowKey(target, segments.dport, segments.ack).take(odd))
        flow[odd] = np.where(self._probed(own), own, flow[odd])
        odd = np.flatnonzero(flow < 0)
        if odd.size:
            flow[odd] = self._intern(self.long_syns.syn(key.take(odd)))
        return flow

    def _probed(self, flow: Ints) -> Bools:
        """Which of these flows (-1: none) have a SYN in the tables."""
        known = flow >= 0
        known[known] = self.table["probes"][flow[known]] > 0
        return known
