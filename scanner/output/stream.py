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
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ..errors import NO_READER, ScanError, UsageError
from ..files import NewFile, WholeFile, open_again, open_new, open_whole
from ..gzipped import pack, split_suffix
from ..targets.zones import Zones
from ..verdict.rows import Verdict


@dataclass(frozen=True)
class Run:
    """What is known of a run when it starts, for formats with a head.

    `command`: the command line. `kind`: "syn", "connect", or "" for a capture. `ports`: the probed ports as
    `format_ports` writes them, `port_count` of them. `started`: seconds since 1970. `more`: which of the columns
    `scan`, `vantage` and `capture` rows may have. `names`: the names that the user gave, by address. `only_open`: no
    other rows come. `in_order`: batches come in any order, and are few enough to be put in order at the end. `zones`:
    the links of link-local addresses.
    """

    command: str = "halfopen"
    kind: str = ""
    ports: str = ""
    port_count: int = 0
    started: float = field(default_factory=time.time)
    more: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    zones: Zones = ()
    only_open: bool = False
    in_order: bool = False


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

    `texts`: a batch → its text, in pieces, or bytes of a format that is no text. `head` opens an empty file; `end`
    closes a file, also after an interrupted scan. `memory`: what `end` must know of what has been written, as JSON
    takes it; `recall` takes it back in another process and raises AttributeError, KeyError, TypeError or ValueError if
    it is damaged. `found`: targets (address, port) that were just found open → text, long before their rows come; None:
    the format waits for the rows.
    """

    texts: Callable[[Iterable[Verdict]], Iterator[str] | Iterator[bytes]]
    head: str = ""
    end: Callable[[Summary], str | bytes] = lambda summary: ""
    memory: Callable[[], dict[str, Any]] = dict
    recall: Callable[[dict[str, Any]], None] = lambda memory: None
    found: Callable[[Iterable[tuple[str, int]]], str] | None = None


class Stream:
    """Whole lines to one descriptor. `length` counts the bytes written (packed ones in a `.gz`); it ends a line."""

    def __init__(
        self, raw: Any, name: str, colour: bool = False, person: bool = False, packed: bool = False,
        new: NewFile | WholeFile | None = None,
    ) -> None:  # fmt: skip
        """`raw`: an unbuffered binary file. `person`: it is standard output, beside the notes on stderr.

        `packed`: each write becomes a gzip member. `new`: a file that may still have to take its name.
        """
        self.name = name
        self.colour = colour
        self.person = person
        self.length = 0
        self._raw = raw
        self._packed = packed
        self._new = new

    def write(self, lines: str | bytes) -> None:
        """Write `lines` (each with its newline), or bytes. Raises ScanError; BrokenPipeError if the reader left."""
        assert not lines or isinstance(lines, bytes) or lines[-1] == "\n", "only whole lines are written"
        if not lines:
            return
        text = lines if isinstance(lines, bytes) else lines.encode("utf-8", "backslashreplace")
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
                self.length += self._cut(bytes(data[:done]), isinstance(lines, str) and not self._packed)
            left = "the lines written so far are whole, the rest is lost"
            if isinstance(lines, bytes):
                left = "without its end the file cannot be read"
            raise ScanError(f"{self.name}: {error.strerror}; {left}: make room, or name another file") from error
        self.length += done

    def _is_device(self) -> bool:
        return stat.S_ISCHR(os.fstat(self._raw.fileno()).st_mode)

    def _wait(self) -> int:
        """A non-blocking descriptor took nothing (write returned None): wait until it has room."""
        select.select([], [self._raw], [])
        return 0

    def _cut(self, written: bytes, in_lines: bool) -> int:
        """Take the torn line (or gzip member) off a regular file; returns the bytes of whole lines that stay."""
        whole = written.rfind(b"\n") + 1 if in_lines else 0
        file = self._raw.fileno()
        facts = os.fstat(file)
        # Cut only where our last byte is also the file's last byte: otherwise another writer's bytes would be lost.
        if stat.S_ISREG(facts.st_mode) and facts.st_size == os.lseek(file, 0, os.SEEK_CUR):
            os.truncate(file, facts.st_size - (len(written) - whole))
            os.lseek(file, 0, os.SEEK_END)
        return whole

    def begin(self) -> None:
        """A new file takes the place of an old one. What is behind `length` in a file that is gone on with is removed.

        Raises UsageError if the old file cannot be replaced.
        """
        if self._new:
            self._new.commit()
        elif not self.person and stat.S_ISREG(os.fstat(self._raw.fileno()).st_mode):
            self._raw.truncate(self.length)
            self._raw.seek(self.length)

    def abandon(self) -> None:
        """Close the file and leave the folder as it was. This does nothing more after `begin` than to close it."""
        if self._new:
            self._new.abandon()
        if not self.person:
            self._raw.close()

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
    if sys.platform == "win32" and "WT_SESSION" not in os.environ:  # older consoles print the sequences themselves
        colour = False
    return Stream(getattr(buffer, "raw", buffer), "standard output", colour, person=True)


def create(path: str, force: bool, whole: bool = False) -> Stream:
    """A file to write; `begin` gives it its name, with `whole` always. Raises UsageError as `files.open_new` does."""
    new = open_whole(path, force) if whole else open_new(path, force)
    return Stream(os.fdopen(new.descriptor, "wb", buffering=0), path, packed=split_suffix(path)[1], new=new)


def reopen(path: str, length: int) -> Stream:
    """A file of which an earlier part of a scan has written `length` bytes; the rest stays until `begin`.

    Raises UsageError if there is no such file, if another scan writes it, or if it is shorter than that.
    """
    try:
        file = os.fdopen(open_again(path), "wb", buffering=0)
    except OSError as error:
        raise UsageError(f"cannot go on with {path}: {error.strerror}; scan anew, or bring it back") from error
    if os.fstat(file.fileno()).st_size < length:
        file.close()
        raise UsageError(f"cannot go on with {path}: {length:,} bytes of it had been written and they are not there")
    stream = Stream(file, path, packed=split_suffix(path)[1])
    stream.length = length
    return stream


def closed_pipe() -> int:
    """What a command does after BrokenPipeError (`| head`): it writes nothing more and exits with 141.

    Standard output is pointed at /dev/null, so that the interpreter's own flush at exit cannot fail.
    """
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)
    return NO_READER
