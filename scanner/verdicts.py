"""The rows that `scan` and `classify` give: one by one, as numpy columns, and as Arrow columns.

The work is done while rows are read. Ctrl-C must not cost what a scan has learned, and `list(scan(…))` has no rows to
show when an exception ends it. So the first Ctrl-C asks the scan to stop, as on the command line: its last rows are
handed out, and then `Interrupted` is raised, a KeyboardInterrupt that carries the rows. A second Ctrl-C ends the wait
for replies. `partial` has the same rows.

Limits: `partial` keeps the latest 2^20 rows. Ctrl-C is caught in the main thread, and only where it is not caught
already; while a row is in the hands of the caller, it is the caller's.

Sources: the Arrow PyCapsule interface (arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html).
"""

import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from .verdict.rows import Verdict

MOST_KEPT = 1 << 20  # rows
_TYPES = {  # of the fields of Verdict; empty: as long as the longest text
    "ip": "U39", "port": "i4", "state": "U8", "reason": "U20", "protocol": "U4", "ttl": "i2", "service": "U16",
    "evidence": "", "rtt_ms": "f8", "time": "f8", "pass_": "u1", "icmp_from": "U39", "scanner_ip": "U39",
    "tunnel": "", "first_probe": "f8", "last_probe": "f8", "attempts": "i8",
    "scan": "i4", "hostname": "", "mac": "U17", "vendor": "",
    "window": "i4", "mss": "i4", "options": "", "vantage": "", "capture": "",
}  # fmt: skip
_UNKNOWN = {"U": "", "i": -1, "f": np.nan, "u": 0, "": ""}  # by the kind of the type


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. `partial`: the rows that were learned, in the order in which they were decided."""

    def __init__(self, partial: list[Verdict]) -> None:
        super().__init__(f"interrupted; {len(partial):,} rows are in .partial")
        self.partial = partial


class Verdicts:
    """An iterator over verdicts, in the order in which they are decided. It can be read once.

    `notes`: lines for the user, added while the rows are read. `summary`: the sums in words, after the last row.
    `partial`: the rows of a scan that have been handed out.
    """

    def __init__(
        self, notes: list[str], summary: list[str], batches: Iterator[list[Verdict]],
        stop: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        """`stop` asks the work to end soon; None: Ctrl-C does what it does anywhere, and no rows are kept."""
        self.notes, self.summary, self._batches, self._stop = notes, summary, batches, stop
        self._rows: Iterator[Verdict] = iter(())
        self._kept: deque[Verdict] = deque(maxlen=MOST_KEPT if stop else 0)
        self._interrupted = False

    @property
    def partial(self) -> list[Verdict]:
        """The latest 2^20 rows of a scan that have been handed out."""
        return list(self._kept)

    def __iter__(self) -> Iterator[Verdict]:
        return self

    def __next__(self) -> Verdict:
        try:
            while (row := next(self._rows, None)) is None:
                with self._handling():
                    batch = next(self._batches)
                self._kept.extend(batch)
                self._rows = iter(batch)
            return row
        except StopIteration:
            if self._interrupted:
                self._interrupted = False  # it is said once
                raise Interrupted(self.partial) from None
            raise

    def close(self) -> None:
        """End the work, and give its sockets back. No row follows. The last reference to the rows does this too."""
        self._rows = iter(())
        if isinstance(self._batches, Generator):
            self._batches.close()

    def _handling(self) -> AbstractContextManager[None]:
        """While a batch is made, Ctrl-C stops the scan."""
        default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._stop and default and threading.current_thread() is threading.main_thread():
            from .cli.signals import handling

            return handling(self._interrupt, signal.SIGINT)
        return nullcontext()

    def _interrupt(self) -> None:
        self._interrupted = True
        if self._stop:
            self._stop()

    def to_numpy(self) -> npt.NDArray[np.void]:
        """The rows that have not been read yet, as a structured array of shape (n,).

        Fields: ip (text), port (int32; -1: the host is down and has none), state, reason, protocol (text), ttl
        (int16), service (text), evidence (words with spaces between), rtt_ms (float64, milliseconds), time (float64,
        seconds since 1970), pass (uint8, from 1), icmp_from, scanner_ip, tunnel (text), first_probe, last_probe
        (float64, seconds since 1970), attempts (int64), scan (int32, from 1), hostname, mac, vendor (text), window, mss
        (int32), options, vantage, capture (text). Not known: "", -1, NaN, or pass 0.
        """
        rows: list[tuple[Any, ...]] = []
        longest = {name: 1 for name in Verdict._fields if not _TYPES[name]}
        for row in self:
            cells: dict[str, Any] = {**row._asdict(), "evidence": " ".join(row.evidence)}
            for name, length in longest.items():
                longest[name] = max(length, len(cells[name] or ""))
            rows.append(tuple(_UNKNOWN[_TYPES[name][:1]] if cell is None else cell for name, cell in cells.items()))
        kinds = [(name.rstrip("_"), _TYPES[name] or f"U{longest[name]}") for name in Verdict._fields]
        return np.array(rows, kinds)

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        """The rows that have not been read yet, as Arrow columns: polars, DuckDB and pyarrow call this.

        The columns are those of a Parquet file. Not known is null. Raises UsageError where pyarrow is missing.
        """
        from .output.arrow import stream_of

        return stream_of(chain(self), requested_schema)
