"""How long a window waits for replies, by the hosts in it that still have silent targets.

Hosts that have answered are waited for by their own round trips, the others with the full patience (`trips`). On a
lossy path the others are probed again sooner, because a lost probe is more likely than a slow host. A look at all
targets of a large window costs a millisecond a million targets. So the result is kept until more replies came.
"""

from typing import TYPE_CHECKING

from .lifecycle import Wait
from .trips import FIRST_PROBE, SECOND, UNHEARD_WAIT, Patience

if TYPE_CHECKING:
    from .window import Window

MOST_BACKOFF = 2.0  # seconds between passes while nothing comes back
LOSSY, HASTY = 0.05, 0.25  # loss from which hosts that have not answered are probed again so soon (seconds)
FEW = 1 << 16  # targets of a window that is looked at after every batch of replies


class Waits:
    """The wait of one window, in seconds, and for which state of the window it holds."""

    def __init__(self) -> None:
        self.backoff = 1.0  # of the wait between passes, while nothing comes back
        self._known: tuple[int, ...] = ()
        self._replies, self._unheard = 0.0, False

    def seconds(self, wait: Wait, window: "Window", patience: Patience, pause: float) -> float:
        """Seconds of a wait of the lifecycle table while targets are probed; `pause`: least seconds between passes."""
        if wait is Wait.NONE:
            return 0.0
        if wait is Wait.SPLIT or window.checking:
            heard = window.last_answer > 0
            return max(pause, patience.heard(window.trips.waits(heard))) if heard.any() else 0.0
        self._look(window, patience)
        replies = max(pause, self._replies)
        if wait is Wait.NEXT_PASS and self._unheard and (window.unheard_estimate.loss or 0.0) > LOSSY:
            return max(pause, HASTY)
        if wait is Wait.NEXT_PASS:
            return max(replies, min(MOST_BACKOFF, replies * self.backoff))
        if wait is Wait.SILENCE and self._unheard:
            # The first probe of each host is at least so old as the end of the first pass.
            first = FIRST_PROBE * (patience.timeout or UNHEARD_WAIT)
            return max(replies, first - (window.passes.last_sent - window.passes.first_ended) / SECOND)
        return replies

    def _look(self, window: "Window", patience: Patience) -> None:
        """The seconds in which every host that has silent targets would have answered."""
        state = window.folds // (1 + window.ledger.n // FEW), window.passes.pass_no, window.ledger.missing
        if self._known == state:
            return
        heard = window.silent_hosts & (window.last_answer > 0)
        unheard = window.unheard
        waits = [patience.heard(window.trips.waits(heard))] if heard.any() else []
        self._unheard = bool(unheard.any())
        waits += [patience.unheard(window.hosts[unheard])] if self._unheard else []
        self._known, self._replies = state, max(waits, default=0.0)
