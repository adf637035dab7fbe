"""How many frames may leave now, and how long replies may take.

`TokenBucket` limits every frame that is sent: probes, repeats, resets and neighbour queries alike, because the network
carries them all. The bucket is at most 10 ms of the rate deep (one frame at least), so a pause is never followed by a
burst that overflows the queue of a router. Resets go out before probes. The bucket may run into debt for them, and
the probes that follow wait, so the rate holds over any longer time.

`RateController` finds the rate of `--rate auto`, `HostPace` slows down single hosts, and `RoundTrips` says how long to
wait for replies. Time is an argument: nothing here sleeps or reads a clock.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..packet.headers import Bools, Ints

SECOND = 1_000_000_000  # ns

DEPTH_SECONDS = 0.010  # of the rate, in a full bucket

EPOCH_NS, EPOCH_PROBES = 20_000_000, 20  # an epoch that can be judged: at least so long, at least so many probes
CAREFUL_GROWTH = 1.25  # after the first loss, or while nothing answers
FADE = 0.9  # an older epoch counts so much less
LEAST_RATE = 50.0
MOST_MUTE = 2  # epochs in a row without any answer that are taken for loss
BLIND_RATE = 10_000.0  # upper end of the rate while nothing has answered

FIRST_WAIT = 1.0  # seconds, before any reply has shown how far the targets are
LEAST_WAIT = 0.1
NEAR_WAIT, NEAR_MARGIN = 0.25, 10.0  # first wait on a link: at least, and times what MAC queries took
TAIL, MARGIN = 0.999, 1.25  # the wait is the TAIL quantile times MARGIN
_BINS, _BINS_AN_OCTAVE = 256, 8  # 1 µs to about 4,000 s: the tail is known within 9 %


class TokenBucket:
    """Allows `rate` frames a second; a rate of 0 is unlimited."""

    def __init__(self, rate: float) -> None:
        assert rate >= 0
        self.rate = rate
        self._tokens = 0.0
        self._last: int | None = None

    @property
    def depth(self) -> float:
        """The most frames that may leave at one moment."""
        return max(1.0, self.rate * DEPTH_SECONDS)

    def allowed(self, now: int, limit: int) -> int:
        """How many frames may leave at `now` (nanoseconds), at most `limit`."""
        if not self.rate:
            return limit
        if self._last is None:
            self._last, self._tokens = now, min(1.0, self.depth)
        elapsed = max(0, now - self._last) / SECOND
        self._last = max(now, self._last)
        self._tokens = min(self.depth, self._tokens + elapsed * self.rate)
        return max(0, min(limit, int(self._tokens)))

    def spend(self, frames: int) -> None:
        """These frames leave. To be called after `allowed`."""
        self._tokens -= frames

    def wait(self, frames: int = 1) -> float:
        """Seconds until `frames` (or a full bucket) may leave, counted from the last `allowed`."""
        if not self.rate:
            return 0.0
        return max(0.0, (min(frames, int(self.depth)) - self._tokens) / self.rate)


@dataclass
class _Epoch:
    """A time of sending at one rate: what left after `began` and not after `ended` (ns)."""

    began: int
    rate: float
    ended: int = 0
    sent: int = 0
    answered: int = 0


@dataclass
class _Baseline:
    """How many probes are answered while the rate costs no replies. Older ones fade."""

    sent: float = 0.0
    answered: float = 0.0

    def add(self, sent: int, answered: int) -> None:
        self.sent, self.answered = self.sent * FADE + sent, self.answered * FADE + answered

    def undercut(self, sent: int, answered: int) -> bool:
        """Whether fewer were answered than expected: by a tenth, and by three standard deviations."""
        if not self.answered:
            return False
        share = self.answered / self.sent
        expected = share * sent
        # A binomial number; the second factor is for the share, which is only estimated.
        deviation = (max(1.0, expected * (1 - share)) * (1 + sent / self.sent)) ** 0.5
        return bool(answered < expected - max(0.1 * expected, 3 * deviation))


class RateController:
    """`--rate auto`: the rate grows while the share of answered probes does not fall with it, and halves when it does.

    Targets are probed in random order, so each epoch should have the same share of answers. A share that falls as the
    rate rises is loss that the rate causes. An epoch is judged when its replies have had their time. Without any
    answer nothing can be judged, and the rate stays modest.
    """

    def __init__(self, start: float, limit: float) -> None:
        self.rate = min(start, limit)
        self._limit = limit
        self._doubling = True
        self._current: _Epoch | None = None
        self._waiting: deque[_Epoch] = deque()
        self._first, self._control = _Baseline(), _Baseline()  # of first passes, of control probes
        self._mute = 0  # epochs in a row without any answer

    def sent(self, frames: int, now: int) -> None:
        """Probes of a first pass left at `now`."""
        if self._current is None:
            self._current = _Epoch(now - 1, self.rate)
        self._current.sent += frames
        if now - self._current.began >= EPOCH_NS and self._current.sent >= EPOCH_PROBES:
            self._current.ended = now
            self._waiting.append(self._current)
            self._current = _Epoch(now, self.rate)

    def answered(self, sent_at: Ints) -> None:
        """First TCP answers, by the time when their probes left."""
        for epoch in self._waiting:
            epoch.answered += int(np.count_nonzero((sent_at > epoch.began) & (sent_at <= epoch.ended)))
        if self._current:
            self._current.answered += int(np.count_nonzero(sent_at > self._current.began))

    def judge(self, now: int, wait: float) -> None:
        """Judge the epochs whose replies have had `wait` seconds."""
        while self._waiting and now - self._waiting[0].ended >= wait * SECOND:
            self._judge(self._waiting.popleft())

    def _judge(self, epoch: _Epoch) -> None:
        achieved = epoch.sent / ((epoch.ended - epoch.began) / SECOND)
        self._mute = 0 if epoch.answered else self._mute + 1
        if self._first.undercut(epoch.sent, epoch.answered):
            # After a few mute epochs the targets have gone, and a slower rate does not bring them back.
            if self._mute <= MOST_MUTE:
                self._slow_down(achieved)
                self._waiting.clear()  # the waiting epochs were sent at the rate that is known to be too high
                self._current = None
            return
        self._first.add(epoch.sent, epoch.answered)
        limit = self._limit if self._first.answered else min(self._limit, BLIND_RATE)
        self._grow(epoch.rate, self._doubling and epoch.answered > 0, limit, achieved)

    def repeated(self, sent: int, lost: int, achieved: float) -> None:
        """A later pass is over, at `achieved` frames a second: `lost` of `sent` control probes were not answered.

        Where none at all is answered the targets, or the path to them, have gone: that is no sign of too high a rate.
        Where there is no target to send control probes to, the rate grows as far as it may without any answer.
        """
        if not sent and not self._first.answered:
            self._grow(self.rate, True, min(self._limit, BLIND_RATE), achieved)
        if lost == sent:
            return
        if self._control.undercut(sent, sent - lost):
            self._slow_down(achieved)
            return
        self._control.add(sent, sent - lost)
        self._grow(self.rate, self._doubling, self._limit, achieved)

    def _slow_down(self, achieved: float) -> None:
        self._doubling = False
        self.rate = max(LEAST_RATE, min(self.rate, achieved) / 2)

    def _grow(self, rate: float, fast: bool, limit: float, achieved: float) -> None:
        # A rate that this machine or the wire does not reach is no reason to ask for more.
        if achieved >= self.rate / 2:
            self.rate = max(self.rate, min(limit, rate * (2.0 if fast else CAREFUL_GROWTH)))


class HostPace:
    """Slows down single hosts that limit what they answer: a token bucket for each of them, none for the others."""

    def __init__(self, hosts: int) -> None:
        self._buckets: dict[int, TokenBucket] = {}
        self._limited = np.zeros(hosts, np.bool_)

    def limit(self, host: int, rate: float, now: int) -> None:
        """From now on at most `rate` probes a second to this host."""
        self._buckets[host], self._limited[host] = TokenBucket(rate), True
        self._buckets[host].allowed(now, 1)  # its time begins

    def admit(self, host: Ints, now: int) -> Bools:
        """Which probes (by host, in order) may leave now."""
        limited = self._limited[host]
        admitted = ~limited
        for number in np.unique(host[limited]).tolist():
            bucket, probes = self._buckets[number], np.flatnonzero(host == number)
            allowed = bucket.allowed(now, len(probes))
            bucket.spend(allowed)
            admitted[probes[:allowed]] = True
        return np.asarray(admitted)


class RoundTrips:
    """A histogram of round-trip times, and how long it says to wait for replies.

    A histogram and not a mean: the wait must cover the slow tail. Before the first reply `first_wait` holds (seconds),
    later at least `least`; `fixed` is the user's --timeout. Limit: one histogram for all hosts of a scan.
    """

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
