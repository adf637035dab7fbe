"""What replies say beyond the verdict, as words.

A record keeps what all replies of a target showed as bits; here they become the words of the result
(their sentences are in `words`). Rows mostly share a handful of combinations, so combinations are
translated, not rows.
"""

import numpy as np
import numpy.typing as npt

from .headers import Rows
from .ledger import Mark
from .verdict import RANK, Reason

Words = tuple[str, ...]

_PLAIN = (
    (Mark.HANDSHAKE_COMPLETED, "handshake-completed"),
    (Mark.HANDSHAKE_REFUSED, "handshake-refused"),
    (Mark.SILENT_AFTER_HANDSHAKE, "silent-after-handshake"),
    (Mark.HALF_OPEN, "half-open"),
    (Mark.UNVERIFIED, "unverified"),
    (Mark.QUOTE_TRUNCATED, "icmp-quote-truncated"),
    (Mark.LATE, "late"),
)


def words_of(records: Rows) -> list[Words]:
    """The evidence of each record, RECORD[n] → n tuples of words."""
    repeat = records["replies"] > np.bitwise_count(records["passes"]) if hasattr(np, "bitwise_count") else _repeat(records)
    lost = records["seen"] & ~np.left_shift(np.uint32(1), records["reason"].astype(np.uint32))
    key = lost.astype(np.uint64) << np.uint64(32) | records["marks"].astype(np.uint64) << np.uint64(8)
    key |= records["reason"].astype(np.uint64) << np.uint64(1) | repeat.astype(np.uint64)
    distinct, first, back = np.unique(key, return_index=True, return_inverse=True)
    table = [_words(int(lost[row]), int(records["marks"][row]), int(records["reason"][row]), bool(repeat[row])) for row in first]
    return [table[number] for number in back.tolist()]


def _repeat(records: Rows) -> npt.NDArray[np.bool_]:
    """More replies than answered passes (for numpy before 2.0, which cannot count bits)."""
    bits = np.unpackbits(records["passes"].copy().view(np.uint8).reshape(-1, 4), axis=1).sum(axis=1)
    return np.asarray(records["replies"] > bits)


def _words(lost: int, marks: int, reason: int, repeat: bool) -> Words:
    words = [word for mark, word in _PLAIN if marks & mark]
    words += [f"conflict:{other.word}" for other in Reason if lost >> other & 1]
    if repeat:
        words.append("repeat")
    if RANK[reason] == 3 and marks & Mark.ZERO_WINDOW:
        words.append("syn-proxy")
    return tuple(words)
