"""What a winning reply says beyond its verdict: who sent an ICMP error, and the options of a SYN/ACK.

Both repeat from reply to reply, so each distinct one has a number. A reply is either an ICMP error or a SYN/ACK, so a
record has one field for both numbers. The owner of the ledger keeps what they stand for.

Limit: about 2^16 distinct options are told apart. Those of later batches count as not known. Without this limit, hosts
that answer with random options could fill the memory; so they take about 40 MB at most.
"""

from typing import NamedTuple

import numpy as np

from ..packet.headers import U32, Frames, Ints, Rows
from ..packet.options import NOT_WHOLE, Layout, read_options
from ..packet.parse import Segments
from .evidence import distinct
from .table import Codes, Reason

MOST_OPTIONS = 1 << 16
_NOTHING, _ONLY_WINDOW = 0, 1  # numbers of options: not even the window is known; it is, but the options are not


class Options(NamedTuple):
    """What is known of a SYN/ACK's options. `mss` is None where there is no such option, too."""

    mss: int | None = None
    text: str | None = None


class ReplyDetails:
    """What numbers stand for: `senders` are ADDRESS bytes (0: the target itself), `options` those of SYN/ACKs."""

    def __init__(self) -> None:
        self.senders = [b""]
        self.options = [Options(), Options()]
        self._sender_number = {b"": 0}
        self._layouts: list[Layout] = []
        self._layout_number: dict[Layout, int] = {}
        self._option_number: dict[int, int] = {}

    def numbers(self, frames: Frames, segments: Segments, reason: Codes) -> U32:
        """The number of each reply's detail, uint32[n]; new ones are entered. `frames`: what was parsed."""
        number = np.zeros(len(segments), np.uint32)
        for row in np.flatnonzero(segments.icmp & (segments.sender != segments.src)) if segments.icmp.any() else ():
            name = segments.sender[row].tobytes()
            number[row] = self._sender_number.setdefault(name, len(self.senders))
            if number[row] == len(self.senders):
                self.senders.append(name)
        accepted = np.flatnonzero(reason == Reason.SYN_ACK)
        if accepted.size:
            number[accepted] = self._of_options(frames, segments, accepted)
        return number

    def _of_options(self, frames: Frames, segments: Segments, row: Ints) -> U32:
        number = np.full(len(row), _ONLY_WINDOW, np.uint32)
        if len(self.options) < MOST_OPTIONS:
            layout, mss, scale = read_options(frames, segments, row, self._enter)
            values, place = distinct(np.where(layout == NOT_WHOLE, -1, layout << 24 | mss << 8 | scale))
            number = np.array([self._number_of(value) for value in values.tolist()], np.uint32)[place]
        number[segments.window[row] < 0] = _NOTHING
        return number

    def _enter(self, layout: Layout) -> int:
        number = self._layout_number.setdefault(layout, len(self._layouts))
        if number == len(self._layouts):
            self._layouts.append(layout)
        return number

    def _number_of(self, value: int) -> int:
        """Of a layout, an MSS and a scale as one integer; below 0 they are not known."""
        if value < 0:
            return _ONLY_WINDOW
        number = self._option_number.setdefault(value, len(self.options))
        if number == len(self.options):
            layout = self._layouts[value >> 24]
            mss = value >> 8 & 0xFFFF if layout.mss_at else None
            self.options.append(Options(mss, layout.text(value & 0xFF)))
        return number


def sender_numbers(record: Rows) -> Ints:
    """RECORD[n] → who sent each ICMP error, by number; 0: the target itself."""
    return np.where(record["reason"] == Reason.SYN_ACK, 0, record["detail"]).astype(np.int64)


def option_numbers(record: Rows) -> Ints:
    """RECORD[n] → the options of each SYN/ACK, by number; 0: not even its window is known."""
    return np.where(record["reason"] == Reason.SYN_ACK, record["detail"], _NOTHING).astype(np.int64)
