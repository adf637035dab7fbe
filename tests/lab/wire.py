"""A cable with faults: it carries frames between two interfaces, and loses, doubles and delays some of them.

A test of a bad path must know the path, and not every kernel has a queueing discipline for one (netem). So a process
in a namespace between scanner and target passes frames from one packet ring to the other, in batches. It carries
a few hundred thousand frames a second. A keyed hash of the seed, the direction and the frame's number in that
direction decides what happens to the frame. So the same scan meets the same faults, however the frames fall into
batches.

ARP and neighbour discovery are neither harmed nor counted unless `neighbours` is set. Resets can be limited
per host, as BSD systems do, and a host can stop answering after a number of packets.
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
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scanner.errors import ScanError
from scanner.lab import Namespace
from scanner.lab.box import cable, new_namespace
from scanner.packet.headers import ETHERTYPE_ARP, ETHERTYPE_IPV4, LINK_ETHERNET, RST, Bools, Bytes, Frames, Ints
from scanner.transport.bpf import ACCEPT
from scanner.transport.ring import SLOT, TX_DATA, Receiver, Sender

LEFT, RIGHT = "wire0", "wire1"  # towards the scanner, towards the target
WIDEST = SLOT - TX_DATA
_MILLISECOND, _SECOND = 1_000_000, 1_000_000_000
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17  # include/uapi/linux/{sockios,ethtool}.h
_LOSE, _REPEAT, _JITTER = 1, 2, 3  # what a draw is for
ROOT = __file__.rsplit("/", 3)[0]  # the process imports this module from here
Draws = npt.NDArray[np.float64]


class OneWay(NamedTuple):
    """One direction: shares of frames that are lost and sent twice; seconds of delay, and of random delay on top."""

    lose: float = 0.0
    repeat: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0


CLEAN = OneWay()


@dataclass(frozen=True)
class WireFaults:
    """What the wire does to frames. `resets` and `silent_after` count what each address behind the wire sends back."""

    out: OneWay = CLEAN  # towards the target
    back: OneWay = CLEAN
    resets: int = 0  # TCP resets a second that one address may send; 0: any number
    silent_after: int = 0  # IP packets after which one address says nothing more; 0: never
    neighbours: bool = False  # whether ARP and neighbour discovery suffer, too
    seed: int = 1


def both(way: OneWay) -> WireFaults:
    """The same faults in either direction."""
    return WireFaults(out=way, back=way)


def draws(seed: int, direction: int, purpose: int, first: int, count: int) -> Draws:
    """A number in [0, 1) for each of the frames first … first+count-1 of a direction (SplitMix64's finaliser)."""
    start = (seed * 0x9E3779B97F4A7C15 + (direction << 8 | purpose) * 0xD1B54A32D192ED03) % 2**64
    x = np.arange(first, first + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return (x >> np.uint64(11)).astype(np.float64) / 2**53


def fates(way: OneWay, seed: int, direction: int, first: int, count: int) -> tuple[Ints, Ints]:
    """How many copies arrive of each frame, and after how many nanoseconds."""
    lost = draws(seed, direction, _LOSE, first, count) < way.lose
    copies = 1 + (draws(seed, direction, _REPEAT, first, count) < way.repeat)
    jitter = draws(seed, direction, _JITTER, first, count) * way.jitter if way.jitter else 0.0
    return np.where(lost, 0, copies), ((way.delay + np.full(count, jitter)) * _SECOND).astype(np.int64)


# ── the process in the middle ──


class _Packets(NamedTuple):
    """Frames copied out: uint8[n, width], and how long each is."""

    rows: Bytes
    length: Ints

    def take(self, rows: Ints | Bools) -> "_Packets":
        return _Packets(self.rows[rows], self.length[rows])


class Quotas:
    """How many packets each address may still send: in all, or resets in this second (as BSD's icmplim counts them)."""

    def __init__(self, resets: int, silent_after: int) -> None:
        self._resets, self._silent_after = resets, silent_after
        self._sent: dict[bytes, int] = {}
        self._reset: dict[tuple[bytes, int], int] = {}

    def allowed(self, packets: _Packets, now: int) -> Bools:
        """Which of these packets (Ethernet, IPv4 or IPv6) pass at `now`, ns."""
        good = np.ones(len(packets.rows), np.bool_)
        if not (self._resets or self._silent_after) or not len(good):
            return good
        four = _ethertype(packets.rows) == ETHERTYPE_IPV4
        source = np.where(four[:, None], np.pad(packets.rows[:, 26:30], ((0, 0), (0, 12))), packets.rows[:, 22:38])
        names = np.ascontiguousarray(source).view("V16").ravel()
        flags = np.where(four, packets.rows[:, 47], packets.rows[:, 67])
        reset = (np.where(four, packets.rows[:, 23], packets.rows[:, 20]) == 6) & (flags & RST > 0)
        for name in {each.tobytes() for each in names}:
            mine = names == np.void(name)
            if self._resets:
                key = (name, now // _SECOND)
                good &= ~_beyond(mine & reset, self._resets - self._reset.get(key, 0))
                self._reset[key] = self._reset.get(key, 0) + int(np.count_nonzero(mine & reset))
            if self._silent_after:
                good &= ~_beyond(mine, self._silent_after - self._sent.get(name, 0))
                self._sent[name] = self._sent.get(name, 0) + int(np.count_nonzero(mine))
        return good


def _beyond(rows: Bools, room: int) -> Bools:
    """The rows of a mask but its first `room`."""
    over: Bools = rows & (np.cumsum(rows) > room)
    return over


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

    def __init__(self, source: str, sink: str, number: int, faults: WireFaults) -> None:
        self._receiver = Receiver(source, LINK_ETHERNET, [(0x06, 0, 0, ACCEPT)])
        self._sender = Sender(sink, slot=SLOT)
        self.fileno = self._receiver.fileno
        self._way, self._faults, self._number = faults.back if number else faults.out, faults, number
        self._quotas = Quotas(faults.resets, faults.silent_after) if number else Quotas(0, 0)
        self._count = self._order = 0
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
        spared = np.zeros(len(packets.rows), np.bool_) if self._faults.neighbours else _is_neighbour(packets.rows)
        if spared.any():
            self._ready.append(packets.take(spared))
            packets = packets.take(~spared)
        packets = packets.take(self._quotas.allowed(packets, now))
        copies, delay = fates(self._way, self._faults.seed, self._number, self._count, len(packets.rows))
        self._count += len(copies)
        if (copies != 1).any():
            packets, delay = packets.take(np.repeat(np.arange(len(copies)), copies)), np.repeat(delay, copies)
        if not delay.any():
            self._ready.append(packets)
            return
        due = -(-(now + delay) // _MILLISECOND)
        for moment in np.unique(due).tolist():
            self._order += 1
            heapq.heappush(self._late, (moment, self._order, packets.take(due == moment)))

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


def forward(faults: WireFaults, leash: int) -> None:
    """Carry frames both ways until `leash`, a descriptor, can be read or is closed at the other end."""
    ways = [_Direction(LEFT, RIGHT, 0, faults), _Direction(RIGHT, LEFT, 1, faults)]
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
    """The process: its faults are its argument."""
    given = json.loads(sys.argv[1])
    given["out"], given["back"] = OneWay(*given["out"]), OneWay(*given["back"])
    forward(WireFaults(**given), sys.stdin.fileno())


# ── the network's side ──


class Wire:
    """The process, in the namespace that has both interfaces, until `close`. ScanError when it does not start."""

    def __init__(self, namespace: Namespace, faults: WireFaults) -> None:
        program = f"from {__name__} import main; main()"
        line = [sys.executable, "-c", program, json.dumps(asdict(faults))]
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
