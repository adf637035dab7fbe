"""SYNs that were replies, and SYNs that were echoes.

Of two hosts that send each other SYNs on the same pair of ports, the later SYN is the reply to the earlier one (split
handshake or simultaneous open: RFC 9293, 3.5), if it comes soon and nothing else answered before. Otherwise they are
two probes that cross. A SYN that comes back with its own number is an echo, and no probe. Nothing of this depends on
the order in the file: times decide, and addresses where times are equal.
"""

import numpy as np

from ..packet.headers import Bools
from ..verdict.ledger import Replies, blank
from ..verdict.table import RANK, Reason, Rejected
from .addresses import among
from .flows import TAKEN, Flows

ANSWERED_WITHIN = 3_000_000_000  # ns between a SYN and one that answers it
_PIECE = 1 << 16  # targets that are handled at once


def settle_crossing_syns(flows: Flows) -> None:
    """SYNs that answer an earlier SYN the other way: they are replies, and no probes of their own."""
    both = both_ways_of(flows)
    if not both.any():
        return
    target, our_port, seq = flows.keys()
    first = flows.table["first"]
    candidate = np.flatnonzero((flows.table["probes"] > 0) & both[target])
    unanswered: dict[tuple[int, ...], list[int]] = {}  # SYNs by (prober, target, source port, port), in order of time
    us, them, port = flows.target_keys(target[candidate])
    them = flows.addresses.in_scan(them, 0)  # a target is a prober in none of its scans
    # At equal times the addresses and ports decide, because the numbers of flows differ from run to run.
    order = np.lexsort((seq[candidate], port, our_port[candidate], them, us, first[candidate]))
    for row in order.tolist():
        flow = int(candidate[row])
        ours, theirs = (int(us[row]), int(our_port[flow])), (int(them[row]), int(port[row]))
        # A host chooses its own initial number (RFC 9293, 3.4.1): a SYN with the number of the probe is its echo.
        crossed = unanswered.get((*theirs, *ours), [])[::-1]
        probe = next((other for other in crossed if seq[other] != seq[flow]), None)
        if ours != theirs and any(seq[other] == seq[flow] for other in crossed):
            flows.counts[Rejected.OWN_PROBE.value] += int(flows.table["probes"][flow])
            flows.table["probes"][flow] = 0
            flows.table["marks"][flow] |= TAKEN
            flows.reached.add(them[row : row + 1])
        elif probe is not None and _may_answer(flows, probe, flow):
            _fold_crossing_syn(flows, probe, flow)
        else:
            unanswered.setdefault((*ours, *theirs), []).append(flow)


def both_ways_of(flows: Flows) -> Bools:
    """By target: whether its prober is a target of somebody, and the target a prober. False where no SYNs can cross."""
    count = flows.targets.count
    both = np.zeros(count, np.bool_)
    if not flows.may_cross:
        return both
    pieces = [slice(at, at + _PIECE) for at in range(0, count, _PIECE)]
    for piece in pieces:
        us, them, _ = flows.target_keys(piece)
        both[piece] = flows.probers.may_have(flows.addresses.in_scan(them, 0)) & flows.probed.may_have(us)
    # The filters let few others pass. These are compared with all targets.
    few = np.flatnonzero(both)
    us = flows.target_keys(few).us
    found = np.zeros(len(few), np.bool_)
    for piece in pieces if few.size else ():
        found |= among(us, flows.target_keys(piece).them)
    both[few] = found
    return both


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
