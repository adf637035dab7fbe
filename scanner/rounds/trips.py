"""Round trips: how long a reply may take, for each host and for all of them.

Hosts differ, so a wait belongs to a host. `HostTrips` keeps a smoothed round trip and its deviation for each host of a
window, as TCP does (RFC 6298): a silent port of a host that has answered waits for srtt + 4 rttvar. A host that has
never answered gets the full patience (`Patience`): its first probe is at least two seconds old and its latest at least
one second (RFC 6298: the initial time-out is one second) before it is called silent. Where answers from its network
took longer, it gets up to three seconds.

`RoundTrips` is a histogram over all hosts. It says what is usual, which a sweep and the search for a rate need.

Limit: the answers of one batch update a host together, by their mean.
"""

import numpy as np
import numpy.typing as npt

from ..packet.addresses import networks
from ..packet.headers import Bools, Ints, Rows

SECOND = 1_000_000_000  # ns

LEAST_WAIT = 0.2  # seconds, for a host that has answered
MOST_WAIT = 10.0  # the same: a reply that took longer says little about the next one
UNHEARD_WAIT, LONGEST_WAIT = 1.0, 3.0  # seconds from the latest probe to a host that has never answered
FIRST_PROBE = 2  # times that wait, from the first probe to such a host
_SMOOTHED, _DEVIATION = 7 / 8, 3 / 4  # RFC 6298 2.3: what one sample leaves of the old value

FIRST_WAIT = 1.0  # seconds, before any reply has shown how far the targets are
ESTABLISHED = 20  # round trips after which the usual one is known
# Seconds over the usual round trip: a SYN/ACK leaves again after 1 s, and then after 2, 4, 8 and 16 s more (RFC 6298
# 5.5; Linux does so five times).
RESENT = ((0.9, 1.25), (2.9, 3.3), (6.8, 7.5), (14.7, 16.0), (30.5, 33.0))
TAIL, MARGIN = 0.999, 1.25  # the wait is the TAIL quantile times MARGIN
_BINS, _BINS_AN_OCTAVE = 256, 8  # 1 µs to about 4,000 s: the tail is known within 9 %


class HostTrips:
    """Smoothed round trips of n hosts, in seconds."""

    def __init__(self, hosts: int) -> None:
        self._smoothed, self._deviation = np.zeros((2, hosts), np.float32)

    def add(self, host: Ints, seconds: npt.NDArray[np.float64]) -> None:
        """Take in round trips of hosts, by number. A host may come several times."""
        number, at, count = np.unique(host, return_inverse=True, return_counts=True)
        mean = np.bincount(at, seconds, len(number)) / count
        old = self._smoothed[number]
        new = old == 0
        centre = np.where(new, mean, old)
        deviation = np.bincount(at, np.abs(seconds - centre[at]), len(number)) / count
        # RFC 6298 2.2: after one sample the deviation is half of it. Further samples in the batch shrink that share.
        first = np.maximum(deviation, mean / 2 * _DEVIATION ** (count - 1))
        kept, kept_deviation = _SMOOTHED**count, _DEVIATION**count
        self._smoothed[number] = np.where(new, mean, kept * old + (1 - kept) * mean)
        later = kept_deviation * self._deviation[number] + (1 - kept_deviation) * deviation
        self._deviation[number] = np.where(new, first, later)

    def usual(self, host: Ints | Bools) -> npt.NDArray[np.float32]:
        """The smoothed round trips of these hosts; 0 where there is none."""
        return self._smoothed[host]

    def longest(self, host: Ints | Bools | slice) -> npt.NDArray[np.float32]:
        """Seconds that a reply of each of these hosts takes at most, as far as is known; 0 without a round trip."""
        return np.asarray(self._smoothed[host] + 4 * self._deviation[host])

    def waits(self, host: Ints | Bools | slice = slice(None)) -> npt.NDArray[np.float32]:
        """Seconds that a reply of each of these hosts may take; the least wait for hosts without a round trip."""
        return np.maximum(np.float32(LEAST_WAIT), self.longest(host))


class Patience:
    """How long the silence of a host must last, for all windows of a scan. `timeout`: as the user gave it, seconds."""

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout = timeout
        self._slow: dict[int, float] = {}  # networks whose answers take longer than usual, seconds

    def heard(self, waits: npt.NDArray[np.float32]) -> float:
        """Seconds for hosts that have answered, with these waits of their own."""
        longest = min(MOST_WAIT, float(waits.max(initial=0.0)))
        return longest if self.timeout is None else min(longest, self.timeout)

    def learn(self, hosts: Rows, trips: HostTrips, host: Ints) -> None:
        """Hosts (numbers in ADDRESS[n]) have answered. Where that takes long, their networks need more patience."""
        waits = trips.waits(host)
        slow = waits > UNHEARD_WAIT
        if slow.any():
            for network, wait in zip(networks(hosts[host[slow]]).tolist(), waits[slow].tolist(), strict=True):
                self._slow[network] = max(self._slow.get(network, 0.0), wait)

    def unheard(self, hosts: Rows) -> float:
        """Seconds from the latest probe to hosts that have never answered, ADDRESS[n]."""
        if self.timeout is not None:
            return self.timeout
        if not self._slow:
            return UNHEARD_WAIT
        near = set(networks(hosts).tolist())
        slowest = max((wait for network, wait in self._slow.items() if network in near), default=UNHEARD_WAIT)
        return min(LONGEST_WAIT, slowest)


class RoundTrips:
    """A histogram of round-trip times. `first_wait`: seconds before the first reply; later the wait is `least`."""

    def __init__(self, first_wait: float = FIRST_WAIT, least: float = LEAST_WAIT) -> None:
        self.count = 0
        self._counts = np.zeros(_BINS, np.int64)
        self.first_wait, self._least = first_wait, least

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

    def wait(self) -> float:
        """Seconds that nearly every reply takes at most."""
        tail = self.quantile(TAIL)
        return self.first_wait if tail is None else max(self._least, MARGIN * tail)

    def resent(self, trips: Ints, host: npt.NDArray[np.float32]) -> Bools:
        """Which round trips (ns) of SYN/ACKs are so much longer than usual as a host takes to send a SYN/ACK again.

        `host`: seconds that a reply of each host takes at most, 0 where that is not known (`HostTrips.longest`). What
        comes so much later than that is taken for a repeat at any time, because a busy machine repeats late.
        """
        late = (host > 0) & (trips / SECOND - host > RESENT[0][0])
        usual = self.quantile(0.5) if self.count >= ESTABLISHED else None
        if usual is None:
            return np.asarray(late)
        excess = trips / SECOND - usual
        return np.asarray(late | np.any([(excess > first) & (excess < last) for first, last in RESENT], axis=0))
