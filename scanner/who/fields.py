"""The fields of a SYN that tell tools apart and that no verdict needs: IPv4 identification and TCP options.

`parse` does not read them, because most readers of packets would pay for nothing. So they are read here, for SYNs only,
from the place where `parse` found the IP header.

Limit: behind IPv6 extension headers, and where a capture cuts the options off, the layout is `UNKNOWN`. An unknown
layout matches no mark.

Sources: RFC 9293 3.2 (options), RFC 7323 (time stamps, window scale); p0f's fingerprints of SYNs (p0f.fp, section
tcp:request) for the order in which systems write their options.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from ..packet.headers import IPV4, IPV6, PROTO_TCP, TCP, U8, U32, Bools, Bytes, Frames, Ints, read
from ..packet.parse import Segments

_LONGEST = 24  # bytes of options that a layout needs
_OPTIONS = np.dtype([("byte", "u1", (_LONGEST,))])


class Layout(IntEnum):
    """How the options of a SYN are arranged."""

    UNKNOWN = 0
    NONE = 1
    MSS_1460 = 2  # MSS 1460 and nothing else
    LINUX = 3
    WINDOWS = 4
    FREEBSD = 5
    DARWIN = 6
    OTHER = 7


# Kind and length bytes by their places among the options; the options' length in bytes.
_LAYOUTS: dict[Layout, tuple[int, dict[int, int]]] = {
    Layout.MSS_1460: (4, {0: 2, 1: 4, 2: 5, 3: 0xB4}),
    Layout.LINUX: (20, {0: 2, 1: 4, 4: 4, 5: 2, 6: 8, 7: 10, 16: 1, 17: 3, 18: 3}),
    Layout.WINDOWS: (12, {0: 2, 1: 4, 4: 1, 5: 3, 6: 3, 8: 1, 9: 1, 10: 4, 11: 2}),
    Layout.FREEBSD: (20, {0: 2, 1: 4, 4: 1, 5: 3, 6: 3, 8: 4, 9: 2, 10: 8, 11: 10}),
    Layout.DARWIN: (24, {0: 2, 1: 4, 4: 1, 5: 3, 6: 3, 8: 1, 9: 1, 10: 8, 11: 10, 20: 4, 21: 2}),
}
_CLOCK_AT = {Layout.LINUX: 8, Layout.FREEBSD: 12, Layout.DARWIN: 12}  # of the time stamp's value


@dataclass(frozen=True)
class SynFields:
    """Fields of n SYNs. `ip_id` is 0 in IPv6. `clock` is the value of the time stamp option, 0 without one."""

    four: Bools
    ip_id: U32
    layout: U8  # Layout
    clock: U32
    timed: Bools  # the layout has a time stamp option

    def take(self, rows: Ints) -> "SynFields":
        """The given rows of every column."""
        return SynFields(**{name: column[rows] for name, column in vars(self).items()})


def syn_fields(frames: Frames, segments: Segments) -> SynFields:
    """The fields of the given SYNs, which were parsed from `frames`."""
    buffer, n = frames.buffer, len(segments)
    four = segments.version == 4
    ip_id, tcp_at = np.zeros(n, np.uint32), np.full(n, -1, np.int64)
    header = read(buffer, segments.ip_at[four], IPV4)
    ip_id[four] = header["id"]
    tcp_at[four] = segments.ip_at[four] + (header["version_ihl"] & 15).astype(np.int64) * 4
    six = np.flatnonzero(~four)
    plain = read(buffer, segments.ip_at[six], IPV6)["next_header"] == PROTO_TCP
    tcp_at[six[plain]] = segments.ip_at[six[plain]] + IPV6.itemsize
    layout, clock = _options(frames, segments.frame, tcp_at)
    return SynFields(four, ip_id, layout, clock, np.isin(layout, list(_CLOCK_AT)))


def _options(frames: Frames, frame: Ints, tcp_at: Ints) -> tuple[U8, U32]:
    """Layout and time stamp value of each row; `tcp_at` is -1 where it is not known."""
    size = (read(frames.buffer, tcp_at, TCP)["offset"] >> 4).astype(np.int64) * 4 - TCP.itemsize
    at = tcp_at + TCP.itemsize
    known = (tcp_at >= 0) & (size >= 0)
    layout = np.where(known & (size == 0), np.uint8(Layout.NONE), np.uint8(Layout.UNKNOWN))
    rows = np.flatnonzero(known & (size > 0) & (at + size <= (frames.start + frames.length)[frame]))
    clock = np.zeros(len(frame), np.uint32)
    layout[rows] = Layout.OTHER
    data = _bytes(frames.buffer, at[rows])
    for kind, (length, places) in _LAYOUTS.items():
        columns = list(places)
        same = (size[rows] == length) & (data[:, columns] == np.array(list(places.values()), np.uint8)).all(1)
        layout[rows[same]] = kind
        if kind in _CLOCK_AT:
            place = _CLOCK_AT[kind]
            clock[rows[same]] = np.ascontiguousarray(data[same, place : place + 4]).view(">u4")[:, 0]
    return layout, clock


def _bytes(buffer: Bytes, at: Ints) -> Bytes:
    """uint8[n, _LONGEST] from each position; behind the end of the buffer its last byte stands again."""
    if not len(at) or int(at.max()) + _LONGEST <= len(buffer):
        return np.asarray(read(buffer, at, _OPTIONS)["byte"])
    return np.asarray(buffer[np.minimum(at[:, None] + np.arange(_LONGEST), len(buffer) - 1)])
