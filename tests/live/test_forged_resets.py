"""The sender of a reset: a firewall in a router, its own ports, DNAT and masquerade; no false claim in both families.

The target closes ports 1000-1009, the router in front of it rejects 1100-1104 with forged resets. A reset of the
target is `host-reset`, a forged one `firewall-reset`; with address translation, resets of the hosts
themselves come from two distances. That alone proves nothing, so it is only reported.
"""

from collections.abc import Callable

import pytest

from scanner.lab import Box, Namespace, PortKind
from scanner.lab.box import add_addresses, cable, configure, new_namespace
from tests.lab.live import LIVE
from tests.lab.networks import require, routed_box
from tests.live.syn_wire import scan

pytestmark = LIVE
VERSIONS = pytest.mark.parametrize("version", [4, 6])
HONEST, FORGED = range(1000, 1010), range(1100, 1105)
PORTS = "1000-1009,1100-1104"
ROUTER = {4: "198.18.0.254", 6: "2001:db8::fe"}
FAMILY = {4: "ip", 6: "ip6"}


def words(box: Box, target: str) -> dict[int, tuple[str, ...]]:
    return {row["port"]: tuple(row["evidence"]) for row in scan(box, target, "-p", PORTS).rows}


def target_of(box: Box, version: int) -> str:
    return box.target_ip if version == 4 else box.target_ip6


def in_router(box: Box, table: str, hook: str, rule: str) -> None:
    """One more rule in the router; `hook` is what stands behind the word type."""
    assert box.router is not None
    rules(box.router, table, hook, rule)


def rules(namespace: Namespace, table: str, hook: str, rule: str) -> None:
    commands = (f"add table {table}", f"add chain {table} c {{ type {hook} ; }}", f"add rule {table} c {rule}", "")
    require(namespace, "\n".join(commands))


@VERSIONS
@pytest.mark.parametrize("masquerade", [False, True])
def test_a_firewall_in_the_router(version: int, masquerade: bool) -> None:
    with routed_box() as box:
        if masquerade:
            in_router(box, f"{FAMILY[version]} n", "nat hook postrouting priority 100", "oifname far0 masquerade")
        box.install({PortKind.TCP_RESET: ["1100-1104"]}, box.router, "forward")
        found = words(box, target_of(box, version))
    # The router is one hop nearer, so the TTL agrees with the mark.
    expected = dict.fromkeys(HONEST, ("host-reset",)) | dict.fromkeys(FORGED, ("firewall-reset", "ttl-differs"))
    assert found == expected


@VERSIONS
def test_resets_from_two_distances_behind_dnat(version: int) -> None:
    """The router answers for itself on 1000-1009 and hands 1100-1104 on to the target: nothing is forged."""
    with routed_box() as box:
        rule = f"tcp dport 1100-1104 dnat to {target_of(box, version)}"
        in_router(box, f"{FAMILY[version]} n", "nat hook prerouting priority -100", rule)
        found = words(box, ROUTER[version])
    assert found == dict.fromkeys(HONEST, ()) | dict.fromkeys(FORGED, ("ttl-differs",))


@VERSIONS
def test_a_router_that_clears_the_mark_leaves_no_claim(version: int) -> None:
    with routed_box() as box:
        box.install({PortKind.TCP_RESET: ["1100-1104"]}, box.router, "forward")
        in_router(box, "inet m", "filter hook postrouting priority 0", f"{FAMILY[version]} dscp set 0")
        found = words(box, target_of(box, version))
    assert found == dict.fromkeys(HONEST, ()) | dict.fromkeys(FORGED, ("ttl-differs",))


# ── no firewall at all ──

MARK_CLEARED = {4: "ip dscp set 0", 6: "ip6 dscp set 0"}
SECOND = {4: "198.18.3.2", 6: "2001:db8:3::2"}
NETS = {4: ("198.18.2.1", "198.18.2.2", "198.18.3.1"), 6: ("2001:db8:2::1", "2001:db8:2::2", "2001:db8:3::1")}
FAR_HOST = "2001:db8:ff::5"  # an address of the target, in a network of its own
FLOW = "jhash tcp sport . tcp dport mod 2 seed {seed}"


def second_server(box: Box) -> None:
    """One more host behind the router, and behind another router that clears the DSCP of what goes to it."""
    assert box.router is not None
    between, host = new_namespace(box.stack), new_namespace(box.stack)
    between.sysctl("net/ipv4/ip_forward", 1)
    between.sysctl("net/ipv6/conf/all/forwarding", 1)
    cable(box.router, "mid0", between, "mid1", 2)
    cable(between, "end0", host, "end1", 3)
    for namespace, name, place in ((box.router, "mid0", 0), (between, "mid1", 1), (between, "end0", 2)):
        add_addresses(namespace, name, [NETS[version][place] for version in (4, 6)])
    add_addresses(host, "end1", [SECOND[version] for version in (4, 6)])
    configure(box.router, ["route add 198.18.3.0/24 via 198.18.2.2", "route add 2001:db8:3::/64 via 2001:db8:2::2"])
    configure(between, ["route add 198.18.0.0/24 via 198.18.2.1", "route add 2001:db8::/64 via 2001:db8:2::1"])
    configure(host, ["route add 198.18.0.0/15 via 198.18.3.1", "route add 2001:db8::/32 via 2001:db8:3::1"])
    for clear in MARK_CLEARED.values():
        rules(between, "inet m", "filter hook forward priority 0", f"oifname end0 {clear}")


def balanced_path(box: Box, version: int, seed: int) -> str:
    """ECMP, told by what it does: half of the flows take a path that clears the DSCP."""
    rule = f"meta nfproto ipv{version} {FLOW.format(seed=seed)} 0 {MARK_CLEARED[version]}"
    in_router(box, "inet m", "filter hook forward priority -10", f"iifname near0 {rule}")
    return target_of(box, version)


def virtual_ip_by_flow(box: Box, version: int, seed: int) -> str:
    second_server(box)
    servers = f"{{ 0 : {target_of(box, version)}, 1 : {SECOND[version]} }}"
    rule = f"tcp dport 1000-1104 dnat to {FLOW.format(seed=seed)} map {servers}"
    in_router(box, f"{FAMILY[version]} n", "nat hook prerouting priority -100", rule)
    return ROUTER[version]


def virtual_ip_by_port(box: Box, version: int, seed: int) -> str:
    second_server(box)
    servers = f"{{ 1000-1009 : {target_of(box, version)}, 1100-1104 : {SECOND[version]} }}"
    rule = f"dnat to tcp dport map {servers}"
    in_router(box, f"{FAMILY[version]} n", "nat hook prerouting priority -100", rule)
    return ROUTER[version]


def port_forward(box: Box, version: int, seed: int) -> str:
    second_server(box)
    rule = f"tcp dport 1100-1104 dnat to {SECOND[version]}"
    in_router(box, f"{FAMILY[version]} n", "nat hook prerouting priority -100", rule)
    return ROUTER[version]


def same_distance(box: Box, version: int, seed: int) -> str:
    """A virtual IP by port; both servers are one hop away, and the DSCP is cleared on the way to one of them."""
    servers = f"{{ 1000-1009 : {target_of(box, version)}, 1100-1104 : {FAR_HOST} }}"
    in_router(box, "ip6 n", "nat hook prerouting priority -100", f"dnat to tcp dport map {servers}")
    in_router(box, "ip6 m", "filter hook postrouting priority 0", f"ip6 daddr {FAR_HOST} {MARK_CLEARED[6]}")
    return ROUTER[version]


def policer(box: Box, version: int, seed: int) -> str:
    """The first probes keep their mark, those beyond the rate lose it."""
    rule = f"meta nfproto ipv{version} limit rate over {20 + seed}/second burst 6 packets {MARK_CLEARED[version]}"
    in_router(box, "inet m", "filter hook forward priority -10", f"iifname near0 {rule}")
    return target_of(box, version)


SCENES = (balanced_path, virtual_ip_by_flow, virtual_ip_by_port, port_forward, policer)


# Over IPv4 the headers of `same_distance` are those of REJECT; over IPv6 the flow label tells them apart.
@pytest.mark.parametrize(
    ("scene", "version"), [*((scene, version) for scene in SCENES for version in (4, 6)), (same_distance, 6)]
)
def test_no_claim_without_a_firewall(scene: Callable[[Box, int, int], str], version: int) -> None:
    """Resets with and without the mark come, and nobody forged one."""
    with routed_box() as box:
        found = [word for evidence in words(box, scene(box, version, 7)).values() for word in evidence]
    assert {"firewall-reset", "host-reset"} & set(found) == set()
