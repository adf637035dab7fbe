"""Bad paths with known ground truth, through a wire with faults: no wrong verdict, and what was missed is reported.

These are a few small scenes of `tests/lab/scenes.py`. `make truth` runs all of them many times, with other scanners.
"""

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from scanner.lab import PortKind
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.lab.scenes import CLAIMS, SCENES, Scene, built, state_of
from tests.lab.wire import OneWay, WireFaults
from tests.live.syn_wire import Tap, scan

pytestmark = LIVE
SURE = ("--max-missed", "0.0001", "--retries", "30")


class Told(NamedTuple):
    """The wrong states and wrong claims of a scan, and the number of missed responders that it printed."""

    wrong: list[tuple[str, int, str]]
    claims: list[tuple[str, int, str]]
    printed: float


def tell(scene: Scene, seed: int, file: Path, *options: str) -> Told:
    with built(scene, seed) as box:
        if box.unavailable:
            pytest.skip(f"not available here: {box.unavailable}")
        stats = ["--stats", str(file), "--force", "--seed", str(seed), "--all"]
        done = scan(box, scene.targets, "-p", scene.port_list, *stats, *options)
    assert (done.code, done.errors[:0]) == (0, [])
    rows = {(row["ip"], row["port"]): row for row in done.rows if row.get("port") is not None}
    truth = scene.truth
    assert rows.keys() == truth.keys()
    wrong = [(*at, row["state"]) for at, row in rows.items() if row["state"] != state_of(truth[at]).value]
    words = [(at, word) for at, row in rows.items() for word in row["evidence"] if word in CLAIMS]
    claims = [(*at, word) for at, word in words if truth[at] not in CLAIMS[word]]
    return Told(sorted(wrong), sorted(claims), json.loads(file.read_text())["expected_missed"])


FEW = (
    "20 % lost each way",
    "half of all doubled",
    "out of order",
    "200 ms away",
    "every way to refuse, 20 % lost each way",
    "SYN proxy, 20 % lost each way",
    "mixed /24, 20 % lost each way",
    "ICMP limit",
)


@pytest.mark.parametrize("transport", ["auto", "ring"])
@pytest.mark.parametrize("name", FEW)
def test_nothing_is_wrong_with_a_tight_bound(name: str, transport: str, tmp_path: Path) -> None:
    scene = next(each for each in SCENES if each.name == name)
    found = tell(scene, 7, tmp_path / "stats.json", "--transport", transport, *SURE)
    assert (found.wrong, found.claims, found.printed < 0.001) == ([], [], True)


def test_hosts_that_limit_their_resets_are_probed_more_slowly(tmp_path: Path) -> None:
    scene = next(each for each in SCENES if each.name == "200 resets/s")
    assert tell(scene, 7, tmp_path / "stats.json") == Told([], [], 0.0)


def test_at_40_percent_loss_the_missed_are_reported(tmp_path: Path) -> None:
    scene = next(each for each in SCENES if each.name == "40 % lost each way")
    found = [tell(scene, seed, tmp_path / "stats.json") for seed in (1, 2, 3)]
    missed = [at for each in found for at in each.wrong]
    assert {state for *_, state in missed} <= {"filtered"}
    assert 1 < sum(each.printed for each in found) < 20
    assert len(missed) <= 20


WAYS = {
    "lost": (WireFaults(out=OneWay(lose=0.3)), 700),
    "doubled": (WireFaults(out=OneWay(repeat=0.3)), 1300),
    "untouched": (WireFaults(), 1000),
}


@pytest.mark.parametrize("name", WAYS)
def test_what_the_wire_does_to_a_thousand_probes(name: str) -> None:
    """Counted at the target; neighbour queries pass unharmed. The same seed gives the same result.

    No port answers, so that there are no control probes: their places among the others are a matter of time.
    """
    faults, about = WAYS[name]
    counts = []
    for _ in range(2):
        with direct_box(faults=faults) as box, Tap(box) as tap:
            box.install({PortKind.DROP: ["1000-1999"]})
            scan(box, box.target_ip, "-p", "1000-1999", "--retries", "0", "--rate", "20000")
            counts.append(len([each for each in tap.segments() if not each.out]))
    assert counts[0] == counts[1] == pytest.approx(about, abs=60 if about != 1000 else 0)


def test_late_and_out_of_order_and_both_families() -> None:
    with direct_box(faults=WireFaults(back=OneWay(delay=0.15, jitter=0.1))) as box:
        box.listen([22])
        done = scan(box, box.target_ip, box.target_ip6, "-p", "22-71")
    slow = [row["rtt_ms"] for row in done.rows]
    assert (len(slow), min(slow) >= 149, max(slow) < 400, len({round(each / 10) for each in slow}) > 5) == (
        100, True, True, True,
    )  # fmt: skip
