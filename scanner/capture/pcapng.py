"""Blocks of a pcapng file → Frames.

A file is a series of sections, each with its own byte order and its own interfaces; each interface has its own link
type and clock. The chain of blocks is walked in bulk and packet blocks are read as columns; the few blocks that
describe interfaces or carry statistics are read one by one. A packet that names an interface which has not been
described before it is skipped and counted, also where the description follows later.

Limits: names, comments and secrets are ignored. A simple packet block carries no time: NO_TIME. A time stamp that does
not fit nanoseconds in 64 bits is treated like none.

Source: draft-ietf-opsawg-pcapng, sections 3.4 (byte order), 4.1 to 4.6 (blocks), A.1 (the obsolete packet block).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import unpack_from

import numpy as np

from ..packet.headers import U64, Bools, Frames, Ints, Rows, read
from .records import MAX_BLOCK, MAX_RECORD, SECTION_HEADER, PcapngBlocks, walk
from .source import NO_TIME, CaptureFile

MAGIC = SECTION_HEADER.to_bytes(4, "big")
BYTE_ORDER = 0x1A2B3C4D
INTERFACE, OLD_PACKET, SIMPLE_PACKET, STATISTICS, PACKET = 1, 2, 3, 5, 6
OPTION_END, SHB_USERAPPL, IF_NAME, IF_TSRESOL, IF_TSOFFSET = 0, 4, 2, 9, 14
ISB_STARTTIME, ISB_ENDTIME, ISB_IFDROP = 2, 3, 5
RECORDED_BY = b"halfopen"  # how our own recordings are signed (shb_userappl)

_ORDERS = {BYTE_ORDER.to_bytes(4, "big"): ">", BYTE_ORDER.to_bytes(4, "little"): "<"}
_NO_SNAPLEN = 0xFFFF_FFFF
_SECOND = 1_000_000_000
# What an interface description says: if_tsresol is 10^-n, or with the high bit 2^-n; if_tsoffset is in seconds.
_DESCRIPTION = np.dtype([("link", "u2"), ("snaplen", "u4"), ("resolution", "u1"), ("offset", "i8")])
_DEFAULT = (0, 0, 6, 0)  # stands for interfaces in a section that has none


@dataclass
class Section:
    """What the blocks of one section have said so far: the byte order, and a _DESCRIPTION for each interface."""

    order: str
    interfaces: list[tuple[int, int, int, int]] = field(default_factory=list)

    def table(self) -> Rows:
        """_DESCRIPTION[n], by the number of the interface; at least one row."""
        return np.array(self.interfaces or [_DEFAULT], _DESCRIPTION)


def pcapng_batches(file: CaptureFile) -> Iterator[Frames]:
    """The frames of a file that begins with MAGIC. Damage ends it and is noted."""
    section = _begin_section(file)
    if section is not None:
        file.capture.opened += 1
    while section is not None:
        at, file.begin = walk(PcapngBlocks(section.order), file.buffer, file.begin, file.end)
        frames = _frames(file, at, section)
        if len(frames):
            yield frames
        if file.view(4) == MAGIC:
            section = _begin_section(file)
        elif not _step_over(file, section):
            return


def _begin_section(file: CaptureFile) -> Section | None:
    """Read the section header at hand (4.1); None (and damage) where that cannot be done."""
    start, header = file.offset, file.view(16) if file.need(16) else b""
    order = _ORDERS.get(header[8:12])
    length, _, major = unpack_from((order or "<") + "IIH", header.ljust(16, b"\0"), 4)
    if not header:
        cause = "the file ends inside a section header"
    elif order is None:
        cause = "a section header without a byte order"
    elif major != 1:
        cause = f"a section of the unknown pcapng version {major}"
    elif length < 28 or length & 3 or length > MAX_BLOCK:
        cause = f"a section header claims {length:,} bytes"
    else:
        options = _options(file.view(length)[24:-4], order) if file.need(length) else {}
        if file.skip(length):
            file.capture.both_ways |= options.get(SHB_USERAPPL) == RECORDED_BY
            return Section(order)
        cause = "the file ends inside a section header"
    file.damaged(cause, start)
    return None


def _step_over(file: CaptureFile, section: Section) -> bool:
    """Handle what stopped the walk: a block that goes on, a huge harmless block, or damage. False at the end."""
    start = file.offset
    # Less than the shortest block is at hand only where the buffer or the file ends.
    kind, length = unpack_from(section.order + "II", file.view(8)) if file.size >= 12 else (None, 12)
    is_packet = kind in (PACKET, OLD_PACKET, SIMPLE_PACKET)
    if length < 12 or length & 3 or (is_packet and length > MAX_BLOCK):
        cause = f"a block of type {kind} claims {length:,} bytes; the rest cannot be found"
    elif length > MAX_BLOCK:  # whatever it is, it holds no packet and need not fit the buffer
        if file.skip(length):
            return True
        cause = f"the file ends inside a block of type {kind} that claims {length:,} bytes"
    elif file.size < length:
        if file.more():
            return True
        cause = "the file ends inside a block" if file.size else ""
    else:
        trailer = unpack_from(section.order + "I", file.view(length), length - 4)[0]
        cause = f"a block of type {kind} has two lengths, {length:,} and {trailer:,}; the rest cannot be found"
    if cause:
        file.damaged(cause, start)
    return False


# ── packets ──


def _frames(file: CaptureFile, at: Ints, section: Section) -> Frames:
    """The packets among the blocks at `at`, after taking in what the other blocks say."""
    half, word = section.order + "u2", section.order + "u4"
    kind = read(file.buffer, at, np.dtype(word)).astype(np.int64)
    known = len(section.interfaces)
    other = (kind != PACKET) & (kind != OLD_PACKET) & (kind != SIMPLE_PACKET)
    places = [place for place in at[other].tolist() if _describe(file, place, section)]
    at, kind = at[~other], kind[~other]
    fields = ("kind", "total", "interface", "high", "low", "captured")  # 4.3; A.1 differs in the interface only
    blocks = read(file.buffer, at, np.dtype([(name, word) for name in fields]))
    old, simple = kind == OLD_PACKET, kind == SIMPLE_PACKET
    interface = blocks["interface"].astype(np.int64)
    interface[old] = read(file.buffer, at[old] + 8, np.dtype(half))
    interface[simple] = 0
    # A packet knows the interfaces of earlier batches, and those of this batch that were described before it.
    exists = interface < known + np.searchsorted(np.array(places, np.int64), at)
    start, length, fits = _extent(blocks, at, simple, section)
    for cause, rejected in (("no such interface", ~exists), ("packet longer than its block", exists & ~fits)):
        if rejected.any():
            file.capture.skipped[cause] += int(np.count_nonzero(rejected))
    keep = exists & fits
    described = section.table().take(interface[keep])
    time, in_range = _nanoseconds(blocks[keep], described)
    time[~in_range | simple[keep]] = NO_TIME
    return Frames(file.buffer, start[keep], length[keep], time, described["link"])


def _extent(blocks: Rows, at: Ints, simple: Bools, section: Section) -> tuple[Ints, Ints, Bools]:
    """Where the packet data begins, how long it is, and whether it lies inside its block."""
    start = at + np.where(simple, 12, 28)
    room = at + blocks["total"].astype(np.int64) - 4 - start
    length = blocks["captured"].astype(np.int64)
    if simple.any():
        # A simple packet block (4.4) gives the original length only, where others have the interface: what was
        # captured of it is at most the snap length of the first interface.
        original = blocks["interface"].astype(np.int64)
        captured = np.minimum(original, int(section.table()["snaplen"][0]) or _NO_SNAPLEN)
        length = np.where(simple, np.minimum(captured, room), length)
    return start, length, (length <= room) & (length <= MAX_RECORD) & (room >= 0)


# ── other blocks ──


def _describe(file: CaptureFile, at: int, section: Section) -> bool:
    """Take in a block that is not a packet; True if it described an interface."""
    order = section.order
    kind, total = unpack_from(order + "II", file.buffer.data, at)
    body = file.buffer[at + 8 : at + total - 4].tobytes()
    if kind == INTERFACE and len(body) >= 8:
        link, _, snaplen = unpack_from(order + "HHI", body)
        options = _options(body[8:], order)
        resolution = (options.get(IF_TSRESOL) or b"\x06")[0]  # 4.2: microseconds
        offset = unpack_from(order + "q", options.get(IF_TSOFFSET, b"").ljust(8, b"\0"))[0]
        section.interfaces.append((link, snaplen, resolution, offset))
        return True
    if kind == STATISTICS and len(body) >= 12:
        _take_end_time(file, body, section)
    return False


def _take_end_time(file: CaptureFile, body: bytes, section: Section) -> None:
    interface = unpack_from(section.order + "I", body)[0]
    end = _options(body[12:], section.order).get(ISB_ENDTIME, b"")
    if interface >= len(section.interfaces) or len(end) < 8:
        return
    moment = np.array([unpack_from(section.order + "II", end)], [("high", "u4"), ("low", "u4")])
    time, in_range = _nanoseconds(moment, section.table()[[interface]])
    if in_range[0]:
        file.capture.end_time = max(file.capture.end_time, int(time[0]))


def _options(body: bytes, order: str) -> dict[int, bytes]:
    """Option code → first value, up to the end or the first one that does not fit (3.5)."""
    options: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(body):
        code, length = unpack_from(order + "HH", body, at)
        if code == OPTION_END or at + 4 + length > len(body):
            break
        options.setdefault(code, body[at + 4 : at + 4 + length])
        at += 4 + (length + 3 & ~3)  # values are padded to 32 bits
    return options


# ── clocks ──


def _nanoseconds(stamps: Rows, described: Rows) -> tuple[Ints, Bools]:
    """Time stamps, with the _DESCRIPTION of each one's interface → int64 ns since 1970, and which of them fit."""
    ticks = stamps["high"].astype(np.uint64) << np.uint64(32) | stamps["low"].astype(np.uint64)
    resolution = described["resolution"]
    second, rest = np.zeros_like(ticks), np.zeros_like(ticks)
    for unit in np.flatnonzero(np.bincount(resolution, minlength=1)).tolist():
        same = slice(None) if (resolution == unit).all() else resolution == unit
        second[same], rest[same] = _split(ticks[same], unit)
    offset = described["offset"]
    # Both terms are checked before they are added, and the sum before it is multiplied: nothing may wrap around.
    limit = (1 << 63) // _SECOND - 1
    in_range = (second <= limit) & (np.abs(offset.astype(np.float64)) <= limit)
    total = second.astype(np.int64) + np.where(in_range, offset, 0)
    in_range &= np.abs(total) <= limit
    return np.where(in_range, total, 0) * _SECOND + rest.astype(np.int64), in_range


def _split(ticks: U64, unit: int) -> tuple[U64, U64]:
    """Ticks of one if_tsresol (4.2) → whole seconds and the nanoseconds left over (rounded down)."""
    base, power = (2, unit & 0x7F) if unit & 0x80 else (10, unit)
    per_second = base**power
    second, rest = _divmod(ticks, per_second)
    # rest · 10^9 must fit 64 bits. Nothing finer than 10^-9 or 2^-34 seconds can change a nanosecond: drop it first.
    kept = min(per_second, _SECOND if base == 10 else 1 << 34)
    fraction, _ = _divmod(rest, per_second // kept)
    return second, fraction * np.uint64(_SECOND) // np.uint64(kept)


def _divmod(ticks: U64, divisor: int) -> tuple[U64, U64]:
    """Like divmod, also where the divisor does not fit 64 bits."""
    return np.divmod(ticks, np.uint64(divisor)) if divisor < 1 << 64 else (np.zeros_like(ticks), ticks)
