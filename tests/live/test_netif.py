"""Interface and route facts, read in a namespace that the test has set up."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest

from scanner.errors import ScanError, UsageError
from scanner.lab import Namespace
from scanner.net import interfaces as netif
from scanner.net import routes
from scanner.packet.addresses import to_int
from scanner.targets.blocks import blocks_of, ranges_of
from scanner.targets.hostspace import HostSpace
from scanner.transport.ring import PACKET_QDISC_BYPASS, SOL_PACKET
from tests.lab.live import LIVE

pytestmark = LIVE

VETH = "link add d0 type veth peer name d1"
SETUP = """
link set lo up
link add eth0 address 02:00:00:00:00:01 mtu 1400 type veth peer name eth1 address 02:00:00:00:00:02
link add idle address 02:00:00:00:00:03 type veth peer name rest address 02:00:00:00:00:04
link set eth0 addrgenmode none
link set eth1 addrgenmode none
address add 198.18.0.1/24 dev eth0
address add 198.18.9.1 peer 198.18.9.2/32 dev eth1
address add 2001:db8::1/64 dev eth0 nodad
link set eth0 up
link set eth1 up
neighbour add 198.18.0.9 lladdr 02:00:00:00:00:09 dev eth0
neighbour add 2001:db8::9 lladdr 02:00:00:00:00:69 dev eth0
neighbour add 198.18.9.8 lladdr 02:00:00:00:00:08 dev eth1
route add 198.18.1.0/24 via 198.18.0.254
route add 198.18.2.0/24 via inet6 2001:db8::fe dev eth0
route add unreachable 198.18.3.0/24
route add blackhole 198.18.4.0/24
route add prohibit 198.18.5.0/24
route add throw 198.18.6.0/24
route add 198.19.0.0/16 via 198.18.0.253
route add 198.18.0.0/24 dev eth1 metric 9
route add 198.19.0.0/16 via 198.18.9.2 table 100
rule add to 198.19.128.0/17 lookup 100
rule add ipproto tcp to 198.19.255.0/24 lookup main priority 9
rule add from 198.18.9.1 lookup 100
route add 2001:db8:1::/48 via 2001:db8::fe
route add unreachable 2001:db8:3::/48
route add blackhole 2001:db8:4::/48
route add prohibit 2001:db8:5::/48
"""


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    with Namespace.create() as made:
        made.ip(SETUP.split("\n")[1:-1])
        yield made


@pytest.fixture(autouse=True)
def _inside(namespace: Namespace) -> Iterator[None]:
    with namespace.entered():
        yield


def complaint(call: Callable[..., object], *arguments: Any, **wishes: Any) -> tuple[type, str]:
    with pytest.raises((ScanError, UsageError)) as caught:
        call(*arguments, **wishes)
    return caught.type, str(caught.value)


def test_interfaces() -> None:
    rows = {(i.name, i.mac, i.link, i.loopback, i.addresses) for i in netif.interfaces().values()}
    assert rows == {
        ("lo", bytes(6), 1, True, (ip_address("127.0.0.1"), ip_address("::1"))),
        ("eth0", b"\2\0\0\0\0\1", 1, False,
         (ip_address("198.18.0.1"), ip_address("2001:db8::1"))),
        ("eth1", b"\2\0\0\0\0\2", 1, False, (ip_address("198.18.9.1"),)),
        ("idle", b"\2\0\0\0\0\3", 1, False, ()),
        ("rest", b"\2\0\0\0\0\4", 1, False, ()),
    }  # fmt: skip


def test_an_unknown_interface_names_the_known_ones() -> None:
    words = "no interface 'eth7' here; -e takes one of: eth0, eth1, idle, lo, rest"
    assert complaint(netif.interface, "eth7") == (UsageError, words)


def test_frames_that_an_interface_drops_are_counted() -> None:
    """The other end is down, so the driver has nowhere to put the frames."""
    with Namespace.create() as quiet:
        quiet.sysctl("net/ipv6/conf/default/disable_ipv6", 1)  # or the kernel sends packets of its own
        quiet.ip([VETH, "link set d0 up"])
        with quiet.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
            wire.bind(("d0", 0))
            before = netif.interface("d0").tx_dropped
            for _ in range(3):
                with suppress(OSError):
                    wire.send(bytes(12) + b"\x88\xb5" + bytes(46))  # an EtherType for experiments (IEEE 802)
            dropped = [netif.interface(name).tx_dropped for name in ("d0", "d1")]
    assert (before, dropped) == (0, [3, 0])


def test_frames_that_a_queue_drops_are_counted() -> None:
    """A queue for one packet before a link that carries a packet in half a second."""
    with Namespace.create() as quiet:
        quiet.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
        quiet.ip([VETH, "link set d0 up", "link set d1 up"])
        made = quiet.run(
            ["tc", "qdisc", "add", "dev", "d0", "root", "tbf", "rate", "1kbit", "burst", "60", "limit", "60"]
        )
        if made.returncode:
            pytest.skip(f"tc: {made.stderr.strip()}")
        with quiet.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("d0", 0))
            index = netif.interface("d0").index
            before = netif.frames_dropped({index})
            for _ in range(20):
                with suppress(OSError):
                    wire.send(bytes(12) + b"\x88\xb5" + bytes(46))
            dropped = netif.frames_dropped({index})
    assert before == 0
    assert 15 <= dropped <= 19


def span(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return to_int(ip_address(first)), to_int(ip_address(last or first))


def space(*spans: tuple[int, int]) -> HostSpace:
    return HostSpace(blocks_of(ranges_of(spans)))


def route(address: IPv4Address | IPv6Address, **wishes: Any) -> routes.Route:
    """The route to one address."""
    hosts = space((to_int(address), to_int(address)))
    [found] = routes.find_routes(hosts, **wishes).hosts
    return found


# target, -e, --source-ip → interface, gateway, source, local
ROUTES = [
    ("198.18.0.2", None, None, "eth0", None, "198.18.0.1", False),
    ("198.18.0.0", None, None, "eth0", None, "198.18.0.1", False),
    ("198.18.0.1", None, None, "lo", None, "198.18.0.1", True),
    ("127.0.0.5", None, None, "lo", None, "127.0.0.1", True),
    ("198.18.9.2", None, None, "eth1", None, "198.18.9.1", False),
    ("198.18.1.1", None, None, "eth0", "198.18.0.254", "198.18.0.1", False),
    ("198.18.2.1", None, None, "eth0", "2001:db8::fe", "198.18.0.1", False),
    ("198.19.0.1", None, None, "eth0", "198.18.0.253", "198.18.0.1", False),
    ("198.19.128.1", None, None, "eth1", "198.18.9.2", "198.18.9.1", False),  # a rule by destination
    ("198.19.255.1", None, None, "eth0", "198.18.0.253", "198.18.0.1", False),  # a rule for TCP
    ("198.19.0.1", None, "198.18.9.1", "eth1", "198.18.9.2", "198.18.9.1", False),  # a rule by source
    ("198.19.0.1", None, "198.18.77.7", "eth0", "198.18.0.253", "198.18.77.7", False),  # a source that is not ours
    ("198.18.0.2", "eth0", None, "eth0", None, "198.18.0.1", False),
    ("198.18.0.2", "eth1", None, "eth1", None, "198.18.9.1", False),
    ("198.18.0.1", "eth1", None, "lo", None, "198.18.0.1", True),  # our own address, whatever -e says
    ("127.0.0.1", "eth0", None, "lo", None, "127.0.0.1", True),
    ("2001:db8::2", None, None, "eth0", None, "2001:db8::1", False),
    ("2001:db8::2", "eth0", "2001:db8::1", "eth0", None, "2001:db8::1", False),
    ("2001:db8::1", None, None, "lo", None, "2001:db8::1", True),
    ("::1", None, None, "lo", None, "::1", True),
    ("2001:db8:1::1", None, None, "eth0", "2001:db8::fe", "2001:db8::1", False),
]


@pytest.mark.parametrize(("target", "through", "origin", "interface", "gateway", "source", "local"), ROUTES)
def test_route(target: str, through: str | None, origin: str | None, interface: str, gateway: str | None,
               source: str, local: bool) -> None:  # fmt: skip
    found = route(
        ip_address(target),
        interface=netif.interface(through) if through else None,
        source=ip_address(origin) if origin else None,
    )
    wanted_gateway = ip_address(gateway) if gateway else None
    assert found == routes.Route(netif.interface(interface), wanted_gateway, ip_address(source), local)


REMEDY = "leave it out (--exclude), or add a route"
UNUSABLE = [
    ("198.18.0.255", None, None, "is a broadcast address of eth0, no host"),
    ("255.255.255.255", None, None, "is the broadcast address, no host"),
    ("224.0.0.1", None, None, "is a multicast address, no host"),
    ("0.0.0.1", None, None, "is an address of 'this network', no host"),
    ("198.18.3.1", None, None, f"cannot be reached (no route, or one of type unreachable): {REMEDY}"),
    ("198.18.4.1", None, None, f"cannot be reached (a route of type blackhole): {REMEDY}"),
    ("198.18.5.1", None, None, f"cannot be reached (a route of type prohibit): {REMEDY}"),
    ("198.18.6.1", None, None, f"cannot be reached (no route): {REMEDY}"),
    ("192.0.2.1", None, None, f"cannot be reached (no route): {REMEDY}"),
    ("198.18.1.1", "eth1", None, f"cannot be reached through eth1 (no route, or one of type unreachable): {REMEDY}"),
    ("2001:db8::2", "eth1", None, f"cannot be reached through eth1 (no route): {REMEDY}"),
    ("2001:db8::2", "eth1", "2001:db8::1", f"cannot be reached through eth1 from 2001:db8::1 (no route): {REMEDY}"),
    ("2001:db8:3::1", None, None, f"cannot be reached (no route, or one of type unreachable): {REMEDY}"),
    ("2001:db8:4::1", None, None, f"cannot be reached (a route of type blackhole): {REMEDY}"),
    ("2001:db8:5::1", None, None, f"cannot be reached (a route of type prohibit): {REMEDY}"),
    ("fe80::2", None, None, "is link-local, every interface has its own: write fe80::1%eth0, or choose one with -e"),
    ("ff02::1", None, None, "is a multicast address, no host"),
    ("::", None, None, "is the unspecified address, no host"),
    ("198.18.0.2", None, "2001:db8::1", "is IPv4, unlike the source address 2001:db8::1: one family at a time"),
]


@pytest.mark.parametrize(("target", "through", "origin", "why"), UNUSABLE)
def test_no_route(target: str, through: str | None, origin: str | None, why: str) -> None:
    wishes = {
        "interface": netif.interface(through) if through else None,
        "source": ip_address(origin) if origin else None,
    }
    kind = routes.NoRoute if "cannot be reached" in why or "one family" in why else UsageError
    assert complaint(route, ip_address(target), **wishes) == (kind, f"{target} {why}")


def rows(found: routes.Routes) -> list[tuple[Any, ...]]:
    """Interface and gateway, or the reason, for each run of addresses."""
    ways = [(*ends, way.interface.name, way.gateway) for way, hosts in found.hosts.items() for ends in hosts.spans()]
    skipped = [line.split(": ") for line in found.skipped]
    return sorted([*ways, *((*span(text), reason) for text, reason in skipped)])


GATEWAY, GATEWAY_6, OTHER = ip_address("198.18.0.254"), ip_address("2001:db8::fe"), ip_address("198.18.9.2")
BROADCAST = "is a broadcast address of eth0, no host"
PATHS = {
    "own and broadcast address inside a block": (
        ["198.18.0.0-198.18.2.255"],
        [
            ("198.18.0.0", "eth0", None),
            ("198.18.0.1", "lo", None),
            ("198.18.0.2-198.18.0.254", "eth0", None),
            ("198.18.0.255", BROADCAST),
            ("198.18.1.0-198.18.1.255", "eth0", GATEWAY),
            ("198.18.2.0-198.18.2.255", "eth0", GATEWAY_6),
        ],
    ),
    "a rule cuts where no route does, and groups with one answer become one path": (
        ["198.19.0.0-198.19.254.255"],
        [
            ("198.19.0.0-198.19.127.255", "eth0", ip_address("198.18.0.253")),
            ("198.19.128.0-198.19.254.255", "eth1", OTHER),
        ],
    ),
    "many spans in one group": (
        ["198.18.1.1", "198.18.1.3-198.18.1.4", "198.18.1.5-198.18.1.9"],
        [("198.18.1.1", "eth0", GATEWAY), ("198.18.1.3-198.18.1.9", "eth0", GATEWAY)],
    ),
    "a broadcast address of its own, beside others": (
        ["198.18.0.7", "198.18.0.255"],
        [("198.18.0.7", "eth0", None), ("198.18.0.255", BROADCAST)],
    ),
    "both families": (
        ["198.18.1.0", "2001:db8::-2001:db8::ff", "2001:db8:1::-2001:db8:1::ffff"],
        [
            ("198.18.1.0", "eth0", GATEWAY),
            ("2001:db8::", "eth0", None),
            ("2001:db8::1", "lo", None),
            ("2001:db8::2-2001:db8::ff", "eth0", None),
            ("2001:db8:1::-2001:db8:1::ffff", "eth0", GATEWAY_6),
        ],
    ),
}


@pytest.mark.parametrize(("spans", "meaning"), PATHS.values(), ids=PATHS)
def test_paths(spans: list[str], meaning: list[tuple[Any, ...]]) -> None:
    wanted = [(*span(text), *rest) for text, *rest in meaning]
    hosts = space(*map(span, spans))
    assert rows(routes.find_routes(hosts)) == wanted


UNREACHABLE = f"cannot be reached (no route, or one of type unreachable): {REMEDY}"
NO_PATHS = [
    (["198.18.0.0-198.18.4.255"], f"198.18.3.0-198.18.3.255 {UNREACHABLE}"),
    (["198.18.0.2", "192.0.2.7"], f"192.0.2.7 cannot be reached (no route): {REMEDY}"),
    (["198.18.0.255"], f"198.18.0.255 {BROADCAST}"),
    (["224.0.0.0-239.255.255.255"], "224.0.0.0-239.255.255.255 is a multicast address, no host"),
]


@pytest.mark.parametrize(("spans", "why"), NO_PATHS)
def test_targets_without_a_path(spans: list[str], why: str) -> None:
    kind = routes.NoRoute if "cannot be reached" in why else UsageError
    assert complaint(routes.find_routes, space(*map(span, spans)), whole=True) == (kind, why)


def test_targets_without_a_path_beside_others() -> None:
    found = routes.find_routes(space(*map(span, ["198.18.0.255", "198.18.2.9-198.18.4.3", "192.0.2.7"])))
    assert (found.skipped, found.unreachable) == (
        [f"198.18.0.255: {BROADCAST}"],
        [
            f"192.0.2.7: cannot be reached (no route): {REMEDY}",
            f"198.18.3.0-198.18.3.255: {UNREACHABLE}",
            f"198.18.4.0-198.18.4.3: cannot be reached (a route of type blackhole): {REMEDY}",
        ],
    )
    assert (sum(map(len, found.lost)), sum(map(len, found.hosts.values()))) == (261, 247)


def test_the_route_of_a_group_is_the_route_of_each_of_its_addresses() -> None:
    """The hosts between two cuts have one route: checked for each address where prefixes and rules are dense."""
    block = span("198.18.0.0-198.18.0.255"), span("198.19.127.240-198.19.128.15"), span("198.19.254.240-198.19.255.15")
    hosts = space(*block)
    by_group = {
        number: way
        for way, part in routes.find_routes(hosts).hosts.items()
        for first, last in part.spans()
        for number in range(first, last + 1)
    }
    one_by_one = {}
    for first, last in block:
        for number in range(first, last + 1):
            if number != span("198.18.0.255")[0]:
                one_by_one[number] = route(ip_address(number & 0xFFFF_FFFF))
    assert by_group == one_by_one


def test_boundaries_of_a_small_table() -> None:
    with Namespace.create() as bare:
        bare.ip([VETH, "address add 198.18.0.1/30 dev d0", "link set d0 up"])
        with bare.entered():
            found = [str(ip_address(each)) for each in routes.boundaries(4)[:-1]]
    nets = ["198.18.0.0", "198.18.0.1", "198.18.0.2", "198.18.0.3", "198.18.0.4"]
    assert found == ["0.0.0.0", "1.0.0.0", *nets, "224.0.0.0", "240.0.0.0", "255.255.255.255"]


def test_a_full_table_is_read_to_its_end() -> None:
    """More routes than one datagram of the kernel holds; each of them is a place to cut."""
    count = 20_000
    lines = [f"route add 20.{i >> 8}.{i & 255}.0/24 dev d0" for i in range(0, count, 2)]
    with Namespace.create() as full:
        full.ip([VETH, "address add 198.18.0.1/24 dev d0", "link set d0 up", *lines])
        with full.entered():
            found = [each for each in routes.boundaries(4) if each >> 24 == 20]
    assert found == [(20 << 24) + (i << 8) for i in range(count)]
