"""Packets in tunnels of every kind, made by Scapy, and a few by hand that Scapy does not make."""

import struct
from collections.abc import Callable

from scapy.contrib.erspan import ERSPAN_I, ERSPAN_II, ERSPAN_III, ERSPAN_PlatformSpecific
from scapy.contrib.geneve import GENEVE
from scapy.contrib.gtp import GTP_U_Header, GTPPDUSessionContainer
from scapy.layers.inet import GRE, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

Wrap = Callable[[bytes, int], bytes]  # an inner IP packet and the id of the tunnel → a frame with Ethernet

MACS = {"src": "02:00:00:00:00:03", "dst": "02:00:00:00:00:04"}  # without them Scapy asks the network
OUTSIDE = {"src": "192.0.2.1", "dst": "192.0.2.2"}
OUTSIDE6 = {"src": "2001:db8:ffff::1", "dst": "2001:db8:ffff::2"}


def inner(packet: bytes) -> Packet:
    """An Ethernet frame around an IP packet."""
    return Ether(**MACS, type=ethertype(packet)) / Raw(packet)


def ethertype(packet: bytes) -> int:
    return 0x800 if packet[0] >> 4 == 4 else 0x86DD


def over(*layers: Packet, outside: Packet | None = None) -> bytes:
    packet = Ether(**MACS) / (IP(**OUTSIDE) if outside is None else outside)
    for layer in layers:
        packet = packet / layer
    return bytes(packet)


def udp(port: int) -> Packet:
    return UDP(sport=50000, dport=port)


def _gre(packet: bytes, key: int, **flags: int) -> bytes:
    return over(GRE(proto=ethertype(packet), key_present=1, key=key, **flags), Raw(packet))


def _geneve_options(packet: bytes, vni: int) -> bytes:
    header = struct.pack(">BBHI", 2, 0, 0x6558, vni << 8) + b"\x01\x02\x80\x01" + b"opts"
    return over(udp(6081), Raw(header + bytes(inner(packet))))


# By name: how a packet is wrapped, and what the row says of the tunnel with the id 7.
WRAPS: dict[str, tuple[Wrap, str]] = {
    "gre": (lambda packet, _: over(GRE(proto=ethertype(packet)), Raw(packet)), "gre"),
    "gre with a key": (_gre, "gre:7"),
    "gre with all fields": (lambda packet, key: _gre(packet, key, chksum_present=1, seqnum_present=1), "gre:7"),
    "gre over ipv6": (
        lambda packet, _: over(GRE(proto=ethertype(packet)), Raw(packet), outside=IPv6(**OUTSIDE6)), "gre",
    ),
    "gretap": (lambda packet, key: over(GRE(proto=0x6558, key_present=1, key=key), inner(packet)), "gre:7"),
    "gre with a label": (lambda packet, _: over(GRE(proto=0x8847), Raw(b"\0\0\x11\x40" + packet)), "gre"),
    "vxlan": (lambda packet, vni: over(udp(4789), VXLAN(vni=vni, flags=8), inner(packet)), "vxlan:7"),
    "vxlan of linux": (lambda packet, vni: over(udp(8472), VXLAN(vni=vni, flags=8), inner(packet)), "vxlan:7"),
    "vxlan over ipv6": (
        lambda packet, vni: over(udp(4789), VXLAN(vni=vni, flags=8), inner(packet), outside=IPv6(**OUTSIDE6)),
        "vxlan:7",
    ),
    "vxlan with a vlan inside": (
        lambda packet, vni: over(
            udp(4789), VXLAN(vni=vni, flags=8), Ether(**MACS, type=0x8100), Dot1Q(vlan=5, type=ethertype(packet)),
            Raw(packet),
        ),
        "vxlan:7",
    ),
    "geneve": (lambda packet, vni: over(udp(6081), GENEVE(vni=vni, proto=0x6558), inner(packet)), "geneve:7"),
    "geneve with ip": (
        lambda packet, vni: over(udp(6081), GENEVE(vni=vni, proto=ethertype(packet)), Raw(packet)), "geneve:7",
    ),
    "geneve with options": (_geneve_options, "geneve:7"),
    "erspan 1": (lambda packet, _: over(GRE(proto=0x88BE), ERSPAN_I() / inner(packet)), "erspan"),
    "erspan 2": (
        lambda packet, session: over(
            GRE(proto=0x88BE, seqnum_present=1), ERSPAN_II(session_id=session, vlan=9), inner(packet)
        ),
        "erspan:7",
    ),
    "erspan 3": (
        lambda packet, session: over(
            GRE(proto=0x22EB, seqnum_present=1), ERSPAN_III(session_id=session, vlan=9), inner(packet)
        ),
        "erspan:7",
    ),
    "erspan 3 with a platform header": (
        lambda packet, session: over(
            GRE(proto=0x22EB, seqnum_present=1), ERSPAN_III(session_id=session, o=1), ERSPAN_PlatformSpecific(),
            inner(packet),
        ),
        "erspan:7",
    ),
    "gtp-u": (lambda packet, teid: over(udp(2152), GTP_U_Header(teid=teid, gtp_type=255), Raw(packet)), "gtp-u:7"),
    "gtp-u with a sequence number": (
        lambda packet, teid: over(udp(2152), GTP_U_Header(teid=teid, gtp_type=255, S=1, seq=3), Raw(packet)), "gtp-u:7",
    ),
    "gtp-u with an extension": (
        lambda packet, teid: over(
            udp(2152), GTP_U_Header(teid=teid, gtp_type=255, E=1, next_ex=0x85), GTPPDUSessionContainer(QFI=1),
            Raw(packet),
        ),
        "gtp-u:7",
    ),
}  # fmt: skip


def ipip(packet: bytes) -> bytes:
    """IPv4 in IPv4, IPv6 in IPv4 (6in4)."""
    return over(Raw(packet), outside=IP(proto=4 if packet[0] >> 4 == 4 else 41, **OUTSIDE))


def in_ipv6(packet: bytes) -> bytes:
    """IPv4 or IPv6 in IPv6 (RFC 2473)."""
    return over(Raw(packet), outside=IPv6(nh=4 if packet[0] >> 4 == 4 else 41, **OUTSIDE6))


def vxlan(packet: bytes, vni: int = 7) -> bytes:
    return WRAPS["vxlan"][0](packet, vni)


def gtp(packet: bytes, teid: int) -> bytes:
    return WRAPS["gtp-u"][0](packet, teid)


def gre_key(packet: bytes, key: int) -> bytes:
    return _gre(packet, key)


def nested(packet: bytes, times: int) -> bytes:
    """An IP packet in so many GRE tunnels."""
    for _ in range(times):
        packet = bytes(IP(**OUTSIDE) / GRE(proto=ethertype(packet)) / Raw(packet))
    return bytes(Ether(**MACS, type=0x800) / Raw(packet))
