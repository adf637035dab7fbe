"""Flows become targets, and targets become verdicts.

All flows of one (prober, target, port) fold into one record by the same ledger as in a live scan, and the same evidence
is drawn from it. Replies without a captured probe are counted, and get rows only on request.

Silence differs from a live scan. A live scan knows how long it waited; a capture may end too early or hold one
direction only. Then the verdict is `unknown`, not `filtered`.

Replies that found no flow, because they stand before their probe, wait until more has been read, and so do SYNs that
were replies (`crossing`).
"""

from dataclasses import dataclass

import numpy as np

from ..capture.source import NO_TIME
from ..packet.headers import Bools, Ints, Rows
from ..verdict.evidence import HostFacts, host_facts
from ..verdict.ledger import Mark, Replies, blank
from ..verdict.table import Rank, Reason
from .addresses import among
from .crossing import both_ways_of, settle_crossing_syns
from .flows import ENDING, NEVER, TAKEN, Flows
from .forgotten import TargetTable, merged
from .keys import FlowKey, Numbering, TargetKey
from .leftover import count_leftover, hear, only_ends
from .sums import Sent, Sums, sums_of, target_sums

FEW_FLOWS = 1 << 20  # so many are kept in the tables in any case
_PIECE = 1 << 18  # targets that are handled at once
_MANY_SYNS = 256  # of one flow, which then stays in the tables
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
    sent: Sent  # what was sent to targets; the row of each is in `place`
    place: Ints

    def take(self, chosen: Bools | Ints | slice) -> "Judged":
        """The given rows (indices, mask or slice)."""
        return Judged(self.target[chosen], self.record[chosen], self.rtt[chosen], self.orphan[chosen],
                      self.facts.take(chosen), self.orphaned, self.sent, self.place[chosen])  # fmt: skip


# ── what waits until more has been read ──


def settle(flows: Flows) -> None:
    """At the end of the capture: find the probes of early replies, and the SYNs that were replies.

    Early replies stand before their probe in the file, and their acknowledgement is not the SYN's number + 1.
    """
    recall(flows)
    flows.forgotten.merge(flows.targets.count)
    early = _early(flows)
    records, key = flows.ledger.records(early), flows.keys().take(early)
    # These replies made flows of their own, named by the acknowledgement - 1. A reset that acknowledges the SYN's own
    # number is one below its probe; an answer to data behind a SYN has the number of the data's last byte.
    probe = flows.find(FlowKey(key.target, key.our_port, key.seq + 1))
    probe[records["reason"] != Reason.RESET] = -1
    if flows.long_syns.count:
        long = flows.find(flows.long_syns.syn(key))
        probe = np.where((long >= 0) & (long != early), long, probe)
    settled = np.flatnonzero((probe >= 0) & (flows.table["probes"][probe] > 0))
    take_replies(flows, early[settled], probe[settled])
    settle_crossing_syns(flows)


def take_replies(flows: Flows, early: Ints, probe: Ints) -> None:
    """Replies that made flows of their own (`early`) answer these probes."""
    records, table = flows.ledger.records(early), flows.table
    flows.ledger.fold(Replies(probe, records))
    np.add.at(table["replies"], probe, records["replies"] - np.uint16(1))  # the record counts as one reply
    np.bitwise_or.at(table["seen"], probe, records["seen"])
    np.bitwise_or.at(table["marks"], probe, table["marks"][early] & ENDING)
    table["reply_tos"][probe], table["marks"][early] = table["reply_tos"][early], table["marks"][early] | TAKEN


# ── from flows to targets ──


def retire(flows: Flows, fresh: int) -> None:
    """If flows have become many: forget the older half of those with a SYN. Those from number `fresh` on stay."""
    if flows.count <= max(FEW_FLOWS, flows.limit):
        return
    settle_crossing_syns(flows)  # it needs both flows, and one of them may be about to go
    if 2 * len(_early(flows)) > flows.count:
        recall(flows)
    first = flows.table["first"]
    # A bare SYN has come to some: its proof may follow.
    probed = (flows.table["probes"] > 0) & (flows.ledger.rank(slice(flows.count)) != Rank.UNPROVED)
    probed &= flows.table["probes"] < _MANY_SYNS  # what is forgotten has room for a small number
    probed[fresh:] = False
    over = np.flatnonzero(probed)
    if over.size:
        over = over[first[over] <= np.partition(first[over], len(over) // 2)[len(over) // 2]]
        _fold(flows, over, flows.retired)
        flows.forget(over)
    # Each recall goes through all that is forgotten, and what cannot be forgotten is not to be tried again at once.
    flows.limit = max(2 * flows.count, flows.forgotten.count // 4)


def _early(flows: Flows) -> Ints:
    """Flows that were answered, and whose SYN is not in the tables."""
    return np.flatnonzero((flows.table["probes"] == 0) & flows.ledger.was_answered())


def recall(flows: Flows) -> None:
    """Bring back the forgotten flows that something in the tables belongs to, or that may be part of a crossing."""
    if not flows.forgotten.count:
        return
    wanted, early = Numbering(), _early(flows)
    reset = early[flows.ledger.records(early)["reason"] == Reason.RESET]
    key = flows.keys()
    odd = key.take(reset)  # see `settle`
    for each in (key, odd._replace(seq=odd.seq + 1), flows.long_syns.syn(key.take(early))):
        wanted.intern(*each.words())
    target = np.zeros(flows.targets.count, np.bool_)
    target[key.target] = True
    both = both_ways_of(flows)

    def belongs(facts: Rows) -> Bools:
        found = target[facts["target"]]
        rows = facts[found]
        mine = FlowKey(rows["target"].astype(np.int64), rows["our_port"], rows["seq"])
        found[found] = wanted.find(*mine.words()) >= 0
        return np.asarray(found | (both[facts["target"]] & (facts["seen"] == 0)))

    flows.recall(*merged(flows.forgotten.take(belongs)))


def _fold(flows: Flows, flow: Ints, into: TargetTable) -> None:
    """Add what replies to the given flows said to their targets."""
    into.grow(flows.targets.count)
    flow = flow[flows.ledger.was_answered()[flow]]
    key, record = flows.keys(flow), flows.ledger.records(flow)
    into.add(key.target, record, key.seq)


# ── from targets to verdicts ──


def judge(flows: Flows, too_late: int, both_ways: bool, orphans: bool) -> Judged:
    """The verdict of every probed target; with `orphans` also of targets whose probe was not captured.

    `too_late`: a probe that was first sent after this time (ns) may have a reply after the end of the capture.
    `both_ways`: the capture is known to hold both directions, also where no reply is in it.
    Call it once: the flows are folded into `flows.retired`.
    """
    probed, chosen = flows.table["probes"] > 0, _probed_targets(flows)
    key = flows.keys()
    # Replies to targets that nothing in the capture probed. The ends of other connections are none.
    lost = ~probed & (flows.table["marks"] & TAKEN == 0) & ~only_ends(flows) & ~chosen[key.target]
    wanted = np.flatnonzero(probed | lost if orphans else probed)
    table = flows.retired
    _fold(flows, wanted, table)
    sums = target_sums(flows, wanted, table)
    without = 0 if both_ways else hear(flows, wanted, table, sums)  # a recording of a scan misses nothing
    count_leftover(flows, chosen, table, orphans, without)
    orphan = ~chosen
    chosen[key.target[wanted]] = True
    target = np.flatnonzero(chosen)
    target = target[_order(flows, target)]
    record, rtt = blank(len(target)), np.empty(len(target), np.int64)
    for at in range(0, len(target), _PIECE):
        part = slice(at, at + _PIECE)
        record[part], rtt[part] = _records(table, sums, target[part])
    silent = record["reason"] == Reason.NONE
    record["reason"][silent] = np.where(sums.first[target][silent] > too_late, Reason.CAPTURE_ENDED, Reason.NO_RESPONSE)
    us, them, _ = flows.target_keys(target)
    if not both_ways:
        # The capture holds the way back to a prober if anything in it went there, a SYN included.
        left = silent.copy()
        left[silent] = ~flows.reached.has(us[silent])
        left[left] = ~among(us[left], them[~orphan[target]])
        record["reason"][left] = Reason.ONE_WAY_CAPTURE
    # A host is one address as one prober saw it.
    host = np.cumsum((np.diff(us, prepend=us[:1]) != 0) | (np.diff(them, prepend=them[:1]) != 0))
    answered = np.flatnonzero(~silent)  # the facts of a host follow from answers
    served = flows.conversations.with_data(flows.target_keys(target[answered]), record["port"][answered])
    some = host_facts(host[answered], np.bincount(host), record[answered], None, served)
    facts = HostFacts._make(np.zeros(len(target), np.bool_) for _ in some)
    for fact, values in zip(facts, some, strict=True):
        fact[answered] = values
    orphaned = int(np.count_nonzero(np.bincount(key.target[lost])))
    sent = Sent(sums.first, sums.last, sums.attempts)
    return Judged(target, record, rtt, orphan[target], facts, orphaned, sent, target)


def _order(flows: Flows, target: Ints) -> Ints:
    """What puts targets into the order of rows: by prober, address and port."""
    us, them, port = flows.target_keys(target)
    us, them = flows.addresses.ranks(us), flows.addresses.ranks(them)
    place = them << 16 | port
    if (us == us[:1]).all():  # one prober: three times as fast
        return np.argsort(place)
    return np.lexsort((place, us))


def _records(table: TargetTable, sums: Sums, target: Ints) -> tuple[Rows, Ints]:
    """What all flows of each target show: RECORD[n], and the round trip of the winning reply in ns (-1: not known)."""
    sums, record = sums.take(target), table.ledger.records(target)
    answered = record["reason"] != Reason.NONE
    record["seen"], record["replies"] = sums.seen, 0  # what is a repeat was judged flow by flow
    record["marks"] |= sums.marks
    captured = record["time"] != NEVER
    record["marks"][captured] &= ~np.uint16(Mark.REPLY_NOT_CAPTURED)  # another attempt had an answer
    record["pass"][answered & captured] = np.minimum(sums.earlier[answered & captured] + 1, _MOST_ATTEMPTS)
    record["pass"][~captured], record["time"][~captured] = 0, NO_TIME
    sound = sums.alone & (sums.sent > 0) & (record["time"] >= sums.sent)
    return record, np.where(sound, record["time"] - sums.sent, -1)


def judge_accepted(flows: Flows) -> Judged:
    """The open targets of the latest batch, by the flows that its SYN/ACKs answered: for rows that do not wait.

    What only the whole capture shows is not in these rows: which attempt was answered, what other flows say, and what
    the ports of a host show together. A SYN/ACK may answer a SYN that was a reply itself; that waits for `settle`.
    """
    flow = np.unique(flows.accepted)
    key = flows.keys(flow)
    us, them, _ = flows.target_keys(key.target)
    crossed = flows.targets.find(*TargetKey(them, us, key.our_port).words()) >= 0
    flow = flow[(flows.table["probes"][flow] > 0) & ~crossed]
    target, row = np.unique(flows.keys(flow).target, return_inverse=True)
    facts, table = flows.facts(flow), TargetTable()
    table.grow(len(target))
    table.add(row, flows.ledger.records(flow), facts["seq"])
    facts["target"] = row
    sums, place = sums_of(lambda: [facts], len(target), table), np.arange(len(target))
    np.maximum.at(sums.last, row, flows.table["last"][flow])
    record, rtt = _records(table, sums, place)
    record["pass"] = 0
    nothing = np.zeros(len(target), np.bool_)
    sent = Sent(sums.first, sums.last, sums.attempts)
    judged = Judged(target, record, rtt, nothing, HostFacts(*[nothing] * len(HostFacts._fields)), 0, sent, place)
    return judged.take(_order(flows, target))


def _probed_targets(flows: Flows) -> Bools:
    """By target: whether a SYN was sent to it."""
    probed = np.zeros(flows.targets.count, np.bool_)
    for facts in flows.forgotten:
        probed[facts["target"]] = True
    probed[flows.keys().target[flows.table["probes"] > 0]] = True
    return probed
