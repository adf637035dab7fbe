"""Whether an interface carries our frames at the moment: is it there, up, and the same as at the start?

A packet socket says once (ENETDOWN) that its interface went down, and nothing of how it is now. So the flags are read
as well. They also tell of a cable that was pulled. All of it goes by the index of the interface: a renamed interface
is still the same one, and a new interface under an old name is another.

An interface that goes down loses its IPv6 addresses (net.ipv6.conf.all.keep_addr_on_down). Without the address that
probes come from no reply would arrive, so such an interface still counts as down.

Frames carry the MAC address that the interface had at the start. When it gets another one, the kernel takes replies to
the old one for frames to another machine. So such an interface counts as gone.

Limit: a cable that is pulled and put back between two looks is not seen.

Source: netdevice(7); net/packet/af_packet.c (packet_notifier).
"""

import errno
import fcntl
import socket
import struct
import sys

from ..errors import ScanError
from ..net.interfaces import interfaces
from ..net.netlink import Address
from . import LinkDown

SIOCGIFNAME, SIOCGIFFLAGS, SIOCGIFHWADDR = 0x8910, 0x8913, 0x8927
CARRYING = 0x1 | 0x40  # IFF_UP, IFF_RUNNING
_REQUEST = "16s i 20x"  # struct ifreq: the name, then a union that begins with the index or the flags
_MAC = slice(18, 24)  # in struct ifreq, behind the ARPHRD number of the interface


class Link:
    """The interface of a bound packet socket."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.name = name
        self._socket, self._index = sock, socket.if_nametoindex(name)
        self.mac: bytes | None = None  # the source of every frame; None: frames have none
        self._usual = self._flags() or 0  # an interface without a carrier may still carry frames
        self._down = False
        self.needs: frozenset[Address] = frozenset()  # addresses that it must have when it comes back

    def check(self) -> None:
        """Raises LinkDown while the interface is down, and once if it was.

        Raises ScanError if it has gone, or has another MAC address.
        """
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        flags = self._flags()
        if flags is None:
            raise ScanError(f"the interface {self.name} has gone")
        if self.mac and self._has(SIOCGIFHWADDR, _MAC) not in (self.mac, None):
            raise ScanError(f"the interface {self.name} has got another MAC address")
        if error or flags & self._usual != self._usual:
            self._down = True
            raise LinkDown(f"{self.name} is down")
        if self._down and self.needs:
            link = interfaces().get(self._index)
            for missing in self.needs - {*(link.addresses if link else ())}:
                raise LinkDown(f"{self.name} has lost its address {missing}")
        self._down = False

    def _flags(self) -> int | None:
        """IFF_UP and IFF_RUNNING; None: there is no such interface any more."""
        flags = self._has(SIOCGIFFLAGS, slice(16, 18))
        return None if flags is None else int.from_bytes(flags, sys.byteorder) & CARRYING

    def _has(self, request: int, where: slice) -> bytes | None:
        """A part of what the kernel says of the interface; None: there is no such interface any more."""
        while name := self._ask(SIOCGIFNAME, struct.pack(_REQUEST, b"", self._index)):
            found = self._ask(request, name)
            if found:  # else it has got another name in the meantime
                return found[where]
        return None

    def _ask(self, request: int, interface: bytes) -> bytes | None:
        """The answer of the kernel; None: there is no such interface."""
        try:
            return fcntl.ioctl(self._socket, request, interface)
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ENXIO):
                return None
            raise
