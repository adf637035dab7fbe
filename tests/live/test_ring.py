"""The transmit ring with a real kernel: the count of frames that have left, and the longest frame."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scanner.lab import Box
from scanner.packet.headers import LINK_ETHERNET
from scanner.transport.bpf import DROP_ALL
from scanner.transport.ring import BLOCK, TX_DATA, TX_SLOT, Receiver, Sender
from scanner.transport.ring_transport import RingTransport
from tests.lab.live import LIVE
from tests.lab.networks import direct_box

pytestmark = LIVE

FRAME = np.frombuffer(bytes.fromhex("020000000002" + "020000000001" + "88b5") + bytes(46), np.uint8)
BLOCKS = 2


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with direct_box() as made:
        yield made


def received(box: Box) -> int:
    with box.target.entered():
        text = Path("/proc/thread-self/net/dev").read_text()
    return int(text.partition("host0:")[2].split()[1])


@pytest.mark.parametrize("rings", [1, 2])
def test_frames_are_counted_while_the_ring_stays_full(box: Box, rings: int) -> None:
    """A slot is not reused before its batch is counted; otherwise the count would stop until the ring is empty."""
    with box.scanner.entered():
        senders = [Sender("scan0", BLOCKS) for _ in range(rings)]
        transport = RingTransport(Receiver("scan0", LINK_ETHERNET, DROP_ALL, 1), senders)
    slots = rings * BLOCKS * BLOCK // TX_SLOT
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
    assert most <= slots or rings > 1  # of two rings one may have to wait for a processor
    assert received(box) - before >= handed


def test_the_longest_frame_of_ours_fits() -> None:
    ethernet, ip, tcp, options = 14, 40, 20, 20
    assert ethernet + ip + tcp + options <= TX_SLOT - TX_DATA
