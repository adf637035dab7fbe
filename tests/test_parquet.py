"""Parquet files, and JSON lines for readers that guess types."""

import json
import os
import re
import shutil
import subprocess
import sys
from numbers import Integral
from pathlib import Path
from typing import Any

import pytest

from scanner import Verdict, classify
from scanner.output import Summary, open_sinks
from scanner.output.jsonl import line
from tests.command import halfopen
from tests.libraries import library

ROOT = Path(__file__).parents[1]
CAPTURE = "demo.pcapng.gz"
SILENT = Verdict("192.0.2.1", 1, "filtered", "no-response")
WORDED = Verdict("192.0.2.7", 80, "closed", "reset", "tcp", 63, "http", ("firewall-reset", "late"),
                 0.125, 1700000000.25, 2, "192.0.2.254", "192.0.2.1",
                 window=65160, mss=1460, options="mss,sok,ts,nop,ws=7")  # fmt: skip
DOWN = Verdict("192.0.2.8", None, "down", "no-arp")
ROWS = [SILENT] * 25_000 + [WORDED, DOWN]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a capture."""
    shutil.copy(ROOT / "pcaps" / CAPTURE, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_has_the_rows_of_the_command_with_their_types(capsys: pytest.CaptureFixture[str]) -> None:
    parquet = library("pyarrow.parquet")
    assert halfopen("classify", CAPTURE, "-q", "-o", "scan.parquet", "-f", "jsonl") == 0
    table = parquet.read_table("scan.parquet")
    known = [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]
    expected = [
        {name: value for name, value in json.loads(row).items() if value is not None}
        for row in capsys.readouterr().out.splitlines()
    ]
    types = {name: str(table.schema.field(name).type) for name in ("port", "ttl", "evidence", "time")}
    assert [{**row, "rtt_ms": 0} for row in known] == [{**row, "rtt_ms": 0} for row in expected]
    assert types == {"port": "int32", "ttl": "int16", "evidence": "list<element: string>", "time": "double"}


def test_rows_leave_in_groups_while_a_scan_runs() -> None:
    parquet = library("pyarrow.parquet")
    outputs = open_sinks("list", ["scan.parquet"])
    for _ in range(5):
        outputs.write(ROWS)
    early = Path("scan.parquet").stat().st_size
    outputs.finish(Summary())
    found = parquet.ParquetFile("scan.parquet")
    groups = [found.metadata.row_group(each).num_rows for each in range(found.num_row_groups)]
    assert (early > 100, groups, found.read().slice(25_000, 2).to_pylist()[0]["evidence"]) == (
        True, [65_536, 5 * 25_002 - 65_536], ["firewall-reset", "late"],
    )  # fmt: skip


def test_no_rows_make_a_file_too() -> None:
    parquet = library("pyarrow.parquet")
    assert halfopen("classify", CAPTURE, "-q", "-p", "9", "-o", "scan.parquet") == 0
    assert (parquet.read_table("scan.parquet").num_rows, parquet.read_schema("scan.parquet").names[:2]) == (
        0, ["ip", "port"],
    )  # fmt: skip


def test_a_full_disk_says_what_is_left_of_the_file() -> None:
    library("pyarrow")
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from scanner.cli.entry import run; run()"
    )
    line = [sys.executable, "-c", script, "classify", CAPTURE, "-q", "-f", "list", "-o", "scan.parquet"]
    done = subprocess.run(line, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    said = "halfopen: scan.parquet: File too large; without its end the file cannot be read: make room"
    assert (done.returncode, done.stderr.split(",")[0]) == (1, said)


REFUSED = {
    "without pyarrow": (("-o", "scan.parquet"), "scan.parquet needs pyarrow: pip install pyarrow"),
    "packed": (("-o", "scan.parquet.gz"), "'scan.parquet.gz': a Parquet file is packed inside, so leave .gz out"),
    "on standard output": (("-f", "parquet"), "standard output is text, and Parquet is not"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_written_is_one_line(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code = halfopen("classify", CAPTURE, *arguments)
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n"), said.err.startswith(f"halfopen: {message}")) == (2, "", 1, True)
    assert sorted(path.name for path in Path().iterdir()) == [CAPTURE]


def test_a_scan_that_may_be_resumed_refuses_parquet(capsys: pytest.CaptureFixture[str]) -> None:
    code = halfopen("connect", "127.0.0.1", "-p", "1", "-o", "scan.parquet", "--resume", "scan.state")
    said = capsys.readouterr().err
    assert (code, said.count("\n"), said.startswith("halfopen: scan.parquet cannot be continued by a later part")) == (
        2,
        1,
        True,
    )


def test_a_file_that_only_has_the_name_of_a_parquet_file_is_no_parquet_file() -> None:
    code = halfopen("connect", "127.0.0.1", "-p", "1", "-q", "-oX", "scan.parquet", "--resume", "scan.state")
    assert (code, Path("scan.parquet").read_bytes()[:5]) == (0, b"<?xml")


BLOCKS = re.findall(r"^```py\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.S | re.M)
READERS = {re.findall(r"import (\w+)", code)[0]: code for code in BLOCKS}
TOTAL = {
    "pandas": lambda rows: [row for row in rows.to_dict("records") if "late" in str(row["evidence"])],
    "polars": lambda rows: [row for row in rows.to_dicts() if row["evidence"] and "late" in row["evidence"]],
    "duckdb": lambda rows: [
        dict(zip(rows.columns, row, strict=True)) for row in rows.filter("list_contains(evidence, 'late')").fetchall()
    ],
}


@pytest.mark.parametrize("name", ["polars", "duckdb"])  # they read no column that is not named
def test_the_readmes_call_names_every_column(name: str) -> None:
    assert {field.rstrip("_") for field in Verdict._fields} - set(re.findall(r"\w+", READERS[name])) == set()


@pytest.mark.parametrize("name", TOTAL)
def test_the_readmes_call_reads_json_lines_with_their_types(name: str) -> None:
    library(name)
    Path("scan.jsonl").write_text("".join(map(line, ROWS)))
    found: dict[str, Any] = {}
    exec(compile(READERS[name], "README.md", "exec"), found)
    (row,) = TOTAL[name](found["rows"])
    expected = json.loads(line(WORDED))
    assert ({key: list(row[key]) if key == "evidence" else row[key] for key in expected}, len(found["rows"])) == (
        expected, len(ROWS),
    )  # fmt: skip


@pytest.mark.parametrize("name", TOTAL)
def test_an_unknown_port_is_null_and_no_number(name: str) -> None:
    library(name)
    Path("scan.jsonl").write_text("".join(map(line, ROWS)))
    found: dict[str, Any] = {}
    exec(compile(READERS[name], "README.md", "exec"), found)
    rows = found["rows"]
    ports = [row[0] for row in rows.project("port").fetchall()] if name == "duckdb" else rows["port"]
    whole = [port for port in list(ports) if isinstance(port, Integral)]
    assert (len(whole), sum(whole)) == (25_001, 25_000 + 80)


def test_a_capture_gives_the_same_columns_as_the_file() -> None:
    pyarrow, parquet = library("pyarrow"), library("pyarrow.parquet")
    assert halfopen("classify", CAPTURE, "-q", "-o", "scan.parquet") == 0
    assert parquet.read_table("scan.parquet").to_pylist() == pyarrow.table(classify(CAPTURE)).to_pylist()
