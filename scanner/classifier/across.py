"""Replies that come back through another tunnel than their probe, or in a later scan.

The number of a tunnel is a part of every target's key, because two customers may both have 10.0.0.1. But some tunnels
have one id for each direction: the receiver chooses the TEID of GTP-U, and a mirror may send both directions in
sessions of their own. A reply to a packet in an IPIP tunnel often comes back without any (direct server return). Such
replies have found no flow in their own tunnel. They belong to the probe that has the same addresses and ports and the
sequence number that they acknowledge, if there is exactly one, and if neither side names a customer (VNI, GRE key).

With `--gap`, an answer may come when the next scan of its target has begun. Then it belongs to the scan before that one
if its acknowledgement names a probe there.

Limit: of tunnels only flows that are still in the tables at the end of the capture are looked at.
"""

import numpy as np

from ..packet.headers import Bools, Ints, Rows
from .flows import TAKEN, Flows
from .forgotten import merged
from .keys import FlowKey, Numbering, TargetKey
from .settle import take_replies


def settle_tunnels(flows: Flows) -> None:
    """At the end of the capture: fold these replies into the flows of their probes."""
    if flows.tunnels is None or not flows.tunnels.packets.any():
        return
    table = flows.table
    sent = table["probes"] > 0
    early = np.flatnonzero(~sent & flows.ledger.was_answered() & (table["marks"] & TAKEN == 0))
    probe = np.flatnonzero(sent)
    probe = probe[_nameless(flows, probe) & (_tunnel(flows, probe) > 0)]
    early = early[_nameless(flows, early)]
    if not probe.size or not early.size:
        return
    targets, numbers = Numbering(), Numbering()
    first = numbers.intern(*_plain(flows, probe, targets).words())
    flow_of = np.full(numbers.count, -1, np.int64)
    flow_of[first] = probe
    flow_of[np.bincount(first) > 1] = -1  # the same probe in two tunnels: which one was answered?
    number = numbers.find(*_plain(flows, early, targets).words())
    found = np.where(number >= 0, flow_of[number], -1)
    settled = found >= 0
    early, probe = early[settled], found[settled]
    take_replies(flows, early, probe)
    flows.reached.add(flows.target_keys(flows.keys().take(probe).target).us)


def settle_scans(flows: Flows) -> None:
    """At the end of the capture: an answer that came when the next scan of its target had begun joins its probe."""
    if flows.scans is None:
        return
    table = flows.table
    early = np.flatnonzero((table["probes"] == 0) & flows.ledger.was_answered() & (table["marks"] & TAKEN == 0))
    key = flows.keys().take(early)
    us, them, port = flows.target_keys(key.target)
    scan = flows.addresses.scan(them)
    before = TargetKey(us, flows.addresses.in_scan(them, np.maximum(scan - 1, 0)), port)
    target = flows.targets.find(*before.words())
    later = np.flatnonzero((scan > 0) & (target >= 0))
    if not later.size:
        return
    early, key = early[later], key._replace(target=target).take(later)
    wanted = Numbering()
    wanted.intern(*key.words())

    def belongs(facts: Rows) -> Bools:
        mine = FlowKey(facts["target"].astype(np.int64), facts["our_port"], facts["seq"])
        return np.asarray(wanted.find(*mine.words()) >= 0)

    flows.recall(*merged(flows.forgotten.take(belongs)))
    probe = flows.find(key)
    sent = (probe >= 0) & (flows.table["probes"][probe] > 0)
    take_replies(flows, early[sent], probe[sent])


def tunnel_texts(flows: Flows, address: Ints) -> tuple[Ints, list[str | None]]:
    """A number for the tunnel of each address (a number of AddressNumbers), and the texts by number."""
    tunnel = flows.addresses.outside(address)[1]
    if flows.tunnels is None or not tunnel.any():
        return tunnel, [None]
    distinct, number = np.unique(tunnel, return_inverse=True)
    return number.ravel(), list(map(flows.tunnels.text, distinct.tolist()))


def _tunnel(flows: Flows, flow: Ints) -> Ints:
    us = flows.target_keys(flows.keys().take(flow).target).us
    return flows.addresses.outside(us)[1]


def _nameless(flows: Flows, flow: Ints) -> Bools:
    """Which flows are outside of tunnels, or in tunnels that do not name their customer."""
    assert flows.tunnels is not None, "there are tunnels"
    distinct, back = np.unique(_tunnel(flows, flow), return_inverse=True)
    return ~np.array([flows.tunnels.names_its_customer(tunnel) for tunnel in distinct.tolist()], np.bool_)[back]


def _plain(flows: Flows, flow: Ints, targets: Numbering) -> FlowKey:
    """The keys that flows would have without tunnels; `targets` numbers their targets."""
    key = flows.keys().take(flow)
    us, them, port = flows.target_keys(key.target)
    plain = TargetKey(flows.addresses.outside(us)[0], flows.addresses.outside(them)[0], port)
    return key._replace(target=targets.intern(*plain.words()))
