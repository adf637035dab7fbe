"""Arrow columns: types that nobody has to guess, also where 25,000 silent rows stand in front."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanner import UsageError, Verdict, classify
from scanner.output.arrow import schema
from scanner.verdicts import Verdicts
from tests.libraries import library

DEMO = Path(__file__).parent.parent / "pcaps" / "demo.pcapng.gz"
SILENT = Verdict("192.0.2.1", 1, "filtered", "no-response")
WORDED = Verdict("192.0.2.7", 80, "closed", "reset", "tcp", 63, "http", ("firewall-reset", "late"),
                 0.125, 1700000000.25, 2, "192.0.2.254", "192.0.2.1",
                 window=65160, mss=1460, options="mss,sok,ts,nop,ws=7")  # fmt: skip
DOWN = Verdict("192.0.2.8", None, "down", "no-arp")
NAMES = [field.rstrip("_") for field in Verdict._fields]


def many() -> Verdicts:
    """25,000 rows without evidence, one with, and a host without a port."""

    def batches() -> Iterator[list[Verdict]]:
        yield [SILENT] * 25_000
        yield [WORDED, DOWN]

    return Verdicts([], [], batches())


def test_pyarrow_reads_rows_as_they_are() -> None:
    table = library("pyarrow").table(many())
    assert (table.column_names, str(table.schema.field("evidence").type), str(table.schema.field("port").type)) == (
        NAMES, "list<item: string>", "int32",
    )  # fmt: skip
    rows = table.slice(25_000).to_pylist()
    assert [Verdict(*{**row, "evidence": tuple(row["evidence"])}.values()) for row in rows] == [
        WORDED, DOWN,
    ]  # fmt: skip


def test_polars_reads_rows_as_they_are() -> None:
    polars = library("polars")
    given = polars.from_arrow(many())
    if isinstance(given, polars.Series):  # since polars 2
        given = given.struct.unnest()
    table = polars.DataFrame(many())
    assert table.equals(given)
    found = [row["port"] for row in table.to_dicts() if "late" in row["evidence"]]
    assert (found, table["port"].null_count(), table.height) == ([80], 1, 25_002)


def test_duckdb_reads_rows_as_they_are() -> None:
    duckdb = library("duckdb")
    rows = many()  # found by its name
    found = duckdb.sql("select port, evidence from rows where list_contains(evidence, 'late')").fetchall()
    assert (found, rows.notes) == ([(80, ["firewall-reset", "late"])], [])


def test_a_capture_and_no_rows_at_all() -> None:
    pyarrow = library("pyarrow")
    tables = pyarrow.table(classify(DEMO)), pyarrow.table(classify(DEMO, ports=9))
    assert ([table.num_rows for table in tables], tables[0].schema == tables[1].schema) == ([44, 0], True)


@pytest.mark.parametrize("code", ["raise ImportError('needs NumPy 2.0')", "import pyarrow_is_not_here"])
def test_where_pyarrow_cannot_be_imported_one_line_says_why(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyarrow.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    schema.cache_clear()
    with pytest.raises(UsageError, match=r"\((needs NumPy 2.0|.*pyarrow_is_not_here.*)\): pip install pyarrow$"):
        many().__arrow_c_stream__()
