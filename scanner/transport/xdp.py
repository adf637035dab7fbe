"""AF_XDP: the kernel takes frames out of our memory with less work for each than from a packet ring.

A block of our memory (UMEM) is registered with a socket and cut into slots. Descriptors in the transmit ring say which
slot holds a frame; the completion ring says which slots the kernel is done with. Both rings are numpy views. There are
as many descriptors as slots, and slots are used in turn, so descriptor i always names slot i: only lengths and the
producer's counter change. The socket is bound to one queue of the interface in copy mode. That needs CAP_NET_RAW, no
BPF program, and nothing from the driver. Two senders need two queues, because a queue has one lock.

Chunks of the UMEM have 2 KB, the least that the kernel takes. A descriptor may name any place within a chunk, so each
chunk holds 16 slots, and 32,768 slots fit into 4 MiB. The usual limit of locked memory is 8 MiB for a user, and
where it is lower there are fewer slots.

Frames are sent past the queueing layer and past taps, like those of the transmit ring with PACKET_QDISC_BYPASS. A full
queue of the driver makes the frame wait. A frame that the interface cannot carry at the moment is taken and dropped
(EBUSY); the interface counts it.

Limits: Linux 5.4 or newer; Ethernet. It only sends: receiving stays the packet ring, because a program on
the driver's receive path adds work to every frame of the machine.

Source: Linux include/uapi/linux/if_xdp.h, Documentation/networking/af_xdp.rst, net/xdp/xsk.c (__xsk_generic_xmit),
net/xdp/xsk_buff_pool.c (xp_assign_dev), include/uapi/linux/ethtool.h (struct ethtool_channels).
"""

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct
import threading
import time
from contextlib import ExitStack, closing, suppress

import numpy as np
import numpy.typing as npt

from ..packet.headers import Bytes, Ints

# include/linux/socket.h, include/uapi/linux/if_xdp.h
AF_XDP, SOL_XDP = 44, 283
XDP_MMAP_OFFSETS, XDP_TX_RING, XDP_UMEM_REG = 1, 3, 4
XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_MAX_TX_SKB_BUDGET = 5, 6, 9
XDP_COPY = 1 << 1  # of sockaddr_xdp
PGOFF_TX_RING, PGOFF_COMPLETION_RING = 0x80000000, 0x180000000
CHUNK = 2048
SLOT = 128  # bytes; our longest frame has 94
SLOTS, LEAST_SLOTS = 32768, 2048
DESCRIPTOR = np.dtype([("address", "u8"), ("length", "u4"), ("options", "u4")])
FULL_PAUSE = 0.0001

SIOCETHTOOL, ETHTOOL_GCHANNELS = 0x8946, 0x3C
_CHANNELS = struct.Struct("9I")  # command, most rx, tx, other, combined, and how many there are of each
_REQUEST = "16s P 16x"  # struct ifreq: the name, a pointer


def queues_of(interface: str) -> int:
    """How many transmit queues the interface uses; 1 where its driver does not say."""
    channels = ctypes.create_string_buffer(_CHANNELS.pack(ETHTOOL_GCHANNELS, *[0] * 8))
    request = struct.pack(_REQUEST, interface.encode(), ctypes.addressof(channels))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
        fcntl.ioctl(sock, SIOCETHTOOL, request)
        *_, tx, _, combined = _CHANNELS.unpack(channels.raw[: _CHANNELS.size])
        return max(1, int(tx) + int(combined))
    return 1


class _Counters:
    """One of the rings: its producer's and consumer's counters, and its entries."""

    def __init__(self, sock: socket.socket, place: int, offsets: list[int], entries: int, of: npt.DTypeLike) -> None:
        producer, consumer, first = offsets
        kind = np.dtype(of)
        self._map = mmap.mmap(sock.fileno(), first + entries * kind.itemsize, offset=place)
        self.producer = np.ndarray((1,), "u4", self._map, producer)
        self.consumer = np.ndarray((1,), "u4", self._map, consumer)
        self.entry = np.ndarray((entries,), kind, self._map, first)

    def close(self) -> None:
        """Drop the views, then the mapping."""
        del self.producer, self.consumer, self.entry
        self._map.close()


class XdpSlots:
    """Slots of an AF_XDP socket that is bound to one queue. Raises OSError where the system does not allow it."""

    def __init__(self, interface: str, queue: int, slots: int = SLOTS) -> None:
        with ExitStack() as stack:
            self._socket = stack.enter_context(closing(socket.socket(AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC)))
            memory = self._register(slots)
            self.count = len(memory) // SLOT
            for option in (XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_TX_RING):
                # The kernel wants a fill ring, for frames that arrive, but it may have a single entry.
                entries = 1 if option == XDP_UMEM_FILL_RING else self.count
                self._socket.setsockopt(SOL_XDP, option, entries)
            with suppress(OSError):  # Linux 6.17
                # Frames in one send(), 32 by default. After each call the sender waits for the interpreter lock, for up
                # to 5 ms: with 1,024 frames in a call 15 % fewer leave than with all that wait.
                self._socket.setsockopt(SOL_XDP, XDP_MAX_TX_SKB_BUDGET, self.count)
            self._map_rings(stack)
            _bind(self._socket, interface, queue)
            self._stack = stack.pop_all()
        self._rows: Bytes = np.frombuffer(memory, np.uint8).reshape(self.count, SLOT)  # they keep the memory mapped
        self._ready = np.ones(self.count, np.bool_)  # the kernel is done with the slot
        self._barrier = threading.Lock()

    def _register(self, slots: int) -> mmap.mmap:
        """Memory for `slots` slots, or for fewer where the limit of locked memory is low."""
        while True:
            memory = mmap.mmap(-1, slots * SLOT)
            where = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            try:
                # struct xdp_umem_reg: address, length, bytes of a chunk, headroom, flags, bytes of metadata
                self._socket.setsockopt(
                    SOL_XDP, XDP_UMEM_REG, struct.pack("QQIIII", where, len(memory), CHUNK, 0, 0, 0)
                )
            except OSError as error:
                if error.errno != errno.ENOBUFS or slots <= LEAST_SLOTS:
                    raise
                slots //= 2
            else:
                return memory

    def _map_rings(self, stack: ExitStack) -> None:
        # struct xdp_mmap_offsets: for receiving, sending, filling and completion where producer, consumer and entries
        # are; newer kernels say where the flags are as well.
        raw = self._socket.getsockopt(SOL_XDP, XDP_MMAP_OFFSETS, 128)
        words = np.frombuffer(raw, np.uint64).reshape(4, -1)[:, :3].astype(int).tolist()
        self._sending = _Counters(self._socket, PGOFF_TX_RING, words[1], self.count, DESCRIPTOR)
        stack.enter_context(closing(self._sending))
        self._done = _Counters(self._socket, PGOFF_COMPLETION_RING, words[3], self.count, "u8")
        stack.enter_context(closing(self._done))
        self._sending.entry["address"] = np.arange(self.count, dtype=np.uint64) * SLOT

    def writable(self, first: int, limit: int) -> Bytes:
        return self._rows[first : first + limit]

    def hand_over(self, first: int, rows: int, length: int | Ints) -> None:
        self._sending.entry["length"][first : first + rows] = length
        self._ready[first : first + rows] = False
        # The data must be in memory before the counter that hands it over. A lock is a barrier on every processor.
        with self._barrier:
            pass
        self._sending.producer += np.uint32(rows)

    def left(self, first: int, rows: int) -> bool:
        """The kernel is done with a slot when its address is in the completion ring. The order there is any order."""
        done = self._done
        begin, end = int(done.consumer[0]), int(done.producer[0])
        if begin != end:
            with self._barrier:
                pass
            count, at = (end - begin) % (1 << 32), begin % self.count
            over = max(0, at + count - self.count)
            for part in (done.entry[at : at + count - over], done.entry[:over]):
                self._ready[part // SLOT] = True
            done.consumer[0] = end
        return bool(self._ready[first : first + rows].all())

    def waiting(self) -> bool:
        return bool(self._sending.consumer[0] != self._sending.producer[0])

    def send(self) -> None:
        taken = int(self._sending.consumer[0])
        try:
            self._socket.send(b"", socket.MSG_DONTWAIT)
        except OSError as error:
            # EAGAIN: its budget is used up, or too many frames are under way. EBUSY: it dropped the last frame.
            if error.errno not in (errno.EAGAIN, errno.EINTR, errno.EBUSY):
                raise
            if int(self._sending.consumer[0]) == taken:
                time.sleep(FULL_PAUSE)

    def close(self) -> None:
        self._stack.close()


def _bind(sock: socket.socket, interface: str, queue: int) -> None:
    """bind(2). Python's socket module does not know this family of addresses."""
    # struct sockaddr_xdp: family, flags, interface, queue, another socket that shares its memory
    address = struct.pack("HHIII", AF_XDP, XDP_COPY, socket.if_nametoindex(interface), queue, 0)
    if ctypes.CDLL(None, use_errno=True).bind(sock.fileno(), address, len(address)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
