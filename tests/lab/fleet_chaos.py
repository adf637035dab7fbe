"""One death in a fleet that scans, at a moment that a seed chooses; and `make fleet-chaos`, which does it many times.

What dies is killed with -9: a worker, the server (which starts again), or the collector (which goes on with --resume).
Or a worker loses its network for good.
Then the rows must be those of one machine, in target, state and reason, none twice and none missing, and no second may
have more frames than the rate allows.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.lab.fleet import HOSTS, WORKERS, Arrivals, Fleet, fleet
from tests.processes import wait_until

RATE, HOST_COUNT, PORTS = 2000.0, 80, 100
TARGETS = HOST_COUNT * PORTS
OPEN, DROPPED = [22, 80], ["90-91"]
WHAT = (f"198.19.0.0-198.19.0.{HOST_COUNT - 1}", "-p", f"1-{PORTS}")
SCAN = (*WHAT, "--rate", f"{RATE:g}", "-o", "fleet.jsonl", "--resume", "state")
VICTIMS = ("worker", "server", "collector", "link")
MOST_RATE = 1.03 * RATE  # in any second: the bucket of each worker is 10 ms deep
assert HOSTS == "198.19.0.0/24"
Row = tuple[str, int, str, str]


class Outcome(NamedTuple):
    """How a scan with a death ended. `missing`, `twice`, `wrong`: rows. `busiest`: frames in one second."""

    code: int
    missing: int
    twice: int
    wrong: int
    busiest: float
    seconds: float

    @property
    def right(self) -> bool:
        """Whether nothing went wrong."""
        return not any(self[:4]) and self.busiest <= MOST_RATE


def verdicts(path: Path) -> list[Row]:
    """Target, state and reason of each row."""
    rows = map(json.loads, path.read_text("utf-8").splitlines())
    return [(row["ip"], row["port"], row["state"], row["reason"]) for row in rows]


def expected() -> set[Row]:
    """What one machine finds."""
    kinds = dict.fromkeys(OPEN, ("open", "syn-ack")) | dict.fromkeys((90, 91), ("filtered", "no-response"))
    hosts = [f"198.19.0.{number}" for number in range(HOST_COUNT)]
    return {(ip, port, *kinds.get(port, ("closed", "reset"))) for ip in hosts for port in range(1, PORTS + 1)}


def begin(made: Fleet, *options: str) -> None:
    """The server and three workers."""
    made.serve(*options)
    wait_until(lambda: "Server is ready" in made.said("server"))
    for index in range(3):
        made.work(index)


def scan_with_a_death(folder: Path, victim: str, seed: int) -> Outcome:
    """A scan in which something dies when so many rows are written."""
    moment = random.Random(seed).randrange(TARGETS * 3 // 4)
    with fleet(folder, open_ports=OPEN, dropped=DROPPED) as made, Arrivals(made) as arrivals:
        server = made.serve()
        wait_until(lambda: "Server is ready" in made.said("server"))
        workers = [made.work(index) for index in range(3)]
        began, process = time.monotonic(), made.scan(*SCAN)
        wait_until(lambda: made.rows("fleet.jsonl") >= moment and (folder / "state").exists(), process)
        if victim == "worker":
            workers[seed % 3].kill()
        elif victim == "link":
            made.router.ip([f"link set net{WORKERS[seed % 3]} down"])
        elif victim == "server":
            server.kill()
            server.wait()
            made.serve()
        else:
            process.kill()
            process.wait()
            process = made.scan(*SCAN)
        code = process.wait(300)
        seconds = time.monotonic() - began
    found = Counter(verdicts(folder / "fleet.jsonl"))
    right = expected()
    twice = sum(count - 1 for count in found.values())
    wrong, missing = len(found.keys() - right), len(right - found.keys())
    return Outcome(code, missing, twice, wrong, arrivals.busiest(1.0), seconds)


def main(arguments: Sequence[str]) -> int:
    """Many deaths, one line each. Returns 1 if any scan was not right."""
    parser = argparse.ArgumentParser(prog="make fleet-chaos")
    parser.add_argument("--runs", type=int, default=25, help="deaths of each kind")
    parser.add_argument("--only", choices=VICTIMS)
    parser.add_argument("--seed", type=int, default=0, help="of the first one")
    asked = parser.parse_args(arguments)
    bad = total = 0
    for victim in [asked.only] if asked.only else VICTIMS:
        for seed in range(asked.seed, asked.seed + asked.runs):
            with tempfile.TemporaryDirectory() as folder:
                outcome = scan_with_a_death(Path(folder), victim, seed)
            total, bad = total + 1, bad + (not outcome.right)
            print(f"{victim} {seed}: {'right' if outcome.right else 'WRONG'} {outcome}", flush=True)
    print(f"{total - bad} of {total} scans are right")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
