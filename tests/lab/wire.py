"""A cable with faults: it carries frames between two interfaces, and loses, doubles and delays some of them.

A test of a bad path must know the path, and not every kernel has a queueing discipline for one (netem). So a process
in a namespace between scanner and target passes frames from one packet ring to the other, in batches. It carries
a few hundred thousand frames a second. What happens to a frame is decided by the models of `tests/paths.py`, the same
that the network in memory has, by the frame's number in its direction and a seed.

ARP and neighbour discovery are neither harmed nor counted unless `neighbours` is set.
The process ends when its standard input does, so it cannot outlive the process that started it.

Limits: frames above 190 bytes (the slot of a ring) are dropped; delays are exact to a millisecond or two;
veth leaves checksums to hardware that does not exist, so senders must fill them in (`plain_checksums`).
"""

import ctypes
import fcntl
import heapq
import json
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scanner.errors import ScanError
from scanner.lab import Namespace
from scanner.lab.box import cable, new_namespace
from scanner.packet.headers import ETHERTYPE_ARP, LINK_ETHERNET, Bools, Bytes, Frames, Ints
from scanner.transport.bpf import ACCEPT
from scanner.transport.ring import SLOT, TX_DATA, Receiver, RingSlots
from scanner.transport.sending import Sender
from tests.packets import packets_of, rewrite, write_checksums
from tests.passage import Passage
from tests.paths import BACK, OUT, Ban, OneWay, Path, PerSecond, path_of

LEFT, RIGHT = "wire0", "wire1"  # towards the scanner, towards the target
WIDEST = SLOT - TX_DATA
_MILLISECOND, _SECOND = 1_000_000, 1_000_000_000
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17  # include/uapi/linux/{sockios,ethtool}.h
_IP = 14  # bytes before the IP header
STRAIGHT = Path()
ROOT = __file__.rsplit("/", 3)[0]  # the process imports this module from here


CLEAN = OneWay()


@dataclass(frozen=True)
class WireFaults:
    """What the wire does to frames. `resets` and `silent_after` count what each address behind the wire sends back.

    `path` has further models; it stands between these faults and the target. Its seed is not used.
    """

    out: OneWay = CLEAN  # towards the target
    back: OneWay = CLEAN
    resets: int = 0  # TCP resets a second that one address may send; 0: any number
    silent_after: int = 0  # IP packets after which one address says nothing more; 0: never
    neighbours: bool = False  # whether ARP and neighbour discovery suffer, too
    seed: int = 1
    path: Path = STRAIGHT

    def whole(self) -> Path:
        """Everything as one path."""
        limits = (PerSecond(self.resets),) if self.resets else ()
        silence = (Ban(self.silent_after),) if self.silent_after else ()
        return Path((self.out, *self.path.out), (*self.path.back, *limits, *silence, self.back), self.seed)


def both(way: OneWay) -> WireFaults:
    """The same faults in either direction."""
    return WireFaults(out=way, back=way)


# ── the process in the middle ──


class _Packets(NamedTuple):
    """Frames copied out: uint8[n, width], and how long each is."""

    rows: Bytes
    length: Ints

    def take(self, rows: Ints | Bools) -> "_Packets":
        return _Packets(self.rows[rows], self.length[rows])


def _ethertype(rows: Bytes) -> Ints:
    return rows[:, 12].astype(np.int64) << 8 | rows[:, 13]


def _is_neighbour(rows: Bytes) -> Bools:
    """ARP, ICMPv6 types 133 to 137 (RFC 4861), and whatever else is sent to a group: the kernel's own chatter."""
    kind = _ethertype(rows)
    group = rows[:, 0] & 1 > 0
    discovery = (kind == 0x86DD) & (rows[:, 20] == 58) & (rows[:, 54] >= 133) & (rows[:, 54] <= 137)
    return np.asarray((kind == ETHERTYPE_ARP) | discovery | group)


class _Direction:
    """From one interface to the other."""

    def __init__(self, source: str, sink: str, number: int, passage: Passage, neighbours: bool) -> None:
        self._receiver = Receiver(source, LINK_ETHERNET, [(0x06, 0, 0, ACCEPT)], any_mac=True)
        self._sender = Sender(sink, RingSlots(sink, slot=SLOT))
        self.fileno = self._receiver.fileno
        self._passage, self._neighbours, self._number = passage, neighbours, number
        self._order = 0
        self._late: list[tuple[int, int, _Packets]] = []  # due in ms, order, what
        self._ready: deque[_Packets] = deque()

    def move(self, now: int) -> float:
        """Take in, send what is due; returns in how many seconds there is more to do (0: at once)."""
        frames = self._receiver.recv()
        if len(frames):
            self._decide(_copied(frames), now)
        while self._late and self._late[0][0] * _MILLISECOND <= now:
            self._ready.append(heapq.heappop(self._late)[2])
        while self._ready:
            packets = self._ready.popleft()
            rows = self._sender.reserve(len(packets.rows))
            count, width = len(rows), packets.rows.shape[1]
            if count:
                rows[:, :width] = packets.rows[:count]
                self._sender.commit(count, packets.length[:count])
            if count < len(packets.rows):
                self._ready.appendleft(packets.take(np.arange(count, len(packets.rows))))
                return 0.001
        if len(frames):
            return 0.0
        return max(0.0, self._late[0][0] * _MILLISECOND - now) / _SECOND if self._late else 1.0

    def _decide(self, packets: _Packets, now: int) -> None:
        spared = np.zeros(len(packets.rows), np.bool_) if self._neighbours else _is_neighbour(packets.rows)
        if spared.any():
            self._ready.append(packets.take(spared))
            packets = packets.take(~spared)
        if not len(packets.rows):
            return
        arrived = self._passage.carry(self._number, packets_of(packets.rows, _IP, self._number, now))
        packets = packets.take(arrived.row)
        if self._passage.rewrites[self._number]:
            write_checksums(packets.rows, _IP, rewrite(packets.rows, _IP, arrived))
        due = -(-arrived.time // _MILLISECOND)
        at_once = arrived.time <= now
        if at_once.any():
            self._ready.append(packets if at_once.all() else packets.take(at_once))
        for moment in np.unique(due[~at_once]).tolist():
            self._order += 1
            heapq.heappush(self._late, (moment, self._order, packets.take(~at_once & (due == moment))))

    def close(self) -> None:
        self._sender.close()
        self._receiver.close()


def _copied(frames: Frames) -> _Packets:
    """Out of the ring, all but what did not fit into a slot."""
    whole = (frames.start + frames.length) % SLOT != 0
    start, length = frames.start[whole], frames.length[whole]
    width = max(68, int(length.max(initial=0)))
    at = np.minimum(start[:, None] + np.arange(width), len(frames.buffer) - 1)
    return _Packets(frames.buffer[at], length)


def forward(path: Path, neighbours: bool, leash: int) -> None:
    """Carry frames both ways until `leash`, a descriptor, can be read or is closed at the other end."""
    passage = Passage(path)
    sides = ((LEFT, RIGHT, OUT), (RIGHT, LEFT, BACK))
    ways = [_Direction(*side, passage, neighbours) for side in sides]
    poll = select.poll()
    for descriptor in (leash, *(way.fileno() for way in ways)):
        poll.register(descriptor, select.POLLIN)
    print("ready", flush=True)
    try:
        while True:
            now = time.monotonic_ns()
            wait = min([way.move(now) for way in ways])
            if any(descriptor == leash for descriptor, _ in poll.poll(wait * 1000)):
                return
    finally:
        for way in ways:
            way.close()


def main() -> None:
    """The process: its path is its argument, and whether neighbours suffer."""
    path, neighbours = json.loads(sys.argv[1])
    forward(path_of(path), neighbours, sys.stdin.fileno())


# ── the network's side ──


class Wire:
    """The process, in the namespace that has both interfaces, until `close`. ScanError when it does not start."""

    def __init__(self, namespace: Namespace, faults: WireFaults) -> None:
        program = f"from {__name__} import main; main()"
        line = [sys.executable, "-c", program, json.dumps([faults.whole().as_json(), faults.neighbours])]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self._process = namespace.popen(line, cwd=ROOT, **pipes)
        assert self._process.stdout
        if self._process.stdout.readline() != b"ready\n":
            message = self._process.communicate()[1].decode(errors="replace").strip().splitlines()
            raise ScanError(f"the wire with faults did not start: {message[-1] if message else 'no message'}")

    def close(self) -> None:
        """End the process; safe to call twice."""
        if self._process.poll() is None:
            self._process.communicate()


def faulty_cable(stack: ExitStack, faults: WireFaults, left: Namespace, name: str, right: Namespace, peer: str) -> None:
    """Connect two namespaces through a third one, where the process carries the frames until `stack` is closed."""
    middle = new_namespace(stack)
    middle.sysctl("net/ipv6/conf/default/disable_ipv6", 1)  # the interfaces in the middle send nothing of their own
    cable(left, name, middle, LEFT)
    cable(middle, RIGHT, right, peer)
    for namespace, interface in ((left, name), (right, peer)):
        plain_checksums(namespace, interface)
    stack.callback(Wire(middle, faults).close)


def plain_checksums(namespace: Namespace, interface: str) -> None:
    """Let the kernel compute checksums before a frame reaches the interface; nothing on this wire does it later."""
    value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(value))
    with namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCETHTOOL, request)
