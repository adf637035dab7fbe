"""A hostile peer: forged, truncated and senseless frames for every probe change no verdict.

The peer reads each SYN at the target's interface and answers at once with one frame of every kind below, each wrong in
exactly one way. It knows the addresses, the ports and the sequence number, so a scanner that omits one check
believes it. A peer that answers correctly is no attack: that is an answer.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from scanner.lab import Box, PortKind
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.liar import WORD, Liar, Probe
from tests.live.syn_wire import RST, SYN, SYN_ACK, Tap, scan

pytestmark = LIVE

VERSIONS = pytest.mark.parametrize("version", [4, 6])
ACK = 0x10


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
