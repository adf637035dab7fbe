"""What the packets show that answered no probe, when the whole capture has been read.

Silent targets come first: where the SYN/ACK is missing but the connection goes on, the port is open, and where the
target sent anything else, or the prober sent the ACK of a handshake, it was not silent. Then everything that is left is
counted by cause, with the names of a live scan where it has them (`verdict.table.Rejected`):

- `bad-cookie`: a SYN/ACK, a reset or an ICMP error for a probed target that acknowledges or quotes no probe.
- `not-asked`: an answer from a target that nothing in the capture probed.
- `no-verdict`: a TCP segment of a silent target whose flags say nothing; also ICMP that the table does not have.
- `FIN scan` and so on: packets of scans that are no SYN scans.
- `other-tcp`: segments and ends of connections, which were begun here or earlier.
"""

from collections.abc import Iterator

import numpy as np

from ..packet.headers import Bools, Ints, Rows
from ..verdict.ledger import Mark, blank
from ..verdict.table import RANK, Rank, Reason, Rejected
from .flow_numbers import NEVER
from .flows import ENDING, TAKEN, Flows
from .keys import Column, TargetKey

_HANDSHAKE = np.uint16(Mark.HANDSHAKE_COMPLETED)
_RESET = np.uint32(1 << Reason.RESET)
_PROOFS = np.uint32(sum(1 << reason for reason in Reason if RANK[reason] >= Rank.CLOSED))
OTHER_TCP, SCAN = "other-tcp", " scan"
_PIECE = 1 << 16  # flows that are handled at once


def hear(flows: Flows, wanted: Ints) -> tuple[int, Ints]:
    """Give silent targets in `flows.retired` what their connections show. `wanted`: flows of the tables, folded there.

    Returns the number of segments that prove nothing, and the targets whose reset has ended such a connection.
    """
    without, resets = 0, [np.zeros(0, np.int64)]
    if not flows.conversations.count and not _went_on(flows):
        return without, resets[0]
    for facts in _pieces(flows, wanted):
        # A reset with a sequence number of its own may end a connection; any other one is an answer.
        ended = (facts["seen"] & _PROOFS == _RESET) & (facts["marks"] & ENDING > 0)
        without_proof = ended | (facts["seen"] & _PROOFS == 0)
        facts, ended = facts[without_proof], ended[without_proof]
        target = facts["target"].astype(np.int64)
        went_on = facts["marks"] & _HANDSHAKE > 0
        key = flows.target_keys(target)
        heard = flows.conversations.heard(key, facts["our_port"], facts["seq"], facts["first"], went_on)
        row = np.flatnonzero(heard.proved | (heard.answered & (facts["seen"] == 0)))
        row = row[flows.reached.has(key.us[row])]  # or else the capture holds one direction
        if not row.size:
            continue
        target, proved = target[row], heard.proved[row]
        record = blank(len(row))
        record["reason"] = np.where(proved, Reason.SYN_ACK, Reason.REPLY_NOT_CAPTURED)
        record["marks"] = np.where(proved, Mark.REPLY_NOT_CAPTURED, 0)
        record["time"], record["port"], record["ttl"] = NEVER, facts["our_port"][row], heard.ttl[row]
        flows.retired.add(target, record, facts["seq"][row])
        resets.append(target[proved & ended[row]])
        _, first = np.unique(target[~proved] << 16 | facts["our_port"][row][~proved], return_index=True)
        without += int(heard.segments[row][~proved][first].sum())
    return without, np.concatenate(resets)


def _went_on(flows: Flows) -> bool:
    """Whether some prober has sent the ACK of a handshake."""
    return any((facts["marks"] & _HANDSHAKE).any() for facts in (flows.table, *flows.forgotten.parts))


def only_ends(flows: Flows) -> Bools:
    """Flows of which nothing is known but a reset that ends some connection."""
    ends = flows.table["marks"] & ENDING > 0
    at = np.flatnonzero(ends)
    ends[at] = flows.ledger.records(at)["reason"] == Reason.RESET
    return np.asarray(ends)


def _pieces(flows: Flows, flow: Ints) -> Iterator[Rows]:
    """FACTS of all forgotten flows and of the given ones."""
    yield from flows.forgotten.parts
    for at in range(0, len(flow), _PIECE):
        yield flows.facts(flow[at : at + _PIECE])


def count_leftover(flows: Flows, probed: Bools, orphans: bool, without: int) -> None:
    """Count what answered no probe. `probed`: by target; `orphans`: answers without a captured probe have rows.

    `without`: segments of silent targets that prove nothing.
    """
    marks = flows.table["marks"]
    flow = np.flatnonzero((flows.table["probes"] == 0) & (marks & TAKEN == 0) & flows.ledger.was_answered())
    target, ending = flows.target_of(flow), only_ends(flows)[flow]
    replies = flows.ledger.records(flow)["replies"].astype(np.int64)
    opened = RANK[flows.retired.ledger.records(target)["reason"]] == Rank.OPEN
    # A reset that ends a connection acknowledges what the prober has sent, and not its SYN alone.
    wrong = probed[target] & ~(ending & opened)
    stray = ~probed[target] & ~ending
    flows.counts[Rejected.BAD_COOKIE.value] += int(replies[wrong].sum())
    flows.counts[Rejected.NOT_ASKED.value] += 0 if orphans else int(replies[stray].sum())
    others = flows.conversations.segments - without
    known = flows.conversations.count > 0
    flows.scanned = flows.conversations.scans(*_probes(flows), flows.reached) if known else {}
    for kind, scanned in flows.scanned.items():
        flows.counts[kind + SCAN] += int(scanned.packets.sum())
        others -= int(scanned.packets.sum())
    by_udp = flows.questions.scanned(flows.reached, flows.conversations)
    if len(by_udp.us):
        flows.scanned["UDP"] = by_udp
        flows.counts["UDP" + SCAN] += int(by_udp.packets.sum())
        flows.counts["other-protocol"] -= int(by_udp.packets.sum())
    flows.counts[Rejected.NO_VERDICT.value] += without
    flows.counts[OTHER_TCP] += others + int(replies[~wrong & ~stray].sum())


def _probes(flows: Flows) -> tuple[TargetKey, Column]:
    """The targets and source ports of all SYNs in the tables."""
    flow = np.flatnonzero(flows.table["probes"] > 0)
    key = flows.keys(flow)
    return flows.target_keys(key.target), key.our_port
