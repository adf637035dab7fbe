"""A fleet over a real network and a real server: the rows are those of one machine, whatever dies."""

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanner.fleet.leases import LEASE_SECONDS
from tests.lab.fleet import Arrivals, Fleet, fleet, nats_server
from tests.lab.fleet_chaos import (
    DROPPED,
    MOST_RATE,
    OPEN,
    RATE,
    SCAN,
    VICTIMS,
    WHAT,
    begin,
    expected,
    scan_with_a_death,
    verdicts,
)  # fmt: skip
from tests.lab.live import LIVE
from tests.processes import wait_until

CAP_NET_RAW = 1 << 13  # include/uapi/linux/capability.h

pytestmark = [*LIVE, pytest.mark.skipif(nats_server() is None, reason="nats-server is not installed")]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path, open_ports=OPEN, dropped=DROPPED) as network:
        yield network


def test_the_rows_are_those_of_one_machine(made: Fleet) -> None:
    begin(made)
    with Arrivals(made) as arrivals:
        code = made.scan(*SCAN).wait(120)
    made.alone(*WHAT, "--rate", "20k", "-o", "alone.jsonl")
    found = sorted(verdicts(made.folder / "fleet.jsonl"))
    same = found == sorted(verdicts(made.folder / "alone.jsonl")) == sorted(expected())
    assert (code, same) == (0, True), made.said("scan")
    assert RATE / 2 < arrivals.busiest(1.0) <= MOST_RATE
    assert [index for index in range(3) if "taking pieces" not in made.said(f"w{index}")] == []
    assert not list(made.folder.glob("state*"))


def test_each_worker_finds_its_rate_within_the_limits_of_the_scan_and_of_its_owner(made: Fleet) -> None:
    made.serve()
    wait_until(lambda: "Server is ready" in made.said("server"))
    made.work(0, "--max-rate", "300")
    with Arrivals(made) as arrivals:
        code = made.scan("198.19.0.0-198.19.0.19", "-p", "1-100", "-o", "fleet.jsonl").wait(120)
    found = sorted(verdicts(made.folder / "fleet.jsonl"))
    right = sorted(row for row in expected() if int(row[0].rpartition(".")[2]) < 20)
    assert (code, found == right) == (0, True), made.said("scan")
    assert arrivals.busiest(1.0) <= 300 * 1.05


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_changes_nothing(victim: str, tmp_path: Path) -> None:
    outcome = scan_with_a_death(tmp_path, victim, seed=1)
    assert outcome.right, outcome


def test_a_server_that_has_lost_its_data_changes_nothing(made: Fleet) -> None:
    server = made.serve()
    wait_until(lambda: "Server is ready" in made.said("server"))
    for index in range(3):
        made.work(index)
    process = made.scan(*SCAN)
    wait_until(lambda: made.rows("fleet.jsonl") > 0, process)
    server.kill()
    server.wait()
    shutil.rmtree(made.folder / "data")
    made.serve()
    assert (process.wait(120), sorted(verdicts(made.folder / "fleet.jsonl"))) == (0, sorted(expected()))


def test_a_worker_that_stops_for_a_while_sends_nothing_for_its_old_lease(made: Fleet) -> None:
    begin(made)
    with Arrivals(made) as arrivals:
        process = made.scan(*SCAN)
        late = made.work(0, "--name", "late")
        wait_until(lambda: made.rows("fleet.jsonl") > 0, process)
        late.send_signal(signal.SIGSTOP)
        rows = made.rows("fleet.jsonl")
        wait_until(lambda: made.rows("fleet.jsonl") > rows + 3000, process)
        late.send_signal(signal.SIGCONT)
        code = process.wait(120)
    assert (code, sorted(verdicts(made.folder / "fleet.jsonl"))) == (0, sorted(expected()))
    assert arrivals.busiest(1.0) <= MOST_RATE


def test_a_worker_that_joins_late_gets_pieces(made: Fleet) -> None:
    made.serve()
    wait_until(lambda: "Server is ready" in made.said("server"))
    made.work(0)
    process = made.scan(*WHAT, "--rate", "800", "-o", "fleet.jsonl")
    wait_until(lambda: made.rows("fleet.jsonl") > 0, process)
    made.work(1)
    code = process.wait(120)
    assert (code, "begun" in made.said("w1")) == (0, True)
    assert sorted(verdicts(made.folder / "fleet.jsonl")) == sorted(expected())


def test_only_the_thread_that_scans_keeps_the_right_to_open_raw_sockets(made: Fleet) -> None:
    made.serve()
    wait_until(lambda: "Server is ready" in made.said("server"))
    process = made.work(0)
    wait_until(lambda: "waits for scans" in made.said("w0"), process)
    tasks = Path(f"/proc/{process.pid}/task")
    rights = {int(task.name): effective(task) for task in tasks.iterdir()}
    others = {right for thread, right in rights.items() if thread != process.pid}
    assert (rights[process.pid] & CAP_NET_RAW > 0, others) == (True, {0})


def effective(task: Path) -> int:
    """The effective capabilities of a thread (proc(5))."""
    (line,) = [line for line in (task / "status").read_text().splitlines() if line.startswith("CapEff:")]
    return int(line.split()[1], 16)


def test_without_a_server_no_worker_sends_for_longer_than_its_lease(made: Fleet) -> None:
    server = made.serve()
    wait_until(lambda: "Server is ready" in made.said("server"))
    for index in range(3):
        made.work(index)
    with Arrivals(made) as arrivals:
        process = made.scan(*WHAT, "--rate", "100", "-o", "fleet.jsonl")
        wait_until(lambda: len(arrivals.times) > 100, process)
        server.kill()
        killed = time.time_ns()
        wait_until(lambda: all("given back" in made.said(f"w{index}") for index in range(3)), process)
    seconds = (arrivals.times[-1] - killed) / 1e9
    assert (0 < seconds <= LEASE_SECONDS, process.poll()) == (True, None), seconds


def test_workers_send_nothing_when_nobody_collects_and_ctrl_c_can_be_resumed(made: Fleet) -> None:
    begin(made)
    with Arrivals(made) as arrivals:
        process = made.scan(*SCAN)
        wait_until(lambda: made.rows("fleet.jsonl") > 0, process)
        process.send_signal(signal.SIGINT)
        first = process.wait(60)
        quiet = len(arrivals.times)
        wait_until(lambda: all("given back" in made.said(f"w{index}") for index in range(3)))
    again = made.scan(*SCAN).wait(120)
    assert (first, again, sorted(verdicts(made.folder / "fleet.jsonl"))) == (130, 0, sorted(expected()))
    assert "to go on" in made.said("scan")
    assert quiet < len(expected())
