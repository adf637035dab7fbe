"""Large captures of many kinds, made by numpy, for the measurements of `classify`.

Frames have 54 bytes: Ethernet, IPv4 and TCP without options.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

ACK, RST, SYN = 16, 4, 2
FRAME = np.dtype(
    [
        ("second", "<u4"), ("fraction", "<u4"), ("captured", "<u4"), ("length", "<u4"),
        ("macs", "u1", 12), ("ethertype", ">u2"),
        ("version", "u1"), ("tos", "u1"), ("total", ">u2"), ("id", ">u2"), ("fragment", ">u2"), ("ttl", "u1"),
        ("protocol", "u1"), ("sum", ">u2"), ("src", ">u4"), ("dst", ">u4"),
        ("sport", ">u2"), ("dport", ">u2"), ("seq", ">u4"), ("ack", ">u4"), ("offset", "u1"), ("flags", "u1"),
        ("window", ">u2"), ("tcp_sum", ">u2"), ("urgent", ">u2"),
    ]
)  # fmt: skip
HEAD = np.array([0xA1B2C3D4, 0x00040002, 0, 0, 65535, 1], "<u4")
_BEGIN = 1_700_000_000 * 10**6
US, FIRST = 0xC6120001, 0x0A000000
Ints = npt.NDArray[np.int64]


def frames(time: Ints, src: object, dst: object, sport: object, dport: object, seq: object, ack: object = 0,
           flags: int = SYN) -> npt.NDArray[np.void]:  # fmt: skip
    """FRAME[n]; `time` in microseconds since the begin."""
    rows = np.zeros(len(time), FRAME)
    rows["second"], rows["fraction"] = (_BEGIN + time) // 10**6, (_BEGIN + time) % 10**6
    rows["captured"] = rows["length"] = 54
    rows["ethertype"], rows["version"], rows["total"], rows["fragment"] = 0x800, 0x45, 40, 0x4000
    rows["ttl"], rows["protocol"], rows["offset"], rows["flags"], rows["window"] = 64, 6, 0x50, flags, 64240
    rows["src"], rows["dst"], rows["sport"], rows["dport"], rows["seq"], rows["ack"] = src, dst, sport, dport, seq, ack
    raw = rows.view(np.uint8).reshape(len(rows), -1)[:, 16:]
    words = raw.view(">u2").astype(np.uint32) if raw.flags.c_contiguous else raw.copy().view(">u2").astype(np.uint32)
    addresses = words[:, 13:17].sum(axis=1)
    rows["sum"] = ~_folded(words[:, 7:12].sum(axis=1) + addresses)
    rows["tcp_sum"] = ~_folded(words[:, 17:27].sum(axis=1) + addresses + 6 + 20)
    return rows


def _folded(total: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
    """A sum in ones' complement (RFC 1071)."""
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    return total.astype(np.uint16)


def answers(probes: npt.NDArray[np.void], after: int, flags: int = SYN | ACK) -> npt.NDArray[np.void]:
    """A reply to each probe, so many microseconds later."""
    time = probes["second"].astype(np.int64) * 10**6 + probes["fraction"] - _BEGIN + after
    seq = 0 if flags & RST else probes["seq"] ^ 0x5555
    ack = probes["seq"].astype(np.uint32) + np.uint32(1)
    return frames(time, probes["dst"], probes["src"], probes["dport"], probes["sport"], seq, ack, flags)


def in_time(*parts: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """All of them in the order of time."""
    rows = np.concatenate(parts, dtype=FRAME)  # without the type numpy would swap the bytes
    return rows[np.lexsort((rows["fraction"], rows["second"]))]


def write(path: Path, *parts: npt.NDArray[np.void]) -> None:
    """A pcap file."""
    with path.open("wb") as file:
        HEAD.tofile(file)
        for part in parts:
            part.tofile(file)


def _twice(targets: int) -> npt.NDArray[np.void]:
    """Two SYNs to each target, from two ports, the second ones behind all first ones."""
    at = np.arange(2 * targets)
    return frames(at * 50, US, FIRST + at % targets, 40000 + at // targets, 443, (at * 2654435761) % 2**32)


def appended(n: int) -> list[npt.NDArray[np.void]]:
    """All that was sent, and then all that was received."""
    probes = _twice(n)
    return [probes, answers(probes, 20_000)]


def late(n: int) -> list[npt.NDArray[np.void]]:
    """Answers after 7 s, in the order of time."""
    return [in_time(*[probes := _twice(n), answers(probes, 7_000_000)])]


def shuffled(n: int) -> list[npt.NDArray[np.void]]:
    """The same in any order."""
    (rows,) = late(n)
    return [rows[np.random.default_rng(1).permutation(len(rows))]]


def zmap(n: int) -> list[npt.NDArray[np.void]]:
    """One port of n hosts: one in ten is open, one in ten closed."""
    at = np.arange(n)
    host = np.random.default_rng(2).permutation(n)
    probes = frames(at * 20, US, FIRST + host, 40000 + host % 1000, 443, (host * 2654435761) % 2**32)
    return [in_time(probes, answers(probes[::10], 20_000), answers(probes[5::10], 20_000, RST | ACK))]


def flood(n: int) -> list[npt.NDArray[np.void]]:
    """SYNs from addresses that nobody has, to one port."""
    random = np.random.default_rng(3)
    parts = []
    for first in range(0, n, 1_000_000):
        at = np.arange(first, min(n, first + 1_000_000))
        src, port, seq = (random.integers(1, 2**bits, len(at)) for bits in (32, 16, 32))
        parts.append(frames(at, src, US, port, 443, seq))
    return parts


def grid(n: int) -> list[npt.NDArray[np.void]]:
    """Hundred ports of n / 100 hosts, all closed."""
    at = np.random.default_rng(4).permutation(n)
    probes = frames(np.arange(n) * 2, US, FIRST + at // 100, 40000, at % 100 + 1, (at * 2654435761) % 2**32)
    return [in_time(probes, answers(probes, 20_000, RST | ACK))]


def scan(n: int) -> list[npt.NDArray[np.void]]:
    """All kinds of answers: 1,000 ports of n / 1,000 hosts, one in a hundred open."""
    at = np.random.default_rng(5).permutation(n)
    probes = frames(np.arange(n) * 2, US, FIRST + at // 1000, 40000, at % 1000 + 1, (at * 2654435761) % 2**32)
    opened = at % 100 == 0
    return [in_time(probes, answers(probes[opened], 20_000), answers(probes[~opened], 20_000, RST | ACK))]


def silent(n: int) -> list[npt.NDArray[np.void]]:
    """Nobody answers."""
    parts = []
    for first in range(0, n, 1_000_000):
        at = np.arange(first, min(n, first + 1_000_000))
        parts.append(frames(at, US, FIRST + at, 40000, 443, (at * 2654435761) % 2**32))
    return parts


def half(n: int) -> list[npt.NDArray[np.void]]:
    """Many packets of which half are probes of distinct targets: hundred ports a host, and an answer to each."""
    parts = []
    for first in range(0, n, 500_000):
        at = np.arange(first, min(n, first + 500_000))
        probes = frames(at * 2, US, FIRST + at // 100, 40000, at % 100 + 1, (at * 2654435761) % 2**32)
        parts.append(in_time(probes, answers(probes, 20_000, RST | ACK)))
    return parts


class Scene(NamedTuple):
    """A kind of capture: how it is made for a number of targets, and how many it has in full size."""

    make: Callable[[int], list[npt.NDArray[np.void]]]
    targets: int


SCENES: dict[str, Scene] = {
    "appended": Scene(appended, 300_000),
    "late": Scene(late, 300_000),
    "shuffled": Scene(shuffled, 300_000),
    "zmap": Scene(zmap, 1_000_000),
    "flood": Scene(flood, 3_000_000),
    "grid": Scene(grid, 500_000),
    "scan": Scene(scan, 500_000),
    "silent": Scene(silent, 10_000_000),
    "half": Scene(half, 6_500_000),
}
