"""Flows become targets, and targets become verdicts.

All flows of one (prober, target, port) fold into one record by the same ledger as in a live scan, and the same evidence
is drawn from it. Replies without a captured probe are counted, and get rows only on request.

Silence differs from a live scan. A live scan knows how long it waited; a capture may end too early or hold one
direction only. Then the verdict is `unknown`, not `filtered`.

`judge` does what needs all targets at once. The verdicts themselves are made of some targets at a time, in the order
of rows: a capture may hold tens of millions, and what is in hand then stays in the processor's cache.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..capture.source import NO_TIME
from ..packet.headers import U32, Bools, Ints, Rows, opaque
from ..verdict.evidence import HostFacts, host_facts
from ..verdict.ledger import RECORD, Mark
from ..verdict.table import Reason
from .flow_numbers import NEVER
from .flows import TAKEN, Flows
from .forgotten import TargetTable
from .keys import TargetKey
from .leftover import count_leftover, hear, only_ends
from .order import host_runs, in_order
from .sums import FlowsByTarget, Sent, Sums, sums_of

_PIECE = 1 << 16  # targets that are handled at once
_MOST_ATTEMPTS = 31  # what a record's bits can tell apart
_RESET = np.uint32(1 << Reason.RESET)


@dataclass(frozen=True)
class Judged:
    """Targets with their verdicts, one row each. `target` is the number in the flows, `record` is RECORD[n]."""

    target: Ints
    record: Rows
    rtt: Ints  # ns from the only SYN of the winning flow to the reply; -1: not known
    orphan: Bools  # no probe was captured
    facts: HostFacts  # what the rows of the host show together
    sent: Sent

    def take(self, chosen: Bools | Ints | slice) -> "Judged":
        """The given rows (indices, mask or slice)."""
        return Judged(self.target[chosen], self.record[chosen], self.rtt[chosen], self.orphan[chosen],
                      self.facts.take(chosen), self.sent.take(chosen))  # fmt: skip


def joined(parts: list[Judged]) -> Judged:
    """All rows of the parts."""
    if len(parts) == 1:
        return parts[0]
    target, rtt, orphan = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("target", "rtt", "orphan")
    )
    record = np.concatenate([opaque(part.record) for part in parts]).view(RECORD)
    facts = HostFacts(*map(np.concatenate, zip(*[part.facts for part in parts], strict=True)))
    return Judged(target, record, rtt, orphan, facts,
                  Sent(*map(np.concatenate, zip(*[part.sent for part in parts], strict=True))))  # fmt: skip


@dataclass(frozen=True)
class Judging:
    """What the verdicts of a capture rest on. Take `runs` or `whole`, once."""

    flows: Flows
    target: U32  # those that get rows, in the order of rows
    probed: Bools  # by target
    ended: Ints  # targets whose resets ended a connection
    orphaned: int  # targets that replied, but whose probe was not captured; they have rows only on request
    too_late: int
    both_ways: bool

    def whole(self) -> Judged:
        """All verdicts."""
        (judged,) = self.runs(max(1, len(self.target)))
        return judged

    def runs(self, most: int) -> Iterator[Judged]:
        """The verdicts of whole hosts, about `most` at a time."""
        runs = list(host_runs(self.flows, self.target, most))
        pieces = [list(host_runs(self.flows, self.target[run], _PIECE)) for run in runs]
        ends = [run.start + piece.stop for run, of_run in zip(runs, pieces, strict=True) for piece in of_run]
        rank = np.zeros(self.flows.targets.count, np.uint32)
        rank[self.target] = np.arange(len(self.target), dtype=np.uint32)
        given = FlowsByTarget(self.flows.forgotten, rank, np.array(ends))
        del rank
        number = 0
        for run, of_run in zip(runs, pieces, strict=True):
            parts = []
            for piece in of_run:
                parts.append(self._judged(self.target[run][piece].astype(np.int64), given, number))
                number += 1
            yield joined(parts)

    def _judged(self, target: Ints, given: FlowsByTarget, piece: int) -> Judged:
        """The verdicts of a piece of whole hosts."""
        flows, table = self.flows, self.flows.retired
        record = table.ledger.records(target)
        sums = given.sums(piece, record, table.seq.take(target))
        if self.ended.size:
            sums.seen[np.isin(target, self.ended)] &= ~_RESET
        rtt = _conclude(record, sums)
        silent = record["reason"] == Reason.NONE
        late = sums.sent.first > self.too_late
        record["reason"][silent] = np.where(late[silent], Reason.CAPTURE_ENDED, Reason.NO_RESPONSE)
        us, them, port = flows.target_keys(target)
        if not self.both_ways:  # the capture holds the way back to a prober if anything in it went there
            left = np.flatnonzero(silent)
            record["reason"][left[~flows.reached.has(us[left])]] = Reason.ONE_WAY_CAPTURE
        # A host is one address as one prober saw it.
        host = np.cumsum((np.diff(us, prepend=us[:1]) != 0) | (np.diff(them, prepend=them[:1]) != 0))
        answered = np.flatnonzero(~silent)  # the facts of a host follow from answers
        key = TargetKey(us[answered], them[answered], port[answered])
        some = record.take(answered)
        served = flows.conversations.with_data(key, some["port"])
        facts = HostFacts._make(np.zeros(len(target), np.bool_) for _ in HostFacts._fields)
        for fact, values in zip(facts, host_facts(host[answered], np.bincount(host), some, None, served), strict=True):
            fact[answered] = values
        return Judged(target, record, rtt, ~self.probed[target], facts, sums.sent)


def judge(flows: Flows, too_late: int, both_ways: bool, orphans: bool) -> Judging:
    """The verdict of every probed target; with `orphans` also of targets whose probe was not captured.

    `too_late`: a probe that was first sent after this time (ns) may have a reply after the end of the capture.
    `both_ways`: the capture is known to hold both directions, also where no reply is in it.
    Call it once: the flows are folded into `flows.retired` and `flows.forgotten`.
    """
    sent, probed = flows.table["probes"] > 0, _probed_targets(flows)
    target = flows.target_of()
    # Replies to targets that nothing in the capture probed. The ends of other connections are none.
    lost = ~sent & (flows.table["marks"] & TAKEN == 0) & ~only_ends(flows) & ~probed[target]
    orphaned = np.bincount(target[lost]) > 0
    wanted = np.flatnonzero(sent | lost if orphans else sent)
    flows.fold(wanted)
    without, ended = (0, wanted[:0]) if both_ways else hear(flows, wanted)  # a recording of a scan misses nothing
    count_leftover(flows, probed, orphans, without)
    chosen = probed.copy()
    chosen[target[wanted]] = True
    if not both_ways:
        _note_probed_probers(flows, probed)
    others = flows.facts(np.flatnonzero(lost) if orphans else wanted[:0])
    flows.forget(np.flatnonzero(sent))
    flows.forgotten.parts.append(others)
    ordered = in_order(flows, np.flatnonzero(chosen).astype(np.uint32))
    return Judging(flows, ordered, probed, ended, int(np.count_nonzero(orphaned)), too_late, both_ways)


def _note_probed_probers(flows: Flows, probed: Bools) -> None:
    """A SYN to a prober is on the way back to it, too."""
    for at in range(0, len(probed), _PIECE):
        them = flows.target_keys(slice(at, at + _PIECE)).them
        flows.reached.add(them[probed[at : at + _PIECE] & flows.probers.may_have(them)])


def _conclude(record: Rows, sums: Sums) -> Ints:
    """Put what all flows of a target show into its RECORD; returns the round trips of winning replies in ns, or -1."""
    answered = record["reason"] != Reason.NONE
    record["seen"], record["replies"] = sums.seen, 0  # what is a repeat was judged flow by flow
    record["marks"] |= sums.marks
    captured = record["time"] != NEVER
    record["marks"][captured] &= ~np.uint16(Mark.REPLY_NOT_CAPTURED)  # another attempt had an answer
    record["pass"][answered & captured] = np.minimum(sums.earlier[answered & captured] + 1, _MOST_ATTEMPTS)
    record["pass"][~captured], record["time"][~captured] = 0, NO_TIME
    sound = sums.alone & (sums.answered > 0) & (record["time"] >= sums.answered)
    return np.where(sound, record["time"] - sums.answered, -1)


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
    record = table.ledger.records(np.arange(len(target)))
    sums = sums_of(facts, record, table.seq)
    np.maximum.at(sums.sent.last, row, flows.table["last"][flow])
    rtt = _conclude(record, sums)
    record["pass"] = 0
    nothing = np.zeros(len(target), np.bool_)
    judged = Judged(target, record, rtt, nothing, HostFacts(*[nothing] * len(HostFacts._fields)), sums.sent)
    place = np.empty(flows.targets.count, np.int64)
    place[target] = np.arange(len(target))
    return judged.take(place[in_order(flows, target.astype(np.uint32))])


def _probed_targets(flows: Flows) -> Bools:
    """By target: whether a SYN was sent to it."""
    probed = np.zeros(flows.targets.count, np.bool_)
    for facts in flows.forgotten.parts:
        probed[facts["target"]] = True
    probed[flows.target_of()[flows.table["probes"] > 0]] = True
    return probed
