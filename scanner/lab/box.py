"""Namespaces wired into a small network: scanner — target, or scanner — router — target.

    scan0 198.18.0.1, 2001:db8::1  ———  host0 198.18.0.2, 2001:db8::2
    scan0 198.18.0.1  ———  near0 198.18.0.254 (router) 198.18.1.254 far0  ———  host0 198.18.1.2
          2001:db8::1            2001:db8::fe          2001:db8:1::fe                2001:db8:1::2

The addresses are those set aside for benchmarks and documentation (RFC 2544, RFC 3849), and there is no
default route: a stray packet has nowhere to go. The target also owns all of `FAR` (a /16 and a /64) by a
local route, reached through a next hop, for scans larger than one host. `whole_prefix` does the same on
the link itself, where every IPv4 address then answers ARP: the kernel answers for what its routes call
local. Neighbour discovery asks for a configured address instead, so on-link IPv6 hosts are really added
(`hosts`). `wire` puts a namespace with faults between the scanner and its neighbour (`lab/wire.py`); addresses
and MAC addresses stay the same. Replies are not rate-limited, and addresses are usable at once (no duplicate
detection).
Limit: one machine's kernel plays all the parts, so this shows Linux's answers and nobody else's.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from ..errors import ScanError
from . import firewall
from .firewall import Kind, Ports, Unavailable
from .namespace import Namespace
from .targets import Listeners
from .wire import LEFT, RIGHT, Faults, Wire, plain_checksums

FAR = ("198.19.0.0/16", "2001:db8:ff::/64")
INTERFACE = "scan0"
SCANNER = ("198.18.0.1", "2001:db8::1")
DIRECT = ("198.18.0.2", "2001:db8::2")
BEHIND = ("198.18.1.2", "2001:db8:1::2")
NEAR = ("198.18.0.254", "2001:db8::fe")
OTHER_SIDE = ("198.18.1.254", "2001:db8:1::fe")

# A new namespace takes some of these over from the machine, so they are written even where they are the default.
_SYSCTLS = {
    "net/ipv4/icmp_ratelimit": 0,
    "net/ipv4/icmp_msgs_per_sec": 10_000_000,
    "net/ipv4/icmp_msgs_burst": 10_000_000,
    "net/ipv6/icmp/ratelimit": 0,
    "net/ipv4/conf/all/rp_filter": 0,
    "net/ipv4/conf/default/rp_filter": 0,
    "net/ipv6/conf/all/disable_ipv6": 0,
    "net/ipv6/conf/default/disable_ipv6": 0,
    "net/ipv6/conf/default/accept_dad": 0,
    "net/ipv6/conf/default/dad_transmits": 0,
    "net/ipv6/conf/default/accept_ra": 0,
    "net/ipv6/conf/default/router_solicitations": 0,
    "net/core/somaxconn": 65535,
    "net/ipv4/tcp_max_syn_backlog": 65535,
}


def _sequence(first: str, count: int) -> list[str]:
    """`count` addresses from `first` upwards; the lab's first addresses all end in 2."""
    head, four = first[:-1], "." in first
    assert first[-1] == "2", "the count starts at the last digit"
    assert count <= (252 if four else 65_000), "no room for so many hosts"
    return [f"{head}{index if four else f'{index:x}'}" for index in range(2, count + 2)]


def _wire(left: Namespace, name: str, right: Namespace, peer: str, number: int) -> None:
    """A veth pair between two namespaces, both ends up; MAC addresses are fixed so that captures repeat."""
    ends = [f"address 02:00:00:00:{number:02x}:0{end}" for end in (1, 2)]
    there = f"peer name {peer} {ends[1]} netns /proc/self/fd/{right.fd}"
    left.ip([f"link add {name} {ends[0]} type veth {there}", f"link set {name} up"], [right.fd])
    right.ip([f"link set {peer} up"])


class Box:
    """A network that exists as long as the `with` block. See the module's drawing for the addresses.

    `routed` puts a router between; `whole_prefix` (15..30, not routed) makes every address of
    198.18.0.0/whole_prefix but the scanner's the target, on the link; `hosts` is the number of addresses
    that the target is given one by one from …2 upwards (IPv4 up to 252, IPv6 likewise).
    `wire` is what happens to frames between the scanner and whatever is next to it (None: a plain cable).
    `unavailable` collects the firewall kinds that this machine cannot make. ScanError: not permitted here.
    """

    def __init__(
        self, *, routed: bool = False, whole_prefix: int | None = None, hosts: int = 1, wire: Faults | None = None
    ) -> None:
        assert whole_prefix is None or (not routed and 15 <= whole_prefix <= 30), "whole_prefix: on-link, /15 to /30"
        self.interface = INTERFACE
        self.scanner_ip, self.scanner_ip6 = SCANNER
        self.target_ip, self.target_ip6 = BEHIND if routed else DIRECT
        self.ipv6 = Path("/proc/sys/net/ipv6").exists()
        self.unavailable: Unavailable = {}
        self.scanner: Namespace
        self.target: Namespace
        self.router: Namespace | None = None
        self._routed, self._whole, self._hosts, self._faults = routed, whole_prefix, hosts, wire
        self._stack = ExitStack()

    def __enter__(self) -> "Box":
        try:
            self.scanner = self._namespace()
            self.target = self._namespace()
            if self._routed:
                self._build_routed()
            else:
                self._build_direct()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def listen(self, ports: Iterable[int], namespace: Namespace | None = None, accepting: bool = False) -> Listeners:
        """Real listeners, IPv4 and IPv6, in the target (or another namespace) until the box goes."""
        versions = (4, 6) if self.ipv6 else (4,)
        return self._stack.enter_context(Listeners(namespace or self.target, ports, versions, accepting))

    def install(self, ports: Mapping[Kind, Ports]) -> None:
        """Firewall rules in the target itself; refusals go to `unavailable`."""
        self.unavailable |= firewall.install(self.target, ports)

    def install_in_router(self, ports: Mapping[Kind, Ports], hook: str = "forward") -> None:
        """Firewall rules in the router, for what passes through it (`forward`) or is meant for it (`input`)."""
        assert self.router is not None, "this box has no router"
        self.unavailable |= firewall.install(self.router, ports, hook)

    def _namespace(self) -> Namespace:
        made = self._stack.enter_context(Namespace.create())
        for name, value in _SYSCTLS.items():
            made.sysctl(name, value)
        made.ip(["link set lo up"])
        return made

    def _connect(self, neighbour: Namespace, peer: str) -> None:
        """The scanner's interface to its neighbour's, straight or through the faults in the middle."""
        if self._faults is None:
            _wire(self.scanner, INTERFACE, neighbour, peer, 0)
            return
        middle = self._namespace()
        middle.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
        _wire(self.scanner, INTERFACE, middle, LEFT, 0)
        _wire(middle, RIGHT, neighbour, peer, 0)
        for namespace, interface in ((self.scanner, INTERFACE), (neighbour, peer)):
            plain_checksums(namespace, interface)
        self._stack.enter_context(Wire(middle, self._faults))

    def _ip(self, namespace: Namespace, lines: Iterable[str]) -> None:
        """One batch; on a machine without IPv6 the lines that hold an IPv6 address are left out."""
        namespace.ip([line for line in lines if self.ipv6 or "2001:db8" not in line])

    def _addresses(self, first: tuple[str, str], prefix: int) -> list[str]:
        """`addr add` lines for the target's hosts, from its first address of each version upwards."""
        count4 = min(self._hosts, 252) if self._whole is None else 1
        lines = [f"addr add {address}/{prefix} dev host0" for address in _sequence(first[0], count4)]
        return lines + [f"addr add {address}/64 dev host0 nodad" for address in _sequence(first[1], self._hosts)]

    def _build_direct(self) -> None:
        self._connect(self.target, "host0")
        self._ip(
            self.scanner,
            [
                f"addr add {SCANNER[0]}/{self._whole or 24} dev {INTERFACE}",
                f"addr add {SCANNER[1]}/64 dev {INTERFACE} nodad",
                *(f"route add {far} via {hop}" for far, hop in zip(FAR, DIRECT, strict=True) if self._far_is_free(far)),
            ],
        )
        routes = [f"route add local {far} dev lo" for far in FAR if self._far_is_free(far)]
        if self._whole is not None:
            # Not in the local table: that one is asked first, and the scanner's own address would be ours.
            routes += [
                f"route add {SCANNER[0]}/32 dev host0",
                f"route add local 198.18.0.0/{self._whole} dev lo table main",
            ]
        self._ip(self.target, self._addresses(DIRECT, 24 if self._whole is None else 32) + routes)

    def _far_is_free(self, far: str) -> bool:
        """Whether `far` lies beyond the link: a whole /15 of on-link addresses takes in the IPv4 one."""
        return self._whole != 15 or far != FAR[0]

    def _build_routed(self) -> None:
        self.router = self._namespace()
        self._connect(self.router, "near0")
        _wire(self.router, "far0", self.target, "host0", 1)
        if not self.router.sysctl("net/ipv4/ip_forward", 1):
            raise ScanError("the lab's router cannot forward (/proc/sys is read-only): run it outside the container")
        self.router.sysctl("net/ipv6/conf/all/forwarding", 1)
        wide = ("198.18.0.0/15", "2001:db8::/32")
        self._ip(
            self.scanner,
            [f"addr add {SCANNER[0]}/24 dev {INTERFACE}", f"addr add {SCANNER[1]}/64 dev {INTERFACE} nodad"]
            + [f"route add {net} via {hop}" for net, hop in zip(wide, NEAR, strict=True)],
        )
        self._ip(
            self.router,
            [f"addr add {NEAR[0]}/24 dev near0", f"addr add {NEAR[1]}/64 dev near0 nodad"]
            + [f"addr add {OTHER_SIDE[0]}/24 dev far0", f"addr add {OTHER_SIDE[1]}/64 dev far0 nodad"]
            + [f"route add {far} via {hop}" for far, hop in zip(FAR, BEHIND, strict=True)],
        )
        self._ip(
            self.target,
            self._addresses(BEHIND, 24)
            + [f"route add {net} via {hop}" for net, hop in zip(wide, OTHER_SIDE, strict=True)]
            + [f"route add local {far} dev lo" for far in FAR],
        )
