"""Bad paths and difficult hosts, as data, each with what is true in it.

A scene is a box, the faults of its wire, and its ground truth: hosts, and what each of their ports does (a `Kind`).
What a right scan says follows from that; what the table of scores counts is how far anybody is from it.
Scenes are small, so that each can be run many times with other luck: the wire's seed is the scene's only chance.

Three things are no errors. Silence where the truth is an ICMP error is still `filtered`, because systems limit
their ICMP errors. A host that falls silent halfway cannot be known further, so its ports may be called silent
(they are still counted as missed, because a scanner should have said so). And evidence that is left out claims nothing.

Limit: one Linux target plays all hosts of a scene, so what it limits, it limits for all of them together.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ..verdict.table import State
from .box import Box
from .firewall import KINDS, Kind, Ports
from .wire import Faults, Way, both

PERFECT = Faults()

ONE = "198.18.0.2"
FAR_NET = "198.19.0.0/24"
REJECTED = tuple(kind for kind, actions in KINDS.items() if actions.v4 and actions.v4.startswith("reject with icmp"))
Truth = dict[tuple[str, int], Kind]

# Words of evidence that claim something about a port, and the kinds of which they are true.
CLAIMS = {
    "firewall-reset": {Kind.TCP_RESET},
    "host-reset": {Kind.CLOSED},
    "syn-proxy": {Kind.SYN_PROXY},
    "all-open": set[Kind](),
}
STATES = {Kind.OPEN: State.OPEN, Kind.SYN_PROXY: State.OPEN, Kind.CLOSED: State.CLOSED, Kind.TCP_RESET: State.CLOSED}


@dataclass(frozen=True)
class Scene:
    """Hosts (text, as on the command line), what their ports do, and the wire to them.

    `present` is how many hosts from 198.18.0.2 on exist on the link. `sysctls` are set in the target.
    """

    name: str
    targets: str = ONE
    kinds: Mapping[Kind, Ports] = field(default_factory=dict)
    wire: Faults = PERFECT
    present: int = 1
    sysctls: Mapping[str, int] = field(default_factory=dict)
    unknowable: bool = False  # what is missed cannot be known, only said to be missed

    @property
    def ports(self) -> dict[int, Kind]:
        """What each port does, on every host."""
        return {number: kind for kind, ports in self.kinds.items() for port in ports for number in _numbers(port)}

    @property
    def addresses(self) -> list[str]:
        """The hosts that exist."""
        if self.targets == FAR_NET:
            return [f"198.19.0.{low}" for low in range(256)]
        return [f"198.18.0.{low}" for low in range(2, 2 + self.present)]

    @property
    def truth(self) -> Truth:
        """What every target does."""
        return {(address, port): kind for address in self.addresses for port, kind in self.ports.items()}

    @property
    def port_list(self) -> str:
        """The ports as an argument of `-p`."""
        return ",".join(str(port) for ports in self.kinds.values() for port in ports)


def _numbers(port: int | str) -> range:
    first, _, last = str(port).partition("-")
    return range(int(first), int(last or first) + 1)


def state_of(kind: Kind) -> State:
    """The right state of a port of this kind."""
    return STATES.get(kind, State.FILTERED)


_NET: dict[Kind, Ports] = {Kind.OPEN: [80], Kind.CLOSED: [81], Kind.DROP: [82]}
_HOST: dict[Kind, Ports] = {Kind.OPEN: ["1000-1099"], Kind.CLOSED: ["1100-1299"], Kind.DROP: ["1300-1399"]}
_FIREWALL: dict[Kind, Ports] = {
    Kind.OPEN: [22, 80, 443],
    Kind.CLOSED: ["2000-2009"],
    Kind.TCP_RESET: ["2100-2109"],
    Kind.DROP: ["2200-2204"],
    **{kind: [f"{port}-{port + 4}"] for kind, port in zip(REJECTED, range(2300, 3100, 100), strict=False)},
}


def _net(name: str, wire: Faults) -> Scene:
    return Scene(name, FAR_NET, _NET, wire)


SCENES: tuple[Scene, ...] = (
    _net("no loss", PERFECT),
    _net("5 % lost each way", both(Way(lose=0.05))),
    _net("20 % lost each way", both(Way(lose=0.2))),
    _net("40 % lost each way", both(Way(lose=0.4))),
    Scene("one host, 20 % lost each way", kinds=_HOST, wire=both(Way(lose=0.2))),
    _net("half of all doubled", both(Way(repeat=0.5))),
    _net("out of order", both(Way(jitter=0.05))),
    _net("replies 0.2 to 1.3 s late", Faults(back=Way(delay=0.2, jitter=1.1))),
    _net("200 ms away", both(Way(delay=0.1))),
    _net("200 ms away, 20 % lost each way", both(Way(lose=0.2, delay=0.1))),
    Scene("200 resets/s", kinds={Kind.OPEN: [22, 80], Kind.CLOSED: ["1000-1999"]}, wire=Faults(resets=200)),
    Scene(
        "ICMP limit",
        kinds={Kind.OPEN: [22], Kind.CLOSED: ["1000-1049"], Kind.PORT_UNREACHABLE: ["2000-2199"]},
        sysctls={"net/ipv4/icmp_ratelimit": 1000},
    ),
    Scene("every way to refuse, 20 % lost each way", kinds=_FIREWALL, wire=both(Way(lose=0.2))),
    Scene("every way to refuse", kinds=_FIREWALL),
    Scene(
        "SYN proxy, 20 % lost each way",
        kinds={Kind.OPEN: [22], Kind.SYN_PROXY: [80, 443, 8443], Kind.CLOSED: ["1000-1019"]},
        wire=both(Way(lose=0.2)),
    ),
    Scene(
        "silent halfway",
        kinds={Kind.OPEN: ["1000-1099"], Kind.CLOSED: ["1100-1499"]},
        wire=Faults(silent_after=250),
        unknowable=True,
    ),
    Scene(
        "mixed /24, 20 % lost each way",
        "198.18.0.2-254",
        {Kind.OPEN: [22], Kind.CLOSED: [23, 25], Kind.DROP: [135], Kind.TCP_RESET: [113]},
        both(Way(lose=0.2)),
        present=126,
    ),
)  # fmt: skip


@contextmanager
def built(scene: Scene, seed: int = 1) -> Iterator[Box]:
    """The scene's network for one `with` block; `seed` is the wire's luck. What cannot be made is in `unavailable`."""
    with Box(hosts=scene.present, wire=replace(scene.wire, seed=seed)) as box:
        for name, value in scene.sysctls.items():
            box.target.sysctl(name, value)
        ports = scene.ports
        box.listen(port for port, kind in ports.items() if kind in (Kind.OPEN, Kind.SYN_PROXY))
        box.install(scene.kinds)
        yield box
