"""Results to standard output and to files: which formats, in which order, and what happens when one fails.

Standard output gets the format of `-f`, the table if none is named, whether or not there are files. (As with nmap, `-o`
adds a copy.) Each `-o` names its format by its suffix; `.gz` behind it packs the file. nmap's own options (`-oX FILE`)
name the format, whatever the file is called. So one run can write several files; `-o -` is standard output, which is
written in any case. No file is made before all names are checked, and none is emptied before all are open: a request
that fails leaves the folder as it was.

Files are written before standard output. A sink that fails is dropped while the others still get
their batch: a reader who leaves (`| head`) or a full disk takes nothing from the other files.

A batch is a closed window of a live scan, or a part of a capture: all rows of a host are in one
batch there, in any order, and may come from a generator that is read once. Nothing is held back for an order across
batches.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from ..errors import ScanError, UsageError
from ..gzipped import split_suffix
from ..verdict.rows import Verdict
from .stream import Format, Run, Stream, Summary, closed_pipe, create, reopen, standard_output

__all__ = ["MANY", "Format", "Outputs", "Run", "Sink", "Summary", "Written", "closed_pipe", "open_sinks"]

MANY = 1 << 20  # targets above which silent ones are counted instead of written

# Each imports its module, so that a scan waits for the formats that it writes and for no others.


def _table(stream: Stream, everything: bool, run: Run) -> Format:
    from .table import table_format

    return table_format(everything, stream.colour, not stream.person, run)


def _jsonl(stream: Stream, everything: bool, run: Run) -> Format:
    from .jsonl import json_format

    return json_format()


def _csv(stream: Stream, everything: bool, run: Run) -> Format:
    from .csv import csv_format

    return csv_format(run.more)


def _xml(stream: Stream, everything: bool, run: Run) -> Format:
    from .xml import xml_format

    return xml_format(everything, run)


def _gnmap(stream: Stream, everything: bool, run: Run) -> Format:
    from .gnmap import gnmap_format

    return gnmap_format(everything, run)


def _list(stream: Stream, everything: bool, run: Run) -> Format:
    from .hostport import list_format

    return list_format(stream.person, run.names, run.zones)  # only files can be cut back


def _parquet(stream: Stream, everything: bool, run: Run) -> Format:
    from .parquet import parquet_format

    return parquet_format()


FORMATS: dict[str, Callable[[Stream, bool, Run], Format]] = {
    "table": _table, "jsonl": _jsonl, "csv": _csv, "xml": _xml, "gnmap": _gnmap, "list": _list,
    "parquet": _parquet,
}  # fmt: skip
SUFFIXES = {
    ".txt": "table", ".jsonl": "jsonl", ".json": "jsonl", ".csv": "csv", ".xml": "xml", ".gnmap": "gnmap",
    ".list": "list", ".parquet": "parquet",
}  # fmt: skip


class Written(NamedTuple):
    """One output file: how many good bytes it has, and what its format must remember for the end."""

    length: int
    memory: dict[str, Any]


class Sink:
    """A format on a stream. Methods raise ScanError (disk) or BrokenPipeError (the reader left)."""

    def __init__(self, stream: Stream, form: Format) -> None:
        self.stream, self.form = stream, form
        if not stream.length:
            stream.write(form.head)

    def write(self, verdicts: Iterable[Verdict]) -> None:
        """Write a batch; it has reached the system when this returns."""
        for text in self.form.texts(verdicts):
            self.stream.write(text)

    def found(self, targets: Iterable[tuple[str, int]]) -> None:
        """Write targets that were just found open, if the format wants them before their rows."""
        if self.form.found:
            self.stream.write(self.form.found(targets))

    def finish(self, summary: Summary) -> None:
        """Write what closes the file, and close it."""
        self.stream.write(self.form.end(summary))
        self.stream.close()


class Outputs:
    """Every sink of a run."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = list(sinks)
        self.whole = True  # whether no file has failed

    @property
    def left(self) -> int:
        """How many sinks still work."""
        return len(self._sinks)

    def write(self, verdicts: Iterable[Verdict]) -> None:
        """A batch to every sink. The first error is raised after all of them have been served."""
        # A generator can be read only once.
        rows = list(verdicts) if len(self._sinks) > 1 and isinstance(verdicts, Iterator) else verdicts
        self._serve(lambda sink: sink.write(rows))

    @property
    def early(self) -> bool:
        """Whether a sink wants open targets before their rows."""
        return any(sink.form.found for sink in self._sinks)

    def found(self, targets: Iterable[tuple[str, int]]) -> None:
        """Targets that were just found open, address and port, to every sink that wants them so early."""
        self._serve(lambda sink: sink.found(targets))

    def finish(self, summary: Summary) -> None:
        """Close every sink that still works; the first error is raised after that."""
        self._serve(lambda sink: sink.finish(summary))
        self._sinks.clear()

    def publish(self, summary: Summary) -> None:
        """Write the ends of all files, and then give them their names. Raises ScanError before the first has its name.

        Raises UsageError if the system refuses a name.
        """
        for sink in self._sinks:
            sink.stream.write(sink.form.end(summary))
        for sink in self._sinks:
            sink.stream.begin()
        for sink in self._sinks:
            sink.stream.close()
        self._sinks.clear()

    def abandon(self) -> None:
        """Close files that are not published, and leave nothing of them."""
        for sink in self._sinks:
            sink.stream.abandon()
        self._sinks.clear()

    def written(self) -> list[Written]:
        """What every file holds now; standard output cannot be continued."""
        files = [sink for sink in self._sinks if not sink.stream.person]
        return [Written(sink.stream.length, sink.form.memory()) for sink in files]

    def _serve(self, act: Callable[[Sink], None]) -> None:
        errors: list[ScanError | BrokenPipeError] = []
        for sink in tuple(self._sinks):
            try:
                act(sink)
            except (ScanError, BrokenPipeError) as error:
                errors.append(error)
                self._sinks.remove(sink)
                self.whole = self.whole and sink.stream.person
                with suppress(ScanError):
                    sink.stream.close()
        if errors:
            raise errors[0]


def open_sinks(
    form: str | None = None,
    files: Sequence[str] = (),
    *,
    named: Sequence[tuple[str, str]] = (),
    force: bool = False,
    everything: bool = False,
    run: Run | None = None,
    written: Sequence[Written] | None = None,
    whole: bool = False,
    to_screen: bool = True,
) -> Outputs:
    """Open `form` (None: table) on standard output, every file of `files`, and `named` ones, (format, path).

    `everything` (`--all`) folds and sums nothing; `run` is for formats with a head. With `written`, what
    `Outputs.written` gave, the files are continued from there. `whole`: a file has its name only after
    `Outputs.publish`. Without `to_screen` standard output gets nothing. Raises UsageError for an unknown format or
    suffix, a name given twice, a file that exists (without `force`), cannot be written, or does not hold what had been
    written.
    """
    names, paths = check_forms(form, files, named)
    run, screen = run or Run(), [standard_output()] if to_screen else []
    with ExitStack() as undo:
        streams = [*_open_files(paths, force, written, whole, undo), *screen]
        forms = [FORMATS[name](stream, everything, run) for name, stream in zip(names, streams, strict=False)]
        for at, file in enumerate(written or ()):
            try:
                forms[at].recall(file.memory)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise UsageError(
                    f"what the state notes of {streams[at].name} is damaged ({error!r}): scan anew"
                ) from error
        for stream in () if whole else streams:
            stream.begin()
        undo.pop_all()  # nothing is undone
    return Outputs([Sink(stream, form) for stream, form in zip(streams, forms, strict=True)])


def check_forms(
    form: str | None, files: Sequence[str], named: Sequence[tuple[str, str]] = ()
) -> tuple[list[str], list[str]]:
    """The formats of all files and, as the last one, of standard output; and the paths. Raises UsageError."""
    screen = _standard_form(form, [name for name, path in named if path == "-"])
    wanted = [(_form(path), path) for path in files if path != "-"] + [pair for pair in named if pair[1] != "-"]
    return [*(name for name, _ in wanted), screen], [path for _, path in wanted]


def _standard_form(form: str | None, others: list[str]) -> str:
    """The one format of standard output: of `-f`, or of `-oX -`."""
    if "parquet" in (form, *others):
        raise UsageError("standard output is text, and Parquet is not: name a file, -o FILE.parquet")
    if form is not None and form not in FORMATS:
        known = ", ".join(name for name in FORMATS if name != "parquet")
        raise UsageError(f"format {form!r} is not known: use one of {known}")
    forms = list(dict.fromkeys(name for name in (form, *others) if name))
    if len(forms) > 1:
        raise UsageError(f"standard output cannot be {' and '.join(forms)} at once: name a file for all but one")
    return forms[0] if forms else "table"


def _form(path: str) -> str:
    """The format of a path, by its suffix."""
    suffix = os.path.splitext(split_suffix(path)[0])[1].lower()
    if suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise UsageError(f"{path!r} does not say its format: end the name in one of {known}, or in one and .gz")
    if SUFFIXES[suffix] == "parquet" and split_suffix(path)[1]:
        raise UsageError(f"{path!r}: a Parquet file is packed inside, so leave .gz out")
    return SUFFIXES[suffix]


def _open_files(
    paths: Sequence[str], force: bool, written: Sequence[Written] | None, whole: bool, undo: ExitStack
) -> Iterator[Stream]:
    """All files. If one is refused, `undo` leaves the folder as it was."""
    for number, path in enumerate(paths):
        if os.path.realpath(path) in map(os.path.realpath, paths[:number]):
            raise UsageError(f"{path} is named twice as an output file: name it once")
    if written is not None and (len(written) != len(paths) or any(file.length < 0 for file in written)):
        raise UsageError("what the state notes of the output files is damaged: scan anew")
    for number, path in enumerate(paths):
        # Only the command names files. A state that somebody else wrote could name any.
        stream = create(path, force, whole) if written is None else reopen(path, written[number].length)
        undo.callback(stream.abandon)
        yield stream
