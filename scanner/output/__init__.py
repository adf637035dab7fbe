"""Results to standard output and to files: which formats, which rows, in which order.

Standard output gets the format of `-f`, the table if none is named, whether or not there are files
(as with nmap: `-o` adds a copy, it takes nothing away). Each `-o` names its format by its suffix, so
one run can write several; `-o -` is standard output, which is there anyway. Nothing is made before
all names are judged and nothing is emptied before all files are open, so a request that fails leaves
the folder as it was. Above 2^20 targets nobody wants a line for each silent one: machine formats
leave those rows out and they are counted (`Outputs.counted`), unless everything is asked for.

Files are written before standard output, and a sink that fails is dropped while the others still get
their batch: a reader who leaves (`| head`) and a full disk take nothing from the other files.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..errors import ScanError, UsageError
from ..verdict import Reason, State, Verdict
from .csv import Csv
from .jsonl import JsonLines
from .sink import Sink, Summary
from .stream import CLOSED_PIPE, Stream, closed_pipe, create, standard_output
from .table import Table

__all__ = ["CLOSED_PIPE", "FORMATS", "MANY", "SUFFIXES", "Outputs", "Sink", "Summary", "closed_pipe", "open_sinks"]

MANY = 1 << 20  # targets above which silent ones are counted instead of written

FORMATS: dict[str, Callable[[Stream, bool], Sink]] = {
    "table": Table,
    "jsonl": lambda stream, everything: JsonLines(stream),
    "csv": lambda stream, everything: Csv(stream),
}
SUFFIXES = {".txt": "table", ".jsonl": "jsonl", ".csv": "csv"}
_SUMS_UP = "table"  # the format that folds silent rows itself, and so is given them all


@dataclass(frozen=True)
class _Open:
    """A sink and where it writes; `machine`: it writes every row that it is given."""

    sink: Sink
    stream: Stream
    machine: bool


class Outputs:
    """Every sink of a run, itself a Sink. `counted`: silent rows that machine formats left out so far."""

    def __init__(self, sinks: Sequence[_Open], only_open: bool, count_silent: bool) -> None:
        self.counted = 0
        self._sinks = list(sinks)
        self._only_open = only_open
        self._count_silent = count_silent and any(entry.machine for entry in sinks)

    def write(self, verdicts: Iterable[Verdict]) -> None:
        """A batch to every sink; a generator is read once. The first error is raised when all have been served."""
        if self._only_open:
            wanted = State.OPEN.value
            verdicts = (verdict for verdict in verdicts if verdict.state == wanted)
        several = len(self._sinks) > 1
        rows = list(verdicts) if several else verdicts
        answered = rows
        if self._count_silent:
            answered = list(self._answered(rows)) if several else self._answered(rows)
        self._serve(lambda entry: entry.sink.write(answered if entry.machine else rows))

    def finish(self, summary: Summary) -> None:
        """Close every sink that still works; the first error is raised after that."""
        self._serve(lambda entry: entry.sink.finish(summary))
        self._sinks.clear()

    def _answered(self, verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
        silent = Reason.NO_RESPONSE.word
        for verdict in verdicts:
            if verdict.reason == silent:
                self.counted += 1
            else:
                yield verdict

    def _serve(self, act: Callable[[_Open], None]) -> None:
        errors: list[ScanError | BrokenPipeError] = []
        for entry in tuple(self._sinks):
            try:
                act(entry)
            except (ScanError, BrokenPipeError) as error:
                errors.append(error)
                self._sinks.remove(entry)
                with suppress(ScanError):
                    entry.stream.close()
        if errors:
            raise errors[0]


def open_sinks(
    form: str | None = None,
    files: Sequence[str] = (),
    *,
    force: bool = False,
    everything: bool = False,
    only_open: bool = False,
    targets: int = 0,
) -> Outputs:
    """Open `form` (None: table) on standard output and every file of `files`.

    `everything` (`--all`) folds, sums and leaves out nothing; `targets` is the size of the scan, 0 if
    not known. Raises UsageError for an unknown format or suffix, a name given twice, a file that
    exists (without `force`) or cannot be written.
    """
    form = form or "table"
    if form not in FORMATS:
        raise UsageError(f"format {form!r} is not known: use one of {', '.join(FORMATS)}")
    paths = [path for path in files if path != "-"]
    forms = _forms(paths)
    streams = [*_create_all(paths, force), standard_output()]
    sinks = [
        _Open(FORMATS[name](stream, everything), stream, machine=name != _SUMS_UP)
        for name, stream in zip([*forms, form], streams, strict=True)
    ]
    return Outputs(sinks, only_open, targets > MANY and not everything)


def _forms(paths: Sequence[str]) -> list[str]:
    """The format of each path, by its suffix; no path may come twice."""
    seen = set()
    for path in paths:
        if os.path.splitext(path)[1].lower() not in SUFFIXES:
            raise UsageError(f"{path!r} does not say its format: end the name in one of {', '.join(SUFFIXES)}")
        if os.path.realpath(path) in seen:
            raise UsageError(f"{path} is named twice as an output file: name it once")
        seen.add(os.path.realpath(path))
    return [SUFFIXES[os.path.splitext(path)[1].lower()] for path in paths]


def _create_all(paths: Sequence[str], force: bool) -> list[Stream]:
    """All files, or, if one is refused, none: what was made for nothing is taken away again."""
    streams: list[Stream] = []
    fresh = [path for path in paths if not os.path.lexists(path)]
    try:
        for path in paths:
            streams.append(create(path, force))
    except UsageError:
        for stream in streams:
            stream.close()
            if stream.name in fresh:
                os.unlink(stream.name)
        raise
    for stream in streams:
        stream.empty()
    return streams
