"""`make fleet-demo`: a fleet on one screen: a server, three workers behind a router, and one of them is killed.

The network is made of namespaces of this machine and is gone at the end. What is printed about the rows is compared
with the ports that the lab has made.
"""

import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.lab.fleet import Arrivals, fleet, nats_server
from tests.lab.fleet_chaos import DROPPED, MOST_RATE, OPEN, RATE, SCAN, TARGETS, begin, expected, verdicts
from tests.processes import wait_until


def main() -> int:
    """Returns 1 if a row is not what the lab has made."""
    if nats_server() is None:
        print("there is no nats-server: install it, or the extra of the tests (pip install '.[test]')")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="fleet-demo-"))
    try:
        with fleet(folder, open_ports=OPEN, dropped=DROPPED) as made, Arrivals(made) as arrivals:
            print("a server, a router, and three workers: 198.18.3.2, 198.18.4.2, and 198.18.5.2 behind masquerade")
            begin(made)
            victim = made.work(0, "--name", "victim")
            print(f"$ halfopen syn {' '.join(SCAN)} --fleet nats://198.18.1.2:4222", flush=True)
            process = made.scan(*SCAN)
            wait_until(lambda: made.rows("fleet.jsonl") > TARGETS // 4, process)
            victim.kill()
            print(f"after {made.rows('fleet.jsonl'):,} rows a worker was killed (kill -9)", flush=True)
            code = process.wait(300)
            print(made.said("scan"), end="")
        found = verdicts(folder / "fleet.jsonl")
        right = sorted(found) == sorted(expected())
        print(
            f"{len(found):,} rows: {', '.join(f'{n:,} {state}' for state, n in Counter(r[2] for r in found).items())}"
        )
        print("each target has one row, and it is what the lab has made" if right else "rows are missing or wrong")
        busiest = arrivals.busiest(1.0)
        print(f"the busiest second at the targets had {busiest:,.0f} frames; --rate {RATE:,.0f}")
        return 0 if right and not code and busiest <= MOST_RATE else 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
