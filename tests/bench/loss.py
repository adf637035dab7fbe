"""`python -m tests.bench.loss [--seeds 1-200] [--only WORD]`: the stated error over simulated scans, kind by kind.

For each kind of scene of `tests/loss_scenes.py`: missed and printed responders of a run, printed over missed where
more than 20 were missed in all, the share of the runs that missed no more than the printed "at most", that number,
and the frames of a run. No frame is sent.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of the linear algebra only wait for each other here

from tests.loss_scenes import KINDS, calibrate

HEAD = f"{'kind':<28} {'runs':>5} {'missed':>9} {'printed':>9} {'ratio':>6} {'held':>6} {'at most':>9} {'frames':>8}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1-200")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    first, last = (int(word) for word in options.seeds.split("-"))
    print(HEAD)
    for kind in KINDS:
        if options.only in kind:
            row = calibrate(kind, range(first, last + 1))
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            numbers = f"{row.missed:9.2f} {row.printed:9.2f} {ratio:>6} {row.held:6.3f} {row.at_most:9.1f}"
            print(f"{kind:<28} {row.runs:5} {numbers} {row.frames:8.0f}", flush=True)


if __name__ == "__main__":
    main()
