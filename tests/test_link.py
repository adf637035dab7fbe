"""One row for each kind of link: the bytes before IP, and where IP is found."""

import struct

import numpy as np
import pytest

from scanner.packet.headers import Frames
from scanner.packet.link import LINK_TYPES, Cause, network_layer

V4, V6 = b"\x45" + bytes(19), b"\x60" + bytes(39)
MAC = bytes(12)


def frames(*pairs: tuple[int, bytes]) -> Frames:
    length = np.array([len(data) for _, data in pairs], np.int64)
    buffer = np.frombuffer(b"\x45\x60\x45" + b"".join(data for _, data in pairs) + b"\x45\x60", np.uint8)
    links = np.array([link for link, _ in pairs], np.uint16)
    return Frames(buffer, 3 + np.cumsum(length) - length, length, np.zeros(len(pairs), np.int64), links)


def found(*pairs: tuple[int, bytes]) -> list[tuple[int, int, Cause]]:
    """(where IP begins in the frame, or -1; version; cause) for every frame."""
    batch = frames(*pairs)
    at, version, cause = network_layer(batch)
    inside = np.where(version > 0, at - batch.start, -1)
    return [(int(a), int(v), Cause(c)) for a, v, c in zip(inside, version, cause, strict=True)]


def vlan(*tags: int) -> bytes:
    """Tag headers as they follow the addresses: each type, then its tag."""
    return b"".join(struct.pack(">HH", tag, 5) for tag in tags)


def nflog(*fields: tuple[int, bytes]) -> bytes:
    def one(kind: int, value: bytes) -> bytes:
        return struct.pack("<HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

    return b"\x02\x00\x00\x07" + b"".join(one(*field) for field in fields)


SNAP = b"\xaa\xaa\x03\0\0\0"
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
}


@pytest.mark.parametrize("name", CARRIERS)
def test_ipv4_is_found(name: str) -> None:
    link, before = CARRIERS[name]
    assert found((link, before + V4)) == [(len(before), 4, Cause.NONE)]


@pytest.mark.parametrize("name", CARRIERS6)
def test_ipv6_is_found(name: str) -> None:
    link, before = CARRIERS6[name]
    assert found((link, before + V6)) == [(len(before), 6, Cause.NONE)]


def test_every_link_type_is_carried_by_a_row_above() -> None:
    assert {link for link, _ in [*CARRIERS.values(), *CARRIERS6.values()]} == set(LINK_TYPES)


def test_a_batch_of_all_kinds_gives_what_each_frame_gives_alone() -> None:
    pairs = [(link, before + V4) for link, before in CARRIERS.values()]
    pairs += [(link, before + V6) for link, before in CARRIERS6.values()] + [(147, b"?"), (1, b"")]
    assert found(*pairs, *reversed(pairs)) == [found(pair)[0] for pair in (*pairs, *reversed(pairs))]


@pytest.mark.parametrize("name", CARRIERS)
def test_a_frame_cut_before_ip_is_truncated(name: str) -> None:
    """Cut at every length up to the first byte of IP. The bytes behind the frame in the buffer must not matter."""
    link, before = CARRIERS[name]
    causes = {cause for cut in range(len(before) + 1) for _, _, cause in found((link, before[:cut]))}
    assert causes == {Cause.TRUNCATED}


REFUSED = {
    "arp": ((1, MAC + b"\x08\x06" + bytes(28)), Cause.ARP),
    "arp in a vlan": ((1, MAC + vlan(0x8100) + b"\x08\x06" + bytes(28)), Cause.ARP),
    "arp, cooked": ((113, bytes(14) + b"\x08\x06" + bytes(28)), Cause.ARP),
    "arp, cut": ((1, MAC + b"\x08\x06"), Cause.ARP),
    "lldp": ((1, MAC + b"\x88\xcc" + bytes(28)), Cause.NOT_IP),
    "spanning tree": ((1, MAC + b"\0\x26\x42\x42\x03" + bytes(35)), Cause.NOT_IP),
    "snap of Cisco": ((1, MAC + b"\0\x26\xaa\xaa\x03\0\0\x0c\x20\0" + bytes(35)), Cause.NOT_IP),
    "pppoe discovery": ((1, MAC + b"\x88\x64\x11\x09\0\0\0\4" + bytes(35)), Cause.NOT_IP),
    "ppp link control": ((9, b"\xff\x03\xc0\x21" + bytes(8)), Cause.NOT_IP),
    "bsd appletalk": ((0, b"\x10\0\0\0" + V4), Cause.NOT_IP),
    "raw of neither version": ((101, b"\x55" + V4), Cause.NOT_IP),
    "mpls with ethernet inside": ((1, MAC + b"\x88\x47\0\0\x11\x40" + bytes(40)), Cause.NOT_IP),
    "ethertype against version": ((1, MAC + b"\x08\0" + V6), Cause.MALFORMED),
    "ethertype 6 against version": ((1, MAC + b"\x86\xdd" + V4), Cause.MALFORMED),
    "tags without end": ((1, MAC + vlan(0x8100) * 90), Cause.MALFORMED),
    "nflog field of two bytes": ((239, b"\2\0\0\7\2\0\1\0" + V4), Cause.MALFORMED),
    "nflog of another version": ((239, b"\2\1\0\7\x18\0\x09\0" + V4), Cause.NOT_IP),
    "radio": ((105, V4), Cause.LINK_TYPE),
    "link type beyond the list": ((65535, V4), Cause.LINK_TYPE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_ip_has_a_cause(name: str) -> None:
    pair, cause = REFUSED[name]
    assert found(pair) == [(-1, 0, cause)]


def test_every_cause_has_words() -> None:
    assert len({cause.words for cause in Cause}) == len(Cause)


def test_no_frames() -> None:
    assert found() == []


def test_a_tiny_buffer() -> None:
    one = np.zeros(1, np.int64)
    batch = Frames(np.array([0x45], np.uint8), one, one + 1, one, np.array([101], np.uint16))
    assert [column.tolist() for column in network_layer(batch)] == [[0], [4], [0]]
