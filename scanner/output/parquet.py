"""Parquet: columns with types, in groups of rows, for pandas, polars, DuckDB and whatever else reads such files.

Rows are gathered until a group is full, and leave as one group: readers are slow with many small ones, and memory
stays flat. The end of the file says where its groups are. So a file without its end (`kill -9`, a full disk) cannot be
read, and a file cannot be gone on with: `--resume` refuses it. The columns and their types are those of `arrow`.

Limit: not to standard output, which is text.
"""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

from ..errors import UsageError
from ..verdict.rows import Verdict
from .arrow import BATCH, batch_of, pyarrow, schema
from .stream import Format, Summary


def check_parquet(path: str, resume: bool) -> None:
    """Refuse a file that cannot be written. Imports nothing: threads of a library would keep the rights of root."""
    if resume:
        raise UsageError(f"{path} cannot be continued by a later part, because the end of a Parquet file is written "
                         "once: with --resume name a .jsonl or .csv file")  # fmt: skip
    if find_spec("pyarrow") is None:
        raise UsageError(f"{path} needs pyarrow: pip install pyarrow, or name a .jsonl or .csv file")


def parquet_format() -> Format:
    """The Format of one file. Raises UsageError where pyarrow is missing."""
    file = _Parquet()
    return Format(file.texts, end=file.end)


class _Pieces:
    """The file that pyarrow writes to: bytes that are taken out again."""

    closed = False

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._place = 0

    def write(self, data: Any) -> int:
        self._held.append(bytes(data))
        self._place += len(self._held[-1])
        return len(self._held[-1])

    def tell(self) -> int:
        return self._place

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        """What was written since the last call."""
        held, self._held = b"".join(self._held), []
        return held


class _Parquet:
    """A file that is being written."""

    def __init__(self) -> None:
        pyarrow()
        from pyarrow.parquet import ParquetWriter

        self._pieces, self._rows = _Pieces(), list[Verdict]()
        self._writer = ParquetWriter(self._pieces, schema(), compression="zstd")

    def texts(self, verdicts: Iterable[Verdict]) -> Iterator[bytes]:
        """A batch → the groups that it has filled."""
        for row in verdicts:
            self._rows.append(row)
            if len(self._rows) == BATCH:
                yield self._group()

    def end(self, summary: Summary) -> bytes:
        """The last group, and the end of the file."""
        last = self._group() if self._rows else b""
        self._writer.close()
        return last + self._pieces.take()

    def _group(self) -> bytes:
        self._writer.write_batch(batch_of(self._rows))
        self._rows = []
        return self._pieces.take()
