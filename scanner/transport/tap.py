"""Everybody may listen: a transport that shows every frame it carries.

Wraps any other transport, so recording a scan or drawing one target's exchange needs nothing of the
scan itself. Sent frames are shown when they are handed over, stamped with the scan's clock; received
ones carry the kernel's time. On loopback frames leave without a link header but are seen with one;
they are shown alike, with an empty Ethernet header in front.
"""

from collections.abc import Callable

import numpy as np

from ..packet.headers import ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, LINK_ETHERNET, LINK_RAW, Bytes, Frames, overlay
from . import Drops, Transport

See = Callable[[Frames, str], None]  # frames, and the name of the interface


class Tap:
    """`transport`, with `see` told of every frame; `link` is the link type under which all are shown."""

    def __init__(self, transport: Transport, see: See, name: str, link: int, clock: Callable[[], int]) -> None:
        self._transport, self._see, self._name, self._clock = transport, see, name, clock
        self._header = ETHERNET.itemsize if link == LINK_ETHERNET and transport.link == LINK_RAW else 0
        self._shown = link
        self.link = transport.link
        self._rows: Bytes = np.zeros((0, 0), np.uint8)
        self.sent, self.fileno, self.drops, self.close = (
            transport.sent,
            transport.fileno,
            transport.drops,
            transport.close,
        )

    def reserve(self, limit: int) -> Bytes:
        self._rows = self._transport.reserve(limit)
        return self._rows

    def commit(self, rows: int, length: int) -> None:
        copy = np.zeros((rows, self._header + length), np.uint8)
        copy[:, self._header :] = self._rows[:rows, :length]
        if self._header:
            four = copy[:, self._header] >> 4 == 4
            overlay(copy, 0, ETHERNET)["type"] = np.where(four, ETHERTYPE_IPV4, ETHERTYPE_IPV6)
        time = np.full(rows, self._clock(), np.int64)  # before they leave, or an answer could stand before its probe
        self._transport.commit(rows, length)
        width = copy.shape[1]
        start, size = np.arange(rows, dtype=np.int64) * width, np.full(rows, width, np.int64)
        self._see(Frames(copy.ravel(), start, size, time, np.full(rows, self._shown, np.uint16)), self._name)

    def recv(self) -> Frames:
        frames = self._transport.recv()
        if len(frames):
            self._see(frames, self._name)
        return frames

    # The rest is the wrapped transport's own (bound in __init__; declared for readers and type checkers).
    sent: Callable[[], int]
    fileno: Callable[[], int]
    drops: Callable[[], Drops]
    close: Callable[[], None]
