"""Where rows go as bytes: a file, or standard output.

A reader of the results (a program on the other end of a pipe, a run that is resumed, a person with a
full disk) must be able to trust every line that is there. So formats hand over whole lines only, the
bytes go straight to the descriptor (no buffer that could break at exit), and where the system takes
only a part of them and then fails, the torn last line is cut off again, if the file is a regular one
and nobody has written behind us. What went into a pipe cannot be taken back. A name that ends in `.gz` is
packed on the way, each write a whole gzip member (`packing`), and a torn member is cut off just so.

A failing disk is a `ScanError` that names the file. A reader that has gone away is the built-in
BrokenPipeError; `closed_pipe` says how a command ends then.
"""

import fcntl
import os
import select
import stat
import sys
from typing import Any, BinaryIO

from ..errors import ScanError, UsageError
from .packing import pack, split_suffix

CLOSED_PIPE = 141  # 128 + SIGPIPE: what a shell reports for any program that the closed pipe ended


class Stream:
    """Whole lines to one descriptor. `length` counts the bytes written, packed ones if so: always the end of a line."""

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
            self.length += self._cut(bytes(data[:done]))
            raise ScanError(f"{self.name}: {error.strerror}; the lines written so far are whole, the rest is lost: "
                            "make room, or name another file") from error  # fmt: skip
        self.length += done

    def _wait(self) -> int:
        """A descriptor that someone set non-blocking took nothing: wait until it does."""
        select.select([], [self._raw], [])
        return 0

    def _cut(self, written: bytes) -> int:
        """Take the torn line (or gzip member) off a regular file; the whole-line bytes that stay."""
        whole = 0 if self._packed else written.rfind(b"\n") + 1
        file = self._raw.fileno()
        facts = os.fstat(file)
        if stat.S_ISREG(facts.st_mode) and facts.st_size == os.lseek(file, 0, os.SEEK_CUR):
            os.truncate(file, facts.st_size - (len(written) - whole))
            os.lseek(file, 0, os.SEEK_END)
        return whole

    def empty(self) -> None:
        """Take away what a regular file held before."""
        if stat.S_ISREG(os.fstat(self._raw.fileno()).st_mode):
            self._raw.truncate(0)

    def cut_back(self) -> None:
        """Take away what a file holds behind `length`, and write there."""
        self._raw.truncate(self.length)
        self._raw.seek(self.length)

    def close(self) -> None:
        """Close the file; standard output stays open. Raises ScanError: some disks speak up only here."""
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
    """A file to write, made if it is not there; a device or FIFO that exists is opened as it is.

    An old file's content stays until `empty`. Raises UsageError if a regular file is there already
    (unless `force`), or the system refuses.
    """
    try:
        regular = not os.path.exists(path) or stat.S_ISREG(os.stat(path).st_mode)
        new_only = os.O_EXCL if regular and not force else 0
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | new_only, 0o666)
        _lock(file, path)
    except FileExistsError as error:
        raise UsageError(f"{path} exists and is not overwritten: name another file, or add --force") from error
    except OSError as error:
        raise UsageError(
            f"{path!r} cannot be written ({error.strerror}): name a file in a folder that you may write to"
        ) from error
    return Stream(os.fdopen(file, "wb", buffering=0), path, packed=split_suffix(path)[1])


def _lock(file: int, path: str) -> None:
    """Two scans must not write one file: the second is refused. The system takes the lock away with the process."""
    if stat.S_ISREG(os.fstat(file).st_mode):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise UsageError(f"{path} is being written by another scan: wait for it, or name another file") from error
        except OSError:
            pass  # a file system without locks


def reopen(path: str, length: int) -> Stream:
    """A file of which an earlier part of a scan has written `length` bytes; what follows them stays until `cut_back`.

    Raises UsageError where there is no such file, or less of it than that.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"cannot go on with {path}: {error.strerror}; scan anew, or bring it back") from error
    _lock(file, path)
    facts = os.fstat(file)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size < length:
        os.close(file)
        raise UsageError(f"cannot go on with {path}: {length:,} bytes of it had been written and they are not there")
    stream = Stream(os.fdopen(file, "wb", buffering=0), path, packed=split_suffix(path)[1])
    stream.length = length
    return stream


def closed_pipe() -> int:
    """What a command does after BrokenPipeError (`| head`): nothing more is written; returns its exit code, 141.

    Standard output is pointed at /dev/null, so that the interpreter's own flush at exit cannot fail.
    """
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)
    return CLOSED_PIPE
