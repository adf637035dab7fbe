"""Frames by Scapy: the one place that asks it how a packet looks.

A recipe is plain data and a frame is bytes, so whoever needs one does not care in which process Scapy was
imported (`ahead`). The fields that differ from frame to frame are zero; `probe` stamps them.

Scapy is imported by the first frame, not before, and without its routing tables, which nobody here asks for.
"""

from typing import Any, NamedTuple

OPTION_SETS = ("os", "mss", "none")
_MSS = {4: 1460, 6: 1440}


class Recipe(NamedTuple):
    """What to build: `kind` is syn, reset or query; our addresses as text, no `mac`: the frame begins with IP."""

    kind: str
    version: int
    address: str
    mac: str | None
    next_hop_mac: str | None = None
    options: str = "none"
    ttl: int = 64
    tos: int = 0
    stamp: int = 0  # the TCP timestamp value


def build(recipe: Recipe) -> bytes:
    """The frame, with every field zero that is still to be stamped."""
    _spare_the_routes()
    return bytes(_query(recipe) if recipe.kind == "query" else _segment(recipe))


def _spare_the_routes() -> None:
    from scapy.config import conf

    conf.route_autoload = conf.route6_autoload = False


def _segment(recipe: Recipe) -> Any:
    """A SYN, or the reset that answers a SYN/ACK (RFC 9293 3.10.7.3: sequence = the segment's acknowledgement)."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    mss = ("MSS", _MSS[recipe.version])
    sets = {
        "os": [mss, ("SAckOK", b""), ("Timestamp", (recipe.stamp, 0)), ("NOP", None), ("WScale", 7)],
        "mss": [mss],
        "none": [],
    }
    flags, window = ("S", 64240) if recipe.kind == "syn" else ("R", 0)
    tcp = TCP(sport=0, dport=0, seq=0, flags=flags, window=window, options=sets[recipe.options])
    if recipe.version == 4:
        packet = IP(src=recipe.address, dst="0.0.0.0", ttl=recipe.ttl, tos=recipe.tos, id=0, flags="DF", chksum=0) / tcp
    else:
        packet = IPv6(src=recipe.address, dst="::", hlim=recipe.ttl, tc=recipe.tos) / tcp
    if recipe.mac is None:
        return packet
    kind = 0x0800 if recipe.version == 4 else 0x86DD
    return Ether(src=recipe.mac, dst=recipe.next_hop_mac or "00:00:00:00:00:00", type=kind) / packet


def _query(recipe: Recipe) -> Any:
    """ARP (RFC 826) or neighbour solicitation (RFC 4861 4.3), sent from our address."""
    from scapy.layers.l2 import ARP, Ether

    if recipe.version == 4:
        request = ARP(op=1, hwsrc=recipe.mac, psrc=recipe.address, hwdst="00:00:00:00:00:00", pdst="0.0.0.0")
        return Ether(src=recipe.mac, dst="ff:ff:ff:ff:ff:ff", type=0x0806) / request
    from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6

    body = ICMPv6ND_NS(tgt="::", cksum=0) / ICMPv6NDOptSrcLLAddr(lladdr=recipe.mac)
    packet = IPv6(src=recipe.address, dst="::", hlim=255, nh=58) / body
    return Ether(src=recipe.mac, dst="33:33:ff:00:00:00", type=0x86DD) / packet


def frame_summary(frame: bytes, ethernet: bool) -> str:
    """One line about any frame, in Scapy's words; without a link header it begins with IP."""
    _spare_the_routes()
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    kind = Ether if ethernet else IPv6 if frame[:1] and frame[0] >> 4 == 6 else IP
    return str(kind(frame).summary())
