"""`python -m tests.fuzz [--seconds N] [--only NAME,…] [--seed N]`: fuzz until the time is over.

Every failure is printed with the arguments that run it again. The exit code is 1 if there was any.
"""

import argparse
import sys
import time
import traceback
from collections import Counter
from itertools import count

from tests.fuzz.subjects import SUBJECTS, run_case

MOST_SHOWN = 20  # failures


def main() -> int:
    """Run cases of each subject in turn, by their seeds."""
    options = _options()
    end = time.monotonic() + options.seconds
    cases: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    failures = 0
    for seed in count(options.seed) if options.cases is None else range(options.seed, options.seed + options.cases):
        if time.monotonic() > end or failures >= MOST_SHOWN:
            break
        for name in options.only:
            cases[name] += 1
            try:
                accepted[name] += run_case(name, seed)
            except Exception:
                failures += 1
                traceback.print_exc()
                print(f"again: python -m tests.fuzz --only {name} --seed {seed} --cases 1", file=sys.stderr)
    for name, number in cases.items():
        print(f"{name}: {number:,} cases, {accepted[name]:,} accepted by the reader")
    print(f"{failures} failures")
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Fuzz everything that reads foreign bytes."
    )
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long (default 3600)")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=[*SUBJECTS], help=f"some of {','.join(SUBJECTS)}"
    )
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the first seed (default: the time)")
    parser.add_argument("--cases", type=int, help="so many seeds only")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
