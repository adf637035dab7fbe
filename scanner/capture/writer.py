"""Frames → a capture file, for `--record`.

The suffix is the format: `.pcap` (nanoseconds, one link type) or `.pcapng` (nanoseconds, any number
of interfaces, and at the end for each of them how long it was listened to and what was lost, so that
a reader can tell silence from the end of the recording); `.gz` behind either packs it. A batch is
laid out with numpy and handed over in one write of whole records, so a scan that is killed leaves a
file that reads cleanly up to its last batch; when the disk fills up, what was written of the last
batch is cut off again.

Limit: packed files are flushed batch by batch too, which costs some of the compression.

Sources: draft-ietf-opsawg-pcap; draft-ietf-opsawg-pcapng sections 4.1 to 4.3 and 4.6.
"""

import os
import zlib
from contextlib import suppress
from io import FileIO
from struct import pack

import numpy as np
import numpy.typing as npt

from ..errors import ScanError, UsageError
from ..packet.headers import Bytes, Frames, Ints
from .tally import RECORDED_BY

_SNAPLEN = 1 << 18
_NANO = 0xA1B23C4D
_PCAP_RECORD = np.dtype([("second", "<u4"), ("fraction", "<u4"), ("captured", "<u4"), ("original", "<u4")])
_PACKET = np.dtype([("kind", "<u4"), ("total", "<u4"), ("interface", "<u4"), ("high", "<u4"), ("low", "<u4"),
                    ("captured", "<u4"), ("original", "<u4")])  # fmt: skip
_SECOND = 1_000_000_000
_AUTO_GZIP = 31


class PcapWriter:
    """Writes one capture file. Raises UsageError if it cannot be begun, ScanError if it cannot be continued."""

    def __init__(self, path: str, link: int) -> None:
        """Create (or overwrite) `path`. `link` is the LINKTYPE_ number of a .pcap; .pcapng takes any frames."""
        plain = check_name(path)
        try:
            self.file = FileIO(path, "w")
        except OSError as error:
            raise UsageError(f"cannot record to {path}: {error.strerror}") from error
        self.path, self.link = path, link
        self.many = plain.endswith(".pcapng")
        self.packer = zlib.compressobj(1, wbits=_AUTO_GZIP) if path.endswith(".gz") else None
        self.interfaces: dict[tuple[int, str], int] = {}
        self.first, self.last = 1 << 63, 0  # nanoseconds, of the frames written
        self.put(_section_header() if self.many else _file_header(link))

    def write(self, frames: Frames, interface: str = "") -> None:
        """Append a batch, in its order. `interface` names where it was seen (kept by .pcapng only)."""
        if not len(frames):
            return
        time = np.maximum(frames.time, 0)
        self.first, self.last = min(self.first, int(time.min())), max(self.last, int(time.max()))
        if self.many:
            self.put(
                self._describe(frames, interface) + _blocks(frames, time, self._numbers(frames, interface)).tobytes()
            )
            return
        if (frames.link != self.link).any():
            raise ScanError(f"{self.path} can hold one link type only: record to a .pcapng file")
        self.put(_records(frames, time).tobytes())

    def close(self, started: int | None = None, ended: int | None = None, received: int | None = None,
              dropped: int | None = None) -> None:  # fmt: skip
        """Finish the file. For .pcapng: when listening began and ended (ns; default: first and last frame),
        and what the kernel counted as received and dropped."""
        began = self.first if started is None else started
        if self.many and (started is not None or self.interfaces):
            if not self.interfaces:
                self.put(self._register(self.link, ""))
            self.put(b"".join(_statistics(number, began, self.last if ended is None else ended, received, dropped)
                              for number in self.interfaces.values()))  # fmt: skip
        if self.packer:
            self._out(self.packer.flush())
        self.file.close()

    def put(self, data: bytes) -> None:
        """Hand whole records to the file."""
        self._out(self.packer.compress(data) + self.packer.flush(zlib.Z_SYNC_FLUSH) if self.packer else data)

    def _out(self, data: bytes) -> None:
        rest = memoryview(data)
        whole = 0
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

    def _describe(self, frames: Frames, interface: str) -> bytes:
        """Interface blocks for what this batch is the first to bring."""
        kinds = np.flatnonzero(np.bincount(frames.link)).tolist()
        return b"".join(self._register(link, interface) for link in kinds if (link, interface) not in self.interfaces)

    def _numbers(self, frames: Frames, interface: str) -> npt.NDArray[np.uint32]:
        numbers = np.zeros(1 << 16, np.uint32)
        for (link, name), number in self.interfaces.items():
            if name == interface:
                numbers[link] = number
        return numbers[frames.link]


def check_name(path: str) -> str:
    """The name without .gz. Raises UsageError if it is not that of a .pcap or .pcapng."""
    plain = path.removesuffix(".gz")
    if not plain.endswith((".pcap", ".pcapng")):
        raise UsageError(f"cannot record to {path}: the name must end in .pcap or .pcapng (or either with .gz)")
    return plain


def _file_header(link: int) -> bytes:
    return pack("<IHHiIII", _NANO, 2, 4, 0, 0, _SNAPLEN, link)


def _block(kind: int, body: bytes) -> bytes:
    total = 12 + len(body)
    return pack("<II", kind, total) + body + pack("<I", total)


def _option(code: int, value: bytes) -> bytes:
    return pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _section_header() -> bytes:
    return _block(0x0A0D0D0A, pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _option(4, RECORDED_BY) + _option(0, b""))


def _interface(link: int, name: str) -> bytes:
    options = _option(2, name.encode()) if name else b""
    return _block(1, pack("<HHI", link, 0, _SNAPLEN) + options + _option(9, b"\x09") + _option(0, b""))


def _statistics(number: int, started: int, ended: int, received: int | None, dropped: int | None) -> bytes:
    def moment(time: int) -> bytes:
        return pack("<II", time >> 32, time & 0xFFFF_FFFF)

    counts = [_option(code, pack("<Q", count)) for code, count in ((4, received), (5, dropped)) if count is not None]
    options = _option(2, moment(started)) + _option(3, moment(ended)) + b"".join(counts) + _option(0, b"")
    return _block(5, pack("<I", number) + moment(ended) + options)


def _records(frames: Frames, time: Ints) -> Bytes:
    """The records of a pcap file, one behind the other: uint8[bytes]."""
    size = _PCAP_RECORD.itemsize + frames.length
    at = np.cumsum(size) - size
    out = np.zeros(int(size.sum()), np.uint8)
    header = np.empty(len(frames), _PCAP_RECORD)
    header["second"], header["fraction"] = np.divmod(time, _SECOND)
    header["captured"] = header["original"] = frames.length
    _scatter(out, at, header)
    _copy(frames, out, at + _PCAP_RECORD.itemsize)
    return out


def _blocks(frames: Frames, time: Ints, interface: npt.NDArray[np.uint32]) -> Bytes:
    """The enhanced packet blocks of a pcapng file, one behind the other: uint8[bytes]."""
    size = _PACKET.itemsize + (frames.length + 3 & ~3) + 4
    at = np.cumsum(size) - size
    out = np.zeros(int(size.sum()), np.uint8)
    header = np.empty(len(frames), _PACKET)
    header["kind"], header["total"], header["interface"] = 6, size, interface
    header["high"], header["low"] = time >> 32, time & 0xFFFF_FFFF
    header["captured"] = header["original"] = frames.length
    _scatter(out, at, header)
    _scatter(out, at + size - 4, header["total"])
    _copy(frames, out, at + _PACKET.itemsize)
    return out


def _scatter(out: Bytes, at: Ints, rows: npt.NDArray[np.generic]) -> None:
    """Write each row at its place."""
    everywhere: npt.NDArray[np.generic] = np.ndarray((len(out) - rows.itemsize + 1,), rows.dtype, out, strides=(1,))
    everywhere[at] = rows


def _copy(frames: Frames, out: Bytes, at: Ints) -> None:
    """Copy the bytes of the frames to their places; frames of one length go together, and a scan knows few lengths."""
    for length in np.flatnonzero(np.bincount(frames.length)).tolist():
        if not length:
            continue
        mine = frames.length == length
        cell = np.dtype(f"V{length}")
        source: npt.NDArray[np.void] = np.ndarray((len(frames.buffer) - length + 1,), cell, frames.buffer, strides=(1,))
        _scatter(out, at[mine], source[frames.start[mine]])
