"""The hash table of columns and the numbers of flows against a plain dict, and the packing of keys."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scanner.classifier.flow_numbers import FlowNumbers
from scanner.classifier.keys import AddressNumbers, FlowKey, Numbering, TargetKey, target_key
from scanner.packet import addresses

# Few distinct words, so that batches repeat keys, within themselves and from one to the next.
WORD = st.integers(0, 3) | st.integers(2**64 - 3, 2**64 - 1) | st.sampled_from([1 << 32, 1 << 63])
KEYS = st.lists(st.tuples(WORD, WORD), max_size=40)


def columns(keys: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(keys, np.uint64).reshape(-1, 2)
    return table[:, 0].copy(), table[:, 1].copy()


@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=8))
def test_like_a_dict(batches: list[tuple[bool, list[tuple[int, int]]]]) -> None:
    numbering, known = Numbering(), dict[tuple[int, int], int]()
    for add, keys in batches:
        numbers = (numbering.intern if add else numbering.find)(*columns(keys)).tolist()
        fresh = set(keys) - set(known) if add else set[tuple[int, int]]()
        known |= {key: number for key, number in zip(keys, numbers, strict=True) if key in fresh}
        assert numbers == [known.get(key, -1) for key in keys]
        assert [tuple(key) for key in numbering.keys.tolist()] == sorted(known, key=known.__getitem__)


def test_it_grows() -> None:
    random = np.random.default_rng(1)
    numbering = Numbering()
    first, second = random.integers(0, 1 << 62, (2, 100_000), np.int64).astype(np.uint64)
    numbers = [numbering.intern(first[at : at + 999], second[at : at + 999]) for at in range(0, 100_000, 999)]
    again = numbering.find(first, second)
    assert numbering.count == 100_000
    assert again.tolist() == np.concatenate(numbers).tolist()
    assert sorted(again.tolist()) == list(range(100_000))


def test_keys_that_differ_in_one_bit() -> None:
    bits = np.uint64(1) << np.arange(64, dtype=np.uint64)
    first, second = np.concatenate([bits, 0 * bits]), np.concatenate([0 * bits, bits])
    assert sorted(Numbering().intern(first, second).tolist()) == list(range(128))


def test_packed_keys_are_unpacked_again() -> None:
    six = 1 << 32
    us, them = np.array([0, 2**32 - 1, six, six | 2**31]), np.array([2**32 - 1, 1, six | 7, six])
    target = TargetKey(us, them, np.array([0, 65535, 443, 1]))
    assert np.array_equal(target_key(np.stack(target.words(), axis=1)), target)


FLOWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2) | st.just(65535), st.sampled_from([-1, 0, 1, 2**31])))


@given(st.lists(st.tuples(st.booleans(), FLOWS), max_size=8))
def test_flows_like_a_dict(batches: list[tuple[bool, list[tuple[int, int, int]]]]) -> None:
    flows, known = FlowNumbers(), dict[tuple[int, int, int], int]()
    for add, keys in batches:
        key = FlowKey(*np.array(keys, np.int64).reshape(-1, 3).T)
        numbers = (flows.intern if add else flows.find)(key).tolist()
        keys = [(target, port, seq % 2**32) for target, port, seq in keys]
        fresh = set(keys) - set(known) if add else set[tuple[int, int, int]]()
        known |= {key: number for key, number in zip(keys, numbers, strict=True) if key in fresh}
        assert numbers == [known.get(key, -1) for key in keys]
        assert list(zip(*map(np.ndarray.tolist, flows.keys(slice(None))), strict=True)) == sorted(
            known, key=known.__getitem__
        )


def test_addresses_of_both_families_are_numbered_and_found_again() -> None:
    column = addresses.from_text("198.18.0.1", "2001:db8::1", "255.255.255.255", "2001:db8::2", "2001:db8::1")
    known = AddressNumbers()
    numbers = known.numbers(column)
    assert (len(set(numbers.tolist())), numbers[1] == numbers[4]) == (4, True)
    assert known.addresses(numbers).tolist() == column.tolist()
