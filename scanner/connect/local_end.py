"""Where connections come from, and how a socket is told the link of a link-local address."""

import socket
from ipaddress import IPv6Address
from typing import NamedTuple

from ..errors import ScanError, UsageError
from ..targets.zones import Zones, zone_at

_IP_BIND_ADDRESS_NO_PORT = 24  # include/uapi/linux/in.h: the port is chosen by connect(), for the whole 4-tuple


class LocalEnd(NamedTuple):
    """Where calls come from, if the routes are not to decide: an address of this machine, the name of an interface."""

    address: str | None = None
    interface: str | None = None
    zones: Zones = ()  # of link-local targets

    def name_of(self, host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """The address for connect(), with the number of the interface where it needs one (RFC 3493 3.3)."""
        zone = zone_at(self.zones, int(IPv6Address(host))) if self.zones and ":" in host else ""
        if not zone:
            return host, port
        try:
            return host, port, 0, socket.if_nametoindex(zone)
        except OSError:  # a number, or an interface that has gone: there is no interface 0
            return host, port, 0, int(zone) if zone.isdigit() else 0

    def bind(self, call: socket.SocketType) -> None:
        """Before connect(). Raises ScanError, and closes the socket, where the system refuses."""
        try:
            if self.interface:
                call.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode())
            if self.address:
                call.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                call.bind((self.address, 0))
        except OSError as error:
            call.close()
            wanted = " ".join(filter(None, self[:2]))
            raise ScanError(f"cannot connect from {wanted}: {error.strerror}; is it this machine's?") from error

    def check(self) -> None:
        """Refuse what `bind` would refuse for every target, before anything is sent. Raises UsageError."""
        if not (self.address or self.interface):
            return
        family = socket.AF_INET6 if self.address and ":" in self.address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as call:
                self.bind(call)
        except ScanError as error:
            raise UsageError(str(error)) from error


ANYWHERE = LocalEnd()
