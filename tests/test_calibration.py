"""The calibration of the printed error: whole scans in memory can be repeated by seed, and bad figures are named."""

import pytest

from tests.calibration import KINDS, Line, Outcome, Printed, line_of, run_once

QUICK = ("no loss", "alike, 20 % each way", "5 of 100 hosts at 90 %, 3 ports", "10 of 100 hosts 300 ms away")


@pytest.mark.parametrize("name", QUICK)
def test_a_seed_gives_the_same_run_again_and_no_state_is_false(name: str) -> None:
    first, again = run_once(name, 3), run_once(name, 3)
    assert (first, first.wrong) == (again, 0)


def test_another_seed_is_another_run() -> None:
    assert len({run_once("5 of 100 hosts at 90 %, 3 ports", seed) for seed in range(1, 5)}) > 1


def line(kind: str, missed: int, said: float, at_most: int, unseen: int = 0, if_there: float = 0.0) -> Line:
    return line_of(kind, [Outcome(missed, unseen, 0, Printed(said, at_most, 0, if_there), 1, 1.0)] * 10)


ALIKE, DEAD, OTHER = "alike, 40 % each way", "many silent, 60 %", "half of 20 hosts at 70 %"
FAULTS = [
    (line(OTHER, 10, 9.0, 15), []),
    (line(OTHER, 10, 7.9, 15), ["printed is 0.79 times what was missed"]),
    (line(OTHER, 10, 51.0, 99), ["printed is 5.10 times what was missed"]),
    (line(OTHER, 2, 0.1, 5), []),  # 20 in all are too few for a ratio
    (line(OTHER, 10, 9.0, 9), ['"at most" holds in 0.0% of the runs']),
    (line(ALIKE, 10, 9.0, 55), []),
    (line(ALIKE, 10, 9.0, 56), ['"at most" is 56.0 on average, too much']),
    (line(OTHER, 0, 0.0, 0, 10, 1.0), ['printed "if they are there" is 0.10 times what was missed']),
    (line(DEAD, 0, 0.0, 0, 10, 1.0), []),  # some hosts do not exist
]


@pytest.mark.parametrize(("given", "faults"), FAULTS)
def test_what_is_badly_calibrated_is_named(given: Line, faults: list[str]) -> None:
    assert given.faults() == faults


def test_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 12
