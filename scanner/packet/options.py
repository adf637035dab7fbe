"""What a SYN/ACK says in its options: which kinds in which order, its MSS and its window scale.

The kinds and their order tell systems apart, and the MSS tells of the path. They are wanted for every open port, and so
they are read by columns: most SYN/ACKs of a batch share a few layouts. A layout is where kinds and lengths stand. It is
read once, the rows that have it are found by comparing columns, and MSS and scale are columns of these rows. What is
left after some layouts is read row by row.

The words are those of p0f's signatures (`mss,sok,ts,nop,ws`), with two differences. The scale stands behind its word
(`ws=7`), and a known kind with a length that is not its own is written like an unknown kind (`?2`). `bad` ends a list
in which the next length cannot be right. Time stamps, and the bytes behind the end of the list, are not looked at.

Nothing is said of options that are not whole: cut by the capture, or reaching beyond the end of the packet.

Sources: RFC 9293 3.1 and 3.2, RFC 7323 2.2 and 3.2, RFC 2018 2; p0f 3, docs/README (olayout); Linux tcp_parse_options
(of two options of one kind the last one counts).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .headers import (
    OPTION_END,
    OPTION_MSS,
    OPTION_NOP,
    OPTION_SACK,
    OPTION_SACK_OK,
    OPTION_SCALE,
    OPTION_STAMP,
    TCP,
    Bytes,
    Frames,
    Ints,
    read,
)
from .ip import ip_layer
from .parse import Segments

NOT_WHOLE = -1
_NONE = "none"  # a SYN/ACK without options
_FEW = 16  # layouts of a batch that are compared by columns
# Word and length by kind; SACK blocks have any length.
_KINDS = {OPTION_MSS: ("mss", 4), OPTION_SCALE: ("ws", 3), OPTION_SACK_OK: ("sok", 2), OPTION_SACK: ("sack", 0),
          OPTION_STAMP: ("ts", 10)}  # fmt: skip


class Layout(NamedTuple):
    """Where everything stands in a field of options: 0 for a value that is not there (a kind and a length come first).

    `fixed` has 255 where a kind or a length stands, and 0 elsewhere. `words` has a `=` where the scale belongs.
    """

    words: str
    fixed: bytes
    mss_at: int
    scale_at: int

    def text(self, scale: int) -> str:
        """The words, with this window scale."""
        return self.words.replace("=", f"={scale}")


def layout_of(options: bytes) -> Layout:
    """The layout of a whole field of options, of any bytes."""
    words, fixed, at, value_at = list[str](), bytearray(len(options)), 0, {OPTION_MSS: 0, OPTION_SCALE: 0}
    while at < len(options):
        kind, fixed[at] = options[at], 255
        if kind == OPTION_END:
            words.append(f"eol+{len(options) - at - 1}")
            break
        if kind == OPTION_NOP:
            words.append("nop")
            at += 1
            continue
        length = 0
        if at + 1 < len(options):
            length, fixed[at + 1] = options[at + 1], 255
        if length < 2 or at + length > len(options):
            words.append("bad")
            break
        word, usual = _KINDS.get(kind, ("", 0))
        sound = bool(word) and usual in (0, length)
        words.append(word if sound else f"?{kind}")
        if sound and kind in value_at:
            value_at[kind] = at + 2
        at += length
    if value_at[OPTION_SCALE]:
        words[len(words) - 1 - words[::-1].index("ws")] = "ws="
    return Layout(",".join(words) or _NONE, bytes(fixed), *value_at.values())


Enter = Callable[[Layout], int]


class OptionColumns(NamedTuple):
    """One row for each SYN/ACK: the number of its layout (NOT_WHOLE: none), MSS and scale, 0 where there is none."""

    layout: Ints
    mss: Ints
    scale: Ints


def read_options(frames: Frames, segments: Segments, row: Ints, enter: Enter) -> OptionColumns:
    """The options of some rows of segments that were parsed from `frames`. `enter` gives each layout its number."""
    columns = OptionColumns(np.full(len(row), NOT_WHOLE), *np.zeros((2, len(row)), np.int64))
    at, size = _places(frames, segments, row)
    for each in np.flatnonzero(np.bincount(size + 1)).tolist():  # all fields of one size
        if each:
            mine = np.flatnonzero(size == each - 1)
            for column, values in zip(columns, _read(frames.buffer, at[mine], each - 1, enter), strict=True):
                column[mine] = values
    return columns


def _places(frames: Frames, segments: Segments, row: Ints) -> tuple[Ints, Ints]:
    """Where the options of each row begin, and how many bytes they have; NOT_WHOLE where they are not whole."""
    at, size = np.zeros(len(row), np.int64), np.full(len(row), NOT_WHOLE)
    for family in (4, 6):
        mine = np.flatnonzero(segments.version[row] == family)
        if not mine.size:
            continue
        packets = ip_layer(frames.buffer, family, mine, segments.ip_at[row[mine]], segments.end[row[mine]])
        header = (read(frames.buffer, packets.at, TCP)["offset"] >> 4).astype(np.int64) * 4  # in words of four bytes
        whole = (header >= TCP.itemsize) & (packets.at + header <= packets.end)
        at[packets.row], size[packets.row] = (
            packets.at + TCP.itemsize,
            np.where(whole, header - TCP.itemsize, NOT_WHOLE),
        )
    return at, size


def _read(buffer: Bytes, at: Ints, size: int, enter: Enter) -> OptionColumns:
    """Of options that all have this size."""
    layout, mss, scale = columns = OptionColumns(*np.zeros((3, len(at)), np.int64))
    if not size:
        layout[:] = enter(layout_of(b""))
        return columns
    rows = read(buffer, at, np.dtype(f"V{size}")).view(np.uint8).reshape(len(at), size)
    words = np.ascontiguousarray(rows.view("<u4").T)  # so that a comparison takes whole columns of memory
    left = np.arange(len(at))
    for _ in range(_FEW):
        first = layout_of(rows[left[0]].tobytes())
        fixed = np.frombuffer(first.fixed, "<u4")[:, None]
        differs = np.bitwise_or.reduce((words ^ words[:, :1]) & fixed)
        same = left[differs == 0]
        layout[same] = enter(first)
        if first.mss_at:
            mss[same] = rows[same, first.mss_at].astype(np.int64) << 8 | rows[same, first.mss_at + 1]
        if first.scale_at:
            scale[same] = rows[same, first.scale_at]
        other = np.flatnonzero(differs)
        if not other.size:
            return columns
        left, words = left[other], words[:, other]
    for row in left.tolist():
        options = rows[row].tobytes()
        first = layout_of(options)
        layout[row] = enter(first)
        mss[row] = int.from_bytes(options[first.mss_at : first.mss_at + 2], "big") if first.mss_at else 0
        scale[row] = options[first.scale_at] if first.scale_at else 0
    return columns
