"""How many frames may leave now, in all and to single hosts.

`TokenBucket` limits every frame that is sent: probes, repeats, resets and neighbour queries alike, because the network
carries them all. A scan has one bucket, and `Budget` counts what each sender takes out of it. The bucket is at most
10 ms of the rate deep (one frame at least), so a pause is never followed by a burst that overflows the queue of a
router. Resets go out before probes. The bucket may run into debt for frames that the kernel sends by itself, and the
probes that follow wait, so the rate holds over any longer time.

`HostPace` slows down single hosts. Time is an argument: nothing here sleeps or reads a clock.
"""

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..packet.headers import Bools, Ints

if TYPE_CHECKING:
    from .window import Window

SECOND = 1_000_000_000  # ns

DEPTH_SECONDS = 0.010  # of the rate, in a full bucket
LIMITED_ANSWERS = 20  # answers of a host in one pass, before its pace means anything
LIMIT_MARGIN = 1.25  # over the pace that the host showed
LEAST_PASS = 0.001  # seconds


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


class Budget(NamedTuple):
    """What leaves, whoever sends it: the bucket of the scan, and the frames by kind."""

    bucket: TokenBucket
    sent: Counter[str]

    def spend(self, kind: str, frames: int = 1) -> None:
        """So many frames of this kind leave."""
        self.bucket.spend(frames)
        self.sent[kind] += frames


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


def limit_hosts(window: "Window", now: int) -> None:
    """Before the next pass: slow down hosts that answered this pass about as often as the one before.

    They limit their answers (200 resets a second are common), and only fewer probes a second reach all of them.
    """
    pass_no = window.passes.pass_no
    if pass_no < 2 or window.width < LIMITED_ANSWERS:
        return
    before, last = (window.by_host(window.first_pass == number) for number in (pass_no - 1, pass_no))
    seconds = max(LEAST_PASS, (now - window.passes.began) * 1e-9)
    # On a lossy path every pass brings a certain share of the answers of the pass before, to all hosts alike.
    share = min(0.5, last.sum() / max(1, before.sum()))
    usual = np.maximum(before / 2, before * share + 3 * np.sqrt(before))
    limited = np.flatnonzero((last >= LIMITED_ANSWERS) & (last >= usual)).tolist()
    if limited:
        pace = window.pace = window.pace or HostPace(len(window.hosts))
        for host in limited:
            pace.limit(host, last[host] / seconds * LIMIT_MARGIN, now)
        window.passes.admit = lambda target_id, when: pace.admit(target_id // window.width, when)
