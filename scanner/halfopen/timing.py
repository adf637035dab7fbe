"""What replies tell about time: how far the targets are, and how fast they may be asked.

Round trips decide when a pass is over; with `--rate auto` the share of probes that are answered decides the
rate. Both are fed from first answers, and both would be led astray by a habit of every TCP: a host whose SYN/ACK
(or our reset to it) got lost repeats it after a second, then after two more. Such a reply is welcome but
it is no round trip, and no sign that the probe of its pass got through in time. So what takes a
second longer than usual is left out, once it is known what is usual.
"""

import numpy as np
import numpy.typing as npt

from ..packet.headers import Bools, Ints
from ..rounds.pacing import RateController
from ..verdict.loss import RoundTrips
from ..verdict.table import Reason
from .lane import Matches
from .window import Window

RTT_SAMPLE = 512
ESTABLISHED = 20  # round trips that tell what is usual
RESEND = 0.9  # seconds, after which a SYN/ACK may be a repeated one (RFC 6298: 1)
JUDGE_MARGIN, JUDGE_LEAST = 1.5, 0.005
SECOND = 1_000_000_000


class Timing:
    """Round trips of a scan, and its rate controller if it has one."""

    def __init__(self, round_trips: RoundTrips, controller: RateController | None) -> None:
        self.round_trips, self.controller = round_trips, controller
        self._handed = 0  # probes of first passes

    def measure(self, window: Window, found: Matches, fresh: Ints) -> None:
        """Learn from first answers (rows of `found`). Without a rate to be found a sample will do."""
        rows = fresh if self.controller else fresh[:RTT_SAMPLE]
        sent = window.passes.sent_at(window.target_of(found)[rows], found.number[rows])
        known = sent > 0
        trips = found.segments.time[rows] - sent
        self.round_trips.add(trips[known & ~self._too_slow(found.reason[rows], trips)])
        if self.controller:
            self.controller.answered(sent[known & (found.number[rows] == 1) & ~found.segments.icmp[rows]])

    def resent(self, window: Window, found: Matches, late: Ints) -> Bools:
        """Which matches (among the rows `late`) are SYN/ACKs that the host repeated by itself."""
        resent = np.zeros(len(found.reason), np.bool_)
        late = late[found.reason[late] == Reason.SYN_ACK]
        if late.size:
            sent = window.passes.sent_at(window.target_of(found)[late], found.number[late])
            resent[late] = (sent > 0) & self._too_slow(found.reason[late], found.segments.time[late] - sent)
        return resent

    def _too_slow(self, reason: npt.NDArray[np.uint8], trips: Ints) -> Bools:
        usual = self.round_trips.quantile(0.5) if self.round_trips.count >= ESTABLISHED else None
        if usual is None:
            return np.zeros(len(trips), np.bool_)
        slow: Bools = (reason == Reason.SYN_ACK) & (trips > (usual + RESEND) * SECOND)
        return slow

    def rate(self, handed: int, now: int) -> float | None:
        """The rate to go on with, when `handed` probes of first passes have left so far; None: it is fixed."""
        if self.controller is None:
            return None
        if handed > self._handed:
            self.controller.sent(handed - self._handed, now)
            self._handed = handed
        tail = self.round_trips.quantile(0.99)
        self.controller.judge(now, self.round_trips.first_wait if tail is None else JUDGE_MARGIN * tail + JUDGE_LEAST)
        return self.controller.rate

    def pass_ended(self, window: Window) -> None:
        """Later passes are judged as a whole, by the probes that were repeated to see what is lost."""
        sent, lost = window.control_result()
        if self.controller and (sent or not self.round_trips.count):
            self.controller.repeated(sent, lost, window.passes.achieved)
