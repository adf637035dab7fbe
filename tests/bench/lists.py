"""Long target lists: the time and the peak memory of `halfopen plan -iL`, which does everything but sending.

The lists have ten million addresses in random order, eight million ranges of which no two touch, ten million addresses
beside 100,000 excluded blocks, and a million IPv6 addresses. With `--quick` a tenth of that.
"""

import tempfile
from functools import partial
from ipaddress import IPv6Address
from pathlib import Path

import numpy as np

from scanner.lab import Box
from scanner.packet.headers import Ints
from tests.lab.networks import direct_box

from .result import Plan, Result
from .running import HALFOPEN, Run, in_turns, run

GROUP = "Target lists"
_BATCH = 100_000


def run_all(plan: Plan) -> list[Result]:
    """Seconds and MB for each list."""
    part = 10 if plan.quick else 1
    random = np.random.default_rng(7)
    with direct_box() as box, tempfile.TemporaryDirectory() as folder:
        box.scanner.ip(["route add default via 198.18.0.2", "route add default via 2001:db8::2"])
        one, ranges, blocks, six = (Path(folder, name) for name in ("addresses", "ranges", "excludes", "ipv6"))
        _write(one, random.integers(1 << 24, 224 << 24, 10_000_000 // part))
        _write(ranges, (11 << 24) + random.permutation(8_000_000 // part) * 64, 9)
        _write(blocks, random.permutation(1 << 20)[:100_000] * 4096, 15)
        six.write_text("".join(f"{IPv6Address((0x2600 << 112) + n)}\n" for n in range(0, 3_000_000 // part, 3)))
        lists = {
            "10 M addresses": [one],
            "8 M ranges": [ranges],
            "10 M addresses, 100,000 excluded blocks": [one, "--exclude-file", blocks],
            "1 M IPv6 addresses": [six],
        }
        done = in_turns({name: partial(_plan, box, *map(str, rest)) for name, rest in lists.items()}, plan.runs, 120)
    note = "a tenth of it" if plan.quick else ""
    rows = []
    for name, runs in done.items():
        rows.append(Result(GROUP, name, "s", tuple(each.seconds for each in runs), note=note))
        rows.append(Result(GROUP, name, "CPU s", tuple(each.cpu for each in runs)))
        rows.append(Result(GROUP, name, "MB", tuple(each.peak / 1e6 for each in runs)))
    return rows


def _plan(box: Box, path: str, *more: str) -> Run:
    done = run(box, (*HALFOPEN, "plan", "-iL", path, "-p", "80", *more), limit=120)
    assert "first" in done.out, done.err
    return done


def _write(path: Path, first: Ints, length: int = 0) -> None:
    """A line for each address, or each range from `first` to `length` addresses behind it."""
    with path.open("w") as file:
        for begin in range(0, len(first), _BATCH):
            part = first[begin : begin + _BATCH].tolist()
            file.writelines(f"{_text(n)}-{_text(n + length)}\n" if length else f"{_text(n)}\n" for n in part)


def _text(number: int) -> str:
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
