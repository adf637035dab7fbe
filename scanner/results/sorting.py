"""Rows in the order of their keys, however many there are: an external sort.

Rows of a scan come in the order in which their windows close, and a hundred million rows do not fit into memory. So
rows are collected, packed, until their share of the memory is used. Then they are sorted and written to a temporary
file, a run. At the end the runs are read side by side, a block of each in memory. Rows of one target are joined before
they are written (`merging`). When there are many runs, they are merged into larger ones, so that never more than some
hundred files are open.

Temporary files have no name, where the system has such files (tempfile.TemporaryFile). So no other user can open them,
and a process that is killed leaves none behind. They are made in the folder that TMPDIR names.
"""

import marshal
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, Any

from ..errors import ScanError
from ..verdict.rows import Verdict
from .merging import Keyed, key_of, merged, side_by_side

MOST_RUNS = 64  # that are read side by side
USUAL = 256 << 20  # bytes for rows, where no limit is given
_OVERHEAD = 180  # bytes of Python's objects beside the content of a packed row
_BLOCK_ROWS = 512
_LENGTH = 4  # bytes before each block

# The fields from the state to the evidence.
_SHARED = slice(Verdict._fields.index("state"), Verdict._fields.index("evidence") + 1)

Packed = tuple[bytes, bytes]  # key, row


class Sorter:
    """Takes rows in any order, and gives them back in the order of their keys."""

    def __init__(self, room: int = 0) -> None:
        """`room`: bytes of memory that all of this may take; 0: the usual."""
        self._most = (room or 4 * USUAL) // 4  # the host that is written and the one that is read take memory, too
        self._block = max(1 << 14, self._most // (8 * MOST_RUNS))
        self._rows: list[Packed] = []
        self._size = 0
        self._levels: list[list[IO[bytes]]] = [[]]  # runs of the next level are merged from MOST_RUNS of this one

    def add(self, row: Verdict) -> None:
        """Take a row. Raises ScanError if a temporary file cannot be written."""
        packed = key_of(row), marshal.dumps(tuple(row))
        self._rows.append(packed)
        self._size += len(packed[0]) + len(packed[1]) + _OVERHEAD
        if self._size > self._most:
            self._keep(0, self._in_memory())

    def runs(self) -> list[Iterator[Keyed]]:
        """What was taken, as runs: each in the order of its keys. Raises ScanError while they are read."""
        return [self._in_memory(), *(_read(run) for level in self._levels for run in level)]

    def close(self) -> None:
        """Close the temporary files, and so remove them."""
        for run in (run for level in self._levels for run in level):
            run.close()

    def _in_memory(self) -> Iterator[Keyed]:
        rows, self._rows, self._size = self._rows, [], 0
        rows.sort()
        return ((key, _unpacked(row)) for key, row in rows)

    def _keep(self, level: int, rows: Iterator[Keyed]) -> None:
        """Write a run, and where a level is full, one of the next level."""
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(self._written(merged(rows)))
        if len(self._levels[level]) == MOST_RUNS:
            runs, self._levels[level] = self._levels[level], []
            self._keep(level + 1, side_by_side(list(map(_read, runs))))
            for run in runs:
                run.close()

    def _written(self, rows: Iterable[Verdict]) -> IO[bytes]:
        with _named():
            file = tempfile.TemporaryFile(prefix="halfopen-")  # noqa: SIM115 (it is read later)
            block: list[Packed] = []
            size = 0
            for row in rows:
                block.append((key_of(row), marshal.dumps(tuple(row))))
                size += len(block[-1][1])
                if len(block) == _BLOCK_ROWS or size > self._block:
                    _write(file, block)
                    block, size = [], 0
            _write(file, block)
            file.seek(0)
            return file


def _write(file: IO[bytes], block: list[Packed]) -> None:
    data = marshal.dumps(block)
    file.write(len(data).to_bytes(_LENGTH, "big") + data)


def _read(run: IO[bytes]) -> Iterator[Keyed]:
    with _named():
        while head := run.read(_LENGTH):
            for key, row in marshal.loads(run.read(int.from_bytes(head, "big"))):
                yield key, _unpacked(row)


def _unpacked(packed: bytes) -> Verdict:
    """The row. Words that repeat from row to row are in memory once: a host may have 65,536 rows."""
    row = marshal.loads(packed)
    return Verdict._make((*_once(row[0]), row[1], *_once(*row[_SHARED]), *row[_SHARED.stop :]))


@lru_cache(maxsize=1 << 12)
def _once(*values: Any) -> tuple[Any, ...]:
    """Equal values → the same objects."""
    return values


@contextmanager
def _named() -> Iterator[None]:
    """An OSError inside becomes a ScanError that says where the files are."""
    try:
        yield
    except OSError as error:
        place = tempfile.gettempdir()
        raise ScanError(
            f"temporary files in {place}: {error.strerror}: make room, or name another folder (TMPDIR=…)"
        ) from error
