"""A fleet over a real network and a real server: the rows are those of one machine, and one of each dies."""

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.fleet import HOSTS, Arrivals, Fleet, fleet, nats_server
from tests.lab.live import LIVE
from tests.processes import wait_until, wait_until_it_catches

pytestmark = [*LIVE, pytest.mark.skipif(nats_server() is None, reason="nats-server is not installed")]

RATE = 2000.0
WHAT = ("198.19.0.0-198.19.0.79", "-p", "1-100")
TARGETS = 8000
SCAN = (*WHAT, "--rate", f"{RATE:g}", "-o", "fleet.jsonl", "--resume", "state")


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path, open_ports=[22, 80], dropped=["90-91"]) as network:
        yield network


def verdicts(path: Path) -> list[tuple[str, int, str, str]]:
    """Target, state and reason of each row, sorted: a target that stands there twice shows."""
    rows = map(json.loads, path.read_text().splitlines())
    return sorted((row["ip"], row["port"], row["state"], row["reason"]) for row in rows)


def expected() -> list[tuple[str, int, str, str]]:
    """What one machine finds there: `test_the_rows_are_those_of_one_machine` compares it with a scan."""
    kinds = {22: ("open", "syn-ack"), 80: ("open", "syn-ack"), 90: ("filtered", "no-response")}
    kinds[91] = kinds[90]
    hosts = [f"198.19.0.{number}" for number in range(80)]
    return sorted((ip, port, *kinds.get(port, ("closed", "reset"))) for ip in hosts for port in range(1, 101))


def begin(made: Fleet) -> None:
    """The server and three workers."""
    made.serve()
    wait_until(lambda: "Server is ready" in made.said("server"))
    for index in range(3):
        made.work(index)


def test_the_rows_are_those_of_one_machine(made: Fleet) -> None:
    begin(made)
    with Arrivals(made) as arrivals:
        code = made.scan(*SCAN).wait(120)
    made.alone(*WHAT, "--rate", "20k", "-o", "alone.jsonl")
    found = verdicts(made.folder / "fleet.jsonl")
    assert (code, found == verdicts(made.folder / "alone.jsonl"), found == expected()) == (0, True, True), made.said("scan")
    # The bucket of each worker is 10 ms deep.
    assert RATE / 2 < arrivals.busiest(1.0) <= RATE * 1.03
    assert [index for index in range(3) if "taking pieces" not in made.said(f"w{index}")] == []
    assert not list(made.folder.glob("state*"))


@pytest.mark.parametrize("seed", [1])
def test_a_worker_dies(made: Fleet, seed: int) -> None:
    begin(made)
    with Arrivals(made) as arrivals:
        process = made.scan(*SCAN)
        victim = made.work(2, "--name", "victim")
        moment = random.Random(seed).randrange(1, TARGETS // 2)
        wait_until(lambda: made.rows("fleet.jsonl") >= moment, process)
        victim.kill()
        assert process.wait(120) == 0, made.said("scan")
    assert verdicts(made.folder / "fleet.jsonl") == expected()
    assert arrivals.busiest(1.0) <= RATE * 1.03
