"""Round-trip times, and how long they say to wait for replies.

A histogram instead of a mean: the wait must cover the slow tail, and a scan has hosts at every distance. Before the
first reply a fixed wait holds. Limit: one histogram for all hosts of a scan.
"""

import numpy as np
import numpy.typing as npt

from ..packet.headers import Ints

SECOND = 1_000_000_000  # ns
FIRST_WAIT = 1.0  # seconds, before any reply has shown how far the targets are
LEAST_WAIT = 0.1
NEAR_WAIT, NEAR_MARGIN = 0.25, 10.0  # first wait on a link: at least, and times the answers to MAC queries took
TAIL, MARGIN = 0.999, 1.25  # the wait is the TAIL quantile times MARGIN
_BINS, _BINS_AN_OCTAVE = 256, 8  # 1 µs to about 4,000 s: the tail is known within 9 %


class RoundTrips:
    """A histogram of round-trip times. `first_wait`, `least`: seconds; `fixed`: the user's --timeout instead."""

    def __init__(self, first_wait: float = FIRST_WAIT, fixed: float | None = None, least: float = LEAST_WAIT) -> None:
        self.count = 0
        self._counts = np.zeros(_BINS, np.int64)
        self.first_wait, self._fixed, self._least = first_wait, fixed, least

    def add(self, nanoseconds: npt.NDArray[np.int64]) -> None:
        """Take in measured round trips. Values below 1 µs are clock noise and count as 1 µs."""
        octave = np.log2(np.maximum(nanoseconds, 1000) / 1000.0)
        bins = np.minimum((octave * _BINS_AN_OCTAVE).astype(np.int64), _BINS - 1)
        self._counts += np.bincount(bins, minlength=_BINS)
        self.count += len(nanoseconds)

    def quantile(self, share: float) -> float | None:
        """Seconds that `share` of the replies took at most; None before the first reply."""
        if not self.count:
            return None
        index = int(np.searchsorted(np.cumsum(self._counts), share * self.count))
        return float(2 ** ((index + 1) / _BINS_AN_OCTAVE) * 1e-6)

    def expect(self, neighbours: "RoundTrips") -> None:
        """Shorten the first wait: a host on the link answers probes about as fast as it answered the MAC query."""
        tail = neighbours.quantile(TAIL)
        if tail is not None:
            self.first_wait = min(self.first_wait, max(NEAR_WAIT, NEAR_MARGIN * tail))

    def wait(self) -> float:
        """Seconds from the last probe of a pass until its silent targets may be called silent."""
        if self._fixed is not None:
            return self._fixed
        tail = self.quantile(TAIL)
        return self.first_wait if tail is None else max(self._least, MARGIN * tail)

    def unusual(self, trips: Ints, excess: float, established: int) -> npt.NDArray[np.bool_]:
        """Which round trips (ns) exceed the median by `excess` seconds; none before `established` were measured."""
        usual = self.quantile(0.5) if self.count >= established else None
        return np.zeros(len(trips), np.bool_) if usual is None else np.asarray(trips > (usual + excess) * SECOND)
