"""How many frames may leave now.

A token bucket over every frame that is sent: probes, repeats, resets and neighbour queries alike,
because the network does not care which of our frames fills it. The bucket is at most 10 ms of the
rate deep (one frame at least), so a pause is never paid back with a burst that outruns a router's
queue. Time is an argument; nothing here sleeps or reads a clock.

Resets are owed to the targets and go out before probes; the bucket may run into debt for them and
the probes that follow wait until it is paid, so the rate holds over any longer stretch.
"""

DEPTH_SECONDS = 0.010
NANOSECOND = 1e-9


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
