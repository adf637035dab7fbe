"""Records of a pcap file → Frames.

Six magics say how to read everything after them: microseconds, nanoseconds and the "modified" format of old patched
libpcaps (with microseconds), each in two byte orders. The snap length and the version in the header are not used:
writers get them wrong, and records carry their own lengths. The upper bits of the network field describe frame check
sequences and are masked away. The parser uses the length in the IP header, so four more bytes at the end do no harm.

A record that is cut by the end of the file delivers nothing, as in libpcap.

Source: draft-ietf-opsawg-pcap, sections 4 (file header) and 5 (packet record).
"""

from collections.abc import Iterator
from struct import pack, unpack_from

import numpy as np

from ..packet.headers import Frames, Ints, read
from .records import MAX_RECORD, PcapRecords, walk
from .source import CaptureFile

HEADER = 24
MICRO, NANO, MODIFIED = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34
MAGICS = {pack(order + "I", magic): (order, magic) for order in "<>" for magic in (MICRO, NANO, MODIFIED)}


def pcap_batches(file: CaptureFile) -> Iterator[Frames]:
    """The frames of a file that begins with one of MAGICS. Damage ends it and is noted."""
    order, magic = MAGICS[file.view(4)]
    if not file.need(HEADER):
        file.damaged(f"the file ends inside its {HEADER}-byte header")
        return
    file.capture.opened += 1
    link = unpack_from(order + "I", file.view(HEADER), 20)[0] & 0xFFFF
    file.begin += HEADER
    chain = PcapRecords(order, 24 if magic == MODIFIED else 16)
    while True:
        at, file.begin = walk(chain, file.buffer, file.begin, file.end)
        if len(at):
            yield _frames(file, at, chain, 1 if magic == NANO else 1000, link)
        # The packet length that the next record claims; None where its header is not all there.
        claim = unpack_from(order + "I", file.view(12), 8)[0] if file.size >= chain.head else None
        if claim is not None and claim > MAX_RECORD:
            # The chain is broken: without a believable length there is no way to the next record.
            file.damaged(f"a record claims {claim:,} bytes, more than any capture holds; nothing after it can be found")
            return
        if not file.more():
            break
    if claim is not None:
        there = file.size - chain.head
        file.damaged(f"the file ends inside a record: {there:,} of {claim:,} bytes are there")
    elif file.size:
        file.damaged("the file ends inside a record header")


def _frames(file: CaptureFile, at: Ints, chain: PcapRecords, tick: int, link: int) -> Frames:
    """The records at `at`; the fraction of a second counts `tick` nanoseconds."""
    word = chain.order + "u4"
    records = read(file.buffer, at, np.dtype([("second", word), ("fraction", word), ("length", word)]))
    time = records["second"].astype(np.int64) * 1_000_000_000 + records["fraction"].astype(np.int64) * tick
    return Frames(file.buffer, at + chain.head, records["length"].astype(np.int64), time,
                  np.full(len(at), link, np.uint16))  # fmt: skip
