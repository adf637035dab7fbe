"""Blocks of a pcapng file → Frames.

A file is a series of sections, each with its own byte order and its own interfaces; each interface
has its own link type and clock. The chain of blocks is walked in bulk; packet blocks are then read
as columns, and the few blocks that describe interfaces or carry statistics are read one by one. How many
interfaces had been described before a packet is a searchsorted, so a packet that names an interface which does
not exist (yet) is skipped and counted, also when the description follows later.

Limits: names, comments and secrets are passed over. A simple packet block carries no time: NO_TIME.
A time stamp that does not fit nanoseconds in 64 bits is treated like none.

Source: draft-ietf-opsawg-pcapng, sections 3.4, 4.1 to 4.6, A.1 (the obsolete packet block).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import unpack_from

import numpy as np
import numpy.typing as npt

from ..packet.headers import Bools, Frames, Ints, Rows, read
from .records import MAX_BLOCK, MAX_RECORD, SECTION_HEADER, PcapngBlocks, walk
from .source import Source
from .tally import NO_TIME, RECORDED_BY, CaptureReader

MAGIC = SECTION_HEADER.to_bytes(4, "big")
INTERFACE, OLD_PACKET, SIMPLE_PACKET, STATISTICS, PACKET = 1, 2, 3, 5, 6
_ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
_OPTION_END, _SNAPLEN_NONE = 0, 0xFFFF_FFFF
_SHB_USERAPPL, _OPTIONS_READ = 4, 4096  # who wrote the section; bytes of its header that are looked through
_IF_TSRESOL, _IF_TSOFFSET, _ISB_ENDTIME = 9, 14, 3
_MICROSECONDS = 6
_SECOND = 1_000_000_000


@dataclass
class Section:
    """What the blocks of one section have said so far."""

    order: str
    links: list[int] = field(default_factory=list)
    snaplens: list[int] = field(default_factory=list)
    resolutions: list[int] = field(default_factory=list)  # if_tsresol: 10^-n, or with the high bit 2^-n
    offsets: list[int] = field(default_factory=list)  # if_tsoffset, seconds


def pcapng_batches(source: Source, tally: CaptureReader) -> Iterator[Frames]:
    """The frames of a file that begins with MAGIC. Damage ends it and is noted in `tally`."""
    section = _begin_section(source, tally)
    if section is None:
        return
    tally.opened += 1
    while section is not None:
        at, stop = walk(PcapngBlocks(section.order), source.buffer, source.begin, source.end)
        if len(at):
            frames = _frames(source, at, section, tally)
            if len(frames):
                yield tally.saw(frames)
        source.begin = stop
        if source.view(4) == MAGIC:
            section = _begin_section(source, tally)
            continue
        if not _step_over(source, section, tally):
            return


def _begin_section(source: Source, tally: CaptureReader) -> Section | None:
    """Read the section header at hand; None (and damage) if it cannot be."""
    if not source.need(16):
        tally.hurt(source.name, source.offset, "the file ends inside a section header")
        return None
    order = _ORDERS.get(source.view(12)[8:])
    if order is None:
        tally.hurt(source.name, source.offset, "a section header without a byte order")
        return None
    length, _, major = unpack_from(order + "IIH", source.view(16), 4)
    if major != 1:
        tally.hurt(source.name, source.offset, f"a section of the unknown pcapng version {major}")
        return None
    if length < 28 or length & 3 or length > MAX_BLOCK:
        tally.hurt(source.name, source.offset, f"a section header claims {length:,} bytes")
        return None
    start = source.offset
    if source.need(min(length, _OPTIONS_READ)):
        options = _options(source.view(min(length, _OPTIONS_READ))[24:], order)
        tally.both_ways = tally.both_ways or options.get(_SHB_USERAPPL) == RECORDED_BY
    if not source.skip(length):
        tally.hurt(source.name, start, "the file ends inside a section header")
        return None
    return Section(order)


def _step_over(source: Source, section: Section, tally: CaptureReader) -> bool:
    """Deal with what stopped the walk: a cut block, a huge harmless one, or damage; False at the end."""
    if source.end - source.begin < 12:
        return _read_on(source, tally)
    kind, length = unpack_from(section.order + "II", source.view(8))
    packet = kind in (PACKET, OLD_PACKET, SIMPLE_PACKET)
    start = source.offset
    if length < 12 or length & 3 or (packet and length > MAX_BLOCK):
        tally.hurt(source.name, start, f"a block of type {kind} claims {length:,} bytes; the rest cannot be found")
        return False
    if length > MAX_BLOCK:
        if not source.skip(length):
            tally.hurt(source.name, start, f"the file ends inside a block of type {kind} that claims {length:,} bytes")
            return False
        return True
    if source.end - source.begin < length:
        return _read_on(source, tally)
    trailer = unpack_from(section.order + "I", source.view(length), length - 4)[0]
    cause = f"a block of type {kind} has two lengths, {length:,} and {trailer:,}; the rest cannot be found"
    tally.hurt(source.name, start, cause)
    return False


def _read_on(source: Source, tally: CaptureReader) -> bool:
    """Fetch more of the file; at its end a block that is still cut is damage."""
    if source.more():
        return True
    if source.begin < source.end:
        tally.hurt(source.name, source.offset, "the file ends inside a block")
    return False


def _frames(source: Source, at: Ints, section: Section, tally: CaptureReader) -> Frames:
    """The packets among the blocks at `at`, after taking in what the other blocks say."""
    order = section.order
    known = len(section.links)
    kind = read(source.buffer, at, np.dtype(order + "u4")).astype(np.int64)
    described: list[int] = []
    other = (kind != PACKET) & (kind != OLD_PACKET) & (kind != SIMPLE_PACKET)
    for position in at[other].tolist():
        if _describe(source, position, section, tally):
            described.append(position)
    at, kind = at[~other], kind[~other]
    u2, u4 = order + "u2", order + "u4"
    table = np.dtype([("kind", u4), ("total", u4), ("interface", u4), ("high", u4), ("low", u4), ("captured", u4)])
    rows = read(source.buffer, at, table)
    interface = rows["interface"].astype(np.int64)
    old, simple = kind == OLD_PACKET, kind == SIMPLE_PACKET
    interface[old] = read(source.buffer, at[old] + 8, np.dtype(u2))
    interface[simple] = 0
    exists = interface < known + np.searchsorted(np.array(described, np.int64), at)
    start, length, fits = _extent(rows, at, simple, exists, section)
    for cause, rejected in (("no such interface", ~exists), ("packet longer than its block", exists & ~fits)):
        if rejected.any():
            tally.skipped[cause] += int(np.count_nonzero(rejected))
    keep = exists & fits
    time, in_range = _nanoseconds(rows[keep], interface[keep], section)
    time[~in_range | simple[keep]] = NO_TIME
    link = np.array(section.links or [0], np.uint16)[interface[keep]]
    return Frames(source.buffer, start[keep], length[keep], time, link)


def _extent(rows: Rows, at: Ints, simple: Bools, exists: Bools, section: Section) -> tuple[Ints, Ints, Bools]:
    """Where the packet data begins, how long it is, and whether it lies inside its block."""
    start = at + np.where(simple, 12, 28)
    room = at + rows["total"].astype(np.int64) - 4 - start
    length = rows["captured"].astype(np.int64)
    if simple.any() and section.snaplens:
        whole = np.minimum(rows["interface"].astype(np.int64), section.snaplens[0] or _SNAPLEN_NONE)
        length = np.where(simple, np.minimum(whole, room), length)  # its third word is the original length
    return start, length, (length <= room) & (length <= MAX_RECORD) & (room >= 0)


def _describe(source: Source, at: int, section: Section, tally: CaptureReader) -> bool:
    """Take in a block that is not a packet; True if it described an interface."""
    order = section.order
    kind, total = unpack_from(order + "II", source.buffer.data, at)
    body = source.buffer[at + 8 : at + total - 4].tobytes()
    if kind == INTERFACE and len(body) >= 8:
        link, _, snaplen = unpack_from(order + "HHI", body)
        options = _options(body[8:], order)
        section.links.append(link)
        section.snaplens.append(snaplen)
        section.resolutions.append((options.get(_IF_TSRESOL) or bytes([_MICROSECONDS]))[0])
        offset = options.get(_IF_TSOFFSET, b"").ljust(8, b"\0")[:8]
        section.offsets.append(unpack_from(order + "q", offset)[0])
        return True
    if kind == STATISTICS and len(body) >= 12:
        _take_end_time(body, section, tally)
    return False


def _take_end_time(body: bytes, section: Section, tally: CaptureReader) -> None:
    interface = unpack_from(section.order + "I", body)[0]
    end = _options(body[12:], section.order).get(_ISB_ENDTIME, b"")
    if interface >= len(section.links) or len(end) < 8:
        return
    high, low = unpack_from(section.order + "II", end)
    row = np.array([(high, low)], [("high", "u4"), ("low", "u4")])
    time, in_range = _nanoseconds(row, np.array([interface]), section)
    if in_range[0]:
        tally.end_time = max(int(time[0]), NO_TIME if tally.end_time is None else tally.end_time)


def _options(body: bytes, order: str) -> dict[int, bytes]:
    """Option code → first value, up to the end or the first one that does not fit."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(body):
        code, length = unpack_from(order + "HH", body, at)
        if code == _OPTION_END or at + 4 + length > len(body):
            break
        found.setdefault(code, body[at + 4 : at + 4 + length])
        at += 4 + (length + 3 & ~3)
    return found


def _nanoseconds(rows: Rows, interface: Ints, section: Section) -> tuple[Ints, Bools]:
    """Time stamps in the interface's own units → int64 nanoseconds since 1970, and which of them fit."""
    ticks = rows["high"].astype(np.uint64) << np.uint64(32) | rows["low"].astype(np.uint64)
    resolution = np.array(section.resolutions or [_MICROSECONDS], np.uint8)[interface]
    second = np.zeros(len(ticks), np.uint64)
    rest = np.zeros(len(ticks), np.uint64)
    for unit in np.flatnonzero(np.bincount(resolution, minlength=1)).tolist():
        mine = slice(None) if (resolution == unit).all() else resolution == unit
        second[mine], rest[mine] = _split(ticks[mine], unit)
    offset = np.array(section.offsets or [0], np.int64)[interface]
    limit = (1 << 63) // _SECOND - 1
    in_range = (second <= limit) & (np.abs(offset.astype(np.float64)) <= limit)
    total = second.astype(np.int64) + np.where(in_range, offset, 0)
    in_range &= np.abs(total) <= limit
    return np.where(in_range, total, 0) * _SECOND + rest.astype(np.int64), in_range


def _split(ticks: npt.NDArray[np.uint64], unit: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Ticks of one if_tsresol → whole seconds and the nanoseconds left over (rounded down)."""
    power = unit & 0x7F
    if unit & 0x80:
        return _split_binary(ticks, power)
    if power > 19:  # 2^64 such ticks are less than a second or two
        return np.zeros_like(ticks), _scaled_down(ticks, power - 9)
    second, rest = np.divmod(ticks, np.uint64(10**power))
    if power <= 9:
        return second, rest * np.uint64(10 ** (9 - power))
    return second, _scaled_down(rest, power - 9)


def _scaled_down(ticks: npt.NDArray[np.uint64], power: int) -> npt.NDArray[np.uint64]:
    return ticks // np.uint64(10**power) if power <= 19 else np.zeros_like(ticks)


def _split_binary(ticks: npt.NDArray[np.uint64], power: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    if power >= 64:
        second, rest = np.zeros_like(ticks), ticks
    else:
        second, rest = ticks >> np.uint64(power), ticks & np.uint64((1 << power) - 1)
    fine = max(0, power - 34)  # 34 bits of a second times 10^9 still fit 64 bits, and are finer than a nanosecond
    rest = rest >> np.uint64(fine) if fine < 64 else np.zeros_like(rest)
    return second, rest * np.uint64(_SECOND) >> np.uint64(min(power, 34))
