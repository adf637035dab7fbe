"""What a format is, and where its text goes as bytes: a file, or standard output.

Three readers must be able to trust every line that is there: a program behind a pipe, a resumed scan, and a person with
a full disk. So formats hand over whole lines only. The bytes go straight to the descriptor, because a buffer could fail
at exit. If the system takes only a part of a write and then fails, the torn last line is cut off again. That works for
a regular file that no other program has extended; what went into a pipe cannot be taken back. A name that ends in
`.gz` is packed on the way: each write becomes a whole gzip member, and a torn member is cut off in the same way.

A failing disk is a `ScanError` that names the file. A reader that closed its pipe is the built-in
BrokenPipeError; `closed_pipe` says how a command ends then. What is written to a terminal that has gone is dropped.
"""

import errno
import fcntl
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ..errors import ScanError, UsageError
from ..gzipped import pack, split_suffix
from ..verdict.rows import Verdict

CLOSED_PIPE = 141  # 128 + SIGPIPE: what a shell reports for any program that the closed pipe ended


@dataclass(frozen=True)
class Run:
    """What is known of a run when it starts, for formats with a head.

    `command`: the command line. `kind`: "syn", "connect", or "" for a capture. `ports`: the probed ports as
    `format_ports` writes them, `port_count` of them. `started`: seconds since 1970.
    """

    command: str = "halfopen"
    kind: str = ""
    ports: str = ""
    port_count: int = 0
    started: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Summary:
    """What is known of a run when it ends. `text`: the lines that stderr also gets, for files that people read.

    `interrupted`: some targets were given up, after Ctrl-C or because an interface failed.
    """

    text: str = ""
    interrupted: bool = False


@dataclass(frozen=True)
class Format:
    """The format of one file, as functions: verdicts → text in whole lines.

    `texts`: a batch → its text, in pieces. `head` opens an empty file; `end` closes a file, also after an interrupted
    scan. `memory`: what `end` must know of what has been written, as JSON takes it; `recall` takes it back in another
    process and raises AttributeError, KeyError, TypeError or ValueError if it is damaged.
    """

    texts: Callable[[Iterable[Verdict]], Iterator[str]]
    head: str = ""
    end: Callable[[Summary], str] = lambda summary: ""
    memory: Callable[[], dict[str, Any]] = dict
    recall: Callable[[dict[str, Any]], None] = lambda memory: None


class Stream:
    """Whole lines to one descriptor. `length` counts the bytes written (packed ones in a `.gz`); it ends a line."""

    def __init__(self, raw: Any, name: str, colour: bool = False, person: bool = False, packed: bool = False) -> None:
        """`raw`: an unbuffered binary file. `person`: it is standard output, beside the notes on stderr.

        `packed`: each write becomes a gzip member.
        """
        self.name = name
        self.colour = colour
        self.person = person
        self.length = 0
        self._raw = raw
        self._packed = packed

    def write(self, lines: str) -> None:
        """Write `lines` (each with its newline) now. Raises ScanError, or BrokenPipeError if the reader left."""
        assert not lines or lines[-1] == "\n", "only whole lines are written"
        if not lines:
            return
        text = lines.encode("utf-8", "backslashreplace")
        data = memoryview(pack(text) if self._packed else text)
        done = 0
        try:
            while done < len(data):
                done += self._raw.write(data[done:]) or self._wait()
        except BrokenPipeError:
            raise
        except OSError as error:
            if self.person and error.errno == errno.EIO and self._is_device():
                return  # the terminal has gone, and nobody reads it: the files are written on
            with suppress(OSError):  # a disk that fails here, too, leaves a torn line
                self.length += self._cut(bytes(data[:done]))
            raise ScanError(f"{self.name}: {error.strerror}; the lines written so far are whole, the rest is lost: "
                            "make room, or name another file") from error  # fmt: skip
        self.length += done

    def _is_device(self) -> bool:
        return stat.S_ISCHR(os.fstat(self._raw.fileno()).st_mode)

    def _wait(self) -> int:
        """A non-blocking descriptor took nothing (write returned None): wait until it has room."""
        select.select([], [self._raw], [])
        return 0

    def _cut(self, written: bytes) -> int:
        """Take the torn line (or gzip member) off a regular file; returns the bytes of whole lines that stay."""
        whole = 0 if self._packed else written.rfind(b"\n") + 1
        file = self._raw.fileno()
        facts = os.fstat(file)
        # Cut only where our last byte is also the file's last byte: otherwise another writer's bytes would be lost.
        if stat.S_ISREG(facts.st_mode) and facts.st_size == os.lseek(file, 0, os.SEEK_CUR):
            os.truncate(file, facts.st_size - (len(written) - whole))
            os.lseek(file, 0, os.SEEK_END)
        return whole

    def cut_back(self) -> None:
        """Remove what a regular file holds behind `length` (0 in a new stream), and write there."""
        if stat.S_ISREG(os.fstat(self._raw.fileno()).st_mode):
            self._raw.truncate(self.length)
            self._raw.seek(self.length)

    def close(self) -> None:
        """Close the file; standard output stays open. Raises ScanError: some file systems report errors only here."""
        if self.person:
            return
        try:
            self._raw.close()
        except OSError as error:
            raise ScanError(f"{self.name}: {error.strerror}; the end of the file may be missing") from error


def standard_output() -> Stream:
    """Standard output; coloured only if a terminal reads it and NO_COLOR is unset (no-color.org)."""
    sys.stdout.flush()
    buffer: BinaryIO = sys.stdout.buffer
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Stream(getattr(buffer, "raw", buffer), "standard output", colour, person=True)


def create(path: str, force: bool) -> Stream:
    """A file to write; it is made if it does not exist. An existing device or FIFO is opened as it is.

    An old file keeps its content until `cut_back`. Raises UsageError if a regular file exists already
    (unless `force`), if another scan writes it, or if the system refuses.
    """
    try:
        regular = not os.path.exists(path) or os.path.isfile(path)
        new_only = os.O_EXCL if regular and not force else 0
        return _locked(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | new_only, 0o666), path)
    except FileExistsError as error:
        raise UsageError(f"{path} exists and is not overwritten: name another file, or add --force") from error
    except OSError as error:
        raise UsageError(
            f"{path!r} cannot be written ({error.strerror}): name a file in a folder that you may write to"
        ) from error


def reopen(path: str, length: int) -> Stream:
    """A file of which an earlier part of a scan has written `length` bytes; the rest stays until `cut_back`.

    Raises UsageError if there is no such file, if another scan writes it, or if it is shorter than that.
    """
    try:
        stream = _locked(os.open(path, os.O_WRONLY | os.O_CLOEXEC), path)
    except OSError as error:
        raise UsageError(f"cannot go on with {path}: {error.strerror}; scan anew, or bring it back") from error
    facts = os.fstat(stream._raw.fileno())
    if not stat.S_ISREG(facts.st_mode) or facts.st_size < length:
        stream.close()
        raise UsageError(f"cannot go on with {path}: {length:,} bytes of it had been written and they are not there")
    stream.length = length
    return stream


def _locked(file: int, path: str) -> Stream:
    """A stream that no other scan can write to. The kernel drops the lock with the process, however that ends."""
    if stat.S_ISREG(os.fstat(file).st_mode):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise UsageError(f"{path} is being written by another scan: wait for it, or name another file") from error
        except OSError:
            pass  # a file system without locks
    return Stream(os.fdopen(file, "wb", buffering=0), path, packed=split_suffix(path)[1])


def closed_pipe() -> int:
    """What a command does after BrokenPipeError (`| head`): it writes nothing more and exits with 141.

    Standard output is pointed at /dev/null, so that the interpreter's own flush at exit cannot fail.
    """
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)
    return CLOSED_PIPE
