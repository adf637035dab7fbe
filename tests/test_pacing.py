"""Pacing under a fake clock: the bucket keeps its rate, the controller finds one, and slow hosts are slowed alone."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.rounds.pacing import HostPace, TokenBucket

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
RATES = (0.2, 1.0, 7.0, 100.0, 3333.3, 1e6)


def spent(bucket: TokenBucket, moments: list[int], wish: int = 10**9) -> list[int]:
    """Take all there is at each moment (ns since the start)."""
    out = []
    for moment in moments:
        out.append(bucket.allowed(START + moment, wish))
        bucket.spend(out[-1])
    return out


@given(st.sampled_from(RATES), st.lists(st.integers(0, 5 * SECOND), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None)
def test_never_more_than_rate_times_time_and_one_depth_over_any_stretch(rate: float, pauses: list[int]) -> None:
    moments = list(itertools.accumulate(pauses))
    bucket = TokenBucket(rate)
    frames = spent(bucket, moments)
    for first, last in itertools.combinations_with_replacement(range(len(moments)), 2):
        seconds = (moments[last] - moments[first]) / SECOND
        assert sum(frames[first : last + 1]) <= rate * seconds + bucket.depth + 1e-6


@pytest.mark.parametrize("rate", RATES)
def test_the_rate_is_reached(rate: float) -> None:
    """Sleeping as long as it says, for half a bucket each time, as the scan does, gives the rate."""
    bucket, now, frames = TokenBucket(rate), 0, 0
    for _ in range(400):
        frames += spent(bucket, [now])[0]
        now += math.ceil(bucket.wait(max(1, int(bucket.depth / 2))) * SECOND)
    assert frames == pytest.approx(rate * now / SECOND, abs=bucket.depth, rel=0.001)


@pytest.mark.parametrize(("rate", "depth"), [(0.2, 1.0), (100.0, 1.0), (1000.0, 10.0), (1e6, 10_000.0)])
def test_no_burst_after_a_pause(rate: float, depth: float) -> None:
    bucket = TokenBucket(rate)
    assert (bucket.depth, spent(bucket, [0, 3600 * SECOND, 3600 * SECOND])[1:]) == (depth, [int(depth), 0])


def test_below_one_a_second() -> None:
    assert spent(TokenBucket(0.5), [second * SECOND for second in range(7)]) == [1, 0, 1, 0, 1, 0, 1]


def test_the_start_is_no_burst() -> None:
    assert spent(TokenBucket(1e6), [0, 1000]) == [1, 1]


def test_the_limit_is_kept_and_the_rest_stays() -> None:
    bucket = TokenBucket(1000)
    spent(bucket, [0])
    assert (spent(bucket, [SECOND], 4), spent(bucket, [SECOND])) == ([4], [6])


def test_debt_is_paid_before_the_next_frame() -> None:
    bucket = TokenBucket(10)
    spent(bucket, [0])
    bucket.spend(2)
    assert spent(bucket, [tenth * SECOND // 10 for tenth in range(1, 5)]) == [0, 0, 1, 1]


def test_a_clock_that_steps_back_earns_nothing() -> None:
    bucket = TokenBucket(10)
    assert spent(bucket, [SECOND, 0, SECOND, SECOND + SECOND // 10]) == [1, 0, 0, 1]


def test_no_rate_is_no_limit() -> None:
    bucket = TokenBucket(0)
    assert (spent(bucket, [0, 0], 4096), bucket.wait(4096)) == ([4096, 4096], 0.0)


@pytest.mark.parametrize("rate", RATES)
def test_after_the_wait_there_is_a_frame(rate: float) -> None:
    bucket = TokenBucket(rate)
    spent(bucket, [0])
    wait = bucket.wait()
    later = int(wait * SECOND) + 1
    assert wait == pytest.approx(1 / rate)
    assert bucket.allowed(START + later, 1) == 1


def test_waiting_for_more_than_the_bucket_holds_is_waiting_until_it_is_full() -> None:
    bucket = TokenBucket(1000)
    spent(bucket, [0])
    assert bucket.wait(500) == pytest.approx(0.010)


# ── hosts ──


def test_only_the_slow_host_is_held_back() -> None:
    pace = HostPace(3)
    pace.limit(1, 200.0, START)
    hosts = np.array([0, 1, 1, 2, 1, 1])
    admitted = [pace.admit(hosts, START + tenths * SECOND // 10).tolist() for tenths in (0, 1)]
    assert admitted == [[True, True, False, True, False, False], [True, True, True, True, False, False]]


@pytest.mark.parametrize("rate", [3.0, 200.0, 5000.0])
def test_the_host_gets_its_rate_over_any_time(rate: float) -> None:
    pace, wish = HostPace(2), np.ones(500, np.int64)
    pace.limit(1, rate, START)
    moments = range(START, START + 2 * SECOND, 2_000_000)
    assert sum(np.count_nonzero(pace.admit(wish, now)) for now in moments) == pytest.approx(
        2 * rate, abs=max(2, rate / 100)
    )
