"""The order of probes: each number comes once, and the inverse gives its position."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.targets.permutation import Permutation

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 101, 997, 1024, 1025, 4096, 65537)
KEYS = (0, 1, -1, 1 << 64, (1 << 128) + 5)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("n", SIZES)
def test_every_number_once_and_back(n: int, key: int) -> None:
    order = Permutation(n, key).forward(np.arange(n))
    back = Permutation(n, key).inverse(order)
    assert (sorted(order.tolist()), back.tolist()) == (list(range(n)), list(range(n)))


def test_nothing_to_permute() -> None:
    order = Permutation(0, 7)
    assert (order.forward([]).tolist(), order.inverse([]).tolist()) == ([], [])


@given(st.integers(1, 5000), st.integers())
@settings(max_examples=60, deadline=None)
def test_any_size_and_key_is_a_bijection(n: int, key: int) -> None:
    order = Permutation(n, key).forward(np.arange(n))
    assert np.array_equal(np.sort(order), np.arange(n, dtype=np.uint64))


@given(st.integers(1, 1 << 63), st.integers(), st.data())
@settings(max_examples=150, deadline=None)
def test_the_inverse_of_permutations_too_large_to_list(n: int, key: int, data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=8))
    order = Permutation(n, key)
    there = order.forward(index)
    assert (order.inverse(there).tolist(), order.forward(order.inverse(index)).tolist()) == (index, index)
    assert max(there.tolist()) < n


def test_the_argument_is_not_changed() -> None:
    index = np.arange(10, dtype=np.uint64)
    Permutation(10, 3).forward(index)
    assert index.tolist() == list(range(10))


def test_each_key_gives_another_order() -> None:
    orders = {tuple(Permutation(1000, key).forward(np.arange(1000)).tolist()) for key in range(200)}
    assert len(orders) == 200


@pytest.mark.parametrize("n", [1 << 12, 5000, 1 << 16, 60_000])
def test_no_sweep_is_seen(n: int) -> None:
    """Consecutive numbers are far apart: few steps of one, and about as many up as down."""
    steps = np.diff(Permutation(n, 99).forward(np.arange(n)).astype(np.int64))
    ups = np.count_nonzero(steps > 0) / len(steps)
    assert np.count_nonzero(abs(steps) == 1) < 40
    assert 0.4 < ups < 0.6
