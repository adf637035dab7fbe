"""A transport that shows every frame it carries to a listener.

It wraps any other transport, so a scan needs no code of its own for recordings and packet traces. Sent frames are shown
when they are handed over, with the time of the scan's clock; received ones have the kernel's time. On loopback, frames
are sent without a link header and received with one; all are shown alike, sent ones with an empty Ethernet header.
"""

from collections.abc import Callable

import numpy as np

from ..packet.headers import ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, LINK_ETHERNET, LINK_RAW, Bytes, Frames, overlay
from . import Transport

See = Callable[[Frames, str], None]  # frames, and the name of the interface


class Tap:
    """`transport`, with `see` called for every frame; `link` is the link type under which all are shown."""

    def __init__(self, transport: Transport, see: See, name: str, link: int, clock: Callable[[], int]) -> None:
        self._transport, self._see, self._name, self._clock = transport, see, name, clock
        self._header = ETHERNET.itemsize if link == LINK_ETHERNET and transport.link == LINK_RAW else 0
        self._shown = link
        self.link = transport.link
        self.refused = transport.refused
        self.sent, self.fileno, self.drops, self.close = (
            transport.sent,
            transport.fileno,
            transport.drops,
            transport.close,
        )
        self._rows: Bytes = np.zeros((0, 0), np.uint8)

    def reserve(self, limit: int) -> Bytes:
        self._rows = self._transport.reserve(limit)
        return self._rows

    def commit(self, rows: int, length: int) -> None:
        copy = np.zeros((rows, self._header + length), np.uint8)
        copy[:, self._header :] = self._rows[:rows, :length]
        if self._header:
            is_ipv4 = copy[:, self._header] >> 4 == 4
            overlay(copy, 0, ETHERNET)["type"] = np.where(is_ipv4, ETHERTYPE_IPV4, ETHERTYPE_IPV6)
        # The time is taken before the frames leave, or an answer could be shown before its probe.
        time = np.full(rows, self._clock(), np.int64)
        self._transport.commit(rows, length)
        width = copy.shape[1]
        start, size = np.arange(rows, dtype=np.int64) * width, np.full(rows, width, np.int64)
        self._see(Frames(copy.ravel(), start, size, time, np.full(rows, self._shown, np.uint16)), self._name)

    def recv(self) -> Frames:
        frames = self._transport.recv()
        if len(frames):
            self._see(frames, self._name)
        return frames
