"""IP packets as columns, for the paths of the test networks (`tests/passage.py`).

Limit: of an ICMP error the sender counts as the host, and it has no ports.
"""

from dataclasses import dataclass, fields

import numpy as np

from scanner.packet.headers import MAPPED, U8, U64, Bools, Bytes, Ints
from tests.paths import OUT, mix

UNCHANGED = -1


@dataclass
class Packets:
    """IP packets of one direction; columns of equal length."""

    row: Ints  # in the batch of the caller
    time: Ints  # ns
    hi: U64  # the far host, as ADDRESS words
    lo: U64
    port: Ints  # of the far host; 0 where it is not TCP
    our_port: Ints
    flags: U8  # of TCP
    tos: U8
    hops: Ints  # more routers than without the path
    fragment: Ints  # a new IP ID << 16 | flags and offset, or UNCHANGED
    number: U64  # in the direction, with a bit of its own for copies
    lost: Bools

    def take(self, rows: Ints | Bools) -> "Packets":
        """The given rows (indices or mask) of every column."""
        return Packets(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})

    @property
    def host(self) -> U64:
        """A number for each far host."""
        return mix(self.hi ^ mix(self.lo))

    def flow(self, salt: int = 0) -> U64:
        """A number for each flow: the far host and both ports."""
        ports = (self.port << 16 | self.our_port).astype(np.uint64)
        return mix(self.host + ports * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt % 2**64))


def packets_of(rows: Bytes, at: int, direction: int, time: int | Ints) -> Packets:
    """The columns of frames uint8[n, width] whose IP headers begin at byte `at`; `time` in ns."""
    n = len(rows)
    four = rows[:, at] >> 4 == 4
    if n and four.all():
        columns = _columns(rows, at, 4, direction)
    elif not four.any():
        columns = _columns(rows, at, 6, direction)
    else:
        pairs = zip(_columns(rows, at, 4, direction), _columns(rows, at, 6, direction), strict=True)
        columns = [np.where(four, one, other) for one, other in pairs]
    hi, lo, port, our_port, flags, tos = columns
    unset = np.zeros(n, np.int64)
    times = np.full(n, time, np.int64)
    return Packets(
        np.arange(n), times, hi, lo, port.astype(np.int64), our_port.astype(np.int64), flags, tos.copy(), unset,
        unset + UNCHANGED, np.zeros(n, np.uint64), np.zeros(n, np.bool_),
    )  # fmt: skip


def _columns(rows: Bytes, at: int, version: int, direction: int) -> list[np.ndarray]:
    """The far host (two words), its port, our port, TCP flags, TOS byte."""
    tcp = at + (20 if version == 4 else 40)
    n = len(rows)
    if rows.shape[1] < tcp + 20:
        rows = np.pad(rows, ((0, 0), (0, tcp + 20 - rows.shape[1])))
    if version == 4:
        far = at + (16 if direction == OUT else 12)
        hi, lo = np.zeros(n, np.uint64), _number(rows, far, 4) | np.uint64(MAPPED)
        tos, protocol = rows[:, at + 1], rows[:, at + 9]
    else:
        far = at + (24 if direction == OUT else 8)
        hi, lo = _number(rows, far, 8), _number(rows, far + 8, 8)
        tos, protocol = rows[:, at] << 4 | rows[:, at + 1] >> 4, rows[:, at + 6]
    sport, dport, flags = _number(rows, tcp, 2), _number(rows, tcp + 2, 2), rows[:, tcp + 13]
    if (protocol != 6).any():
        sport, dport, flags = (np.where(protocol == 6, each, 0) for each in (sport, dport, flags))
    port, our_port = (dport, sport) if direction == OUT else (sport, dport)
    return [hi, lo, port, our_port, flags.astype(np.uint8), tos]


def _number(rows: Bytes, at: int, size: int) -> U64:
    return np.ascontiguousarray(rows[:, at : at + size]).view(f">u{size}")[:, 0].astype(np.uint64)


def write_tos(rows: Bytes, at: int, tos: U8) -> None:
    """Give frames uint8[n, width] these TOS bytes (traffic classes), without the checksum."""
    four = rows[:, at] >> 4 == 4
    rows[:, at + 1] = np.where(four, tos, tos << 4 | rows[:, at + 1] & 15)
    rows[:, at] = np.where(four, rows[:, at], 0x60 | tos >> 4)


def rewrite(rows: Bytes, at: int, packets: Packets) -> Bools:
    """Write what a path changed into frames uint8[n, width]: TOS, TTL, and IP ID with DF. Returns which changed."""
    four = rows[:, at] >> 4 == 4
    tos = np.where(four, rows[:, at + 1], rows[:, at] << 4 | rows[:, at + 1] >> 4)
    fresh = (packets.fragment != UNCHANGED) & four
    changed = (packets.hops != 0) | (tos != packets.tos) | fresh
    if changed.any():
        write_tos(rows, at, packets.tos)
        ttl = at + np.where(four, 8, 7)
        index = np.arange(len(rows))
        rows[index, ttl] = np.clip(rows[index, ttl] - packets.hops, 1, 255)
        new = packets.fragment[fresh, None] >> np.array([24, 16, 8, 0]) & 0xFF
        rows[fresh, at + 4 : at + 8] = new
    return np.asarray(changed)


def write_checksums(rows: Bytes, at: int, which: Bools) -> None:
    """Give these of the frames the right checksum of their IPv4 header, if they have one (RFC 1071)."""
    which = which & (rows[:, at] == 0x45)
    rows[which, at + 10 : at + 12] = 0
    header = rows[which, at : at + 20].astype(np.int64)
    total = (header[:, 0::2] << 8 | header[:, 1::2]).sum(axis=1)
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    rows[which, at + 10], rows[which, at + 11] = ~total >> 8 & 0xFF, ~total & 0xFF
