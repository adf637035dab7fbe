"""Our own source ports, held so that the kernel does not answer for them.

A half-open scan sends SYNs that the kernel knows nothing of, so it answers each SYN/ACK with a reset of its own. That
reset is outside our rate control, hides a scanner that forgets to send one, and makes a neighbour entry for every open
host of a local network. Firewall rules are the usual remedy, but they stay behind when a scan is killed.

Here each source port is an ordinary listening TCP socket with a one-instruction filter that accepts nothing. The
kernel finds an owner for the segment, and the filter drops it in silence. A packet socket still sees the frame, because
it reads before TCP does. No other program gets the port, and everything is gone when the process is.

Newer kernels let only CAP_NET_ADMIN put a filter on a TCP socket. There the listener requires that every segment, from
anywhere, is signed with a random key (RFC 2385). That needs no rights. The kernel drops segments without a signature in
silence, before it looks at anything else in them.

Limits: a kernel without TCP signatures (CONFIG_TCP_MD5SIG, or one in FIPS mode) that also refuses the filter gets a
third remedy: the listener requires a hop limit of at least 255. Then hosts on the link that send with 255 see the port
as open, and their replies draw the kernel's reset. The kernel holds ports only on an address of this machine. For any
other source address (`--source-ip`) there is nothing to hold, and its owner answers as it likes. An IPv6 address whose
duplicate detection is not over is not local yet.

Sources: socket(7) SO_ATTACH_FILTER; ip(7) IP_MINTTL; include/uapi/linux/tcp.h (struct tcp_md5sig), in.h, in6.h;
net/ipv4/tcp_ipv4.c (tcp_v4_rcv).
"""

import errno
import os
import resource
import socket
import struct
from contextlib import ExitStack
from dataclasses import dataclass, field

from ..errors import ScanError, ScannerError, UsageError, cause_of
from ..net.netlink import FAMILY, Address
from .bpf import DROP_ALL, attach

FIRST, LAST = 32768, 60999  # Linux's default ip_local_port_range: ports a client is expected to send from
ENOUGH_FILES = 1024
_TCP_MD5SIG_EXT, _PREFIX_FLAG = 32, 1
_SIGNATURE = struct.Struct("=128sBBHi80s")  # address, flags, prefix length, length of the key, interface index, key
_KEY_BYTES = 16
_LEAST_HOPS = {4: (socket.IPPROTO_IP, 21), 6: (socket.IPPROTO_IPV6, 73)}  # IP_MINTTL, IPV6_MINHOPCOUNT


@dataclass(frozen=True)
class HeldPorts:
    """Source ports that are ours until `close`; `held` is False where there is nothing to hold (address not local)."""

    ports: tuple[int, ...]
    held: bool
    _sockets: ExitStack = field(default_factory=ExitStack, repr=False, compare=False)

    def close(self) -> None:
        """Give the ports back: from then on the kernel answers for them. A second call does nothing."""
        self._sockets.close()


def hold(
    address: Address, wanted: int | None, count: int, seed: int = 0, scope: int = 0, quiet: bool = True
) -> HeldPorts:
    """Hold `count` consecutive ports on `address`.

    They begin at `wanted`. Without it `seed` (any number ≥ 0) chooses a place in FIRST..LAST, and the next place where
    all are free is taken. `scope` is the interface index, needed for link-local IPv6 addresses only. Without `quiet` a
    port is taken but has no listener, so that it looks closed to a probe. That is right for scans of this machine
    itself, where our own ports are targets too and no other machine sees the kernel's resets. Raises UsageError if a
    wanted port is in use or not allowed, ScanError if no run of free ports is left or the system refuses sockets.
    """
    _allow_descriptors()
    assert count >= 1
    assert wanted is None or 0 < wanted <= 65536 - count
    places = LAST - FIRST + 2 - count  # where a run of so many ports can begin
    bases = [wanted] if wanted is not None else (FIRST + (seed + step) % places for step in range(places))
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


def _allow_descriptors() -> None:
    """Raise the soft limit of open files as far as it may go and is of use: each port takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(ENOUGH_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _hold_all(address: Address, ports: tuple[int, ...], scope: int, quiet: bool) -> ExitStack:
    with ExitStack() as stack:
        for port in ports:
            listener = socket.socket(FAMILY[address.version], socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            _hold_port(stack.enter_context(listener), address, port, scope, quiet)
        held = stack.pop_all()
    return held


def _hold_port(listener: socket.socket, address: Address, port: int, scope: int, quiet: bool) -> None:
    if address.version == 6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    host = str(address).partition("%")[0]
    listener.bind((host, port) if address.version == 4 else (host, port, 0, scope))
    if not quiet:
        return
    try:
        attach(listener, DROP_ALL)
    except PermissionError:
        _require_signature(listener, address.version)
    listener.listen(0)  # only after that: not one connection is ever accepted


def _require_signature(listener: socket.socket, version: int) -> None:
    """Let the kernel drop segments that are not signed, or else those that have passed a router."""
    anywhere = struct.pack("=H", FAMILY[version])  # the address 0, of whose bits none must match
    key = os.urandom(_KEY_BYTES)
    try:
        wanted = _SIGNATURE.pack(anywhere, _PREFIX_FLAG, 0, len(key), 0, key)
        listener.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG_EXT, wanted)
    except OSError:
        listener.setsockopt(*_LEAST_HOPS[version], 255)


def _explained(error: OSError, address: Address, ports: tuple[int, ...]) -> ScannerError:
    which = f"source port {ports[0]}" if len(ports) == 1 else f"one of the source ports {ports[0]}-{ports[-1]}"
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"{which} is in use on {address}: choose another with --source-port, or leave it out")
    if error.errno == errno.EACCES:
        return UsageError(f"{which} needs root or CAP_NET_BIND_SERVICE on {address}: choose one above 1023")
    return ScanError(f"{which} cannot be held on {address}: {cause_of(error)}")
