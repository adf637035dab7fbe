"""Mutations of bytes, texts and JSON documents, all drawn from one seeded generator.

Most mutations keep the structure: numbers get values at the edges of their range, fields at known offsets change, words
of the grammar replace each other. Such inputs pass the first checks of a reader and reach what is behind them.
"""

import copy
import json
import random
import string
from collections.abc import Callable, Sequence
from typing import Any

EDGES = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    20,
    40,
    60,
    64,
    127,
    128,
    255,
    256,
    1500,
    32767,
    32768,
    65535,
    1 << 31,
    (1 << 32) - 1,
)
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**39, 0.5, -0.0, 1e308, "", "0", "-1", "x" * 300, "\x1b[2J", "\x00",
    "é\u202e", [], {}, [None], [[]], {"": {}}, "2001:db8::1", "0.0.0.0/0", "../../etc/passwd",
)  # fmt: skip


def mutated_bytes(rng: random.Random, data: bytes, others: Sequence[bytes], most: int = 4096) -> bytes:
    """Up to six changes. `others` are spliced in; the result has at most `most` bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        rng.choice(_CHANGES)(rng, out, others)
    return bytes(out[:most])


def _at(rng: random.Random, out: bytearray) -> int:
    return rng.randint(0, max(0, len(out) - 1))


def _flip(rng: random.Random, out: bytearray, others: Sequence[bytes]) -> None:
    if out:
        out[_at(rng, out)] ^= 1 << rng.randrange(8)


def _edge(rng: random.Random, out: bytearray, others: Sequence[bytes]) -> None:
    size = rng.choice((1, 2, 2, 4, 4, 8))
    value = (rng.choice(EDGES) * rng.choice((1, 1, 1, -1))) % (1 << 8 * size)
    at = _at(rng, out)
    out[at : at + size] = value.to_bytes(size, rng.choice(("big", "little")))


def _cut(rng: random.Random, out: bytearray, others: Sequence[bytes]) -> None:
    del out[_at(rng, out) :]


def _remove(rng: random.Random, out: bytearray, others: Sequence[bytes]) -> None:
    at = _at(rng, out)
    del out[at : at + rng.randint(1, 16)]


def _repeat(rng: random.Random, out: bytearray, others: Sequence[bytes]) -> None:
    at, size = _at(rng, out), rng.randint(1, 64)
    out[at:at] = out[at : at + size] * rng.randint(1, 3)


def _insert(rng: random.Random, out: bytearray, others: Sequence[bytes]) -> None:
    at = _at(rng, out)
    out[at:at] = rng.randbytes(rng.randint(1, 12))


def _splice(rng: random.Random, out: bytearray, others: Sequence[bytes]) -> None:
    other = rng.choice(others)
    at, there = _at(rng, out), rng.randint(0, len(other))
    out[at:] = other[there:]


_CHANGES: tuple[Callable[[random.Random, bytearray, Sequence[bytes]], None], ...] = (
    _flip, _edge, _edge, _edge, _cut, _remove, _repeat, _insert, _splice,
)  # fmt: skip


def mutated_text(rng: random.Random, text: str, words: Sequence[str]) -> str:
    """Up to five changes: words of the grammar, strange characters, removals and repeats."""
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        first, last = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        last = min(last, first + 8)
        new = rng.choice((
            rng.choice(words), rng.choice(words), rng.choice(string.printable), str(rng.choice(EDGES)), "",
            text[first:last] * 2, chr(rng.choice((0, 0x1B, 0x7F, 0xA0, 0x660, 0x202E, 0xFF10, 0x1F600, 0xDC80))),
        ))  # fmt: skip
        text = text[:first] + new + text[last if rng.random() < 0.6 else first :]
    return text


def mutated_document(rng: random.Random, document: Any) -> Any:
    """A JSON document in which up to three values are others, missing, or somewhere else."""
    document = json.loads(json.dumps(document))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holder, key = rng.choice(list(_places(document)) or [({"": 0}, "")])
        if rng.random() < 0.15:
            del holder[key]
        elif rng.random() < 0.2 and isinstance(holder[key], int):
            holder[key] += rng.choice((-1, 1, 1 << 31, -(1 << 40)))
        else:
            holder[key] = copy.deepcopy(rng.choice(VALUES))  # they may be changed in turn
    return document


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]
