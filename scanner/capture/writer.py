"""Frames → a capture file, for `--record`.

The suffix names the format. A `.pcap` holds nanoseconds and one link type. A `.pcapng` holds nanoseconds and any number
of interfaces. At its end it says for each interface how long the scan listened and what was lost, so a reader can tell
silence from the end of the recording. `.gz` behind either packs the file.

A batch is laid out with numpy and written at once, in whole records, so a scan that is killed leaves a file that reads
cleanly up to its last batch. When the disk is full, what was written of the last batch is cut off again. In a packed
file each batch is a gzip member of its own (see `gzipped`).

Limit: small batches compress badly.

Sources: draft-ietf-opsawg-pcap; draft-ietf-opsawg-pcapng sections 4.1 to 4.3 and 4.6.
"""

import os
from collections.abc import Collection
from contextlib import suppress
from io import FileIO
from struct import pack
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ScanError, ScannerError, UsageError
from ..files import check_new, open_new
from ..gzipped import pack as packed_member
from ..gzipped import split_suffix
from ..packet.headers import U32, Bytes, Frames, Ints, Rows
from . import pcapng
from .pcap import NANO
from .records import MAX_RECORD, SECTION_HEADER

_RECORD = np.dtype([("second", "<u4"), ("fraction", "<u4"), ("captured", "<u4"), ("original", "<u4")])
_PACKET = np.dtype([("kind", "<u4"), ("total", "<u4"), ("interface", "<u4"), ("high", "<u4"), ("low", "<u4"),
                    ("captured", "<u4"), ("original", "<u4")])  # fmt: skip


class PcapWriter:
    """Writes one capture file. Raises UsageError if it cannot be begun, ScanError if it cannot be continued."""

    def __init__(self, path: str, links: Collection[int], force: bool = False, later: bool = False) -> None:
        """Create `path`, or replace it with `force`. `links` are LINKTYPE_ numbers: a .pcap holds only one.

        `later`: an old file keeps its name until `begin`.
        """
        plain, self.packed = split_suffix(path)
        if len(links) > 1 and plain.endswith(".pcap"):
            other = plain + "ng" + path[len(plain) :]
            raise UsageError(f"{path} can hold one kind of link and this scan uses {len(links)}: record to {other}")
        self._new = open_new(path, force)
        self.file = FileIO(self._new.descriptor, "w")
        self.path, self.link = path, min(links)
        self.many = plain.endswith(".pcapng")
        self.interfaces: dict[tuple[int, str], int] = {}
        section = pack("<IHHq", pcapng.BYTE_ORDER, 1, 0, -1)
        signed = _block(SECTION_HEADER, section, (pcapng.SHB_USERAPPL, pcapng.RECORDED_BY))
        try:
            self._put(signed if self.many else pack("<IHHiIII", NANO, 2, 4, 0, 0, MAX_RECORD, self.link))
            if not later:
                self.begin()
        except ScannerError:
            self.abandon()
            raise

    def begin(self) -> None:
        """Give the file its name. Raises UsageError if the system refuses."""
        self._new.commit()

    def abandon(self) -> None:
        """Close the file. Before `begin` the folder is left as it was."""
        self._new.abandon()
        self.file.close()

    def write(self, frames: Frames, interface: str) -> None:
        """Append a batch, in its order. `interface` names where it was seen (kept by .pcapng only)."""
        if not len(frames):
            return
        time = np.maximum(frames.time, 0)
        if self.many:
            described, numbers = self._describe(frames, interface)
            self._put(described + _blocks(frames, time, numbers))
        else:
            self._put(_records(frames, time))

    def close(self, started: int, ended: int, dropped: int) -> None:
        """Finish the file. A .pcapng says when listening began and ended (ns), and how many frames the kernel dropped.

        A writer that has failed has closed its file; then this does nothing.
        """
        if self.many and not self.file.closed:
            if not self.interfaces:
                self._put(self._register(self.link, ""))  # no frame was seen, and the file says so
            for number in self.interfaces.values():
                self._put(_statistics(number, started, ended, dropped))
        self.file.close()

    def _put(self, data: bytes) -> None:
        """Write whole records. If the disk is full, what was written of them is cut off again."""
        rest = memoryview(packed_member(data, 1) if self.packed else data)
        whole = 0  # where the file ends with a whole record
        try:
            whole = self.file.tell() if self.file.seekable() else 0
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            with suppress(OSError):  # a device has no length
                os.ftruncate(self.file.fileno(), whole)
            self.file.close()
            raise ScanError(f"cannot record to {self.path}: {error.strerror}") from error

    def _register(self, link: int, interface: str) -> bytes:
        self.interfaces[link, interface] = len(self.interfaces)
        return _interface(link, interface)

    def _describe(self, frames: Frames, interface: str) -> tuple[bytes, U32]:
        """Interface blocks for what this batch is the first to bring, and the interface number of each frame."""
        blocks, per_link = b"", np.bincount(frames.link)
        numbers = np.zeros(len(per_link), np.uint32)
        for link in np.flatnonzero(per_link).tolist():
            if (link, interface) not in self.interfaces:
                blocks += self._register(link, interface)
            numbers[link] = self.interfaces[link, interface]
        return blocks, numbers[frames.link]


def check_path(path: str, force: bool) -> None:
    """Refuse a name that a recording cannot have. Creates nothing.

    Raises UsageError for another suffix than .pcap or .pcapng (or either with .gz), and as `files.check_new` does.
    """
    plain, _ = split_suffix(path)
    if not plain.endswith((".pcap", ".pcapng")):
        raise UsageError(f"cannot record to {path}: the name must end in .pcap or .pcapng (or either with .gz)")
    check_new(path, force)


def _block(kind: int, body: bytes, *options: tuple[int, bytes]) -> bytes:
    """A whole block. Option values are padded to 32 bits (pcapng 3.5); the length stands at both ends (3.1)."""
    padded = [pack("<HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in options]
    body += b"".join(padded) + pack("<HH", pcapng.OPTION_END, 0)
    total = 12 + len(body)
    return pack("<II", kind, total) + body + pack("<I", total)


def _interface(link: int, name: str) -> bytes:
    named = [(pcapng.IF_NAME, name.encode())] if name else []
    nanoseconds = (pcapng.IF_TSRESOL, b"\x09")
    return _block(pcapng.INTERFACE, pack("<HHI", link, 0, MAX_RECORD), *named, nanoseconds)


def _statistics(number: int, started: int, ended: int, dropped: int) -> bytes:
    start, end = (pack("<II", time >> 32, time & 0xFFFF_FFFF) for time in (started, ended))
    options = ((pcapng.ISB_STARTTIME, start), (pcapng.ISB_ENDTIME, end), (pcapng.ISB_IFDROP, pack("<Q", dropped)))
    return _block(pcapng.STATISTICS, pack("<I", number) + end, *options)


def _records(frames: Frames, time: Ints) -> bytes:
    """The records of a pcap file, one behind the other."""
    header = np.empty(len(frames), _RECORD)
    header["second"], header["fraction"] = np.divmod(time, 1_000_000_000)
    header["captured"] = header["original"] = frames.length
    out, _ = _laid_out(frames, header, _RECORD.itemsize + frames.length)
    return out.tobytes()


def _blocks(frames: Frames, time: Ints, interface: U32) -> bytes:
    """The enhanced packet blocks of a pcapng file (4.3), one behind the other."""
    size = _PACKET.itemsize + (frames.length + 3 & ~3) + 4
    header = np.empty(len(frames), _PACKET)
    header["kind"], header["total"], header["interface"] = pcapng.PACKET, size, interface
    header["high"], header["low"] = time >> 32, time & 0xFFFF_FFFF
    header["captured"] = header["original"] = frames.length
    out, end = _laid_out(frames, header, size)
    _scatter(out, end - 4, header["total"])
    return out.tobytes()


def _laid_out(frames: Frames, header: Rows, size: Ints) -> tuple[Bytes, Ints]:
    """For each frame `size` bytes, its header and data at their beginning: uint8[bytes], and where each ends."""
    end = np.cumsum(size)
    out = np.zeros(int(size.sum()), np.uint8)
    at = end - size
    _scatter(out, at, header)
    at += header.itemsize
    # Frames of one length are copied together; a scan has few different lengths.
    for length in np.flatnonzero(np.bincount(frames.length)).tolist():
        if length:
            same = frames.length == length
            everywhere = _at_every_byte(frames.buffer, np.dtype(f"V{length}"))
            _scatter(out, at[same], everywhere[frames.start[same]])
    return out, end


def _scatter(out: Bytes, at: Ints, rows: npt.NDArray[Any]) -> None:
    """Write each row at its place."""
    _at_every_byte(out, rows.dtype)[at] = rows


def _at_every_byte(buffer: Bytes, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """A view of the buffer with an element at every byte."""
    return np.ndarray((len(buffer) - kind.itemsize + 1,), kind, buffer, strides=(1,))
