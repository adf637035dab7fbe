"""Wrong checksums are found, and those that offload leaves unfinished are not."""

from collections import Counter

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.packet import Packet

from scanner.packet.checksum import wrong_checksums
from scanner.packet.parse import parse
from tests.builders import THEM, US, batch, ethernet_batch, rst, syn, synack, unreachable


def wrong(*frames: bytes) -> list[bool]:
    found = batch(*frames)
    return wrong_checksums(found, parse(found, Counter())).tolist()


def changed(frame: bytes, at: int, by: int = 0x5A) -> bytes:
    return frame[:at] + bytes([frame[at] ^ by]) + frame[at + 1 :]


def with_sum(frame: bytes, value: int) -> bytes:
    """The frame with this TCP checksum."""
    at = (20 if frame[0] >> 4 == 4 else 40) + 16
    return frame[:at] + value.to_bytes(2, "big") + frame[at + 2 :]


def unfinished(frame: bytes) -> bytes:
    """As Linux leaves it to hardware: the sum of the pseudo header (CHECKSUM_PARTIAL)."""
    four = frame[0] >> 4 == 4
    tcp = frame[20 if four else 40 :]
    pseudo = frame[12:20] if four else frame[8:40]
    total = sum(int.from_bytes(pseudo[at : at + 2], "big") for at in range(0, len(pseudo), 2)) + 6 + len(tcp)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return with_sum(frame, total)


OPTIONS = ([], [("MSS", 1460)], [("NOP", None)] * 40)
SIZES = [synack(version, payload=b"\x01\x02\x03\x04\x05\xff\xfe"[:size], options=options)
         for version in (4, 6) for size in range(8) for options in OPTIONS]  # fmt: skip


def test_right_ones() -> None:
    assert wrong(*SIZES, rst(), rst(6), syn(), unreachable()) == [False] * (len(SIZES) + 4)


@pytest.mark.parametrize("at", [12, 15, 19, 20, 23, 27, 32, 33, 36, 37, 39])
def test_any_changed_byte_of_tcp_or_its_addresses(at: int) -> None:
    at6 = {12: 8, 15: 23, 19: 39}.get(at, at + 20)
    frames = [changed(frame, at if frame[0] >> 4 == 4 else at6) for frame in SIZES]
    assert wrong(*frames) == [True] * len(SIZES)


@pytest.mark.parametrize("at", [1, 4, 8, 10, 11])
def test_any_changed_byte_of_the_ipv4_header(at: int) -> None:
    assert wrong(changed(rst(), at), changed(unreachable(), at)) == [True, True]


def test_an_odd_last_byte_counts() -> None:
    frames = [synack(version, payload=b"abc") for version in (4, 6)]
    assert wrong(*(changed(frame, len(frame) - 1) for frame in frames)) == [True, True]


@pytest.mark.parametrize("version", [4, 6])
def test_unfinished_is_not_wrong(version: int) -> None:
    assert wrong(unfinished(synack(version)), unfinished(rst(version)), with_sum(synack(version), 0)) == [
        False, False, True
    ]  # fmt: skip


def test_an_ipv4_checksum_of_zero_is_not_filled_in() -> None:
    assert wrong(bytes(IP(src=THEM[4], dst=US[4], chksum=0) / TCP(flags="SA"))) == [False]


def headers(chksum: int | None) -> list[Packet]:
    """Packets with more than the usual headers, each with this TCP checksum (None: the right one)."""
    tcp = TCP(sport=443, dport=40000, flags="SA", chksum=chksum)
    return [
        IP(src=THEM[4], dst=US[4], options=[IPOption_Router_Alert()]) / tcp,
        IPv6(src=THEM[6], dst=US[6]) / IPv6ExtHdrDestOpt() / tcp,
        IP(src=THEM[4], dst=US[4], flags="MF") / tcp,
        IP(src=THEM[4], dst=US[4], len=0) / tcp,
    ]


def test_options_are_skipped_and_what_cannot_be_tested_is_not_wrong() -> None:
    assert wrong(*map(bytes, headers(None))) == [False, False, False, False]
    assert wrong(*map(bytes, headers(0x1234))) == [True, False, False, False]


def test_what_was_cut_is_not_wrong_but_its_header_may_be() -> None:
    frame = synack(payload=b"x" * 99)
    assert wrong(frame[:100], changed(frame[:100], 30), changed(frame[:100], 8)) == [False, False, True]


def test_behind_ethernet_and_among_frames_that_are_no_segments() -> None:
    frames = ethernet_batch(bytes(60), synack(ethernet=True), changed(rst(6, ethernet=True), 60))
    assert wrong_checksums(frames, parse(frames, Counter())).tolist() == [False, True]


def test_nothing() -> None:
    assert wrong_checksums(batch(), parse(batch(), Counter())).dtype == np.bool_
