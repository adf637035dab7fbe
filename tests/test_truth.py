"""The goal, statistically: over many seeded scans of bad paths, nothing wrong, and no more missed than was printed.

Whole scans against the network in memory, so that hundreds of them take seconds. Each has responders and
silence, and the wire loses a share of frames each way, by seed. A miss is a responder called silent; all
misses of a scene together must be within the 99 % Poisson limit of what the scans printed together, and with a
tight bound there must be none at all.
"""

import math

import pytest
from conftest import bench

from scanner.live import Settings
from scanner.transport.memory import Faults, Host

NET, PORTS = "198.18.1.0/28", (22, 23, 81)
ACTIONS = {22: "open", 23: "closed", 81: "drop"}
STATE = {"open": "open", "closed": "closed", "drop": "filtered"}
HOSTS = {f"198.18.1.{low}": Host(dict(ACTIONS)) for low in range(16)}
TRUTH = {(ip, port): STATE[action] for ip in HOSTS for port, action in ACTIONS.items()}
SURE = Settings(max_missed=0.0001, passes=31)
WIRES = {
    "5 % each way": Faults(0.05, 0.05),
    "20 % each way": Faults(0.2, 0.2),
    "20 % each way, doubled, 0.1 to 0.3 s": Faults(0.2, 0.2, 0.3, (0.1, 0.3)),
    "40 % each way": Faults(0.4, 0.4),
}


def poisson_limit(mean: float, share: float = 0.99) -> int:
    """The smallest number that a Poisson variable of this mean does not exceed with probability `share`."""
    count, term = 0, math.exp(-mean)
    total = term
    while total < share:
        count += 1
        term *= mean / count
        total += term
    return count


def scan(wire: Faults, settings: Settings, seed: int) -> tuple[set[tuple[str, int | None]], float]:
    """Targets whose state is wrong, and the printed number of missed responders."""
    done = bench(
        HOSTS, faults=wire, seed=seed, settings=settings, passes=settings.passes, targets=NET, ports=PORTS
    ).run()
    found = {(row.ip, row.port): row.state for row in done.rows}
    assert found.keys() == TRUTH.keys()
    return {target for target in TRUTH if found[target] != TRUTH[target]}, sum(w.estimate.missed for w in done.windows)


@pytest.mark.parametrize("name", [name for name in WIRES if not name.startswith("40")])
def test_with_a_tight_bound_nothing_is_wrong(name: str) -> None:
    assert [scan(WIRES[name], SURE, seed)[0] for seed in range(20)] == [set()] * 20


@pytest.mark.parametrize("name", WIRES)
def test_at_the_defaults_what_is_missed_is_within_what_is_printed(name: str) -> None:
    runs = [scan(WIRES[name], Settings(rate=None), seed) for seed in range(100, 120)]
    missed, printed = [target for wrong, _ in runs for target in wrong], sum(each for _, each in runs)
    assert [target for target in missed if TRUTH[target] == "filtered"] == []
    assert len(missed) <= poisson_limit(printed)
    assert printed <= 20 * (1.0 if name.startswith("40") else 0.011)


@pytest.mark.parametrize("passes", [2, 3, 4])
def test_too_few_passes_are_owned_up_to(passes: int) -> None:
    """Where the retries are used up early, hundreds are missed, and about as many are announced."""
    runs = [scan(Faults(0.2, 0.2), Settings(passes=passes), seed) for seed in range(40)]
    missed, printed = sum(len(wrong) for wrong, _ in runs), sum(each for _, each in runs)
    assert abs(missed - printed) <= 3 * math.sqrt(printed) + 0.1 * printed


@pytest.mark.parametrize(("mean", "limit"), [(0.0, 0), (0.01, 0), (0.02, 1), (1.0, 4), (100.0, 124)])
def test_the_poisson_limit(mean: float, limit: int) -> None:
    assert poisson_limit(mean) == limit
