"""What waits until more has been read: replies before their probes, and flows that become many.

Replies that found no flow, because they stand before their probe, wait until more has been read, and so do SYNs that
were replies (`crossing`). Where flows become many, the older half is forgotten: what its replies said is folded into
one record for each target, and the rest is kept in columns (`forgotten`).
"""

import numpy as np

from ..packet.headers import Bools, Ints, Rows
from ..verdict.ledger import Replies
from ..verdict.table import Rank, Reason
from .crossing import both_ways_of, settle_crossing_syns
from .flows import ENDING, TAKEN, Flows
from .forgotten import merged
from .keys import FlowKey, Numbering

FEW_FLOWS = 1 << 19  # so many are kept in the tables in any case
_MANY_SYNS = 256  # of one flow, which then stays in the tables


def settle(flows: Flows) -> None:
    """At the end of the capture: find the probes of early replies, and the SYNs that were replies.

    Early replies stand before their probe in the file, and their acknowledgement is not the SYN's number + 1.
    """
    recall(flows)
    flows.forgotten.merge(flows.targets.count)
    early = _early(flows)
    records, key = flows.ledger.records(early), flows.keys(early)
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
        flows.fold(over)
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
    others, early = Numbering(), _early(flows)
    reset = early[flows.ledger.records(early)["reason"] == Reason.RESET]
    odd, long = flows.keys(reset), flows.long_syns.syn(flows.keys(early)) if flows.long_syns.count else None
    for each in (odd._replace(seq=odd.seq + 1), long):  # see `settle`
        if each is not None:
            others.intern(*each.words())
    both = both_ways_of(flows)

    def belongs(facts: Rows) -> Bools:
        target = facts["target"].astype(np.int64)
        mine = FlowKey(target, facts["our_port"], facts["seq"])
        found = flows.find(mine) >= 0
        if others.count:
            found |= others.find(*mine.words()) >= 0
        return np.asarray(found | (both[target] & (facts["seen"] == 0)))

    flows.recall(*merged(flows.forgotten.take(belongs)))
