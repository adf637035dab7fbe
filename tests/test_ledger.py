"""The ledger against a model in plain Python that keeps every reply and looks at them all."""

import itertools
import random
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.verdict.ledger import Ledger, Mark, Replies, blank
from scanner.verdict.table import STRENGTH, Reason

RANKS = {
    Reason.UNPROVED_SYN: 1,
    Reason.HOST_UNREACH: 2,
    Reason.ADMIN_PROHIBITED: 2,
    Reason.RESET: 3,
    Reason.SYN_ACK: 4,
    Reason.SPLIT_HANDSHAKE_SYN: 4,
}
TARGETS = 5
NAMES = blank(1).dtype.names or ()


@dataclass(frozen=True)
class Reply:
    """One reply; what is not named is the same in all."""

    target: int
    reason: Reason
    time: int
    number: int = 1
    marks: int = 0
    ttl: int = 64
    port: int = 40000
    window: int = 100
    detail: int = 0


def columns(replies: list[Reply]) -> Replies:
    record = blank(len(replies))
    names = {"pass": "number"}
    for name in ("time", "detail", "port", "window", "marks", "reason", "ttl", "pass"):
        record[name] = [getattr(reply, names.get(name, name)) for reply in replies]
    return Replies(np.array([reply.target for reply in replies], np.int64), record)


@dataclass
class Model:
    """Everything that came, and the sentences of the decision table said over it."""

    replies: dict[int, list[Reply]] = field(default_factory=dict)

    def record(self, target: int) -> dict[str, int]:
        all_of_it = self.replies.get(target, [])
        if not all_of_it:
            return dict.fromkeys(NAMES, 0)
        best = min(
            all_of_it,
            key=lambda reply: (-int(STRENGTH[reply.reason]), reply.time, reply.port, reply.ttl, reply.window),
        )
        return {
            "time": best.time, "detail": best.detail, "port": best.port, "window": best.window, "reason": best.reason,
            "ttl": best.ttl, "pass": best.number, "replies": min(len(all_of_it), 0xFFFF),
            "seen": bits(1 << reply.reason for reply in all_of_it), "marks": bits(reply.marks for reply in all_of_it),
            "passes": bits(1 << reply.number for reply in all_of_it), "challenged": 0,
        }  # fmt: skip


def bits(parts: object) -> int:
    total = 0
    for part in parts:  # type: ignore[attr-defined]
        total |= part
    return total


def records(ledger: Ledger, n: int = TARGETS) -> list[dict[str, int]]:
    rows = ledger.records(np.arange(n))
    return [{name: int(row[name]) for name in NAMES} for row in rows]


def folded(*batches: list[Reply], n: int = TARGETS) -> Ledger:
    ledger = Ledger(n)
    for each in batches:
        ledger.fold(columns(each))
    return ledger


REPLIES = st.lists(
    st.builds(
        Reply,
        target=st.integers(0, TARGETS - 1),
        reason=st.sampled_from(list(RANKS)),
        time=st.just(0),
        number=st.integers(1, 31),
        marks=st.integers(0, 1023),
        ttl=st.integers(1, 255),
        port=st.integers(0, 65535),
        window=st.integers(0, 65535),
        detail=st.integers(0, 9),
    ),
    max_size=30,
).map(lambda replies: [replace(reply, time=time) for time, reply in enumerate(replies, 1)])


@given(REPLIES, st.randoms(use_true_random=False), st.lists(st.integers(0, 30), max_size=6))
@settings(max_examples=250, deadline=None)
def test_any_order_in_any_batches_gives_the_models_records(
    replies: list[Reply], shuffler: random.Random, cuts: list[int]
) -> None:
    model = Model()
    for reply in replies:
        model.replies.setdefault(reply.target, []).append(reply)
    shuffled = shuffler.sample(replies, len(replies))
    edges = [0, *sorted(cuts), len(shuffled)]
    ledger = folded(*(shuffled[a:b] for a, b in itertools.pairwise(edges)))
    assert records(ledger) == [model.record(target) for target in range(TARGETS)]
    known = [[0, *(RANKS[reply.reason] for reply in model.replies.get(target, []))] for target in range(TARGETS)]
    ranks = [max(each) for each in known]
    assert ledger.rank(np.arange(TARGETS)).tolist() == ranks
    assert ledger.silent(slice(None)).tolist() == [rank <= 1 for rank in ranks]
    assert ledger.answered == sum(rank > 1 for rank in ranks)


@given(REPLIES, st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_each_target_is_news_once(replies: list[Reply], cut: int) -> None:
    ledger, news = Ledger(TARGETS), []
    for part in (replies[:cut], replies[cut:]):
        news += [part[row].target for row in ledger.fold(columns(part))]
    proven = {reply.target for reply in replies if reply.reason != Reason.UNPROVED_SYN}
    assert (sorted(news), ledger.answered) == (sorted(proven), len(proven))


ORDERS = {
    "open is final": ([Reason.SYN_ACK, Reason.RESET, Reason.HOST_UNREACH], Reason.SYN_ACK),
    "closed may become open": ([Reason.RESET, Reason.SYN_ACK], Reason.SYN_ACK),
    "closed is not taken back by an error": ([Reason.RESET, Reason.ADMIN_PROHIBITED], Reason.RESET),
    "filtered may become closed": ([Reason.HOST_UNREACH, Reason.RESET], Reason.RESET),
    "filtered may become open": ([Reason.HOST_UNREACH, Reason.SPLIT_HANDSHAKE_SYN], Reason.SPLIT_HANDSHAKE_SYN),
    "the first of equals": ([Reason.ADMIN_PROHIBITED, Reason.HOST_UNREACH], Reason.ADMIN_PROHIBITED),
    "a SYN/ACK is the better proof": ([Reason.SPLIT_HANDSHAKE_SYN, Reason.SYN_ACK], Reason.SYN_ACK),
}


@pytest.mark.parametrize("together", [False, True], ids=["apart", "one batch"])
@pytest.mark.parametrize("name", ORDERS)
def test_only_upwards_and_as_one_record(name: str, together: bool) -> None:
    reasons, winner = ORDERS[name]
    replies = [Reply(0, reason, time, ttl=60 + time) for time, reason in enumerate(reasons)]
    ledger = folded(replies, n=1) if together else folded(*([reply] for reply in replies), n=1)
    won = reasons.index(winner)
    row = records(ledger, 1)[0]
    seen = bits(1 << reason for reason in reasons)
    assert (row["reason"], row["ttl"], row["time"], row["seen"]) == (winner, 60 + won, won, seen)


def test_counting_repeats_saturates() -> None:
    many = [Reply(0, Reason.RESET, time) for time in range(40_000)]
    ledger = folded(many, many, [Reply(1, Reason.RESET, 1)] * 70_000, n=2)
    assert [row["replies"] for row in records(ledger, 2)] == [0xFFFF, 0xFFFF]


def test_marks_need_a_record() -> None:
    ledger = folded([Reply(1, Reason.SYN_ACK, 5, marks=Mark.LATE)], n=3)
    ledger.mark(np.array([0, 1, 1, 2]), Mark.HALF_OPEN)
    ledger.mark(np.array([1]), Mark.HANDSHAKE_COMPLETED)
    assert [row["marks"] for row in records(ledger, 3)] == [0, Mark.LATE | Mark.HALF_OPEN | Mark.HANDSHAKE_COMPLETED, 0]


def test_what_anybody_can_send_leaves_a_target_silent() -> None:
    ledger = folded([Reply(0, Reason.UNPROVED_SYN, 1), Reply(1, Reason.UNPROVED_SYN, 1)], [Reply(1, Reason.RESET, 2)])
    assert ledger.silent(np.arange(3)).tolist() == [True, False, True]
    assert ledger.was_answered()[:3].tolist() == [True, True, False]
    assert (ledger.answered, ledger.kept(np.array([1, 0])).answered) == (1, 1)


def test_a_bare_syn_is_answered_once_a_pass() -> None:
    ledger = folded([Reply(0, Reason.UNPROVED_SYN, 1), Reply(1, Reason.UNPROVED_SYN, 1)])
    target, passes = np.array([0, 0, 1, 0]), np.array([1, 1, 1, 2], np.uint8)
    assert ledger.challenge(target, passes).tolist() == [True, False, True, True]
    assert ledger.challenge(target, passes).tolist() == [False] * 4
    ledger.fold(columns([Reply(0, Reason.RESET, 2)]))  # the note stays
    asked = np.array([0, 1, 1, 1, 2]), np.array([2, 2, 1, 0, 0], np.uint8)
    assert ledger.challenged(*asked).tolist() == [True, False, True, True, False]


def test_probed_silent_absent() -> None:
    ledger = Ledger(6)
    ledger.probed(np.array([0, 1, 2]))
    ledger.fold(columns([Reply(1, Reason.HOST_UNREACH, 1), Reply(3, Reason.RESET, 1)]))
    ledger.absent(np.array([4, 5]))
    ledger.fold(columns([Reply(1, Reason.RESET, 2)]))
    assert ledger.was_probed().tolist() == [True, True, True, False, False, False]
    assert ledger.silent(np.arange(6)).tolist() == [True, False, True, False, False, False]
    assert ledger.rank(np.arange(6)).tolist() == [0, 3, 0, 3, 0, 0]
    assert (ledger.answered, ledger.missing, ledger.n) == (2, 2, 6)


def test_growth_keeps_what_was_known() -> None:
    """From nothing to 5,000 targets, a few more each time, as the flows of a capture are found."""
    ledger = Ledger(0)
    for first in range(0, 5000, 250):
        ledger.grow(first + 250)
        ledger.probed(np.arange(first, first + 250))
        ledger.fold(columns([Reply(first + i, Reason.SYN_ACK, first + i, ttl=i) for i in range(200)]))
    ttls = ledger.records(np.arange(5000))["ttl"].tolist()
    assert ttls == [i if i < 200 else 0 for _ in range(20) for i in range(250)]
    assert (ledger.was_probed().tolist(), ledger.answered) == ([True] * 5000, 4000)


def test_growing_to_less_changes_nothing() -> None:
    ledger = folded([Reply(2, Reason.RESET, 1)], n=3)
    ledger.grow(1)
    assert (ledger.n, records(ledger, 3)[2]["reason"]) == (3, Reason.RESET)


def test_an_empty_batch() -> None:
    assert Ledger(3).fold(columns([])).tolist() == []
