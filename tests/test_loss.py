"""The stated error where hosts, networks and passes are unlike: over many simulated scans it is what was missed."""

import math

import numpy as np
import pytest

from scanner.verdict.loss import Estimate, HostAnswers, at_most, estimate, estimate_hosts
from tests.loss_scenes import KINDS, Scene, calibrate, run

QUICK = (
    "alike, 20%", "alike, 36%", "bursts of 20", "5% of hosts at 70%", "50% of hosts at 90%",
    "one bad /24 of eight, 70%",
    "first pass 50%, then 5%", "few responders", "98% silent, 36%", "an outage",
)  # fmt: skip


@pytest.mark.parametrize("kind", QUICK)
def test_what_is_printed_is_what_is_missed(kind: str) -> None:
    """With few runs, so with wider limits than `python -m tests.bench.loss`. Neither 0.11 for 244 nor always much."""
    row = calibrate(kind, range(1, 16))
    assert row.held >= 0.86
    assert row.printed >= 0.5 * row.missed - 1
    assert row.printed <= 6 * row.missed + 5


def test_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 12


def clean(hosts: int, ports: int, silent: int) -> Scene:
    return Scene(ports, np.full(hosts, ports - silent), np.zeros(hosts))


@pytest.mark.parametrize(
    ("scene", "passes"),
    [
        (clean(16, 5, 2), 2), (clean(1, 1000, 100), 2), (clean(250, 3, 0), 1), (clean(250, 3, 1), 2),
        (clean(50, 100, 10), 2), (clean(50, 100, 90), 2), (clean(5, 20, 18), 3),
    ],
)  # fmt: skip
def test_without_loss_unlike_hosts_are_not_looked_for(scene: Scene, passes: int) -> None:
    done = run(scene, np.random.default_rng(1))
    assert (done.passes, done.missed, done.printed < 0.01) == (passes, 0, True)


def answers(first: list[list[int]], control: list[list[int]], silent: int, **more: object) -> HostAnswers:
    hosts, passes = len(first), len(first[0])
    given = HostAnswers(
        np.array(first), np.array(control), np.full(hosts, passes), np.full(hosts, silent), np.zeros(hosts, np.int64)
    )
    return given._replace(**more)  # type: ignore[arg-type]


GOOD, BAD = [20, 0, 0], [9, 4, 2]


def test_a_lossy_host_is_not_averaged_away() -> None:
    good = estimate_hosts(answers([GOOD] * 20, [[6, 0]] * 20, 10))
    mixed = estimate_hosts(answers([GOOD] * 20 + [BAD], [[6, 0]] * 20 + [[6, 3]], 10))
    assert good.missed < 0.01
    assert 0.8 < mixed.missed < 6


def test_a_host_with_few_answers_is_judged_by_its_network() -> None:
    """The same answers of one host, among good hosts and among bad ones of its own network."""
    first = [GOOD] * 8 + [BAD] * 8 + [[2, 0, 0]]
    control = [[6, 0]] * 8 + [[6, 3]] * 8 + [[0, 0]]
    silent = np.array([5] * 8 + [0] * 8 + [10])
    among = {
        group: estimate_hosts(
            answers(first, control, 0)._replace(silent=silent, group=np.array([0] * 8 + [1] * 8 + [group]))
        )
        for group in (0, 1)
    }
    assert among[0].missed < 0.5 * among[1].missed


def test_a_bad_first_pass_says_little_about_later_ones() -> None:
    """Half is lost in the first pass, and next to nothing afterwards: the control probes tell."""
    first, control = [[50, 48, 2]], [[200, 10]]
    even = estimate_hosts(answers(first, control, 100))
    told = estimate_hosts(answers(first, control, 100, control_by_pass=np.array([[5, 3], [98, 4], [97, 3]])))
    assert told.missed < 0.5 < even.missed


def test_no_silent_target_means_nothing_missed() -> None:
    found = estimate_hosts(answers([[40, 10]], [[50, 10]], 0))
    assert (found.missed, found.variance, found.loss) == (0.0, 0.0, estimate([40, 10], 50, 10).loss)


def test_no_hosts() -> None:
    none = np.zeros(0, np.int64)
    assert estimate_hosts(HostAnswers(none.reshape(0, 2), none.reshape(0, 2), none, none, none)) == Estimate(0.0, None)


@pytest.mark.parametrize(
    ("responders", "probes", "measured"), [(1, 1, False), (1, 2, True), (2, 1, True), (3, 0, True)]
)
def test_what_counts_as_measured(responders: int, probes: int, measured: bool) -> None:
    found = estimate_hosts(answers([[responders, 0]], [[probes, 0]], 5))
    assert (found.loss is not None, found.missed > 0) == (measured, True)


def test_the_order_of_hosts_and_equal_hosts_change_nothing() -> None:
    rows = answers([GOOD, BAD, [3, 1, 0]] * 40, [[6, 0], [6, 3], [1, 0]] * 40, 10)
    turned = HostAnswers(*(None if column is None else column[::-1] for column in rows))
    assert tuple(estimate_hosts(turned)) == pytest.approx(tuple(estimate_hosts(rows)))


@pytest.mark.parametrize(
    ("missed", "variance", "limit"),
    [(0.0, 0.0, 0), (0.005, 0.005, 0), (1.0, 1.0, 4), (100.0, 100.0, 124), (100.0, 2500.0, 250), (5e4, 1e8, 75_000)],
)
def test_the_bound(missed: float, variance: float, limit: int) -> None:
    assert at_most(missed, variance) == pytest.approx(limit, rel=0.02)


@pytest.mark.parametrize(("missed", "variance"), [(1.2e6, 1.2e6), (1.2e6, 4e9), (9e5, 1e10)])
def test_the_limit_of_large_numbers_is_the_same_without_adding_up(
    missed: float, variance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = at_most(missed, variance)
    monkeypatch.setattr("scanner.verdict.loss.MOST_NUMBERS", 1 << 30)
    assert at_most(missed, variance) == pytest.approx(short, rel=0.001)


def test_a_forged_number_of_missed_responders_takes_no_memory() -> None:
    assert at_most(2.0**62, 2.0**62) == pytest.approx(2.0**62, rel=1e-6)


def test_the_bound_is_a_quantile() -> None:
    mean, variance = 8.0, 60.0
    drawn = np.random.default_rng(1).negative_binomial(mean**2 / (variance - mean), mean / variance, 100_000)
    limit = at_most(mean, variance)
    assert np.mean(drawn <= limit) >= 0.985
    assert np.mean(drawn < limit) <= 0.992
    assert math.isclose(drawn.mean(), mean, rel_tol=0.02)
