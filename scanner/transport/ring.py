"""AF_PACKET rings: frames to and from the driver without a copy through a socket call.

Both rings are TPACKET_V2 in fixed slots, mapped once and seen as one numpy array, so that
a run of slots is a 2-D view: stamping writes straight into the transmit ring and parsing reads
straight out of the receive ring. Version 3 would save receive memory but its packed blocks have no
columns.

Sending: the kernel walks on to slots that become ready while its send() runs, and send() releases the
interpreter lock. So one thread does nothing but call send() while the scan stamps the next slots.
Slots to send are half as large as those to receive: the longest frame of ours has 94 bytes. That, and rings of 131,072
slots, made 2.6 M frames a second of 2.2 M where two rings are at work on two cores; smaller rings (8,192 slots: 1.9 M),
another switch interval of the interpreter (20 µs to 20 ms) were no better.
PACKET_QDISC_BYPASS makes a full device queue an ENOBUFS (the slot stays requested and goes with the next
call) instead of a silent drop. A frame counts as sent when its slot is free again.

Receiving: the ring is armed, with its filter, before it is bound to the interface, so no reply is
early and no stray frame is seen. The kernel counts what it had to drop.

Limits: Linux; received frames above 190 bytes are cut (headers and ICMP quotes fit). The order "data, then status" is
kept by a lock between the two writes, which is a barrier on every processor.

Source: Linux include/uapi/linux/if_packet.h, Documentation/networking/packet_mmap.rst.
"""

import errno
import mmap
import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Protocol

import numpy as np

from ..errors import ScanError
from ..packet.headers import LINK_ETHERNET, LINK_RAW, Bytes, Frames, Ints
from . import Drops
from .bpf import Instructions, attach

SOL_PACKET = 263
PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 5, 6, 10
PACKET_TX_RING, PACKET_QDISC_BYPASS, PACKET_IGNORE_OUTGOING = 13, 20, 23
TPACKET_V2 = 1
ETH_P_ALL = 3
STATUS_KERNEL, STATUS_USER, STATUS_SEND_REQUEST, STATUS_WRONG_FORMAT = 0, 1, 1, 4

SLOT, TX_SLOT = 256, 128
BLOCK = 256 * 1024
TX_BLOCKS = 32  # 65,536 frames: 30 ms at two million a second
RX_BLOCKS = 128  # 131,072 frames
TX_DATA = 32  # TPACKET2_HDRLEN - sizeof(struct sockaddr_ll): where the kernel reads a frame
FIRST_LOOK = 64  # slots looked at first; a slow scan rarely has more that are ready
STUCK_SECONDS = 5.0
NO_LINK_HEADER = (512, 519, 65534, 768, 769, 776, 778)  # ARPHRD_PPP, RAWIP, NONE, TUNNEL, TUNNEL6, SIT, IPGRE

# struct tpacket2_hdr
SLOT_HEADER = np.dtype([("status", "u4"), ("length", "u4"), ("captured", "u4"), ("mac", "u2"), ("net", "u2"),
                        ("seconds", "u4"), ("nanoseconds", "u4"), ("vlan_tci", "u2"), ("vlan_tpid", "u2"),
                        ("pad", "u4")])  # fmt: skip


class _Ring:
    """One mapped ring: its slots as rows, their headers as columns, and the next slot to use."""

    def __init__(self, sock: socket.socket, option: int, blocks: int, slot: int) -> None:
        self.slots = blocks * BLOCK // slot
        sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        try:
            sock.setsockopt(SOL_PACKET, option, struct.pack("IIII", BLOCK, blocks, slot, self.slots))
        except OSError as error:
            raise ScanError(
                f"the kernel gave no packet ring ({error.strerror}); free some memory and try again"
            ) from error
        self._map = mmap.mmap(sock.fileno(), blocks * BLOCK, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self.bytes: Bytes = np.frombuffer(self._map, np.uint8)
        self.rows: Bytes = self.bytes.reshape(self.slots, slot)
        self.header = np.ndarray((self.slots,), SLOT_HEADER, self.bytes, strides=(slot,))
        self.head = 0

    def run(self, limit: int, mask: int, value: int) -> int:
        """How many slots from the head on, without wrapping and at most `limit`, have `status & mask == value`."""
        count, step = 0, FIRST_LOOK
        while count < limit and self.head + count < self.slots:
            status = self.header["status"][self.head + count : self.head + min(limit, count + step)]
            other = np.flatnonzero(status & mask != value)
            if other.size:
                return count + int(other[0])
            count, step = count + len(status), 4 * step
        return count

    def advance(self, count: int) -> None:
        self.head = (self.head + count) % self.slots

    def close(self) -> None:
        """Drop the views, then the mapping (it stays while somebody still holds a view)."""
        del self.header, self.rows, self.bytes
        with suppress(BufferError):
            self._map.close()


def open_socket(protocol: int = 0) -> socket.socket:
    """An AF_PACKET socket that receives nothing until bound to a protocol. Raises ScanError without CAP_NET_RAW."""
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, protocol)
    except PermissionError as error:
        raise ScanError(NO_PERMISSION) from error


NO_PERMISSION = (
    "a half-open scan needs CAP_NET_RAW: run it with sudo, or keep your user with "
    "sudo setpriv --reuid=$(id -u) --regid=$(id -g) --init-groups "
    "--inh-caps=+net_raw --ambient-caps=+net_raw halfopen …"
)


class Receiver:
    """The receive half: a filtered ring on one interface."""

    def __init__(self, interface: str, kind: int, program: Instructions, blocks: int = RX_BLOCKS) -> None:
        self.link = LINK_RAW if kind in NO_LINK_HEADER else LINK_ETHERNET
        self._socket = open_socket()
        attach(self._socket, program)
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._ring = _Ring(self._socket, PACKET_RX_RING, blocks, SLOT)
        self._lent = 0
        self._dropped = 0
        self._socket.bind((interface, ETH_P_ALL))

    def recv(self, limit: int = 8192) -> Frames:
        ring = self._ring
        if self._lent:
            ring.header["status"][ring.head : ring.head + self._lent] = STATUS_KERNEL
            ring.advance(self._lent)
        self._lent = count = ring.run(limit, STATUS_USER, STATUS_USER)
        header = ring.header[ring.head : ring.head + count]
        start = np.arange(ring.head, ring.head + count, dtype=np.int64) * SLOT + header["mac"]
        when = header["seconds"].astype(np.int64) * 1_000_000_000 + header["nanoseconds"]
        return Frames(
            ring.bytes, start, header["captured"].astype(np.int64), when, np.full(count, self.link, np.uint16)
        )

    def fileno(self) -> int:
        return self._socket.fileno()

    def dropped(self) -> int:
        """Frames that found the ring full (PACKET_STATISTICS; reading clears it, so it is summed here)."""
        _, drops = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self._dropped += drops
        return self._dropped

    def close(self) -> None:
        self._ring.close()
        self._socket.close()


class Sender:
    """The transmit half: a ring, and a thread that keeps the kernel walking along it."""

    def __init__(self, interface: str, blocks: int = TX_BLOCKS, slot: int = TX_SLOT) -> None:
        self.interface = interface
        self._socket = open_socket()
        self._ring = _Ring(self._socket, PACKET_TX_RING, blocks, slot)
        self._socket.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 100_000))
        self._socket.bind((interface, 0))
        self._barrier = threading.Lock()
        self._batches: deque[tuple[int, int]] = deque()  # on their way: last slot, frames
        self._committed = self._freed = 0
        self._progress = time.monotonic()
        self._failed: OSError | None = None
        self.tried_again = 0  # frames that a full device queue refused at first
        self._closing = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._pump, name=f"send {interface}", daemon=True)
        self._thread.start()

    def reserve(self, limit: int) -> Bytes:
        ring = self._ring
        # Not beyond what has been counted as sent: the sign that a batch has left is its last slot, free again.
        room = ring.slots - (self._committed - self.sent())
        count = ring.run(min(limit, room), 0xFFFFFFFF, STATUS_KERNEL)
        return ring.rows[ring.head : ring.head + count, TX_DATA:]

    def commit(self, rows: int, length: int | Ints) -> None:
        ring = self._ring
        header = ring.header[ring.head : ring.head + rows]
        header["length"] = length
        with self._barrier:
            pass
        header["status"] = STATUS_SEND_REQUEST
        ring.advance(rows)
        self._committed += rows
        if not self._batches:
            self._progress = time.monotonic()
        self._batches.append(((ring.head - 1) % ring.slots, rows))
        self._ready.set()

    def sent(self) -> int:
        """Frames that have left, in whole batches. Raises ScanError after 5 s without progress.

        The kernel takes slots in order, so a batch has left when its last slot is free again. Whether every single slot
        may be written anew is looked at by `reserve`: reading each slot's status here as well cost 90 ns a frame.
        """
        status = self._ring.header["status"]
        while self._batches and status[self._batches[0][0]] == STATUS_KERNEL:
            self._freed += self._batches.popleft()[1]
            self._progress = time.monotonic()
        if self._batches:
            self._check(int(status[self._batches[0][0]]))
        return self._freed

    def _check(self, status: int) -> None:
        if status & STATUS_WRONG_FORMAT:
            raise ScanError(f"{self.interface} refused a frame as malformed")
        if time.monotonic() - self._progress > STUCK_SECONDS:
            cause = f": {self._failed.strerror}" if self._failed else ""
            raise ScanError(f"{self.interface} has sent nothing for {STUCK_SECONDS:.0f} s{cause}; is it up?")

    def _pump(self) -> None:
        """Call send() while anything is requested. ENOBUFS leaves the slot requested: wait a little, go on."""
        while not self._closing:
            self._ready.wait()
            self._ready.clear()
            while not self._closing and self._requested():
                try:
                    self._socket.send(b"")
                except OSError as error:
                    if error.errno not in (errno.EAGAIN, errno.EINTR):
                        self._failed = error
                        self.tried_again += error.errno == errno.ENOBUFS
                        time.sleep(0.0005)

    def _requested(self) -> bool:
        last = (self._ring.head - 1) % self._ring.slots
        return bool(self._ring.header["status"][last] != STATUS_KERNEL)

    def close(self) -> None:
        self._closing = True
        self._ready.set()
        self._thread.join()
        self._ring.close()
        self._socket.close()


class SendHalf(Protocol):
    """What sends: one ring, or several in turn (`senders`)."""

    @property
    def tried_again(self) -> int: ...

    def reserve(self, limit: int) -> Bytes: ...

    def commit(self, rows: int, length: int) -> None: ...

    def sent(self) -> int: ...

    def close(self) -> None: ...


class RingTransport:
    """Both halves on one interface; `sender_drops` tells how many frames the interface itself lost."""

    def __init__(self, receiver: Receiver, sender: SendHalf) -> None:
        self._receiver, self._sender = receiver, sender
        self.link = receiver.link
        self.reserve, self.commit, self.sent = sender.reserve, sender.commit, sender.sent
        self.recv, self.fileno = receiver.recv, receiver.fileno

    def drops(self) -> Drops:
        return Drops(received=self._receiver.dropped(), tried_again=self._sender.tried_again)

    def close(self) -> None:
        """Both at once: for each packet socket the kernel waits until nobody looks at it any more, some 20 ms."""
        other = threading.Thread(target=self._sender.close)
        other.start()
        self._receiver.close()
        other.join()
