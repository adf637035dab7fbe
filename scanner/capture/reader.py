"""Capture files, read as batches of Frames.

`open_captures` reads anything the formats allow: pcap and pcapng, gzip or plain, from files or standard input. Several
files are one capture in time order. Files that do not overlap (a rotated set) are read one after the other; where they
overlap (a file for each direction) their batches are merged row by row. A file is opened only when the capture reaches
the time at which it begins, so a thousand rotated files cost the memory of one.

Limit: the time order among files relies on the order within each file, as capture tools write them. Within a file the
order is never changed; a frame without a time stays behind the one before it.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..packet.headers import Frames, Ints
from .pcap import MAGICS, pcap_batches
from .pcapng import MAGIC, pcapng_batches
from .records import SLACK
from .source import CAPACITY, NO_TIME, Capture, CaptureFile, Damage, file_name

# First bytes of packed files (RFC 8878; the xz file format 2.1.1.1; bzip2; the LZ4 frame format; APPNOTE.TXT of zip).
_PACKED = {
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc"),
    b"\xfd7zXZ\0": ("xz", "xz -dc"),
    b"BZh": ("bzip2", "bzip2 -dc"),
    b"\x04\x22\x4d\x18": ("LZ4", "lz4 -dc"),
    b"PK\x03\x04": ("zip", "unzip -p"),
}
_LONGEST_MAGIC = 6
_PEEK = 1 << 20  # buffer for a look at the first record; holds the largest record there is


def open_captures(paths: list[str]) -> Capture:
    """All the frames of all the files (`-` is standard input) as one capture.

    Never raises for what is in a file, or for a file that cannot be opened: see Capture.damage.
    """
    capture = Capture(size=_size(paths))
    capture.batches = _file_batches(paths[0], capture) if len(paths) == 1 else _merged(paths, capture)
    return capture


def _size(paths: list[str]) -> int | None:
    """The bytes of all files together; None if one of them is a pipe. A file that cannot be opened has none."""
    total = 0
    for path in paths:
        try:
            facts = os.fstat(0) if path == "-" else os.stat(path)
        except OSError:
            continue
        if not stat.S_ISREG(facts.st_mode):
            return None
        total += facts.st_size
    return total


def _file_batches(path: str, capture: Capture, capacity: int = CAPACITY) -> Iterator[Frames]:
    """The batches of one file, in the order of the file."""
    try:
        file = CaptureFile(path, capture, capacity)
    except OSError as error:
        capture.damage.append(Damage(file_name(path), 0, f"cannot open: {error.strerror}"))
        return
    try:
        file.need(4)
        magic = file.view(4)
        if magic in MAGICS or magic == MAGIC:
            yield from map(capture.count, pcapng_batches(file) if magic == MAGIC else pcap_batches(file))
        elif magic:
            file.damaged(_not_a_capture(file.view(_LONGEST_MAGIC)), 0)
        elif not capture.damage or capture.damage[-1].file != file.name:  # or damaged gzip data have left nothing
            file.damaged("the file is empty", 0)
    finally:
        file.close()


def _not_a_capture(begin: bytes) -> str:
    packed = packed_with(begin)
    if not packed:
        return "not a pcap or pcapng file"
    form, command = packed
    return f"{form} data, which must be unpacked first: {command} FILE | halfopen classify -"


def packed_with(begin: bytes) -> tuple[str, str] | None:
    """The form of packed data that begin so, and the command that unpacks them; None for what is not known."""
    return next((packed for magic, packed in _PACKED.items() if begin.startswith(magic)), None)


# ── several files as one ──


@dataclass
class _MergedFile:
    """One file in the merge: the rows of its current batch from `next` on are still to be delivered."""

    batches: Iterator[Frames]
    frames: Frames
    order: Ints  # largest time so far in the file, row by row: never falls
    next: int = 0

    def take(self, until: int) -> tuple[Frames, Ints]:
        """The rows not later than `until`, and their places in time."""
        stop = int(np.searchsorted(self.order, until, "right"))
        rows = np.arange(self.next, stop)
        self.next = stop
        return self.frames.take(rows), self.order[rows]

    def advance(self) -> bool:
        """Fetch the next batch if this one is used up; False when the file has ended."""
        if self.next < len(self.frames):
            return True
        frames = next(self.batches, None)
        if frames is None:
            return False
        self.order = np.maximum.accumulate(np.maximum(frames.time, self.order[-1:]))
        self.frames, self.next = frames, 0
        return True


def _merged(paths: list[str], capture: Capture) -> Iterator[Frames]:
    """Several files as one."""
    waiting = sorted(((_first_time(path), number, path) for number, path in enumerate(paths)), reverse=True)
    files: list[_MergedFile] = []
    while waiting or files:
        # Up to `until`, every open file is known; a file that begins before it is to be opened first.
        until = min((int(file.order[-1]) for file in files), default=None)
        if waiting and (until is None or waiting[-1][0] <= until):
            batches = _file_batches(waiting.pop()[2], capture)
            first = next(batches, None)
            if first is not None:
                files.append(_MergedFile(batches, first, np.maximum.accumulate(first.time)))
            continue
        assert until is not None, "a file that waits is opened when no other is open"
        # The file that ends at `until` gives at least one row.
        pieces = [piece for piece in (file.take(until) for file in files) if len(piece[0])]
        yield _interleaved(pieces) if len(pieces) > 1 else pieces[0][0]
        files = [file for file in files if file.advance()]


def _interleaved(pieces: list[tuple[Frames, Ints]]) -> Frames:
    """Rows of several files and their places in time → one batch in time order, in a buffer of its own."""
    columns, shift = [], 0
    for frames, _ in pieces:
        # Of each buffer only the bytes that these rows span are copied. Rows are in the order of the file.
        low, high = int(frames.start[0]), int(frames.start[-1] + frames.length[-1])
        columns.append((frames.buffer[low:high], frames.start - low + shift, frames.length, frames.time, frames.link))
        shift += high - low
    buffers, *others = zip(*columns, strict=True)
    slack = np.zeros(SLACK, np.uint8)  # a header may be read beyond the end of a frame that is cut
    joined = Frames(np.concatenate([*buffers, slack]), *map(np.concatenate, others))
    return joined.take(np.argsort(np.concatenate([order for _, order in pieces]), kind="stable"))


def _first_time(path: str) -> int:
    """When a file begins; NO_TIME (it is opened at once) where that cannot be looked up twice."""
    if path == "-" or not os.path.isfile(path):
        return NO_TIME
    first = next(_file_batches(path, Capture(), _PEEK), None)
    return NO_TIME if first is None else int(first.time[0])
