"""The bytes of one capture file, unpacked, through one buffer that is used again and again.

A file, a pipe or standard input is read in large pieces into the same few megabytes, so memory stays
flat whatever the size; the unfinished record at the end moves to the front before the next piece. A memory map
would save that copy, but its pages count as ours, and a file that shrinks meanwhile kills the
process. From a pipe whatever has arrived is handed on at once, so `tcpdump -U -w - |` is judged as it goes.
gzip is known by its first bytes, may have several members, and may be cut or damaged: everything up to the
damage is unpacked.

Source: RFC 1952 (gzip).
"""

import os
import select
import stat
import zlib
from io import FileIO

import numpy as np

from .records import SLACK
from .tally import CaptureReader

CAPACITY = 1 << 22
_PIECE = 1 << 18  # packed bytes taken from the file at once
_GZIP = b"\x1f\x8b"
_AUTO_GZIP = 31  # zlib's wbits for "32 KB window, gzip wrapper"


class Source:
    """One opened file. The bytes at hand are buffer[begin:end]; `buffer` has SLACK bytes to spare."""

    def __init__(self, path: str, tally: CaptureReader, capacity: int = CAPACITY) -> None:
        """Open; raises OSError. `-` is standard input."""
        self.name = "standard input" if path == "-" else path
        self.file = FileIO(0, closefd=False) if path == "-" else FileIO(path)
        self.regular = stat.S_ISREG(os.fstat(self.file.fileno()).st_mode)
        self.tally = tally
        self.buffer = np.zeros(capacity + SLACK, np.uint8)
        self.begin = self.end = 0
        self.dropped = 0  # unpacked bytes that have left the buffer
        self._packed: bytes | None = None  # packed bytes not yet used; None while (or if) the file is not gzip
        self._inflater = zlib.decompressobj(_AUTO_GZIP)
        self._dry = False  # the file has been read to its end
        self._ended = False  # and nothing is left to unpack
        if self.need(len(_GZIP)) and self.view(len(_GZIP)) == _GZIP:
            self._packed = self.view(self.end)
            self.begin = self.end = 0
            self._ended = False

    @property
    def offset(self) -> int:
        """How far into the unpacked file `begin` is."""
        return self.dropped + self.begin

    def view(self, size: int) -> bytes:
        """A copy of the next `size` bytes (fewer at the end)."""
        return self.buffer[self.begin : min(self.begin + size, self.end)].tobytes()

    def need(self, size: int) -> bool:
        """Have at least `size` bytes at hand; False when the file ends before."""
        while self.end - self.begin < size and self.more():
            pass
        return self.end - self.begin >= size

    def skip(self, size: int) -> bool:
        """Pass over `size` bytes without keeping them; False when the file ends before."""
        while size > self.end - self.begin:
            size -= self.end - self.begin
            self.begin = self.end
            if not self.more():
                return False
        self.begin += size
        return True

    def more(self) -> bool:
        """Read on: False at the end of the file. Positions handed out before are void."""
        assert self.end - self.begin < len(self.buffer) - SLACK, "no record is as large as the buffer"
        rest = self.end - self.begin
        self.buffer[:rest] = self.buffer[self.begin : self.end]
        self.dropped += self.begin
        self.begin, self.end = 0, rest
        while not self._ended and self.end < len(self.buffer) - SLACK:
            self._fill()
            if self.end > rest and not self._waiting():
                break
        return self.end > rest

    def close(self) -> None:
        """Close the file (standard input stays open)."""
        self.file.close()

    def _waiting(self) -> bool:
        """Is there more to be had without waiting for somebody to write it?"""
        return self.regular or bool(self._packed) or bool(select.select([self.file], [], [], 0)[0])

    def _fill(self) -> None:
        room = self.buffer.data[self.end : len(self.buffer) - SLACK]
        if self._packed is not None:
            self._unpack(room)
        else:
            self.end += self._read_into(room)
            self._ended = self._dry

    def _read_into(self, room: memoryview) -> int:
        """Read once; a failing disk ends the file and is noted."""
        try:
            size = self.file.readinto(room) or 0
        except OSError as error:
            self.tally.hurt(self.name, self.dropped + self.end, f"cannot read on: {error.strerror}")
            size = 0
        self._dry = not size
        return size

    def _read_piece(self) -> bytes:
        piece = bytearray(_PIECE)
        return bytes(piece[: self._read_into(memoryview(piece))])

    def _unpack(self, room: memoryview) -> None:
        """Unpack once, reading on first if nothing is left of what was read."""
        if not self._packed and not self._dry:
            self._packed = self._read_piece()
        if self._inflater.eof:
            self._next_member()
            return
        data, broken = self._inflate(self._packed or b"", len(room))
        room[: len(data)] = data
        self.end += len(data)
        if broken:
            self._stop("damaged gzip data")
        elif self._dry and not data and not self._packed and not self._inflater.eof:
            self._stop("the gzip data ends early")

    def _inflate(self, packed: bytes, room: int) -> tuple[bytes, bool]:
        """Unpack as much as fits; around damage, every byte before it. Leaves the unused input in `_packed`."""
        spare = self._inflater.copy()
        try:
            data = self._inflater.decompress(packed, room)
            self._packed = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            return data, False
        except zlib.error:
            self._inflater = spare
        if len(packed) <= 1:
            return b"", True
        half = len(packed) // 2
        first, broken = self._inflate(packed[:half], room)
        if broken or self._packed or self._inflater.eof or len(first) == room:
            self._packed = (self._packed or b"") + packed[half:]
            return first, broken
        second, broken = self._inflate(packed[half:], room - len(first))
        return first + second, broken

    def _next_member(self) -> None:
        """One member is complete: go on with the next, ignore padding zeros, note anything else."""
        packed = (self._packed or b"").lstrip(b"\0")
        if len(packed) == 1:
            packed += self._read_piece()
        self._packed = packed
        if packed.startswith(_GZIP):
            self._inflater = zlib.decompressobj(_AUTO_GZIP)
        elif packed:
            self._stop("something that is not gzip follows the gzip data")
        elif self._dry:
            self._ended = True

    def _stop(self, cause: str) -> None:
        self.tally.hurt(self.name, self.dropped + self.end, cause)
        self._ended, self._packed = True, b""
