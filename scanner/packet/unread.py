"""What a batch of frames holds besides segments: frames that are not IP, by name, and addresses that were seen.

No verdict rests on these. But a frame that cannot be read is never dropped in silence: it is counted under a name that
tells a person what it was, such as "EtherType 0x88cc (LLDP)". The addresses show who is in the capture at all.

Sources: IANA, "IEEE 802 Numbers"; RFC 826 (ARP); RFC 768 (UDP).
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .addresses import from_ipv4
from .headers import ARP, U16, U64, UDP, Bytes, Ints, Rows, read
from .ip import Packets
from .link import Cause, Network

UNSUPPORTED_LINK = "link type"  # counts of such frames are keyed "link type N"
ETHERTYPE = "EtherType"  # counts of frames that hold another protocol are keyed "EtherType 0x88cc (LLDP)"
# Protocols that a reader of captures meets beside IP.
_ETHERTYPES = {
    0x0842: "wake-on-LAN", 0x8808: "flow control", 0x8809: "LACP", 0x8863: "PPPoE discovery", 0x888E: "802.1X",
    0x88CC: "LLDP", 0x88E5: "MACsec", 0x88E7: "PBB", 0x88F7: "PTP", 0x8902: "CFM", 0x8906: "FCoE", 0x894F: "NSH",
    0x9000: "loopback test",
}  # fmt: skip
_ARP_REQUEST, _ARP_REPLY = 1, 2


class Datagrams(NamedTuple):
    """UDP datagrams as columns: ADDRESS, ports, time in ns, the number of the tunnel."""

    src: Rows
    dst: Rows
    sport: Ints
    dport: Ints
    time: Ints
    tunnel: Ints


@dataclass
class Aside:
    """Addresses of a batch, as ADDRESS columns, each with the number of the tunnel it was seen in.

    `towards`: destinations of other IP packets and of ARP replies; `cut`: sender and receiver of ICMP errors that
    were cut off inside the quoted IP header; `arp`: requests and replies, each as the IPv4 address that asks << 32 |
    the address that is asked for; `udp`: datagrams that are no tunnel.
    """

    towards: list[tuple[Rows, Ints]] = field(default_factory=list)
    cut: list[tuple[Rows, Rows, Ints]] = field(default_factory=list)
    arp: list[tuple[U64, U64]] = field(default_factory=list)
    udp: list[Datagrams] = field(default_factory=list)


def count_unread(network: Network, link: U16 | int, counts: Counter[str]) -> None:
    """Count frames without an IP header by cause: link types and EtherTypes that are not read by their number."""
    cause = network.cause
    detail = np.where(cause == Cause.LINK_TYPE, link, np.where(cause == Cause.ETHERTYPE, network.ethertype, 0))
    pairs, numbers = np.unique((cause.astype(np.int64) << 16 | detail)[cause > 0], return_counts=True)
    for pair, number in zip(pairs.tolist(), numbers.tolist(), strict=True):
        code, detail = divmod(pair, 1 << 16)
        words = {Cause.LINK_TYPE: f"{UNSUPPORTED_LINK} {detail}", Cause.ETHERTYPE: ethertype_words(detail)}
        counts[words.get(Cause(code), Cause(code).words)] += number


def ethertype_words(number: int) -> str:
    """An EtherType as it is counted and printed."""
    name = f" ({_ETHERTYPES[number]})" if number in _ETHERTYPES else ""
    return f"{ETHERTYPE} 0x{number:04x}{name}"


def take_arp(buffer: Bytes, at: Ints, end: Ints, tunnel: Ints, aside: Aside) -> None:
    """Who asks for which address, and to whom replies were sent, from ARP at `at`."""
    whole = at + ARP.itemsize <= end
    body, tunnel = read(buffer, at[whole], ARP), tunnel[whole]
    four = body["protocol_length"] == 4
    request = body[four & (body["operation"] == _ARP_REQUEST)]
    is_reply = four & (body["operation"] == _ARP_REPLY)
    reply = body[is_reply]
    aside.towards.append((from_ipv4(reply["target"]), tunnel[is_reply]))
    aside.arp.append((_pairs(request["sender"], request["target"]), _pairs(reply["target"], reply["sender"])))


def take_udp(buffer: Bytes, packets: Packets, time: Ints, tunnel: Ints, aside: Aside) -> None:
    """Datagrams, each with its time and tunnel. Those that are cut before their ports are left out."""
    whole = packets.at + UDP.itemsize <= packets.end
    packets = packets.take(whole)
    ports = read(buffer, packets.at, UDP)
    sport, dport = (ports[name].astype(np.int64) for name in ("sport", "dport"))
    aside.udp.append(Datagrams(packets.src, packets.dst, sport, dport, time[whole], tunnel[whole]))


def _pairs(asker: Rows, asked: Rows) -> U64:
    return np.asarray(asker.astype(np.uint64) << np.uint64(32) | asked.astype(np.uint64))
