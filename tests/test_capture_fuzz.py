"""Whatever the bytes of a capture, reading it ends, raises nothing and stays inside the buffer.

It delivers no more than the file holds, and where something was wrong it says what.
"""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.capture_files import WHOLE, drain

SEEDS = [data for data, _ in WHOLE.values() if len(data) < 4096]
CHANGES = st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), max_size=6)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    changes=CHANGES,
    cut=st.integers(0, 200),
    tail=st.binary(max_size=80),
    pack=st.booleans(),
)
def test_mutated_captures(seed: bytes, changes: list[tuple[int, int]], cut: int, tail: bytes, pack: bool) -> None:
    data = bytearray(gzip.compress(seed) if pack else seed)
    for place, value in changes:
        data[place % len(data)] = value
    frames, _ = drain(bytes(data[: len(data) - cut % len(data)]) + tail)
    assert frames <= (len(data) + len(tail)) * (1032 if pack else 1) // 16  # deflate packs 1032 to 1 at best


@settings(max_examples=150, deadline=None)
@given(seed=st.sampled_from(SEEDS), junk=st.binary(min_size=1, max_size=600))
def test_junk_behind_a_header(seed: bytes, junk: bytes) -> None:
    head = 24 if seed[:1] != b"\n" else 48
    frames, _ = drain(seed[:head] + junk)
    assert frames <= len(junk) // 12


CORPUS = sorted((Path(__file__).parent / "captures" / "corpus").glob("*"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_committed_corpus(path: Path) -> None:
    """Small broken files, one for each kind of damage: each is reported as damaged."""
    assert drain(path.read_bytes())[1] > 0
