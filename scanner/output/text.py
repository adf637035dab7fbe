"""Many rows as text, by columns: bytes in a matrix, one row a line, with zeros where a line is shorter.

Every function gives such a matrix for one part of the lines. `joined` puts the parts side by side and leaves the zeros
out. So no Python code runs for a single row: a million lines of JSON take half a second.
"""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from ..packet.addresses import is_ipv4, to_text
from ..packet.headers import U32, Bools, Bytes, Ints, Rows

Part = Bytes | str  # uint8[n, width], or a text that is the same in all rows

_GROUP = 4  # digits that are looked up at once
_LINES = 1 << 11  # that are put together at once: they fit the processor's cache


def joined(n: int, *parts: Part) -> Iterator[str]:
    """The text of n rows, some lines at a time."""
    matrix, columns = _empty(min(n, _LINES), parts)
    for first in range(0, n, _LINES):
        lines = matrix[: n - first]
        for at, part in columns:
            lines[:, at : at + part.shape[1]] = part[first : first + _LINES]
        yield lines.tobytes().translate(None, b"\0").decode("ascii")


def _empty(n: int, parts: Sequence[Part]) -> tuple[Bytes, list[tuple[int, Bytes]]]:
    """uint8[n, width] with the texts that are the same in all rows, and the other parts with their places."""
    widths = [len(part) if isinstance(part, str) else part.shape[1] for part in parts]
    places = np.cumsum([0, *widths]).tolist()
    matrix, columns = np.empty((n, places.pop()), np.uint8), []
    for at, width, part in zip(places, widths, parts, strict=True):
        if isinstance(part, str):
            matrix[:, at : at + width] = np.frombuffer(part.encode("ascii"), np.uint8)
        else:
            columns.append((at, part))
    return matrix, columns


def chosen(texts: list[str], number: Ints) -> Part:
    """The text of each number. The texts are ASCII without zeros."""
    if len(texts) == 1:
        return texts[0]
    column = np.array([text.encode("ascii") for text in texts])
    return column.view(np.uint8).reshape(len(texts), -1)[number]


def where(rows: Bools, *parts: Part) -> list[Part]:
    """The parts side by side in some of the rows, and nothing in the others."""
    if rows.all():
        return list(parts)
    matrix = beside(len(rows), *parts)
    matrix[~rows] = 0
    return [matrix]


def beside(n: int, *parts: Part) -> Bytes:
    """The parts of n rows side by side."""
    matrix, columns = _empty(n, parts)
    for at, part in columns:
        matrix[:, at : at + part.shape[1]] = part
    return matrix


def addresses(column: Rows) -> Part:
    """ADDRESS[n] as text."""
    if all((column[word] == column[word][:1]).all() for word in ("lo", "hi")):
        return "".join(to_text(column[:1]))
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


def numbers(value: Ints, least: int = 1) -> Part:
    """Numbers of at least `least` digits; none is below 0."""
    most = int(value.max(initial=0))
    if len(value) and value.min() == most:
        return f"{most:0{least}}"
    width = max(least, len(str(most)))
    groups = -(-width // _GROUP)
    words, rest = np.empty((len(value), groups), np.uint32), value
    for place in range(groups - 1, 0, -1):
        upper = rest // 10**_GROUP
        words[:, place] = _four_digits().take(rest - upper * 10**_GROUP)
        rest = upper
    words[:, 0] = _four_digits().take(rest)
    digits = words.view(np.uint8)[:, groups * _GROUP - width :]
    for place in range(width - 1, least - 1, -1):  # zeros in front, where a number is shorter than the longest one
        short = value < 10**place
        if not short.any():
            break
        digits[short, width - 1 - place] = 0
    return digits


@cache
def _four_digits() -> U32:
    """uint32[10000]: the four digits of each number."""
    return np.array([f"{number:04}".encode() for number in range(10**_GROUP)]).view(np.uint32)


def fractions(value: Ints, places: int) -> list[Part]:
    """value / 10^places, with so many digits behind the point."""
    whole = value // 10**places
    return [numbers(whole), ".", numbers(value - whole * 10**places, places)]
