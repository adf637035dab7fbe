"""Scans over many kinds of links at once: what is on the link, behind which gateway, by which rule, with which MTU.

    scanner  near0 ─── near: 198.18.0.0/24, 2001:db8::/64
             far0 ──── far:  198.18.10.0/31, 198.18.11.2/32, 2001:db8:10::/127
             small0 ── far:  198.18.12.0/24, MTU 576

Each of the two peers owns other prefixes behind these links. A probe that takes the wrong way meets a peer that does
not own the address, and stays without an answer.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from scanner.errors import ScanError
from scanner.lab import Box
from scanner.lab.box import cable, new_namespace
from tests.lab.live import LIVE
from tests.live.syn_wire import Done, scan

pytestmark = LIVE

SCANNER = """
address add 198.18.0.1/24 dev near0
address add 198.18.10.0/31 dev far0
address add 198.18.11.1 peer 198.18.11.2/32 dev far0
address add 2001:db8::1/64 dev near0 nodad
address add 2001:db8:10::/127 dev far0 nodad
address add 198.18.12.1/24 dev small0
link set small0 mtu 576
route add 198.19.1.0/24 via 198.18.0.2
route add 198.19.2.0/24 via 198.18.10.1
route add 198.19.3.0/24 via 198.18.0.2
route add 198.19.3.0/24 via 198.18.10.1 table 100
rule add to 198.19.3.0/24 lookup 100
route add 198.19.4.0/24 nexthop via 198.18.0.2 nexthop via 198.18.10.1
route add 2001:db8:20::/64 via fe80::a:2 dev far0
route add 2001:db8:21::/64 via 2001:db8::2
"""
NEAR = """
address add 198.18.0.2/24 dev peer0
address add 2001:db8::2/64 dev peer0 nodad
route add local 198.19.1.0/24 dev lo
route add local 198.19.4.0/24 dev lo
route add local 2001:db8:21::/64 dev lo
"""
FAR = """
address add 198.18.10.1/31 dev peer1
address add 198.18.11.2 peer 198.18.11.1/32 dev peer1
address add 2001:db8:10::1/127 dev peer1 nodad
address add fe80::a:2/64 dev peer1 nodad
address add 198.18.12.2/24 dev peer2
link set peer2 mtu 576
route add local 198.19.2.0/24 dev lo
route add local 198.19.3.0/24 dev lo
route add local 198.19.4.0/24 dev lo
route add local 2001:db8:20::/64 dev lo
route add 2001:db8::/64 via 2001:db8:10:: dev peer1
route add 198.18.0.0/24 via 198.18.10.0
"""


def lines(text: str) -> list[str]:
    return text.split("\n")[1:-1]


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with ExitStack() as stack:
        made = Box(stack, new_namespace(stack), new_namespace(stack))
        far = new_namespace(stack)
        cable(made.scanner, "near0", made.target, "peer0", 0)
        cable(made.scanner, "far0", far, "peer1", 1)
        cable(made.scanner, "small0", far, "peer2", 2)
        for namespace, text in ((made.scanner, SCANNER), (made.target, NEAR), (far, FAR)):
            namespace.ip(lines(text))
        made.listen([22])
        made.listen([22], far)
        yield made


def answered(done: Done) -> dict[str, list[tuple[int, str]]]:
    """Port and state of each row, by address."""
    found: dict[str, list[tuple[int, str]]] = {}
    for row in done.rows:
        found.setdefault(row["ip"], []).append((row["port"], row["state"]))
    return {ip: sorted(rows) for ip, rows in found.items()}


BOTH = [(22, "open"), (23, "closed")]
PLACES = {
    "on the link": "198.18.0.2",
    "a /31": "198.18.10.1",
    "a peer with a /32": "198.18.11.2",
    "an MTU of 576": "198.18.12.2",
    "a /127": "2001:db8:10::1",
    "behind the near gateway": "198.19.1.7",
    "behind the far gateway": "198.19.2.7",
    "by a rule, against the main table": "198.19.3.7",
    "over several next hops": "198.19.4.7",
    "behind a link-local gateway": "2001:db8:20::7",
    "behind an IPv6 gateway": "2001:db8:21::7",
}


def test_everything_in_one_scan(box: Box) -> None:
    done = scan(box, *PLACES.values(), "198.19.4.8-15", "-p", "22,23")
    several = [f"198.19.4.{number}" for number in range(8, 16)]
    assert answered(done) == dict.fromkeys([*PLACES.values(), *several], BOTH)
    assert (done.code, [line for line in done.errors if "does not answer" in line]) == (0, [])


@pytest.mark.parametrize("place", PLACES)
def test_alone(box: Box, place: str) -> None:
    done = scan(box, PLACES[place], "-p", "22,23")
    assert (done.code, answered(done)) == (0, {PLACES[place]: BOTH})


def test_a_vlan_interface() -> None:
    """The kernel puts the tag on and takes it off: frames of this interface have none."""
    with ExitStack() as stack:
        box = Box(stack, new_namespace(stack), new_namespace(stack), "198.18.13.2")
        cable(box.scanner, "wire0", box.target, "wire1")
        try:
            for end, wire in ((box.scanner, "wire0"), (box.target, "wire1")):
                end.ip([f"link add link {wire} name tagged type vlan id 5", "link set tagged up"])
        except ScanError as error:
            pytest.skip(f"no VLAN interfaces: {error}")
        box.scanner.ip(["address add 198.18.13.1/24 dev tagged", "address add 198.18.0.1/24 dev wire0"])
        box.target.ip(["address add 198.18.13.2/24 dev tagged"])
        box.listen([22])
        done = scan(box, box.target_ip, "-p", "22,23")
        assert (done.code, answered(done)) == (0, {box.target_ip: BOTH})


ZONED = """
address add fe80::b:1/64 dev near0 nodad
address add fe80::c:1/64 dev far0 nodad
"""


@pytest.fixture(scope="module")
def zoned(box: Box) -> Box:
    """Link-local addresses: fe80::7 on the near link, fe80::a:2 on the far one."""
    box.scanner.ip(lines(ZONED))
    box.target.ip(["address add fe80::7/64 dev peer0 nodad"])
    return box


ZONES = {"fe80::7%near0": "fe80::7", "fe80::a:2%far0": "fe80::a:2"}


@pytest.mark.parametrize("verb", ["syn", "connect"])
def test_zones_choose_the_link_of_each_target(zoned: Box, verb: str) -> None:
    done = scan(zoned, *ZONES, "198.18.0.2", "-p", "22,23", verb=verb)
    assert (done.code, answered(done)) == (0, dict.fromkeys([*ZONES.values(), "198.18.0.2"], BOTH))


def test_a_handshake_needs_the_zone_as_well(zoned: Box) -> None:
    done = scan(zoned, *ZONES, "-p", "22,23", "--verify")
    assert (done.code, answered(done)) == (0, dict.fromkeys(ZONES.values(), BOTH))
    assert {tuple(row["evidence"]) for row in done.rows if row["port"] == 22} <= {
        ("silent-after-handshake",),
        ("handshake-completed",),
    }


def test_a_block_with_a_zone_and_an_exclude(zoned: Box) -> None:
    done = scan(zoned, "fe80::%near0/125", "-p", "22,23", "--exclude", "fe80::1-fe80::4,fe80::6%far0", "--all")
    down = [("fe80::", None, "down"), ("fe80::5", None, "down")]
    assert (done.code, done.brief("ip", "port", "state")) == (
        0, sorted([*down, *(("fe80::7", *row) for row in BOTH)], key=repr)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fe80::7%gone0"], "no interface 'gone0' for the zone %gone0; there are: far0, lo, near0, small0"),
        (["fe80::7%near0", "fe80::7%far0"], "one address has two zones (%far0 and %near0): scan one "
                                               "link after the other"),
        (["fe80::7%near0", "-e", "far0"], "the zone %near0 is not the interface of -e, far0: leave one of them out"),
        (["2001:db8::2%near0"], "2001:db8::2%near0: only link-local addresses (fe80::/10) have a zone; choose an "
                                "interface with -e"),
        (["fe80::7"], "fe80::7 is link-local, every interface has its own: write fe80::1%eth0, or choose one with -e"),
    ],
)  # fmt: skip
def test_zones_that_choose_nothing(zoned: Box, arguments: list[str], message: str) -> None:
    done = scan(zoned, *arguments, "-p", "22")
    assert (done.code, done.rows, done.errors) == (2, [], [f"halfopen: {message}"])
