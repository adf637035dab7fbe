"""The parser reads each header as Scapy wrote it, cut at every length, and accepts any bytes."""

from collections import Counter
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.packet import Packet

from scanner.packet.addresses import to_text
from scanner.packet.headers import Frames
from scanner.packet.parse import Segments, parse
from tests.builders import (
    OUR_PORT,
    ROUTER,
    THEIR_PORT,
    THEM,
    US,
    batch,
    ethernet_batch,
    rst,
    segment,
    syn,
    synack,
    unreachable,
)

ADDRESSES = ("src", "dst", "sender")


def rows(found: Segments) -> list[dict[str, Any]]:
    """Segments as dictionaries, addresses as text, by frame."""
    columns = {
        f.name: getattr(found, f.name) for f in fields(found) if f.name not in ("size", "ip_at", "end", "tunnel")
    }  # tested elsewhere
    lists = {name: to_text(column) if name in ADDRESSES else column.tolist() for name, column in columns.items()}
    table = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    return sorted(table, key=lambda row: row["frame"])


def read(frames: Frames) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The rows, and the counts of the other frames."""
    counts: Counter[str] = Counter()
    found = rows(parse(frames, counts))
    return found, {cause: count for cause, count in counts.items() if count}


def reply(version: int, **differs: Any) -> dict[str, Any]:
    """The row of `synack()`."""
    return {
        "frame": 0, "time": 1, "version": version, "src": THEM[version], "dst": US[version], "sender": THEM[version],
        "sport": THEIR_PORT, "dport": OUR_PORT, "seq": 77, "ack": 1001, "flags": 0x12, "window": 64240, "ttl": 64,
        "tos": 0, "plain": True, "icmp": False, "icmp_type": 0, "icmp_code": 0, "truncated": False,
    } | differs  # fmt: skip


def error(version: int, **differs: Any) -> dict[str, Any]:
    """The row of `unreachable()`: the quoted probe turned round."""
    from_router = {"sender": ROUTER[version], "seq": 1000, "ack": 0, "flags": 0, "window": 0, "icmp": True,
                   "plain": version == 6}  # fmt: skip
    return reply(version, **from_router, icmp_type=3 if version == 4 else 1, icmp_code=1) | differs


def six(*layers: Packet) -> bytes:
    """An IPv6 packet from them to us through extension headers."""
    packet: Packet = IPv6(src=THEM[6], dst=US[6])
    for layer in layers:
        packet = packet / layer
    return bytes(packet)


SEGMENT = TCP(sport=THEIR_PORT, dport=OUR_PORT, seq=77, ack=1001, flags="SA", window=64240)
QUOTED = TCP(sport=OUR_PORT, dport=THEIR_PORT, seq=1000)
FULL = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 2)), ("NOP", None), ("WScale", 7)]
FOUR = {"src": THEM[4], "dst": US[4], "id": 0, "flags": "DF"}

READ = {
    "syn-ack": (synack(), reply(4)),
    "syn-ack, ipv6": (synack(6), reply(6)),
    "reset": (rst(ttl=63, tos=4, window=0), reply(4, flags=0x14, ttl=63, tos=4, window=0)),
    "reset, ipv6": (rst(6, ttl=63, tos=4, window=0), reply(6, flags=0x14, ttl=63, tos=4, window=0)),
    "options and payload": (segment("SA", options=FULL, payload=b"hello"), reply(4)),
    "all ones": (
        segment(
            0xFF, src="255.255.255.255", sport=65535, dport=65535, seq=0xFFFFFFFF, ack=0xFFFFFFFF, window=65535,
            ttl=255, tos=255,
        ),
        reply(
            4, flags=0xFF, src="255.255.255.255", sender="255.255.255.255", sport=65535, dport=65535, seq=0xFFFFFFFF,
            ack=0xFFFFFFFF, window=65535, ttl=255, tos=255,
        ),
    ),
    "traffic class": (segment(version=6, tos=0xA7), reply(6, tos=0xA7)),
    "our own probe": (
        syn(),
        reply(
            4, src=US[4], dst=THEM[4], sender=US[4], sport=OUR_PORT, dport=THEIR_PORT, seq=1000, ack=0, flags=2,
            window=8192, tos=4, plain=False,
        ),
    ),
    "ip options": (bytes(IP(**FOUR, options=b"\x01" * 40) / SEGMENT), reply(4)),
    "wrong checksums": (bytes(IP(**FOUR, chksum=1) / TCP(**(SEGMENT.fields | {"chksum": 1}))), reply(4)),
    "padding behind": (synack() + bytes(6), reply(4)),
    "length 0, as segmentation offload leaves it": (bytes(IP(**FOUR, len=0) / SEGMENT), reply(4)),
    "payload length 0": (bytes(IPv6(src=THEM[6], dst=US[6], plen=0, nh=6) / SEGMENT), reply(6)),
    "first fragment": (bytes(IP(**FOUR | {"flags": "MF"}) / SEGMENT), reply(4, plain=False)),
    "an identification": (segment(identity=1), reply(4, plain=False)),
    "identification 0 without DF": (bytes(IP(**FOUR | {"flags": 0}) / SEGMENT), reply(4, plain=False)),
    "a flow label": (segment(version=6, identity=0xFFFFF), reply(6, plain=False)),
    "hop by hop": (six(IPv6ExtHdrHopByHop(), SEGMENT), reply(6)),
    "routing": (six(IPv6ExtHdrRouting(addresses=["2001:db8::9"]), TCP(**SEGMENT.fields)), reply(6)),
    "destination options": (six(IPv6ExtHdrDestOpt(), SEGMENT), reply(6)),
    "authentication": (six(AH(nh=6, icv=bytes(12), payloadlen=4), SEGMENT), reply(6)),
    "first fragment, ipv6": (six(IPv6ExtHdrFragment(m=1), SEGMENT), reply(6)),
    "eight extension headers": (six(*[IPv6ExtHdrDestOpt()] * 8, SEGMENT), reply(6)),
    "icmp": (unreachable(), error(4)),
    "icmpv6": (unreachable(6), error(6)),
    "icmp that quotes it all": (unreachable(quoted_tcp=40, quoting=syn(options=FULL)), error(4)),
    "icmp that quotes ip options": (
        unreachable(quoting=bytes(IP(src=US[4], dst=THEM[4], options=b"\x01" * 8) / QUOTED), quoted_tcp=16), error(4),
    ),
    "icmp from the target": (unreachable(sender=THEM[4], code=3, ttl=9), error(4, sender=THEM[4], icmp_code=3, ttl=9)),
    "time exceeded": (unreachable(kind=11, code=0), error(4, icmp_type=11, icmp_code=0)),
    "packet too big": (unreachable(6, kind=2, code=0), error(6, icmp_type=2, icmp_code=0)),
    "parameter problem": (unreachable(6, kind=4, code=1), error(6, icmp_type=4, icmp_code=1)),
    **{
        f"quote of {size} bytes": (unreachable(quoted_tcp=size), error(4, sport=0, dport=0, seq=0, truncated=True))
        for size in range(8)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_read(name: str) -> None:
    frame, row = READ[name]
    assert read(batch(frame)) == ([row], {})


UDP_PACKET = bytes(IP(**FOUR) / UDP(sport=1, dport=2) / b"x")
PROBE = syn()
COUNTED = {
    "udp": (UDP_PACKET, "other-protocol"),
    "echo reply": (bytes(IP(**FOUR) / ICMP(type=0)), "other-icmp"),
    "icmpv6 in ipv4": (bytes(IP(**FOUR, proto=58) / bytes(8)), "other-protocol"),
    "error about udp": (unreachable(quoting=UDP_PACKET), "icmp-quotes-other"),
    "error about nothing": (unreachable(quoting=b""), "icmp-quotes-other"),
    "error about a later fragment": (unreachable(quoting=PROBE[:6] + b"\x00\x08" + PROBE[8:]), "icmp-quotes-other"),
    "error about half an ip header": (unreachable(quoting=PROBE[:19]), "icmp-quotes-other"),
    "later fragment": (bytes(IP(**FOUR, frag=1) / SEGMENT), "fragment"),
    "later fragment, ipv6": (six(IPv6ExtHdrFragment(offset=1), SEGMENT), "fragment"),
    "ip header shorter than it must be": (b"\x44" + synack()[1:], "truncated"),
    "ip length below its header": (synack()[:2] + b"\0\x13" + synack()[4:], "truncated"),
    "ip length that cuts the segment": (synack()[:2] + b"\0\x27" + synack()[4:], "truncated"),
    "payload length that cuts the segment": (synack(6)[:4] + b"\0\x13" + synack(6)[6:], "truncated"),
    "nine extension headers": (six(*[IPv6ExtHdrDestOpt()] * 9, SEGMENT), "other-protocol"),
    "no next header": (bytes(IPv6(src=THEM[6], dst=US[6], nh=59)), "other-protocol"),
    "extension header that points outside": (six(IPv6ExtHdrDestOpt(len=255), SEGMENT), "truncated"),
}


@pytest.mark.parametrize("name", COUNTED)
def test_counted(name: str) -> None:
    frame, cause = COUNTED[name]
    assert read(batch(frame)) == ([], {cause: 1})


# The least captured length that gives a row, and for ICMP the least that gives its ports.
CUT = {
    "tcp": (segment(options=FULL, payload=b"payload"), 34, 34),
    "tcp, ipv6": (segment(version=6, options=FULL, payload=b"payload"), 54, 54),
    "tcp, ip options": (bytes(IP(**FOUR, options=b"\x01" * 8) / SEGMENT), 42, 42),
    "tcp, extension header": (six(IPv6ExtHdrDestOpt(), SEGMENT), 62, 62),
    "icmp": (unreachable(), 48, 56),
    "icmpv6": (unreachable(6), 88, 96),
}


@pytest.mark.parametrize("ethernet", [0, 14], ids=["ip", "ethernet"])
@pytest.mark.parametrize("name", CUT)
def test_every_truncation(name: str, ethernet: int) -> None:
    frame, least, ports = CUT[name]
    kind = b"\x08\x00" if frame[0] >> 4 == 4 else b"\x86\xdd"
    frame = (bytes(12) + kind)[:ethernet] + frame
    lengths = range(len(frame) + 1)
    cut = batch(*(frame[:length] for length in lengths), link=1 if ethernet else 101)
    found = [(row["frame"], row["truncated"], row["sport"]) for row in read(cut)[0]]
    wanted = [(length, length < ports + ethernet, THEIR_PORT * (length >= ports + ethernet)) for length in lengths]
    assert found == wanted[least + ethernet :]


@pytest.mark.parametrize("version", [4, 6])
def test_ethernet(version: int) -> None:
    frames = ethernet_batch(synack(version, ethernet=True), unreachable(version, ethernet=True))
    assert read(frames) == ([reply(version), error(version, frame=1, time=2)], {})


def test_a_batch_of_all_kinds_is_its_frames_one_at_a_time() -> None:
    frames = [frame for frame, _ in [*READ.values(), *COUNTED.values()]]
    together, counts = read(batch(*frames))
    alone, sums = [], Counter[str]()
    for number, frame in enumerate(frames):
        found, counted = read(batch(frame, times=[number + 1]))
        alone += [row | {"frame": number} for row in found]
        sums.update(counted)
    assert (together, counts) == (alone, dict(sums))


def test_no_frames() -> None:
    assert read(batch()) == ([], {})


def accounted(frames: Frames) -> bool:
    """Every frame is either a row or counted once."""
    counts: Counter[str] = Counter()
    found = parse(frames, counts)
    return len(found) + counts.total() == len(frames) and len(set(found.frame.tolist())) == len(found)


LINKS = st.sampled_from([0, 1, 101, 108, 113, 228, 229, 276, 9999])


@given(st.lists(st.binary(max_size=120), max_size=8), LINKS)
@settings(max_examples=150, deadline=None)
def test_any_bytes(frames: list[bytes], link: int) -> None:
    assert accounted(batch(*frames, link=link))


CHANGES = st.tuples(st.sampled_from(sorted(READ)), st.integers(0, 120), st.integers(0, 255), st.integers(0, 140))


@given(st.lists(CHANGES, max_size=8))
@settings(max_examples=200, deadline=None)
def test_any_byte_of_a_real_frame_changed_and_any_cut(changes: list[tuple[str, int, int, int]]) -> None:
    frames = []
    for name, at, value, length in changes:
        frame = bytearray(READ[name][0])
        frame[at % len(frame)] = value
        frames.append(bytes(frame[: max(length, 20)]))
    assert accounted(batch(*frames))


def test_columns_stay_valid_without_the_buffer() -> None:
    frames = batch(synack(), unreachable())
    buffer = frames.buffer.copy()
    found = parse(Frames(buffer, frames.start, frames.length, frames.time, frames.link), Counter())
    before = rows(found)
    buffer[:] = 0xFF
    assert rows(found) == before


SIZES = {
    "nothing": ("S", b"", [], 0),
    "data": ("S", b"x" * 24, [], 24),
    "FIN": ("SF", b"", [], 1),
    "both": ("SF", b"x" * 24, [], 25),
    "options are no data": ("S", b"x", [("MSS", 1460), ("Timestamp", (1, 0))], 1),
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("case", SIZES)
def test_how_many_sequence_numbers_a_segment_takes(case: str, version: int) -> None:
    """The headers decide, so a capture of the first 54 bytes is enough; padding of a short frame is no data."""
    flags, data, options, size = SIZES[case]
    ip = IP(src=US[4], dst=THEM[4]) if version == 4 else IPv6(src=US[6], dst=THEM[6])
    raw = bytes(ip / TCP(sport=1, dport=2, flags=flags, options=options) / data)
    cut = len(raw) - len(data)
    for frame in (raw, raw[:cut], raw + bytes(6)):
        assert parse(batch(frame), Counter()).size.tolist() == [size]
