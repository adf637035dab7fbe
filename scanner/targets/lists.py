"""The lines of a target list, many at once: bytes to ranges of IPv4 addresses.

Reading a line by regular expressions takes some microseconds, and lists may have ten million lines. Nearly all of them
are addresses, blocks (192.0.2.0/24) or ranges (192.0.2.1-20, 192.0.2.1-192.0.2.20) of IPv4. So numpy finds the
numbers in some MB of text, their values and what stands between them, and takes each word that has one of these
forms. Ports behind a colon (192.0.2.1:22,80) are cut off first. All other words are handed back as texts for the
grammar of `spec`: also those that are wrong, so that there is one grammar and one set of messages.

A word is taken only if the grammar gives the same range. So a number has at most three digits and no zero in front,
and nothing but one sign stands between two numbers. Lines with other characters than ASCII, and with control characters
that may end a line or not, are handed back whole.
"""

import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet.headers import U32, Bools, Ints
from .blocks import Ranges

# Kinds of characters. The signs that matter between two numbers have kinds of their own.
_BLANK, _END, _DIGIT, _DOT, _SLASH, _DASH, _OTHER, _COMMENT, _ODD = range(9)
_KINDS = bytearray([_ODD] * 32 + [_OTHER] * 96 + [_ODD] * 128)
for _text, _kind in (
    (b" \t", _BLANK), (b"\r\n", _END), (b"0123456789", _DIGIT), (b".", _DOT), (b"/", _SLASH), (b"-", _DASH),
    (b"#", _COMMENT),
):  # fmt: skip
    for _byte in _text:
        _KINDS[_byte] = _kind

Kinds = npt.NDArray[np.uint8]

MOST_PORTS_TEXT = 64  # characters of ports that are read in bulk
_PORTS = re.compile(rb'(:[!-"$-9;-~]{1,64})(\r?\n)')
_COLON, _NONE = ord(":"), np.zeros(0, np.int64)


class Words(NamedTuple):
    """What some lines of a list say.

    `ranges`: the words that were taken, in their order. `largest`: the first of those that name most addresses, and how
    many. `others`: the texts of all other words, in their order; `before` of them come before `largest`. `own`: the
    distinct texts of ports behind the words that were taken, with their colon, or "" for none; `which` of them each
    word has. None: all words have the only one.
    """

    ranges: Ranges
    largest: str
    most: int
    others: list[str]
    before: int
    own: list[str]
    which: Ints | None


class Lines(NamedTuple):
    """Whole lines of a list, the file that they are from, and the number of the first one."""

    text: bytes
    path: str = ""
    first: int = 1


def place_of(word: str, lines: Lines | None) -> str:
    """Where a word of a list stands, for an error message: `targets.txt, line 3: `; "" outside of a file."""
    if lines is None or not lines.path:
        return ""
    name = "standard input" if lines.path == "-" else lines.path
    numbered = enumerate(lines.text.splitlines(), lines.first)
    line = next((number for number, line in numbered if word in words_of(line)), None)
    return f"{name}: " if line is None else f"{name}, line {line}: "


def words_of(lines: bytes) -> list[str]:
    """The words of whole lines as texts: any number a line, `#` starts a comment.

    A byte that is no text stays in its word as an escape: the error message for that word then shows it.
    """
    text = lines.decode("utf-8", "backslashreplace")
    return [word for line in text.splitlines() for word in line.partition("#")[0].split()]


def read_lines(lines: bytes, own_ports: bool = False) -> Words:
    """Whole lines of a list → the words of the common IPv4 forms as ranges, and all others as texts.

    With `own_ports` these forms may have ports behind them, as in `192.0.2.7:22,80`.
    """
    if own_ports and (alike := _alike(lines)):
        return alike
    lines = b"\n" + lines + b"\n"  # so that each word stands between blanks
    kinds = np.frombuffer(bytearray(lines.translate(_KINDS)), np.uint8)
    odd = _take_out(kinds)
    text, blank = np.frombuffer(lines, np.uint8), kinds <= _END
    colons = _take_out_ports(text, kinds) if own_ports and b":" in lines else _NONE
    taken, ranges = _taken(_numbers(text, kinds), kinds)
    where, texts = _others(lines, blank, taken)
    for begin, end in odd:
        words = words_of(lines[begin:end])
        where += [begin] * len(words)
        texts += words
    if odd:
        texts = [text for _, text in sorted(zip(where, texts, strict=True), key=lambda pair: pair[0])]
    largest, most, before = "", 0, 0
    if len(taken):
        sizes = ranges[:, 1] - ranges[:, 0]
        at = int(np.argmax(sizes))
        largest, most = lines[taken[at] :].split(None, 1)[0].partition(b"#")[0].decode(), int(sizes[at]) + 1
        before = sum(place < taken[at] for place in where)
    own, which = _ports_texts(text, blank, taken, colons) if len(colons) else ([""], None)
    return Words(Ranges(ranges, np.zeros((0, 2), "S16")), largest, most, texts, before, own, which)


def _alike(lines: bytes) -> Words | None:
    """The same where every line is a word of a common form with the same ports: in half of the time. Or None."""
    found = _PORTS.search(lines)
    if not found or lines.count(b":") != (count := lines.count(found[0])):
        return None
    ports, end = found.groups()
    words = read_lines(lines.replace(found[0], end))
    if words.others or len(words.ranges.ipv4) != count:
        return None
    text = ports.decode()
    return words._replace(largest=words.largest + text, own=[text])


def _take_out_ports(text: Kinds, kinds: Kinds) -> Ints:
    """Make blanks of the only colon of a word, where it stands behind a digit, and of what follows it. Returns where
    these colons are.
    """  # fmt: skip
    blank = kinds <= _END
    begin = np.flatnonzero(blank[:-1] & ~blank[1:]) + 1
    colons = np.flatnonzero((text == _COLON) & (kinds == _OTHER))
    word = np.searchsorted(begin, colons, "right")
    alone = np.append(True, word[1:] != word[:-1]) & np.append(word[1:] != word[:-1], True)
    colons = colons[alone & (kinds[colons - 1] == _DIGIT)]
    end = np.flatnonzero(blank)
    end = end[np.searchsorted(end, colons)]
    colons, end = colons[end - colons <= MOST_PORTS_TEXT], end[end - colons <= MOST_PORTS_TEXT]
    changes = np.zeros(len(kinds), np.int8)
    changes[colons], changes[end] = 1, -1
    kinds[np.cumsum(changes, dtype=np.int8) > 0] = _BLANK
    return np.asarray(colons)


def _ports_texts(text: Kinds, blank: Bools, taken: Ints, colons: Ints) -> tuple[list[str], Ints | None]:
    """The distinct texts of ports behind the words that begin at `taken`, and which of them each word has."""
    ends = np.flatnonzero(blank)
    end = ends[np.searchsorted(ends, taken)]
    at = np.minimum(np.searchsorted(colons, taken), len(colons) - 1)
    has = (colons[at] > taken) & (colons[at] < end)
    begin = np.where(has, colons[at], end)
    width = int((end - begin).max(initial=1))
    place = begin[:, None] + np.arange(-(-width // 8) * 8)
    letters = np.where(place < end[:, None], text[np.minimum(place, len(text) - 1)], np.uint8(0))
    keys: npt.NDArray[Any] = letters.view(np.uint64 if width <= 8 else f"S{letters.shape[1]}").ravel()
    if (keys == keys[:1]).all():
        return [letters[0].tobytes().rstrip(b"\0").decode()] if len(keys) else [""], None
    _, example, which = np.unique(keys, return_index=True, return_inverse=True)
    return [letters[row].tobytes().rstrip(b"\0").decode() for row in example.tolist()], which


class _Numbers(NamedTuple):
    """The runs of digits in a text, with some of no meaning at the end, so that each has seven others behind it."""

    begin: Ints  # positions in the text
    value: U32
    sign: Kinds  # the one sign between this number and the next, _BLANK at the end of a word, _ODD for all else


def _take_out(kinds: Kinds) -> list[tuple[int, int]]:
    """Make blanks of comments, and of lines with odd characters; where the latter begin and end."""
    if kinds.max() < _COMMENT:
        return []
    ends = np.flatnonzero(kinds == _END)
    lines = np.unique(np.searchsorted(ends, np.flatnonzero(kinds == _ODD)))
    odd = list(zip((ends[lines - 1] + 1).tolist(), ends[lines].tolist(), strict=True))
    for begin, end in odd:
        kinds[begin:end] = _BLANK
    comments = np.flatnonzero(kinds == _COMMENT)
    line = np.searchsorted(ends, comments)
    comments = comments[np.diff(line, prepend=0) > 0]  # the first of each line
    changes = np.zeros(len(kinds), np.int8)
    changes[comments], changes[ends[np.unique(line)]] = 1, -1
    kinds[np.cumsum(changes, dtype=np.int8) > 0] = _BLANK
    return odd


def _numbers(text: Kinds, kinds: Kinds) -> _Numbers:
    digit = kinds == _DIGIT
    edges = np.flatnonzero(digit[1:] != digit[:-1]) + 1
    begin, end = edges[::2], edges[1::2]
    length = end - begin
    value = (text[end - 1] - np.uint8(48)).astype(np.uint32)
    for place, power in ((2, 10), (3, 100)):
        value += np.where(length >= place, (text[end - place] - np.uint8(48)) * np.uint32(power), np.uint32(0))
    sign = np.minimum(kinds[end], _ODD)
    sign[sign == _END] = _BLANK
    # A sign says how a word goes on, if nothing else stands before the next number.
    alone = np.zeros(len(begin), np.bool_)
    alone[:-1] = begin[1:] == end[:-1] + 1
    sign[(sign != _BLANK) & ~alone] = _ODD
    sign[(length > 3) | (value > 255) | ((length > 1) & (text[begin] == 48))] = _ODD
    return _Numbers(begin, np.append(value, np.zeros(7, np.uint32)), np.append(sign, np.full(7, _ODD, np.uint8)))


def _taken(numbers: _Numbers, kinds: Kinds) -> tuple[Ints, U32]:
    """Where the words of the common forms begin, and their ranges, uint32[n, 2]."""
    begin, value, sign = numbers
    n = len(begin)
    dot = sign == _DOT
    quad = dot[:n] & dot[1 : n + 1] & dot[2 : n + 2] & (sign[3 : n + 3] <= _DASH) & (kinds[begin - 1] <= _END)
    at = np.flatnonzero(quad)
    first = _address(value, at)
    last = first.copy()
    after, then, number = sign[at + 3], sign[at + 4], value[at + 4]
    good = after == _BLANK
    if not good.all():
        block = (after == _SLASH) & (then == _BLANK) & (number <= 32)
        host_bits = (np.uint64(1) << (32 - number[block]).astype(np.uint64)) - np.uint64(1)
        first[block] &= ~host_bits.astype(np.uint32)
        last[block] |= host_bits.astype(np.uint32)
        octet = (after == _DASH) & (then == _BLANK)
        last[octet] = first[octet] & np.uint32(0xFFFFFF00) | number[octet]
        whole = (after == _DASH) & dot[at + 4] & dot[at + 5] & dot[at + 6] & (sign[at + 7] == _BLANK)
        last[whole] = _address(value, at[whole] + 4)
        good |= (block | octet | whole) & (first <= last)
    return begin[at[good]], np.stack([first[good], last[good]], axis=1)


def _address(value: U32, at: Ints) -> U32:
    """The address whose octets are four numbers."""
    address = value[at]
    for octet in range(1, 4):
        address = address << np.uint32(8) | value[at + octet]
    return address


def _others(lines: bytes, blank: Bools, taken: Ints) -> tuple[list[int], list[str]]:
    """Where the words that were not taken begin, and their texts."""
    begins = blank[:-1] & ~blank[1:]
    if np.count_nonzero(begins) == len(taken):
        return [], []
    begin, end = np.flatnonzero(begins) + 1, np.flatnonzero(~blank[:-1] & blank[1:]) + 1
    other = ~np.isin(begin, taken, assume_unique=True)
    where, text = begin[other].tolist(), lines.decode("latin-1")
    return where, [text[first:last] for first, last in zip(where, end[other].tolist(), strict=True)]
