"""The search for a rate, driven in steps of 5 ms against the models of paths. No clock, no scan."""

from typing import NamedTuple

import numpy as np
import pytest

from scanner.packet.headers import MAPPED, SYN
from scanner.rounds.control import quota
from scanner.rounds.rate import (
    BLIND_RATE,
    FIRST_RATE,
    IN_FLIGHT,
    LEAST_RATE,
    OUTAGE_RATE,
    OUTAGE_SECONDS,
    RateController,
)
from scanner.rounds.trips import RoundTrips
from tests.packets import UNCHANGED, Packets
from tests.passage import Passage
from tests.paths import OUT, Model, Narrow, OneWay, Outage, Path, Policer

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
STEP = 5_000_000  # ns
MARGIN, LEAST = 1.5, 0.005  # how long the scan waits for the replies of an epoch, beyond the slow tail


def packets(count: int, now: int) -> Packets:
    """So many probes that leave together."""
    unset = np.zeros(count, np.int64)
    return Packets(
        np.arange(count), unset + now, np.zeros(count, np.uint64), np.full(count, MAPPED | 0xC6120101, np.uint64),
        unset + 1, unset + 1, np.full(count, SYN, np.uint8), np.full(count, 4, np.uint8), unset.copy(),
        unset + UNCHANGED, np.zeros(count, np.uint64), np.zeros(count, np.bool_),
    )  # fmt: skip


class Course(NamedTuple):
    """The rate after each step, and the controller at the end."""

    rates: list[float]
    control: RateController

    def at(self, seconds: float) -> float:
        return self.rates[int(seconds * SECOND) // STEP]

    def between(self, first: float, last: float) -> list[float]:
        return self.rates[int(first * SECOND) // STEP : int(last * SECOND) // STEP]


def steer(
    *models: Model, seconds: float, answering: float = 0.5, limit: float = 1e9, trip: float = 0.02, seed: int = 1,
    machine: float = 1e9, control_probes: bool = True, gone: float = 1e9,
) -> Course:  # fmt: skip
    """A scan whose targets answer with this share.

    `machine`: what it can send in a second. `gone`: seconds after which nobody answers any more.
    """
    control, trips, chance = RateController(limit), RoundTrips(), np.random.default_rng(seed)
    path = Passage(Path(out=models, seed=seed))
    under_way: list[tuple[int, int, bool]] = []  # when it comes back, when it left, is it a control probe
    rates, owed, sent, sent_control, answered = [], 0.0, 0, 0, 0
    for now in range(START, START + int(seconds * SECOND), STEP):
        due = [each for each in under_way if each[0] <= now]
        under_way = [each for each in under_way if each[0] > now]
        for is_control, told in ((True, control.came_back), (False, None)):
            times = np.array([left for _, left, kind in due if kind is is_control], np.int64)
            if not is_control and len(times):
                trips.add(np.array([came - left for came, left, kind in due if not kind], np.int64))
                control.answered(times, trips.quantile(0.5))
                answered += len(times)
            elif told and len(times):
                told(times)
        owed += min(control.rate, machine) * STEP / SECOND
        count, owed = int(owed), owed % 1
        if count:
            ours = min(quota(sent + count, None) - sent_control, answered, count) if control_probes else 0
            sent, sent_control = sent + count, sent_control + max(0, ours)
            control.sent(count, max(0, ours), now)
            found = path.carry(OUT, packets(count, now))
            is_ours = np.isin(np.arange(count), chance.permutation(count)[: max(0, ours)])  # anywhere in the batch
            back = is_ours[found.row] | (chance.random(len(found.row)) < answering)
            if now - START < gone * SECOND:
                rows = zip(found.row[back].tolist(), found.time[back].tolist(), strict=True)
                under_way += [(time + int(trip * SECOND), now, bool(is_ours[row])) for row, time in rows]
        tail = trips.quantile(0.99)
        control.judge(now, trips.first_wait if tail is None else MARGIN * tail + LEAST)
        rates.append(control.rate)
    return Course(rates, control)


# ── a path that carries everything ──


@pytest.mark.parametrize("trip", [0.01, 0.04, 0.2])
def test_it_starts_with_a_few_in_flight_and_doubles_each_round_trip(trip: float) -> None:
    course = steer(seconds=5.0, limit=50_000, trip=trip)
    steps = [later / rate for rate, later in zip(course.rates, course.rates[1:], strict=False) if later != rate]
    assert (course.rates[-1], max(course.rates), course.control.carries) == (50_000, 50_000, None)
    assert course.at(trip) <= max(FIRST_RATE, 2 * IN_FLIGHT / trip)
    assert (min(steps), max(steps[1:]) <= 2.01) == (pytest.approx(max(1.0, min(steps))), True)
    assert course.rates.index(50_000) * STEP / SECOND < 0.3 + 20 * trip


def test_what_the_machine_does_not_send_is_not_asked_for() -> None:
    assert 5_000 <= steer(seconds=4.0, machine=5_000).rates[-1] <= 20_000


def test_without_control_probes_it_grows_carefully_by_answers() -> None:
    rates = steer(seconds=4.0, limit=20_000, control_probes=False).rates
    assert (rates[-1], rates.index(20_000) > 50) == (20_000, True)


# ── loss that does not come from the rate ──


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("loss", [0.05, 0.2, 0.36])
def test_loss_of_the_path_itself_does_not_throttle(loss: float, seed: int) -> None:
    course = steer(OneWay(loss), seconds=6.0, limit=20_000, seed=seed)
    assert (course.rates[-1], course.control.carries) == (20_000, None)


@pytest.mark.parametrize("loss", [0.64, 0.75])
def test_a_path_that_loses_most_is_not_called_narrow(loss: float) -> None:
    courses = [steer(OneWay(loss), seconds=8.0, limit=5_000, trip=0.005, seed=seed) for seed in range(20)]
    assert {(course.rates[-1], course.control.carries) for course in courses} == {(5_000, None)}


# ── paths that are too narrow ──


@pytest.mark.parametrize("rate", [500, 2000])
def test_it_settles_at_what_a_narrow_path_carries_and_says_so(rate: int) -> None:
    """It goes on trying higher rates, so now and then the end of a run finds it in the middle of that."""
    courses = [steer(Narrow(rate), seconds=20.0, seed=seed) for seed in range(24)]
    settled = [float(np.mean(course.between(8.0, 20.0))) for course in courses]
    named = [course.control.carries for course in courses if course.control.carries]
    near = [sum(rate / 1.5 <= each <= rate * 1.5 for each in values) for values in (settled, named)]
    assert (near[0] >= 22, near[1] >= 11, len(named) - near[1] <= 3) == (True, True, True), (settled, named)
    assert sum(bool(course.control.too_fast) for course in courses) >= 20


@pytest.mark.parametrize("rate", [300, 2000])
def test_a_policer_with_a_burst_is_found(rate: int) -> None:
    course = steer(Policer(rate, burst=100), seconds=25.0)
    assert rate / 1.5 <= float(np.mean(course.between(12.0, 25.0))) <= rate * 1.5


def test_a_narrow_path_with_loss_of_its_own() -> None:
    course = steer(Narrow(1000), OneWay(0.2), seconds=25.0)
    assert 1000 / 2 <= float(np.mean(course.between(12.0, 25.0))) <= 1000 * 1.5


def test_it_never_falls_below_the_least_rate() -> None:
    assert min(steer(Narrow(10, queue=5), seconds=10.0).rates) >= LEAST_RATE


# ── outages ──


def test_in_an_outage_it_falls_to_a_few_probes_and_comes_back() -> None:
    course = steer(Outage(2.0, 4.0), seconds=7.0, limit=10_000)
    assert (course.at(1.9), course.at(3.0), course.at(3.9), course.rates[-1]) == (
        10_000, OUTAGE_RATE, OUTAGE_RATE, 10_000,
    )  # fmt: skip
    (began, ended), *_ = course.control.too_fast
    assert [(began - START) / SECOND, (ended - START) / SECOND] == pytest.approx([2.0, 4.0], abs=0.3)


def test_where_nobody_answers_it_stays_modest() -> None:
    rates = steer(seconds=5.0, answering=0.0).rates
    assert (rates[0], max(rates), rates[-1]) == (200.0, BLIND_RATE, BLIND_RATE)


def test_with_a_lower_limit_it_stays_below_that() -> None:
    assert max(steer(seconds=3.0, answering=0.0, limit=150.0).rates) == 150.0


def test_a_host_that_has_gone_does_not_slow_the_scan_for_ever() -> None:
    course = steer(seconds=12.0, limit=10_000, gone=2.0)
    assert (course.at(1.9), course.at(4.0), course.rates[-1]) == (10_000, OUTAGE_RATE, 10_000)
    slow = sum(rate == OUTAGE_RATE for rate in course.rates) * STEP / SECOND
    assert slow == pytest.approx(OUTAGE_SECONDS, abs=0.5)


def test_control_probes_that_leave_before_a_round_trip_is_known_are_waited_for() -> None:
    """On a path of 200 ms the first answers are there one step before the round trip that they show."""
    controller, step = RateController(1e9), 60_000_000  # ns
    controller.sent(10, 0, step)
    controller.sent(30, 10, 2 * step)
    controller.sent(30, 10, 3 * step)
    before = controller.rate
    controller.judge(4 * step, wait=1.0)
    assert controller.rate >= before
