"""Which way frames leave an interface: AF_XDP where it can be had, or else the packet ring.

`auto` takes AF_XDP for Ethernet interfaces of this machine and of its namespaces (veth) that have a free queue for each
sender. On veth it carries 1.8 times as many frames as the ring. It was not measured on interfaces that stand upon
others (VLAN, bridge, bond), so they get the ring. So does a system that does not allow AF_XDP.
"""

import errno
import time
from contextlib import ExitStack

from ..errors import ScanError, cause_of
from ..net.netlink import Interface
from ..packet.headers import LINK_ETHERNET
from ..verdict.sentences import plural
from .ring import TX_BLOCKS, RingSlots
from .sending import Sender
from .xdp import XdpSlots, queues_of

_MEASURED = ("", "veth")  # IFLA_INFO_KIND; physical interfaces have none
_RELEASED = 0.5  # seconds within which the kernel gives back the queue of a socket that has just been closed
_PAUSE = 0.01


def open_senders(face: Interface, way: str, count: int) -> list[Sender]:
    """Senders on an interface. `way` is auto, xdp or ring; xdp may give fewer than `count`.

    Raises ScanError where the system does not allow it.
    """
    if way == "xdp":
        return _xdp(face, min(count, queues_of(face.name)), time.monotonic() + _RELEASED)
    if way == "auto" and face.link == LINK_ETHERNET and face.kind in _MEASURED:
        try:
            return _xdp(face, count, 0.0)
        except ScanError:
            pass
    blocks = TX_BLOCKS if count == 1 else 2 * TX_BLOCKS
    return [Sender(face.name, RingSlots(face.name, blocks)) for _ in range(count)]


def _xdp(face: Interface, count: int, until: float) -> list[Sender]:
    """A sender for each of `count` queues. Tries again until a moment (monotonic) if others have them.

    Raises ScanError; then nothing stays open.
    """
    slots: list[XdpSlots] = []
    with ExitStack() as stack:
        queues, cause = list(range(queues_of(face.name))), f"it has fewer than {plural(count, 'free transmit queue')}"
        while len(slots) < count and queues:
            queue = queues.pop(0)
            try:
                slots.append(XdpSlots(face.name, queue))
                stack.callback(slots[-1].close)
            except OSError as error:
                cause = cause_of(error)
                if error.errno == errno.EBUSY and time.monotonic() < until:
                    queues.append(queue)
                    time.sleep(_PAUSE)
        if len(slots) < count:
            raise ScanError(f"no AF_XDP on {face.name}: {cause}; --transport auto takes another way")
        stack.pop_all()
    return [Sender(face.name, each) for each in slots]
