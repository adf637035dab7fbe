"""`python -m tests.bench [--runs N] [--quick] [--json FILE] [transmit large …]`: measure, print, keep.

For an ordinary user everything runs in a user namespace, like the demo. The row of a measurement whose program is
missing says so. A measurement that fails gives its reason, and the others continue.
"""

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from scanner.errors import ScanError
from scanner.lab.permissions import run_inside

from .result import Plan, Result, as_json, tables

MEASURES = ("transmit", "receive", "forged", "startup", "scans", "scale", "lists", "offline", "large")
LONG = ("path",)  # ten minutes a run: only by name


def main() -> int:
    """Run what was asked for; the exit code is 0 unless nothing could be measured at all."""
    options = _options()
    try:
        code = run_inside(["-m", "tests.bench", *sys.argv[1:]])
    except ScanError as error:
        print(error, file=sys.stderr)
        return 1
    if code is not None:
        return code
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is compiled once
    plan = Plan(options.runs or (1 if options.quick else 5), options.quick)
    rows: list[Result] = []
    for name in options.names:
        rows += _measure(name, plan)
    machine = _machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), end="\n\n")
    print(tables(rows))
    document = {"machine": machine, "plan": plan._asdict(), "results": [as_json(row, rows) for row in rows]}
    Path(options.json).write_text(json.dumps(document, indent=1) + "\n")
    return 0 if rows else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure halfopen beside its peers.")
    parser.add_argument("--runs", type=int, default=0, help="runs of each contender (default 5, with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="smaller work")
    parser.add_argument(
        "names", nargs="*", default=MEASURES, help=f"some of {' '.join(MEASURES + LONG)}; without any, all but the last"
    )
    parser.add_argument("--json", default="bench.json", help="where the values go (default bench.json)")
    return parser.parse_args()


def _measure(name: str, plan: Plan) -> list[Result]:
    """One module's rows; a failure is a row too."""
    if find_spec(f"{__package__}.{name}") is None:
        return [Result(name, name, "", note="no such measurement here")]
    began = time.monotonic()
    module = import_module(f"{__package__}.{name}")
    measure: Callable[[Plan], list[Result]] = module.run_all
    try:
        return measure(plan)
    except Exception as error:  # the other measurements are still worth having
        return [Result(name, name, "", note=f"failed: {type(error).__name__}: {error}")]
    finally:
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)


def _machine() -> dict[str, object]:
    processor = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor or platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


if __name__ == "__main__":
    sys.exit(main())
