"""The messages of a fleet: what they carry comes back, and whatever else arrives is refused and never raises more."""

import json
import random
from typing import Any

import numpy as np
import pytest

from scanner.fleet.board import Board
from scanner.fleet.gather import Gather, Kept
from scanner.fleet.job import Job, job_of, piece_of
from scanner.fleet.messages import BadMessage, decode, decode_result, encode, with_rows
from scanner.fleet.rows import WrongRows, checked
from scanner.packet.addresses import to_text
from scanner.packet.cookie import Key
from scanner.rounds.schedule import Keys
from scanner.targets.hostspace import Shard
from scanner.verdict.rows import Verdict
from tests.fuzz.fleet import MESSAGES, SCAN, job, make_message


def addresses(some: Job) -> list[str]:
    return to_text(some.order.hosts_at(np.arange(some.order.extent.hosts)))


def ports_by_host(some: Job) -> list[tuple[str, list[int]]]:
    """Each host with its ports, sorted."""
    at = np.arange(some.spaces.size)
    ports = [some.spaces.sets[space].tolist() for space in some.spaces.space_of(at).tolist()]
    return sorted(zip(to_text(some.spaces.pick(at)), ports, strict=True))


JOBS = (
    ("198.51.100.0/24",),
    ("2001:db8::/120", "198.51.100.7", "255.255.255.255"),
    ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00/120",),
    ("10.0.0.0/28:443", "10.0.1.0/28:22,80", "2001:db8::5"),
)


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_comes_back(kind: str) -> None:
    message = decode(encode(kind, **MESSAGES[kind]), kind)
    assert {name: message[name] for name in MESSAGES[kind]} == MESSAGES[kind]


@pytest.mark.parametrize("specs", JOBS, ids=str)
@pytest.mark.parametrize("shard", [Shard(), Shard(2, 3)], ids=str)
def test_a_job_comes_back_with_its_hosts_in_their_order(specs: tuple[str, ...], shard: Shard) -> None:
    sent = job(*specs, shard=shard)
    found = job_of(sent.as_message())
    assert (addresses(found), ports_by_host(found), found.config) == (addresses(sent), ports_by_host(sent), sent.config)


@pytest.mark.parametrize("specs", JOBS, ids=str)
def test_pieces_are_the_scan_each_host_once_with_its_ports(specs: tuple[str, ...]) -> None:
    sent = job(*specs)
    hosts, found = sent.order.extent.hosts, []
    for first in range(0, hosts, 5):
        part = piece_of(sent, sent.order, first, min(5, hosts - first))
        at = np.arange(part.size)
        ports = [part.sets[space].tolist() for space in part.space_of(at).tolist()]
        found += list(zip(to_text(part.pick(at)), ports, strict=True))
    assert sorted(found) == ports_by_host(sent)


CHANGES: list[tuple[str, Any]] = [
    ("shard", [3, 2]), ("shard", [1]), ("shard", [0, 1]), ("order_key", "x"), ("verb", "classify"), ("scan", "../x"),
    ("silent", 1),
]  # fmt: skip
TARGETS: list[tuple[str, Any]] = [
    ("ipv4", "AAAB"), ("ipv4", "!"), ("ipv4", ""), ("ipv4", "AgAAAAEAAAA="), ("ports", []), ("ports", ["http"]),
    ("ports", ["22", "80"]), ("first", "AAAAAAAAAAA="), ("set", "AAA="), ("ports", ["1-0"]),
    ("ipv6", "AAAAAAAAAAAAAP//AAAAAAAAAAAAAAAAAAD//wAAAAE="), ("names", []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_a_job_that_makes_no_sense_is_refused(name: str, value: Any) -> None:
    document = json.loads(job("198.51.100.0/28").as_message())
    with pytest.raises(BadMessage):
        job_of(json.dumps({**document, name: value}).encode())


@pytest.mark.parametrize(("name", "value"), TARGETS)
def test_targets_that_make_no_sense_are_refused(name: str, value: Any) -> None:
    document = json.loads(job("198.51.100.0/28").as_message())
    document["targets"][name] = value
    with pytest.raises(BadMessage):
        job_of(json.dumps(document).encode())


@pytest.mark.parametrize(("first", "size"), [(0, 0), (0, 17), (16, 1), (0, 1 << 21), (1 << 62, 1)])
def test_a_piece_that_the_scan_has_not_is_refused(first: int, size: int) -> None:
    some = job("198.51.100.0/28")
    with pytest.raises(BadMessage):
        piece_of(some, some.order, first, size)


def row(ip: str, port: int | None, state: str = "open") -> Verdict:
    return Verdict(ip, port, state, "syn-ack" if port else "no-arp")


def test_rows_of_a_piece_pass() -> None:
    some = job("10.0.0.0/30:443", "10.0.1.0/30:22,80", "2001:db8::5")
    answers = [row("10.0.0.1", 443), row("10.0.1.1", 80), row("10.0.1.1", 22), row("2001:db8::5", 22)]
    rows = [*answers, row("10.0.0.2", None, "down")]
    assert list(checked(rows, some.spaces)) == rows


@pytest.mark.parametrize(
    "rows",
    [[row("10.0.2.1", 443)], [row("10.0.0.1", 80)], [row("10.0.1.1", 80)] * 2, [row("10.0.0.1", None, "down")] * 2,
     [row("10.0.0.1", None, "open")], [row("10.0.1.1", 80), row("10.0.1.1", 22), row("10.0.1.1", 22)]],
)  # fmt: skip
def test_rows_of_other_targets_and_second_rows_are_refused(rows: list[Verdict]) -> None:
    with pytest.raises(WrongRows):
        list(checked(rows, job("10.0.0.0/30:443", "10.0.1.0/30:22,80").spaces))


def test_a_second_row_is_found_however_far_behind_the_first() -> None:
    some = job("10.0.0.0/18:443")
    rows = [row(ip, 443) for ip in addresses(some)]
    with pytest.raises(WrongRows):
        list(checked([*rows, rows[0]], some.spaces))
    assert len(list(checked(rows, some.spaces))) == 1 << 14


@pytest.mark.parametrize("seed", range(20))
def test_whatever_arrives_is_kept_or_dropped_and_counted(seed: int) -> None:
    rng = random.Random(seed)
    board = Board(job("198.51.100.0/24").order.extent, Keys(Key(1, 2), 7))
    gather = Gather(SCAN, board, Nowhere())
    board.more(1, 100.0)
    for _ in range(200):
        gather.take(make_message(rng))
    assert gather.dropped.total() + len(gather.failures) > 150


@pytest.mark.parametrize("rows", [b"<nmaprun>", b"\x1f\x8b", b"ip,port\n", b"\xd4\xc3\xb2\xa1"])
def test_rows_in_another_format_are_refused(rows: bytes) -> None:
    with pytest.raises(BadMessage):
        decode_result(with_rows(encode("rows", **MESSAGES["rows"]), rows))


class Nowhere:
    def keep(self, kept: Kept) -> None:
        pass

    def forget(self, *_: object) -> None:
        pass

    def all(self) -> list[Kept]:
        return []
