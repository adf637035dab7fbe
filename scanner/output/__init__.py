"""Results to standard output and to files: which formats, which rows, in which order.

Standard output gets the format of `-f`, the table if none is named, whether or not there are files
(as with nmap: `-o` adds a copy, it takes nothing away). Each `-o` names its format by its suffix, `.gz` behind it
packs, and what was asked for as nmap's users type it (`-oX FILE`) has its format whatever the name. So one run can
write several; `-o -` is standard output, which is there anyway. Nothing is made before
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
from typing import Any

from ..errors import ScanError, UsageError
from ..verdict.table import Reason, State, Verdict
from .csv import Csv
from .gnmap import Gnmap
from .jsonl import JsonLines
from .packing import split_suffix
from .sink import Run, Sink, Summary
from .stream import CLOSED_PIPE, Stream, closed_pipe, create, reopen, standard_output
from .table import Table
from .xml import Xml

__all__ = [
    "CLOSED_PIPE", "FORMATS", "MANY", "SUFFIXES", "Outputs", "Run", "Sink", "Summary", "closed_pipe", "open_sinks",
]  # fmt: skip

MANY = 1 << 20  # targets above which silent ones are counted instead of written

FORMATS: dict[str, Callable[[Stream, bool, Run], Sink]] = {
    "table": lambda stream, everything, run: Table(stream, everything),
    "jsonl": lambda stream, everything, run: JsonLines(stream),
    "csv": lambda stream, everything, run: Csv(stream),
    "xml": Xml,
    "gnmap": Gnmap,
}
SUFFIXES = {".txt": "table", ".jsonl": "jsonl", ".csv": "csv", ".xml": "xml", ".gnmap": "gnmap"}
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

    def written(self) -> list[tuple[str, int, dict[str, Any]]]:
        """Of each file: its name, how many bytes of it stand, and its format's memory (see `Sink`)."""
        files = [entry for entry in self._sinks if not entry.stream.person]
        return [(entry.stream.name, entry.stream.length, entry.sink.memory()) for entry in files]

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
    named: Sequence[tuple[str, str]] = (),
    force: bool = False,
    everything: bool = False,
    only_open: bool = False,
    targets: int = 0,
    run: Run | None = None,
    written: Sequence[tuple[str, int, dict[str, Any]]] | None = None,
) -> Outputs:
    """Open `form` (None: table) on standard output, every file of `files`, and `named` ones, (format, path).

    `everything` (`--all`) folds, sums and leaves out nothing; `targets` is the size of the scan, 0 if
    not known; `run` is for formats with a head. With `written`, what `Outputs.written` gave, the files are gone on with
    from there. Raises UsageError for an unknown format or suffix, a name given twice, a file that exists (without
    `force`), cannot be written, or does not hold what had been written.
    """
    form = _standard_form(form, [each for each, path in named if path == "-"])
    wanted = [(_form(path), path) for path in files if path != "-"] + [each for each in named if each[1] != "-"]
    names = [path for _, path in wanted]
    _each_once(names)
    opened = _create_all(names, force) if written is None else _reopen_all(written, len(names))
    streams = [*opened, standard_output()]
    run = run or Run()
    sinks = [
        _Open(FORMATS[name](stream, everything, run), stream, machine=name != _SUMS_UP)
        for name, stream in zip([*(name for name, _ in wanted), form], streams, strict=True)
    ]
    for entry, (path, _, memory) in zip(sinks, written or (), strict=False):
        try:
            entry.sink.recall(memory)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"what was noted of {path} is damaged ({error!r}): scan anew") from error
    return Outputs(sinks, only_open, targets > MANY and not everything)


def _standard_form(form: str | None, others: list[str]) -> str:
    """The one format of standard output: of `-f`, or of `-oX -`."""
    if form is not None and form not in FORMATS:
        raise UsageError(f"format {form!r} is not known: use one of {', '.join(FORMATS)}")
    forms = list(dict.fromkeys(each for each in (form, *others) if each))
    if len(forms) > 1:
        raise UsageError(f"standard output cannot be {' and '.join(forms)} at once: name a file for all but one")
    return forms[0] if forms else "table"


def _form(path: str) -> str:
    """The format of a path, by its suffix."""
    suffix = os.path.splitext(split_suffix(path)[0])[1].lower()
    if suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise UsageError(f"{path!r} does not say its format: end the name in one of {known}, or in one and .gz")
    return SUFFIXES[suffix]


def _each_once(paths: Sequence[str]) -> None:
    seen = set()
    for path in paths:
        if os.path.realpath(path) in seen:
            raise UsageError(f"{path} is named twice as an output file: name it once")
        seen.add(os.path.realpath(path))


def _reopen_all(written: Sequence[tuple[str, int, dict[str, Any]]], count: int) -> list[Stream]:
    """All files cut back to what is known to be good, or, if one is not what it was, none."""
    streams: list[Stream] = []
    try:
        if len(written) != count or any(length < 0 for _, length, _ in written):
            raise UsageError("what was noted of the output files is damaged: scan anew")
        for path, length, _ in written:
            streams.append(reopen(path, length))
    except UsageError:
        for stream in streams:
            stream.close()
        raise
    for stream in streams:
        stream.cut_back()
    return streams


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
