"""Counts as pictures: shares for bars, and a histogram of round-trip times. Numbers only; the template draws.

Round-trip times span decades (a neighbour in 0.1 ms, a satellite in 700), so the bins are even on a logarithmic
scale, 8 a decade, from a decade's start to a decade's end. A time of 0 or less cannot be placed there and is counted in
the first bin.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PER_DECADE = 8
WIDTH, HEIGHT = 640, 180  # of the drawing, in its own units; the browser scales it
_LEAST, _MOST = 1e-3, 1e6  # milliseconds beyond which nobody needs to tell times apart


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart. `style` names its colour, `percent` is its length against the longest."""

    label: str
    style: str
    count: int
    percent: float
    share: str
    hint: str = ""


@dataclass(frozen=True)
class Bin:
    """One column of a histogram: its place in the drawing, and what it says."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Tick:
    """A mark on the axis of times."""

    x: float
    label: str


@dataclass(frozen=True)
class Histogram:
    """A drawing of WIDTH × HEIGHT, and the words that stand for it where it cannot be seen."""

    bins: list[Bin]
    ticks: list[Tick]
    most: int
    words: str


def bars(entries: Sequence[tuple[str, str, int, str]], total: int) -> list[Bar]:
    """(label, style, count, hint) → bars, those without a count left out; shares are of `total`."""
    most = max((entry[2] for entry in entries), default=0)
    return [
        Bar(label, style, count, round(100 * count / most, 2), _share(count, total), hint)
        for label, style, count, hint in entries
        if count
    ]


def _share(count: int, total: int) -> str:
    percent = 100 * count / total
    return "< 0.1 %" if percent < 0.1 else f"{percent:.1f} %"


def histogram(times: npt.NDArray[np.float32]) -> Histogram | None:
    """Round-trip times in ms (NaN: unknown) → the drawing; None if none is known."""
    known = np.clip(times[np.isfinite(times)].astype(np.float64), _LEAST, _MOST)
    if not len(known):
        return None
    low, high = int(np.floor(np.log10(known.min()))), int(np.ceil(np.log10(known.max())))
    high = max(high, low + 1)
    counts, edges = np.histogram(np.log10(known), bins=(high - low) * PER_DECADE, range=(low, high))
    width, most = WIDTH / len(counts), int(counts.max())
    drawn = [
        Bin(round(at * width, 2), round(HEIGHT * (1 - count / most), 2), round(width - 1, 2),
            round(HEIGHT * count / most, 2), f"{ms(10 ** edges[at])} to {ms(10 ** edges[at + 1])}: {count:,}")
        for at, count in enumerate(counts.tolist())
        if count
    ]  # fmt: skip
    ticks = [Tick(WIDTH * (at - low) / (high - low), ms(10.0**at)) for at in range(low, high + 1)]
    half, nearly = np.percentile(known, (50, 95))
    words = f"{len(known):,} replies; half within {ms(half)}, 95 % within {ms(nearly)}, the slowest {ms(known.max())}"
    return Histogram(drawn, ticks, most, words)


def ms(value: float) -> str:
    """Milliseconds with the digits that matter: 0.35 ms, 12 ms, 1.5 s."""
    return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.2g} ms" if value < 10 else f"{value:.0f} ms"
