"""The plan against the wire: the first probes of a scan with the same seed are the ones that were announced."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from scanner.lab import Box
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.syn_wire import ROOT, SYN, Tap, scan

pytestmark = LIVE


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with direct_box() as made:
        yield made


def planned(box: Box, *arguments: str) -> list[str]:
    environment = {"PYTHONPATH": ROOT}
    os.environ.update(environment)
    done = box.scanner.run([sys.executable, "-m", "scanner", "plan", *arguments])
    assert isinstance(done, subprocess.CompletedProcess)
    return [line for line in done.stdout.splitlines() if line.startswith((" " * 11, "first"))][-10:]


CASES = [["198.18.0.2"], ["198.18.0.2", "2001:db8::2"], ["198.18.0.2", "--rate", "500"]]


@pytest.mark.parametrize("targets", CASES, ids=" ".join)
def test_the_first_probes_are_the_planned_ones(box: Box, targets: list[str]) -> None:
    arguments = [*targets, "-p", "1-300", "--seed", "11"]
    lines = planned(box, *arguments)
    with Tap(box) as tap:
        scan(box, *arguments)
        ports = [each.dport for each in tap.segments() if each.flags == SYN and not each.out]
    assert [int(line.rpartition(":")[2]) for line in lines] == ports[:10]
