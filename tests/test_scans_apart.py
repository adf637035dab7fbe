"""`--gap`: scans of one target that are further apart than the gap have rows of their own."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanner import classify
from scanner.capture.reader import open_captures
from scanner.capture.times import duration
from scanner.classifier import scan_times
from scanner.classifier import settle as module
from scanner.classifier.classification import Classification
from scanner.classifier.keys import TargetKey
from scanner.packet.headers import Frames
from scanner.results.read import read_results
from scanner.verdict.rows import Verdict
from tests.builders import rst, segment, syn, synack, unreachable
from tests.capture_files import T, pcap_header, record
from tests.command import halfopen
from tests.golden import captures
from tests.tunnels import WRAPS

Packet = tuple[float, bytes]  # seconds since T, frame
Brief = tuple[int | None, int | None, str, int | None]  # port, scan, reason, attempts
ETHERNET, RAW_IP, HOUR = 1, 101, 3600


def written(path: Path, packets: Sequence[Packet], link: int = RAW_IP) -> str:
    frames = (record("<", T + int(time), round(time % 1 * 1e6), data) for time, data in packets)
    path.write_bytes(pcap_header(network=link) + b"".join(frames))
    return str(path)


def rows_of(path: str, gap: float = HOUR, **options: bool) -> list[Verdict]:
    reading = Classification([path], 0, gap=int(gap * 1e9), **options)
    return [row for batch in reading.batches() for row in batch]


def brief(rows: Sequence[Verdict]) -> list[Brief]:
    return [(row.port, row.scan, row.reason, row.attempts) for row in rows]


def probe(port: int, run: int, turn: int = 0) -> bytes:
    return syn(dport=port, sport=40000 + turn, seq=1000 * run + turn)


def answer(port: int, run: int, turn: int = 0, closed: bool = False) -> bytes:
    make = rst if closed else synack
    return make(sport=port, dport=40000 + turn, ack=1000 * run + turn + 1)


SAME, SAME_ANSWER = syn(dport=1, sport=20, seq=0), synack(sport=1, dport=20, ack=1)  # as Scapy does
CASES: dict[str, tuple[list[Packet], list[Brief]]] = {
    "one scan": ([(0, probe(1, 0)), (HOUR, probe(1, 0, 1)), (HOUR + 1, answer(2, 0))], [(1, 1, "no-response", 2)]),
    "a second more than the gap": (
        [(0, probe(1, 0)), (HOUR + 1, probe(1, 1)), (HOUR + 2, answer(1, 1))],
        [(1, 1, "no-response", 1), (1, 2, "syn-ack", 1)],
    ),
    "SYNs between them": (
        [(0, probe(1, 0)), (HOUR, probe(1, 0, 1)), (2 * HOUR, probe(1, 0, 2)), (2 * HOUR + 1, answer(1, 0, 2))],
        [(1, 1, "syn-ack", 3)],
    ),
    "the same SYN in each": (
        [
            (0, SAME),
            (1, SAME_ANSWER),
            (2 * HOUR, SAME),
            (4 * HOUR, SAME),
            (4 * HOUR + 1, rst(sport=1, dport=20, ack=1)),
        ],
        [(1, 1, "syn-ack", 1), (1, 2, "no-response", 1), (1, 3, "reset", 1)],
    ),
    "targets have their own scans": (
        [(0, probe(1, 0)), (2 * HOUR, probe(1, 1)), (2 * HOUR, probe(2, 1)), (2 * HOUR + 1, answer(2, 1))],
        [(1, 1, "no-response", 1), (2, 1, "syn-ack", 1), (1, 2, "no-response", 1)],
    ),
    "an answer that comes in the next scan": (
        [
            (0, probe(1, 0)),
            (2 * HOUR, probe(1, 1)),
            (2 * HOUR + 1, answer(1, 0)),
            (2 * HOUR + 2, answer(1, 1, 0, True)),
        ],
        [(1, 1, "syn-ack", 1), (1, 2, "reset", 1)],
    ),
    "an ICMP error": (
        [(0, probe(1, 0)), (2 * HOUR, probe(1, 1)), (2 * HOUR + 1, unreachable(quoting=probe(1, 1)))],
        [(1, 1, "no-response", 1), (1, 2, "host-unreach", 1)],
    ),
    "two ways through the same hosts": (  # a simultaneous open in the second scan (RFC 9293, 3.5)
        [
            (0, probe(443, 0)),
            (2 * HOUR, syn(seq=1000)),
            (2 * HOUR + 1, segment("S", seq=77, ack=0)),
            (2 * HOUR + 2, synack(seq=77)),
        ],
        [(443, 1, "no-response", 1), (443, 2, "syn-ack", 1)],
    ),
}


ORDERS = {"in time": 1, "backwards": -1, "shuffled": 0}


@pytest.mark.parametrize(("packets", "expected"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("few", [1, 1 << 19])
def test_scans(
    packets: list[Packet], expected: list[Brief], order: int, few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order of the packets, and however few flows the tables hold."""
    monkeypatch.setattr(module, "FEW_FLOWS", few)
    shuffled = [packets[at] for at in np.random.default_rng(3).permutation(len(packets))]
    path = written(tmp_path / "a.pcap", packets[::order] if order else shuffled)
    assert sorted(brief(rows_of(path)), key=lambda row: row[:2]) == sorted(expected, key=lambda row: row[:2])


@pytest.mark.parametrize("path", captures(), ids=lambda path: path.name)
def test_a_capture_of_one_scan_has_the_same_rows(path: Path) -> None:
    """With the number of the scan, and whatever else the capture holds."""
    plain, apart = (Classification([str(path)], 0, gap=gap) for gap in (0, 10 * HOUR * 10**9))
    rows = [row for batch in plain.batches() for row in batch]
    assert [row for batch in apart.batches() for row in batch] == [row._replace(scan=1) for row in rows]
    assert apart.as_report() == plain.as_report()


def frames_of(path: Path) -> tuple[set[int], list[tuple[int, bytes]]]:
    """The link types of a capture, and its frames with their times in ns."""
    links: set[int] = set()
    frames = []
    for batch in open_captures([str(path)]):
        links |= set(batch.link.tolist())
        ends = zip(batch.time.tolist(), batch.start.tolist(), (batch.start + batch.length).tolist(), strict=True)
        frames += [(time, batch.buffer[start:end].tobytes()) for time, start, end in ends]
    return links, frames


def later(row: Verdict, seconds: int) -> Verdict:
    """The same row in a capture that was made later."""
    times = {name: getattr(row, name) for name in ("time", "first_probe", "last_probe")}
    moved = {name: None if time is None else round(time + seconds, 6) for name, time in times.items()}
    return row._replace(**moved)


def doubled(report: Any) -> Any:
    """With all numbers twice as large."""
    if isinstance(report, dict):
        return {name: doubled(value) for name, value in report.items()}
    return report * 2 if type(report) is int else report


@pytest.mark.parametrize("orphans", [False, True])
@pytest.mark.parametrize("turned", [False, True], ids=["in time", "the second first"])
@pytest.mark.parametrize("path", captures(), ids=lambda path: path.name)
def test_a_capture_that_happens_twice_has_its_rows_twice(
    path: Path, turned: bool, orphans: bool, tmp_path: Path
) -> None:
    """The same packets ten hours later: states, evidence and round trips are those of each scan alone."""
    links, frames = frames_of(path)
    assert len(links) == 1
    shift, head = 10 * HOUR, pcap_header(magic=0xA1B23C4D, network=links.pop())
    parts = [
        b"".join(record("<", time // 10**9 + more, time % 10**9, data) for time, data in frames) for more in (0, shift)
    ]
    (tmp_path / "one.pcap").write_bytes(head + parts[0])
    (tmp_path / "two.pcap").write_bytes(head + b"".join(parts[::-1] if turned else parts))
    paths = [str(tmp_path / "one.pcap"), str(tmp_path / "two.pcap")]
    one, two = (Classification([path], 0, orphans, gap=5 * HOUR * 10**9) for path in paths)
    rows, twice = ([later(row, 0) for batch in each.batches() for row in batch] for each in (one, two))
    assert [row for row in twice if row.scan == 1] == rows
    assert [row._replace(scan=1) for row in twice if row.scan == 2] == [later(row, shift) for row in rows]
    assert len(twice) == 2 * len(rows)
    once, again = ({**each.as_report(), "without_probe": 0} for each in (one, two))  # see --orphans
    assert again == doubled(once)


TWO: list[Packet] = [
    (0, probe(1, 0)),
    (1, answer(1, 0)),
    (2, probe(2, 0)),
    (2 * HOUR, probe(1, 1)),
    (2 * HOUR + 1, answer(1, 1, 0, True)),
]
ROWS: list[Brief] = [(1, 1, "syn-ack", 1), (2, 1, "no-response", 1), (1, 2, "reset", 1)]


@pytest.mark.parametrize("kind", WRAPS)
def test_scans_in_tunnels(kind: str, tmp_path: Path) -> None:
    wrap, name = WRAPS[kind]
    rows = rows_of(written(tmp_path / "a.pcap", [(time, wrap(frame, 7)) for time, frame in TWO], ETHERNET))
    assert (brief(rows), {row.tunnel for row in rows}) == (ROWS, {name})


def test_scans_in_both_families(tmp_path: Path) -> None:
    six = [(0, syn(6, dport=9)), (2 * HOUR, syn(6, dport=9, seq=5)), (2 * HOUR, synack(6, sport=9, ack=6))]
    rows = rows_of(written(tmp_path / "a.pcap", [*TWO, *six]))
    assert brief(rows) == [*ROWS, (9, 1, "no-response", 1), (9, 2, "syn-ack", 1)]


def test_times_are_those_of_the_scan(tmp_path: Path) -> None:
    again = (2 * HOUR + 5, probe(1, 1))
    *_, last = rows_of(written(tmp_path / "a.pcap", [*TWO, again]))
    assert (last.first_probe, last.last_probe, last.attempts, last.rtt_ms) == (T + 2 * HOUR, T + 2 * HOUR + 5, 2, None)


ORPHANS = [(0, answer(1, 0)), (1, answer(1, 0, 1)), (2 * HOUR, rst(sport=1, dport=40000, seq=0))]


def test_answers_without_a_probe_belong_to_scans_by_their_time(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pcap", ORPHANS)
    assert brief(rows_of(path, orphans=True)) == [(1, 1, "syn-ack", 0), (1, 2, "reset", 0)]
    assert rows_of(path) == []


def test_a_long_scan_in_a_shuffled_capture_is_one(tmp_path: Path) -> None:
    """Five thousand SYNs, 50 minutes apart, and then a second scan."""
    packets = [(turn * 3000, probe(1, turn)) for turn in range(5000)] + [(5001 * 3000 + 700, probe(1, 5001))]
    shuffled = [packets[at] for at in np.random.default_rng(5).permutation(len(packets))]
    rows = rows_of(written(tmp_path / "a.pcap", shuffled))
    assert [(row.scan, row.attempts) for row in rows] == [(1, 5000), (2, 1)]


@pytest.mark.parametrize("seed", range(5))
def test_random_times(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many scans as a list of sorted times shows, also where intervals are joined early."""
    monkeypatch.setattr(scan_times, "_MOST_LOOSE", 10)
    draw = np.random.default_rng(seed)
    times = [np.sort(draw.integers(0, 40 * HOUR, draw.integers(1, 40))) for _ in range(30)]
    packets = [(float(time), probe(port, turn)) for port, own in enumerate(times) for turn, time in enumerate(own)]
    shuffled = [packets[at] for at in draw.permutation(len(packets))]
    expected = []
    for port, own in enumerate(times):
        scans = np.split(own, np.flatnonzero(np.diff(own) > HOUR) + 1)
        expected += [(port, at, T + scan[0], T + scan[-1], len(scan)) for at, scan in enumerate(scans, 1)]
    paths = [written(tmp_path / f"{at}.pcap", shuffled[at::3]) for at in range(3)]
    reading = Classification(paths, 0, gap=HOUR * 10**9)
    rows = [row for batch in reading.batches() for row in batch]
    found = [(row.port, row.scan, row.first_probe, row.last_probe, row.attempts) for row in rows]
    assert sorted(found) == sorted(expected)


def test_times_that_come_one_by_one() -> None:
    """In random order: a time may be far from all others when it comes, and within an interval later."""
    for seed in range(400):
        draw = np.random.default_rng(seed)
        times, found = np.unique(draw.integers(0, draw.integers(20, 400), draw.integers(5, 60))), scan_times.Times(5)
        for time in draw.permutation(times):
            found.add(TargetKey(*np.array([[1], [2], [3]])), np.array([time]))
        scans = np.split(times, np.flatnonzero(np.diff(times) > 5) + 1)
        _, first, last = found.intervals()
        expected = [(scan[0], scan[-1]) for scan in scans] if len(scans) > 1 else []
        assert list(zip(first, last, strict=True)) == expected


def test_packets_outside_a_period_join_no_scans(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pcap", [(0, probe(1, 0)), (HOUR, probe(1, 1)), (2 * HOUR, probe(1, 2))])
    reading = classify(path, timeout=0, gap="1h")
    assert [row.scan for row in reading] == [1]
    parts = [classify(path, timeout=0, gap=HOUR, since=since, until=T + 3 * HOUR) for since in (T, T + 1)]
    assert [[row.attempts for row in part] for part in parts] == [[3], [2]]
    assert parts[1].summary[1] == "1 packet outside --since/--until"


# ── the command, the formats, and who reads them ──


@pytest.mark.parametrize("form", ["jsonl", "csv", "xml"])
def test_files_hold_the_number_of_the_scan(form: str, tmp_path: Path) -> None:
    path, out = written(tmp_path / "a.pcap", TWO), tmp_path / f"a.{form}"
    halfopen("classify", path, "--timeout", "0", "--gap", "90m", "-q", "-o", str(out))
    read = [(row.port, row.scan, row.reason) for row in read_results([str(out)], print)]
    assert read == [row[:3] for row in ROWS]


def test_without_the_option_there_is_no_such_column(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pcap", TWO)
    for form in ("jsonl", "csv"):
        halfopen("classify", path, "-q", "-o", str(tmp_path / f"a.{form}"))
        assert "scan" not in (tmp_path / f"a.{form}").read_text().replace("scanner_ip", "")


def test_the_table_names_the_scans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    halfopen("classify", written(tmp_path / "a.pcap", TWO), "--timeout", "0", "--gap", "1h", "-q")
    lines = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["198.18.1.7,", "scan", "1"],
        ["PORT", "STATE", "REASON"],
        ["1/tcp", "open", "syn-ack"],
        ["2/tcp", "filtered", "no-response"],
        [],
        ["198.18.1.7,", "scan", "2"],
        ["PORT", "STATE", "REASON"],
        ["1/tcp", "closed", "reset"],
    ]


def test_numbers_are_those_of_one_reading(tmp_path: Path) -> None:
    stats = tmp_path / "s.json"
    path = written(tmp_path / "a.pcap", [(time, WRAPS["gre"][0](frame, 7)) for time, frame in TWO], ETHERNET)
    halfopen("classify", path, "--gap", "1h", "-q", "--stats", str(stats))
    found = json.loads(stats.read_text())
    assert (found["packets"], found["probes"], found["targets"], found["tunnels"]) == (5, 3, 3, {"gre": 5})


def test_diff_takes_one_scan_on_each_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = written(tmp_path / "a.pcap", TWO), str(tmp_path / "a.jsonl")
    halfopen("classify", path, "--timeout", "0", "--gap", "1h", "-q", "-o", out)
    capsys.readouterr()
    code = halfopen("diff", path, out)
    assert (code, capsys.readouterr()) == (
        2,
        ("", f"halfopen: {out} holds several scans of a target (classify --gap), and diff compares one with another: "
             "choose one for each side with classify --since and --until\n"),
    )  # fmt: skip


def test_report_shows_every_scan(tmp_path: Path) -> None:
    path, out, page = written(tmp_path / "a.pcap", TWO), str(tmp_path / "a.jsonl"), tmp_path / "a.html"
    halfopen("classify", path, "--timeout", "0", "--gap", "1h", "-q", "-o", out)
    assert halfopen("report", out, "-q", "-o", str(page)) == 0
    assert '"scan":[1,1,-1]' in page.read_text().replace(" ", "")  # differences: 1 2 1


WRONG = {
    "standard input": (("-", "--gap", "1h"),
                       "--gap reads a capture twice, and standard input can be read once: name a file"),
    "a pipe": (("pipe", "--gap", "1h"), "--gap reads a capture twice, and pipe can be read once: name a file"),
    "no duration": (("a.pcap", "--gap", "soon"), "--gap 'soon' is not a duration such as 90s, 30m, 1h or 2d"),
    "nothing": (("a.pcap", "--gap", "0"), "--gap '0' is not a duration such as 90s, 30m, 1h or 2d"),
    "below 0": (("a.pcap", "--gap=-1h"), "--gap '-1h' is not a duration such as 90s, 30m, 1h or 2d"),
    "too long": (("a.pcap", "--gap", "99999d"), "--gap '99999d' is not a duration such as 90s, 30m, 1h or 2d"),
    "a ladder": (("a.pcap", "--gap", "1h", "--ladder"),
                 "--ladder draws all scans of a target: choose one with --since and --until, without --gap"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "line"), WRONG.values(), ids=WRONG)
def test_a_gap_that_cannot_be(
    arguments: tuple[str, ...], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    written(Path("a.pcap"), TWO)
    assert (halfopen("classify", *arguments), capsys.readouterr()) == (2, ("", f"halfopen: {line}\n"))


@pytest.mark.parametrize("text", ["60m", "1h", "1H", "3600", "3600s", "0.5h", "0.0416d"])
def test_durations(text: str, tmp_path: Path) -> None:
    rows = rows_of(written(tmp_path / "a.pcap", TWO), duration("--gap", text) / 1e9)
    assert brief(rows) == ROWS


def test_what_was_read_before_ctrl_c_has_its_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the first reading: the second one ends at the same packet."""
    paths = [written(tmp_path / f"{at}.pcap", [TWO[at]]) for at in range(5)]
    reading = Classification(paths, 0, gap=HOUR * 10**9)
    batches = reading.capture.batches

    def stopped() -> Iterator[Frames]:
        for frames in batches:
            yield frames
            if reading.capture.frames >= 4:
                reading.capture.stop()
                return

    reading.capture.batches = stopped()
    rows = [row for batch in reading.batches() for row in batch]
    assert (brief(rows), reading.interrupted) == (
        [(1, 1, "syn-ack", 1), (2, 1, "no-response", 1), (1, 2, "no-response", 1)], True,
    )  # fmt: skip
