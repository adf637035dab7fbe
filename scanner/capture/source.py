"""A capture, what reading it finds out, and the bytes of its files.

A file, a pipe or standard input is read in pieces into one buffer of a few megabytes, so memory stays flat whatever the
size; the unfinished record at the end moves to the front before more is read. A memory map would save that copy, but
its pages count as ours, and a file that shrinks meanwhile kills the process. gzip is known by its first bytes, may have
several members, and may be cut or damaged: everything before the damage is unpacked.

What arrives from a pipe is gathered for a moment (GATHER), so that `tcpdump -U -w - |` is judged as it goes, and a fast
writer costs no more batches than a file. Reading can be stopped at any time. A file then ends at once. The writer of a
pipe has a moment (HAND_OVER) to write what it still holds: Ctrl-C stops tcpdump as well, and it has a buffer.

Strange bytes never raise an error. Each piece of damage becomes one line that names the file, the byte offset and the
cause; what was readable before it has been delivered.

Source: RFC 1952 (gzip).
"""

import os
import select
import stat
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO
from typing import NamedTuple

import numpy as np

from ..gzipped import MAGIC, WINDOW_BITS
from ..packet.headers import Frames
from .records import SLACK

NO_TIME = -(1 << 63)  # the `time` of a frame whose record carries no time stamp
CAPACITY = 1 << 22
GATHER = 0.1  # seconds from the first bytes of a batch that a pipe has given to the last
HAND_OVER = 1.0  # seconds for the writer of a pipe, after reading was stopped
_PIECE = 1 << 18  # bytes taken from the file at once
_NO_SELECT = sys.platform == "win32"  # there select() waits for sockets alone, and a read waits itself
_LOOK = 0.2  # seconds of waiting for a writer, between looks at whether reading was stopped


class Damage(NamedTuple):
    """One thing wrong with one file. `offset` counts bytes from its start; of its unpacked content if it is gzip."""

    file: str
    offset: int
    cause: str

    def __str__(self) -> str:
        return f"{self.file}: byte {self.offset}: {self.cause}"


@dataclass
class Capture:
    """Iterate it once for batches of Frames, in time order; each batch lives until the next one is fetched.

    The other fields say what was found; they are complete once the iteration has ended. Times are nanoseconds since
    1970. `largest_time` is that of the frames and `end_time` the latest isb_endtime of a pcapng file; both are NO_TIME
    while there is none. `bytes_read` counts the bytes of the files, packed or not. `size` is how many they have, and
    None where a pipe is among them. `both_ways`: some pcapng file is the recording of a scan, which holds what was sent
    and what came back. `skipped` counts records that were passed over, by cause. `stopped_at`: when `stop` was called.
    """

    batches: Iterator[Frames] = field(default_factory=lambda: iter(()))
    opened: int = 0  # files that are captures
    frames: int = 0
    bytes_read: int = 0
    size: int | None = None
    damage: list[Damage] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    largest_time: int = NO_TIME
    has_untimed: bool = False
    end_time: int = NO_TIME
    both_ways: bool = False
    stopped_at: float | None = None  # by the steady clock, in seconds

    def stop(self) -> None:
        """End the iteration soon. May be called at any time, also by a signal."""
        if self.stopped_at is None:
            self.stopped_at = time.monotonic()

    def __iter__(self) -> Iterator[Frames]:
        return self.batches

    def count(self, frames: Frames) -> Frames:
        """Count a batch that is about to be delivered."""
        self.frames += len(frames)
        self.largest_time = max(self.largest_time, int(frames.time.max()))
        self.has_untimed = self.has_untimed or int(frames.time.min()) == NO_TIME
        return frames


class CaptureFile:
    """One opened file. The bytes at hand are buffer[begin:end]; `buffer` has SLACK bytes to spare."""

    def __init__(self, path: str, capture: Capture, capacity: int = CAPACITY) -> None:
        """Open; raises OSError. `-` is standard input. What is found goes to `capture`."""
        self.name = file_name(path)
        self.capture = capture
        self.buffer = np.zeros(capacity + SLACK, np.uint8)
        self.begin = self.end = 0
        self._file = FileIO(0, closefd=False) if path == "-" else FileIO(path)
        self._regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        self._dropped = 0  # unpacked bytes that have left the buffer
        self._all_read = False  # the file has been read to its end
        self._ended = False  # and nothing is left to unpack
        self._packed: bytes | None = None  # packed bytes not yet used; None while (or if) the file is not gzip
        self._inflater = zlib.decompressobj(wbits=WINDOW_BITS)
        self._step = capacity  # packed bytes that are unpacked at once
        if self.need(len(MAGIC)) and self.view(len(MAGIC)) == MAGIC:
            self._packed = self.view(self.end)
            self.begin = self.end = 0
            self._ended = False

    @property
    def offset(self) -> int:
        """How far into the unpacked file `begin` is."""
        return self._dropped + self.begin

    @property
    def size(self) -> int:
        """How many bytes are at hand."""
        return self.end - self.begin

    def view(self, size: int) -> bytes:
        """A copy of the next `size` bytes (fewer at the end)."""
        return self.buffer[self.begin : min(self.begin + size, self.end)].tobytes()

    def need(self, size: int) -> bool:
        """Have at least `size` bytes at hand; False when the file ends before."""
        while self.size < size and self.more():
            pass
        return self.size >= size

    def skip(self, size: int) -> bool:
        """Pass over `size` bytes without keeping them; False when the file ends before."""
        while size > self.size:
            size -= self.size
            self.begin = self.end
            if not self.more():
                return False
        self.begin += size
        return True

    def more(self) -> bool:
        """Read on: False at the end of the file. Positions given out before are void."""
        rest, limit = self.size, len(self.buffer) - SLACK
        assert rest < limit, "no record is as large as the buffer"
        self.buffer[:rest] = self.buffer[self.begin : self.end]
        self._dropped += self.begin
        self.begin, self.end = 0, rest
        until = None  # for the first bytes there is no hurry
        while not self._ended and self.end < limit and self._ready(until):
            data = self._unpack(limit - self.end) if self._packed is not None else self._read(limit - self.end)
            self.buffer.data[self.end : self.end + len(data)] = data
            self.end += len(data)
            if until is None and self.end > rest:
                until = time.monotonic() + GATHER
            self._ended = self._ended or (self._packed is None and self._all_read)
        return self.end > rest

    def damaged(self, cause: str, offset: int | None = None) -> None:
        """Note damage, here or at `offset`. Where reading was stopped, a cut is none."""
        if self.capture.stopped_at is not None:
            return
        self.capture.damage.append(Damage(self.name, self.offset if offset is None else offset, cause))

    def close(self) -> None:
        """Close the file (standard input stays open)."""
        self._file.close()

    def _ready(self, until: float | None) -> bool:
        """Wait until more can be read, or the end. False at `until` (None: never), or when reading was stopped."""
        while True:
            stopped, now = self.capture.stopped_at, time.monotonic()
            if stopped is not None and (self._regular or now >= stopped + HAND_OVER):
                return False
            wait = _LOOK if until is None else max(0.0, min(_LOOK, until - now))
            if self._regular or self._packed or _NO_SELECT or select.select([self._file], [], [], wait)[0]:
                return True
            if until is not None and now >= until:
                return False

    def _read(self, most: int) -> bytes:
        """Read once; a failing disk ends the file and is noted."""
        try:
            data = self._file.read(min(most, _PIECE)) or b""
        except OSError as error:
            self.damaged(f"cannot read on: {error.strerror}", self._dropped + self.end)
            data = b""
        self.capture.bytes_read += len(data)
        self._all_read = not data
        return data

    def _unpack(self, most: int) -> bytes:
        """Unpack once, reading on first if nothing is left of what was read."""
        packed = self._packed or (b"" if self._all_read else self._read(_PIECE))
        if self._inflater.eof:
            self._begin_member(packed)
            return b""
        head, tail = packed[: self._step], packed[self._step :]
        before = self._inflater.copy()
        try:
            data = self._inflater.decompress(head, most)
        except zlib.error:
            # zlib loses what it unpacked just before the damage: go back, and come closer in smaller and smaller steps.
            self._inflater, self._packed, self._step = before, packed, len(head) // 2
            if not self._step:
                self._stop("damaged gzip data")
            return b""
        unused = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
        self._packed = unused + tail
        if self._all_read and not data and not self._packed and not self._inflater.eof:
            self._stop("the gzip data ends early")
        return data

    def _begin_member(self, packed: bytes) -> None:
        """One member is complete (RFC 1952, 2.2): go on with the next, ignore padding zeros, note anything else."""
        packed = packed.lstrip(b"\0")
        if len(packed) == 1:
            packed += self._read(_PIECE)
        self._packed = packed
        if packed.startswith(MAGIC):
            self._inflater = zlib.decompressobj(wbits=WINDOW_BITS)
        elif packed:
            self._stop("something that is not gzip follows the gzip data")
        elif self._all_read:
            self._ended = True

    def _stop(self, cause: str) -> None:
        self.damaged(cause, self._dropped + self.end)
        self._ended, self._packed = True, b""


def file_name(path: str) -> str:
    """A file as messages name it."""
    return "standard input" if path == "-" else path
