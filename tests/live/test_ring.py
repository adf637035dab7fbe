"""Both ways of sending with a real kernel: the count of frames that have left, and the longest frame."""

import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from scanner.errors import ScanError
from scanner.lab import Box
from scanner.net.interfaces import interface
from scanner.packet.headers import LINK_ETHERNET
from scanner.transport.bpf import DROP_ALL
from scanner.transport.interface_transport import InterfaceTransport, Senders
from scanner.transport.ring import BLOCK, TX_DATA, TX_SLOT, Receiver, RingSlots
from scanner.transport.senders import open_senders
from scanner.transport.sending import Sender, Slots
from scanner.transport.xdp import CHUNK, SLOT, XdpSlots
from tests.lab.live import LIVE
from tests.lab.networks import direct_box

pytestmark = LIVE

FRAME = np.frombuffer(bytes.fromhex("020000000002" + "020000000001" + "88b5") + bytes(46), np.uint8)
BLOCKS, XDP_SLOTS = 2, 4096
LONGEST = 14 + 40 + 20 + 20  # Ethernet, IPv6, TCP, options


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with direct_box() as made:
        yield made


def ring(queue: int) -> Slots:
    return RingSlots("scan0", BLOCKS)


def xdp(queue: int) -> Slots:
    """The kernel gives the queue of a closed socket back a little later."""
    for left in reversed(range(100)):
        try:
            return XdpSlots("scan0", queue, XDP_SLOTS)
        except OSError as error:
            if error.errno != errno.EBUSY or not left:
                pytest.skip(f"no AF_XDP here: {error}")
            time.sleep(0.01)
    raise AssertionError("unreachable")


WAYS = {"ring": (ring, BLOCKS * BLOCK // TX_SLOT), "xdp": (xdp, XDP_SLOTS)}


def received(box: Box) -> int:
    with box.target.entered():
        text = Path("/proc/thread-self/net/dev").read_text()
    return int(text.partition("host0:")[2].split()[1])


@pytest.mark.parametrize(("way", "number"), [("ring", 1), ("ring", 2), ("xdp", 1)])
def test_frames_are_counted_while_all_slots_stay_full(box: Box, way: str, number: int) -> None:
    """A slot is not reused before its batch is counted; otherwise the count would stop until all slots are free."""
    make: Callable[[int], Slots]
    make, slots = WAYS[way]
    with box.scanner.entered():
        senders = [Sender("scan0", make(queue)) for queue in range(number)]
        transport = InterfaceTransport(Receiver("scan0", LINK_ETHERNET, DROP_ALL, 1), Senders(None, senders))
    slots *= number
    before, handed, most = received(box), 0, 0
    until = time.monotonic() + 20
    while handed < 20 * slots and time.monotonic() < until:
        rows = transport.reserve(500)
        rows[:, : len(FRAME)] = FRAME
        if len(rows):
            transport.commit(len(rows), len(FRAME))
            handed += len(rows)
        most = max(most, handed - transport.sent())
    while transport.sent() < handed and time.monotonic() < until:
        time.sleep(0.001)
    left = transport.sent()
    transport.close()
    assert (handed >= 20 * slots, left == handed) == (True, True)
    assert most <= slots or number > 1  # of two senders one may have to wait for a processor
    assert received(box) - before >= handed


@pytest.mark.parametrize("room", [TX_SLOT - TX_DATA, SLOT])
def test_the_longest_frame_of_ours_fits(room: int) -> None:
    assert room >= LONGEST


def test_no_slot_crosses_the_end_of_a_chunk() -> None:
    """The kernel refuses a frame that does (net/xdp/xsk_queue.h, xp_aligned_validate_desc)."""
    assert CHUNK % SLOT == 0


def test_two_senders_by_af_xdp_need_two_queues(box: Box) -> None:
    with box.scanner.entered():
        face = interface("scan0")
        xdp(0).close()  # skips where there is none
        senders = open_senders(face, "xdp", 2, 0.0)
        try:
            assert (senders.seen, len(senders.fast)) == (None, 1)
        finally:
            for sender in senders.fast:
                sender.close()


def test_a_queue_that_is_taken_is_an_error_only_where_af_xdp_is_demanded(box: Box) -> None:
    with box.scanner.entered():
        face, taken = interface("scan0"), xdp(0)
        try:
            with pytest.raises(ScanError, match="no AF_XDP on scan0"):
                open_senders(face, "xdp", 1, 0.0)
            _, (sender,) = open_senders(face, "auto", 1, 0.0)
            sender.close()
        finally:
            taken.close()
