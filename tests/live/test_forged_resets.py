"""The sender of a reset: a firewall in a router, its own ports, DNAT and masquerade; no false claim in both families.

The target closes ports 1000-1009, the router in front of it rejects 1100-1104 with forged resets. A reset of the
target is `host-reset`, a forged one `firewall-reset`; with address translation, resets of the hosts
themselves come from two distances. That alone proves nothing, so it is only reported.
"""

import pytest

from scanner.lab import Box, PortKind
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
    commands = (f"add table {table}", f"add chain {table} c {{ type {hook} ; }}", f"add rule {table} c {rule}", "")
    require(box.router, "\n".join(commands))


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
