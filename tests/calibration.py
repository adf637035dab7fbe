"""`python -m tests.calibration [--runs N] [--first-seed S] [--only WORD]`: is what a scan prints as missed true?

Whole scans with the real engine against the network in memory, many times for each kind of scene, each time with
another seed. Every responding port is known. Two sums are compared with what the scan printed: the responding ports
that it called silent on hosts of which it had an answer, and those of hosts of which it had none. The second is
compared only where all hosts exist, because nobody can tell a dead host from a lossy one.

A kind is well calibrated if three things hold. The mean printed lies between 0.8 and 5 times the mean missed, where
more than 20 were missed in all. The printed "at most" holds in at least 95 % of the runs. Where all hosts are alike it
is at most 5 times the mean missed, plus 5. A kind that fails has its reasons below its line, and the exit code is 1.

Limit: at most two processes; the seeds of a kind are shared out among them.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path as File
from typing import NamedTuple

import numpy as np

from scanner.halfopen.scan import Settings
from tests.builders import KEY
from tests.memory import Faults, Host
from tests.paths import Bursts, Crowded, Model, Narrow, OneWay, Outage, Path, Policer
from tests.simulation import Bench, bench

LEAST_RATIO, MOST_RATIO, LEAST_MISSED = 0.8, 5.0, 20
LEAST_WITHIN = 0.95
ALIKE_TIMES, ALIKE_PLUS = 5.0, 5.0
STEP = 5_000_000  # ns of a step of the scan, half of what its token bucket holds: fewer steps, and so more runs
TRIP = 0.01  # seconds of a round trip, where a kind says nothing else


class Kind(NamedTuple):
    """A kind of scene: hosts from 198.18.1.1 on, and the path to them.

    Each host has `ports` ports. `responding` of them answer, half open and half closed; the others are silent.
    `networks` /24 share the hosts. `dead` more addresses are probed and do not exist.
    """

    hosts: int
    ports: int
    responding: int
    faults: Faults
    alike: bool = False
    dead: int = 0
    networks: int = 1
    rate: float | None = None  # frames a second; None: found while scanning


class Printed(NamedTuple):
    """What a scan says at its end."""

    missed: float  # responders expected to be missed, on hosts that answered
    at_most: int
    silent_hosts: int
    if_there: float  # responders missed on hosts that never answered, if they are there


class Outcome(NamedTuple):
    """A run: responding ports missed on hosts with an answer and on hosts without one, and what was printed."""

    missed: int
    unseen: int
    wrong: int  # ports with a state that is false, silence apart
    printed: Printed
    frames: int
    seconds: float  # of the scan's own clock


def printed(done: Bench) -> Printed:
    """What the scan says. The only place that knows the names of these fields."""
    if not hasattr(done, "stats"):
        return Printed(sum(window.estimate.missed for window in done.windows), 0, 0, 0.0)
    stats = done.stats()
    return Printed(stats.expected_missed, stats.at_most_missed, stats.hosts_unheard, stats.missed_if_there or 0.0)


def _hosts(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"198.18.1.{low}" for low in range(first, last + 1))


def _path(*out: Model, back: tuple[Model, ...] = (), trip: float = TRIP) -> Faults:
    return Faults(delay=(trip, trip * 1.1), path=Path(out, back))


def _spread(hosts: int) -> tuple[Model, ...]:
    """Each host has its own loss, from none to 90 %, most of them little."""
    return tuple(OneWay(0.9 * (index / hosts) ** 2, where=_hosts(index, index)) for index in range(1, hosts + 1))


KINDS: dict[str, Kind] = {
    # all hosts alike
    "no loss": Kind(100, 20, 15, _path(), alike=True),
    "alike, 5 % each way": Kind(60, 20, 15, _path(OneWay(0.05), back=(OneWay(0.05),)), alike=True),
    "alike, 20 % each way": Kind(60, 20, 15, _path(OneWay(0.2), back=(OneWay(0.2),)), alike=True),
    "alike, 40 % each way": Kind(60, 20, 15, _path(OneWay(0.4), back=(OneWay(0.4),)), alike=True),
    "one direction, 50 % of replies": Kind(60, 20, 15, _path(back=(OneWay(0.5),)), alike=True),
    "few responders, 60 %": Kind(20, 40, 2, _path(OneWay(0.6)), alike=True),
    "many silent, 60 %": Kind(10, 20, 10, _path(OneWay(0.6)), alike=True, dead=90),
    # bursts and time
    "bursts in packets": Kind(60, 20, 15, _path(Bursts(100, 100, 0.98, 0.1, packets=True))),
    "bursts in time": Kind(60, 20, 15, _path(Bursts(0.1, 0.15, 0.95)), rate=5000.0),
    "bursts in time on each host": Kind(60, 20, 15, _path(Bursts(0.3, 0.3, each_host=True))),
    "loss that changes in time": Kind(60, 20, 15, _path(Outage(0.05, 0.8, 0.75), Outage(0.8, 4.0, 0.5)), rate=5000.0),
    "2 s outage": Kind(40, 100, 80, _path(Outage(0.1, 2.1), trip=0.04)),
    # unlike hosts
    "half of 20 hosts at 70 %": Kind(20, 40, 30, _path(OneWay(0.7, where=_hosts(1, 10)))),
    "half of 20 hosts at 90 %": Kind(20, 40, 30, _path(OneWay(0.9, where=_hosts(1, 10)))),
    "5 of 100 hosts at 70 %": Kind(100, 20, 15, _path(OneWay(0.7, where=_hosts(11, 15)))),
    "5 of 100 hosts at 90 %": Kind(100, 20, 15, _path(OneWay(0.9, where=_hosts(11, 15)))),
    "5 of 100 hosts at 90 %, 3 ports": Kind(100, 3, 2, _path(OneWay(0.9, where=_hosts(11, 15)))),
    "half of 100 hosts at 90 %, 1 port": Kind(100, 1, 1, _path(OneWay(0.9, where=_hosts(1, 50)))),
    "every loss from 0 to 90 %": Kind(40, 20, 15, _path(*_spread(40))),
    "one bad /24 of four at 70 %": Kind(100, 10, 8, _path(OneWay(0.7, where=("198.18.3.0/24",))), networks=4),
    "10 of 100 hosts 300 ms away": Kind(100, 3, 3, _path(OneWay(delay=0.3, where=_hosts(41, 50)))),
    # narrow paths
    "loss that grows with the rate": Kind(20, 50, 40, _path(Crowded(500, 4000, 0.8), trip=0.02)),
    "replies at 500/s": Kind(20, 40, 30, _path(back=(Narrow(500, 50),), trip=0.02)),
    "300 SYNs/s at a gateway": Kind(20, 40, 30, _path(Policer(300, 50, "syn"), trip=0.02)),
}


def _address(kind: Kind, index: int) -> str:
    network, low = index % kind.networks, index // kind.networks
    return f"198.18.{1 + network}.{1 + low}"


def run_once(name: str, seed: int) -> Outcome:
    """One scan of a kind. The seed decides the path's chances and the order of the probes."""
    kind = KINDS[name]
    actions = {port: "open" if port % 2 else "closed" for port in range(1, kind.responding + 1)}
    addresses = [_address(kind, index) for index in range(kind.hosts)]
    last = -(-(kind.hosts + kind.dead) // kind.networks)
    done = bench(
        {address: Host(dict(actions), "drop") for address in addresses},
        faults=kind.faults,
        seed=seed,
        settings=Settings(rate=kind.rate),
        targets=f"198.18.1-{kind.networks}.1-{last}",
        ports=range(1, kind.ports + 1),
        order_key=KEY.k1 + seed,
    )
    done.least_step = STEP
    began = done.clock.now
    done.run()
    state = {(row.ip, row.port): row.state for row in done.rows}
    missed = unseen = wrong = 0
    for address in addresses:
        found = [state.get((address, port), "filtered") for port in actions]
        silent = sum(each in ("filtered", "unknown") for each in found)
        if silent == len(found):
            unseen += silent
        else:
            missed += silent
        wrong += sum(
            each not in ("filtered", "unknown", action) for each, action in zip(found, actions.values(), strict=True)
        )
    frames = done.scan.transmit.sent
    return Outcome(missed, unseen, wrong, printed(done), sum(frames.values()), (done.clock.now - began) / 1e9)


class Line(NamedTuple):
    """The runs of a kind together: means, and the share of runs within "at most"."""

    name: str
    runs: int
    missed: float
    printed: float
    at_most: float
    within: float
    unseen: float
    if_there: float
    wrong: int
    frames: float
    seconds: float

    def faults(self) -> list[str]:
        """What is not well calibrated."""
        kind, found = KINDS[self.name], []
        if self.wrong:
            found.append(f"{self.wrong} false states")
        found += self._ratio("printed", self.missed, self.printed)
        if not kind.dead:
            found += self._ratio('printed "if they are there"', self.unseen, self.if_there)
        if self.within < LEAST_WITHIN:
            found.append(f'"at most" holds in {self.within:.1%} of the runs')
        if kind.alike and self.at_most > ALIKE_TIMES * self.missed + ALIKE_PLUS:
            found.append(f'"at most" is {self.at_most:.1f} on average, too much')
        return found

    def _ratio(self, what: str, missed: float, said: float) -> list[str]:
        if missed * self.runs <= LEAST_MISSED or LEAST_RATIO * missed <= said <= MOST_RATIO * missed:
            return []
        return [f"{what} is {said / missed:.2f} times what was missed"]


def line_of(name: str, outcomes: list[Outcome]) -> Line:
    """The means of some runs."""
    rows = [
        (each.missed, each.printed.missed, each.printed.at_most, each.missed <= each.printed.at_most, each.unseen,
         each.printed.if_there)
        for each in outcomes
    ]  # fmt: skip
    means = np.array(rows, np.float64).mean(axis=0).tolist()
    frames, seconds = np.array([(each.frames, each.seconds) for each in outcomes]).mean(axis=0).tolist()
    return Line(name, len(outcomes), *means, sum(each.wrong for each in outcomes), frames, seconds)


HEADS = ("", "runs", "missed", "printed", "at most", "within", "unseen", "if there", "frames", "s")


def text_of(line: Line) -> str:
    """A line of the table, and below it what is not well calibrated."""
    cells = (f"{line.missed:.2f}", f"{line.printed:.2f}", f"{line.at_most:.1f}", f"{line.within:.1%}",
             f"{line.unseen:.2f}", f"{line.if_there:.2f}", f"{line.frames:,.0f}", f"{line.seconds:.1f}")  # fmt: skip
    return "\n".join([_row(line.name, str(line.runs), *cells), *(f"    {fault}" for fault in line.faults())])


def _row(name: str, *cells: str) -> str:
    return name.ljust(36) + "".join(cell.rjust(10) for cell in cells)


def table(names: Sequence[str], seeds: Sequence[int], workers: int = 1) -> list[Line]:
    """Measure these kinds and print their lines."""
    lines = []
    print(_row(*HEADS), flush=True)
    with ProcessPoolExecutor(workers) as pool:
        for name in names:
            chunk = max(1, len(seeds) // 8)
            lines.append(line_of(name, list(pool.map(partial(run_once, name), seeds, chunksize=chunk))))
            print(text_of(lines[-1]), flush=True)
    return lines


def main() -> int:
    """Measure and print, kind by kind; 1 if a kind is not well calibrated."""
    parser = argparse.ArgumentParser(prog="python -m tests.calibration", description="Is the printed error true?")
    parser.add_argument("--runs", type=int, default=200, help="runs of each kind (default 200)")
    parser.add_argument("--first-seed", type=int, default=1, help="the seed of the first run (default 1)")
    parser.add_argument("--only", default="", help="kinds whose name has this word")
    parser.add_argument("--workers", type=int, choices=(1, 2), default=1, help="processes (default 1)")
    parser.add_argument("--json", help="write the lines to this file")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.runs)
    began = time.monotonic()
    lines = table([name for name in KINDS if options.only in name], seeds, options.workers)
    bad = sum(bool(line.faults()) for line in lines)
    print(f"{len(lines) - bad} of {len(lines)} kinds are well calibrated; {time.monotonic() - began:.0f} s")
    if options.json:
        File(options.json).write_text(json.dumps([line._asdict() for line in lines], indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
