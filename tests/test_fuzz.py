"""A bounded run of every subject of `make fuzz`, always with the same seeds, and forged replies to a scan in memory."""

import pytest

from tests.bench.forged import forge
from tests.fuzz.subjects import SUBJECTS, run_case

CASES = {"classify": 200, "who": 200, "frames": 300}  # of the others 800
PARTS = 2  # so that several workers share a subject


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", SUBJECTS)
def test_mutations(name: str, part: int) -> None:
    """No case fails, and some are accepted: a corpus that no longer fits would test the first check only."""
    failures, accepted = [], 0
    for seed in range(part, CASES.get(name, 800), PARTS):
        try:
            accepted += run_case(name, seed)
        except Exception as error:
            failures.append((seed, repr(error)[:200]))
    assert (failures, accepted > 20) == ([], True)


def test_no_forged_reply_becomes_a_verdict() -> None:
    assert forge(300_000)[1] == 0
