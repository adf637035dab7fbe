"""AF_PACKET rings: memory that the kernel and this process share, so that frames pass without a copy.

Both kinds of ring are TPACKET_V2 with slots of fixed size, mapped once and seen as one numpy array. A run of slots is a
2-D view: stamping writes straight into the transmit ring, and parsing reads straight out of the receive ring. Version 3
would save receive memory, but its packed blocks have no columns. Each slot begins with a status word: it says
whether the slot belongs to the kernel or to this process. Its owner writes the slot first and the status last, and does
not use the slot again until the status says that it is free.

Sending: one call of send() also sends slots that become ready while it runs. PACKET_QDISC_BYPASS makes a full device
queue an ENOBUFS (the slot stays requested and goes with the next call) instead of a silent drop. Transmit slots are
half as large as receive slots, because our longest frame has 94 bytes. That, and rings of 131,072 slots, gave 2.6 M
frames a second instead of 2.2 M with two rings on two cores. Smaller rings were slower (8,192 slots: 1.9 M); another
switch interval of the interpreter (20 µs to 20 ms) was no better.

Receiving: the ring gets its filter before it is bound to the interface, so it sees every reply and no other frame. The
kernel counts what it had to drop. A packet socket also gets what is not for this interface: frames of VLANs, and, in
promiscuous mode, frames to other MAC addresses. They are counted and not handed out, so a recording lacks them, too.

Limits: Linux; received frames above 190 bytes are cut (headers and ICMP quotes fit).

Source: Linux include/uapi/linux/if_packet.h, Documentation/networking/packet_mmap.rst.
"""

import mmap
import socket
import struct
import threading
from collections import Counter
from contextlib import suppress

import numpy as np

from ..errors import ScanError, cause_of
from ..packet.headers import Bytes, Frames, Ints
from ..verdict.table import Rejected
from .bpf import Instructions, attach
from .link import Link

# include/linux/socket.h, include/uapi/linux/if_packet.h, include/uapi/linux/if_ether.h
SOL_PACKET = 263
PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 5, 6, 10
PACKET_TX_RING, PACKET_QDISC_BYPASS, PACKET_IGNORE_OUTGOING = 13, 20, 23
TPACKET_V2 = 1
ETH_P_ALL = 3
# tp_status of a received slot: the kernel's, or TP_STATUS_USER; of a slot to send: TP_STATUS_AVAILABLE,
# TP_STATUS_SEND_REQUEST, TP_STATUS_WRONG_FORMAT.
STATUS_KERNEL, STATUS_USER, STATUS_VLAN_VALID = 0, 1, 1 << 4
STATUS_FREE, STATUS_SEND_REQUEST, STATUS_WRONG_FORMAT = 0, 1, 4
ALL_BITS = 0xFFFFFFFF

SLOT, TX_SLOT = 256, 128  # bytes
BLOCK = 256 * 1024  # bytes; what the kernel allocates at a time
TX_BLOCKS = 32  # 65,536 frames: 30 ms at two million a second
RX_BLOCKS = 128  # 131,072 frames
TX_DATA = 32  # TPACKET2_HDRLEN - sizeof(struct sockaddr_ll): where the kernel reads a frame
FIRST_LOOK = 64  # slots looked at first; a slow scan rarely has more that are ready
SEND_TIMEOUT = struct.pack("ll", 0, 100_000)  # struct timeval: 0.1 s

# struct tpacket2_hdr, and what stands behind it
SLOT_HEADER = np.dtype([("status", "u4"), ("length", "u4"), ("captured", "u4"), ("mac", "u2"), ("net", "u2"),
                        ("seconds", "u4"), ("nanoseconds", "u4"), ("vlan_tci", "u2"), ("vlan_tpid", "u2"),
                        ("pad", "u4"),
                        # struct sockaddr_ll, of received frames
                        ("family", "u2"), ("protocol", "u2"), ("interface", "i4"), ("hardware", "u2"),
                        ("packet_type", "u1")])  # fmt: skip
PACKET_OTHERHOST = 3  # of `packet_type`: the frame goes to another MAC address
VLAN_NUMBER = 0x0FFF  # in vlan_tci; number 0 only carries a priority (IEEE 802.1Q 9.6)

NO_PERMISSION = (
    "a half-open scan needs CAP_NET_RAW: run it with sudo, or keep your user with "
    "sudo setpriv --reuid=$(id -u) --regid=$(id -g) --init-groups "
    "--inh-caps=+net_raw --ambient-caps=+net_raw halfopen …"
)


class _Ring:
    """One mapped ring: its slots as rows, and their headers as columns."""

    def __init__(self, sock: socket.socket, option: int, blocks: int, slot: int) -> None:
        self.slots = blocks * BLOCK // slot
        sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        try:
            # struct tpacket_req: block size, blocks, frame size, frames
            sock.setsockopt(SOL_PACKET, option, struct.pack("IIII", BLOCK, blocks, slot, self.slots))
        except OSError as error:
            raise ScanError(f"the kernel gave no packet ring: {cause_of(error)}") from error
        try:
            self._map = mmap.mmap(sock.fileno(), blocks * BLOCK, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:
            raise ScanError(f"no packet ring of {blocks * BLOCK >> 20} MB: {cause_of(error)}") from error
        self.bytes: Bytes = np.frombuffer(self._map, np.uint8)
        self.rows: Bytes = self.bytes.reshape(self.slots, slot)
        self.header = np.ndarray((self.slots,), SLOT_HEADER, self.bytes, strides=(slot,))

    def run(self, first: int, limit: int, mask: int, value: int) -> int:
        """How many slots from `first` on, without wrapping and at most `limit`, have `status & mask == value`."""
        limit = min(limit, self.slots - first)
        count, step = 0, FIRST_LOOK
        while count < limit:
            # Each look is at four times as many slots: reading all of them costs more than a slow scan can use.
            status = self.header["status"][first + count : first + min(limit, count + step)]
            other = np.flatnonzero(status & mask != value)
            if other.size:
                return count + int(other[0])
            count, step = count + len(status), 4 * step
        return count

    def close(self) -> None:
        """Drop the views, then the mapping; it stays as long as a caller holds a view."""
        del self.header, self.rows, self.bytes
        with suppress(BufferError):
            self._map.close()


def _open_socket() -> socket.socket:
    """An AF_PACKET socket that receives nothing until bound to a protocol. Raises ScanError without CAP_NET_RAW."""
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError as error:
        raise ScanError(NO_PERMISSION) from error
    except OSError as error:
        raise ScanError(f"no packet socket: {cause_of(error)}") from error


class Receiver:
    """The receive half: a filtered ring on one interface, the frames of which have the link type `link`.

    `any_mac`: frames to other MAC addresses are handed out, too, as a bridge needs it.
    """

    def __init__(
        self, interface: str, link: int, program: Instructions, blocks: int = RX_BLOCKS, any_mac: bool = False
    ) -> None:
        self.link, self._any_mac = link, any_mac
        self._socket = _open_socket()
        attach(self._socket, program)
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._ring = _Ring(self._socket, PACKET_RX_RING, blocks, SLOT)
        self._head = self._lent = 0
        self._dropped = 0
        self.rejected: Counter[str] = Counter()  # frames that are not handed out, by cause
        self._socket.bind((interface, ETH_P_ALL))
        self.link_state = Link(self._socket, interface)

    def recv(self, limit: int = 8192) -> Frames:
        ring = self._ring
        # The slots of the last call go back to the kernel: its frames are valid no longer.
        if self._lent:
            ring.header["status"][self._head : self._head + self._lent] = STATUS_KERNEL
            self._head = (self._head + self._lent) % ring.slots
        # The kernel fills slots in order, so the ready ones are a run from the head on.
        head = self._head
        self._lent = count = ring.run(head, limit, STATUS_USER, STATUS_USER)
        header = ring.header[head : head + count]
        # `mac` is where the frame begins within its slot.
        start = np.arange(head, head + count, dtype=np.int64) * SLOT + header["mac"]
        when = header["seconds"].astype(np.int64) * 1_000_000_000 + header["nanoseconds"]
        length = header["captured"].astype(np.int64)
        frames = Frames(ring.bytes, start, length, when, np.full(count, self.link, np.uint16))
        # The kernel takes a VLAN tag out of the frame. It would drop both kinds of frames behind this socket.
        tagged = (header["status"] & STATUS_VLAN_VALID > 0) & (header["vlan_tci"] & VLAN_NUMBER > 0)
        elsewhere = ~tagged & (header["packet_type"] == PACKET_OTHERHOST) & (not self._any_mac)
        if not (tagged | elsewhere).any():
            return frames
        self.rejected[Rejected.VLAN_TAG.value] += int(np.count_nonzero(tagged))
        self.rejected[Rejected.OTHER_MAC.value] += int(np.count_nonzero(elsewhere))
        return frames.take(~(tagged | elsewhere))

    def fileno(self) -> int:
        return self._socket.fileno()

    def dropped(self) -> int:
        """Frames that found the ring full."""
        # struct tpacket_stats: packets, drops. Reading clears both, so they are summed here.
        _, drops = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self._dropped += drops
        return self._dropped

    def close(self) -> None:
        self._ring.close()
        self._socket.close()


class RingSlots:
    """The slots of a transmit ring on one interface; without `bypass` they go through the queueing layer."""

    def __init__(
        self, interface: str, blocks: int = TX_BLOCKS, slot: int = TX_SLOT, bypass: bool = True
    ) -> None:  # fmt: skip
        self._interface = interface
        self._socket = _open_socket()
        self._ring = _Ring(self._socket, PACKET_TX_RING, blocks, slot)
        self._last = 0  # the slot that was handed over last
        self.count = self._ring.slots
        self._socket.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, int(bypass))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, SEND_TIMEOUT)
        self._socket.bind((interface, 0))
        self._barrier = threading.Lock()

    def writable(self, first: int, limit: int) -> Bytes:
        ring = self._ring
        return ring.rows[first : first + ring.run(first, limit, ALL_BITS, STATUS_FREE), TX_DATA:]

    def hand_over(self, first: int, rows: int, length: int | Ints) -> None:
        header = self._ring.header[first : first + rows]
        header["length"] = length
        # The data must be in memory before the status that hands it over. A lock is a barrier on every processor.
        with self._barrier:
            pass
        header["status"] = STATUS_SEND_REQUEST
        self._last = first + rows - 1

    def left(self, first: int, rows: int) -> bool:
        """The kernel takes slots in order, so a batch has left when its last slot is free.

        Only `writable` reads the status of every slot: to read it here as well would cost 90 ns a frame.
        """
        status = int(self._ring.header["status"][first + rows - 1])
        if status & STATUS_WRONG_FORMAT:
            raise ScanError(f"{self._interface} refused a frame as malformed")
        return status == STATUS_FREE

    def waiting(self) -> bool:
        return bool(self._ring.header["status"][self._last] != STATUS_FREE)

    def send(self) -> None:
        with suppress(BlockingIOError, InterruptedError):
            self._socket.send(b"")

    def close(self) -> None:
        self._ring.close()
        self._socket.close()
