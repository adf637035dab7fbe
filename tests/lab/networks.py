"""Networks for tests: one cable, one cable with faults, a router in between, or a whole prefix on the link.

    scan0 198.18.0.1, 2001:db8::1  ———  host0 198.18.0.2, 2001:db8::2
    scan0 198.18.0.1  ———  near0 198.18.0.254 (router) 198.18.1.254 far0  ———  host0 198.18.1.2
          2001:db8::1            2001:db8::fe          2001:db8:1::fe                2001:db8:1::2

The target also owns all of `FAR` (a /16 and a /64) by a local route. The scanner reaches them through a next hop, for
scans of more than one host. `prefix_box` does the same on the link, where every IPv4 address then answers ARP, because
the kernel answers for what its routes call local. Neighbour discovery looks for a configured address instead, so
IPv6 hosts on the link are really added (`hosts`).
"""

import selectors
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from socket import socket, socketpair

from scanner.errors import ScanError
from scanner.lab import Box, Listeners, Namespace
from scanner.lab.box import (
    HAS_IPV6,
    INTERFACE,
    PEER,
    SCANNER,
    TARGET,
    add_addresses,
    cable,
    configure,
    new_namespace,
)
from scanner.lab.firewall import load

from .wire import WireFaults, faulty_cable

FAR = ("198.19.0.0/16", "2001:db8:ff::/64")
BEHIND = ("198.18.1.2", "2001:db8:1::2")  # the target behind the router
NEAR_SIDE = ("198.18.0.254", "2001:db8::fe")  # the router's address towards the scanner
FAR_SIDE = ("198.18.1.254", "2001:db8:1::fe")
WIDE = ("198.18.0.0/15", "2001:db8::/32")  # everything in the lab


@contextmanager
def direct_box(*, hosts: int = 1, faults: WireFaults | None = None, queues: int = 1) -> Iterator[Box]:
    """Scanner and target on one cable; `hosts` counts the target's addresses, from …2 upwards, in each version."""
    with ExitStack() as stack:
        box = Box(stack, new_namespace(stack), new_namespace(stack))
        _connect(stack, faults, box.scanner, box.target, PEER, queues)
        add_addresses(box.scanner, INTERFACE, SCANNER)
        add_addresses(box.target, PEER, _consecutive(hosts))
        configure(box.scanner, _routes(FAR, TARGET))
        configure(box.target, _local(FAR))
        yield box


@contextmanager
def prefix_box(prefix: int) -> Iterator[Box]:
    """Every IPv4 address of 198.18.0.0/`prefix` (/16 to /30) except the scanner's is the target, on the link."""
    assert 16 <= prefix <= 30
    with ExitStack() as stack:
        box = Box(stack, new_namespace(stack), new_namespace(stack))
        cable(box.scanner, INTERFACE, box.target, PEER)
        add_addresses(box.scanner, INTERFACE, SCANNER, prefix)
        add_addresses(box.target, PEER, TARGET, 32)
        # The table `main`, because the kernel looks into the local table first, and there the scanner's own address
        # would be the target's.
        whole = f"route add local 198.18.0.0/{prefix} dev lo table main"
        configure(box.target, [f"route add {SCANNER[0]}/32 dev {PEER}", whole])
        yield box


@contextmanager
def routed_box(*, faults: WireFaults | None = None) -> Iterator[Box]:
    """Scanner, router, target; the faults are those of the cable between scanner and router."""
    with ExitStack() as stack:
        router = new_namespace(stack)
        box = Box(stack, new_namespace(stack), new_namespace(stack), *BEHIND, router)
        _connect(stack, faults, box.scanner, router, "near0")
        cable(router, "far0", box.target, PEER, 1)
        if not router.sysctl("net/ipv4/ip_forward", 1):
            raise ScanError("the lab's router cannot forward (/proc/sys is read-only): run it outside the container")
        router.sysctl("net/ipv6/conf/all/forwarding", 1)
        add_addresses(box.scanner, INTERFACE, SCANNER)
        add_addresses(router, "near0", NEAR_SIDE)
        add_addresses(router, "far0", FAR_SIDE)
        add_addresses(box.target, PEER, BEHIND)
        configure(box.scanner, _routes(WIDE, NEAR_SIDE))
        configure(router, _routes(FAR, BEHIND))
        configure(box.target, _routes(WIDE, FAR_SIDE) + _local(FAR))
        yield box


def _connect(
    stack: ExitStack, faults: WireFaults | None, scanner: Namespace, other: Namespace, name: str, queues: int = 1
) -> None:
    if faults is None:
        cable(scanner, INTERFACE, other, name, queues=queues)
    else:
        faulty_cable(stack, faults, scanner, INTERFACE, other, name)


def new_mac(box: Box, mac: str) -> None:
    """Give the scanner's neighbour another MAC address: the router, or the target where there is none.

    The kernel may announce the new one. A scanner that listens to ARP only for answers to its queries learns nothing.
    """
    namespace, name = _neighbour(box)
    namespace.ip([f"link set {name} address {mac}"])


def set_neighbour(box: Box, up: bool) -> None:
    """Take the scanner's neighbour off the network, or bring it back with its addresses and routes.

    Off, it hears nothing and answers no ARP. A wire with faults in between keeps the scanner's own interface up.
    """
    namespace, name = _neighbour(box)
    if not up:
        namespace.ip([f"link set {name} down"])
        return
    namespace.ip([f"link set {name} up"])
    if box.router is not None:  # the kernel forgets IPv6 addresses of an interface that is down
        configure(namespace, [f"addr replace {NEAR_SIDE[1]}/64 dev {name} nodad"])


def _neighbour(box: Box) -> tuple[Namespace, str]:
    return (box.target, PEER) if box.router is None else (box.router, "near0")


def _routes(networks: Sequence[str], next_hops: Sequence[str]) -> list[str]:
    return [f"route add {network} via {hop}" for network, hop in zip(networks, next_hops, strict=True)]


def _local(networks: Sequence[str]) -> list[str]:
    return [f"route add local {network} dev lo" for network in networks]


def _consecutive(hosts: int) -> list[str]:
    """The addresses of so many hosts, IPv4 then IPv6."""
    assert hosts <= 252, "198.18.0.254 and .255 are not hosts"
    return [f"198.18.0.{index}" for index in range(2, hosts + 2)] + [f"2001:db8::{i:x}" for i in range(2, hosts + 2)]


@contextmanager
def accept_and_close(box: Box, ports: Sequence[int]) -> Iterator[None]:
    """Open ports in the target whose thread takes each connection and closes it at once."""
    wake, woken = socketpair()
    with wake, woken, Listeners(box.target, ports, (4, 6) if HAS_IPV6 else (4,)) as listeners:
        thread = threading.Thread(target=_accept, args=(listeners.sockets, woken), daemon=True)
        thread.start()
        try:
            yield
        finally:
            wake.send(b"x")
            thread.join()


def _accept(listeners: list[socket], woken: socket) -> None:
    with selectors.DefaultSelector() as selector:
        for listener in (*listeners, woken):
            listener.setblocking(False)
            selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is woken:
                    return
                assert isinstance(key.fileobj, socket)
                with suppress(OSError):  # the client may have gone
                    key.fileobj.accept()[0].close()


def require(namespace: Namespace, text: str) -> None:
    """Give nft a script that must work; ScanError with its error message."""
    message = load(namespace, text)
    if message is not None:
        raise ScanError(f"nft refused the lab's rules: {message}")
