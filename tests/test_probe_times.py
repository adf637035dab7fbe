"""When each target of a capture was probed, and how often: `first_probe`, `last_probe`, `attempts`."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from scanner.classifier import settle as module
from scanner.classifier.classification import Classification
from scanner.classifier.flow_numbers import NEVER
from scanner.classifier.flows import Flows
from scanner.classifier.judge import judge
from scanner.classifier.rows import rows
from scanner.classifier.settle import retire, settle
from scanner.results.read import read_results
from scanner.verdict.rows import Verdict
from tests.builders import SECOND, batch, rst, syn, synack
from tests.capture_files import T, pcap_header, record, section, simple_packet
from tests.capture_files import interface as described
from tests.command import halfopen

Packet = tuple[int, bytes]  # seconds since T, frame
Sent = tuple[float | None, float | None, int | None]
RAW_IP = 101
ROOT = Path(__file__).resolve().parents[1]


def written(path: Path, packets: Sequence[Packet], start: int = T) -> Path:
    """A capture of these packets."""
    frames = (record("<", start + time, 0, data) for time, data in packets)
    path.write_bytes(pcap_header(network=RAW_IP) + b"".join(frames))
    return path


def rows_of(path: Path, **options: bool) -> list[Verdict]:
    return [row for batch in Classification([str(path)], 0, **options).batches() for row in batch]


def sent_of(path: Path, **options: bool) -> dict[int | None, Sent]:
    return {row.port: (row.first_probe, row.last_probe, row.attempts) for row in rows_of(path, **options)}


AGAIN = syn(dport=1, sport=40001, seq=5)
CASES: dict[str, tuple[list[Packet], Sent]] = {
    "one SYN": ([(4, AGAIN)], (T + 4, T + 4, 1)),
    "the same SYN again": ([(4, AGAIN), (7, AGAIN), (13, AGAIN)], (T + 4, T + 13, 3)),
    "from other source ports": ([(4, AGAIN), (9, syn(dport=1, sport=40002))], (T + 4, T + 9, 2)),
    "with another sequence number": ([(4, AGAIN), (9, syn(dport=1, sport=40001, seq=6))], (T + 4, T + 9, 2)),
    "the later one stands first": ([(9, AGAIN), (4, syn(dport=1)), (7, AGAIN)], (T + 4, T + 9, 3)),
    "behind the answer": ([(4, AGAIN), (5, rst(sport=1, dport=40001, ack=6)), (8, AGAIN)], (T + 4, T + 8, 2)),
    "an echo is no probe": (
        [(4, AGAIN), (9, syn(src="198.18.1.7", dst="198.18.0.1", sport=1, dport=40001, seq=5))],
        (T + 4, T + 4, 1),
    ),
}


@pytest.mark.parametrize(("packets", "expected"), CASES.values(), ids=CASES)
def test_the_syns_of_a_target(packets: list[Packet], expected: Sent, tmp_path: Path) -> None:
    assert sent_of(written(tmp_path / "a.pcap", packets)) == {1: expected}


def test_a_clock_that_was_not_set_says_nothing(tmp_path: Path) -> None:
    """All times are 0: neither the probe, nor the answer, nor the round trip has a time."""
    packets = [(0, syn(dport=1)), (0, syn(dport=2)), (0, synack(sport=2))]
    found = rows_of(written(tmp_path / "a.pcap", packets, 0))
    assert [row[8:10] + row[14:17] for row in found] == [(None, None, None, None, 1)] * 2


def test_packets_without_a_time_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    path.write_bytes(section("<") + described("<", RAW_IP) + simple_packet("<", syn(dport=1)) * 2)
    assert sent_of(path) == {1: (None, None, 2)}


def test_an_answer_without_its_probe_has_no_attempt(tmp_path: Path) -> None:
    assert sent_of(written(tmp_path / "a.pcap", [(4, synack(sport=1))]), orphans=True) == {1: (None, None, 0)}


# In which of nine batches a flow has SYNs, and how many in each; other flows fill the tables.
FORGOTTEN = {
    "more than two bytes can count": (range(9), 10_000),
    "forgotten before it comes again, and after that": ((0, 4), 1),
    "forgotten, and it comes again at the end": ((0, 8), 1),
    "forgotten with two times": ((0, 1), 1),
}


@pytest.mark.parametrize(("turns", "syns"), FORGOTTEN.values(), ids=FORGOTTEN)
@pytest.mark.parametrize("backwards", [False, True])
def test_what_was_forgotten_counts(
    turns: Sequence[int], syns: int, backwards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEW_FLOWS", 4)
    flows = Flows()
    for turn in range(9)[:: -1 if backwards else 1]:
        fresh = flows.count
        frames = [*[AGAIN] * (syns * (turn in turns)), *(syn(dport=turn * 20 + port) for port in range(100, 120))]
        flows.feed(batch(*frames, times=[SECOND * (10 + turn)] * len(frames)))
        retire(flows, fresh)
    assert flows.forgotten.count > 60
    settle(flows)
    (row,) = (row for row in rows(flows, judge(flows, NEVER, False, False).whole()) if row.port == 1)
    assert row[14:17] == (10 + turns[0], 10 + turns[-1], syns * len(turns))


def test_an_early_row_of_a_pipe_has_the_probes_of_its_attempt(tmp_path: Path) -> None:
    packets = [(4, AGAIN), (5, AGAIN), (6, syn(dport=1, sport=40002)), (7, synack(sport=1, dport=40001, ack=6))]
    path = written(tmp_path / "a.pcap", packets)
    done = subprocess.run(
        [sys.executable, "-m", "scanner", "classify", "-", "-f", "jsonl", "-q"],
        cwd=ROOT, input=path.read_bytes(), capture_output=True, check=True,
    )  # fmt: skip
    row = json.loads(done.stdout)
    assert (row["first_probe"], row["last_probe"], row["attempts"], "pass" in row) == (T + 4, T + 5, 2, False)
    assert sent_of(path) == {1: (T + 4, T + 6, 3)}


# ── the formats, and who reads them ──


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_file_of_rows_is_read_with_them(form: str, tmp_path: Path) -> None:
    path, out = written(tmp_path / "a.pcap", CASES["the same SYN again"][0]), tmp_path / f"a.{form}"
    assert halfopen("classify", str(path), "--timeout", "0", "-q", "-o", str(out)) == 0
    assert list(read_results([str(out)], print)) == rows_of(path)


@pytest.mark.parametrize("form", ["jsonl", "csv", "pcap"])
def test_diff_and_report_take_such_files(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = written(tmp_path / "a.pcap", CASES["behind the answer"][0]), tmp_path / f"a.{form}"
    if form != "pcap":
        halfopen("classify", str(path), "--timeout", "0", "-q", "-o", str(out))
    codes = halfopen("diff", str(out), str(out)), halfopen("report", str(out), "-q", "-o", str(tmp_path / "a.html"))
    assert (codes, capsys.readouterr().err.splitlines()) == ((0, 0), ["halfopen: 1 the same"])


def test_a_host_in_xml_begins_with_its_first_probe(tmp_path: Path) -> None:
    path, out = written(tmp_path / "a.pcap", CASES["the same SYN again"][0]), tmp_path / "a.xml"
    halfopen("classify", str(path), "--timeout", "0", "-q", "-o", str(out))
    host = ElementTree.parse(out).find("host")
    assert host is not None
    assert (host.get("starttime"), host.get("endtime")) == (str(T + 4), str(T + 13))
