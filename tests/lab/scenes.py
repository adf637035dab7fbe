"""Bad paths and difficult hosts, as data, each with its ground truth.

A scene is a network, the faults of its wire, and what is true: hosts, and what each of their ports does (a `PortKind`).
A right scan says what follows from that. The table of scores counts how far a scanner is from it. Scenes are small, so
each can run many times with another seed. The wire's seed is the only chance in a scene.

Three things are no errors. Silence where the truth is an ICMP error is still `filtered`, because systems limit
their ICMP errors. Nobody can know more of a host that stops answering halfway, so its ports may be called silent
(they still count as missed, because a scanner should have said so). And missing evidence claims nothing.

Limit: one Linux target plays all hosts of a scene, so its limits are shared by all of them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network

from scanner.lab import Box, PortKind
from scanner.lab.firewall import ACTIONS, PortRanges
from scanner.verdict.table import State
from tests.paths import Ban

from .networks import direct_box
from .wire import OneWay, WireFaults, both

PERFECT = WireFaults()

ONE = "198.18.0.2"
FAR_NET = "198.19.0.0/24"
REJECTED = tuple(kind for kind, actions in ACTIONS.items() if actions.v4 and actions.v4.startswith("reject with icmp"))
Truth = dict[tuple[str, int], PortKind]

# Words of evidence that claim something about a port, and the kinds of which they are true.
CLAIMS = {
    "firewall-reset": {PortKind.TCP_RESET},
    "host-reset": {PortKind.CLOSED},
    "syn-proxy": {PortKind.SYN_PROXY},
    "all-open": set[PortKind](),
}
STATES = {
    PortKind.OPEN: State.OPEN,
    PortKind.SYN_PROXY: State.OPEN,
    PortKind.CLOSED: State.CLOSED,
    PortKind.TCP_RESET: State.CLOSED,
}


@dataclass(frozen=True)
class Scene:
    """Hosts (text, as on the command line), what their ports do, and the wire to them.

    `present` is how many hosts from 198.18.0.2 on exist on the link. All hosts of 198.19.0.0/16 exist. `sysctls` are
    set in the target.
    """

    name: str
    targets: str = ONE
    kinds: Mapping[PortKind, PortRanges] = field(default_factory=dict)
    wire: WireFaults = PERFECT
    present: int = 1
    sysctls: Mapping[str, int] = field(default_factory=dict)

    @property
    def ports(self) -> dict[int, PortKind]:
        """What each port does, on every host."""
        return {number: kind for kind, ports in self.kinds.items() for port in ports for number in _numbers(port)}

    @property
    def addresses(self) -> list[str]:
        """The hosts that exist."""
        if "/" in self.targets:
            return [str(address) for address in ip_network(self.targets)]
        if self.targets.startswith("198.19."):
            network, _, lows = self.targets.rpartition(".")
            return [f"{network}.{low}" for low in _numbers(lows)]
        return [f"198.18.0.{low}" for low in range(2, 2 + self.present)]

    @property
    def truth(self) -> Truth:
        """What every target does."""
        return {(address, port): kind for address in self.addresses for port, kind in self.ports.items()}

    @property
    def banned(self) -> set[str]:
        """The hosts that stop answering while they are scanned: their silence afterwards means nothing."""
        if self.wire.silent_after:
            return set(self.addresses)
        bans = [ip_network(each) for model in self.wire.path.out if isinstance(model, Ban) for each in model.where]
        return {address for address in self.addresses if any(ip_address(address) in ban for ban in bans)}

    @property
    def port_list(self) -> str:
        """The ports as an argument of `-p`."""
        return ",".join(str(port) for ports in self.kinds.values() for port in ports)


def _numbers(port: int | str) -> range:
    first, _, last = str(port).partition("-")
    return range(int(first), int(last or first) + 1)


def state_of(kind: PortKind) -> State:
    """The right state of a port of this kind."""
    return STATES.get(kind, State.FILTERED)


_NET: dict[PortKind, PortRanges] = {PortKind.OPEN: [80], PortKind.CLOSED: [81], PortKind.DROP: [82]}
_HOST: dict[PortKind, PortRanges] = {
    PortKind.OPEN: ["1000-1099"],
    PortKind.CLOSED: ["1100-1299"],
    PortKind.DROP: ["1300-1399"],
}
_FIREWALL: dict[PortKind, PortRanges] = {
    PortKind.OPEN: [22, 80, 443],
    PortKind.CLOSED: ["2000-2009"],
    PortKind.TCP_RESET: ["2100-2109"],
    PortKind.DROP: ["2200-2204"],
    **{kind: [f"{port}-{port + 4}"] for kind, port in zip(REJECTED, range(2300, 3100, 100), strict=False)},
}


def _net(name: str, wire: WireFaults) -> Scene:
    return Scene(name, FAR_NET, _NET, wire)


SCENES: tuple[Scene, ...] = (
    _net("no loss", PERFECT),
    _net("5 % lost each way", both(OneWay(lose=0.05))),
    _net("20 % lost each way", both(OneWay(lose=0.2))),
    _net("40 % lost each way", both(OneWay(lose=0.4))),
    Scene("one host, 20 % lost each way", kinds=_HOST, wire=both(OneWay(lose=0.2))),
    _net("half of all doubled", both(OneWay(repeat=0.5))),
    _net("out of order", both(OneWay(jitter=0.05))),
    _net("replies 0.2 to 1.3 s late", WireFaults(back=OneWay(delay=0.2, jitter=1.1))),
    _net("200 ms away", both(OneWay(delay=0.1))),
    _net("200 ms away, 20 % lost each way", both(OneWay(lose=0.2, delay=0.1))),
    Scene("200 resets/s", kinds={PortKind.OPEN: [22, 80], PortKind.CLOSED: ["1000-1999"]}, wire=WireFaults(resets=200)),
    Scene(
        "ICMP limit",
        kinds={PortKind.OPEN: [22], PortKind.CLOSED: ["1000-1049"], PortKind.PORT_UNREACHABLE: ["2000-2199"]},
        sysctls={"net/ipv4/icmp_ratemask": 6168, "net/ipv4/icmp_ratelimit": 1000},  # the kernel's defaults
    ),
    Scene("every way to refuse, 20 % lost each way", kinds=_FIREWALL, wire=both(OneWay(lose=0.2))),
    Scene("every way to refuse", kinds=_FIREWALL),
    Scene(
        "SYN proxy, 20 % lost each way",
        kinds={PortKind.OPEN: [22], PortKind.SYN_PROXY: [80, 443, 8443], PortKind.CLOSED: ["1000-1019"]},
        wire=both(OneWay(lose=0.2)),
    ),
    Scene(
        "silent halfway",
        kinds={PortKind.OPEN: ["1000-1099"], PortKind.CLOSED: ["1100-1499"]},
        wire=WireFaults(silent_after=250),
    ),
    Scene(
        "mixed /24, 20 % lost each way",
        "198.18.0.2-254",
        {PortKind.OPEN: [22], PortKind.CLOSED: [23, 25], PortKind.DROP: [135], PortKind.TCP_RESET: [113]},
        both(OneWay(lose=0.2)),
        present=126,
    ),
)  # fmt: skip


@contextmanager
def built(scene: Scene, seed: int = 1) -> Iterator[Box]:
    """The scene's network; `seed` is the wire's. What this machine cannot make is in `unavailable`."""
    with direct_box(hosts=scene.present, faults=replace(scene.wire, seed=seed)) as box:
        for name, value in scene.sysctls.items():
            box.target.sysctl(name, value)
        ports = scene.ports
        box.listen(port for port, kind in ports.items() if kind in (PortKind.OPEN, PortKind.SYN_PROXY))
        box.install(scene.kinds)
        yield box
