"""Flows become targets, and targets become verdicts.

All flows of one (prober, target, port) fold into one record by the same ledger as in a live scan, and the same evidence
is drawn from it. Replies without a captured probe are counted, and get rows only on request.

Silence differs from a live scan. A live scan knows how long it waited; a capture may end too early or hold one
direction only. Then the verdict is `unknown`, not `filtered`.

Two matters wait until more has been read (`settle`): replies that found no flow because they stand before their probe,
and SYNs that were replies. Of two hosts that send each other SYNs on the same pair of ports, the later SYN is the reply
to the earlier one (split handshake or simultaneous open: RFC 9293, 3.5), if it comes soon and nothing else answered
before. Otherwise they are two probes that cross.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from ..capture.source import NO_TIME
from ..packet.addresses import raw_text, to_text
from ..packet.headers import Bools, Ints, Rows
from ..targets.ports import services
from ..verdict.evidence import HostFacts, host_facts, words_of
from ..verdict.ledger import Mark, Replies, blank, count_bits
from ..verdict.rows import Verdict, record_rows
from ..verdict.table import RANK, Rank, Reason
from .flows import ENDING, NEVER, TAKEN, Flows, TargetTable
from .keys import FlowKey, Numbering

ANSWERED_WITHIN = 3_000_000_000  # ns between a SYN and one that answers it
GIVEN_UP = 3_000_000_000  # ns without an answer, where flows are too many to be kept
FEW_FLOWS = 1 << 19  # so many are kept in any case
_MOST_ATTEMPTS = 31  # what a record's bits can tell apart


@dataclass(frozen=True)
class Judged:
    """Targets with their verdicts, one row each. `target` is the number in the flows, `record` is RECORD[n]."""

    target: Ints
    record: Rows
    rtt: Ints  # ns from the only SYN of the winning flow to the reply; -1: not known
    orphan: Bools  # no probe was captured
    facts: HostFacts  # what the rows of the host show together
    orphaned: int  # targets that replied, but whose probe was not captured; they have rows only on request

    def take(self, chosen: Bools) -> "Judged":
        """The rows of a mask."""
        return Judged(self.target[chosen], self.record[chosen], self.rtt[chosen], self.orphan[chosen],
                      self.facts.take(chosen), self.orphaned)  # fmt: skip


# ── what waits until more has been read ──


def settle(flows: Flows) -> None:
    """At the end of the capture: find the probes of early replies, and the SYNs that were replies.

    Early replies stand before their probe in the file, and their acknowledgement is not the SYN's number + 1.
    """
    early = np.flatnonzero((flows.table["probes"] == 0) & flows.ledger.was_answered())
    records, key = flows.ledger.records(early), flows.keys().take(early)
    # These replies made flows of their own, named by the acknowledgement - 1. A reset that acknowledges the SYN's own
    # number is one below its probe; an answer to data behind a SYN has the number of the data's last byte.
    probe = flows.find(FlowKey(key.target, key.our_port, key.seq + 1))
    probe[records["reason"] != Reason.RESET] = -1
    long = flows.find_long(key)
    probe = np.where(long >= 0, long, probe)
    settled = np.flatnonzero((probe >= 0) & (flows.table["probes"][probe] > 0))
    flows.ledger.fold(Replies(probe[settled], records[settled]))
    flows.table["marks"][early[settled]] |= TAKEN
    settle_crossing_syns(flows)


def settle_crossing_syns(flows: Flows) -> None:
    """SYNs that answer an earlier SYN the other way: they are replies, and no probes of their own."""
    us, them, port = flows.target_keys(np.arange(flows.targets.count))
    both = np.isin(us, them) & np.isin(them, us)
    if not both.any():
        return
    target, our_port, seq = flows.keys()
    first = flows.table["first"]
    candidate = np.flatnonzero((flows.table["probes"] > 0) & both[target])
    unanswered: dict[tuple[int, ...], list[int]] = {}  # SYNs by (prober, target, source port, port), in order of time
    for flow in candidate[np.argsort(first[candidate], kind="stable")].tolist():
        row = target[flow]
        ours, theirs = (int(us[row]), int(our_port[flow])), (int(them[row]), int(port[row]))
        # A host chooses its own initial number (RFC 9293, 3.4.1): a SYN with the number of the probe is its echo.
        crossed = reversed(unanswered.get((*theirs, *ours), []))
        probe = next((other for other in crossed if seq[other] != seq[flow]), None)
        if probe is not None and _may_answer(flows, probe, flow):
            _fold_crossing_syn(flows, probe, flow)
        else:
            unanswered.setdefault((*ours, *theirs), []).append(flow)


def _may_answer(flows: Flows, probe: int, syn: int) -> bool:
    """Whether a SYN comes soon after the SYN the other way, and before any other reply to it."""
    sent, came = int(flows.table["first"][probe]), int(flows.table["first"][syn])
    record = flows.ledger.records(np.array([probe]))[0]
    answered_before = RANK[record["reason"]] >= RANK[Reason.RESET] and record["time"] < came
    return came - sent <= ANSWERED_WITHIN and not answered_before


def _fold_crossing_syn(flows: Flows, probe: int, syn: int) -> None:
    record = blank(1)
    record["reason"], record["time"], record["pass"] = Reason.UNPROVED_SYN, flows.table["first"][syn], 1
    record["ttl"] = flows.table["ttl"][syn]
    flows.ledger.fold(Replies(np.array([probe]), record))
    flows.table["probes"][syn] = 0
    flows.table["marks"][syn] |= TAKEN


# ── from flows to targets ──


def retire(flows: Flows, fresh: int, now: int = NEVER) -> None:
    """Fold flows that are over into their targets, if flows have become many; those from number `fresh` on stay.

    A capture larger than memory has more flows than memory holds, but few targets. What only the flow knew is lost: a
    further reply to it counts as one without a probe (which changes nothing for a probed target), and what its prober
    did later is not noticed. `now`: the largest time so far, ns; a flow without an answer is given up only when one
    would have come by now.
    """
    if flows.count <= max(FEW_FLOWS, flows.targets.count * 5 // 4):  # with one flow a target there is little to save
        return
    settle_crossing_syns(flows)  # it needs both flows, and one of them may be about to go
    probed = (flows.table["probes"] > 0) & (np.arange(flows.count) < fresh)
    over = probed & (flows.ledger.rank(slice(flows.count)) > Rank.UNPROVED)  # a proof may follow
    if 2 * np.count_nonzero(over) < flows.count:  # few have an answer: those that have none by now go too
        over |= probed & (flows.table["first"] < now - GIVEN_UP)
    _fold(flows, np.flatnonzero(over), flows.retired)
    flows.keep(np.flatnonzero(~over))


def _fold(flows: Flows, flow: Ints, into: TargetTable) -> None:
    """Add the given flows to the rows of their targets."""
    into.grow(flows.targets.count)
    target = flows.keys().target
    replied = flow[flows.ledger.was_answered()[flow]]
    record = _flow_records(flows, replied)
    record["pass"] = np.minimum(_attempt(flows, into.rows["attempts"])[replied], _MOST_ATTEMPTS)
    np.minimum.at(into.rows["first"], target[flow], flows.table["first"][flow])
    np.add.at(into.rows["attempts"], target[flow], np.uint32(1))
    # The round trip is not known where several SYNs were sent (which one was answered?) or times make no sense.
    first, time = flows.table["first"][replied], record["time"]
    sound = (flows.table["probes"][replied] == 1) & (first != NO_TIME) & (time >= first)
    into.add_replies(target[replied], record, np.where(sound, time - first, -1))


def _flow_records(flows: Flows, flow: Ints) -> Rows:
    """RECORD[n] of the given flows, with what is known only from the probe: TOS marks and repeats."""
    record, table = flows.ledger.records(flow), flows.table
    probes, tos, marks = table["probes"][flow], table["tos"][flow], table["marks"][flow] & ~(ENDING | TAKEN)
    completed = (marks & np.uint16(Mark.HANDSHAKE_COMPLETED) > 0) | (record["reason"] == Reason.SPLIT_HANDSHAKE_SYN)
    marks[completed] &= ~np.uint16(Mark.HALF_OPEN)  # a connection that was made and then reset
    marks[RANK[record["reason"]] < RANK[Reason.SYN_ACK]] = 0  # only behind an open port do they mean something
    # A Linux host copies the probe's TOS byte into its reset, a firewall's forged reset has none (see `evidence`).
    reset = (record["reason"] == Reason.RESET) & (tos > 0)
    same = table["reply_tos"][flow] == tos
    marks[reset & same] |= np.uint16(Mark.RESET_MARKED)
    marks[reset & ~same] |= np.uint16(Mark.RESET_UNMARKED)
    # Replies that contradict each other are no repeats: each reason has one reply of its own.
    surplus = record["replies"] - np.maximum(count_bits(record["seen"]), 1) + 1
    marks[surplus > np.maximum(probes, 1)] |= np.uint16(Mark.REPEAT)
    record["marks"] |= marks
    return record


def _attempt(flows: Flows, before: Ints) -> Ints:
    """Which of its target's flows each flow is, in the order of their first SYNs, behind those counted in `before`."""
    target = flows.keys().target
    order = np.lexsort((flows.table["first"], target))
    place = np.arange(len(target))
    # In this order the flows of a target are neighbours; `begin` is the place of the first of them.
    begin = np.maximum.accumulate(np.where(np.diff(target[order], prepend=-1) > 0, place, 0))
    attempt = np.empty_like(place)
    attempt[order] = place - begin + 1
    return attempt + before[target]


# ── from targets to verdicts ──


def judge(flows: Flows, too_late: int, both_ways: bool, orphans: bool) -> Judged:
    """The verdict of every probed target; with `orphans` also of targets whose probe was not captured.

    `too_late`: a probe that was first sent after this time (ns) may have a reply after the end of the capture.
    `both_ways`: the capture is known to hold both directions, also where no reply is in it.
    """
    probed, chosen = flows.table["probes"] > 0, _probed_targets(flows)
    key = flows.keys()
    # Replies to targets that nothing in the capture probed. The ends of other connections are none.
    lost = ~probed & (flows.table["marks"] & (ENDING | TAKEN) == 0) & ~chosen[key.target]
    wanted = probed | lost if orphans else probed
    table = deepcopy(flows.retired)  # a pipe is judged again and again
    _fold(flows, np.flatnonzero(wanted), table)
    orphan = ~chosen
    chosen[key.target[wanted]] = True
    target = np.flatnonzero(chosen)
    sums, record = table.rows.take(target), table.ledger.records(target)
    record["seen"], record["replies"] = sums["seen"], 0  # what is a repeat was judged flow by flow
    silent = record["reason"] == Reason.NONE
    record["reason"][silent] = np.where(sums["first"][silent] > too_late, Reason.CAPTURE_ENDED, Reason.NO_RESPONSE)
    us, them, _ = flows.target_keys(target)
    if not both_ways:
        # The capture holds the way back to a prober if anything in it went there, a SYN included.
        reached = np.isin(us, list(flows.reached)) | np.isin(us, them[~orphan[target]])
        record["reason"][silent & ~reached] = Reason.ONE_WAY_CAPTURE
    rtt = np.where(sums["trip_end"] == record["time"], sums["trip"], -1)
    # A host is one address as one prober saw it.
    host = Numbering().intern(us.view(np.uint64), them.view(np.uint64))
    facts = host_facts(host, np.bincount(host), record)
    return Judged(target, record, rtt, orphan[target], facts, len(np.unique(key.target[lost])))


def _probed_targets(flows: Flows) -> Bools:
    """By target: whether a SYN was sent to it."""
    probed, retired = np.zeros(flows.targets.count, np.bool_), flows.retired.rows["first"]
    probed[: len(retired)] = retired[: len(probed)] < NEVER
    probed[flows.keys().target[flows.table["probes"] > 0]] = True
    return probed


def rows(flows: Flows, judged: Judged) -> Iterator[Verdict]:
    """The judged targets as verdicts, by prober, address and port."""
    keys = flows.target_keys(judged.target)
    order = np.lexsort((keys.port, keys.them, keys.us))
    us, them, port = keys.us[order], keys.them[order], keys.port[order].tolist()
    record, rtt = judged.record.take(order), judged.rtt[order]
    answered = RANK[record["reason"]] > 0
    words = words_of(record, judged.facts.take(order))
    for row in np.flatnonzero(judged.orphan[order]).tolist():
        words[row] = (*words[row], "probe-not-captured")
    for row in np.flatnonzero(~answered).tolist() if flows.cut_quotes else ():
        if (us[row], them[row]) in flows.cut_quotes:
            words[row] = (*words[row], "icmp-quote-truncated")
    senders = [None, *map(raw_text, flows.senders.names[1:])]
    return record_rows(
        _texts(flows, them),
        port,
        record,
        map(services().get, port),
        words,
        rtt,
        icmp_from=map(senders.__getitem__, record["sender"].tolist()),
        timed=record["time"] != NO_TIME,
        scanner_ip=_texts(flows, us),
    )


def _texts(flows: Flows, address: Ints) -> Iterator[str]:
    """Numbers of addresses as text, each made once."""
    distinct, back = np.unique(address, return_inverse=True)
    return map(to_text(flows.addresses.addresses(distinct)).__getitem__, back.tolist())
