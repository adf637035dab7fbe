"""`--again`: the targets of earlier results, from every form that can be read back."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from scanner.cli.state_file import StateFile
from scanner.config import TargetOptions, choice_of, ports_of
from scanner.errors import UsageError
from scanner.output import Run, Summary, open_sinks
from scanner.packet.addresses import to_text
from scanner.verdict.rows import Verdict, down_row
from scanner.verdict.table import Reason
from tests.command import halfopen


def row(ip: str, port: int, state: str, **more: object) -> Verdict:
    reason = {"open": "syn-ack", "closed": "reset", "filtered": "no-response"}[state]
    return Verdict(ip, port, state, reason, "tcp", 64, None, (), 1.0, 1.7e9, 1)._replace(**more)  # type: ignore[arg-type]


ROWS = [
    row("198.18.0.2", 22, "open"), row("198.18.0.2", 80, "closed"), row("198.18.0.3", 22, "open"),
    row("198.18.0.3", 443, "filtered"), row("2001:db8::1", 443, "open"), down_row("198.18.0.9", Reason.NO_ARP),
]  # fmt: skip
ALL = {(each.ip, each.port) for each in ROWS if each.port is not None}
OPEN = {(each.ip, each.port) for each in ROWS if each.state == "open"}


def written(folder: Path, name: str, rows: list[Verdict] = ROWS) -> str:
    path = str(folder / name)
    outputs = open_sinks("jsonl", [path], everything=True, run=Run("halfopen", "syn", "1", 1, 1.7e9))
    outputs.write(rows)
    outputs.finish(Summary(""))
    return path


def scanned(*paths: str, only_open: bool = False, **more: object) -> set[tuple[str, int]]:
    options = TargetOptions(again=paths, **more)  # type: ignore[arg-type]
    spaces = choice_of(options, only_open=only_open).spaces(ports_of(options))
    number = np.arange(spaces.size)
    named = zip(to_text(spaces.pick(number)), spaces.space_of(number).tolist(), strict=True)
    return {(ip, port) for ip, space in named for port in spaces.sets[space].tolist()}


@pytest.mark.parametrize("name", ["old.jsonl", "old.csv", "old.xml", "old.jsonl.gz"])
def test_what_a_result_shows_is_scanned_again(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, name)
    assert (scanned(path), scanned(path, only_open=True)) == (ALL, OPEN)


def test_a_capture_is_a_result() -> None:
    path = Path(__file__).resolve().parents[1] / "pcaps" / "any-sll.pcap"
    rows = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    assert scanned(str(path)) == {(each["ip"], each["port"]) for each in rows}


def test_several_results_are_joined(tmp_path: Path) -> None:
    more = [row("198.18.0.2", 8080, "open"), row("198.18.0.7", 22, "open")]
    paths = written(tmp_path, "a.jsonl"), written(tmp_path, "b.csv", more)
    assert scanned(*paths) == ALL | {("198.18.0.2", 8080), ("198.18.0.7", 22)}


def test_excludes_hold(tmp_path: Path) -> None:
    path = written(tmp_path, "old.jsonl")
    assert scanned(path, exclude=("198.18.0.3",), exclude_ports="80") == {("198.18.0.2", 22), ("2001:db8::1", 443)}


def test_further_targets_have_the_ports_of_the_command_line(tmp_path: Path) -> None:
    path = written(tmp_path, "old.jsonl")
    assert scanned(path, targets=("198.18.0.3", "198.18.0.8"), ports="99") == ALL | {
        ("198.18.0.3", 99), ("198.18.0.8", 99)
    }  # fmt: skip


def test_what_cannot_be_reached_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [*ROWS, row("10.0.0.1", 53, "open", protocol="udp"), row("10.0.0.2", 80, "open", tunnel="GRE")]
    options = TargetOptions(again=(written(tmp_path, "old.jsonl", rows),))
    notes = choice_of(options).notes
    assert notes == ["--again leaves out 1 row of udp", "--again leaves out 1 row inside a tunnel"]
    assert scanned(*options.again) == ALL


@pytest.mark.parametrize(("rows", "only_open", "words"), [
    ([], False, "no port to probe is in these results"),
    ([down_row("198.18.0.9", Reason.NO_ARP)], False, "no port to probe is in these results"),
    ([row("198.18.0.2", 80, "closed")], True, "no open port to probe is in these results"),
])  # fmt: skip
def test_a_result_without_targets_is_refused(rows: list[Verdict], only_open: bool, words: str, tmp_path: Path) -> None:
    path = written(tmp_path, "old.jsonl", rows)
    with pytest.raises(UsageError, match=words):
        scanned(path, only_open=only_open)


MASSCAN = """<?xml version="1.0"?><nmaprun scanner="masscan" version="1.0-BETA" xmloutputversion="1.03">
<host endtime="1"><address addr="198.18.0.2" addrtype="ipv4"/><ports><port protocol="tcp" portid="22">
<state state="open" reason="syn-ack" reason_ttl="64"/></port></ports></host>
<host endtime="1"><address addr="198.18.0.2" addrtype="ipv4"/><ports><port protocol="tcp" portid="80">
<state state="open" reason="syn-ack" reason_ttl="64"/></port></ports></host></nmaprun>"""


def test_masscan_has_a_host_for_each_port(tmp_path: Path) -> None:
    (tmp_path / "old.xml").write_text(MASSCAN)
    assert scanned(str(tmp_path / "old.xml")) == {("198.18.0.2", 22), ("198.18.0.2", 80)}


NO_RESULTS = {
    "old.gnmap": (b"Host: 198.18.0.2 ()\tPorts: 22/open/tcp//ssh///\n", "line 1: is no result that halfopen can read"),
    "old.parquet": (b"PAR1\x15\x04PAR1", "line 1: is no result that halfopen can read back"),
    "old.json": (b'[\n{"ip": "198.18.0.2", "ports": [{"port": 22}]}\n]\n', "is no result that halfopen can read back"),
    "old.list": (b"198.18.0.2:22\n", "is a list of targets, as -f list writes it: give it to -iL"),
    "old.list.gz": (b"", "is a list of targets, as -f list writes it: give it to -iL"),
}


@pytest.mark.parametrize("name", NO_RESULTS)
def test_other_files_are_refused(name: str, tmp_path: Path) -> None:
    content, said = NO_RESULTS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=said):
        scanned(str(tmp_path / name))


def test_rows_with_names_and_links(tmp_path: Path) -> None:
    """The address of a row counts, and -e says which link is meant."""
    rows = [row("198.18.0.2", 22, "open", hostname="web.example"), row("fe80::1", 22, "open")]
    assert scanned(written(tmp_path, "old.csv", rows)) == {("198.18.0.2", 22), ("fe80::1", 22)}


def test_a_link_local_row_needs_an_interface(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "old.jsonl", [row("fe80::1", 22, "open")])
    assert halfopen("plan", "--again", path) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("write fe80::1%eth0, or choose one with -e")


def test_standard_input_is_read_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert halfopen("plan", "--again", "-", "-iL", "-") == 2
    assert capsys.readouterr().err.startswith("halfopen: standard input (-) is named twice, and can be read once")


AGAIN = {("127.0.0.1", 1), ("127.0.0.2", 2), ("127.0.0.2", 3), ("127.0.0.3", 1)}


def results(folder: Path) -> str:
    return written(folder, "old.jsonl", [row(ip, port, "open") for ip, port in sorted(AGAIN)])


def scanned_rows(path: str) -> list[tuple[str, int]]:
    return sorted((each["ip"], each["port"]) for each in map(json.loads, Path(path).read_text().splitlines()))


def test_shards_share_the_targets_of_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ("connect", "--again", results(tmp_path), "--seed", "7", "-q", "-f", "csv")
    for number in (1, 2):
        assert halfopen(*line, "--shard", f"{number}/2", "-o", f"{number}.jsonl") == 0
    found = [scanned_rows(f"{number}.jsonl") for number in (1, 2)]
    assert (sorted(chain(*found)), min(map(len, found)) > 0) == (sorted(AGAIN), True)


def test_a_scan_of_a_result_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only with the same result: its targets are compared."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(StateFile, "remove", lambda self: None)  # as if the first part had been killed
    line = ("connect", "--again", results(tmp_path), "-o", "new.jsonl", "--resume", "scan.state", "-q")
    assert [halfopen(*line), halfopen(*line)] == [0, 0]
    assert scanned_rows("new.jsonl") == sorted(AGAIN)
    (tmp_path / "old.jsonl").unlink()
    written(tmp_path, "old.jsonl", [row("127.0.0.1", 2, "open")])
    capsys.readouterr()
    assert halfopen(*line) == 2
    assert "scan.state" in capsys.readouterr().err


def test_the_command_refuses_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old.csv").write_text("ip,port,state,reason\n")
    code = halfopen("plan", "--again", str(tmp_path / "old.csv"))
    said = capsys.readouterr()
    assert (code, said.out, len(said.err.splitlines())) == (2, "", 1)


def test_the_plan_of_open_ports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(
        tmp_path,
        "old.jsonl",
        [row("127.0.0.1", 22, "open"), row("127.0.0.2", 80, "closed"), row("127.0.0.3", 443, "open")],
    )
    capsys.readouterr()
    assert halfopen("plan", "--again", path, "--open") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line[11:] for line in lines[:3]) == [
        "1 address × 1 port (22)",
        "1 address × 1 port (443)",
        "2 targets",
    ]
