"""Netlink messages: bytes that a kernel sent (6.18, little-endian), and what they mean."""

import struct
import sys
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.net import netlink
from scanner.net.netlink import Interface, Message, RouteFacts, RouteType

RTM_NEWLINK = 16
recorded = pytest.mark.skipif(sys.byteorder != "little", reason="the recorded messages are little-endian")
EXPIRY = "14000600fffffffffffffffff3490300f3490300"  # IFA_CACHEINFO, which is not read

ADDRESSES = {
    "plain": (
        "0218800003000000 08000100c6120001 08000200c6120001 090003006574683000000000 0800080080000000" + EXPIRY,
        (3, ip_address("198.18.0.1")),
    ),
    "point to point: ours, not the other end's": (
        "0220800003000000 08000100c6120902 08000200c6120901 0800080080000000",
        (3, ip_address("198.18.9.1")),
    ),
    "ipv6": (
        "0a40820003000000 1400010020010db8000000000000000000000001" + EXPIRY + "0800080082000000",
        (3, ip_address("2001:db8::1")),
    ),
    "duplicate detection not over": (
        "0a40c00003000000 1400010020010db8000000000000000000000002 08000800c0000000",
        None,
    ),
    "duplicate detection failed, told in IFA_FLAGS only": (
        "0a40000003000000 1400010020010db8000000000000000000000002 0800080008000000",
        None,
    ),
    "no IP family": ("0718800003000000 08000100c6120001", None),
    "no address": ("0218800003000000", None),
}


@recorded
@pytest.mark.parametrize(("body", "meaning"), ADDRESSES.values(), ids=ADDRESSES)
def test_interface_address(body: str, meaning: object) -> None:
    assert netlink.interface_address(bytes.fromhex(body)) == meaning


ROUTES = {
    "on the link": (
        "02200000fe00000100020000 08000f00fe000000 08000100c6120002 0800040003000000 08000700c6120001",
        RouteFacts(RouteType.UNICAST, 3, None, ip_address("198.18.0.1")),
    ),
    "gateway": (
        "02200000fe00000100020000 08000100c6120101 0800040003000000 08000700c6120001 08000500c61200fe",
        RouteFacts(RouteType.UNICAST, 3, ip_address("198.18.0.254"), ip_address("198.18.0.1")),
    ),
    "IPv4 by way of an IPv6 router": (
        "02200000fe00000100020000 08000100c6120201 0800040003000000 08000700c6120001"
        "160012000a0020010db80000000000000000000000fe0000 0800190000000000",
        RouteFacts(RouteType.UNICAST, 3, ip_address("2001:db8::fe"), ip_address("198.18.0.1")),
    ),
    "broadcast": (
        "02200000fe00000300020090 08000100c61200ff 0800040003000000 08000700c6120001",
        RouteFacts(RouteType.BROADCAST, 3, None, ip_address("198.18.0.1")),
    ),
    "unreachable, as some kernels say it for IPv6": (
        "0a808000fe00000700020000 1400010020010db8000300000000000000000001 0800040001000000",
        RouteFacts(RouteType.UNREACHABLE, 1, None, None),
    ),
}


@recorded
@pytest.mark.parametrize(("body", "meaning"), ROUTES.values(), ids=ROUTES)
def test_route(body: str, meaning: RouteFacts) -> None:
    assert netlink.route(bytes.fromhex(body)) == meaning


PREFIXES = {
    "default": ("02000000fe00000100000000 08000f00fe000000 08000500c61200fe", (4, 0, 1 << 32)),
    "/24": ("02180000fe02fd0100000000 08000f00fe000000 08000100c6120000", (4, 0xC6120000, 256)),
    "rule": ("021900006400000100000000 08000600fd7f0000 08000100c6120180", (4, 0xC6120180, 128)),
    "ipv6": ("0a300000fe00000100000000 1400010020010db8000100000000000000000000", (6, 0x20010DB80001 << 80, 1 << 80)),
    "no IP family": ("07180000fe00000100000000 08000100c6120000", (0, 0xC6120000, 1 << 104)),
}


@recorded
@pytest.mark.parametrize(("body", "meaning"), PREFIXES.values(), ids=PREFIXES)
def test_prefix(body: str, meaning: tuple[int, int, int]) -> None:
    assert netlink.prefix(bytes.fromhex(body)) == meaning


@pytest.mark.parametrize(("wire", "mac"), [(b"\2\0\0\0\0\1", b"\2\0\0\0\0\1"), (b"\xc6\x12\0\1", None), (b"", None)])
def test_link(wire: bytes, mac: bytes | None) -> None:
    header = netlink.LINK.pack(0, 1, 3, 0x1043, 0)
    stats = struct.pack("=8Q", *range(8)) + b"\1"  # from a kernel with more counters
    pairs = [(1, wire), (3, b"eth0\0"), (4, struct.pack("=I", 1500)), (23, stats)]
    [message] = netlink.messages(netlink.request(RTM_NEWLINK, header, pairs))
    link = netlink.link(message.body)
    assert link == Interface("eth0", 3, mac, 1, loopback=False)
    assert link.tx_dropped == 7


@pytest.mark.parametrize(("source", "index", "pairs"), [
    (None, None, {1: b"\xc6\x12\0\2", 27: b"\6"}),
    ("198.18.0.1", 3, {1: b"\xc6\x12\0\2", 27: b"\6", 2: b"\xc6\x12\0\1", 4: struct.pack("=i", 3)}),
])  # fmt: skip
def test_route_request(source: str | None, index: int | None, pairs: dict[int, bytes]) -> None:
    asked = netlink.route_request(ip_address("198.18.0.2"), ip_address(source) if source else None, index, 0x2000)
    [message] = netlink.messages(asked)
    header = netlink.ROUTE.pack(2, 32, 32 if source else 0, 0, 0, 0, 0, 0, 0x2000)
    found = (message.kind, message.flags, message.body[:12], dict(netlink.attributes(message.body, 12)))
    assert found == (netlink.RTM_GETROUTE, netlink.NLM_F_REQUEST, header, pairs)


@pytest.mark.parametrize(("number", "errno"), [(-101, 101), (0, 0)])
def test_error_number(number: int, errno: int) -> None:
    assert netlink.error_number(struct.pack("=i", number) + b"the request, echoed") == errno


# A length below the header's would never advance; one beyond the end would read bytes that do not exist.
BROKEN = {
    "empty": (b"", []),
    "half a header": (bytes(15), []),
    "length 0": (netlink.HEADER.pack(0, 3, 0, 0, 0), []),
    "too long": (netlink.HEADER.pack(17, 3, 0, 0, 0), []),
    "one good, then garbage": (netlink.request(3, b"abcd") + b"\xff" * 16, [Message(3, 1, b"abcd")]),
}


@pytest.mark.parametrize(("data", "meaning"), BROKEN.values(), ids=BROKEN)
def test_broken_lengths_end_the_walk(data: bytes, meaning: list[Message]) -> None:
    assert list(netlink.messages(data)) == meaning


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40)), st.binary(max_size=3))
def test_attributes_with_trailing_bytes(pairs: dict[int, bytes], trailing: bytes) -> None:
    [message] = netlink.messages(netlink.request(26, bytes(12), pairs.items()) + trailing)
    assert dict(netlink.attributes(message.body + trailing, 12)) == pairs
