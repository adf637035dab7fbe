"""Inside the lines, for what the kernel sends: handshakes of `--verify` and calls of `connect`, as a packet socket sees
them leave.

Every frame is counted by its kind, none goes to an excluded address or port, and the rate holds. The kernel and this
machine may delay a frame, and two groups of frames then follow one another closely. So the rate is tested with room to
spare; without a bucket for the frames of the kernel twice and three times as many left.
"""

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from scanner.lab import Box, PortKind
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.syn_wire import ROOT, Segment, Tap

pytestmark = LIVE

RATE = 1000
MOST = 1.5 * (RATE * 0.1 + RATE * 0.01)  # frames in 100 ms: what the rate gives, one burst, and half of that to spare
SYN, SYN_ACK, RST, ACK = 0x02, 0x12, 0x04, 0x10
SEEDS = range(3)


class Seen(NamedTuple):
    """A scan: the segments that left the scanner, and its statistics."""

    segments: list[Segment]
    sent: dict[str, int]

    def most_in(self, seconds: float) -> int:
        """The most segments in any interval of this length."""
        times = np.array([segment.time for segment in self.segments]) / 1e9
        return int((np.searchsorted(times, times + seconds) - np.arange(len(times))).max())


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    """Hosts 198.18.0.2-9 and 198.19.0.0/16: open from 1000 to 1399, silent from 3000 on, closed elsewhere."""
    with direct_box(hosts=8) as made:
        made.listen([*range(1000, 1400), *range(50_000, 50_020)])
        made.install({PortKind.DROP: ["3000-4999"]})
        yield made


def scan(box: Box, tmp_path: Path, verb: str, *arguments: str) -> Seen:
    stats = str(tmp_path / "stats.json")
    with Tap(box) as tap:
        line = [sys.executable, "-m", "scanner", verb, *arguments, "-f", "jsonl", "--stats", stats]
        before = dict(os.environ)
        os.environ["PYTHONPATH"] = ROOT
        try:
            ended = box.scanner.run(line)
        finally:
            os.environ.clear()
            os.environ.update(before)
        segments = sorted(segment for segment in tap.segments() if not segment.out)
    assert ended.returncode == 0, ended.stderr
    return Seen(segments, json.loads(Path(stats).read_text())["sent"])


CASES = {
    "verify, one host": ("syn", "198.18.0.2", "-p", "1000-1199", "--verify"),
    "verify, eight hosts that are open everywhere": ("syn", "198.18.0.2-9", "-p", "1000-1019", "--verify"),
    "connect, open ports": ("connect", "198.18.0.2", "-p", "1000-1299"),
    "connect, closed ports": ("connect", "198.18.0.2", "-p", "2000-2399"),
    "connect, silent hosts, one port each": ("connect", "198.19.0.0/23", "-p", "3000", "--retries", "0"),
    "connect, mixed": ("connect", "198.18.0.2-4", "-p", "1350-1449,3000-3099", "--retries", "1"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_rate_holds_over_every_frame_and_all_are_counted(box: Box, tmp_path: Path, name: str) -> None:
    seen = scan(box, tmp_path, *CASES[name], "--rate", str(RATE))
    kinds = Counter(segment.flags for segment in seen.segments)
    sent = Counter(seen.sent)
    syns = sent["probe"] + sent["control"] + sent["handshake"] + sent["repeat"]
    resets = sum(count for flags, count in kinds.items() if flags & RST)
    assert (kinds[SYN], kinds[ACK], resets) == (syns, sent["ack"], sent["reset"])
    assert seen.most_in(0.1) <= MOST


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("verb", ["syn", "connect"])
def test_nothing_goes_to_what_is_excluded(box: Box, tmp_path: Path, verb: str, seed: int) -> None:
    chance = random.Random(seed)
    addresses = {f"198.18.0.{low}" for low in chance.sample(range(2, 10), 3)}
    ports = {*chance.sample(range(1000, 1030), 10), *range(49_152, 65_536 - chance.choice((4, 100, 5000)))}
    lines = ["--exclude", ",".join(addresses), "--exclude-ports", ",".join(map(str, ports))]
    seen = scan(
        box, tmp_path, verb, "198.18.0.2-9", "-p", "1000-1029", "--rate", "2000", *lines,
        *(["--verify"] if verb == "syn" else []),
    )  # fmt: skip
    there = {(".".join(map(str, segment.dst)), segment.dport) for segment in seen.segments}
    assert [each for each in sorted(there) if each[0] in addresses or each[1] in ports] == []
    assert len(there) == 5 * (20 + (4 if verb == "syn" else 0))  # each target, and four control ports of each host
