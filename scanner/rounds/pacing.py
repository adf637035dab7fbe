"""How many frames may leave now.

A token bucket over every frame that is sent: probes, repeats, resets and neighbour queries alike,
because the network does not care which of our frames fills it. The bucket is at most 10 ms of the
rate deep (one frame at least), so a pause is never paid back with a burst that outruns a router's
queue. Time is an argument; nothing here sleeps or reads a clock.

Resets are owed to the targets and go out before probes; the bucket may run into debt for them and
the probes that follow wait until it is paid, so the rate holds over any longer stretch.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from ..packet.headers import Bools, Ints

DEPTH_SECONDS = 0.010
NANOSECOND = 1e-9

EPOCH_NS, EPOCH_PROBES = 20_000_000, 20  # a stretch that can be judged: at least so long, at least so many probes
CAREFUL_GROWTH = 1.25  # after the first loss, or while nobody answers
FADE = 0.9
LEAST_RATE = 50.0
MUTE = 2  # stretches without a single answer that are taken for loss
BLIND_RATE = 10_000.0  # as far as the rate grows while nobody has answered


class TokenBucket:
    """Allows `rate` frames per second; a rate of 0 is unlimited."""

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
        elapsed = max(0, now - self._last) * NANOSECOND
        self._last = max(now, self._last)
        self._tokens = min(self.depth, self._tokens + elapsed * self.rate)
        return max(0, min(limit, int(self._tokens)))

    def spend(self, frames: int) -> None:
        """Frames left; call after `allowed`."""
        self._tokens -= frames

    def wait(self, frames: int = 1) -> float:
        """Seconds until `frames` (or a full bucket) may leave, counted from the last `allowed`."""
        if not self.rate:
            return 0.0
        return max(0.0, (min(frames, int(self.depth)) - self._tokens) / self.rate)


@dataclass
class _Epoch:
    """A stretch of sending at one rate: what left after `began` and not after `ended` (ns)."""

    began: int
    rate: float
    ended: int = 0
    sent: int = 0
    answered: int = 0


class RateController:
    """`--rate auto`: grow while the share of answered probes does not fall with it, halve when it does.

    Targets are probed in random order, so the share of a stretch's probes that are answered should be the same in
    every stretch; a share that falls as the rate rises is loss that we cause. A stretch is judged once its
    replies must have come. Without any answer nothing can be judged, and the rate stays modest.
    """

    def __init__(self, start: float, limit: float) -> None:
        self.rate = min(start, limit)
        self._limit = limit
        self._doubling = True
        self._current: _Epoch | None = None
        self._waiting: deque[_Epoch] = deque()
        self._good_sent = self._good_answered = 0.0  # of stretches without loss, older ones fading
        self._mute = 0  # stretches without an answer, the last ones in a row
        self._asked_again = self._unanswered = 0.0  # the same of control probes

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
        """First TCP answers, by when their probes left."""
        for epoch in self._waiting:
            epoch.answered += int(np.count_nonzero((sent_at > epoch.began) & (sent_at <= epoch.ended)))
        if self._current:
            self._current.answered += int(np.count_nonzero(sent_at > self._current.began))

    def judge(self, now: int, wait: float) -> None:
        """Judge the stretches whose replies have had `wait` seconds."""
        while self._waiting and now - self._waiting[0].ended >= wait / NANOSECOND:
            self._judge(self._waiting.popleft())

    def _judge(self, epoch: _Epoch) -> None:
        achieved = epoch.sent / ((epoch.ended - epoch.began) * NANOSECOND)
        self._mute = 0 if epoch.answered else self._mute + 1
        if self._loses(epoch):
            if self._mute > MUTE:
                return  # slower did not help: whoever says nothing at all has gone, and speed is not why
            self._doubling = False
            self.rate = max(LEAST_RATE, min(self.rate, achieved) / 2)
            self._waiting.clear()  # they were sent at the rate that is known to be too high
            self._current = None
            return
        self._good_sent = self._good_sent * FADE + epoch.sent
        self._good_answered = self._good_answered * FADE + epoch.answered
        if achieved >= self.rate / 2:  # what the wire does not carry is no reason to ask for more
            growth = 2.0 if self._doubling and epoch.answered else CAREFUL_GROWTH
            blind = min(self._limit, BLIND_RATE) if not self._good_answered else self._limit
            self.rate = max(self.rate, min(blind, epoch.rate * growth))

    def repeated(self, asked: int, lost: int, achieved: float) -> None:
        """A later pass is over, at `achieved` frames a second; `lost` probes to targets that had answered were lost.

        None answered at all is no sign of too high a rate: then the targets, or the way to them, have gone. With
        nobody to ask again, the rate grows as far as it may in the dark.
        """
        if not asked and not self._good_answered and achieved >= self.rate / 2:
            self.rate = max(self.rate, min(self._limit, BLIND_RATE, 2 * self.rate))
        if lost == asked:
            return
        if self._asked_again:
            share = self._unanswered / self._asked_again
            spread = (max(1.0, asked * share * (1 - share)) * (1 + asked / self._asked_again)) ** 0.5
            if lost - asked * share > max(3 * spread, 0.1 * asked * (1 - share)):
                self._doubling = False
                self.rate = max(LEAST_RATE, min(self.rate, achieved) / 2)
                return
        self._asked_again = self._asked_again * FADE + asked
        self._unanswered = self._unanswered * FADE + lost
        if achieved >= self.rate / 2:
            self.rate = max(self.rate, min(self._limit, self.rate * (2.0 if self._doubling else CAREFUL_GROWTH)))

    def _loses(self, epoch: _Epoch) -> bool:
        """Whether fewer answered than the good stretches let expect: by a tenth, and by three standard deviations."""
        if not self._good_answered:
            return False
        share = self._good_answered / self._good_sent
        expected = share * epoch.sent
        spread = (max(1.0, expected * (1 - share)) * (1 + epoch.sent / self._good_sent)) ** 0.5
        return epoch.answered < 0.9 * expected and epoch.answered < expected - 3 * spread


class HostPace:
    """Hosts that limit what they answer, slowed alone: a token bucket for each of them, none for the others."""

    def __init__(self, hosts: int) -> None:
        self._rate = np.full(hosts, np.inf)
        self._tokens = np.zeros(hosts)
        self._last = np.zeros(hosts, np.int64)

    def limit(self, host: int, rate: float, now: int) -> None:
        """From now on at most `rate` probes a second to this host."""
        self._rate[host], self._tokens[host], self._last[host] = rate, 1.0, now

    def admit(self, host: Ints, now: int) -> Bools:
        """Which probes (by host, in order) may leave now."""
        limited = np.isfinite(self._rate[host])
        admitted = ~limited
        rows = np.flatnonzero(limited)
        for each in np.unique(host[rows]).tolist():
            elapsed = max(0, now - int(self._last[each])) * NANOSECOND
            self._tokens[each] = min(
                max(1.0, self._rate[each] * DEPTH_SECONDS), self._tokens[each] + elapsed * self._rate[each]
            )
            self._last[each] = now
            mine = rows[host[rows] == each][: int(self._tokens[each])]
            self._tokens[each] -= len(mine)
            admitted[mine] = True
        return np.asarray(admitted)
