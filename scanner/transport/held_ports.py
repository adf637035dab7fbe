"""Our own source ports, held so that the kernel keeps quiet about them.

A half-open scan sends SYNs that the kernel has not sent, so a SYN/ACK is a stranger to it and it answers with a
reset of its own. That reset is out of our rate control, hides a scanner that forgets to send one, and on a local
network makes a neighbour entry for every open host. Firewall rules are the usual way out, and stay behind when a
scan is killed.
Here each source port is an ordinary listening TCP socket with a one-instruction filter that accepts nothing: the kernel
finds an owner for the segment, the filter drops it in silence, and a packet socket still sees the frame, because it
reads before TCP does. Nobody else is given the port, and everything is gone when the process is.

Newer kernels let only CAP_NET_ADMIN put a filter on a TCP socket. There the listener asks for a hop limit of at least
255 instead, which needs no rights: whatever has passed a router is dropped in silence, and so is all that began with
64 or 128.

Limit: without a filter, replies that arrive with a hop limit of 255 still draw the kernel's reset.
The kernel holds ports only on an address of this machine. For any other source address (`--source-ip`) there is
nothing to hold, and whoever owns that address answers as it pleases. An IPv6 address whose duplicate detection is
not over is not local yet.

Source: socket(7) SO_ATTACH_FILTER; ip(7) IP_MINTTL; include/uapi/linux/filter.h (struct sock_fprog), in6.h.
"""

import ctypes
import errno
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType

from ..errors import ScanError, ScannerError, UsageError
from ..net.netlink import Address

FIRST, LAST = 32768, 60999  # Linux's default ip_local_port_range: ports a client is expected to send from
_SO_ATTACH_FILTER = 26
_LEAST_HOPS = {4: (socket.IPPROTO_IP, 21), 6: (socket.IPPROTO_IPV6, 73)}  # IP_MINTTL, IPV6_MINHOPCOUNT
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_DROP = struct.pack("=HBBI", 0x06, 0, 0, 0)  # struct sock_filter: BPF_RET | BPF_K, accept 0 bytes


@dataclass(frozen=True)
class HeldPorts:
    """Source ports that are ours until `close`; `held` is False where there is nothing to hold (address not local)."""

    ports: tuple[int, ...]
    held: bool
    _sockets: tuple[socket.socket, ...] = field(default=(), repr=False)

    def close(self) -> None:
        """Give the ports back; from now on the kernel answers for them. Calling it again does nothing."""
        for each in self._sockets:
            each.close()

    def __enter__(self) -> "HeldPorts":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def hold(
    address: Address, wanted: int | None, count: int, seed: int = 0, scope: int = 0, quiet: bool = True
) -> HeldPorts:
    """Hold `count` consecutive ports on `address`.

    They begin at `wanted`; without it at a place in FIRST..LAST that `seed` (any number ≥ 0) chooses, or the next one
    where all are free. `scope` is the interface index, needed for link-local IPv6 addresses only. Without `quiet`
    a port is taken but stays without a listener, so that it looks closed to whoever probes it: right for scans of this
    machine itself, where our own ports are targets too and the kernel's resets reach nobody else. Raises
    UsageError if a wanted port is in use or not allowed, ScanError if no run of free ports is left or the system
    refuses sockets.
    """
    assert count >= 1
    assert wanted is None or 0 < wanted <= 65536 - count
    room = LAST - FIRST + 2 - count
    bases = [wanted] if wanted is not None else (FIRST + (seed + step) % room for step in range(room))
    for base in bases:
        ports = tuple(range(base, base + count))
        try:
            return HeldPorts(ports, True, _hold_all(address, ports, scope, quiet))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return HeldPorts(ports, False)
            if error.errno != errno.EADDRINUSE or wanted is not None:
                raise _explained(error, address, ports) from error
    raise ScanError(f"no {count} free source ports in a row on {address}: close programs, or use --source-port")


def _hold_all(address: Address, ports: tuple[int, ...], scope: int, quiet: bool) -> tuple[socket.socket, ...]:
    sockets: list[socket.socket] = []
    try:
        for port in ports:
            sockets.append(socket.socket(_FAMILY[address.version], socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
            _hold_port(sockets[-1], address, port, scope, quiet)
    except OSError:
        for each in sockets:
            each.close()
        raise
    return tuple(sockets)


def _hold_port(listener: socket.socket, address: Address, port: int, scope: int, quiet: bool) -> None:
    if address.version == 6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    host = str(address).partition("%")[0]
    listener.bind((host, port) if address.version == 4 else (host, port, 0, scope))
    if not quiet:
        return
    instructions = ctypes.create_string_buffer(_DROP, len(_DROP))  # must live until setsockopt has returned
    program = struct.pack("HP", 1, ctypes.addressof(instructions))  # struct sock_fprog, padded as C pads it
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except PermissionError:
        listener.setsockopt(*_LEAST_HOPS[address.version], 255)
    listener.listen(0)  # only after the filter: not one connection is ever accepted


def _explained(error: OSError, address: Address, ports: tuple[int, ...]) -> ScannerError:
    which = f"source port {ports[0]}" if len(ports) == 1 else f"one of the source ports {ports[0]}-{ports[-1]}"
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"{which} is in use on {address}: choose another with --source-port, or leave it out")
    if error.errno == errno.EACCES:
        return UsageError(f"{which} needs root or CAP_NET_BIND_SERVICE on {address}: choose one above 1023")
    return ScanError(f"{which} cannot be held on {address}: {error.strerror}")
