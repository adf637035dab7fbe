"""A peer that answers each SYN of the scanner with frames of its choice.

It reads the SYNs at the target's interface, so it knows addresses, ports and sequence numbers. The offsets are written
here a second time and not taken from the scanner's field tables.
"""

import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from scanner.lab import Box
from tests.live.syn_wire import SYN, Segment, tcp

WORD = 0xFFFF_FFFF
Lies = Callable[["Probe"], Iterator[bytes]]


def checksum(addresses: bytes, segment: bytes) -> bytes:
    """The TCP checksum behind a pseudo header (RFC 9293 3.1); the field itself is taken as 0."""
    body = addresses + struct.pack("!II", 6, len(segment)) + segment[:16] + bytes(2) + segment[18:]
    total = sum(struct.unpack(f"!{len(body) // 2}H", body[: len(body) & ~1])) + (body[-1] << 8) * (len(body) & 1)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


class Probe:
    """One SYN of the scanner, and frames that answer it."""

    def __init__(self, frame: bytes, segment: Segment, chance: random.Random) -> None:
        self.frame, self.segment, self.random = frame, segment, chance
        self.four = frame[12:14] == b"\x08\x00"
        self.link = frame[6:12] + frame[:6] + frame[12:14]
        self.us, self.them = (frame[26:30], frame[30:34]) if self.four else (frame[22:38], frame[38:54])
        self.quote = frame[14 : (34 if self.four else 54) + 8]

    def packet(
        self, protocol: int, payload: bytes, length: int | None = None, them: bytes | None = None, fragment: int = 0,
        ttl: int = 64,
    ) -> bytes:  # fmt: skip
        """A frame from the target to the scanner; `length` is what its IP header claims the payload to be.

        The TCP checksum is right; that of IPv4 is 0, as if hardware were to fill it in.
        """
        size = len(payload) if length is None else length
        them = them or self.them
        if protocol == 6 and len(payload) >= 18:
            payload = payload[:16] + checksum(them + self.us, payload) + payload[18:]
        if self.four:
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0, fragment, ttl, protocol, 0)
        else:
            header = struct.pack("!IHBB", 6 << 28, size, protocol, ttl)
        return self.link + header + them + self.us + payload

    def tcp(self, flags: int, ack: int, seq: int = 77, sport: int = 0, dport: int = 0) -> bytes:
        """A TCP header; ports as the probe's, reversed, where they are not given."""
        ports = sport or self.segment.dport, dport or self.segment.sport
        return struct.pack("!HHIIBBHHH", *ports, seq, ack & WORD, 0x50, flags, 1000, 0, 0)

    def error(self, quote: bytes, kind: int | None = None, sender: bytes | None = None) -> bytes:
        """An ICMP port unreachable, or another type."""
        protocol, usual, code = (1, 3, 3) if self.four else (58, 1, 4)
        return self.packet(protocol, bytes([usual if kind is None else kind, code]) + bytes(6) + quote, them=sender)


class Liar(threading.Thread):
    """Answers SYNs to ports from 1000 on with lies, the first `limit` of them, until the `with` block ends.

    `hears`: the TCP flags of the segments that are answered.
    """

    def __init__(
        self, box: Box, version: int, answer: Lies, limit: int = 1 << 30, hears: tuple[int, ...] = (SYN,)
    ) -> None:
        super().__init__(daemon=True)
        self.told = 0
        self._hears = hears
        self._answer, self._limit, self._over = answer, limit, False
        self._random = random.Random(version)
        with box.target.entered():
            self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._wire.bind(("host0", 3))
        self._wire.settimeout(0.1)

    def run(self) -> None:
        while not self._over:
            try:
                frame, origin = self._wire.recvfrom(2048)
            except TimeoutError:
                continue
            segment = None if origin[2] == socket.PACKET_OUTGOING else tcp(frame)
            if segment and segment.flags in self._hears and segment.dport >= 1000 and self._limit:
                self._limit -= 1
                for lie in self._answer(Probe(frame, segment, self._random)):
                    self._wire.send(lie)
                    self.told += 1

    def __enter__(self) -> "Liar":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self.join()
        self._wire.close()
