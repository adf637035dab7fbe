"""Records of a pcap file → Frames.

Eight magics (µs, ns and the "modified" format of old patched libpcaps, each in two byte orders;
the modified one exists with µs only) say how to read everything after them. The snap length and
the version in the header are not believed: writers get them wrong, and records carry their own lengths.
The upper bits of the network field tell of frame check sequences; four bytes more at the end of a frame
disturb nobody who goes by the length in the IP header, so they are masked away.

A record that is cut by the end of the file delivers nothing, as in libpcap.

Source: draft-ietf-opsawg-pcap.
"""

from collections.abc import Iterator
from struct import pack, unpack_from

import numpy as np

from ..packet.headers import Frames, Ints, read
from .records import MAX_RECORD, PcapRecords, walk
from .source import Source
from .tally import CaptureReader

HEADER = 24
MICRO, NANO, MODIFIED = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34
MAGICS = {pack(order + "I", magic): (order, magic) for order in "<>" for magic in (MICRO, NANO, MODIFIED)}


def pcap_batches(source: Source, tally: CaptureReader) -> Iterator[Frames]:
    """The frames of a file that begins with one of MAGICS. Damage ends it and is noted in `tally`."""
    order, magic = MAGICS[source.view(4)]
    if not source.need(HEADER):
        tally.hurt(source.name, 0, f"the file ends inside its {HEADER}-byte header")
        return
    tally.opened += 1
    link = unpack_from(order + "I", source.view(HEADER), 20)[0] & 0xFFFF
    source.begin += HEADER
    grammar = PcapRecords(order, 24 if magic == MODIFIED else 16)
    scale = 1 if magic == NANO else 1000
    while True:
        at, stop = walk(grammar, source.buffer, source.begin, source.end)
        if len(at):
            yield tally.saw(_frames(source, at, grammar, scale, link))
        source.begin = stop
        if cause := _too_long(source, grammar):
            tally.hurt(source.name, source.offset, cause)
            return
        if not source.more():
            break
    if source.begin < source.end:
        tally.hurt(source.name, source.offset, _cut(source, grammar))


def _frames(source: Source, at: Ints, grammar: PcapRecords, scale: int, link: int) -> Frames:
    order = grammar.order
    table = np.dtype([("second", order + "u4"), ("fraction", order + "u4"), ("length", order + "u4")])
    records = read(source.buffer, at, table)
    time = records["second"].astype(np.int64) * 1_000_000_000 + records["fraction"].astype(np.int64) * scale
    return Frames(source.buffer, at + grammar.head, records["length"].astype(np.int64), time,
                  np.full(len(at), link, np.uint16))  # fmt: skip


def _claim(source: Source, grammar: PcapRecords) -> int | None:
    """The packet length that the record at hand claims, if that much of it is there."""
    if source.end - source.begin < grammar.head:
        return None
    length: int = unpack_from(grammar.order + "I", source.view(12), 8)[0]
    return length


def _too_long(source: Source, grammar: PcapRecords) -> str | None:
    claim = _claim(source, grammar)
    if claim is None or claim <= MAX_RECORD:
        return None
    return f"a record claims {claim:,} bytes, more than any capture holds; nothing after it can be found"


def _cut(source: Source, grammar: PcapRecords) -> str:
    claim = _claim(source, grammar)
    if claim is None:
        return "the file ends inside a record header"
    return f"the file ends inside a record: {source.end - source.begin - grammar.head:,} of {claim:,} bytes are there"
