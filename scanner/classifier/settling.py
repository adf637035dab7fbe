"""What can only be known when more has been read: replies that found no flow, and SYNs that were replies.

A reply may stand before its probe in the file, and then only exact keys find it; resets that acknowledge the probe's
own number and answers to the data behind a SYN do not have them. And of two hosts that send each other SYNs on the same
pair of ports, the later SYN is the reply to the earlier one (split handshake or simultaneous open), if it comes soon
and nothing else had answered. Otherwise they are two probes that happen to cross.
"""

import numpy as np

from ..packet.headers import Bools, Ints
from ..verdict.ledger import Mark, Replies
from ..verdict.table import RANK, Reason
from .flows import TAKEN, Exchanges

ANSWERED_WITHIN = 3_000_000_000  # ns between a SYN and one that answers it


def settle(exchanges: Exchanges) -> None:
    """What can only be known at the end: resets and bare SYNs that found no flow when they were read."""
    _settle_early(exchanges)
    settle_bare_syns(exchanges)


def _settle_early(exchanges: Exchanges) -> None:
    """Replies read before their probe: resets that acknowledge its own number, and answers to data behind a SYN."""
    n = exchanges.flows.count
    flows = np.flatnonzero((exchanges.probes[:n] == 0) & exchanges.ledger.was_answered())
    records = exchanges.ledger.records(flows)
    keys = exchanges.flows.keys[flows]
    low = np.uint64(0xFFFFFFFF)
    other = exchanges.flows.find(keys[:, 0] & ~low | (keys[:, 0] + np.uint64(1)) & low, keys[:, 1].copy())
    other[records["reason"] != Reason.RESET] = -1
    if exchanges.behind:
        of, our_port, seq = (column[flows] for column in flow_keys(exchanges))
        behind = exchanges.flow_behind(of, our_port.astype(np.uint16), seq.astype(np.uint32))
        other = np.where(behind >= 0, behind, other)
    known = np.flatnonzero((other >= 0) & (exchanges.probes[other] > 0))
    exchanges.ledger.fold(Replies(other[known], records[known]))
    exchanges.marks[flows[known]] |= TAKEN


def settle_bare_syns(exchanges: Exchanges) -> None:
    """SYNs that answer an earlier SYN the other way: a reply, and no probe of their own."""
    scanner, target, port, six = target_keys(exchanges, np.arange(exchanges.targets.count))
    both = np.isin(scanner, np.unique(target)) & np.isin(target, np.unique(scanner))
    if not both.any():
        return
    of, our_port, seq = flow_keys(exchanges)
    probed = exchanges.probes[: len(of)] > 0
    by_pair: dict[tuple[int, ...], list[int]] = {}
    rows = np.flatnonzero(probed & both[of])
    for flow in rows[np.argsort(exchanges.first[rows], kind="stable")].tolist():
        t = of[flow]
        here = (int(scanner[t]), int(target[t]), int(port[t]), int(our_port[flow]), int(six[t]))
        back = (here[1], here[0], here[3], here[2], here[4])
        waiting = by_pair.get(back, [])
        earlier = next((other for other in reversed(waiting) if seq[other] != seq[flow]), None)
        if earlier is not None and _may_answer(exchanges, earlier, flow):
            _fold_bare_syn(exchanges, earlier, flow)
        else:
            by_pair.setdefault(here, []).append(flow)


def _may_answer(exchanges: Exchanges, probe: int, syn: int) -> bool:
    """Whether a SYN may be the reply to an earlier one the other way: soon after it, and before any other reply."""
    first, last = int(exchanges.first[probe]), int(exchanges.first[syn])
    if last - first > ANSWERED_WITHIN:
        return False
    record = exchanges.ledger.records(np.array([probe]))[0]
    return not (RANK[record["reason"]] >= 2 and record["time"] < last)


def _fold_bare_syn(exchanges: Exchanges, probe: int, syn: int) -> None:
    record = exchanges.ledger.records(np.array([probe])).copy()
    record[:] = 0
    record["reason"], record["time"], record["pass"] = Reason.SPLIT_HANDSHAKE_SYN, exchanges.first[syn], 1
    record["marks"], record["ttl"] = Mark.UNVERIFIED, exchanges.ttl[syn]
    exchanges.ledger.fold(Replies(np.array([probe]), record))
    exchanges.probes[syn] = 0
    exchanges.marks[syn] |= TAKEN


def target_keys(exchanges: Exchanges, targets: Ints) -> tuple[Ints, Ints, Ints, Bools]:
    """Scanner number, target number, port and "is IPv6" of each target."""
    a, b = exchanges.targets.keys[targets, 0], exchanges.targets.keys[targets, 1]
    scanner, target = (a >> np.uint64(32)).view(np.int64), (a & np.uint64(0xFFFFFFFF)).view(np.int64)
    return scanner, target, (b & np.uint64(0xFFFF)).view(np.int64), b >> np.uint64(16) > 0


def flow_keys(exchanges: Exchanges) -> tuple[Ints, Ints, Ints]:
    """Target, source port and sequence number of each flow."""
    keys = exchanges.flows.keys
    low = np.uint64(0xFFFFFFFF)
    return (keys[:, 0] >> np.uint64(32)).view(np.int64), keys[:, 1].view(np.int64), (keys[:, 0] & low).view(np.int64)
