"""Capture files, read as batches of Frames and written from them.

`open_captures` reads anything the formats allow: pcap and pcapng, gzip or plain, from files or
standard input. Several files are one capture in time order. Files that do not overlap (a rotated
set) are simply read one after the other; where they do (a file for each direction) their batches
are merged row by row. A file is opened only when its time has come, so a thousand rotated files
cost the memory of one.

Limit: time order among files rests on each file being in order itself, as capture tools write
them. Within a file the order is never changed; a frame without a time stays behind the one it
follows.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..packet.headers import Frames, Ints
from .pcap import MAGICS, pcap_batches
from .pcapng import MAGIC, pcapng_batches
from .source import CAPACITY, Source
from .tally import NO_TIME, CaptureReader, Damage
from .writer import PcapWriter

__all__ = ["NO_TIME", "CaptureReader", "Damage", "PcapWriter", "open_captures"]

_PEEK = 1 << 20  # buffer for a look at the first record; holds the largest record there is


def open_captures(paths: list[str]) -> CaptureReader:
    """All the frames of all the files (`-` is standard input) as one capture.

    Never raises for what is in a file, or for a file that cannot be opened: see CaptureReader.damage.
    """
    reader = CaptureReader()
    reader.batches = _file_batches(paths[0], reader) if len(paths) == 1 else _merged(paths, reader)
    return reader


def _file_batches(path: str, tally: CaptureReader, capacity: int = CAPACITY) -> Iterator[Frames]:
    """The batches of one file, in the order of the file."""
    try:
        source = Source(path, tally, capacity)
    except OSError as error:
        tally.hurt("standard input" if path == "-" else path, 0, f"cannot open: {error.strerror}")
        return
    try:
        source.need(4)
        magic = source.view(4)
        readable = bool(magic) or not tally.damage or tally.damage[-1].file != source.name
        if magic in MAGICS:
            yield from pcap_batches(source, tally)
        elif magic == MAGIC:
            yield from pcapng_batches(source, tally)
        elif readable:  # else: what is wrong has been said
            tally.hurt(source.name, 0, "not a pcap or pcapng file" if magic else "the file is empty")
    finally:
        source.close()


@dataclass
class _Stream:
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


def _merged(paths: list[str], tally: CaptureReader) -> Iterator[Frames]:
    """Several files as one: all rows up to the moment to which every file at hand is known, again and again."""
    waiting = sorted(((_first_time(path), number, path) for number, path in enumerate(paths)), reverse=True)
    streams: list[_Stream] = []
    while waiting or streams:
        until = min((int(stream.order[-1]) for stream in streams), default=None)
        if waiting and (until is None or waiting[-1][0] <= until):
            batches = _file_batches(waiting.pop()[2], tally)
            first = next(batches, None)
            if first is not None:
                streams.append(_Stream(batches, first, np.maximum.accumulate(first.time)))
            continue
        assert until is not None, "a file that waits is opened when nothing else is at hand"
        pieces = [stream.take(until) for stream in streams]
        yield from _interleaved([piece for piece in pieces if len(piece[0])])
        streams = [stream for stream in streams if stream.advance()]


def _interleaved(pieces: list[tuple[Frames, Ints]]) -> Iterator[Frames]:
    """Rows of several files in time order, as one batch in a buffer of its own if there is more than one file."""
    if len(pieces) <= 1:
        yield from (frames for frames, _ in pieces)
        return
    every = [_compact(frames) for frames, _ in pieces]
    base = np.cumsum([0] + [len(frames.buffer) for frames in every])
    start = np.concatenate([frames.start + shift for frames, shift in zip(every, base[:-1], strict=True)])
    joined = Frames(
        np.concatenate([frames.buffer for frames in every]),
        start,
        np.concatenate([frames.length for frames in every]),
        np.concatenate([frames.time for frames in every]),
        np.concatenate([frames.link for frames in every]),
    )
    yield joined.take(np.argsort(np.concatenate([order for _, order in pieces]), kind="stable"))


def _compact(frames: Frames) -> Frames:
    """The same rows over no more of the buffer than they span."""
    low, high = int(frames.start[0]), int(frames.start[-1] + frames.length[-1])  # rows lie in file order
    return Frames(frames.buffer[low:high], frames.start - low, frames.length, frames.time, frames.link)


def _first_time(path: str) -> int:
    """When a file begins; NO_TIME (it is opened at once) where that cannot be looked up twice."""
    try:
        if path == "-" or not stat.S_ISREG(os.stat(path).st_mode):
            return NO_TIME
    except OSError:
        return NO_TIME
    batches = _file_batches(path, CaptureReader(), _PEEK)
    first = next(batches, None)
    return NO_TIME if first is None else int(first.time[0])
