"""Which way frames leave an interface.

`auto` sends up to 50,000 frames a second through the queueing layer, by a packet ring, so that taps see them. Faster
ones leave by AF_XDP where it can be had, or else by a ring that goes past the queueing layer. AF_XDP is for Ethernet
interfaces of this machine and of its namespaces (veth) that have a free queue for each sender; on veth it carries 1.8
times as many frames as the ring. It was not measured on interfaces that stand upon others (VLAN, bridge, bond), so they
get the ring. So does a system that does not allow AF_XDP.

An interface without a link header (tun) always gets frames past the queueing layer: what its queue drops is not seen
(1,305 of 5,000 frames in a test).
"""

import errno
import time
from contextlib import ExitStack

from ..errors import ScanError, cause_of
from ..net.netlink import Interface
from ..packet.headers import LINK_ETHERNET
from ..verdict.sentences import plural
from .interface_transport import ORDINARY_RATE, Senders
from .ring import TX_BLOCKS, RingSlots
from .sending import Sender
from .xdp import XdpSlots, queues_of

_MEASURED = ("", "veth")  # IFLA_INFO_KIND; physical interfaces have none
SEEN_BLOCKS = 4  # 8,192 frames: 160 ms of what taps see
_RELEASED = 0.5  # seconds within which the kernel gives back the queue of a socket that has just been closed
_PAUSE = 0.01


def open_senders(face: Interface, way: str, count: int, most: float) -> Senders:
    """Senders on an interface, `count` of them where frames leave fast. `way` is auto, xdp or ring.

    `most`: frames a second at most; 0: unlimited. With xdp there may be fewer than `count`. Raises ScanError where the
    system does not allow it.
    """
    if way == "xdp":
        return Senders(None, _xdp(face, min(count, queues_of(face.name)), time.monotonic() + _RELEASED))
    queued = face.link == LINK_ETHERNET
    seen = Sender(face.name, RingSlots(face.name, SEEN_BLOCKS, bypass=False)) if queued and most else None
    if seen and most <= ORDINARY_RATE:
        return Senders(seen, [])
    if way == "auto" and queued and face.kind in _MEASURED:
        try:
            return Senders(seen, _xdp(face, count, 0.0))
        except ScanError:
            pass
    blocks = TX_BLOCKS if count == 1 else 2 * TX_BLOCKS
    return Senders(seen, [Sender(face.name, RingSlots(face.name, blocks)) for _ in range(count)])


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
