"""Captures built by hand, byte by byte, and `WHOLE`: captures with the rows that a reader must yield.

A row is (time in ns, link type, bytes).
"""

import struct
from pathlib import Path
from tempfile import TemporaryDirectory

from scanner.capture.reader import open_captures
from scanner.capture.records import SECTION_HEADER, SLACK
from scanner.capture.source import CAPACITY, NO_TIME
from scanner.packet.link import Cause, network_layer

Row = tuple[int, int, bytes]
S = 1_000_000_000
T = 1_700_000_000


def pcap_header(order: str = "<", magic: int = 0xA1B2C3D4, network: int = 1, snaplen: int = 65535) -> bytes:
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, network)


def record(
    order: str, second: int, fraction: int, data: bytes, original: int | None = None, extra: bytes = b""
) -> bytes:
    return struct.pack(order + "IIII", second, fraction, len(data), original or len(data)) + extra + data


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def section(order: str) -> bytes:
    return block(order, SECTION_HEADER, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(order: str, link: int, snaplen: int = 0, options: bytes = b"") -> bytes:
    return block(order, 1, struct.pack(order + "HHI", link, 0, snaplen) + options)


def packet(order: str, number: int, ticks: int, data: bytes) -> bytes:
    fixed = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(order, 6, fixed + data)


def old_packet(order: str, number: int, ticks: int, data: bytes) -> bytes:
    fixed = struct.pack(order + "HHIIII", number, 7, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(order, 2, fixed + data)


def simple_packet(order: str, data: bytes, original: int | None = None) -> bytes:
    return block(order, 3, struct.pack(order + "I", original or len(data)) + data)


def statistics(order: str, number: int, end: int) -> bytes:
    moment = struct.pack(order + "II", end >> 32, end & 0xFFFFFFFF)
    return block(order, 5, struct.pack(order + "I", number) + moment + option(order, 3, moment))


A, B, C = b"first frame!", b"second", b"\x45third frame"
PCAP_ROWS = [(T * S + 1000, 1, A), (T * S + 2000, 1, B)]
PLAIN = pcap_header() + record("<", T, 1, A) + record("<", T, 2, B)
NG = section("<") + interface("<", 1) + packet("<", 0, T * 10**6 + 1, A) + packet("<", 0, T * 10**6 + 2, B)

WHOLE: dict[str, tuple[bytes, list[Row]]] = {
    "pcap little-endian": (PLAIN, PCAP_ROWS),
    "pcap big-endian": (pcap_header(">") + record(">", T, 1, A) + record(">", T, 2, B), PCAP_ROWS),
    "pcap ns": (pcap_header("<", 0xA1B23C4D) + record("<", T, 7, A), [(T * S + 7, 1, A)]),
    "pcap ns big-endian": (pcap_header(">", 0xA1B23C4D, 101) + record(">", T, 7, A), [(T * S + 7, 101, A)]),
    "pcap modified": (
        pcap_header("<", 0xA1B2CD34) + record("<", T, 1, A, None, b"\2\0\0\0\x08\0\0\0")
        + record("<", T, 2, B, None, bytes(8)),
        PCAP_ROWS,
    ),
    "pcap with FCS bits": (pcap_header("<", network=0x24000001) + record("<", T, 1, A), PCAP_ROWS[:1]),
    "pcap whose snap length lies": (pcap_header("<", snaplen=4) + record("<", T, 1, A, 900), PCAP_ROWS[:1]),
    "pcap after 2038": (pcap_header() + record("<", 0xFFFFFFFF, 1, A), [(0xFFFFFFFF * S + 1000, 1, A)]),
    "pcap without records": (pcap_header(), []),
    "pcapng": (NG, PCAP_ROWS),
    "pcapng big-endian": (section(">") + interface(">", 1) + packet(">", 0, T * 10**6 + 1, A), PCAP_ROWS[:1]),
    "pcapng with an unknown, a name and a huge custom block": (
        section("<") + block("<", 0xBAD, b"x" * 31) + interface("<", 1) + block("<", 4, bytes(8))
        + block("<", 0x40000BAD, bytes(5 << 20)) + packet("<", 0, T * 10**6 + 1, A),
        PCAP_ROWS[:1],
    ),
    "pcapng with interfaces of two link types, one described late": (
        section("<") + interface("<", 1) + packet("<", 0, T * 10**6 + 1, A) + interface("<", 276)
        + packet("<", 1, T * 10**6 + 3, C) + packet("<", 0, T * 10**6 + 2, B),
        [(T * S + 1000, 1, A), (T * S + 3000, 276, C), (T * S + 2000, 1, B)],
    ),
    "pcapng with sections in both byte orders": (
        NG + section(">") + interface(">", 113) + packet(">", 0, T * 10**6 + 9, C),
        [*PCAP_ROWS, (T * S + 9000, 113, C)],
    ),
    "pcapng simple packets, cut to the snap length": (
        section("<") + interface("<", 1, 6) + simple_packet("<", b"second", 60) + simple_packet("<", b"tiny"),
        [(NO_TIME, 1, b"second"), (NO_TIME, 1, b"tiny")],
    ),
    "pcapng old packets": (section(">") + interface(">", 1) + old_packet(">", 0, T * 10**6 + 1, A), PCAP_ROWS[:1]),
}  # fmt: skip


def drain(data: bytes) -> tuple[int, int]:
    """Read a capture to its end; frames and pieces of damage. Frames lie inside the buffer, and are not too many."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "capture"
        path.write_bytes(data)
        reader = open_captures([str(path)])
        for frames in reader:
            assert len(frames.buffer) == CAPACITY + SLACK
            assert frames.start.min(initial=0) >= 0
            assert frames.length.min(initial=0) >= 0
            end = frames.start + frames.length
            assert end.max(initial=0) <= CAPACITY
            network = network_layer(frames)
            assert ((network.version == 0) == (network.cause != Cause.NONE)).all()
            assert (network.at < end)[network.version > 0].all()
        assert reader.opened or reader.damage
        assert reader.frames <= len(data) * 1032 // 16  # deflate packs 1032 to 1 at best
        return reader.frames, len(reader.damage)
