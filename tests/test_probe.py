"""Every stamped frame is, byte for byte, the frame that Scapy builds, checksums included."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from scanner.packet import probe
from scanner.packet.addresses import from_ints
from scanner.packet.headers import MAPPED, Bytes
from scanner.packet.template import Recipe, build, building_ahead
from tests.builders import OUR_MAC, THEIR_MAC, US

OPTIONS: dict[str, Callable[[int, int], list[tuple[str, object]]]] = {
    "os": lambda mss, clock: [("MSS", mss), ("SAckOK", b""), ("Timestamp", (clock, 0)), ("NOP", None), ("WScale", 7)],
    "mss": lambda mss, clock: [("MSS", mss)],
    "none": lambda mss, clock: [],
}
u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
EXTREMES = st.sampled_from([0, 1, 0xFF, 0xFFFF, 0xFFFF0000, 0xFFFFFFFF])
Flow = tuple[int, int, int, int]  # target, its port, our port, sequence number


def flows(version: int) -> st.SearchStrategy[list[Flow]]:
    """Random flows, and among them words at which the checksum carries."""
    address = st.one_of(u32, EXTREMES) if version == 4 else st.one_of(st.integers(0, (1 << 128) - 1), EXTREMES)
    return st.lists(st.tuples(address, u16, u16, st.one_of(u32, EXTREMES)), min_size=1, max_size=6)


def prepare(kind: str, version: int, ethernet: bool, **fields: Any) -> probe.Template:
    """A template from us to their MAC address."""
    template = probe.prepare(Recipe(kind, version, US[version], OUR_MAC if ethernet else None, **fields))
    if ethernet and kind != "query":
        template.frame[:6] = np.frombuffer(bytes.fromhex(THEIR_MAC.replace(":", "")), np.uint8)
    return template


def stamped(
    template: probe.Template, rows: list[Flow], macs: list[bytes] | None = None, clock: int = 0, ack: int | None = None
) -> list[bytes]:
    """The frames, stamped over rows that are wider than a frame and not empty."""
    version = template.version
    target = from_ints([address | (MAPPED if version == 4 else 0) for address, *_ in rows])
    target_port, our_port = (np.array([row[i] for row in rows], np.uint16) for i in (1, 2))
    seq = np.array([row[3] for row in rows], np.uint32)
    out: Bytes = np.full((len(rows), 256), 0xA5, np.uint8)
    hops = None if macs is None else np.array(macs, "V6")
    acks = None if ack is None else np.full(len(rows), ack, np.uint32)
    probe.stamp(template, out, target, target_port, our_port, seq, hops, clock, acks)
    assert (out[:, template.length :] == 0xA5).all()
    return [row.tobytes() for row in out[:, : template.length]]


def by_scapy(
    version: int, row: Flow, tcp: TCP, ethernet: bool, ttl: int = 64, tos: int = 4, mac: str = THEIR_MAC
) -> bytes:
    """The same frame with Scapy's checksums and lengths; the identification is the folded sequence number."""
    address, tcp.dport, tcp.sport, tcp.seq = row
    if version == 4:
        identity = (row[3] & 0xFFFF) ^ (row[3] >> 16)
        packet = IP(src=US[4], dst=str(IPv4Address(address)), ttl=ttl, tos=tos, flags="DF", id=identity) / tcp
    else:
        packet = IPv6(src=US[6], dst=str(IPv6Address(address)), hlim=ttl, tc=tos) / tcp
    return bytes(Ether(src=OUR_MAC, dst=mac) / packet if ethernet else packet)


@pytest.mark.parametrize("ethernet", [False, True], ids=["ip", "ethernet"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("version", [4, 6])
def test_syn(version: int, options: str, ethernet: bool) -> None:
    @given(flows(version), st.integers(1, 255), st.integers(0, 255), st.one_of(u32, EXTREMES))
    @settings(max_examples=12, deadline=None)
    def equals_scapys(rows: list[Flow], ttl: int, tos: int, clock: int) -> None:
        template = prepare("syn", version, ethernet, options=options, ttl=ttl, tos=tos)
        tcp = TCP(flags="S", window=64240, options=OPTIONS[options](1460 if version == 4 else 1440, clock))
        assert stamped(template, rows, clock=clock) == [
            by_scapy(version, row, tcp.copy(), ethernet, ttl, tos) for row in rows
        ]

    equals_scapys()


@pytest.mark.parametrize("ethernet", [False, True], ids=["ip", "ethernet"])
@pytest.mark.parametrize("version", [4, 6])
def test_reset(version: int, ethernet: bool) -> None:
    @given(flows(version))
    @settings(max_examples=15, deadline=None)
    def equals_scapys(rows: list[Flow]) -> None:
        template = prepare("reset", version, ethernet)
        assert stamped(template, rows) == [by_scapy(version, row, TCP(flags="R", window=0), ethernet) for row in rows]

    equals_scapys()


@pytest.mark.parametrize("ethernet", [False, True], ids=["ip", "ethernet"])
@pytest.mark.parametrize("version", [4, 6])
def test_syn_ack(version: int, ethernet: bool) -> None:
    @given(flows(version), st.one_of(u32, EXTREMES))
    @settings(max_examples=15, deadline=None)
    def equals_scapys(rows: list[Flow], ack: int) -> None:
        template = prepare("syn-ack", version, ethernet)
        tcp = TCP(flags="SA", window=64240, ack=ack, options=[("MSS", 1460 if version == 4 else 1440)])
        assert stamped(template, rows, ack=ack) == [by_scapy(version, row, tcp.copy(), ethernet) for row in rows]

    equals_scapys()


@pytest.mark.parametrize("version", [4, 6])
def test_every_carry(version: int) -> None:
    """For 65,536 sums in a row, pseudo-header and segment add up to a multiple of 2^16 - 1 (RFC 1071)."""
    template, n = prepare("syn", version, False), 1 << 16
    rows, target = np.zeros((n, template.length), np.uint8), from_ints([0xFFFFFFFF | MAPPED]).repeat(n)
    probe.stamp(template, rows, target, np.full(n, 80, np.uint16), 40000, np.arange(n, dtype=np.uint32))
    words = rows.view(">u2").astype(np.int64)
    addresses = words[:, 6 if version == 4 else 4 : template.payload // 2].sum(axis=1)
    segment = words[:, template.payload // 2 :].sum(axis=1) + 6 + template.length - template.payload
    headers = words[:, : template.payload // 2].sum(axis=1) if version == 4 else np.zeros(n)
    assert not ((addresses + segment) % 0xFFFF).any()
    assert not (headers % 0xFFFF).any()


@pytest.mark.parametrize(
    ("version", "options", "length"), [(4, "os", 74), (4, "mss", 58), (4, "none", 54), (6, "os", 94)]
)
def test_frame_lengths(version: int, options: str, length: int) -> None:
    assert prepare("syn", version, True, options=options).length == length


def test_defaults_are_polite_and_common() -> None:
    """DSCP LE, TTL 64, DF, window 64240."""
    packet = IP(stamped(prepare("syn", 4, False), [(1, 2, 3, 4)])[0])
    tcp = packet[TCP]
    assert (packet.tos, packet.ttl, str(packet.flags), tcp.window, str(tcp.flags)) == (4, 64, "DF", 64240, "S")


@pytest.mark.parametrize("version", [4, 6])
def test_each_row_to_its_own_next_hop(version: int) -> None:
    rows = [(5, 80, 40000, 9), (6, 81, 40001, 10)]
    macs = ["02:00:00:00:00:aa", "02:00:00:00:00:bb"]
    raw = [bytes.fromhex(mac.replace(":", "")) for mac in macs]
    frames = stamped(prepare("syn", version, True, options="none"), rows, raw)
    tcp = TCP(flags="S", window=64240)
    assert frames == [by_scapy(version, row, tcp.copy(), True, mac=mac) for row, mac in zip(rows, macs, strict=True)]


def test_one_port_for_all_rows() -> None:
    template, rows = prepare("syn", 4, False), np.zeros((2, 128), np.uint8)
    targets, ports, sequence = from_ints([MAPPED + 1, MAPPED + 2]), np.array([80, 81], "u2"), np.array([3, 4], "u4")
    probe.stamp(template, rows, targets, ports, 40000, sequence)
    frames = [row[: template.length].tobytes() for row in rows]
    assert frames == stamped(template, [(1, 80, 40000, 3), (2, 81, 40000, 4)])


def test_a_stamp_does_not_change_the_next_one() -> None:
    template = prepare("syn", 4, True)
    before = stamped(template, [(7, 8, 9, 10)])
    stamped(template, [(0xFFFFFFFF, 0xFFFF, 0xFFFF, 0xFFFFFFFF)], [b"\xff" * 6])
    assert stamped(template, [(7, 8, 9, 10)]) == before


@given(st.lists(u32, min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_arp_request(addresses: list[int]) -> None:
    template, rows = prepare("query", 4, True), np.full((len(addresses), 64), 0xA5, np.uint8)
    probe.stamp_query(template, rows, from_ints([address | MAPPED for address in addresses]))
    ether = Ether(src=OUR_MAC, dst="ff:ff:ff:ff:ff:ff")
    bodies = [ARP(op=1, hwsrc=OUR_MAC, psrc=US[4], pdst=str(IPv4Address(address))) for address in addresses]
    assert [row[: template.length].tobytes() for row in rows] == [bytes(ether / body) for body in bodies]


@given(st.lists(st.one_of(st.integers(0, (1 << 128) - 1), EXTREMES), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_neighbour_solicitation(addresses: list[int]) -> None:
    template, rows = prepare("query", 6, True), np.full((len(addresses), 128), 0xA5, np.uint8)
    probe.stamp_query(template, rows, from_ints(addresses))
    assert [row[: template.length].tobytes() for row in rows] == [solicitation(address) for address in addresses]


def solicitation(address: int) -> bytes:
    """A solicitation (RFC 4861 4.3) to the solicited-node group (RFC 4291 2.7.1) and its MAC address (RFC 2464 7)."""
    low = address & 0xFFFFFF
    mac = f"33:33:ff:{low >> 16:02x}:{low >> 8 & 255:02x}:{low & 255:02x}"
    group = str(IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | low))
    body = ICMPv6ND_NS(tgt=str(IPv6Address(address))) / ICMPv6NDOptSrcLLAddr(lladdr=OUR_MAC)
    return bytes(Ether(src=OUR_MAC, dst=mac) / IPv6(src=US[6], dst=group, hlim=255) / body)


def test_frames_are_the_same_from_this_process_and_from_the_child() -> None:
    """In this process, by the child, and in this process again when the child has gone."""
    recipes = [
        Recipe("syn", 4, US[4], OUR_MAC, "os", 64, 4),
        Recipe("reset", 6, US[6], None),
        Recipe("query", 6, US[6], OUR_MAC),
    ]
    here = [build(recipe) for recipe in recipes]
    with building_ahead():
        assert [build(recipe) for recipe in recipes] == here
    assert [build(recipe) for recipe in recipes] == here
