"""Several results → one: what files are read how, and their rows in order, each target once (`merging`).

A file whose rows are in order is read as it is merged, a row at a time. What is not in order goes through the external
sort (`sorting`): results of scans, captures, and whatever comes through a pipe. Whether a file is in order is known for
sure only at its end, and looking there first would mean to read it twice. So a file that begins in order is taken for
one that is. If it is not, `Unforeseen` ends the work, and the caller begins again with `streaming=False`. That is
possible because no output file has its name before all of them are whole.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise

from ..targets.files import Tell
from ..verdict.rows import Verdict
from .captures import Note
from .merging import Keyed, key_of, merged, side_by_side
from .opened import is_text
from .read import read_results
from .sorting import MOST_RUNS, Sorter

LOOKED_AT = 1000  # rows at the beginning of a file
_MORE = ("scan", "vantage", "capture")
_NONE: frozenset[str] = frozenset()
BATCH = 1 << 12  # rows, and all of the host to which the last one belongs


class Unforeseen(Exception):
    """A file that began like one in order went on otherwise."""


class Merge:
    """Files, read as far as needed to give their rows in order. Used in a `with` block, which removes temporary files.

    `rows`: how many were read. `more`: which of the columns `scan`, `vantage` and `capture` some rows have.
    """

    def __init__(
        self, paths: Sequence[str], room: int, note: Note, tell: Tell | None = None, streaming: bool = True
    ) -> None:
        """`room`: bytes of memory; 0: no limit."""
        self.rows = 0
        self._more: set[str] = set()
        self._paths, self._note, self._tell = paths, note, tell
        self._streaming = streaming and len(paths) <= MOST_RUNS
        self._in_order: list[str] = []
        self._sorter = Sorter(room)

    def __enter__(self) -> "Merge":
        """Read and sort what is not in order. Raises UsageError, ScanError."""
        try:
            self._in_order = [path for path in self._paths if self._streaming and self._begins_in_order(path)]
            others = [path for path in self._paths if path not in self._in_order]
            for row in self._counted(read_results(others, self._note, self._tell)):
                self._more |= _more(row)
                self._sorter.add(row)
        except BaseException:
            self._sorter.close()
            raise
        return self

    @property
    def more(self) -> tuple[str, ...]:
        """The columns that not every result has."""
        return tuple(name for name in _MORE if name in self._more)

    def __exit__(self, *_: object) -> None:
        self._sorter.close()

    def targets(self) -> Iterator[Verdict]:
        """Each target once, in order. Raises UsageError, ScanError, Unforeseen."""
        return merged(side_by_side([*self._sorter.runs(), *map(self._streamed, self._in_order)]))

    def _begins_in_order(self, path: str) -> bool:
        if not is_text(path):
            return False
        rows = list(islice(read_results([path], lambda line: None), LOOKED_AT))
        self._more.update(*map(_more, rows))
        return all(before <= after for before, after in pairwise(map(key_of, rows)))

    def _streamed(self, path: str) -> Iterator[Keyed]:
        last = b""
        for row in self._counted(read_results([path], self._note, self._tell)):
            key = key_of(row)
            if key < last or not _more(row) <= self._more:
                raise Unforeseen
            yield key, row
            last = key

    def _counted(self, rows: Iterable[Verdict]) -> Iterator[Verdict]:
        for row in rows:
            self.rows += 1
            yield row


def batches(rows: Iterable[Verdict]) -> Iterator[list[Verdict]]:
    """Rows in order → some thousands at a time, with all rows of a host in one batch."""
    batch: list[Verdict] = []
    for row in rows:
        if len(batch) >= BATCH and _host(row) != _host(batch[-1]):
            yield batch
            batch = []
        batch.append(row)
    yield batch


def _host(row: Verdict) -> tuple[object, ...]:
    return row.ip, row.tunnel, row.vantage, row.scanner_ip, row.scan, row.capture


def _more(row: Verdict) -> frozenset[str]:
    if row.scan is None and row.vantage is None and row.capture is None:
        return _NONE
    return frozenset(name for name in _MORE if getattr(row, name) is not None)
