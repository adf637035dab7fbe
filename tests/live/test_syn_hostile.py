"""A hostile peer: forged, truncated and senseless frames for every probe change no verdict.

The peer reads each SYN at the target's interface and answers at once with one frame of every kind below, each wrong in
exactly one way. It knows the addresses, the ports and the sequence number, so a scanner that omits one check
believes it. A peer that answers correctly is no attack: that is an answer.
"""

import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from scanner.lab import Box, PortKind
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.syn_wire import RST, SYN, SYN_ACK, Segment, Tap, scan, tcp

pytestmark = LIVE

VERSIONS = pytest.mark.parametrize("version", [4, 6])
WORD, ACK = 0xFFFF_FFFF, 0x10
Lies = Callable[["Probe"], Iterator[bytes]]


class Probe:
    """One SYN of the scanner, and frames that answer it."""

    def __init__(self, frame: bytes, segment: Segment, chance: random.Random) -> None:
        self.frame, self.segment, self.random = frame, segment, chance
        self.four = frame[12:14] == b"\x08\x00"
        self.link = frame[6:12] + frame[:6] + frame[12:14]
        self.us, self.them = (frame[26:30], frame[30:34]) if self.four else (frame[22:38], frame[38:54])
        self.quote = frame[14 : (34 if self.four else 54) + 8]

    def packet(
        self, protocol: int, payload: bytes, length: int | None = None, them: bytes | None = None, fragment: int = 0
    ) -> bytes:
        """A frame from the target to the scanner; `length` is what its IP header claims the payload to be."""
        size = len(payload) if length is None else length
        if self.four:
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0, fragment, 64, protocol, 0)
        else:
            header = struct.pack("!IHBB", 6 << 28, size, protocol, 64)
        return self.link + header + (them or self.them) + self.us + payload

    def tcp(self, flags: int, ack: int, seq: int = 77, sport: int = 0, dport: int = 0) -> bytes:
        """A TCP header; ports as the probe's, reversed, where they are not given."""
        ports = sport or self.segment.dport, dport or self.segment.sport
        return struct.pack("!HHIIBBHHH", *ports, seq, ack & WORD, 0x50, flags, 1000, 0, 0)

    def error(self, quote: bytes, kind: int | None = None) -> bytes:
        """An ICMP port unreachable, or another type."""
        protocol, usual, code = (1, 3, 3) if self.four else (58, 1, 4)
        return self.packet(protocol, bytes([usual if kind is None else kind, code]) + bytes(6) + quote)


def lies(probe: Probe) -> Iterator[bytes]:
    """Every kind of frame that must change nothing."""
    seq, chance = probe.segment.seq, probe.random
    right = probe.tcp(SYN_ACK, seq + 1)
    for flags, ack in (
        (SYN_ACK, seq),
        (SYN_ACK, seq + 2),
        (SYN_ACK, 0),
        (0x14, seq + 2),
        (0x04, 0),
        (0x14, chance.getrandbits(32)),
    ):
        yield probe.packet(6, probe.tcp(flags, ack))
    for flags in (0x00, 0x01, 0x10, 0x11, 0x18, 0x29):
        yield probe.packet(6, probe.tcp(flags, seq + 1))
    yield probe.packet(6, probe.tcp(SYN_ACK, seq + 1, sport=probe.segment.dport ^ 1))
    yield probe.packet(6, probe.tcp(SYN_ACK, seq + 1, dport=probe.segment.sport + 1))
    yield probe.packet(6, right, them=probe.them[:-1] + bytes([probe.them[-1] ^ 0x55]))
    yield probe.link + probe.frame[14:]  # our own probe, seen again
    yield probe.packet(6, probe.tcp(SYN, 0, seq=seq))  # the same, turned round
    yield probe.packet(6, probe.tcp(SYN, 0, dport=probe.segment.sport + 9))  # to a pass that has not come
    yield probe.packet(6, right[: chance.randrange(20)])
    yield probe.packet(6, right, length=chance.randrange(1, 20))
    yield (
        probe.packet(6, right, fragment=0x2001)
        if probe.four
        else probe.packet(44, bytes([6, 0, 0, 9]) + bytes(4) + right)
    )
    for place in (-1, -5, -7):  # sequence number, target port, our port
        quote = bytearray(probe.quote)
        quote[place] ^= 1
        yield probe.error(bytes(quote))
    yield probe.error(probe.quote[:-5])
    yield probe.error(probe.quote, kind=8 if probe.four else 128)
    for kind in (b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x81\x00", b"\x88\xa8", b"\x00\x20"):
        yield probe.link[:12] + kind + chance.randbytes(chance.randrange(1, 200))


def bare_syns(probe: Probe) -> Iterator[bytes]:
    """Connections from ports that were not probed yet, to this source port and the next one."""
    for port in range(1000, 1100):
        for later in (0, 1):
            if port != probe.segment.dport:
                yield probe.packet(6, probe.tcp(SYN, 0, sport=port, dport=probe.segment.sport + later))


def sprayed(probe: Probe) -> Iterator[bytes]:
    """Three bare SYNs for each probe, as from somebody who sees nothing of what the scanner sends."""
    if probe.segment.flags == SYN:
        yield from [probe.packet(6, probe.tcp(SYN, 0))] * 3


def split(probe: Probe) -> Iterator[bytes]:
    """A split handshake: a SYN for the SYN, and an ACK for the SYN/ACK."""
    if probe.segment.flags == SYN:
        yield probe.packet(6, probe.tcp(SYN, 0, seq=77))
    elif probe.segment.ack == 78:
        yield probe.packet(6, probe.tcp(ACK, probe.segment.seq + 1, seq=78))


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


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with direct_box() as made:
        made.listen([22, 1100])
        made.install({PortKind.DROP: ["1000-1099"]})
        yield made


@VERSIONS
def test_lies_change_no_verdict_and_are_counted(box: Box, version: int) -> None:
    target = box.target_ip if version == 4 else box.target_ip6
    with Liar(box, version, lies) as liar:
        done = scan(box, target, "-p", "22,23,1000-1101", "--rate", "1000")
    silent = [(port, "filtered", "no-response") for port in range(1000, 1100)]
    others = [(22, "open", "syn-ack"), (23, "closed", "reset"), (1100, "open", "syn-ack"), (1101, "closed", "reset")]
    assert liar.told > 100 * 30
    assert (done.code, done.brief("port", "state", "reason")) == (0, sorted([*silent, *others], key=repr))
    [line] = [line for line in done.errors if line.startswith("rejected: ")]
    counted = {
        cause: int(count.replace(",", "")) for count, cause in (part.split(" ", 1) for part in line[10:].split(", "))
    }
    assert {"bad-cookie", "fragment", "icmp-quote-truncated", "no-verdict", "truncated", "not-asked"} <= set(counted)


def test_a_bare_syn_counts_only_from_a_probed_port(box: Box) -> None:
    with Liar(box, 4, bare_syns, limit=1) as liar:
        done = scan(box, box.target_ip, "-p", "1000-1099", "--rate", "100", "--retries", "1")
    states = Counter(row["state"] for row in done.rows)
    # A few ports may have been probed when the frames arrive. There a bare SYN looks like a split handshake.
    assert liar.told == 198
    assert states["filtered"] + states["unknown"] == 100
    assert states["unknown"] < 20
    assert {tuple(row["evidence"]) for row in done.rows if row["state"] == "unknown"} <= {("unverified",)}


@VERSIONS
def test_sprayed_bare_syns_open_nothing(box: Box, version: int) -> None:
    target = box.target_ip if version == 4 else box.target_ip6
    with Liar(box, version, sprayed), Tap(box) as tap:
        done = scan(box, target, "-p", "1000-1002,1100,1101", "--all")
        segments = [each for each in tap.segments() if not each.out]
    silent = [(port, "unknown", "split-handshake-syn") for port in (1000, 1001, 1002)]
    others = [(1100, "open", "syn-ack"), (1101, "closed", "reset")]
    assert done.brief("port", "state", "reason") == sorted([*silent, *others], key=repr)
    asked = Counter((each.sport, each.dport) for each in segments if each.flags == SYN_ACK)
    assert set(asked.values()) == {1}  # once a pass, and each pass has a source port
    assert {1000, 1001, 1002} <= {port for _, port in asked}


@VERSIONS
def test_a_split_handshake_is_proved_and_then_reset(box: Box, version: int) -> None:
    target = box.target_ip if version == 4 else box.target_ip6
    with Liar(box, version, split, hears=(SYN, SYN_ACK)), Tap(box) as tap:
        done = scan(box, target, "-p", "1000-1002", "--open")
        segments = [each for each in tap.segments() if not each.out and each.dport < 1100]  # others are of scans before
    assert done.brief("port", "state", "reason", "evidence") == [
        (port, "open", "split-handshake-syn", ()) for port in (1000, 1001, 1002)
    ]
    numbers = [{(each.dport, each.seq) for each in segments if each.flags == flags} for flags in (SYN, SYN_ACK, RST)]
    assert numbers[0] == numbers[1]
    assert numbers[2] == {(port, (number + 1) & WORD) for port, number in numbers[0]}
