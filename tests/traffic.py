"""Packets of programs as bytes, without Scapy: thousands take milliseconds. Link type: raw IP."""

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

LINUX = "020405b40402080a000000010000000001030307"  # TCP options
WINDOWS = "020405b40103030801010402"
UDP = 17
T = 1_700_000_000


def ip(text: str) -> int:
    return int.from_bytes(bytes(map(int, text.split("."))), "big")


def segment(
    src: str, dst: str, port: int, *, seq: int = 7, ip_id: int = 0, window: int = 9, sport: int = 40000,
    options: str = "", flags: int = 2, ack: int = 0, data: int = 0, ttl: int = 60, protocol: int = 6,
) -> bytes:  # fmt: skip
    """An IPv4 packet with TCP, or with UDP."""
    extra = bytes.fromhex(options)
    body = struct.pack(">HHIIBBHHH", sport, port, seq, ack, (20 + len(extra)) << 2, flags, window, 0, 0)
    body = body + extra + bytes(data) if protocol == 6 else struct.pack(">HHHH", sport, port, 8 + data, 0) + bytes(data)
    head = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(body), ip_id, 0, ttl, protocol, 0, ip(src), ip(dst))
    return head + body


def datagram(src: str, sport: int, dst: str, port: int, data: int = 30) -> bytes:
    return segment(src, dst, port, sport=sport, protocol=UDP, data=data)


def asked(src: str, sport: int, dst: str, port: int) -> list[bytes]:
    """A datagram and its answer."""
    return [datagram(src, sport, dst, port), datagram(dst, port, src, sport, 90)]


def unreachable(packet: bytes) -> bytes:
    """The ICMP error of the receiver: no such port."""
    body = struct.pack(">BBHI", 3, 3, 0, 0) + packet[:28]
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 60, 1, 0) + packet[16:20] + packet[12:16] + body


def conversation(client: str, server: str, port: int, sport: int, syn: bytes = b"", seq: int = 100) -> list[bytes]:
    """A connection with data both ways."""
    there, back = (client, server, port), (server, client, sport)
    return [
        syn or segment(*there, sport=sport, seq=seq, window=64240, options=LINUX),
        segment(*back, sport=port, seq=500, ack=seq + 1, flags=0x12),
        segment(*there, sport=sport, seq=seq + 1, ack=501, flags=0x10),
        segment(*there, sport=sport, seq=seq + 1, ack=501, flags=0x18, data=40),
        segment(*back, sport=port, seq=501, ack=seq + 41, flags=0x18, data=400),
        segment(*there, sport=sport, seq=seq + 41, ack=901, flags=0x11),
        segment(*back, sport=port, seq=901, ack=seq + 42, flags=0x11),
        segment(*there, sport=sport, seq=seq + 42, ack=902, flags=0x10),
    ]


def capture(path: Path, packets: Iterable[bytes], start: int = T, snap: int = 65535) -> str:
    """A capture with a packet each 0.1 s."""
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)]
    for n, data in enumerate(packets):
        out.append(struct.pack("<IIII", start + n // 10, n % 10 * 100_000, len(data[:snap]), len(data)) + data[:snap])
    path.write_bytes(b"".join(out))
    return str(path)


def mixed(parts: Sequence[Sequence[bytes]]) -> list[bytes]:
    """The packets of several at the same time: the first of each, the second of each, and so on."""
    longest = max(map(len, parts))
    return [part[n] for n in range(longest) for part in parts if n < len(part)]
