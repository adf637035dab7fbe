"""Networks whose hosts and paths differ, as scenes (`tests/lab/scenes.py`): what a mean over all hosts says wrongly of.

One Linux target plays all hosts of 198.19.0.0/16. The wire makes them unlike by their addresses. Loss is per round
trip and stands in one direction, where nothing else is said.

Limit: the target's own limits, and this machine's, are shared by all hosts of a scene.
"""

from collections.abc import Mapping

from scanner.lab import PortKind
from scanner.lab.firewall import PortRanges
from tests.paths import (
    Ban,
    Bursts,
    Crowded,
    Ecmp,
    Elsewhere,
    Model,
    Narrow,
    OneWay,
    Outage,
    Path,
    PerSecond,
    Policer,
    Table,
)

from .scenes import Scene
from .wire import WireFaults

Kinds = Mapping[PortKind, PortRanges]
HUNDRED, FIFTY, TWENTY = "198.19.0.1-100", "198.19.0.1-50", "198.19.0.1-20"
_THREE: Kinds = {PortKind.OPEN: [80, 443], PortKind.CLOSED: [81]}
_FORTY: Kinds = {PortKind.OPEN: ["1000-1009"], PortKind.CLOSED: ["1010-1039"]}
_FIVE_HUNDRED: Kinds = {PortKind.OPEN: ["1000-1099"], PortKind.CLOSED: ["1100-1499"]}
_ONE_HOST: Kinds = {PortKind.OPEN: [22, 80, 443], PortKind.CLOSED: ["1000-1199"], PortKind.DROP: ["1200-1219"]}
_ALL_ANSWER: Kinds = {PortKind.OPEN: [22, 80, 443], PortKind.CLOSED: ["1000-1199"]}  # one pass is enough


def _hosts(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"198.19.0.{low}" for low in range(first, last + 1))


def _wire(*out: Model, back: tuple[Model, ...] = (), trip: float = 0.0) -> WireFaults:
    """Models of both directions; `trip`: the seconds of a round trip."""
    return WireFaults(back=OneWay(delay=trip), path=Path(out, back))


UNLIKE: tuple[Scene, ...] = (
    # slow hosts beside fast ones
    Scene("10 of 254 hosts 300 ms away", "198.19.0.1-254", _THREE, _wire(OneWay(delay=0.3, where=_hosts(41, 50)))),
    Scene(
        "10 of 254 hosts 0.5 to 1.5 s away",
        "198.19.0.1-254",
        _THREE,
        _wire(OneWay(delay=0.5, jitter=1.0, where=_hosts(41, 50))),
    ),
    # lossy hosts beside good ones
    Scene("half of 20 hosts at 70 % loss", TWENTY, _FORTY, _wire(OneWay(0.7, where=_hosts(1, 10)))),
    Scene("5 of 100 hosts at 70 % loss", HUNDRED, _FORTY, _wire(OneWay(0.7, where=_hosts(11, 15)))),
    Scene("5 of 100 hosts at 90 % loss", HUNDRED, _FORTY, _wire(OneWay(0.9, where=_hosts(11, 15)))),
    Scene("one of four /24 at 70 % loss", "198.19.0.0/22", _THREE, _wire(OneWay(0.7, where=("198.19.2.0/24",)))),
    Scene("bursts of 0.3 s on each host", FIFTY, _FORTY, _wire(Bursts(0.7, 0.3, 0.9, each_host=True))),
    # narrow paths
    Scene("replies at 500/s", FIFTY, _FIVE_HUNDRED, _wire(back=(Narrow(500, 50),), trip=0.02)),
    Scene("replies at 2,000/s", FIFTY, _FIVE_HUNDRED, _wire(back=(Narrow(2000, 100),), trip=0.02)),
    Scene("300 SYNs/s at a gateway", FIFTY, _FORTY, _wire(Policer(300, 50, "syn"), trip=0.02)),
    Scene("state table of 512 entries", FIFTY, _FORTY, _wire(Table(512, 10, 2), trip=0.02)),
    Scene("policer of 1,000/s with bursts of 200", FIFTY, _FORTY, _wire(Policer(1000, 200), trip=0.02)),
    Scene("loss that grows with the rate", FIFTY, _FIVE_HUNDRED, _wire(Crowded(2000, 10_000, 0.8), trip=0.02)),
    Scene(
        "5 of 20 hosts send 100 resets/s",
        TWENTY,
        _FIVE_HUNDRED,
        _wire(back=(PerSecond(100, where=_hosts(1, 5)),), trip=0.02),
    ),
    # what changes while a scan runs
    Scene("2 s outage", FIFTY, _FIVE_HUNDRED, _wire(Outage(0.3, 2.3), trip=0.04)),
    Scene("a /24 is cut off for 2 s", "198.19.0.0/22", _THREE, _wire(Outage(0.1, 2.1, where=("198.19.2.0/24",)))),
    Scene("one of 10 hosts bans after 50 probes", "198.19.0.1-10", _FIVE_HUNDRED,
          _wire(Ban(50, "syn", where=_hosts(4, 4)), trip=0.02)),
    Scene("a /24 bans after 300 probes", "198.19.0.0/23", _THREE,
          _wire(Ban(300, "syn", whole=True, where=("198.19.1.0/24",)), trip=0.02)),
    # resets that differ without a firewall
    Scene("ECMP, one path clears the DSCP", kinds=_ALL_ANSWER, wire=_wire(Ecmp(0.5))),
    Scene("ECMP, one path clears the DSCP of replies and is longer", kinds=_ALL_ANSWER,
          wire=_wire(back=(Ecmp(0.5, hops=1),))),
    # The second server is a router away. At the same distance, with IP ID 0 and DF, nothing tells it from REJECT.
    Scene("virtual IP", kinds=_ONE_HOST, wire=_wire(back=(Elsewhere(1100, 1199, hops=1), Elsewhere(443, 443, hops=1)))),
    Scene("port forward", kinds=_ONE_HOST, wire=_wire(back=(Elsewhere(1190, 1199, hops=-63, ip_id=4711, df=False),))),
    Scene("DSCP policer", kinds=_ALL_ANSWER, wire=_wire(Policer(100, 20, clear=True))),
)  # fmt: skip
