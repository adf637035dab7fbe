"""Which MAC address has that neighbour?

On-link targets need their own MAC address and remote ones the gateway's. The kernel could be asked
for each, but its table is small, slow to fill and not ours to fill; so queries (ARP, RFC 826; neighbour
solicitation, RFC 4861) go through the same ring, order, passes and pacing as probes, and the answers are read here from
the same frames. A host that never answers is down: its ports are not probed.

An answer is taken only for an address we asked for. It proves nothing more: on a shared link
anybody can answer for anybody, as for every other program on it.
"""

from collections.abc import Callable

import numpy as np

from ..packet.addresses import from_words
from ..packet.headers import (
    ARP,
    ETHERNET,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV6,
    IPV6,
    LINK_ETHERNET,
    MAPPED,
    PROTO_ICMPV6,
    Bytes,
    Frames,
    Ints,
    Rows,
    read,
)
from ..packet.probe import NDP_FIXED, NDP_OPTION, Query, stamp_query
from ..rounds.passes import Passes
from ..verdict import loss as retry
from ..verdict.ledger import Ledger, Replies, blank
from ..verdict.table import Reason
from .lane import Lane

MOST_PASSES = 8
_ARP_REPLY, _ADVERTISEMENT, _TARGET_LINK_ADDRESS = 2, 136, 2


def answers(frames: Frames) -> tuple[Ints, Rows, Rows]:
    """ARP replies and neighbour advertisements: rows in `frames`, whose address (ADDRESS[m]), which MAC (V6[m])."""
    if not len(frames) or frames.link[0] != LINK_ETHERNET:
        return np.zeros(0, np.int64), from_words(0, 0, 0), np.zeros(0, "V6")
    kind = read(frames.buffer, frames.start, ETHERNET)["type"]
    parts = [_arp(frames, np.flatnonzero(kind == ETHERTYPE_ARP)), _ndp(frames, np.flatnonzero(kind == ETHERTYPE_IPV6))]
    rows, address, mac = (np.concatenate(column) for column in zip(*parts, strict=True))
    return rows, address, mac


def _arp(frames: Frames, rows: Ints) -> tuple[Ints, Rows, Rows]:
    rows = rows[frames.length[rows] >= ETHERNET.itemsize + ARP.itemsize]
    body = read(frames.buffer, frames.start[rows] + ETHERNET.itemsize, ARP)
    reply = (body["operation"] == _ARP_REPLY) & (body["hardware_length"] == 6) & (body["protocol_length"] == 4)
    body = body[reply]
    return (
        rows[reply],
        from_words(0, body["sender"].astype(np.uint64) | np.uint64(MAPPED), len(body)),
        body["sender_mac"],
    )


def _ndp(frames: Frames, rows: Ints) -> tuple[Ints, Rows, Rows]:
    body_at = ETHERNET.itemsize + IPV6.itemsize
    rows = rows[frames.length[rows] >= body_at + NDP_FIXED.itemsize]
    ip = read(frames.buffer, frames.start[rows] + ETHERNET.itemsize, IPV6)
    body = read(frames.buffer, frames.start[rows] + body_at, NDP_FIXED)
    # Hop limit 255 proves that no router passed it on (RFC 4861 7.1.2).
    reply = (ip["next_header"] == PROTO_ICMPV6) & (ip["hop_limit"] == 255) & (body["icmp"]["type"] == _ADVERTISEMENT)
    rows, body = rows[reply], body[reply]
    ethernet = read(frames.buffer, frames.start[rows], ETHERNET)
    option = read(frames.buffer, frames.start[rows] + body_at + NDP_FIXED.itemsize, NDP_OPTION)  # it may be left out
    has_option = (frames.length[rows] >= body_at + NDP_FIXED.itemsize + NDP_OPTION.itemsize) & (
        option["kind"] == _TARGET_LINK_ADDRESS
    )
    mac = np.where(has_option, option["mac"], ethernet["src"])
    return rows, from_words(body["target_hi"], body["target_lo"], len(rows)), mac


class Sweep:
    """Queries for a block of addresses, in passes; `macs` V6[n] fills up as they answer."""

    def __init__(self, addresses: Rows, query: Query, key: int, slot_of: Callable[[Rows], Ints]) -> None:
        self.macs = np.zeros(len(addresses), "V6")
        self.passes = Passes(Ledger(len(addresses)), key)
        self.heard = np.zeros(retry.MAX_PASSES, np.int64)  # first answers by pass; of a split window's both parts
        self._addresses, self._query, self._slot_of = addresses, query, slot_of

    kind = "query"

    @property
    def current(self) -> Passes:
        """The rounds that are under way."""
        return self.passes

    @property
    def length(self) -> int:
        """Bytes of each frame."""
        return self._query.length

    def fill(self, rows: Bytes, now: int) -> Ints:
        """Stamp the next queries into `rows`; returns the items they are for."""
        items = self.passes.take(len(rows), now)
        if len(items):
            stamp_query(self._query, rows[: len(items)], self._addresses[items])
        return items

    def learn(self, address: Rows, mac: Rows, time: Ints) -> Ints:
        """Take answers in; returns the round-trip times of the new ones in nanoseconds."""
        slot = self._slot_of(address)
        ours = np.flatnonzero(slot >= 0)
        record = blank(len(ours))
        record["reason"], record["time"], record["pass"] = Reason.RESET, time[ours], self.passes.number
        slot = slot[ours]
        fresh = self.passes.ledger.fold(Replies(slot, record))
        self.macs[slot[fresh]] = mac[ours[fresh]]
        self.heard[max(0, self.passes.number - 1)] += len(fresh)
        sent = self.passes.sent_at(slot[fresh], record["pass"][fresh])
        return time[ours[fresh]][sent > 0] - sent[sent > 0]

    def assess(self) -> retry.Estimate:
        """How many hosts were probably missed so far, by the passes in which the others answered."""
        return retry.estimate(self.heard[: self.passes.complete])

    def enough(self, bound: float) -> bool:
        """Whether another round is not worth it: fewer than `bound` hosts are expected to be missed."""
        return retry.enough(self.passes.complete, MOST_PASSES, self.assess(), bound)

    @property
    def answered(self) -> int:
        """Addresses that have answered."""
        return self.passes.ledger.answered


class GatewaySweep(Sweep):
    """The sweep for one lane's gateway."""

    def __init__(self, lane: Lane, key: int) -> None:
        assert lane.gateway is not None
        assert lane.query is not None
        gateway = lane.gateway
        super().__init__(
            gateway, lane.query, key, lambda address: np.where(address == gateway[0], 0, -1).astype(np.int64)
        )
        self.lane = lane
