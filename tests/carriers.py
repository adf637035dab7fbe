"""What stands before IP in captured frames, on every kind of link: by name, the link type and the bytes."""

import struct

MAC = bytes(12)


def vlan(*tags: int) -> bytes:
    """Tag headers as they follow the addresses: each type, then its tag."""
    return b"".join(struct.pack(">HH", tag, 5) for tag in tags)


def nflog(*fields: tuple[int, bytes]) -> bytes:
    def one(kind: int, value: bytes) -> bytes:
        return struct.pack("<HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

    return b"\x02\x00\x00\x07" + b"".join(one(*field) for field in fields)


def radiotap(*present: int, fields: bytes = b"", version: int = 0) -> bytes:
    """The header before an 802.11 frame: its "present" words, then the fields."""
    words = struct.pack(f"<{len(present)}I", *present)
    return struct.pack("<BBH", version, 0, 4 + len(words) + len(fields)) + words + fields


def wifi(control: int, *more: bytes, sequence: int = 0) -> bytes:
    """An 802.11 header: frame control, duration, three addresses, sequence control, then what only some have."""
    return struct.pack("<H", control) + bytes(20) + struct.pack("<H", sequence) + b"".join(more)


def pflog(length: int, family: int) -> bytes:
    return bytes([length, family]) + bytes((length + 3 & ~3) - 2)


SNAP = b"\xaa\xaa\x03\0\0\0"
DATA, QOS = 0x0008, 0x0088
CARRIERS = {
    "ethernet": (1, MAC + b"\x08\0"),
    "vlan": (1, MAC + vlan(0x8100) + b"\x08\0"),
    "qinq": (1, MAC + vlan(0x88A8, 0x8100) + b"\x08\0"),
    "qinq before the standard": (1, MAC + vlan(0x9100, 0x9200, 0x8100) + b"\x08\0"),
    "mpls": (1, MAC + b"\x88\x47\0\0\x11\x40"),
    "three labels": (1, MAC + b"\x88\x47" + b"\0\0\x10\x40" * 2 + b"\0\0\x11\x40"),
    "multicast mpls": (1, MAC + b"\x88\x48\0\0\x11\x40"),
    "vlan and mpls": (1, MAC + vlan(0x8100) + b"\x88\x47\0\0\x11\x40"),
    "pppoe": (1, MAC + b"\x88\x64\x11\0\0\1\0\x16\0\x21"),
    "pppoe in a vlan": (1, MAC + vlan(0x8100) + b"\x88\x64\x11\0\0\1\0\x16\0\x21"),
    "snap": (1, MAC + b"\0\x1c" + SNAP + b"\x08\0"),
    "snap in a vlan": (1, MAC + vlan(0x8100) + b"\0\x1c" + SNAP + b"\x08\0"),
    "raw 12": (12, b""),
    "raw 14": (14, b""),
    "raw 101": (101, b""),
    "ipv4": (228, b""),
    "null little-endian": (0, b"\2\0\0\0"),
    "null big-endian": (0, b"\0\0\0\2"),
    "loop": (108, b"\0\0\0\2"),
    "sll": (113, bytes(14) + b"\x08\0"),
    "sll with vlan": (113, bytes(14) + vlan(0x8100) + b"\x08\0"),
    "sll2": (276, b"\x08\0" + bytes(18)),
    "sll2 with vlan": (276, b"\x81\0" + bytes(18) + b"\0\5\x08\0"),
    "ppp": (9, b"\xff\x03\0\x21"),
    "ppp without address": (9, b"\0\x21"),
    "ppp with a short protocol": (9, b"\x21"),
    "ppp with mpls": (9, b"\xff\x03\x02\x81\0\0\x11\x40"),
    "ppp in hdlc": (50, b"\xff\x03\0\x21"),
    "cisco hdlc as 50": (50, b"\x0f\0\x08\0"),
    "cisco hdlc, multicast, as 50": (50, b"\x8f\0\x08\0"),
    "pppoe as 51": (51, b"\x11\0\0\1\0\x16\0\x21"),
    "cisco hdlc": (104, b"\x0f\0\x08\0"),
    "cisco hdlc as 9": (9, b"\x0f\0\x08\0"),
    "cisco metadata": (1, MAC + b"\x89\x09\1\1\0\1\0\x2a\x08\0"),
    "cisco metadata in a vlan": (1, MAC + vlan(0x8100) + b"\x89\x09\1\1\0\1\0\x2a\x08\0"),
    "pflog of OpenBSD": (117, pflog(100, 2)),
    "pflog of macOS, padded": (117, pflog(61, 2)),
    "pflog of FreeBSD, padded": (117, pflog(69, 2)),
    "enc little-endian": (109, b"\2\0\0\0" + bytes(8)),
    "enc big-endian": (109, b"\0\0\0\2" + bytes(8)),
    "802.11": (105, wifi(DATA) + SNAP + b"\x08\0"),
    "radiotap": (127, radiotap(0) + wifi(DATA) + SNAP + b"\x08\0"),
    "radiotap with flags": (127, radiotap(2, fields=b"\x10") + wifi(DATA) + SNAP + b"\x08\0"),
    "radiotap with a time, flags and more": (
        127,
        radiotap(0x2F, fields=b"\x44" * 4 + bytes(8) + b"\x10" + bytes(5)) + wifi(DATA) + SNAP + b"\x08\0",
    ),
    "radiotap with three words, of which one says that flags are there": (
        127,
        radiotap(0x80000002, 0xA0000002, 0x2, fields=b"\x10" + bytes(7)) + wifi(DATA) + SNAP + b"\x08\0",
    ),
    "radiotap without flags, and a byte that looks like them": (
        127,
        radiotap(4, fields=b"\x40") + wifi(DATA) + SNAP + b"\x08\0",
    ),
    "qos data": (127, radiotap(0) + wifi(QOS, b"\0\0") + SNAP + b"\x08\0"),
    "qos data, padded": (127, radiotap(2, fields=b"\x20") + wifi(QOS, b"\0\0", b"??") + SNAP + b"\x08\0"),
    "qos data with ht control": (127, radiotap(0) + wifi(QOS | 0x8000, b"\0\0", bytes(4)) + SNAP + b"\x08\0"),
    "data between access points": (127, radiotap(0) + wifi(DATA | 0x300, bytes(6)) + SNAP + b"\x08\0"),
    "qos data between access points": (127, radiotap(0) + wifi(QOS | 0x300, bytes(6), b"\0\0") + SNAP + b"\x08\0"),
    "the first fragment of data": (127, radiotap(0) + wifi(DATA | 0x400, sequence=0x10) + SNAP + b"\x08\0"),
    "nflog": (239, nflog((1, b"\x08\0\0\0"), (10, b"prefix\0")) + b"\x18\0\x09\0"),
}

# The same for IPv6, where the bytes before it differ.
CARRIERS6 = {
    "ethernet": (1, MAC + b"\x86\xdd"),
    "vlan": (1, MAC + vlan(0x8100) + b"\x86\xdd"),
    "mpls": (1, MAC + b"\x88\x47\0\0\x11\x40"),
    "pppoe": (1, MAC + b"\x88\x64\x11\0\0\1\0\x2a\0\x57"),
    "snap": (1, MAC + b"\0\x30" + SNAP + b"\x86\xdd"),
    "raw 12": (12, b""),
    "raw 14": (14, b""),
    "raw 101": (101, b""),
    "ipv6": (229, b""),
    "null of Linux": (0, b"\x0a\0\0\0"),
    "null of NetBSD and OpenBSD": (0, b"\x18\0\0\0"),
    "null of FreeBSD": (0, b"\x1c\0\0\0"),
    "null of macOS": (0, b"\x1e\0\0\0"),
    "null of macOS, big-endian": (0, b"\0\0\0\x1e"),
    "loop": (108, b"\0\0\0\x18"),
    "sll": (113, bytes(14) + b"\x86\xdd"),
    "sll2": (276, b"\x86\xdd" + bytes(18)),
    "ppp": (9, b"\xff\x03\0\x57"),
    "ppp with a short protocol": (50, b"\x57"),
    "cisco hdlc": (104, b"\x0f\0\x86\xdd"),
    "cisco metadata": (1, MAC + b"\x89\x09\1\1\0\1\0\x2a\x86\xdd"),
    "pflog of OpenBSD": (117, pflog(100, 24)),
    "pflog of FreeBSD": (117, pflog(69, 28)),
    "enc of OpenBSD": (109, b"\x18\0\0\0" + bytes(8)),
    "802.11": (105, wifi(DATA) + SNAP + b"\x86\xdd"),
    "radiotap": (127, radiotap(0) + wifi(DATA) + SNAP + b"\x86\xdd"),
}
