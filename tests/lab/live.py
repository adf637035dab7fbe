"""Marks for tests that need a lab; whether this machine permits one is found out once for each test process."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from scanner.lab import here

Test = TypeVar("Test", bound=Callable[..., object])

OBSTACLE = here()
LIVE = [pytest.mark.live, pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE))]


def live(test: Test) -> Test:
    """Mark one test; a whole module says `pytestmark = LIVE`."""
    for mark in LIVE:
        test = mark(test)
    return test
