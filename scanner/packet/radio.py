"""802.11 frames behind a radiotap header: where the LLC header begins, or why there is none to read.

A capture in monitor mode holds beacons, acknowledgements and encrypted data beside the few data frames that can be
read. Each of these has its name, so that the summary says what such a capture consists of. Both functions advance a
column of positions by one header. `link` owns the table of layers, and it checks the length before and after each step.

Limits: encrypted data stay encrypted; of several packets in one frame (A-MSDU) none is read; only first fragments are.

Sources: radiotap.org (fields "TSFT" and "Flags"); IEEE 802.11-2020 9.2.4 (frame control), 9.2.4.5 (QoS), 9.3.2.
"""

from enum import IntEnum

import numpy as np

from .headers import Bytes, Ints, number

_FIXED, _MOST_WORDS = 8, 8  # of the radiotap header: its fixed part; words of "present" bits
_TSFT, _FLAGS, _MORE_WORDS = 1, 2, 1 << 31  # "present" bits
_PADDED, _BAD_FCS = 0x20, 0x40  # bits of the field Flags
# Bits of the two bytes of frame control, as a little-endian number.
_VERSION_TYPE, _DATA, _NULL, _QOS = 0x0F, 0x08, 0x40, 0x80
_TO_AND_FROM, _PROTECTED, _HT_CONTROL = 0x0300, 0x4000, 0x8000
_FRAGMENT, _AMSDU = 0x0F, 0x80


class Radio(IntEnum):
    """What stands behind a header."""

    FRAME = 0
    PADDED_FRAME = 1  # its header is filled up to a multiple of four bytes
    DAMAGED = 2
    LLC = 3
    NO_DATA = 4
    ENCRYPTED = 5
    AGGREGATE = 6
    LATER_FRAGMENT = 7


def radiotap(buffer: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """Version 0, and a length that covers its "present" words; a frame with a wrong check sequence is damaged.

    What is read lies before the returned position, so it is inside the frame if that is.
    """
    length = number(buffer, at + 2, "<u2")
    present = number(buffer, at + 4, "<u4")
    good = (number(buffer, at, "u1") == 0) & (length >= _FIXED)
    # The fields begin behind the last "present" word. Only the first word says whether TSFT and Flags are there.
    field, more = np.full(len(at), _FIXED), present & _MORE_WORDS > 0
    for _ in range(_MOST_WORDS):
        more = more & good & (field + 4 <= length)
        if not more.any():
            break
        word = number(buffer, at + field, "<u4")
        field = field + np.where(more, 4, 0)
        more &= word & _MORE_WORDS > 0
    # TSFT has eight bytes and begins at a multiple of eight; Flags follows.
    field = np.where(present & _TSFT > 0, (field + 7 & ~7) + 8, field)
    known = (present & _FLAGS > 0) & (field < length)
    flags = np.where(known, number(buffer, at + field, "u1"), 0)
    kind = np.where(flags & _PADDED > 0, Radio.PADDED_FRAME, Radio.FRAME)
    kind = np.where(good & (flags & _BAD_FCS == 0), kind, Radio.DAMAGED)
    return at + np.maximum(length, _FIXED), kind


def frame(buffer: Bytes, at: Ints, padded: bool) -> tuple[Ints, Ints]:
    """The header of a data frame: 24 bytes, a fourth address between two access points, QoS, HT control."""
    control = number(buffer, at, "<u2")
    sequence = number(buffer, at + 22, "<u2")
    qos = control & _QOS > 0
    before_qos = np.where(control & _TO_AND_FROM == _TO_AND_FROM, 30, 24)
    size = before_qos + np.where(qos, np.where(control & _HT_CONTROL > 0, 6, 2), 0)
    if padded:
        size = size + 3 & ~3
    aggregate = qos & (number(buffer, at + before_qos, "u1") & _AMSDU > 0)
    is_data = (control & _VERSION_TYPE == _DATA) & (control & _NULL == 0)
    kind = np.select(
        [~is_data, control & _PROTECTED > 0, sequence & _FRAGMENT > 0, aggregate],
        [np.int64(kind) for kind in (Radio.NO_DATA, Radio.ENCRYPTED, Radio.LATER_FRAGMENT, Radio.AGGREGATE)],
        np.int64(Radio.LLC),
    )
    return at + np.where(is_data, size, 0), kind
