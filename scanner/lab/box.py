"""Two hosts and a cable, as network namespaces of this machine.

    scan0 198.18.0.1, 2001:db8::1  ———  host0 198.18.0.2, 2001:db8::2

The addresses are reserved for benchmarks and documentation (RFC 2544, RFC 3849). There is no default route, so no
packet can leave. Addresses are usable at once (no duplicate address detection), MAC addresses are fixed, and the kernel
does not limit its ICMP errors.
Limit: one Linux kernel plays both parts, so a box shows how Linux answers and no other system.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import firewall
from .firewall import PortKind, PortRanges, Unavailable
from .listeners import Listeners
from .namespace import Namespace

INTERFACE, PEER = "scan0", "host0"
SCANNER = ("198.18.0.1", "2001:db8::1")
TARGET = ("198.18.0.2", "2001:db8::2")
HAS_IPV6 = Path("/proc/sys/net/ipv6").exists()

# A new namespace copies some settings from the machine, so defaults are written too.
_SYSCTLS = {
    # The masks name the ICMP types that are limited. The rate settings alone are not enough: before Linux 6.13
    # all namespaces share one token bucket (icmp_msgs_per_sec), and another test could empty it.
    "net/ipv4/icmp_ratemask": 0,
    "net/ipv6/icmp/ratemask": 255,  # a type that does not exist
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


@dataclass
class Box:
    """A network that exists until `stack` is closed.

    `unavailable` collects the kinds of port that this machine cannot make, with the reason. `router` is the namespace
    between scanner and target, in the networks that have one.
    """

    stack: ExitStack
    scanner: Namespace
    target: Namespace
    target_ip: str = TARGET[0]
    target_ip6: str = TARGET[1]
    router: Namespace | None = None
    unavailable: Unavailable = field(default_factory=dict)

    def listen(self, ports: Iterable[int], namespace: Namespace | None = None) -> Listeners:
        """Open ports, IPv4 and IPv6, in the target or in another namespace."""
        versions = (4, 6) if HAS_IPV6 else (4,)
        return self.stack.enter_context(Listeners(namespace or self.target, ports, versions))

    def install(
        self, ports: Mapping[PortKind, PortRanges], namespace: Namespace | None = None, hook: str = "input"
    ) -> None:
        """Firewall rules in the target or in another namespace; what the kernel refuses goes to `unavailable`."""
        self.unavailable |= firewall.install(namespace or self.target, ports, hook)


def new_namespace(stack: ExitStack) -> Namespace:
    """A namespace with the lab's settings and `lo` up, closed together with `stack`."""
    namespace = stack.enter_context(Namespace.create())
    for name, value in _SYSCTLS.items():
        namespace.sysctl(name, value)
    namespace.ip(["link set lo up"])
    return namespace


def cable(left: Namespace, name: str, right: Namespace, peer: str, number: int = 0, queues: int = 1) -> None:
    """Connect two namespaces by a pair of interfaces with so many queues in each direction.

    `number` makes the MAC addresses differ from other cables'.
    """
    room = f"numtxqueues {queues} numrxqueues {queues}"
    ends = [f"address 02:00:00:00:{number:02x}:0{end} {room}" for end in (1, 2)]
    far_end = f"peer name {peer} {ends[1]} netns /proc/self/fd/{right.fd}"
    left.ip([f"link add {name} {ends[0]} type veth {far_end}", f"link set {name} up"], [right.fd])
    right.ip([f"link set {peer} up"])


def configure(namespace: Namespace, lines: Sequence[str]) -> None:
    """Run `ip` commands; a machine without IPv6 skips those with an IPv6 address."""
    namespace.ip([line for line in lines if HAS_IPV6 or "2001:db8" not in line])


def add_addresses(namespace: Namespace, interface: str, addresses: Sequence[str], prefix: int = 24) -> None:
    """Give an interface its addresses; `prefix` is for IPv4, IPv6 always has /64."""
    lengths = ["64" if ":" in address else str(prefix) for address in addresses]
    # nodad: the address answers at once, although the kernel has not looked for a second owner (RFC 4862 5.4).
    flags = [" nodad" if ":" in address else "" for address in addresses]
    columns = zip(addresses, lengths, flags, strict=True)
    configure(namespace, [f"addr add {address}/{length} dev {interface}{flag}" for address, length, flag in columns])


@contextmanager
def pair_box() -> Iterator[Box]:
    """Scanner and target on one cable. ScanError when this machine does not permit it."""
    with ExitStack() as stack:
        box = Box(stack, new_namespace(stack), new_namespace(stack))
        cable(box.scanner, INTERFACE, box.target, PEER)
        add_addresses(box.scanner, INTERFACE, SCANNER)
        add_addresses(box.target, PEER, TARGET)
        yield box
