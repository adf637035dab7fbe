"""Verdicts as Arrow columns, for Parquet files and for programs that read Arrow.

Types are declared here and never guessed from the rows: a scan of 25,000 silent targets has no evidence in its first
rows, and a reader who guesses would lose the words behind them. What is not known is null, and `evidence` is a list
of words, empty where there are none. Times are seconds since 1970 and round trips milliseconds, as in JSON lines.

pyarrow is an extra of the package, and is imported by the functions that need it.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Any

from ..errors import UsageError
from ..verdict.rows import Verdict

BATCH = 1 << 16  # rows
_TYPES = {  # of the columns
    "ip": "string", "port": "int32", "state": "string", "reason": "string", "protocol": "string", "ttl": "int16",
    "service": "string", "evidence": "list", "rtt_ms": "float64", "time": "float64", "pass": "int16",
    "icmp_from": "string", "scanner_ip": "string", "tunnel": "string", "first_probe": "float64",
    "last_probe": "float64", "attempts": "int64", "scan": "int32", "hostname": "string",
    "mac": "string", "vendor": "string", "window": "int32", "mss": "int32", "options": "string",
    "vantage": "string", "capture": "string",
}  # fmt: skip
_ALWAYS = ("ip", "state", "reason")  # columns without nulls


def pyarrow() -> Any:
    """The module. Raises UsageError where it is missing, or does not fit the installed numpy."""
    try:
        import pyarrow
    except ImportError as error:
        raise UsageError(f"Parquet and Arrow need pyarrow ({error}): pip install pyarrow") from error
    return pyarrow


@cache
def schema() -> Any:
    """The pyarrow.Schema of the columns, in the order of the fields of Verdict."""
    pa = pyarrow()
    kinds = {kind: getattr(pa, kind)() for kind in set(_TYPES.values()) - {"list"}} | {"list": pa.list_(pa.string())}
    names = [field.rstrip("_") for field in Verdict._fields]
    return pa.schema([pa.field(name, kinds[_TYPES[name]], name not in _ALWAYS) for name in names])


def batch_of(rows: list[Verdict]) -> Any:
    """Rows as a pyarrow.RecordBatch."""
    pa = pyarrow()
    columns = zip(*rows, strict=True) if rows else [()] * len(Verdict._fields)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema(), strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema())


def batches(rows: Iterator[Verdict]) -> Iterator[Any]:
    """Rows as record batches of at most `BATCH` rows."""
    while piece := list(islice(rows, BATCH)):
        yield batch_of(piece)


def stream_of(rows: Iterable[Verdict], requested_schema: object = None) -> Any:
    """Rows as a capsule of the Arrow C stream interface."""
    reader = pyarrow().RecordBatchReader.from_batches(schema(), batches(iter(rows)))
    return reader.__arrow_c_stream__(requested_schema)
