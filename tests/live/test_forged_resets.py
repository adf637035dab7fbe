"""Who sent that reset? A firewall in a router, its own closed ports, DNAT and masquerade: no false claim, both families.

The target closes ports 1000-1009, the router in front of it rejects 1100-1104 with forged resets. A reset of the
target is `host-reset`, a forged one `firewall-reset`; with address translation honest resets come from two
distances, which alone proves nothing and is only named.
"""

import pytest

from scanner.lab import Box, Kind, here
from scanner.lab.firewall import require
from tests.live.syn_wire import scan

OBSTACLE = here()
pytestmark = [pytest.mark.live, pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE))]
VERSIONS = pytest.mark.parametrize("version", [4, 6])
HONEST, FORGED = range(1000, 1010), range(1100, 1105)
ROUTER = {4: "198.18.0.254", 6: "2001:db8::fe"}
SET_UP = {4: ("198.18.0.1", "198.18.1.2", "ip"), 6: ("2001:db8::1", "2001:db8:1::2", "ip6")}


def words(box: Box, target: str, ports: str) -> dict[int, tuple[str, ...]]:
    return {row["port"]: tuple(row["evidence"]) for row in scan(box, target, "-p", ports).rows}


@VERSIONS
@pytest.mark.parametrize("masquerade", [False, True])
def test_a_firewall_in_the_router(version: int, masquerade: bool) -> None:
    with Box(routed=True) as box:
        if masquerade:
            family = SET_UP[version][2]
            require(
                box.router or box.target,
                f"table {family} n {{ chain p {{ type nat hook postrouting priority 100 ; oifname far0 masquerade ; }} }}",
            )
        box.install_in_router({Kind.TCP_RESET: ["1100-1104"]})
        found = words(box, box.target_ip if version == 4 else box.target_ip6, "1000-1009,1100-1104")
    # The router is one hop nearer: the distance supports what the mark says.
    expected = dict.fromkeys(HONEST, ("host-reset",)) | dict.fromkeys(FORGED, ("firewall-reset", "ttl-differs"))
    assert found == expected


@VERSIONS
def test_honest_resets_from_two_distances_behind_dnat(version: int) -> None:
    """The router answers for itself on 1000-1004 and hands 1100-1104 on to the target: nobody forges anything."""
    _, target, family = SET_UP[version]
    rule = f"tcp dport 1100-1104 dnat to {target}"
    with Box(routed=True) as box:
        chain = f"chain d {{ type nat hook prerouting priority -100 ; {rule} ; }}"
        assert box.router is not None
        require(box.router, f"table {family} n {{ {chain} }}")
        found = words(box, ROUTER[version], "1000-1005,1100-1104")
    assert found == dict.fromkeys(range(1000, 1006), ()) | dict.fromkeys(FORGED, ("ttl-differs",))


@VERSIONS
def test_a_router_that_clears_the_mark_leaves_no_claim(version: int) -> None:
    field = "ip dscp" if version == 4 else "ip6 dscp"
    with Box(routed=True) as box:
        assert box.router is not None
        box.install_in_router({Kind.TCP_RESET: ["1100-1104"]})
        chain = f"chain m {{ type filter hook postrouting priority 0 ; {field} set 0 ; }}"
        require(box.router, f"table inet m {{ {chain} }}")
        found = words(box, box.target_ip if version == 4 else box.target_ip6, "1000-1009,1100-1104")
    assert found == dict.fromkeys(HONEST, ()) | dict.fromkeys(FORGED, ("ttl-differs",))
