"""Which MAC address a neighbour has: queries out, answers in.

Targets on the link need their own MAC address, and remote ones that of the gateway. The kernel's neighbour table is
small and slow to fill, and a scan must not fill it. So queries (ARP, RFC 826; neighbour solicitation, RFC 4861) leave
through the same ring, order, passes and rate as probes, and the answers are read here from the same frames. A host
that never answers is down: its ports are not probed.

An answer is taken only for an address that was queried. It proves no more than that: on a shared link any host can
answer for any other. The first answer counts. That a second one came from another MAC address is told (`TwoMacs`): two
hosts have the address, or one forges answers.
"""

from collections import Counter

import numpy as np

from ..packet.addresses import from_ipv4, from_words, raw_text, to_text
from ..packet.headers import (
    ARP,
    ETHERNET,
    ETHERTYPE_ARP,
    ETHERTYPE_IPV6,
    IPV6,
    LINK_ETHERNET,
    NDP_FIXED,
    NDP_OPTION,
    PROTO_ICMPV6,
    Frames,
    Ints,
    Rows,
    read,
)
from ..rounds.sweep import Sweep
from .lane import Lane

GATEWAY_PASSES = 3
MOST_NAMED, FURTHER = 100, "further addresses"  # with two MAC addresses
_ARP_REPLY, _ADVERTISEMENT, _TARGET_LINK_ADDRESS = 2, 136, 2
_HOP_LIMIT = 255  # RFC 4861 7.1.2: no router passed the packet on


def answers(frames: Frames) -> tuple[Ints, Rows, Rows]:
    """ARP replies and neighbour advertisements: rows in `frames`, whose address (ADDRESS[m]), which MAC (V6[m])."""
    if not len(frames) or frames.link[0] != LINK_ETHERNET:
        return np.zeros(0, np.int64), from_words(0, 0, 0), np.zeros(0, "V6")
    ethertype = read(frames.buffer, frames.start, ETHERNET)["type"]
    arp, ndp = (np.flatnonzero(ethertype == kind) for kind in (ETHERTYPE_ARP, ETHERTYPE_IPV6))
    row, address, mac = (np.concatenate(column) for column in zip(_arp(frames, arp), _ndp(frames, ndp), strict=True))
    return row, address, mac


def _arp(frames: Frames, row: Ints) -> tuple[Ints, Rows, Rows]:
    row = row[frames.length[row] >= ETHERNET.itemsize + ARP.itemsize]
    body = read(frames.buffer, frames.start[row] + ETHERNET.itemsize, ARP)
    reply = (body["operation"] == _ARP_REPLY) & (body["hardware_length"] == 6) & (body["protocol_length"] == 4)
    body = body[reply]
    address = from_ipv4(body["sender"])
    return row[reply], address, body["sender_mac"]


def _ndp(frames: Frames, row: Ints) -> tuple[Ints, Rows, Rows]:
    body_at = ETHERNET.itemsize + IPV6.itemsize
    row = row[frames.length[row] >= body_at + NDP_FIXED.itemsize]
    ip = read(frames.buffer, frames.start[row] + ETHERNET.itemsize, IPV6)
    body = read(frames.buffer, frames.start[row] + body_at, NDP_FIXED)
    reply = (ip["next_header"] == PROTO_ICMPV6) & (ip["hop_limit"] == _HOP_LIMIT)
    reply &= body["icmp"]["type"] == _ADVERTISEMENT
    row, body = row[reply], body[reply]
    # RFC 4861 4.4: the option with the link-layer address may be left out. Then the sender of the frame has it.
    option_at = body_at + NDP_FIXED.itemsize
    option = read(frames.buffer, frames.start[row] + option_at, NDP_OPTION)
    present = (frames.length[row] >= option_at + NDP_OPTION.itemsize) & (option["kind"] == _TARGET_LINK_ADDRESS)
    mac = np.where(present, option["mac"], read(frames.buffer, frames.start[row], ETHERNET)["src"])
    return row, from_words(body["target_hi"], body["target_lo"], len(row)), mac


class TwoMacs:
    """Addresses that answered from more than one MAC address; `found` counts their further answers, by name."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._names: dict[bytes, str] = {}

    def look(self, sweep: Sweep, host: Ints, address: Rows, mac: Rows) -> None:
        """Take in answers: host numbers (-1: not one of the sweep), ADDRESS[n], V6[n], after the sweep has learnt."""
        known = np.flatnonzero(host >= 0)
        known = known[~sweep.silent(host[known])]
        other = known[sweep.macs[host[known]] != mac[known]]
        for row in other[:MOST_NAMED].tolist():
            key = address[row].tobytes()
            if key not in self._names and len(self._names) < MOST_NAMED:
                macs = " and ".join(sorted(each.tobytes().hex(":") for each in (sweep.macs[host[row]], mac[row])))
                self._names[key] = f"{raw_text(key)} ({macs})"
            self.found[self._names.get(key, FURTHER)] += 1
        if len(other) > MOST_NAMED:  # a flood of answers is only counted
            self.found[FURTHER] += len(other) - MOST_NAMED


class GatewaySweep:
    """The sweep for the gateway of one lane: the first one, or one that finds out whether it has changed."""

    def __init__(self, lane: Lane, key: int, first: bool = True) -> None:
        assert lane.gateway is not None
        self.lane, self.address, self.first = lane, lane.gateway, first
        self.sweep = Sweep(1, key)

    @property
    def name(self) -> str:
        """The gateway and its interface, for messages."""
        return f"{to_text(self.address)[0]} on {self.lane.name}"

    def host_of(self, address: Rows) -> Ints:
        """0 for the gateway, -1 for other addresses."""
        return np.where(address == self.address[0], 0, -1).astype(np.int64)
