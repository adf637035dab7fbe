"""A network inside the process: hosts that answer, and a wire that loses, repeats and delays.

Whole scans run against it without privileges and without waiting: the clock is a value that the caller moves on, and
every fault is drawn from one seeded generator. What a host does with a port is data (`Host`). Replies are built with
the scanner's own field tables, frame by frame: this is a fake for correctness, not for speed.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from scanner.packet.headers import ACK, ICMP, IPV4, IPV6, LINK_RAW, RST, SYN, TCP, Bytes, Frames
from scanner.transport import Drops

_SLOT = 256
Action = str | tuple[int, int]  # "open", "closed", "drop", "reject-reset", "syn-proxy", or an ICMP (type, code)


@dataclass
class Host:
    """What a host does: `ports` by number, `other` for the rest."""

    ports: dict[int, Action] = field(default_factory=dict)
    other: Action = "closed"
    ttl: int = 64


@dataclass
class Faults:
    """The wire: shares of frames lost each way, and of replies repeated; delay range in seconds."""

    lose_probes: float = 0.0
    lose_replies: float = 0.0
    repeat: float = 0.0
    delay: tuple[float, float] = (0.001, 0.002)


class MemoryTransport:
    """Frames begin with the IP header. `host_of` gives the host for an address in wire bytes, or None."""

    link = LINK_RAW

    def __init__(
        self, host_of: Callable[[bytes], Host | None], clock: Callable[[], int], faults: Faults, seed: int
    ) -> None:
        self.probes_seen: list[bytes] = []
        self.resets_seen: list[bytes] = []
        self._host_of, self._clock, self._faults = host_of, clock, faults
        self._random = np.random.default_rng(seed)
        self._rows: Bytes = np.zeros((512, _SLOT), np.uint8)
        self._sent = 0
        self._order = 0
        self._arriving: list[tuple[int, int, bytes]] = []

    def reserve(self, limit: int) -> Bytes:
        return self._rows[:limit]

    def commit(self, rows: int, length: int) -> None:
        for row in self._rows[:rows, :length]:
            self._carry(row.tobytes())
        self._sent += rows

    def sent(self) -> int:
        return self._sent

    def recv(self) -> Frames:
        now = self._clock()
        due: list[tuple[int, bytes]] = []
        while self._arriving and self._arriving[0][0] <= now and len(due) < 4096:
            when, _, frame = heapq.heappop(self._arriving)
            due.append((when, frame))
        length = np.array([len(frame) for _, frame in due], np.int64)
        buffer = np.frombuffer(b"".join(frame for _, frame in due), np.uint8)
        start = np.concatenate([[0], np.cumsum(length)[:-1]]).astype(np.int64) if due else length
        time = np.array([when for when, _ in due], np.int64)
        return Frames(buffer, start, length, time, np.full(len(due), LINK_RAW, np.uint16))

    def deliver(self, frame: bytes, when: int) -> None:
        """Let a frame arrive at this time, ns; the wire does nothing to it."""
        self._order += 1
        heapq.heappush(self._arriving, (when, self._order, frame))

    def next_arrival(self) -> int | None:
        """When the next reply is due, ns; None if there is none under way."""
        return self._arriving[0][0] if self._arriving else None

    def fileno(self) -> int:
        return -1

    def drops(self) -> Drops:
        return Drops()

    def close(self) -> None:
        pass

    def _carry(self, frame: bytes) -> None:
        tcp = np.frombuffer(frame, TCP, count=1, offset=20 if frame[0] >> 4 == 4 else 40)[0]
        (self.resets_seen if tcp["flags"] & RST else self.probes_seen).append(frame)
        if tcp["flags"] & RST or self._random.random() < self._faults.lose_probes:
            return
        host = self._host_of(frame[16:20] if frame[0] >> 4 == 4 else frame[24:40])
        action = host.ports.get(int(tcp["dport"]), host.other) if host else "drop"
        if host is None or action == "drop":
            return
        reply = answer(frame, action, host.ttl)
        copies = 2 if self._random.random() < self._faults.repeat else 1
        for _ in range(copies):
            if self._random.random() >= self._faults.lose_replies:
                delay = self._random.uniform(*self._faults.delay)
                self.deliver(reply, self._clock() + int(delay * 1e9))


def answer(probe: bytes, action: Action, ttl: int) -> bytes:
    """The IP packet that answers a probe (an IP packet with TCP)."""
    four = probe[0] >> 4 == 4
    tcp = np.frombuffer(probe, TCP, count=1, offset=20 if four else 40)[0]
    if isinstance(action, tuple):
        body = np.zeros(1, ICMP)
        body["type"], body["code"] = action
        return _packet(probe, body.tobytes() + probe[: 28 if four else 48], 1 if four else 58, ttl, 0)
    reply = np.zeros(1, TCP)
    reply["sport"], reply["dport"], reply["ack"], reply["offset"] = (
        tcp["dport"],
        tcp["sport"],
        tcp["seq"] + np.uint32(1),
        0x50,
    )
    reply["flags"] = SYN | ACK if action in ("open", "syn-proxy") else RST | ACK
    reply["window"] = 64240 if action == "open" else 0
    tos = probe[1] if four else (probe[0] << 4 | probe[1] >> 4) & 0xFF
    return _packet(probe, reply.tobytes(), 6, ttl, tos if action == "closed" else 0)


def _packet(probe: bytes, payload: bytes, protocol: int, ttl: int, tos: int) -> bytes:
    if probe[0] >> 4 == 4:
        ip = np.zeros(1, IPV4)
        ip["version_ihl"], ip["tos"], ip["total_length"], ip["ttl"], ip["protocol"] = (
            0x45,
            tos,
            20 + len(payload),
            ttl,
            protocol,
        )
        header = bytearray(ip.tobytes())
        header[12:16], header[16:20] = probe[16:20], probe[12:16]
    else:
        ip6 = np.zeros(1, IPV6)
        ip6["version_class_flow"], ip6["payload_length"] = 6 << 28 | tos << 20, len(payload)
        ip6["next_header"], ip6["hop_limit"] = protocol, ttl
        header = bytearray(ip6.tobytes())
        header[8:24], header[24:40] = probe[24:40], probe[8:24]
    return bytes(header) + payload
