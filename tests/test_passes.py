"""Rounds over items: who is asked when, what is remembered, and what an interrupt leaves behind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.rounds.passes import Passes
from scanner.verdict.ledger import Ledger, Replies, blank
from scanner.verdict.table import Reason

SECOND = 1_000_000_000


def passes_over(n: int, key: int = 5) -> Passes:
    return Passes(Ledger(n), key)


def answer(passes: Passes, *items: int) -> None:
    record = blank(len(items))
    record["reason"], record["pass"] = Reason.RESET, passes.pass_no
    passes.tracker.fold(Replies(np.array(items, np.int64), record))


def drain(passes: Passes, limits: list[int], at: int = 1000) -> list[int]:
    """Take with these limits in turn, one nanosecond apart, until there is no more; everything leaves at once."""
    out: list[int] = []
    while not passes.handed_out:
        items = passes.take(limits[at % len(limits)], at)
        passes.left(items, at)
        out += items.tolist()
        at += 1
    return out


@given(st.integers(0, 300), st.lists(st.integers(1, 50), min_size=1, max_size=5), st.sets(st.integers(0, 299)))
@settings(max_examples=100, deadline=None)
def test_each_pass_asks_every_silent_item_once(n: int, limits: list[int], answering: set[int]) -> None:
    passes, silent = passes_over(n), set(range(n))
    for _ in range(3):
        passes.begin(1)
        assert sorted(drain(passes, limits)) == sorted(silent)
        answered = {item for item in answering if item < n and item % 2 == passes.pass_no % 2}
        answer(passes, *(answered & silent))
        silent -= answered


def test_the_order_depends_on_the_key_only() -> None:
    def order(key: int, limits: list[int]) -> list[int]:
        passes = passes_over(100, key)
        passes.begin(1)
        return drain(passes, limits)

    assert order(1, [7]) == order(1, [100]) == order(1, [1, 30])
    assert order(1, [7]) != order(2, [7])


def test_absent_items_are_not_asked() -> None:
    passes = passes_over(10)
    passes.tracker.absent(np.array([2, 3, 9]))
    passes.begin(1)
    assert sorted(drain(passes, [4])) == [0, 1, 4, 5, 6, 7, 8]


def test_an_answer_during_a_pass_spares_the_item() -> None:
    passes = passes_over(100)
    passes.begin(1)
    first = drain(passes, [10])
    passes.begin(2)
    taken = passes.take(0, 3).tolist()
    answer(passes, *first[:50])
    assert (taken, sorted(drain(passes, [10]))) == ([], sorted(first[50:]))


def test_left_and_handed_out_are_two_things() -> None:
    passes = passes_over(6)
    passes.begin(10)
    first, second = passes.take(4, 11), passes.take(4, 12)
    states = [(passes.handed_out, passes.all_left, passes.outstanding)]
    for items, now in ((first, 20), (second, 30)):
        passes.left(items, now)
        states.append((passes.handed_out, passes.all_left, passes.outstanding))
    assert states == [(True, False, 6), (True, False, 2), (True, True, 0)]
    assert (passes.last_sent, passes.tracker.was_probed().tolist()) == (30, [True] * 6)


def test_only_what_has_left_was_probed() -> None:
    passes = passes_over(6)
    passes.begin(1)
    first, second = passes.take(2, 2), passes.take(2, 3)
    passes.left(first, 4)
    assert np.flatnonzero(passes.tracker.was_probed()).tolist() == sorted(first.tolist())
    assert not set(first.tolist()) & set(second.tolist())


@given(st.integers(1, 200), st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 200))
@settings(max_examples=80, deadline=None)
def test_the_time_of_every_item_is_known(n: int, limits: list[int], answering: int) -> None:
    passes = passes_over(n)
    book: dict[tuple[int, int], int] = {}
    for number in (1, 2):
        passes.begin(number)
        while not passes.handed_out:
            at = 1000 * number + len(book)
            items = passes.take(limits[at % len(limits)], at)
            book |= {(number, item): at for item in items.tolist()}
            passes.left(items, at)
        answer(passes, *range(min(answering, n)))
    items = np.array([item for _, item in book], np.int64)
    numbers = np.array([number for number, _ in book], np.uint8)
    assert passes.sent_at(items, numbers).tolist() == list(book.values())


def test_no_time_for_passes_that_were_not() -> None:
    passes = passes_over(3)
    passes.begin(1)
    drain(passes, [3])
    assert passes.sent_at(np.array([0, 1, 2]), np.array([0, 2, 9], np.uint8)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("stop_after", [0, 1, 5, 19, 20])
def test_stopped_in_the_middle(number: int, stop_after: int) -> None:
    """Each item's last question is known: in this pass if it was reached, else in the one before."""
    passes, last = passes_over(20), dict.fromkeys(range(20), 0)
    for each in range(1, number + 1):
        passes.begin(1000 * each)
        for turn in range(stop_after if each == number else 20):
            item = int(passes.take(1, 1000 * each + turn)[0])
            passes.left(np.array([item]), 1000 * each + turn)
            last[item] = 1000 * each + turn
    passes.stop()
    passes.stop()
    items = np.arange(20)
    assert (passes.handed_out, passes.take(5, 9999).tolist()) == (True, [])
    for now in (1, 1003, 1000 * number, 1000 * number + 2, 10_000):
        assert passes.sent_before(items, now).tolist() == [0 < last[item] < now for item in range(20)]


def test_nothing_to_ask() -> None:
    passes = passes_over(0)
    passes.begin(1)
    assert (passes.take(5, 2).tolist(), passes.handed_out, passes.all_left) == ([], True, True)


@given(st.integers(1, 60), st.integers(1, 9), st.sets(st.integers(0, 59)))
@settings(max_examples=60, deadline=None)
def test_items_held_back_are_asked_later_and_once(n: int, limit: int, held: set[int]) -> None:
    """Until 1,500 the held ones wait, and the pass is not over; no time is claimed that is not known."""
    passes, book = passes_over(n), dict[int, int]()
    passes.admit = lambda items, now: np.array([item not in held or now >= 1500 for item in items.tolist()], np.bool_)
    passes.begin(1)
    for now in range(1000, 1600):
        items = passes.take(limit, now)
        passes.left(items, now)
        assert not book.keys() & set(items.tolist())
        book |= dict.fromkeys(items.tolist(), now)
    assert (sorted(book), passes.all_left) == (list(range(n)), True)
    assert all((when >= 1500) == (item in held) for item, when in book.items())
    times = passes.sent_at(np.arange(n), np.ones(n, np.uint8)).tolist()
    assert all(time in (0, book[item]) for item, time in enumerate(times))
