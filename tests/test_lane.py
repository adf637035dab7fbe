"""Which replies are ours, and the arithmetic between hosts, positions and shards."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scanner.halfopen.lane import Lane
from scanner.packet.addresses import from_text, to_text
from scanner.packet.cookie import Key, sequence
from scanner.packet.parse import parse
from scanner.rounds.checks import CHECK_PORTS
from scanner.targets.hostspace import Shard
from scanner.targets.spaces import Spaces
from scanner.targets.spec import parse_hosts
from scanner.verdict.table import Reason
from tests.builders import KEY, OUR_PORT, ROUTER, THEIR_PORT, THEM, US, batch, rst, segment, syn, synack, unreachable
from tests.simulation import lane_of

TARGETS = {4: "198.18.1.0/28", 6: "2001:db8:1::/124"}
PASSES = 3
WRAP = 1 << 32


def lane(version: int = 4, **more: Any) -> Lane:
    return lane_of(None, more.pop("targets", TARGETS[version]), (80, THEIR_PORT), passes=PASSES, **more)


def cookie(version: int = 4, target: str | None = None, port: int = THEIR_PORT, our_port: int = OUR_PORT) -> int:
    address = from_text(target or THEM[version])
    return int(sequence(KEY, version, address, np.array([port], np.uint16), our_port)[0])


def judged(frame: bytes, version: int = 4, **more: Any) -> tuple[list[tuple[str, str, int, int]], dict[str, int]]:
    """(target, reason, port index, pass) of what matched, and what was counted."""
    counts: Counter[str] = Counter()
    ours = lane(version, **more)
    found = ours.match(parse(batch(frame), counts), counts)
    hosts = [to_text(ours.hosts_at(found.host_pos[at : at + 1]))[0] for at in range(len(found.host_pos))]
    words = [Reason(code).word for code in found.reason.tolist()]
    rows = list(zip(hosts, words, found.port_index.tolist(), found.pass_no.tolist(), strict=True))
    return rows, {cause: count for cause, count in counts.items() if count}


def ack(version: int = 4, **flow: Any) -> int:
    return (cookie(version, **flow) + 1) % WRAP


@pytest.mark.parametrize("version", [4, 6])
def test_replies_that_are_ours(version: int) -> None:
    them, number = THEM[version], cookie(version)
    probe = syn(version, seq=number)
    frames = {
        synack(version, ack=ack(version)): "syn-ack",
        rst(version, ack=ack(version)): "reset",
        rst(version, ack=number): "reset",
        segment("R", version, ack=ack(version)): "reset",
        segment("S", version, ack=0, seq=5): "split-handshake-syn",
        segment("A", version, ack=ack(version), seq=6): "split-handshake-syn",  # if we have answered its SYN
        unreachable(version, quoting=probe): "host-unreach" if version == 4 else "admin-prohibited",
        unreachable(version, quoting=probe, sender=them): "host-unreach" if version == 4 else "admin-prohibited",
    }
    assert [judged(frame, version) for frame in frames] == [([(them, word, 1, 1)], {}) for word in frames.values()]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("number", range(1, PASSES + 1))
def test_the_port_names_the_pass(version: int, number: int) -> None:
    port = OUR_PORT + number - 1
    reply = synack(version, dport=port, ack=ack(version, our_port=port))
    assert judged(reply, version) == ([(THEM[version], "syn-ack", 1, number)], {})


STRANGERS = {
    "wrong acknowledgement": (synack(ack=ack() + 1), "bad-cookie"),
    "acknowledges the number itself, not a reset": (synack(ack=cookie()), "bad-cookie"),
    "reset without acknowledgement": (rst(ack=0), "bad-cookie"),
    "another port's cookie": (synack(sport=80, ack=ack()), "bad-cookie"),
    "another pass's cookie": (synack(dport=OUR_PORT + 1, ack=ack()), "bad-cookie"),
    "another host's cookie": (synack(src="198.18.1.8", ack=ack()), "bad-cookie"),
    "error that quotes another number": (unreachable(quoting=syn(seq=cookie() ^ 1)), "bad-cookie"),
    "error that quotes the next number": (unreachable(quoting=syn(seq=ack())), "bad-cookie"),
    "our own probe, echoed by them": (segment("S", seq=cookie(), ack=0), "bad-cookie"),
    "a host nobody asked": (synack(src="198.18.2.1", ack=ack(target="198.18.2.1")), "not-a-target"),
    "a port nobody asked": (synack(sport=81, ack=ack(port=81)), "not-a-target"),
    "bare syn from a host nobody asked": (segment("S", src="198.18.2.1", ack=0), "not-a-target"),
    "bare syn from a port nobody asked": (segment("S", sport=81, ack=0), "not-a-target"),
    "to another address of ours": (synack(dst="198.18.0.2", ack=ack()), "not-to-us"),
    "to a port below ours": (synack(dport=OUR_PORT - 1, ack=ack(our_port=OUR_PORT - 1)), "not-to-us"),
    "to a port above ours": (
        synack(dport=OUR_PORT + PASSES + 1 + CHECK_PORTS, ack=ack(our_port=OUR_PORT + PASSES + 1 + CHECK_PORTS)),
        "not-to-us",
    ),
    "about another's probe": (unreachable(quoting=syn(src="198.18.0.2", seq=cookie())), "not-to-us"),
    "our probe on its way out": (syn(seq=cookie()), "not-to-us"),
    "a bare ack of another number": (segment("A", ack=ack() + 1), "no-verdict"),
    "fin": (segment("F", ack=ack()), "no-verdict"),
    "packet not too big": (unreachable(kind=12, code=0, quoting=syn(seq=cookie())), "no-verdict"),
    "a time to live of 0": (synack(ack=ack(), ttl=0), "ttl-zero"),
    "an error from loopback": (unreachable(quoting=syn(seq=cookie()), sender="127.9.9.9"), "icmp-from-loopback"),
    "an error from ourselves": (unreachable(quoting=syn(seq=cookie()), sender=US[4]), "icmp-from-us"),
    "an error from a group": (unreachable(quoting=syn(seq=cookie()), sender="239.1.2.3"), "icmp-from-multicast"),
    "an error from everybody": (
        unreachable(quoting=syn(seq=cookie()), sender="255.255.255.255"),
        "icmp-from-multicast",
    ),
    "too little quoted": (unreachable(quoting=syn(seq=cookie()), quoted_tcp=7), "icmp-quote-truncated"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_everything_else_is_counted_with_its_cause(name: str) -> None:
    frame, cause = STRANGERS[name]
    assert judged(frame) == ([], {cause: 1})


STRANGE_SENDERS = {"::1": "icmp-from-loopback", US[6]: "icmp-from-us", "ff02::1": "icmp-from-multicast"}


@pytest.mark.parametrize("sender", STRANGE_SENDERS)
def test_strange_senders_of_icmpv6_errors(sender: str) -> None:
    error = unreachable(6, quoting=syn(6, seq=cookie(6)), sender=sender)
    assert judged(error, 6) == ([], {STRANGE_SENDERS[sender]: 1})


@pytest.mark.parametrize("target", ["127.0.0.7", US[4], "::1", US[6]])
def test_this_machine_may_answer_for_itself(target: str) -> None:
    version = 6 if ":" in target else 4
    probe = syn(version, dst=target, seq=cookie(version, target=target))
    error = unreachable(version, quoting=probe, sender=target)
    assert len(judged(error, version, targets=target)[0]) == 1


@pytest.mark.parametrize("bit", range(32))
def test_any_flipped_bit_of_the_acknowledgement(bit: int) -> None:
    assert judged(synack(ack=ack() ^ 1 << bit)) == ([], {"bad-cookie": 1})


def test_another_key() -> None:
    assert judged(synack(ack=ack()), key=Key(KEY.k0 ^ 1, KEY.k1)) == ([], {"bad-cookie": 1})


def test_the_cookie_wraps() -> None:
    """A flow whose number is 2^32 - 1 is too rare to wait for, so the number is what it is asked to be."""
    ours = lane()
    for number in (WRAP - 1, 0):
        ours.sequence = lambda target, *_, n=number: np.full(len(target), n, np.uint32)  # type: ignore[method-assign]
        segments = parse(batch(synack(ack=(number + 1) % WRAP), rst(ack=number), synack(ack=number)), Counter())
        assert ours.match(segments, Counter()).reason.tolist() == [Reason.SYN_ACK, Reason.RESET]


def test_a_batch_is_its_frames_one_at_a_time() -> None:
    frames = [synack(ack=ack()), *(frame for frame, _ in STRANGERS.values()), rst(sport=80, ack=ack(port=80))]
    together: Counter[str] = Counter()
    ours = lane()
    found = ours.match(parse(batch(*frames), together), together)
    wanted = Counter(cause for _, cause in STRANGERS.values())
    assert (+together, sorted(found.segments.frame.tolist())) == (wanted, [0, len(frames) - 1])


def test_icmp_keeps_who_sent_it() -> None:
    found = lane().match(parse(batch(unreachable(quoting=syn(seq=cookie()))), Counter()), Counter())
    assert (to_text(found.segments.sender), to_text(found.segments.src)) == ([ROUTER[4]], [THEM[4]])


def test_one_source_port_for_all_passes() -> None:
    assert judged(synack(ack=ack()), source_port=OUR_PORT) == ([(THEM[4], "syn-ack", 1, 0)], {})


def test_a_target_port_that_is_ours_is_probed_from_the_spare_one() -> None:
    """On loopback a probe from a port to itself would meet itself."""
    ours = lane(spare_port=50000)
    ports = np.array([80, OUR_PORT, OUR_PORT + 1], np.uint16)
    sources = [np.broadcast_to(ours.our_port(number, ports), 3).tolist() for number in (1, 2)]
    assert sources == [[OUR_PORT, 50000, OUR_PORT], [OUR_PORT + 1, OUR_PORT + 1, 50000]]
    reply = synack(dport=50000, ack=ack(our_port=50000))
    assert judged(reply, spare_port=50000) == ([(THEM[4], "syn-ack", 1, 0)], {})


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 20])
@pytest.mark.parametrize("targets", ["198.18.1.0/28", "198.18.1.1-5", "198.18.1.9", "2001:db8:1::/124"])
def test_shards_are_disjoint_and_jointly_complete(targets: str, count: int) -> None:
    whole = lane(targets=targets)
    shards = [lane(targets=targets, shard=Shard(number, count)) for number in range(1, count + 1)]
    parts = [to_text(shard.hosts_at(np.arange(shard.host_count))) for shard in shards]
    everyone = [host for part in parts for host in part]
    assert sorted(everyone) == sorted(to_text(whole.spaces.hosts.pick(np.arange(whole.spaces.size))))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("shard", [Shard(), Shard(2, 3)])
def test_positions_lead_to_hosts_and_back(version: int, shard: Shard) -> None:
    ours = lane(version, shard=shard)
    n = ours.host_count
    hosts = ours.hosts_at(np.arange(n))
    assert ours.position_of(hosts).tolist() == list(range(n))
    assert to_text(np.concatenate([ours.hosts_at(np.array([i])) for i in range(n)])) == to_text(hosts)


def test_another_shards_host_is_no_target() -> None:
    shards = [lane(shard=Shard(number, 3)) for number in (1, 2, 3)]
    everyone = shards[0].spaces.hosts.pick(np.arange(16))
    owners = np.array([shard.position_of(everyone) >= 0 for shard in shards]).sum(axis=0)
    assert owners.tolist() == [1] * 16


def test_the_gateways_mac_reaches_every_frame() -> None:
    ours = lane(mac="02:00:00:00:00:01")
    ours.next_hop(bytes.fromhex("0200000000ff"))
    assert [bytes(template.frame[:6]).hex() for template in (ours.probe, ours.reset)] == ["0200000000ff"] * 2


def test_templates_come_from_us() -> None:
    assert to_text(lane(6).our_address) == [US[6]]


def test_a_hundred_thousand_excludes_and_still_each_host_once() -> None:
    """Through windows and shards: every address of a /12 that is not excluded, exactly once."""
    numbers = np.random.default_rng(7).choice(1 << 20, 100_000, replace=False)
    base = 0x0A100000
    excludes = [f"10.{16 + (each >> 16)}.{each >> 8 & 255}.{each & 255}" for each in numbers.tolist()]
    hosts = parse_hosts(["10.16.0.0/12", "10.16.0.0/14"], excludes, lambda name: [])
    seen = np.zeros(1 << 20, np.int64)
    for number in (1, 2, 3):
        ours = replace(lane(shard=Shard(number, 3)), spaces=Spaces(hosts, [np.array([80], np.uint16)]))
        for first in range(0, ours.host_count, 50_000):
            found = ours.hosts_at(np.arange(first, min(first + 50_000, ours.host_count)))
            np.add.at(seen, (found["lo"] & np.uint64(0xFFFFFFFF)).astype(np.int64) - base, 1)
    wanted = np.ones(1 << 20, np.int64)
    wanted[numbers] = 0
    assert np.array_equal(seen, wanted)
