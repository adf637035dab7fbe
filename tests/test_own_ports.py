"""Ports of their own: lists where targets have ports, the spaces that follow, and whole scans over them."""

import json
import random
import socket
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.cli.state_file import StateFile
from scanner.config import TargetOptions, choice_of, ports_of
from scanner.errors import UsageError
from scanner.halfopen.scan import Scan, Settings
from scanner.packet.addresses import from_text, to_text
from scanner.rounds.schedule import HostRange, ResumePoint, Schedule
from scanner.targets.hostspace import Shard
from scanner.targets.order import Extent, Order
from scanner.targets.own_ports import split_ports
from scanner.targets.ports import format_ports, parse_ports
from scanner.targets.spaces import Spaces
from scanner.targets.spec import parse_hosts
from tests.command import halfopen
from tests.memory import Faults, Host
from tests.simulation import CLOSED, KEYS, OPEN, SILENCE, Bench, Clock, bench_of, lane_of, memory, target

Pairs = set[tuple[str, int]]
MOST_CALLS = 10_000  # of Python functions, for a window whose targets are silent


def spaces_of(lines: str, tmp_path: Path, **more: object) -> Spaces:
    """What a list and further options mean."""
    path = tmp_path / "list"
    path.write_text(lines)
    options = TargetOptions(targets_file=(str(path),), **more)  # type: ignore[arg-type]
    return choice_of(options).spaces(ports_of(options))


def pairs(spaces: Spaces) -> Pairs:
    number = np.arange(spaces.size)
    named = zip(to_text(spaces.pick(number)), spaces.space_of(number).tolist(), strict=True)
    return {(ip, port) for ip, space in named for port in spaces.sets[space].tolist()}


def expand(*targets: tuple[str, Iterable[int]]) -> Pairs:
    return {(ip, port) for ip, ports in targets for port in ports}


# ── lists ──


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("192.0.2.7:22,80", ("192.0.2.7", ":22,80")),
        ("[2001:db8::1]:443", ("2001:db8::1", ":443")),
        ("[2001:db8::]/64:443", ("2001:db8::/64", ":443")),
        ("[2001:db8::1]", ("2001:db8::1", "")),
        ("2001:db8::1", ("2001:db8::1", "")),
        ("web.example:443", ("web.example", ":443")),
        ("web.example:", ("web.example", ":")),
        ("web.example", ("web.example", "")),
        ("http://192.0.2.7", ("http", "://192.0.2.7")),
        ("http://192.0.2.7:80", ("http://192.0.2.7:80", "")),
    ],
)
def test_words_with_ports(word: str, meant: tuple[str, str]) -> None:
    assert split_ports(word) == meant


LISTS: dict[str, tuple[str, dict[str, object], Pairs]] = {
    "one set": ("10.0.0.1:22,80\n10.0.0.2:80,22\n", {}, expand(("10.0.0.1", (22, 80)), ("10.0.0.2", (22, 80)))),
    "two sets": ("10.0.0.2:22 10.0.0.1:80", {}, expand(("10.0.0.1", [80]), ("10.0.0.2", [22]))),
    "both versions": (
        "10.0.0.1:22\n[2001:db8::1]:443\n2001:db8::2\n",
        {"ports": "7"},
        expand(("10.0.0.1", [22]), ("2001:db8::1", [443]), ("2001:db8::2", [7])),
    ),
    "several lines for a target": ("10.0.0.1:22\n10.0.0.1:80\n10.0.0.1:22\n", {}, expand(("10.0.0.1", (22, 80)))),
    "blocks, ranges and patterns": (
        "10.0.0.0/31:1\n10.0.1.8-9:2\n10.1-2.0.7:3\n10.0.0.1\n",
        {"ports": "9"},
        expand(
            ("10.0.0.0", [1]),
            ("10.0.0.1", (1, 9)),
            ("10.0.1.8", [2]),
            ("10.0.1.9", [2]),
            ("10.1.0.7", [3]),
            ("10.2.0.7", [3]),
        ),
    ),
    "targets beside the list": (
        "10.0.0.1:22",
        {"targets": ("10.0.0.0/31",), "ports": "80"},
        expand(("10.0.0.0", [80]), ("10.0.0.1", (22, 80))),
    ),
    "names of services": ("10.0.0.1:http,ssh # both", {}, expand(("10.0.0.1", (22, 80)))),
    "excluded targets": (
        "10.0.0.0/30:22\n10.0.0.2:80",
        {"exclude": ("10.0.0.0/31",)},
        expand(("10.0.0.2", (22, 80)), ("10.0.0.3", [22])),
    ),
    "excluded ports": (
        "10.0.0.1:22,80\n10.0.0.2:22\n10.0.0.3:80",
        {"exclude_ports": "22"},
        expand(("10.0.0.1", [80]), ("10.0.0.3", [80])),
    ),
}


@pytest.mark.parametrize("case", LISTS)
def test_lists(case: str, tmp_path: Path) -> None:
    lines, more, wanted = LISTS[case]
    spaces = spaces_of(lines, tmp_path, **more)
    assert (pairs(spaces), spaces.targets) == (wanted, len(wanted))


BROKEN = {
    "10.0.0.1:": "has an empty part",
    "10.0.0.1:70000": "port 70000",
    "10.0.0.1:nosuchname": "no TCP service is registered as 'nosuchname'",
    "[2001:db8::g]:22": "2001:db8::g is not an IPv6 address",
    "10.0.0.256:22": "10.0.0.256",
    "10.0.0.1:80:90": "is not an IPv6 address",
    "http://10.0.0.1:80/": "is not an IPv6 address",
}


@pytest.mark.parametrize("word", BROKEN)
def test_what_is_wrong_is_named(word: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=BROKEN[word]):
        spaces_of(f"10.0.0.9:22\n{word}\n", tmp_path)


def test_of_two_mistakes_the_first_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"10\.0\.0\.300"):
        spaces_of("10.0.0.300\n10.0.0.1:70000\n", tmp_path)


def test_excludes_have_no_ports(tmp_path: Path) -> None:
    (tmp_path / "never").write_text("10.0.0.1:22\n")
    with pytest.raises(UsageError, match=r"10\.0\.0\.1:22"):
        spaces_of("10.0.0.1:22 10.0.0.2", tmp_path, exclude_file=(str(tmp_path / "never"),))


def test_every_port_excluded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="every port of the targets was excluded"):
        spaces_of("10.0.0.1:22 10.0.0.2:23", tmp_path, exclude_ports="22-23")


def test_more_sets_than_there_can_be(tmp_path: Path) -> None:
    """A set for each host: 2^16 of them, and one more."""
    lines = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:{n % 300 + 1},{n // 300 + 400}" for n in range((1 << 16) + 1)]
    assert len(spaces_of("\n".join(lines[:-1]), tmp_path).sets) == 1 << 16
    with pytest.raises(UsageError, match=r"^more than 65,536 distinct sets of ports"):
        spaces_of("\n".join(lines), tmp_path)


def test_more_combinations_than_there_can_be(tmp_path: Path) -> None:
    """A few hundred sets whose combinations are too many."""
    hosts = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(70_000)]
    lines = [f"{host}:{n % 300 + 1}\n{host}:{n // 300 + 400}" for n, host in enumerate(hosts)]
    with pytest.raises(UsageError, match=r"^more than 65,536 distinct sets of ports"):
        spaces_of("\n".join(lines), tmp_path)


def test_more_ports_than_there_can_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="16,777,216 ports in all"):
        spaces_of("\n".join(f"10.0.{n >> 8}.{n & 255}:{n + 1}-" for n in range(300)), tmp_path)


addresses = st.integers(0, 40).map(lambda last: f"10.0.0.{last}")
blocks = st.tuples(addresses, st.integers(29, 32)).map(lambda pair: f"{pair[0]}/{pair[1]}")
six = st.integers(0, 9).map(lambda last: f"2001:db8::{last}")
port_texts = st.sampled_from(["", ":22", ":80", ":22,80", ":80,22", ":1000-1003", ":1-3,5000-5010,6000,7000,8000,9000"])
words = st.one_of(
    st.tuples(addresses | blocks, port_texts).map("".join),
    st.tuples(six.map(lambda text: f"[{text}]"), port_texts).map("".join), six,
)  # fmt: skip


@given(st.lists(words, min_size=1, max_size=40))
@settings(max_examples=150, deadline=None)
def test_each_target_gets_the_ports_of_all_lines_that_name_it(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    """What the lines mean one by one, together."""
    wanted: Pairs = set()
    for line in lines:
        target, ports = split_ports(line)
        hosts = parse_hosts([target], [], lambda name: [])
        column = parse_ports(ports[1:] or "7,8")
        wanted |= expand(*((ip, column.tolist()) for ip in to_text(hosts.pick(np.arange(hosts.size)))))
    spaces = spaces_of("\n".join(lines), tmp_path_factory.mktemp("lists"), ports="7,8")
    assert (pairs(spaces), spaces.targets) == (wanted, len(wanted))


SAID = "targets with ports of their own are scanned on these, and "
LEFT_OUT = "left out 1 target of the lists: each of its ports is excluded"


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        ("10.0.0.1:22 10.0.0.2", {"ports": "80"}, [SAID + "-p 80 is for the others"]),
        ("10.0.0.1:22", {"top_ports": 5}, [SAID + "--top-ports 5 is for no target"]),
        ("10.0.0.1:22 10.0.0.2", {}, []),
        ("10.0.0.1", {"ports": "80"}, []),
        ("10.0.0.1:22 10.0.0.2:80", {"exclude_ports": "80"}, [LEFT_OUT]),
    ],
)
def test_what_is_said(lines: str, options: dict[str, object], said: list[str], tmp_path: Path) -> None:
    (tmp_path / "list").write_text(lines)
    made = TargetOptions(targets_file=(str(tmp_path / "list"),), **options)  # type: ignore[arg-type]
    assert choice_of(made).own.notes(made.ports, made.top_ports) == said


def test_the_memory_of_a_long_list_with_several_sets(tmp_path: Path) -> None:
    """18 bytes for a run when the spaces are made, and not much more while they are."""
    texts, size = (":22", ":80,443", ":8080", ":1-9"), 1 << 19
    address = np.random.default_rng(1).permutation(1 << 20)[:size].tolist()
    lines = [f"11.{at >> 16}.{at >> 8 & 255}.{at & 255}{texts[at * 7919 >> 3 & 3]}" for at in address]
    (tmp_path / "list").write_text("\n".join(lines))
    options = TargetOptions(targets_file=(str(tmp_path / "list"),))
    choice, ports = choice_of(options), ports_of(options)
    tracemalloc.start()
    spaces = choice.spaces(ports)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (spaces.size, held / size < 18, peak / size < 80) == (size, True, True)


# ── spaces, order and schedule ──

MIXED = "10.0.0.0/28\n10.0.0.3:22\n10.0.0.5:80\n10.0.0.9:22,80\n[2001:db8::]/126:22\n10.0.1.0/25:443\n10.0.0.12:22\n"


def spaces_mixed(tmp_path: Path) -> Spaces:
    return spaces_of(MIXED, tmp_path, ports="7,8,9")


def test_a_space_has_the_hosts_of_one_set(tmp_path: Path) -> None:
    spaces = spaces_mixed(tmp_path)
    number = np.arange(spaces.size)
    assert (spaces.number_of(spaces.pick(number)) == number).all()
    assert (np.diff(spaces.space_of(number)) >= 0).all()
    assert len({ports.tobytes() for ports in spaces.sets}) == len(spaces.sets)


def test_what_is_no_host_has_no_number(tmp_path: Path) -> None:
    assert spaces_mixed(tmp_path).number_of(from_text("10.0.0.16", "9.9.9.9", "2001:db8::4", "::")).tolist() == [-1] * 4


@pytest.mark.parametrize("part", ["10.0.0.0/29", "10.0.0.9", "10.0.1.0/24", "2001:db8::/120", "10.0.0.4-10.0.1.3"])
def test_a_part_of_the_hosts_keeps_their_ports(part: str, tmp_path: Path) -> None:
    spaces = spaces_mixed(tmp_path)
    hosts = parse_hosts([part], [], lambda name: [])
    some = spaces.within(spaces.hosts.within(hosts.spans()))
    inside = set(to_text(hosts.pick(np.arange(hosts.size))))
    assert pairs(some) == {(ip, port) for ip, port in pairs(spaces) if ip in inside}


@pytest.mark.parametrize("of", [1, 2, 3, 50])
def test_shards_share_every_target(of: int, tmp_path: Path) -> None:
    spaces, found = spaces_mixed(tmp_path), Counter[tuple[str, int]]()
    for number in range(1, of + 1):
        order = Order(spaces, 5, Shard(number, of))
        position = np.arange(order.extent.hosts)
        hosts = order.hosts_at(position)
        assert (order.position_of(hosts) == position).all()
        for ip, at in zip(to_text(hosts), position.tolist(), strict=True):
            found.update((ip, port) for port in order.ports_at(at).tolist())
        assert order.extent.targets == sum(len(order.ports_at(at)) for at in position.tolist())
    assert (set(found), set(found.values())) == (pairs(spaces), {1})


def test_shards_of_many_small_spaces_are_alike_in_size(tmp_path: Path) -> None:
    spaces = spaces_of("\n".join(f"10.0.0.{n}:{n}" for n in range(1, 101)), tmp_path)
    assert [Order(spaces, 5, Shard(number, 4)).extent.hosts for number in (1, 2, 3, 4)] == [25] * 4


EXTENTS = [Extent([3, 3, 50, 51], [2, 9, 1000, 1]), Extent([40], [3]), Extent([0, 0], [1, 2])]


@pytest.mark.parametrize("seed", range(8))
def test_no_range_has_hosts_of_two_spaces(seed: int) -> None:
    """However often the schedule is taken up again, and with ranges of chosen hosts that a state may name."""
    rng = random.Random(seed)
    chosen = HostRange(0, 1, 6, np.array([1, 2, 3, 6]))
    at, left, done = (0, 7), [HostRange(0, 0, 1), chosen, HostRange(0, 4, 2)], list[HostRange]()
    while not (schedule := Schedule(EXTENTS, at, left)).exhausted:
        behind = [HostRange(lane, at[1] * (lane == at[0]), EXTENTS[lane].hosts) for lane in range(at[0], 3)]
        behind = [part._replace(size=part.size - part.first) for part in behind]
        widths = [EXTENTS[part.lane].widths[EXTENTS[part.lane].space_at(part.host_pos())] for part in [*left, *behind]]
        assert schedule.remaining == sum(map(sum, widths))
        done += [part for part in [schedule.next(rng.choice([0.0, 3.0, 5000.0]))] if part]
        at, left = schedule.at, schedule.left
    spaces = [set(EXTENTS[part.lane].space_at(part.host_pos()).tolist()) for part in done]
    assert {len(each) for each in spaces} == {1}
    found = Counter((part.lane, place) for part in done for place in part.host_pos().tolist())
    assert found == Counter([(0, place) for place in range(51)] + [(1, place) for place in range(40)])


# ── whole scans ──

PORTS = {22: "open", 80: "closed", 443: "drop"}
STATES = {22: OPEN, 80: CLOSED, 443: SILENCE}
LINES = (
    "198.18.1.0/28\n198.18.1.3:22\n198.18.1.4:443,80\n198.18.1.5:22,80\n198.18.1.20-60:443\n198.18.1.30:80\n"
    "198.18.1.61-70:22,80,443\n"
)


def network(clock: Clock) -> object:
    return memory({f"198.18.1.{last}": Host(ports=dict(PORTS)) for last in range(1, 80)}, clock)


def scan_of(spaces: Spaces, **lane: object) -> Bench:
    clock = Clock()
    return bench_of(clock, [lane_of(network(clock), spaces=spaces, **lane)], Settings(rate=0.0))  # type: ignore[arg-type]


def wanted_of(spaces: Spaces) -> dict[tuple[str, int], tuple[str, str]]:
    return {(ip, port): SILENCE if ip == "198.18.1.0" else STATES[port] for ip, port in pairs(spaces)}


def test_a_scan_probes_the_ports_of_each_host(tmp_path: Path) -> None:
    spaces = spaces_of(LINES, tmp_path, ports="22,80")
    done = scan_of(spaces).run()
    assert done.table() == wanted_of(spaces)
    assert done.stats().rejected.total() == 0


@pytest.mark.parametrize("number", [1, 2, 3])
def test_each_shard_probes_its_part(number: int, tmp_path: Path) -> None:
    spaces = spaces_of(LINES, tmp_path, ports="22,80")
    tables = [scan_of(spaces, shard=Shard(each, 3)).run().table() for each in (1, 2, 3)]
    assert tables[number - 1].items() <= wanted_of(spaces).items()
    assert sum(map(len, tables)) == len(pairs(spaces))


@pytest.mark.parametrize("seed", range(3))
def test_a_scan_that_is_taken_up_again_decides_each_target_once(seed: int, tmp_path: Path) -> None:
    spaces, rng, clock = spaces_of(LINES, tmp_path, ports="22,80"), random.Random(seed), Clock()
    wire, point, found, turns = network(clock), ResumePoint(KEYS, []), list[tuple[str, int | None]](), 0
    while turns < 200:
        turns += 1
        lane = lane_of(wire, spaces=spaces)
        schedule = Schedule([lane.extent], point.at, point.left)
        if schedule.exhausted:
            break
        scan = Scan([lane], Settings(rate=rng.choice([0.0, 200.0])), lane.order_key, schedule)
        bench = Bench(scan, clock, [wire])
        end = clock.now + int(rng.uniform(0.2, 5.0) * 1e9)
        bench.run(lambda bench, end=end: bench.clock.now >= end)  # type: ignore[misc]
        found += [(row.ip, row.port) for row in bench.rows]
        left = (*(window.host_range for window in scan.windows.open), *schedule.left)
        point = ResumePoint(KEYS, [], schedule.at, left)
    assert (turns > 2, Counter(found)) == (True, Counter(pairs(spaces)))


FIREWALLED = {1: "closed", 2: "closed", 3: "closed", 4: "reject-reset", 5: "reject-reset", 6: "open", 7: "drop"}


def test_control_and_check_probes_go_to_ports_of_their_own_too(tmp_path: Path) -> None:
    """Frames are lost, so control probes leave; the resets look forged, so check probes leave."""
    spaces = spaces_of("198.18.1.1:1-7\n198.18.1.2:1,3,5-6\n198.18.1.3:1-6\n198.18.1.4:6\n", tmp_path)
    clock = Clock()
    hosts = {f"198.18.1.{last}": Host(ports=dict(FIREWALLED), other="open") for last in range(1, 5)}
    wire = memory(hosts, clock, Faults(lose_probes=0.2), seed=4)
    lane = lane_of(wire, spaces=spaces)
    done = bench_of(clock, [lane], Settings(rate=0.0)).run()
    sent = [target(frame) for frame in wire.probes_seen]
    checks = {(ip, port) for ip, port, our_port, _ in sent if our_port in lane.check_ports}
    assert ({(ip, port) for ip, port, *_ in sent}, done.stats().sent["control"] > 0) == (pairs(spaces), True)
    assert (checks <= pairs(spaces), {ip for ip, _ in checks}) == (True, {"198.18.1.1", "198.18.1.2", "198.18.1.3"})
    forged = {(row.ip, row.port) for row in done.rows if "firewall-reset" in row.evidence}
    assert forged <= {(ip, port) for ip, port in pairs(spaces) if FIREWALLED[port] == "reject-reset"}
    assert {ip for ip, _ in forged} >= {"198.18.1.1", "198.18.1.3"}


def test_very_many_small_spaces_are_scanned_together(tmp_path: Path) -> None:
    """Each is a window of its own. With a look at every open window in every turn it was 97,000 calls for each."""
    lines = [f"198.18.{n >> 8}.{n & 255}:{2000 + n % 50},{3000 + n // 50}" for n in range(300)]
    done = bench_of(clock := Clock(), [lane_of(memory({}, clock), spaces=spaces_of("\n".join(lines), tmp_path))])
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        done.run()
    finally:
        sys.setprofile(None)
    assert (len(done.rows), set(done.table().values()), calls / 300 < MOST_CALLS) == (600, {SILENCE}, True)


def test_a_reply_from_a_port_of_another_space_is_no_target(tmp_path: Path) -> None:
    spaces = spaces_of("198.18.1.1:22 198.18.1.2:80", tmp_path)
    index = spaces.port_index(np.array([0, 0, 1, 1]), np.array([22, 80, 22, 80], np.uint16))
    assert sorted(index.tolist()) == [-1, -1, 0, 0]


# ── the command ──


@pytest.fixture
def servers() -> Iterator[tuple[int, int]]:
    """Ports of this machine that are open on 127.0.0.1 and on 127.0.0.2."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.2", 0)) as two:
        yield one.getsockname()[1], two.getsockname()[1]


def test_the_command_scans_the_ports_of_each_target(
    servers: tuple[int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = servers
    (tmp_path / "list").write_text(f"127.0.0.1:{one},1\n127.0.0.2:{two}\n127.0.0.3\n")
    files = [str(tmp_path / name) for name in ("scan.jsonl", "scan.xml")]
    code = halfopen("connect", "-iL", str(tmp_path / "list"), "-p", "2", "-o", files[0], "-o", files[1], "-f", "list")
    said = capsys.readouterr()
    rows = [json.loads(line) for line in Path(files[0]).read_text().splitlines()]
    wanted = {("127.0.0.1", one, "open"), ("127.0.0.1", 1, "closed"), ("127.0.0.2", two, "open")}
    assert (code, sorted(said.out.split())) == (0, sorted([f"127.0.0.1:{one}", f"127.0.0.2:{two}"]))
    assert {(row["ip"], row["port"], row["state"]) for row in rows} == wanted | {("127.0.0.3", 2, "closed")}
    assert f'numservices="4" services="{format_ports([1, 2, one, two])}"' in Path(files[1]).read_text()
    lines = said.err.splitlines()
    assert lines[0] == "halfopen: targets with ports of their own are scanned on these, and -p 2 is for the others"
    assert (lines[1].split()[0], lines[2]) == ("4", "ports: 3 different sets, target by target")


def test_a_scan_is_not_taken_up_with_other_ports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same hosts, and the same ports in all, on other hosts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(StateFile, "remove", lambda self: None)
    line = ("connect", "-iL", "list", "-o", "scan.jsonl", "--resume", "scan.state", "-q")
    Path("list").write_text("127.0.0.1:1\n127.0.0.2:2\n")
    assert halfopen(*line) == 0
    assert halfopen(*line) == 0  # nothing is left to do
    Path("list").write_text("127.0.0.1:2\n127.0.0.2:1\n")
    assert halfopen(*line) == 2
    said = capsys.readouterr().err
    assert "whose list of own ports was 2 sets with sum" in said.splitlines()[-1]
