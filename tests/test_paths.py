"""The models of paths do what they say, whatever the batches, and the network in memory uses them."""

from ipaddress import ip_address, ip_network
from typing import Any

import numpy as np
import pytest
from scapy.layers.inet import IP

from scanner.packet.headers import ACK, MAPPED, RST, SYN
from tests.builders import SECOND, THEIR_MAC, syn
from tests.lab.scenes import Scene
from tests.lab.unlike import UNLIKE
from tests.memory import STRAIGHT, Faults, Host
from tests.packets import UNCHANGED, Packets, packets_of
from tests.passage import Passage
from tests.paths import (
    BACK,
    OUT,
    Ban,
    Bursts,
    Crowded,
    Ecmp,
    Elsewhere,
    Model,
    Narrow,
    OneWay,
    Outage,
    Path,
    PerSecond,
    Policer,
    Table,
    draws,
    path_of,
)
from tests.simulation import Clock, Link, memory

HERE, THERE = "198.18.1.1", "198.18.2.1"


def stream(count: int, rate: float, hosts: int = 1, flags: int = SYN, tos: int = 4) -> Packets:
    """So many packets, evenly at `rate` a second, to hosts from 198.18.1.1 on in turn; each is a flow of its own."""
    number = np.arange(count)
    unset = np.zeros(count, np.int64)
    return Packets(
        number, (1000 * SECOND + number * SECOND / rate).astype(np.int64), np.zeros(count, np.uint64),
        (MAPPED | 0xC6120101) + (number % hosts).astype(np.uint64), number // 60000 + 1, number % 60000 + 1,
        np.full(count, flags, np.uint8), np.full(count, tos, np.uint8), unset.copy(), unset + UNCHANGED,
        np.zeros(count, np.uint64), np.zeros(count, np.bool_),
    )  # fmt: skip


def through(model: Model, packets: Packets, seed: int = 1) -> Packets:
    return Passage(Path(out=(model,), seed=seed)).carry(OUT, packets)


# A model; packets, how many a second, to how many hosts; how many arrive.
SHARES: dict[str, tuple[Model, tuple[int, float, int], int, int]] = {
    "independent": (OneWay(0.3), (10_000, 1000, 1), 7000, 150),
    "doubled": (OneWay(repeat=0.3), (10_000, 1000, 1), 13_000, 150),
    "lost and doubled": (OneWay(0.5, 0.5), (10_000, 1000, 1), 7500, 200),
    "bursts in time": (Bursts(0.9, 0.1), (200_000, 1000, 1), 180_000, 5000),
    "bursts in packets": (Bursts(30, 10, 0.8, 0.1, packets=True), (100_000, 1000, 1), 72_500, 2500),
    "bursts of each host": (Bursts(0.9, 0.1, each_host=True), (200_000, 10_000, 100), 180_000, 3000),
    "a full queue": (Narrow(500, 100), (20_000, 2000, 1), 5101, 2),
    "a queue that is never full": (Narrow(500, 1), (5000, 499, 1), 5000, 0),
    "a policer": (Policer(200, 50), (20_000, 2000, 1), 2050, 2),
    "a policer for each host": (Policer(200, 50, each_host=True), (20_000, 2000, 5), 5 * 2050, 20),
    "a policer of resets": (Policer(1, 1, "reset"), (2000, 2000, 1), 2000, 0),
    "a limit a second": (PerSecond(20, ""), (10_000, 1000, 4), 800, 0),
    "a path that is not crowded": (Crowded(1000, 3000, 0.8), (5000, 900, 1), 5000, 0),
    "a half crowded path": (Crowded(1000, 3000, 0.8), (20_000, 2000, 1), 12_000, 400),
    "a crowded path": (Crowded(1000, 3000, 0.8), (50_000, 10_000, 1), 10_000, 500),
    "a ban of each host": (Ban(50), (10_000, 1000, 10), 500, 0),
    "a ban of the whole network": (Ban(50, "syn", whole=True), (10_000, 1000, 10), 50, 0),
    "an outage": (Outage(2, 4), (10_000, 1000, 1), 8000, 1),
    "two bad seconds": (Outage(2, 4, 0.5), (10_000, 1000, 1), 9000, 80),
    "a lossy path of two": (Ecmp(0.25, lose=1.0), (10_000, 1000, 1), 7500, 150),
}


@pytest.mark.parametrize("name", SHARES)
def test_the_right_share_arrives(name: str) -> None:
    model, (count, rate, hosts), expected, tolerance = SHARES[name]
    arrived = [len(through(model, stream(count, rate, hosts), seed).row) for seed in (1, 2, 3)]
    assert sum(arrived) / 3 == pytest.approx(expected, abs=tolerance)


CHANGES: list[Model] = [Ecmp(hops=2), Elsewhere(1, 2, 3), Policer(500, 10, clear=True), OneWay(delay=0.1, jitter=0.1)]


@pytest.mark.parametrize("model", [each[0] for each in SHARES.values()] + CHANGES, ids=str)
def test_the_fates_do_not_depend_on_the_batches(model: Model) -> None:
    """All at once, or in pieces of random sizes; and another seed is another path, where chance decides at all."""

    def fates(packets: Packets) -> list[tuple[Any, ...]]:
        columns = (packets.lo, packets.our_port, packets.time, packets.tos, packets.hops)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    packets, passage, found = stream(4000, 3000, 7), Passage(Path(out=(model,))), []
    cuts = np.sort(np.random.default_rng(5).integers(0, 4000, 60))
    for part in np.split(np.arange(4000), cuts):
        found += fates(passage.carry(OUT, packets.take(part)))
    assert found == fates(through(model, stream(4000, 3000, 7)))


@pytest.mark.parametrize("model", [each[0] for each in SHARES.values()] + CHANGES, ids=str)
def test_a_model_touches_only_the_networks_it_names(model: Model) -> None:
    packets = stream(4000, 3000, 7)
    arrived = through(model._replace(where=(THERE, "2001:db8::/32")), packets)
    assert [(arrived.time == packets.time).all(), (arrived.tos == 4).all(), len(arrived.row)] == [True, True, 4000]


def test_a_host_and_a_network_are_found_by_their_addresses() -> None:
    model = OneWay(1.0, where=("198.18.1.2", "198.18.1.4/31"))
    assert np.unique(through(model, stream(7000, 1000, 7)).lo & np.uint64(0xFF)).tolist() == [1, 3, 6, 7]


def test_a_queue_delays_by_what_stands_before() -> None:
    arrived = through(Narrow(500, 100), stream(2000, 2000))
    waits = (arrived.time - stream(2000, 2000).time[arrived.row]) / SECOND
    assert (waits.min(), waits.max()) == (pytest.approx(0.002), pytest.approx(0.202, abs=0.001))
    assert np.diff(arrived.time).min() == pytest.approx(SECOND / 500, abs=2)


def test_one_path_of_two_clears_the_mark_of_its_flows() -> None:
    packets = stream(4000, 1000)
    first, again = (through(Ecmp(0.5, hops=1), stream(4000, 1000)) for _ in range(2))
    assert np.count_nonzero(first.tos == 0) == pytest.approx(2000, abs=120)
    assert ((first.tos == 0) == (first.hops == 1)).all()
    assert (first.tos == again.tos).all()
    assert (packets.tos == 4).all()


def test_a_policer_that_clears_marks_loses_nothing() -> None:
    arrived = through(Policer(200, 50, clear=True), stream(20_000, 2000))
    assert (len(arrived.row), np.count_nonzero(arrived.tos)) == (20_000, pytest.approx(2050, abs=2))


def test_a_table_fills_and_frees() -> None:
    """512 of 1,000 flows pass; a reset frees its flow after a second, silence after thirty."""
    passage = Passage(Path(out=(Table(512, 30, 1),)))
    first = passage.carry(OUT, stream(1000, 1000))
    back = stream(1000, 1000, flags=RST | ACK)
    back.time += SECOND
    answered = passage.carry(BACK, back.take(np.arange(100)))
    later = [stream(1000, 1000) for _ in range(2)]
    for number, packets in enumerate(later):
        packets.time += (5 + 40 * number) * SECOND
        packets.port += 7 + number  # other flows
    counts = [len(each.row) for each in (first, answered, *(passage.carry(OUT, packets) for packets in later))]
    assert counts == [512, 100, 100, 512]


def test_a_reply_without_an_entry_is_dropped() -> None:
    passage = Passage(Path(out=(Table(10, 30),)))
    assert len(passage.carry(BACK, stream(100, 1000, flags=SYN | ACK)).row) == 0


def test_a_path_goes_through_json() -> None:
    path = Path(tuple(each[0] for each in SHARES.values()), (Elsewhere(1, 2, where=(HERE, THERE)),), 7)
    assert path_of(path.as_json()) == path


@pytest.mark.parametrize("version", [4, 6])
def test_columns_of_a_probe(version: int) -> None:
    rows = np.frombuffer(syn(version, dport=443, sport=40000, tos=0xB8), np.uint8)[None]
    packets = packets_of(rows, 0, OUT, 5)
    found = [int(getattr(packets, name)[0]) for name in ("time", "port", "our_port", "flags", "tos")]
    assert found == [5, 443, 40000, SYN, 0xB8]


@pytest.mark.parametrize("scene", UNLIKE, ids=lambda scene: str(scene.name))
def test_the_models_of_a_scene_name_some_of_its_hosts(scene: Scene) -> None:
    """A network that holds no host, or every host, would make the hosts alike."""
    models = [model for way in scene.wire.path[:2] for model in way if model.where]
    networks = [ip_network(text) for model in models for text in model.where]
    hosts = [ip_address(text) for text in scene.addresses]
    inside = [host for host in hosts if any(host in network for network in networks)]
    assert (0 < len(inside) < len(hosts)) == bool(models)


# ── the network in memory ──


def replies(host: Host, path: Path = STRAIGHT, ports: range = range(80, 84)) -> dict[int, Any]:
    """What a host answers to a probe of each port: (flags, TTL, TOS, IP ID, DF)."""
    clock = Clock()
    wire = memory({HERE: host}, clock, Faults(path=path))
    rows = wire.reserve(len(ports))
    for row, port in zip(rows, ports, strict=True):
        frame = syn(dst=HERE, dport=port)
        row[: len(frame)] = np.frombuffer(frame, np.uint8)
    wire.commit(len(ports), 40)
    clock.now += SECOND
    frames = wire.recv()
    packets = [IP(frames.buffer[at : at + n].tobytes()) for at, n in zip(frames.start, frames.length, strict=True)]
    return {each.sport: (str(each["TCP"].flags), each.ttl, each.tos, each.id, "DF" in each.flags) for each in packets}


def test_how_replies_look_is_data() -> None:
    other = Host({81: "closed"}, ttl=127, marks=False, ip_id=None, df=False)
    host = Host({80: "open", 82: "reject-reset"}, reject_df=False, reject_ip_id=9, reject_ttl=63, forwards={81: other})
    assert replies(host) == {
        80: ("SA", 64, 0, 0, True),
        81: ("RA", 127, 0, 1, False),
        82: ("RA", 63, 0, 9, False),
        83: ("RA", 64, 4, 0, True),
    }


def test_the_path_changes_how_replies_look() -> None:
    path = Path(back=(Elsewhere(81, 82, hops=3, ip_id=0x1234, df=False),))
    assert replies(Host(), path) == {
        80: ("RA", 64, 4, 0, True),
        81: ("RA", 61, 0, 0x1234, False),
        82: ("RA", 61, 0, 0x1234, False),
        83: ("RA", 64, 4, 0, True),
    }


def test_probes_that_lose_the_mark_get_resets_without_it() -> None:
    found = replies(Host(), Path(out=(Ecmp(0.5),)), range(1, 201))
    assert sum(tos == 0 for _, _, tos, _, _ in found.values()) == pytest.approx(100, abs=25)


def test_a_far_host_answers_later_and_the_queue_back_takes_replies_as_they_come() -> None:
    """Two replies of the far host come last, although its probes left first."""
    clock = Clock()
    began = clock.now
    path = Path(back=(Narrow(1000),))
    wire = memory({HERE: Host(delay=0.3), THERE: Host()}, clock, Faults(path=path, delay=(0, 0)))
    rows = wire.reserve(4)
    for row, address in zip(rows, (HERE, HERE, THERE, THERE), strict=True):
        row[:40] = np.frombuffer(syn(dst=address), np.uint8)
    wire.commit(4, 40)
    waits = []
    while (due := wire.next_arrival()) is not None:
        clock.now = due
        waits += [round((when - began) / SECOND, 6) for when in wire.recv().time.tolist()]
    assert waits == [0.001, 0.002, 0.301, 0.302]


def test_a_link_loses_frames_to_a_mac_address_that_has_changed() -> None:
    clock = Clock()
    wire = Link(memory({HERE: Host()}, clock), clock, {"gateway": THEIR_MAC}, strict=True)
    answered = []
    for mac in (THEIR_MAC, "02:00:00:00:09:09", THEIR_MAC, None):
        wire.macs = {"gateway": mac} if mac else {}
        wire.reserve(1)[0, :54] = np.frombuffer(syn(dst=HERE, ethernet=True), np.uint8)
        wire.commit(1, 54)
        clock.now += SECOND
        answered.append(len(wire.recv()))
    assert (answered, wire.wrong_macs) == ([1, 0, 1, 0], 2)


def test_the_chances_of_two_seeds_have_nothing_to_do_with_each_other() -> None:
    """Not even one packet later."""
    numbers = np.arange(1000, dtype=np.uint64)
    one, other = (set(draws(seed, OUT, 1, numbers).tolist()) for seed in (1, 2))
    assert not one & other
