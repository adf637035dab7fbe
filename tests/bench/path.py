"""Paths as they are outside a lab: round trips of 1, 40 and 200 ms, and 0, 1 and 2 % of the packets lost each way.

halfopen with `--rate auto` beside nmap -T3 and -T4 (both with -n -Pn), in turns, on three tasks: one host with 65,535
ports, one host with 1,000 ports, and 256 hosts with 10 ports. All hosts and ports answer: four ports of a host are
open (three in the third task) and the others are closed. So what a result lacks was lost on the path, and the scanner
did not send it again often enough. nmap gets SIGINT after a limit; then its time is that limit and its row says so.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from scanner.lab import Box
from tests.lab.networks import direct_box
from tests.lab.wire import both
from tests.paths import OneWay

from .result import Plan, Result
from .running import HALFOPEN, in_turns, installed, run
from .scans import OPEN_PORTS, READERS

ROUND_TRIPS, LOSSES = (0.001, 0.040, 0.200), (0.0, 0.01, 0.02)
LIMIT, BUDGET = 20.0, 30.0  # seconds: of a run, of all runs of one contender in a cell
OURS = "halfopen"
FEW_PORTS = "21-25,80,110,143,443,8080"


class Task(NamedTuple):
    """A scan of hosts that all answer."""

    name: str
    targets: str
    ports: str
    count: int  # targets


TASKS = (
    Task("1 host x 65,535 ports", "198.18.0.2", "1-65535", 65535),
    Task("1 host x 1,000 ports", "198.18.0.2", "1-1000", 1000),
    Task("256 hosts x 10 ports", "198.19.0.0/24", FEW_PORTS, 2560),
)


class Score(NamedTuple):
    """One run: seconds, targets without their true state, whether it ended by itself."""

    seconds: float
    missed: int
    ended: bool


def run_all(plan: Plan) -> list[Result]:
    """Every cell in turn; with `quick` only the one in the middle."""
    trips, losses = (ROUND_TRIPS[1:2], LOSSES[1:2]) if plan.quick else (ROUND_TRIPS, LOSSES)
    return [row for trip in trips for loss in losses for row in _cell(plan, trip, loss)]


def _cell(plan: Plan, trip: float, loss: float) -> list[Result]:
    rows = []
    with direct_box(faults=both(OneWay(lose=loss, delay=trip / 2))) as box:
        box.listen(OPEN_PORTS)
        for task in TASKS:
            group = f"{trip * 1000:.0f} ms, {loss:.0%} lost each way, {task.name}"
            lines = {name: line for name, line in commands(task).items() if installed(line[0])}
            contenders = {name: partial(_scored, box, name, line, task) for name, line in lines.items()}
            done = in_turns(contenders, plan.runs, BUDGET)
            rows += [_row(group, name, done.get(name, [])) for name in commands(task)]
    return rows


def commands(task: Task) -> dict[str, Sequence[str]]:
    """The command line of each contender."""
    nmap = ("nmap", "-n", "-Pn", "-sS", "-p", task.ports, "-oX", "-", task.targets)
    return {
        OURS: (*HALFOPEN, "syn", task.targets, "-p", task.ports, "-f", "jsonl"),
        "nmap -T3": (*nmap, "-T3"),
        "nmap -T4": (*nmap, "-T4"),
    }


def _scored(box: Box, name: str, line: Sequence[str], task: Task) -> Score:
    finished = run(box, line, limit=LIMIT)
    right = 0
    if finished.ended_itself:
        said = dict(READERS[name.split()[0]](finished))
        right = sum(state == ("open" if port in OPEN_PORTS else "closed") for (_, port), state in said.items())
    return Score(finished.seconds, task.count - right, finished.ended_itself)


def _row(group: str, name: str, scores: list[Score]) -> Result:
    if not scores:
        return Result(group, name, "s", note="not installed")
    note = "missed " + ", ".join(f"{each.missed:,}" if each.ended else "no result in time" for each in scores)
    return Result(group, name, "s", tuple(each.seconds for each in scores), "" if name == OURS else OURS, note)
