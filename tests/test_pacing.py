"""Pacing under a fake clock: the bucket keeps its rate, the controller finds one, and slow hosts are slowed alone."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.rounds.pacing import BLIND_RATE, LEAST_RATE, HostPace, RateController, TokenBucket

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


# ── the controller ──

Share = Callable[[float], float]  # which share of the probes is answered at a rate


def steer(
    share: Share,
    seconds: float,
    start: float = 200.0,
    limit: float = 1e9,
    rtt: float = 0.02,
    seed: int = 1,
    carries: float = 1e9,
) -> list[float]:
    """Drive a controller in steps of 5 ms against a path; the rates it went through. `carries`: what the wire does."""
    control, chance = RateController(start, limit), np.random.default_rng(seed)
    under_way: list[tuple[int, np.ndarray]] = []
    rates, owed = [], 0.0
    for now in range(START, START + int(seconds * SECOND), 5_000_000):
        while under_way and under_way[0][0] <= now:
            control.answered(under_way.pop(0)[1])
        owed += min(control.rate, carries) * 0.005
        count, owed = int(owed), owed % 1
        if count:
            control.sent(count, now)
            answered = int(chance.binomial(count, share(control.rate)))
            under_way.append((now + int(rtt * SECOND), np.full(answered, now, np.int64)))
        control.judge(now, 1.5 * rtt + 0.005)
        rates.append(control.rate)
    return rates


def test_it_grows_to_its_limit_and_not_beyond() -> None:
    rates = steer(lambda rate: 0.5, 3.0, limit=20_000)
    assert (rates[0], rates[-1], max(rates), rates.index(20_000) < 300) == (200.0, 20_000, 20_000, True)


@pytest.mark.parametrize("seed", range(5))
def test_loss_that_does_not_come_from_the_rate_does_not_throttle(seed: int) -> None:
    assert steer(lambda rate: 0.64, 4.0, limit=50_000, seed=seed)[-1] == 50_000


def test_what_the_wire_does_not_carry_is_not_asked_for() -> None:
    assert 5_000 <= steer(lambda rate: 1.0, 4.0, carries=5_000)[-1] <= 20_000


@pytest.mark.parametrize("capacity", [1000, 20_000])
@pytest.mark.parametrize("seed", range(3))
def test_it_settles_near_what_the_path_takes(capacity: int, seed: int) -> None:
    """A path that drops all that is above its capacity: for most of the time the rate is near it."""
    rates = steer(lambda rate: min(1.0, capacity / rate), 12.0, seed=seed)
    settled = rates[len(rates) // 3 :]
    assert capacity * 0.5 <= sum(settled) / len(settled) <= capacity * 1.5
    assert min(settled) >= capacity / 5


def test_it_recovers_when_the_path_does() -> None:
    bad = iter(range(10_000))
    rates = steer(lambda rate: 0.1 if 300 < next(bad) < 400 else 1.0, 8.0, limit=10_000)
    assert (rates[280], min(rates[300:500]) < 5_000, rates[-1]) == (10_000, True, 10_000)


def test_in_the_dark_it_stays_modest() -> None:
    rates = steer(lambda rate: 0.0, 20.0)
    assert (max(rates), rates[100] < 1000) == (BLIND_RATE, True)


def test_a_host_that_has_gone_does_not_slow_the_scan_to_a_crawl() -> None:
    gone = iter(range(10_000))
    rates = steer(lambda rate: 1.0 if next(gone) < 200 else 0.0, 10.0, limit=10_000)
    assert (max(rates), min(rates[200:])) == (10_000, 1250)


def test_it_never_falls_below_the_least_rate() -> None:
    assert min(steer(lambda rate: min(1.0, 10 / rate), 10.0)) >= LEAST_RATE


# (control probes asked, lost, achieved rate) of later passes, from a start of 1,000/s → the rate.
PASSES: dict[str, tuple[list[tuple[int, int, float]], float]] = {
    "nothing lost: it grows": ([(50, 0, 1000), (50, 0, 2000), (50, 0, 4000)], 8000.0),
    "a steady loss: it grows": ([(100, 36, 1000), (100, 40, 2000), (100, 33, 4000)], 8000.0),
    "a loss that comes with the rate": ([(100, 0, 1000), (100, 40, 2000)], 1000.0),
    "carefully after the first loss": ([(100, 0, 1000), (100, 40, 2000), (100, 0, 1000)], 1250.0),
    "hosts that have gone say nothing": ([(50, 0, 1000), (50, 50, 2000), (50, 50, 2000)], 2000.0),
    "the pass was too short to try the rate": ([(50, 0, 300)], 1000.0),
    "nobody to ask": ([(0, 0, 1000), (0, 0, 2000)], 4000.0),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSES)
def test_later_passes(name: str) -> None:
    told, rate = PASSES[name]
    control = RateController(1000, 1e9)
    for each in told:
        control.repeated(*each)
    assert control.rate == rate


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
