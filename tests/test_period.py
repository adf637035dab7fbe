"""`--since` and `--until`: the times that a user may write, and which packets of a capture are read."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from scanner import classify
from scanner.capture.times import moment
from scanner.errors import UsageError
from tests.builders import rst, syn, synack
from tests.capture_files import T, interface, packet, pcap_header, record, section, simple_packet
from tests.command import halfopen

Packet = tuple[int, bytes]  # seconds since T, frame
RAW_IP = 101
TEN = 1_795_341_600  # 2026-11-22 10:00 UTC
MOMENTS = {
    "2026-11-22T10:00:00Z": TEN * 10**9,
    "2026-11-22T10:00:00.25Z": TEN * 10**9 + 250_000_000,
    "2026-11-22 10:00:00.123456789": TEN * 10**9 + 123_456_789,
    "2026-11-22 10:00": TEN * 10**9,
    "2026-11-22 10:00 UTC": TEN * 10**9,
    "2026-11-22t10:00z": TEN * 10**9,
    "2026-11-22T12:00+02:00": TEN * 10**9,
    "2026-11-22 04:30-0530": TEN * 10**9,
    "2026-11-22": (TEN - 36000) * 10**9,
    " 1795341600 ": TEN * 10**9,
    "1795341600.5": TEN * 10**9 + 500_000_000,
    "1970-01-01": 0,
    "0": 0,
}
NO_MOMENTS = ["", "now", "10:00", "2026-11-31", "2026-13-01", "2026-11-22 25:00", "2026-11-22T10", "1e9", "-1", "1,5",
              "1969-12-31", "2026-11-22 10:00+99:00", "20261122T100000", "17953416000000", "१७९५३४१६००"]  # fmt: skip


@pytest.mark.parametrize(("text", "time"), MOMENTS.items())
def test_a_moment(text: str, time: int) -> None:
    assert moment("--since", text) == time


@pytest.mark.parametrize("text", NO_MOMENTS)
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time such as 2026"):
        moment("--since", text)


PACKETS: list[Packet] = [
    (0, syn(dport=1)),
    (1, synack(sport=1)),
    (10, syn(dport=2)),
    (20, rst(sport=2)),
    (30, syn(dport=3)),
    (30, rst(sport=99)),
    (60, syn(dport=4)),
]


def written(path: Path, packets: Sequence[Packet], start: int = T) -> str:
    """A capture of these packets."""
    frames = (record("<", start + time, 0, data) for time, data in packets)
    path.write_bytes(pcap_header(network=RAW_IP) + b"".join(frames))
    return str(path)


OPEN, CLOSED, SILENT = (1, "syn-ack", 1), (2, "reset", 1), (3, "no-response", 1)
# Times as seconds since T; rows as (port, reason, attempts); how many packets are outside.
PERIODS = {
    "from the second probe on": ((10, None), [CLOSED, SILENT, (4, "capture-ended", 1)], 2),
    "the end itself is outside": ((None, 20), [OPEN, (2, "no-response", 1)], 4),
    "only the answer is inside": ((20, 30), [], 6),
    "the period ends too soon after the probe": ((30, 30.9), [(3, "capture-ended", 1)], 5),
    "the period goes on, but no packet does": ((30, 31.1), [SILENT], 5),
    "no packet at all": ((100, 200), [], 7),
    "every packet": ((0, 61), [OPEN, CLOSED, SILENT, (4, "capture-ended", 1)], 0),
}


@pytest.mark.parametrize(("period", "rows", "outside"), PERIODS.values(), ids=PERIODS)
def test_packets_outside_are_counted_and_not_read(
    period: tuple[float | None, float | None], rows: list[tuple[int, str, int]], outside: int, tmp_path: Path
) -> None:
    """A probe that is outside leaves its answer without a probe, as where a capture begins late."""
    since, until = (None if at is None else T + at for at in period)
    reading = classify(written(tmp_path / "a.pcap", PACKETS), since=since, until=until)
    found = [(row.port, row.reason, row.attempts) for row in reading]
    said = [line for line in reading.summary if "--since" in line]
    assert (found, said) == (rows, [f"{outside} packets outside --since/--until"] if outside else [])


def test_packets_without_a_time_are_in_no_period(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    timed = packet("<", 0, T * 10**6, syn(dport=2))
    path.write_bytes(section("<") + interface("<", RAW_IP) + simple_packet("<", syn(dport=1)) + timed)
    reading = classify(str(path), since=T)
    assert ([row.port for row in reading], reading.summary[1]) == (
        [2], "1 packet without a time stamp, so outside --since/--until",
    )  # fmt: skip
    assert [row.port for row in classify(str(path))] == [1, 2]


# ── the command ──


def test_the_command_and_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--since", "2026-11-22 10:00:10", "--until", "2026-11-22T10:00:30Z", "-f", "jsonl", "--stats", "s.json")
    code = halfopen("classify", written(tmp_path / "a.pcap", PACKETS, TEN), *options)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    stats = json.loads((tmp_path / "s.json").read_text())
    assert (code, [row["port"] for row in rows], stats["packets"], stats["outside"]) == (0, [2], 7, 5)


def test_a_ladder_has_the_packets_inside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "a.pcap", [*PACKETS, (40, syn(dport=2, sport=40001))])
    halfopen("classify", path, "--until", str(T + 30), "--ladder", "198.18.1.7:2", "-q")
    drawn = capsys.readouterr().out
    assert (drawn.count("SYN seq"), "40001" in drawn) == (1, False)


WRONG = {
    "the wrong way round": (("--since", "2026-11-23", "--until", "2026-11-22"),
                            "--since 2026-11-23 is not before --until 2026-11-22: no packet is between them"),
    "equal": (("--since", "5", "--until", "5"), "--since 5 is not before --until 5: no packet is between them"),
    "no time": (("--until", "later"),
                "--until 'later' is not a time such as 2026-11-22T10:00:00Z, '2026-11-22 10:00' (UTC) or 1795341600 "
                "(seconds)"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "line"), WRONG.values(), ids=WRONG)
def test_a_period_that_cannot_be(options: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = halfopen("classify", "nothing.pcap", *options)
    assert (code, capsys.readouterr().err) == (2, f"halfopen: {line}\n")
