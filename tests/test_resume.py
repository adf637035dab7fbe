"""A scan that is taken up again: the numbers, the note on disk, what is refused, and whole scans.

The whole scans hold one thing against the truth: each target is decided exactly once in what was written, whatever
moment the end came at, and however often.
"""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from scanner.cli.state_file import StateFile
from scanner.errors import UsageError
from scanner.halfopen.scan import Scan, Settings
from scanner.output import Summary, Written, open_sinks
from scanner.packet.cookie import Key
from scanner.rounds.rows import window_rows
from scanner.rounds.schedule import HostRange, Keys, LaneFacts, ResumePoint, Schedule, resume_point_of
from scanner.rounds.statistics import ScanStats
from scanner.targets.hostspace import Shard
from scanner.targets.order import Extent
from scanner.targets.spaces import Spaces
from scanner.targets.spec import parse_hosts
from scanner.verdict.rows import Verdict
from tests.builders import OUR_MAC, SECOND
from tests.command import USUAL, forge, halfopen
from tests.lab.live import live
from tests.lab.networks import direct_box
from tests.memory import Faults, MemoryTransport
from tests.processes import PATIENCE, wait_until_it_scans
from tests.simulation import KEYS, NET, NET_PORTS, WANTED, Clock, Link, answers_all, lane_of, link, memory, wanted

ROOT = Path(__file__).resolve().parents[1]


# ── numbers ──


def handed(schedule: Schedule, rate: Callable[[], float], most: int = 1 << 30) -> list[HostRange]:
    found = []
    while len(found) < most and (host_range := schedule.next(rate())):
        found.append(host_range)
    return found


def positions(host_ranges: list[HostRange]) -> list[tuple[int, int]]:
    return sorted((each.lane, at) for each in host_ranges for at in each.host_pos().tolist())


@pytest.mark.parametrize("seed", range(8))
def test_every_position_is_handed_out_once_whatever_the_rate_and_however_often_taken_up(seed: int) -> None:
    rng = random.Random(seed)
    sizes = [rng.choice([0, 1, 7, 1000, 12345]) for _ in range(rng.randint(1, 4))]
    width, at, left, done = rng.choice([1, 3, 1000]), (0, 0), [], []
    extents = [Extent(size, width) for size in sizes]
    for _ in range(60):
        schedule = Schedule(extents, at, left)
        begun = handed(schedule, lambda: rng.choice([0.0, 10.0, 5000.0]), rng.randint(0, 3))
        rng.shuffle(begun)
        ended = rng.randint(0, len(begun))
        done += begun[:ended]
        at, left = schedule.at, [*begun[ended:], *schedule.left]
    done += handed(Schedule(extents, at, left), lambda: 0.0)
    assert positions(done) == [(lane, place) for lane, size in enumerate(sizes) for place in range(size)]


def test_a_dropped_lane_hands_out_nothing_more() -> None:
    schedule = Schedule([Extent(50, 1)] * 2, left=[HostRange(0, 3, 2), HostRange(1, 7, 1)])
    schedule.drop(0)
    assert positions(handed(schedule, lambda: 0.0)) == sorted([(1, 7), *((1, at) for at in range(50))])


@pytest.mark.parametrize("seed", range(3))
def test_a_large_space_with_excludes_shards_and_interrupts_each_host_once(seed: int) -> None:
    """A /13 less 100,000 addresses, three shards, taken up again at random places: the whole of IPv4 in small."""
    rng = np.random.default_rng(seed)
    numbers = rng.choice(1 << 19, 100_000, replace=False)
    excludes = [f"10.{16 + (each >> 16)}.{each >> 8 & 255}.{each & 255}" for each in numbers.tolist()]
    hosts = parse_hosts(["10.16.0.0/13"], excludes, lambda name: [])
    seen = np.zeros(1 << 19, np.int64)
    for number in (1, 2, 3):
        lane = replace(lane_of(None), spaces=Spaces(hosts, [np.array([80], np.uint16)]), shard=Shard(number, 3))
        resume_point = ResumePoint(KEYS, [])
        while True:
            schedule = Schedule([lane.extent], resume_point.at, resume_point.left)
            begun = handed(schedule, lambda: float(rng.choice([300.0, 4000.0])), int(rng.integers(1, 9)))
            if not begun:
                break
            closed = int(rng.integers(0, len(begun) + 1))
            for host_range in begun[:closed]:
                found = lane.hosts_at(host_range.host_pos())
                np.add.at(seen, (found["lo"] & np.uint64(0xFFFFFFFF)).astype(np.int64) - 0x0A100000, 1)
            kept = ResumePoint(KEYS, [], schedule.at, (*begun[closed:], *schedule.left))
            resume_point = resume_point_of(json.loads(json.dumps(kept.as_json())))
    assert np.array_equal(seen, ~np.isin(np.arange(1 << 19), numbers))


# ── the note ──


def through_json(resume_point: ResumePoint) -> ResumePoint:
    """As another process reads it."""
    return resume_point_of(json.loads(json.dumps(resume_point.as_json())))


def test_a_resume_point_survives_json() -> None:
    left = (HostRange(0, 5, 2), HostRange(1, 1 << 40, 9, (1 << 40) + np.array([2, 4, 8])))
    keys = Keys(Key(1, (1 << 64) - 1), (1 << 128) - 1)
    lanes = [LaneFacts("eth0", 4, 9, "192.0.2.1"), LaneFacts("lo", 6, 1, "")]
    before = ResumePoint(keys, lanes, (1, 9), left)
    after = through_json(before)
    assert (after.keys, after.lanes, after.at, after.left[0]) == (before.keys, before.lanes, before.at, left[0])
    chosen = after.left[1].chosen
    assert chosen is not None
    assert (after.left[1][:3], (chosen - (1 << 40)).tolist()) == ((1, 1 << 40, 9), [2, 4, 8])


WHOLE, ODD, EVEN = HostRange(0, 0, 8), HostRange(0, 0, 8, np.arange(1, 8, 2)), HostRange(0, 0, 8, np.arange(0, 8, 2))


@pytest.mark.parametrize(
    ("at", "left", "twice"),
    [
        ((1, 0), [ODD, EVEN, HostRange(0, 8, 2)], False),
        ((0, 8), [WHOLE], False),
        ((0, 0), [WHOLE], True),
        ((0, 7), [ODD], True),
        ((0, 9), [HostRange(1, 0, 1)], True),
        ((2, 0), [WHOLE, HostRange(0, 7, 2)], True),
        ((2, 0), [WHOLE, HostRange(1, 0, 8)], False),
        ((2, 0), [ODD, ODD], True),
        ((2, 0), [HostRange(0, 7, 1), ODD], True),
        ((2, 0), [HostRange(0, 6, 1), ODD], False),
    ],
)
def test_a_resume_point_names_no_host_twice(at: tuple[int, int], left: list[HostRange], twice: bool) -> None:
    lanes = [LaneFacts("eth0", 4, 10, ""), LaneFacts("eth1", 4, 10, "")]
    point = ResumePoint(KEYS, lanes, at, tuple(left))
    if twice:
        with pytest.raises(UsageError, match="names hosts twice"):
            point.restart(lanes)
    else:
        assert point.restart(lanes) == (at, point.left)


def test_the_sums_of_two_parts() -> None:
    """The loss is weighted by the answers in the windows that measured it."""
    first = ScanStats(
        targets=9, started=1.0, seconds=2.0, sent=Counter(probe=5, control=2), answered=3, responders=3, measured=3,
        loss=0.2, passes=4, replies=3, expected_missed=0.5, missed_variance=0.6, hosts_heard=2, hosts_unheard=1,
        missed_by_loss=0.25, stopped=Counter({"192.0.2.1": 50}), carries=480.0, unmeasured=7,
    )  # fmt: skip
    second = ScanStats(
        targets=9, started=7.0, seconds=1.0, sent=Counter(probe=1, reset=2), answered=1, responders=1, measured=1,
        loss=0.6, passes=2, expected_missed=0.25, missed_variance=0.3, hosts_heard=1, hosts_unheard=2,
        missed_by_loss=0.5,
    )  # fmt: skip
    whole = second.after(first)
    assert (whole.targets, whole.started, whole.seconds, whole.answered) == (9, 1.0, 3.0, 4)
    assert (whole.passes, whole.replies, dict(whole.sent)) == (4, 3, {"probe": 6, "control": 2, "reset": 2})
    assert (whole.expected_missed, whole.missed_variance, whole.missed_by_loss) == pytest.approx((0.75, 0.9, 0.75))
    assert (whole.hosts_heard, whole.hosts_unheard, whole.unmeasured, whole.carries) == (3, 3, 7, 480.0)
    assert dict(whole.stopped) == {"192.0.2.1": 50}
    assert whole.loss == pytest.approx(0.3)
    assert second.after(ScanStats()).loss == 0.6


ROWS = [Verdict("192.0.2.1", 22, "open", "syn-ack"), Verdict("192.0.2.9", None, "down", "no-arp")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.xml", "a.gnmap", "a.txt", "a.list", "a.jsonl.gz", "a.xml.gz"])
def test_a_file_is_cut_back_and_gone_on_with(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was written after the note is gone; the rest is as if one process had written it."""

    def texts(path: Path) -> list[str]:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = raw.decode().splitlines()
        return [line for line in lines if "time=" not in line and "start" not in line and " at " not in line]

    whole, parts = tmp_path / "whole" / name, tmp_path / "parts" / name
    for path in (whole, parts):
        path.parent.mkdir()
    in_one = open_sinks("jsonl", [str(whole)])
    in_one.write(ROWS)
    in_one.write(ROWS[1:])
    in_one.finish(Summary("all"))
    first = open_sinks("jsonl", [str(parts)])
    first.write(ROWS)
    note = [Written(*file) for file in json.loads(json.dumps(first.written()))]
    first.write(ROWS[:1])
    first.finish(Summary("interrupted"))
    second = open_sinks("jsonl", [str(parts)], written=note)
    second.write(ROWS[1:])
    second.finish(Summary("all"))
    assert texts(parts) == texts(whole)


# ── what is refused ──


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of a connect scan of one closed port, as if it had been killed at its beginning."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scan.jsonl").write_text("")
    (tmp_path / "hosts").write_text("127.0.0.1\n")
    monkeypatch.setattr(StateFile, "remove", lambda self: None)
    assert halfopen("connect", *USUAL) == 0
    return tmp_path / "scan.state"


def changed(old: str, new: str) -> tuple[str, ...]:
    return tuple(new if each == old else each for each in USUAL)


LEFT = {"lane": 0, "first": 0, "size": 1}
REFUSED: dict[str, tuple[tuple[str, ...], Callable[[], object], str]] = {
    "other ports": (changed("1", "1-9"), lambda: None, "whose -p was 1 and now is 1-9"),
    "another output": (changed("scan.xml", "new.xml"), lambda: None, "whose -o was /"),
    "only open": ((*USUAL, "--open"), lambda: None, "whose --open was not given and now is True"),
    "an exclude": ((*USUAL, "--exclude", "127.0.0.9"), lambda: None, "--exclude was not given and now is 127.0.0.9"),
    "a list that changed": (USUAL, lambda: Path("hosts").write_text("127.0.0.2\n"), "list of hosts"),
    "a file that is gone": (USUAL, lambda: Path("scan.jsonl").unlink(), "cannot go on with scan.jsonl"),
    "a file that is cut": (USUAL, lambda: os.truncate("scan.xml", 3), "they are not there"),
    "no state": (USUAL, lambda: Path("scan.state").write_text("{}"), "is no state of a scan"),
    "not even JSON": (USUAL, lambda: Path("scan.state").write_bytes(b"\xff\0"), "is no state of a scan"),
    "damage": (
        USUAL,
        lambda: Path("scan.state").write_text(Path("scan.state").read_text().replace('"cookie_key"', '"cookie"')),
        "its checksum does not match",
    ),
    "a name that is missing": (USUAL, lambda: forge(lambda state: state["resume_point"].pop("at")), "has no at"),
    "bits of other hosts": (
        USUAL,
        lambda: forge(lambda state: state["resume_point"].update(left=[LEFT | {"chosen": "gAA="}])),
        "2 bytes of bits for 1 hosts",
    ),
    "no bits": (
        USUAL,
        lambda: forge(lambda state: state["resume_point"].update(left=[LEFT | {"chosen": "AA=="}])),
        "do not exist",
    ),
    "a folder": (changed("scan.state", "."), lambda: None, "cannot read the state"),
    "a folder that is not": (changed("scan.state", "no/scan.state"), lambda: None, "there is no folder no"),
    "a state that is not finished is an output": (
        (*USUAL, "-oX", "scan.state.new"), lambda: None, "is also a file to be written by -o",
    ),
    "somebody's file beside the state": (
        USUAL, lambda: Path("scan.state.new").write_text("mine\n"), "scan.state.new is in the way of the state",
    ),
    "the statistics are an output": ((*USUAL, "--stats", "scan.xml"), lambda: None, "also a file to be written by -o"),
    "the state is an output": (changed("scan.state", "scan.xml"), lambda: None, "is also a file to be written"),
    "places that there are not": (
        USUAL, lambda: forge(lambda state: state["resume_point"]["at"].update(lane=7)), "do not exist",
    ),
    "a length below zero": (
        USUAL, lambda: forge(lambda state: state["outputs"][0].update(length=-1)), "is out of range",
    ),
    "sums that are words": (USUAL, lambda: forge(lambda state: state["stats"].update(seconds="x")), "is damaged"),
    "sums of another kind": (USUAL, lambda: forge(lambda state: state["stats"].update(targets=1.5)), "is no int"),
    "sums that there are not": (USUAL, lambda: forge(lambda state: state["stats"].update(as_json=1)), "is unknown"),
    "no file to go on with": (("127.0.0.1", "-p", "1", "--resume", "x"), lambda: None, "standard output cannot be cut"),
    "standard output only": (("127.0.0.1", "-p", "1", "--resume", "x", "-oX", "-"), lambda: None, "cannot be cut back"),
}  # fmt: skip


def test_another_verb_does_not_go_on(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert halfopen("syn", *USUAL) == 2
    assert "whose verb was connect and now is syn" in capsys.readouterr().err


def test_another_folder_is_another_file(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = kept.parent / "other"
    other.mkdir()
    (other / "hosts").write_text("127.0.0.1\n")
    (other / "scan.jsonl").write_text("somebody's\n")
    (other / "scan.xml").write_text("work\n" * 1000)
    monkeypatch.chdir(other)
    assert halfopen("connect", *changed("scan.state", str(kept))) == 2
    assert ((other / "scan.jsonl").read_text(), (other / "scan.xml").stat().st_size) == ("somebody's\n", 5000)


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(case: str, kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, spoil, words = REFUSED[case]
    spoil()
    files = {path: path.read_bytes() for path in kept.parent.iterdir()}
    capsys.readouterr()
    assert halfopen("connect", *arguments) == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines()), words in said.err) == ("", 1, True), said.err
    assert {path: path.read_bytes() for path in kept.parent.iterdir()} == files


def test_a_finished_scan_leaves_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts").write_text("127.0.0.1\n")
    assert halfopen("connect", *USUAL) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hosts", "scan.jsonl", "scan.xml"]


def test_a_note_that_cannot_be_written_ends_the_scan_with_one_line(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old state stays, and nothing is left beside it."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = kept.read_bytes()
    capsys.readouterr()
    monkeypatch.setattr("scanner.cli.state_file.os.fsync", full)
    assert halfopen("connect", *USUAL) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("interrupted: to go on, halfopen connect")
    assert said[1:] == ["halfopen: cannot keep the state in scan.state: No space left on device"]
    assert (kept.read_bytes(), kept.with_name("scan.state.new").exists()) == (before, False)


@pytest.mark.parametrize("length", [0, 20, 1 << 20])
def test_a_state_that_was_not_finished_is_no_obstacle(length: int, kept: Path) -> None:
    """`kill -9` while it was written."""
    beside = kept.with_name("scan.state.new")
    beside.write_bytes(kept.read_bytes()[:length])
    beside.chmod(0o600)
    assert (halfopen("connect", *USUAL), beside.exists()) == (0, False)


def test_a_folder_for_the_state_that_cannot_be_written_is_refused_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hosts").write_text("127.0.0.1\n")
    monkeypatch.setattr("scanner.cli.state_file.os.access", lambda *_, **__: False)  # root may write everywhere
    assert (halfopen("connect", *USUAL), os.listdir()) == (2, ["hosts"])
    assert "you may not write to the folder" in capsys.readouterr().err


def test_the_state_holds_the_keys_and_only_its_owner_may_read_it(kept: Path) -> None:
    """Whatever modes the files had."""

    def keys() -> list[object]:
        found = json.loads(kept.read_text())["resume_point"]
        return [found["cookie_key"], found["order_key"]]

    before = keys()
    kept.chmod(0o644)
    assert halfopen("connect", *USUAL) == 0
    assert (keys(), oct(kept.stat().st_mode)) == (before, "0o100600")


# ── whole scans ──


def part(
    scan: Scan, clock: Clock, wire: MemoryTransport | Link, until: int, stop: bool
) -> tuple[list[Verdict], list[HostRange]]:
    """A part of a scan: rows of windows that closed, and ranges that did not; with `stop` as after Ctrl-C."""
    verdicts: list[Verdict] = []
    kept: list[HostRange] = []
    windows = scan.windows
    while not scan.done:
        if clock.now >= until and not windows.stopped:
            if not stop:
                return verdicts, [*(window.host_range for window in windows.open), *windows.schedule.left]
            scan.stop()
        wait = scan.step(clock.now)
        clock.now += max(1, min(int(wait * SECOND), (wire.next_arrival() or clock.now + SECOND) - clock.now))
        while windows.closed:
            window = windows.closed.popleft()
            if window.interrupted:
                kept.append(window.host_range)
            else:
                verdicts += window_rows(window, clock.now)
    return verdicts, [*kept, *windows.schedule.left]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("seed", range(8))
def test_in_memory_ended_and_taken_up_until_done(seed: int, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended at random moments, by kill -9 or by Ctrl-C; small windows, so that several are open."""
    monkeypatch.setattr("scanner.rounds.schedule.WINDOW_TARGETS", 3 * len(NET_PORTS))
    rng = random.Random(seed)
    clock = Clock()
    wire = memory(answers_all(version, ports=NET_PORTS), clock, Faults(delay=(0.001, 0.2)), seed)
    resume_point, found = ResumePoint(KEYS, []), list[Verdict]()
    turns = 0
    while turns < 400:
        turns += 1
        lane = lane_of(wire, NET[version], NET_PORTS)
        schedule = Schedule([lane.extent], resume_point.at, resume_point.left)
        if schedule.exhausted:
            break
        scan = Scan([lane], Settings(), lane.order_key, schedule)
        more, left = part(scan, clock, wire, clock.now + int(rng.uniform(0, 4.0) * SECOND), rng.random() < 0.5)
        found += more
        resume_point = resume_point_of(
            json.loads(json.dumps(ResumePoint(KEYS, [], schedule.at, tuple(left)).as_json()))
        )
    assert set(Counter((row.ip, row.port) for row in found).values()) == {1}
    assert {(row.ip, row.port): (row.state, row.reason) for row in found} == wanted(version)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("seed", range(6))
def test_on_a_link_with_absent_hosts(seed: int, version: int) -> None:
    """Windows split there, what is known is numbered by the hosts that stayed, and each target has one row."""
    rng = random.Random(seed)
    everyone = list(answers_all(version))
    wire, clock = link(version, rng.sample(everyone, 10))
    resume_point, found = ResumePoint(KEYS, []), list[Verdict]()
    for _ in range(400):
        lane = lane_of(wire, NET[version], NET_PORTS, mac=OUR_MAC)
        schedule = Schedule([lane.extent], resume_point.at, resume_point.left)
        if schedule.exhausted:
            break
        scan = Scan([lane], Settings(rate=rng.choice([0.0, 60.0])), lane.order_key, schedule)
        more, left = part(scan, clock, wire, clock.now + int(rng.uniform(0, 4.0) * SECOND), rng.random() < 0.8)
        found += more
        resume_point = resume_point_of(
            json.loads(json.dumps(ResumePoint(KEYS, [], schedule.at, tuple(left)).as_json()))
        )
    present = {(host, port): state for host in wire.macs for port, state in WANTED.items()}
    down = ("down", "no-arp" if version == 4 else "no-ndp")
    assert Counter((row.ip, row.port) for row in found).most_common(1)[0][1] == 1
    assert {(row.ip, row.port): (row.state, row.reason) for row in found} == present | {
        (host, None): down for host in everyone if host not in wire.macs
    }


def test_a_lane_that_could_not_be_reached_is_still_to_be_done() -> None:
    schedule = Schedule([Extent(50, 1)] * 2, at=(0, 10), left=[HostRange(0, 3, 2)])
    schedule.drop(0)
    assert positions(schedule.dropped) == [(0, 3), (0, 4), *((0, at) for at in range(10, 50))]
    again = Schedule([Extent(50, 1)] * 2, schedule.at, schedule.dropped)
    assert positions(handed(again, lambda: 1.0)) == sorted(
        [*positions(schedule.dropped), *((1, at) for at in range(50))]
    )


def test_a_dropped_lane_is_to_be_done_once() -> None:
    """Also if the scan ends before it would have reached that lane."""
    schedule = Schedule([Extent(50, 1)] * 2, at=(0, 10))
    schedule.drop(1)
    again = Schedule([Extent(50, 1)] * 2, schedule.at, schedule.left)
    assert positions(handed(again, lambda: 1.0)) == [*((0, at) for at in range(10, 50)), *((1, at) for at in range(50))]


def test_a_pass_that_was_cut_is_not_enough(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "scanner", "connect", "127.0.0.1", "-p", "1-3000", "--retries", "0", "--rate", "1500"]
    line += ["--all", "-o", str(tmp_path / "scan.jsonl"), "--resume", str(tmp_path / "scan.state")]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        wait_until_it_scans(first)
        time.sleep(0.5)
        first.send_signal(signal.SIGINT)
    done = subprocess.run(line, cwd=ROOT, capture_output=True, check=False)
    ports = [json.loads(row)["port"] for row in (tmp_path / "scan.jsonl").read_text().splitlines()]
    assert (first.returncode, done.returncode, sorted(ports)) == (130, 0, list(range(1, 3001)))


def test_two_scans_do_not_write_one_file(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "scanner", "connect", "127.0.0.1", "-p", "1-1000", "--rate", "1000"]
    line += ["-o", str(tmp_path / "scan.jsonl"), "--resume", str(tmp_path / "scan.state")]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        wait_until_it_scans(first)
        first.send_signal(signal.SIGSTOP)  # the first one goes on when the second one has ended
        second = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
        first.send_signal(signal.SIGCONT)
    assert (first.returncode, second.returncode) == (0, 2)
    assert second.stderr.endswith("is being written by another scan: wait for it, or name another file\n")


# The program with small windows and frequent notes. Ctrl-C during the imports here ends it as it ends the program.
SMALL_WINDOWS = """
try:
    import scanner.rounds.schedule, scanner.cli.state_file
    from scanner.cli.entry import run
except KeyboardInterrupt:
    raise SystemExit(130)
scanner.rounds.schedule.WINDOW_TARGETS, scanner.cli.state_file.INTERVAL = 800, 0.05
run()
"""
FILES = ("scan.jsonl", "scan.csv.gz", "scan.xml")


def until_done(start: Callable[[list[str]], "subprocess.Popen[str]"], folder: Path, rng: random.Random) -> int:
    """Start the program again and again, ending it early, until it says that it is done; how often it was ended."""
    outputs = [text for name in FILES for text in ("-o", str(folder / name))]
    state = folder / "scan.state"
    for turn in range(30):
        process = start([*outputs, "--all", "--resume", str(state)])
        try:
            if turn < 4:
                wait_until_it_scans(process)
                time.sleep(rng.uniform(0.0, 0.5))
                process.send_signal(rng.choice([signal.SIGKILL, signal.SIGINT]))
            _, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
        assert process.returncode in (0, 130, -signal.SIGKILL), said
        if process.returncode == 130 and said:  # else it was ended before it had begun
            assert f"to go on, halfopen {process.args[3]}" in said
        if process.returncode == 0:
            return turn
    raise AssertionError("it never ends")


def each_once(folder: Path) -> list[tuple[str, int]]:
    """The targets of all three files, which must agree and name nobody twice; and the XML is whole."""
    lines = [json.loads(line) for line in (folder / "scan.jsonl").read_text().splitlines()]
    found = sorted((row["ip"], row["port"]) for row in lines)
    table = gzip.decompress((folder / "scan.csv.gz").read_bytes()).decode().splitlines()[1:]
    assert sorted((ip, int(port)) for ip, port in (line.split(",")[:2] for line in table)) == found
    hosts = ElementTree.parse(folder / "scan.xml").getroot().findall("host")
    in_xml = [(host.find("address"), port) for host in hosts for port in host.iter("port")]
    assert sorted((at.get("addr"), int(port.get("portid", 0))) for at, port in in_xml if at is not None) == found
    return found


@pytest.mark.parametrize("seed", range(2))
def test_connect_killed_and_taken_up(seed: int, tmp_path: Path) -> None:
    def start(more: list[str]) -> "subprocess.Popen[str]":
        line = ["connect", "127.0.0.0/28", "-p", "1-400", "--rate", "2500"]
        program = [sys.executable, "-c", SMALL_WINDOWS, *line, *more]
        return subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT)

    until_done(start, tmp_path, random.Random(seed))
    assert each_once(tmp_path) == sorted((f"127.0.0.{low}", port) for low in range(16) for port in range(1, 401))


@live
@pytest.mark.parametrize("seed", range(2))
def test_syn_killed_and_taken_up(seed: int, tmp_path: Path) -> None:
    with direct_box() as box:
        box.listen([80])

        def start(more: list[str]) -> "subprocess.Popen[str]":
            line = ["syn", "198.19.0.0/20", "-p", "80,81", "--rate", "4000"]
            program = [sys.executable, "-c", SMALL_WINDOWS, *line, *more]
            return box.scanner.popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT)

        until_done(start, tmp_path, random.Random(seed))
    every = ((f"198.19.{high}.{low}", port) for high in range(16) for low in range(256) for port in (80, 81))
    assert each_once(tmp_path) == sorted(every)
