"""Verdicts from a capture: the flows of `exchanges` become targets, and targets rows.

Only flows whose probe was seen count; replies without one are counted, and rows only on request. All
flows of one (scanner, target, port) fold into one record by the same ledger, and the same
evidence is drawn from it, as in a live scan. What differs is silence: a live scan knows that it
waited, a capture may have ended too early or show one direction only, and then the claim is
`unknown`, not `filtered`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from ..packet.addresses import raw_text, word_text
from ..packet.headers import Bools, Ints, Rows
from ..targets.ports import service_names
from ..verdict.evidence import HostFacts, host_facts, words_of
from ..verdict.ledger import Ledger, Mark, Replies, count_bits
from ..verdict.table import RANK, REASON_WORD, STATE_WORD, Reason, Verdict, known, microseconds, verdicts
from .flows import ENDING, TAKEN, Exchanges
from .retired import NEVER
from .settling import flow_keys, settle_bare_syns, target_keys

NO_TIME = -(1 << 63)
GIVEN_UP = 3_000_000_000  # ns without an answer, where flows are too many to be kept
FEW_FLOWS = 1 << 19  # so many are kept in any case


@dataclass(frozen=True)
class Ending:
    """How the capture ends: its largest time (ns; None where packets lack times), and `timeout` ns (0: no rule).

    `both_ways`: it is known to hold what came back, should anything have come back.
    """

    last: int | None
    timeout: int
    both_ways: bool = False


@dataclass(frozen=True)
class Judged:
    """Targets with their verdicts, one row each: `target` is the number in the exchanges, `record` RECORD[n]."""

    target: Ints
    record: Rows
    first: Ints  # time of the first SYN
    rtt: Ints  # ns from the winning flow's only SYN to the reply; -1 unknown
    orphan: Bools  # no probe was captured
    facts: HostFacts  # what the host's rows show together

    def take(self, rows: Bools) -> "Judged":
        """The rows of a mask."""
        facts = HostFacts(*(fact[rows] for fact in self.facts))
        return Judged(self.target[rows], self.record[rows], self.first[rows], self.rtt[rows], self.orphan[rows], facts)


def retire(exchanges: Exchanges, fresh: int, now: int = NEVER) -> None:
    """Fold flows that are over into their targets, if flows have become many; those from number `fresh` on stay.

    `now`: the largest time so far, ns. A flow without an answer is given up only when one would have come by now.
    """
    n, m = exchanges.flows.count, exchanges.targets.count
    if n <= max(FEW_FLOWS, m + m // 4):
        return
    settle_bare_syns(exchanges)
    probed = exchanges.probes[:n] > 0
    answered = exchanges.ledger.was_answered()[:n]
    over = probed & answered & (np.arange(n) < fresh)
    if 2 * np.count_nonzero(over) < n:  # mostly silence: what has not been answered by now is given up too
        over |= probed & (np.arange(n) < fresh) & (exchanges.first[:n] < now - GIVEN_UP)
    of, _, _ = flow_keys(exchanges)
    flows, replied = np.flatnonzero(over), np.flatnonzero(over & answered)
    exchanges.retired.grow(m)
    record = _flow_records(exchanges, replied)
    exchanges.retired.add(of[flows], exchanges.first[flows])
    exchanges.retired.answered(of[replied], record, _trips(exchanges, replied, record))
    exchanges.keep(np.flatnonzero(~over))


def judge(exchanges: Exchanges, ending: Ending, orphans: bool = False) -> Judged:
    """The verdict of every probed target; with `orphans` also of targets whose probe was not captured."""
    of, _, _ = flow_keys(exchanges)
    n, m = len(of), exchanges.targets.count
    seen = exchanges.probes[:n] > 0
    retired = exchanges.retired
    retired.grow(m)
    probed = retired.probed[:m].copy()
    probed[of[seen]] = True
    replied = exchanges.ledger.was_answered()
    orphan_flow = replied & ~seen & ~probed[of] & (exchanges.marks[:n] & (ENDING | TAKEN) == 0)
    wanted = seen | orphan_flow if orphans else seen
    flows = np.flatnonzero(wanted & replied)
    record = _flow_records(exchanges, flows)
    first = retired.first[:m].copy()
    np.minimum.at(first, of[seen], exchanges.first[:n][seen])
    ledger = Ledger(m)
    ledger.fold(Replies(of[flows], record))
    before, old_record, old_seen = retired.part(m)
    ledger.fold(Replies(before, old_record))
    chosen = probed.copy()
    chosen[of[wanted]] = True
    target = np.flatnonzero(chosen)
    result = ledger.records(target)
    seen_reasons = np.zeros(m, np.uint32)  # a fold takes each flow for one reply; a flow may have had several
    np.bitwise_or.at(seen_reasons, of[flows], record["seen"])
    seen_reasons[before] |= old_seen
    result["seen"] = seen_reasons[target]
    result["replies"] = 0  # what is a repeat was judged flow by flow
    silent = result["reason"] == Reason.NONE
    result["reason"][silent] = _silence(
        exchanges, target[silent], first[target[silent]], ending, np.flatnonzero(probed)
    )
    rtt = _round_trips(exchanges, of, flows, record, target, result)
    return Judged(target, result, first[target], rtt, ~probed[target], _facts(exchanges, target, result))


def _facts(exchanges: Exchanges, target: Ints, record: Rows) -> HostFacts:
    """A host is one address as one scanner saw it."""
    _, _, _, six = target_keys(exchanges, target)
    pair = exchanges.targets.keys[target, 0] ^ np.where(six, np.uint64(1 << 63), np.uint64(0))
    _, host = np.unique(pair, return_inverse=True)
    host = host.ravel()
    return host_facts(host, np.bincount(host), record)


def _flow_records(exchanges: Exchanges, flows: Ints) -> Rows:
    """The flows' records, with what is known only from the probe: TOS marks, repeats, and which attempt it was."""
    record = exchanges.ledger.records(flows)
    marks = exchanges.marks[flows] & ~(ENDING | TAKEN)
    completed = marks & np.uint16(Mark.HANDSHAKE_COMPLETED) > 0
    marks[completed] &= ~np.uint16(Mark.HALF_OPEN)  # a connection that was made and then reset
    marks[RANK[record["reason"]] < 3] = 0
    tos = exchanges.tos[flows]
    reset = (record["reason"] == Reason.RESET) & (tos > 0)
    same = exchanges.reply_tos[flows] == tos
    marks[reset & same] |= np.uint16(Mark.RESET_MARKED)
    marks[reset & ~same] |= np.uint16(Mark.RESET_UNMARKED)
    surplus = record["replies"] - np.maximum(count_bits(record["seen"]), 1) + 1  # contradicting is not repeating
    marks[surplus > np.maximum(exchanges.probes[flows], 1)] |= np.uint16(Mark.REPEAT)
    record["marks"] |= marks
    record["pass"] = _attempt(exchanges, flows)
    return record


def _attempt(exchanges: Exchanges, flows: Ints) -> Ints:
    """Which of its target's flows each one is, in the order of their first SYNs, from 1; at most 31."""
    of, _, _ = flow_keys(exchanges)
    order = np.lexsort((exchanges.first[: len(of)], of))
    position = np.empty(len(of), np.int64)
    starts = np.flatnonzero(np.concatenate([[True], of[order][1:] != of[order][:-1]])) if len(of) else of
    position[order] = np.arange(len(of)) - np.repeat(starts, np.diff(np.append(starts, len(of))))
    before = exchanges.retired.attempts
    if len(before):
        position += before[of]
    return np.minimum(position[flows] + 1, 31)


def _silence(exchanges: Exchanges, target: Ints, first: Ints, ending: Ending, asked: Ints) -> Ints:
    """The reason of unanswered targets. A host that was itself probed (`asked`: targets) has been reached."""
    scanner, _, _, six = target_keys(exchanges, target)
    marked = np.where(six, scanner | 1 << 32, scanner)
    _, everyone, _, every_six = target_keys(exchanges, asked)
    reached = np.union1d(
        np.array(sorted(exchanges.reached), np.int64), np.where(every_six, everyone | 1 << 32, everyone)
    )
    reason = np.full(len(target), Reason.NO_RESPONSE, np.int64)
    if ending.last is not None and ending.timeout:
        reason[first > ending.last - ending.timeout] = Reason.CAPTURE_ENDED
    if not ending.both_ways:
        reason[~np.isin(marked, reached)] = Reason.ONE_WAY_CAPTURE
    return reason


def _trips(exchanges: Exchanges, flows: Ints, record: Rows) -> Ints:
    """From the SYN to the winning reply of each flow, ns; -1 where there were several SYNs, or times make no sense."""
    first, time = exchanges.first[flows], record["time"]
    known = (exchanges.probes[flows] == 1) & (first != NO_TIME) & (time >= first)
    return np.where(known, time - first, -1)


def _round_trips(exchanges: Exchanges, of: Ints, flows: Ints, record: Rows, target: Ints, result: Rows) -> Ints:
    """The round trip of the reply that each target's verdict comes from; -1 unknown."""
    retired, m = exchanges.retired, exchanges.targets.count
    winning = np.zeros(m, np.int64)
    winning[target] = result["time"]
    by_target = np.where(retired.trip_end[:m] == winning, retired.trip[:m], -1)
    trip = _trips(exchanges, flows, record)
    known = (trip >= 0) & (record["time"] == winning[of[flows]])
    by_target[of[flows[known]]] = trip[known]
    return by_target[target]


def rows(exchanges: Exchanges, judged: Judged) -> Iterator[Verdict]:
    """The judged targets as verdicts, by scanner, address and port."""
    keys = target_keys(exchanges, judged.target)
    order = np.lexsort((keys[2], keys[1], keys[0], keys[3]))
    us, them, port, six = (column[order].tolist() for column in keys)
    names, record, rtt = Names(exchanges), judged.record[order], judged.rtt[order]
    reason, time, answered = record["reason"].tolist(), record["time"], RANK[record["reason"]] > 0
    words = words_of(record, HostFacts(*(fact[order] for fact in judged.facts)))
    for row in np.flatnonzero(judged.orphan[order]).tolist():
        words[row] = (*words[row], "probe-not-captured")
    for row in np.flatnonzero(~answered).tolist() if exchanges.cut_quotes else ():
        if (us[row], them[row]) in exchanges.cut_quotes:
            words[row] = (*words[row], "icmp-quote-truncated")
    return verdicts(
        map(names.text, them, six),
        port,
        map(STATE_WORD.__getitem__, reason),
        map(REASON_WORD.__getitem__, reason),
        repeat("tcp"),
        known(record["ttl"], answered),
        service_names(port),
        words,
        known(microseconds(rtt) / 1e3, rtt >= 0),
        known(microseconds(time) / 1e6, answered & (time != NO_TIME)),
        known(record["pass"], record["pass"] > 0),
        map(names.sender, record["sender"].tolist()),
        map(names.text, us, six),
    )


class Names:
    """Address numbers of one capture as text, each made once."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges
        self._known: dict[tuple[int, bool], str] = {}

    def text(self, number: int, six: bool) -> str:
        if (number, six) not in self._known:
            hi, lo = self._exchanges.words_of(np.array([number], np.uint64), np.array([six]))
            self._known[number, six] = word_text(int(hi[0]), int(lo[0]))
        return self._known[number, six]

    def sender(self, number: int) -> str | None:
        return raw_text(self._exchanges.senders.names[number]) if number else None
