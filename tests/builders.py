"""Frames made by Scapy, for all unit tests.

No builder here uses the scanner's own field tables. So a wrong offset in the scanner cannot agree with itself.
Every argument has a default, and a test states only what it is about.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scapy.config import conf

conf.route_autoload = conf.route6_autoload = False

from scapy.layers.inet import ICMP, IP, TCP  # noqa: E402
from scapy.layers.inet6 import ICMPv6Unknown, IPv6  # noqa: E402
from scapy.layers.l2 import Ether  # noqa: E402
from scapy.packet import Packet  # noqa: E402

from scanner.packet.cookie import Key  # noqa: E402
from scanner.packet.headers import LINK_ETHERNET, LINK_RAW, Frames  # noqa: E402

US = {4: "198.18.0.1", 6: "2001:db8::1"}
THEM = {4: "198.18.1.7", 6: "2001:db8:1::7"}
ROUTER = {4: "198.18.9.9", 6: "2001:db8:9::9"}
OUR_MAC, THEIR_MAC = "02:00:00:00:00:01", "02:00:00:00:00:07"
OUR_PORT, THEIR_PORT = 40000, 443
KEY = Key(0x0706050403020100, 0x0F0E0D0C0B0A0908)
SECOND = 1_000_000_000


def wrap(packet: Packet, ethernet: bool, ours: bool = False) -> bytes:
    """An IP packet as bytes, with an Ethernet header if wished."""
    source, target = (OUR_MAC, THEIR_MAC) if ours else (THEIR_MAC, OUR_MAC)
    return bytes(Ether(src=source, dst=target) / packet if ethernet else packet)


def network(version: int, src: str, dst: str, ttl: int = 64, tos: int = 0, **more: Any) -> Packet:
    """An IP header of either family."""
    if version == 4:
        return IP(src=src, dst=dst, ttl=ttl, tos=tos, **more)
    return IPv6(src=src, dst=dst, hlim=ttl, tc=tos, **more)


def numbered(version: int, identity: int) -> dict[str, Any]:
    """Fields of an IP header whose identification (with DF) or flow label is `identity`."""
    return {"id": identity, "flags": "DF"} if version == 4 else {"fl": identity}


def syn(
    version: int = 4, *, src: str | None = None, dst: str | None = None, sport: int = OUR_PORT, dport: int = THEIR_PORT,
    seq: int = 1000, ethernet: bool = False, ttl: int = 64, tos: int = 4, **tcp: Any,
) -> bytes:  # fmt: skip
    """Our probe."""
    ip = network(version, src or US[version], dst or THEM[version], ttl, tos)
    return wrap(ip / TCP(sport=sport, dport=dport, seq=seq, flags="S", **tcp), ethernet, ours=True)


def segment(
    flags: str | int = "SA", version: int = 4, *, src: str | None = None, dst: str | None = None,
    sport: int = THEIR_PORT, dport: int = OUR_PORT, seq: int = 77, ack: int = 1001, window: int = 64240,
    ethernet: bool = False, ttl: int = 64, tos: int = 0, options: Sequence[tuple[str, Any]] = (), payload: bytes = b"",
    identity: int = 0,
) -> bytes:  # fmt: skip
    """A TCP segment from them to us, any flags."""
    ip = network(version, src or THEM[version], dst or US[version], ttl, tos, **numbered(version, identity))
    tcp = TCP(sport=sport, dport=dport, seq=seq, ack=ack, flags=flags, window=window, options=list(options))
    return wrap(ip / tcp / payload, ethernet)


def synack(version: int = 4, **more: Any) -> bytes:
    """The answer of a listener."""
    return segment("SA", version, **more)


def rst(version: int = 4, **more: Any) -> bytes:
    """The answer of a closed port."""
    return segment("RA", version, **more)


def unreachable(
    version: int = 4, *, quoting: bytes | None = None, kind: int | None = None, code: int = 1, quoted_tcp: int = 8,
    sender: str | None = None, dst: str | None = None, ethernet: bool = False, ttl: int = 64,
) -> bytes:  # fmt: skip
    """An ICMP error that quotes a probe: its IP header and the first `quoted_tcp` bytes behind it."""
    quote = (syn(version) if quoting is None else quoting)[: (20 if version == 4 else 40) + quoted_tcp]
    ip = network(version, sender or ROUTER[version], dst or US[version], ttl)
    if version == 4:
        return wrap(ip / ICMP(type=3 if kind is None else kind, code=code) / quote, ethernet)
    return wrap(ip / ICMPv6Unknown(type=1 if kind is None else kind, code=code, msgbody=bytes(4) + quote), ethernet)


def batch(*frames: bytes, link: int | Sequence[int] = LINK_RAW, times: Sequence[int] | None = None) -> Frames:
    """Frames in one buffer, with other bytes before, between and behind them."""
    gap = b"\x45\xff\x60"
    length = np.array([len(frame) for frame in frames], np.int64)
    start = len(gap) + np.cumsum(length + len(gap)) - length - len(gap)
    buffer = np.frombuffer(gap + b"".join(frame + gap for frame in frames), np.uint8)
    links = np.broadcast_to(np.asarray(link, np.uint16), len(frames)).copy()
    return Frames(buffer, start, length, np.array(times or range(1, len(frames) + 1), np.int64)[: len(frames)], links)


def ethernet_batch(*frames: bytes) -> Frames:
    """Frames that begin with an Ethernet header."""
    return batch(*frames, link=LINK_ETHERNET)
