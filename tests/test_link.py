"""Where IP is found on every kind of link (`tests/carriers.py`)."""

import numpy as np
import pytest

from scanner.packet.headers import Frames
from scanner.packet.link import LINK_TYPES, Cause, network_layer
from tests.carriers import CARRIERS, CARRIERS6, DATA, MAC, QOS, SNAP, pflog, radiotap, vlan, wifi

V4, V6 = b"\x45" + bytes(19), b"\x60" + bytes(39)


def frames(*pairs: tuple[int, bytes]) -> Frames:
    length = np.array([len(data) for _, data in pairs], np.int64)
    buffer = np.frombuffer(b"\x45\x60\x45" + b"".join(data for _, data in pairs) + b"\x45\x60", np.uint8)
    links = np.array([link for link, _ in pairs], np.uint16)
    return Frames(buffer, 3 + np.cumsum(length) - length, length, np.zeros(len(pairs), np.int64), links)


def found(*pairs: tuple[int, bytes]) -> list[tuple[int, int, Cause]]:
    """(where IP begins in the frame, or -1; version; cause) for every frame."""
    batch = frames(*pairs)
    at, version, cause, _ = network_layer(batch)
    inside = np.where(version > 0, at - batch.start, -1)
    return [(int(a), int(v), Cause(c)) for a, v, c in zip(inside, version, cause, strict=True)]


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
    "lldp": ((1, MAC + b"\x88\xcc" + bytes(28)), Cause.ETHERTYPE),
    "a wake-up call in cisco metadata": ((1, MAC + b"\x89\x09\1\1\0\1\0\x2a\x08\x42"), Cause.ETHERTYPE),
    "a beacon": ((127, radiotap(0) + wifi(0x80) + bytes(40)), Cause.NO_DATA),
    "an acknowledgement, which is shorter": ((127, radiotap(0) + b"\xd4" + bytes(9)), Cause.TRUNCATED),
    "null data": ((127, radiotap(0) + wifi(0x48) + bytes(40)), Cause.NO_DATA),
    "encrypted data": ((127, radiotap(0) + wifi(QOS | 0x4000, b"\0\0") + bytes(40)), Cause.ENCRYPTED),
    "several packets": ((127, radiotap(0) + wifi(QOS, b"\x80\0") + bytes(40)), Cause.AGGREGATE),
    "a later fragment": ((127, radiotap(0) + wifi(DATA, sequence=0x11) + SNAP + b"\x08\0" + V4), Cause.NOT_IP),
    "a frame that the radio has damaged": (
        (127, radiotap(2, fields=b"\x40") + wifi(DATA) + SNAP + b"\x08\0" + V4),
        Cause.MALFORMED,
    ),
    "radiotap of another version": (
        (127, radiotap(0, version=1) + wifi(DATA) + SNAP + b"\x08\0" + V4),
        Cause.MALFORMED,
    ),
    "radiotap that is too short": ((127, b"\0\0\7\0" + bytes(60)), Cause.MALFORMED),
    "pflog that is too short": ((117, b"\x2c\2" + bytes(42) + V4), Cause.MALFORMED),
    "pflog of another family": ((117, pflog(100, 99) + V4), Cause.NOT_IP),
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
    "prism": ((119, V4), Cause.LINK_TYPE),
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
    assert [column.tolist() for column in network_layer(batch)[:3]] == [[0], [4], [0]]
