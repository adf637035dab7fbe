"""Packets of captures as data: read from files, drawn with a seed, changed, and written again in any format.

A packet is (time in ns, link type, bytes). A change takes packets and gives packets, and its generator decides what
is left to chance.
"""

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from scanner.capture.reader import open_captures
from scanner.capture.records import SLACK
from scanner.capture.source import Capture
from scanner.packet.headers import LINK_ETHERNET, LINK_RAW, Frames
from tests.builders import ROUTER, SECOND, THEM, US, batch, segment, unreachable
from tests.capture_files import interface, option, packet, pcap_header, section

Packet = tuple[int, int, bytes]
Packets = list[Packet]
Change = Callable[[Packets, random.Random], Packets]
LINK_SLL, LINK_SLL2 = 113, 276
MS = SECOND // 1000
NANO, MICRO = 0xA1B23C4D, 0xA1B2C3D4


def packets_of(path: Path) -> Packets:
    """All packets of a capture file."""
    found = []
    for frames in open_captures([str(path)]):
        columns = (frames.start, frames.length, frames.time, frames.link)
        for start, size, time, link in zip(*(column.tolist() for column in columns), strict=True):
            found.append((time, link, frames.buffer[start : start + size].tobytes()))
    return found


def capture_of(packets: Packets, size: Callable[[], int], both_ways: bool = False, end_time: int = 0) -> Capture:
    """A capture that is read in batches of so many packets."""
    capture = Capture(opened=1, both_ways=both_ways)
    capture.end_time = end_time or capture.end_time

    def batches() -> Iterator[Packets]:
        at = 0
        while at < len(packets):
            part = packets[at : at + size()]
            at += len(part)
            yield part

    capture.batches = (capture.count(_frames(part)) for part in batches())
    return capture


def _frames(packets: Packets) -> Frames:
    """The packets in one buffer, with the room at its end that readers leave."""
    times, links, frames = zip(*packets, strict=True)
    made = batch(*frames, link=links, times=times)
    return replace(made, buffer=np.concatenate([made.buffer, np.zeros(SLACK, np.uint8)]))


# ── headers ──


def ip_at(link: int, data: bytes) -> int | None:
    """Where the IP header begins; None: it is no IP packet."""
    at = {LINK_ETHERNET: 14, LINK_RAW: 0, LINK_SLL: 16, LINK_SLL2: 20}[link]
    if link == LINK_ETHERNET:
        while data[at - 2 : at] in (b"\x81\x00", b"\x88\xa8"):
            at += 4
    if link == LINK_SLL2:
        return at if data[:2] in (b"\x08\x00", b"\x86\xdd") else None
    return at if link == LINK_RAW or data[at - 2 : at] in (b"\x08\x00", b"\x86\xdd") else None


def bytes_needed(link: int, data: bytes) -> tuple[int, bool]:
    """How many bytes of a packet are needed to judge it, and whether it is TCP. Nothing is needed of others."""
    at = ip_at(link, data)
    if at is None:
        return 0, False
    if data[at] >> 4 == 4:
        at, protocol = at + (data[at] & 15) * 4, data[at + 9]
    else:
        at, protocol = at + 40, data[at + 6]
    if protocol == 17 and data[at + 2 : at + 4] == (4789).to_bytes(2, "big"):
        inside, tcp = bytes_needed(LINK_ETHERNET, data[at + 16 :])
        return (at + 16 + inside, tcp) if inside else (0, False)
    return (at + 14, True) if protocol == 6 else (0, False)


# ── changes ──


def shuffled(packets: Packets, draw: random.Random) -> Packets:
    """In any order; times travel with the packets."""
    return draw.sample(packets, len(packets))


def turned(packets: Packets, draw: random.Random) -> Packets:
    """Backwards."""
    return packets[::-1]


def twice_seen(packets: Packets, draw: random.Random) -> Packets:
    """Two taps: the other one sees each packet a little later, and has another link header."""
    late = draw.randrange(1, 200_000)
    return sorted([*packets, *((time + late, *_other_link(link, data)) for time, link, data in packets)], key=_time)


def _other_link(link: int, data: bytes) -> tuple[int, bytes]:
    at = ip_at(link, data)
    if at is None:
        return link, data
    if link != LINK_RAW:
        return LINK_RAW, data[at:]
    return LINK_ETHERNET, bytes(12) + (b"\x08\x00" if data[0] >> 4 == 4 else b"\x86\xdd") + data


def repeated(packets: Packets, draw: random.Random) -> Packets:
    """Some packets stand in the capture several times."""
    copies = [(time + draw.randrange(MS), link, data) for time, link, data in packets
              for _ in range(draw.choice((0, 0, 1, 2)))]  # fmt: skip
    return sorted([*packets, *copies], key=_time)


def cut_to(snap: int) -> Change:
    """So many bytes of each packet."""
    return lambda packets, draw: [(time, link, data[:snap]) for time, link, data in packets]


def readable_in(snap: int) -> Change:
    """Without the TCP segments of which so many bytes are too few. Other packets are cut."""

    def kept(packets: Packets, draw: random.Random) -> Packets:
        needs = [bytes_needed(link, data) for _, link, data in packets]
        return [
            (time, link, data if tcp else data[:snap])
            for (time, link, data), (need, tcp) in zip(packets, needs, strict=True)
            if need <= snap
        ]

    return kept


def _time(packet: Packet) -> int:
    return packet[0]


# ── files ──


def parted(packets: Packets, draw: random.Random) -> list[Packets]:
    """The same capture as several files: at random, one behind the other, or each way in a file."""
    files = draw.randrange(2, 6)
    way = draw.choice(("random", "pieces", "directions"))
    if way == "pieces":
        cuts = sorted(draw.randrange(len(packets) + 1) for _ in range(files - 1))
        return [packets[a:b] for a, b in zip([0, *cuts], [*cuts, len(packets)], strict=True)]
    number = [
        draw.randrange(files) if way == "random" else sum(_addresses(link, data)[:1]) % 2 for _, link, data in packets
    ]
    return [[each for each, file in zip(packets, number, strict=True) if file == n] for n in range(files)]


def _addresses(link: int, data: bytes) -> bytes:
    """The last byte of the sender's address."""
    at = ip_at(link, data)
    if at is None:
        return b"\0"
    return data[at + 15 : at + 16] if data[at] >> 4 == 4 else data[at + 23 : at + 24]


def as_pcap(packets: Packets, order: str = "<", magic: int = NANO) -> bytes:
    """A pcap file of packets that have one link type."""
    links = {link for _, link, _ in packets} or {LINK_RAW}
    assert len(links) == 1, "a pcap file has one link type"
    records = [pcap_header(order, magic, links.pop())]
    for time, _, data in packets:
        fraction = time % SECOND if magic == NANO else time % SECOND // 1000
        records.append(struct.pack(order + "IIII", time // SECOND, fraction, len(data), len(data)) + data)
    return b"".join(records)


def as_pcapng(packets: Packets, order: str = "<") -> bytes:
    """A pcapng file in nanoseconds, with an interface for each link type."""
    links = sorted({link for _, link, _ in packets})
    head = section(order) + b"".join(interface(order, link, 0, option(order, 9, b"\x09")) for link in links)
    return head + b"".join(packet(order, links.index(link), time, data) for time, link, data in packets)


# ── packets that are drawn ──

_KINDS = (
    "syn", "syn", "syn-ack", "syn-ack", "wrong syn-ack", "reset", "odd reset", "wrong reset", "ending", "icmp", "icmp",
    "wrong icmp", "cut icmp", "our ack", "our reset", "our data", "our fin", "data", "fin", "ack", "wrong ack",
)  # fmt: skip


def scene(draw: random.Random) -> Packets:
    """Conversations of two probers with two hosts, each of what can be seen on a wire, in the order of time.

    Hosts probe, too, ports are used again, and packets have equal times. No two conversations have one sequence number,
    and all resets of one conversation are answers or ends of it.
    """
    version = draw.choice((4, 6))
    found: Packets = []
    used: set[frozenset[tuple[str, int]]] = set()
    for _ in range(draw.randrange(1, 7)):
        near = US[version][:-1] + draw.choice("12")
        far = THEM[version][:-1] + draw.choice("78")
        near, far = (far, near) if draw.random() < 0.15 else (near, far)
        our_port, port = draw.choice((40000, 40001)), draw.choice((443, 80, 22))
        ends = frozenset(((near, our_port), (far, port)))
        kinds = draw.choices(_KINDS, k=draw.randrange(1, 10))
        if ends in used:  # whose number is acknowledged is known only where it was sent
            kinds = [kind for kind in kinds if kind not in ("data", "ack", "wrong ack")]
        used.add(ends)
        found += _Conversation(draw, version, (near, our_port), (far, port)).packets(kinds)
    return sorted(found, key=_time)


class _Conversation:
    def __init__(self, draw: random.Random, version: int, near: tuple[str, int], far: tuple[str, int]) -> None:
        self.draw, self.version = draw, version
        self.far, self.near = far[0], near[0]
        self.ours = {"src": near[0], "sport": near[1], "dst": far[0], "dport": far[1]}
        self.theirs = {"src": far[0], "sport": far[1], "dst": near[0], "dport": near[1]}
        self.number = draw.choice((draw.randrange(1 << 32), (1 << 32) - 2))
        self.answer = draw.choice((draw.randrange(1 << 32), (1 << 32) - 1))
        size = draw.choice((0, 0, 0, 0, 3))  # data in the SYN
        self.taken = 1 + draw.choice((0, size))  # numbers of it that the host acknowledges
        self.syn = self.segment("S", self.ours, 0, None, tos=draw.choice((0, 4)), payload=b"x" * size)

    def packets(self, kinds: Sequence[str]) -> Packets:
        if "ending" in kinds:
            kinds = [kind for kind in kinds if "reset" not in kind]
            kinds = [kind for at, kind in enumerate(kinds) if kind != "ending" or "ending" not in kinds[:at]]
        time, found = SECOND * self.draw.randrange(1, 13) + self.draw.choice((0, 1, 5 * MS)), []
        for kind in [*["syn"] * (self.draw.random() < 0.85), *kinds]:
            time += self.draw.choice((0, 1, MS, 2 * MS, 2 * MS, SECOND))
            found.append((time, LINK_RAW, self.packet(kind)))
        return found

    def packet(self, kind: str) -> bytes:
        draw, taken = self.draw, self.taken
        ttl = {"ttl": draw.choice((57, 57, 58, 60))}
        match kind:
            case "syn":
                return self.syn
            case "syn-ack":
                return self.segment("SA", self.theirs, 0, taken, window=draw.choice((64240, 0)), **ttl)
            case "wrong syn-ack":
                return self.segment("SA", self.theirs, 0, 99, **ttl)
            case "reset":
                return self.segment("RA", self.theirs, None, taken, tos=draw.choice((0, 4)), window=0, **ttl)
            case "odd reset":
                return self.segment("RA", self.theirs, None, 0, **ttl)
            case "wrong reset":
                return self.segment("RA", self.theirs, None, 50, **ttl)
            case "ending":
                return self.segment(draw.choice(("R", "RA")), self.theirs, draw.choice((0, 1, 1, 50)), taken, **ttl)
            case "icmp":
                return self.error(self.syn, 8)
            case "wrong icmp":
                return self.error(self.segment("S", self.ours, 7, None), 8)
            case "cut icmp":
                return self.error(self.syn, draw.choice((0, 4)))
            case "our ack":
                return self.segment("A", self.ours, 1, 1)
            case "our reset":
                return self.segment("R", self.ours, 1, None)
            case "our data" | "our fin":
                return self.segment("PA" if kind == "our data" else "FA", self.ours, 1, 1, payload=b"y" * 20)
            case "data" | "fin":
                payload = b"y" * 9 if kind == "data" else b""
                return self.segment("PA" if kind == "data" else "FA", self.theirs, 1, 1, payload=payload, **ttl)
            case "ack" | "wrong ack":
                return self.segment("A", self.theirs, 1, 1 if kind == "ack" else 5000, **ttl)
        raise AssertionError(kind)

    def segment(self, flags: str, way: dict[str, object], seq: int | None, ack: int | None, **more: object) -> bytes:
        """`seq` and `ack` count from the first number of their side; None is 0 on the wire."""
        own, other = (self.number, self.answer) if way is self.ours else (self.answer, self.number)
        return segment(
            flags, self.version, seq=0 if seq is None else (own + seq) % (1 << 32),
            ack=0 if ack is None else (other + ack) % (1 << 32), **way, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    def error(self, probe: bytes, quoted: int) -> bytes:
        return unreachable(
            self.version, quoting=probe, code=self.draw.choice((0, 1, 3, 4)), dst=self.near, quoted_tcp=quoted,
            sender=self.draw.choice((self.far, ROUTER[self.version])),
        )  # fmt: skip
