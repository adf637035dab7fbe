"""Whole scans, from command to prompt, with the number of wrong verdicts of each.

Every scanner gets the usual tasks that it is made for. The ground truth is known, so each result is scored. *missed*
are targets whose true state the tool left out (open ones, of a tool that lists only open ports). *false* are verdicts
that differ from the truth, and verdicts about a port of a host that does not exist. nmap prints its most frequent state
as a list of ports, which is read like single rows.

The others run as their users run them for speed: nmap without names and with -T4, masscan and ZMap unlimited, with one
second of listening at the end. When ports are missed, the time is the time of a different task.
"""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

from scanner.lab import Box, PortKind
from scanner.targets.ports import parse_ports
from tests.lab.networks import direct_box

from .result import Plan, Result
from .running import HALFOPEN, MASSCAN, ZMAP, Run, in_turns, installed, run

States = dict[tuple[str, int], str]  # (address, port) → state
OURS = "halfopen"
OPEN_PORTS = (22, 80, 443, 8080)
BUDGET = 22.0  # seconds that one contender may use for one task


class Task(NamedTuple):
    """A scan: how to build the box, what is true in it, and the command line of each contender."""

    name: str
    box: Callable[[], AbstractContextManager[Box]]
    prepare: Callable[[Box], object]
    truth: States
    lines: dict[str, Sequence[str]]


class Score(NamedTuple):
    """One run of one contender on one task."""

    seconds: float
    missed: int
    false: int


def run_all(plan: Plan) -> list[Result]:
    """Every task in turn."""
    return [row for task in tasks(plan.quick) for row in _do(task, plan)]


def _do(task: Task, plan: Plan) -> list[Result]:
    with task.box() as box:
        task.prepare(box)
        lines = {name: line for name, line in task.lines.items() if installed(line[0])}
        contenders = {name: partial(_scored, box, name, line, task.truth) for name, line in lines.items()}
        done = in_turns(contenders, plan.runs, BUDGET)
    group = f"Whole scan, {task.name}"
    return [_row(group, name, done.get(name, [])) for name in task.lines]


def _row(group: str, name: str, scores: list[Score]) -> Result:
    missed = ", ".join(f"{each.missed}" for each in scores)
    false = ", ".join(f"{each.false}" for each in scores)
    note = f"missed {missed}; false {false}" if scores else "not installed"
    return Result(group, name, "s", tuple(each.seconds for each in scores), "" if name == OURS else OURS, note)


def _scored(box: Box, name: str, line: Sequence[str], truth: States) -> Score:
    finished = run(box, line, limit=45)
    kind = name.split()[0]
    found = dict(READERS[kind](finished))
    wanted = truth if kind in (OURS, "nmap") else {target: state for target, state in truth.items() if state == "open"}
    missed = sum(target not in found for target in wanted)
    false = sum(truth.get(target) != state for target, state in found.items())
    return Score(finished.seconds, missed, false)


# ── the tasks ──


def tasks(quick: bool) -> list[Task]:
    """(a) to (d); (e), one port, is in `startup`."""
    every = range(1, 65536)
    host = {("198.18.0.2", port): "open" if port in OPEN_PORTS else "closed" for port in every}
    dropped = {target: "filtered" if 10_001 <= target[1] <= 11_000 else state for target, state in host.items()}
    net = {(f"198.19.{high}.{low}", 80): "open" for high in range(256) for low in range(256)}
    some = {
        (f"198.18.0.{low}", port): "open" if port in OPEN_PORTS else "closed"
        for low in range(2, 128)
        for port in range(1, 1001)
    }
    listen = partial(Box.listen, ports=OPEN_PORTS)
    found = [
        Task("(a) 1 host x 65,535 ports, 4 open", direct_box, listen, host, _one_host("198.18.0.2", "-")),
        Task("(b) the same, 1,000 ports dropped", direct_box, _dropping, dropped, _one_host("198.18.0.2", "-")),
        Task("(c) /16 x 1 port, all answering", direct_box, listen, net, _network("198.19.0.0/16", 80)),
        Task(
            "(d) 253 hosts x 1,000 ports, half absent",
            partial(direct_box, hosts=126),
            listen,
            some,
            _one_host("198.18.0.2-254", "1-1000"),
        ),
    ]
    return [task for task in found if not quick or task.name[1] != "d"]


def _dropping(box: Box) -> None:
    box.listen(OPEN_PORTS)
    box.install({PortKind.DROP: ["10001-11000"]})


def _one_host(targets: str, ports: str) -> dict[str, Sequence[str]]:
    numbers = "1-65535" if ports == "-" else ports
    return {
        OURS: (*HALFOPEN, "syn", targets, "-p", ports, "--rate", "0", "-f", "jsonl"),
        "nmap -T4": ("nmap", "-n", "-Pn", "-sS", "-T4", "-p", numbers, "-oX", "-", targets),
    }


def _network(targets: str, port: int) -> dict[str, Sequence[str]]:
    return {
        OURS: (*HALFOPEN, "syn", targets, "-p", str(port), "--rate", "0", "-f", "jsonl"),
        "masscan": (*MASSCAN, targets, f"-p{port}", "--rate", "100000000", "--wait", "1", "-oL", "-"),
        "ZMap": (*ZMAP, "-p", str(port), "-r", "0", "-c", "1", targets),
    }


# ── what the contenders say ──

Found = Iterator[tuple[tuple[str, int], str]]


def _halfopen(finished: Run) -> Found:
    for line in finished.out.splitlines():
        row = json.loads(line)
        if row.get("port") is not None:
            yield (row["ip"], row["port"]), row["state"]


def _nmap(finished: Run) -> Found:
    for host in ElementTree.fromstring(finished.out).iter("host"):
        address = next(each.get("addr", "") for each in host.iter("address"))
        for port in host.iter("port"):
            yield (address, int(port.get("portid", 0))), next(each.get("state", "") for each in port.iter("state"))
        for folded in host.iter("extraports"):
            for part in folded.iter("extrareasons"):
                for number in parse_ports(part.get("ports", "")).tolist():
                    yield (address, number), folded.get("state", "")


def _masscan(finished: Run) -> Found:
    for words in map(str.split, finished.out.splitlines()):
        if len(words) == 5:
            yield (words[3], int(words[2])), words[0]


def _zmap(finished: Run) -> Found:
    for line in finished.out.split():
        yield (line, 80), "open"


READERS: dict[str, Callable[[Run], Found]] = {OURS: _halfopen, "nmap": _nmap, "masscan": _masscan, "ZMap": _zmap}
