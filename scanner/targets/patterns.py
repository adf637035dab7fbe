"""Octet patterns, `10.0-3,7.*.1-254`: text → the edges of the blocks of addresses that it names.

Each octet is a mask of its 256 values, so order, repeats and overlaps within an octet take care of themselves. Octets
at the end that may have any value only make blocks longer; the others multiply their number.

Limit: patterns of one list make at most 2^20 separate blocks; larger ones are refused, because each block costs memory.

Source: nmap's manual, "Target specification".
"""

import re
from math import prod

import numpy as np

from ..errors import UsageError
from ..packet.headers import Bools, Ints

MOST_BLOCKS = 1 << 20  # that the patterns of a list may make
_SHIFTS = (24, 16, 8, 0)  # of the four octets
_OCTET_RANGE = re.compile(r"([0-9]*)(-?)([0-9]*)")


def pattern(literal: str, before: int) -> Ints:
    """10.0-3,7.*.1-254 → the edges of its blocks, ascending, as IPv4 numbers.

    With a /prefix every address of the pattern stands for its whole block. `before` blocks come from other patterns.
    """
    address, slash, length = literal.partition("/")
    octets = address.split(".")
    if len(octets) != 4:
        raise UsageError(f"{literal} is not an IPv4 address: write four octets, and separate targets by spaces")
    if slash and not (length.isdigit() and int(length[:9]) <= 32):
        raise UsageError(f"/{length} in {literal} is not a prefix length: IPv4 blocks go from /0 to /32")
    masks = [_octet_mask(octet, literal) for octet in octets]
    if slash:
        masks = [_widen(mask, int(length) - 8 * at) for at, mask in enumerate(masks)]
    values = [np.flatnonzero(mask) for mask in masks]
    # Octets behind the last one that is not `*` only make each block longer. In that octet, each run of values is a
    # block, once for each choice of values for the octets before it.
    last = max((at for at in range(4) if len(values[at]) < 256), default=0)
    changes = np.flatnonzero(np.diff(masks[last], prepend=False, append=False))
    blocks = before + prod(map(len, values[:last])) * len(changes) // 2
    if blocks > MOST_BLOCKS:
        raise UsageError(
            f"{literal}: octet ranges may make {MOST_BLOCKS:,} separate blocks of addresses, here they make "
            f"{blocks:,}: give fewer values in the first octets, or whole blocks"
        )
    words = changes << _SHIFTS[last]
    for at in reversed(range(last)):
        words = np.add.outer(values[at] << _SHIFTS[at], words).ravel()
    return words


def _octet_mask(text: str, spec: str) -> Bools:
    """One octet, `0-3,7`, `*` or `-` → the mask of its values."""
    mask = np.zeros(256, np.bool_)
    for part in text.split(","):
        match = _OCTET_RANGE.fullmatch("-" if part == "*" else part)
        if match is None or not part:
            raise UsageError(f"{part!r} in {spec} is not an octet: write numbers, ranges or *, as in 10.0-3,7.*.1")
        low, dash, high = match.groups()
        first = _octet(low, spec) if low else 0
        last = (_octet(high, spec) if high else 255) if dash else first
        if last < first:
            raise UsageError(f"range {part} in {spec} ends before it starts: swap its ends")
        mask[first : last + 1] = True
    return mask


def _octet(text: str, spec: str) -> int:
    if len(text) > 1 and text[0] == "0":
        raise UsageError(f"{text} in {spec} starts with a zero: write it without, some tools read it as octal")
    if len(text) > 3 or int(text) > 255:
        raise UsageError(f"{text} in {spec} is not an octet: octets end at 255")
    return int(text)


def _widen(mask: Bools, fixed: int) -> Bools:
    """Free all but the first `fixed` bits of an octet: the block around each of its values, as CIDR has it."""
    size = 1 << 8 - min(8, max(0, fixed))
    return mask.reshape(-1, size).any(axis=1).repeat(size)
