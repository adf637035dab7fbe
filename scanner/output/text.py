"""Many rows as text, by columns: bytes in a matrix, one row a line, with zeros where a line is shorter.

Every function gives such a matrix for one part of the lines. `joined` puts the parts side by side and leaves the zeros
out. So no Python code runs for a single row: a million lines of JSON take half a second.
"""

from functools import cache

import numpy as np

from ..packet.addresses import is_ipv4, to_text
from ..packet.headers import U32, Bools, Bytes, Ints, Rows

_ZERO = ord("0")


def joined(*parts: Bytes | str) -> str:
    """Parts uint8[n, width], or a text that is the same in all rows → the text of all rows."""
    blocks = [np.frombuffer(part.encode("ascii"), np.uint8)[None] if isinstance(part, str) else part for part in parts]
    matrix = np.empty((max(map(len, blocks)), sum(block.shape[1] for block in blocks)), np.uint8)
    at = 0
    for block in blocks:
        matrix[:, at : at + block.shape[1]] = block
        at += block.shape[1]
    return matrix.tobytes().translate(None, b"\0").decode("ascii")


def chosen(texts: list[str], number: Ints) -> Bytes:
    """The text of each number. The texts are ASCII without zeros."""
    column = np.array([text.encode("ascii") for text in texts])
    return column.view(np.uint8).reshape(len(texts), -1)[number]


def where(rows: Bools, text: str, part: Bytes) -> Bytes:
    """A text and a part behind it, in some of the rows."""
    head = np.frombuffer(text.encode("ascii"), np.uint8)
    return np.concatenate([np.where(rows[:, None], head, 0), np.where(rows[:, None], part, 0)], axis=1, dtype=np.uint8)


def addresses(column: Rows) -> Bytes:
    """ADDRESS[n] as text."""
    four = is_ipv4(column)
    if four.all():
        return _dotted(column)
    column, number = np.unique(column, return_inverse=True)
    return chosen(to_text(column), number.ravel())


def _dotted(column: Rows) -> Bytes:
    octets = column["lo"].astype(">u8").view(np.uint8).reshape(len(column), 8)[:, 4:]
    text = _octets()[octets]
    text[:, 3] = _last_octets()[octets[:, 3]]
    return text.view(np.uint8)


@cache
def _octets() -> U32:
    """uint32[256]: the four bytes of each number and a dot."""
    return np.array([f"{number}.".encode() for number in range(256)]).view(np.uint32)


@cache
def _last_octets() -> U32:
    """The same without a dot."""
    return np.array([f"{number}".encode() for number in range(256)], "S4").view(np.uint32)


def numbers(value: Ints, least: int = 1) -> Bytes:
    """Numbers of at least `least` digits; none is below 0."""
    width = max(least, len(str(int(value.max(initial=0)))))
    digits, rest = np.zeros((len(value), width), np.uint8), value
    for place in range(width):
        upper = rest // 10
        digit = (rest - upper * 10 + _ZERO).astype(np.uint8)
        digits[:, width - 1 - place] = digit if place < least else np.where(rest > 0, digit, 0)
        rest = upper
    return digits


def fractions(value: Ints, places: int) -> Bytes:
    """value / 10^places, with so many digits behind the point."""
    whole = value // 10**places
    point = np.full((len(value), 1), ord("."), np.uint8)
    return np.concatenate([numbers(whole), point, numbers(value - whole * 10**places, places)], axis=1)
