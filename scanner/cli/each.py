"""`classify --each`: every file is a capture of its own, and several processes judge them.

A thousand captures of a thousand machines must not be joined: probes of one would find answers of another. So each file
is judged alone, and its rows say which one it is (`capture`). Files share nothing, so processes judge them side by
side. Rows come in the order of the files, whatever the number of processes: what is ready too early waits in a
temporary file. Few files are ahead of the first one that is not ready, so neither memory nor disk fill up.

A file whose judging fails costs only its own rows. The rows of a file are written when all of them are there. So after
Ctrl-C the outputs hold whole captures. The processes end with this one, also if it is killed, because their pipes end.

Limit: a file that is larger than all others is judged by one process.
"""

import json
import marshal
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from multiprocessing.connection import wait
from typing import Any

from ..classifier.classification import Classification
from ..errors import INTERRUPTED, UsageError, escaped, note
from ..output import Outputs, Run, Summary
from ..results.merge import batches
from ..results.opened import begins_as_capture
from ..verdict.rows import Verdict
from ..verdict.sentences import plural
from .options import ClassifyOptions, OutputOptions, command_line
from .reading import reading_of
from .signals import of_lost_terminal, stopped_by_signals

AHEAD = 4  # files for each process that may be ready before the first one that is not
_IN_MEMORY = 1 << 20  # bytes of the rows of a file
_ROWS, _END = b"r", b"e"


def run_each(options: ClassifyOptions, output: OutputOptions) -> int:
    """The exit code: 0, 1 if a file was damaged or not read, 2 if none could be read, 130. Raises UsageError."""
    for flag, given in (("--ladder", options.ladder), ("--stats", output.stats), ("-", "-" in options.captures)):
        if given:
            raise UsageError(f"--each judges many captures apart, and {flag} is for one: leave one of them out")
    if options.jobs < 0:
        raise UsageError(f"--jobs {options.jobs} is no number of processes; 0: one for each processor")
    alike = reading_of(replace(options, captures=()), output.only_open)
    files = list(captures_of(options.captures))
    jobs = min(options.jobs or os.cpu_count() or 1, len(files))
    outputs = output.open(
        Run(command_line(), more=("scan",) * bool(options.gap) + ("capture",), only_open=output.only_open)
    )
    codes: list[int] = []
    crew = _Crew(jobs, alike)
    with closing(crew), stopped_by_signals(crew.stop, lambda: crew.stopped), suppress(Stopped):
        for task in crew.judged(files):
            codes.append(_write(task, outputs))
    text = f"{len(codes):,} of {plural(len(files), 'capture')} judged, {sum(map(bool, codes)):,} of them with damage"
    outputs.finish(Summary(text, interrupted=crew.stopped))
    if not output.quiet:
        note(text)
    if crew.stopped:
        return INTERRUPTED
    return 2 if min(codes) == 2 else int(any(codes))


def captures_of(paths: Sequence[str]) -> Iterator[str]:
    """The files, and of each folder those that begin as a capture does, by name. Raises UsageError."""
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        files = sorted(entry.path for entry in os.scandir(path) if entry.is_file())
        found = list(filter(begins_as_capture, files))
        if len(found) < len(files):
            note(f"{path}: {plural(len(files) - len(found), 'file')} left out, which begin as no capture does")
        if not found:
            raise UsageError(f"{path} has no capture: name a folder with pcap or pcapng files")
        yield from found


@dataclass
class _Task:
    """One file: its rows as they came, and at its end its lines for standard error and its exit code."""

    path: str
    rows: Any = field(default_factory=lambda: tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115 (closed by `_write`)
    end: tuple[list[str], int] | None = None

    def take(self, message: bytes) -> None:
        """What a process says of the file."""
        if message[:1] == _END:
            lines, code = json.loads(message[1:])
            self.end = lines, code
        else:
            self.rows.write(len(message).to_bytes(8, "big") + message)

    def batches(self) -> Iterator[list[Verdict]]:
        """The rows. A host is not parted."""
        self.rows.seek(0)
        while head := self.rows.read(8):
            rows = marshal.loads(self.rows.read(int.from_bytes(head, "big"))[1:])
            yield [Verdict._make(row)._replace(capture=self.path) for row in rows]


def _write(task: _Task, outputs: Outputs) -> int:
    """The rows of a file to every output; its lines, where it was damaged. Returns its exit code."""
    assert task.end is not None
    lines, code = task.end
    with task.rows:
        for rows in task.batches():
            outputs.write(rows)
    for line in lines if code else ():
        note(line)
    return code


class Stopped(Exception):
    """A signal asked for the end."""


class _Crew:
    """Processes, each of which judges one file after the other."""

    def __init__(self, jobs: int, alike: Classification) -> None:
        """`alike`: how every file is read."""
        self.stopped = False
        self._waiting = False
        self._jobs, self._alike = jobs, alike
        methods = multiprocessing.get_all_start_methods()
        self._start: Any = multiprocessing.get_context("fork" if "fork" in methods else None)
        self._idle: list[Any] = []
        self._busy: dict[Any, _Task] = {}
        self._processes: dict[Any, Any] = {}

    def stop(self) -> None:
        """Begin nothing more. What is being written is written to its end."""
        self.stopped = True
        if self._waiting:
            raise Stopped

    def judged(self, files: Sequence[str]) -> Iterator[_Task]:
        """The files, judged, in their order. Raises Stopped."""
        tasks: list[_Task] = []
        given = 0
        while given < len(files):
            while len(tasks) < min(len(files), given + AHEAD * self._jobs) and len(self._busy) < self._jobs:
                tasks.append(_Task(files[len(tasks)]))
                self._begin(tasks[-1])
            self._waiting = True
            ready = wait(list(self._busy))
            self._waiting = False
            for connection in ready:
                self._hear(connection)
            while given < len(tasks) and tasks[given].end:
                if self.stopped:
                    raise Stopped
                yield tasks[given]
                given += 1

    def close(self) -> None:
        """End every process at once."""
        for connection, process in self._processes.items():
            process.kill()
            process.join()
            connection.close()
        self._processes.clear()

    def _begin(self, task: _Task) -> None:
        connection = self._idle.pop() if self._idle else self._new()
        connection.send(task.path)
        self._busy[connection] = task

    def _new(self) -> Any:
        ours, theirs = self._start.Pipe()
        process = self._start.Process(target=_work, args=(theirs, [ours, *self._processes], self._alike))
        process.start()
        theirs.close()
        self._processes[ours] = process
        return ours

    def _hear(self, connection: Any) -> None:
        task = self._busy[connection]
        try:
            task.take(connection.recv_bytes())
        except (EOFError, OSError):  # killed, most often because memory was short
            process = self._processes.pop(connection)
            process.join()
            connection.close()
            text = f"{escaped(task.path)}: the process that judged it has ended ({process.exitcode}): is memory short?"
            task.end = [text], 2
            task.rows.truncate(0)
        if task.end:
            del self._busy[connection]
            if connection in self._processes:
                self._idle.append(connection)


def _work(connection: Any, of_others: list[Any], alike: Classification) -> None:
    """A process: judge the files that the pipe names, until it ends."""
    for number in (signal.SIGINT, signal.SIGTERM, *of_lost_terminal()):  # the first process ends this one
        signal.signal(number, signal.SIG_IGN)
    for other in of_others:  # or the pipes would not end with the first process
        other.close()
    with suppress(EOFError, OSError):
        while True:
            reading = replace(alike, paths=[connection.recv()], period=replace(alike.period))
            try:
                for rows in batches(chain.from_iterable(reading.batches())):
                    connection.send_bytes(_ROWS + marshal.dumps(list(map(tuple, rows))))
                end = list(map(escaped, reading.report())), reading.exit_code
            except UsageError as error:
                end = [str(error)], 2
            connection.send_bytes(_END + json.dumps(end).encode())
