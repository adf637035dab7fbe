"""`--rate auto`: find the rate that a path carries, by the control probes that come back.

The scan starts with a few probes in flight and doubles its rate each round trip while control probes come back. It
slows down when more than a tenth of them is lost beyond what the path loses by itself. Two causes look alike at first:
a path that is too narrow for the rate, and one that loses frames at any rate. Slowing down tells them apart: on a
narrow path fewer control probes are lost then. If two steps down change nothing, the loss is the path's own: the old
rate is restored, and only loss beyond that counts from then on.

Silence is no loss, because silent targets may be filtered. Where nobody has answered yet, the rate grows to a modest
end. Where every control probe and every answer fails at once, the path is down, and a fast scan would only lose probes:
the rate falls to a few probes a second until an answer comes, for at most `OUTAGE_SECONDS`.

Time is cut into epochs. An epoch is judged when its control probes are back, or when its replies have had their time.

Limit: one rate for all paths of a scan.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from ..packet.headers import Ints
from .trips import SECOND

IN_FLIGHT, FIRST_RATE = 10, 2_000.0  # probes in the first round trip, and how fast they leave
BLIND_START, BLIND_RATE, BLIND_EPOCH = 200.0, 10_000.0, 0.05  # while nobody has answered; doubled so often (s)
LEAST_TRIP = 0.002  # seconds: shorter round trips are lost in the steps of the program
LEAST_EPOCH, LONGEST_EPOCH = 0.004, 0.1  # seconds
EPOCH_PROBES = 10
CAREFUL_GROWTH, SLOW_GROWTH = 1.25, 1.1  # without control probes; near what a narrow path carries
FAILURES, MOST_NEEDED = 3, 160  # steps back in a row before the loss is the path's own; control probes for a step
GROWTH_PROBES, LITTLE_LOSS = 20, 0.02  # control probes before the rate grows so; the share of them that may be lost
LEAST_RATE = 50.0
HIGH_LOSS, LEAST_LOST = 0.1, 3  # beyond the path's own loss; control probes
TRIAL_PROBES, TRIALS = 20, 2  # control probes at a lower rate, and steps down, before the loss is called the path's own
MOST_TRIAL_PROBES = 100  # control probes at a lower rate before less loss than before is called chance
DEEPEST_STEP = 1 / 8
MOST_OWN, CHANCE_LOST = 0.8, 1.5  # loss that a path may have by itself; standard deviations beyond it by chance
FADE = 0.8  # an older epoch counts so much less
MUTE_SECONDS, MUTE_RUNS, LEAST_RUN = 0.1, 7.0, 2  # without any answer; usual runs of lost control probes; the least run
OUTAGE_RATE, OUTAGE_SECONDS = 100.0, 5.0


@dataclass
class _Epoch:
    """What left after `began` and not after `ended` (ns), at one rate."""

    began: int
    rate: float
    ended: int = 0
    sent: int = 0
    answered: int = 0  # first answers
    control: int = 0
    back: int = 0

    def covers(self, sent_at: Ints) -> int:
        """How many of these moments lie in the epoch."""
        return int(np.count_nonzero((sent_at > self.began) & ((sent_at <= self.ended) | (not self.ended))))

    @property
    def achieved(self) -> float:
        """Frames a second."""
        return self.sent / max(1e-4, (self.ended - self.began) / SECOND)


class RateController:
    """The rate, in frames a second. Hand it what leaves and what comes back; times in ns."""

    def __init__(self, limit: float) -> None:
        self.rate = min(limit, FIRST_RATE)
        self.carries: float | None = None  # what the path carries, where that is less than this machine sends
        self.too_fast: list[tuple[int, int]] = []  # times in which more was sent than the path carried, or it was down
        self._limit = limit
        self._started = False  # whether the first probes have left
        self._trip: float | None = None  # usual round trip, seconds
        self._current: _Epoch | None = None
        self._waiting: deque[_Epoch] = deque()
        self._sent = self._lost = 0.0  # control probes since the latest change of the rate; older ones fade
        self._own = self._own_sent = self._own_lost = 0.0  # the path's own loss; the control probes that show it
        self._failures = 0  # steps back in a row
        self._trial: tuple[float, float, float, int] | None = None  # rate and loss before, control probes, steps so far
        self._began_fast = 0
        self._doubling = True
        self._good = self._bad = 0  # control probes that came back, and that did not, since the rate changed
        self._needed, self._growth = GROWTH_PROBES, 2.0
        self._mute, self._mute_since = 0, 0  # control probes lost in a row, without any answer; since when
        self._runs = self._lost_in_runs = 0  # earlier rows of control probes without any answer, and how many were lost
        self._gone = False  # whether nothing has come back since an outage that lasted too long
        self._down_since: int | None = None
        self._rate_before = self._restored = 0.0

    @property
    def testing(self) -> bool:
        """Whether a lower rate is on trial: then more control probes make the trial short."""
        return self._trial is not None

    # ── what happens ──

    def sent(self, probes: int, control: int, now: int) -> None:
        """Probes left at `now`, control probes among them."""
        epoch = self._current = self._current or _Epoch(now - 1, self.rate)
        epoch.sent += probes
        epoch.control += control
        if not self._started:
            # The first probes are in flight. Without an answer so far, the others follow slowly.
            self._started = epoch.sent >= IN_FLIGHT
            self.rate = min(self._limit, BLIND_START) if self._started and self._trip is None else self.rate
            epoch.rate = self.rate
        if now - epoch.began >= self._epoch_ns() and epoch.sent >= (1 if self._down_since else EPOCH_PROBES):
            epoch.ended = now
            self._waiting.append(epoch)
            self._current = _Epoch(now, self.rate)

    def answered(self, sent_at: Ints, trip: float | None) -> None:
        """First answers, by the time when their probes left; the usual round trip so far."""
        for epoch in self._epochs():
            epoch.answered += epoch.covers(sent_at)
        if self._trip is None and trip is not None:
            self._grow_to(2 * IN_FLIGHT / max(trip, LEAST_TRIP))
        self._trip = trip if trip is not None else self._trip

    def came_back(self, sent_at: Ints) -> None:
        """Control probes were answered, by the time when they left."""
        for epoch in self._epochs():
            epoch.back += epoch.covers(sent_at)

    def _epochs(self) -> list[_Epoch]:
        return [*self._waiting, *([self._current] if self._current else [])]

    def _epoch_ns(self) -> int:
        return int(SECOND * (np.clip(self._trip / 2, LEAST_EPOCH, LONGEST_EPOCH) if self._trip else BLIND_EPOCH))

    # ── judgement ──

    def judge(self, now: int, wait: float) -> None:
        """Judge the epochs whose replies have had `wait` seconds, and those whose control probes are all back."""
        while self._waiting:
            first = self._waiting[0]
            complete = first.back >= first.control > 0
            patient = self._trip is not None or first.control  # these may leave before a round trip is known
            if patient and not complete and now - first.ended < wait * SECOND:
                return
            self._judge(self._waiting.popleft(), now)

    def _judge(self, epoch: _Epoch, now: int) -> None:
        lost = max(0, epoch.control - epoch.back)
        if self._path_is_down(epoch, lost, now):
            return
        fade = 1.0 if self._trial else FADE
        self._sent, self._lost = self._sent * fade + epoch.control, self._lost * fade + lost
        self._good, self._bad = self._good + epoch.back, self._bad + lost
        if self._trial:
            self._judge_trial(epoch)
        elif self._is_high():
            self._slow_down(epoch)
        else:
            self._grow(epoch, lost)

    def _is_high(self) -> bool:
        """Whether more control probes are lost than the path loses by itself, and more than chance explains."""
        usual = min(0.95, self._own + HIGH_LOSS)
        expected = self._sent * usual
        deviation = (expected * (1 - usual)) ** 0.5
        return self._lost >= LEAST_LOST and self._lost > expected + 2 * deviation

    def _slow_down(self, epoch: _Epoch) -> None:
        loss = self._lost / self._sent
        self._trial = (epoch.rate, loss, self._sent, 1)
        self._began_fast = epoch.began
        self._step_down(epoch, loss)

    def _step_down(self, epoch: _Epoch, loss: float) -> None:
        # What came back of a rate that was much too high is about what the path carries.
        self._change(max(LEAST_RATE, min(epoch.rate, epoch.achieved) * min(0.5, max(DEEPEST_STEP, 1 - loss))))

    def _change(self, rate: float) -> None:
        self.rate = min(rate, self._limit)
        self._sent = self._lost = self._good = self._bad = 0
        self._waiting.clear()  # those epochs were sent at another rate
        self._current = None

    def _judge_trial(self, epoch: _Epoch) -> None:
        assert self._trial
        before, loss_before, probes_before, steps = self._trial
        if self._sent < TRIAL_PROBES:
            return
        loss = self._lost / self._sent
        if not self._is_high():
            self._judge_better(epoch, loss_before, before, probes_before)
        elif self._lower(loss, loss_before, probes_before) or (steps < TRIALS and self.rate > LEAST_RATE):
            # Much better: the next step may be enough. As before: one more step makes it sure.
            lower = self._lower(loss, loss_before, probes_before)
            self._trial = (before, loss, self._sent, 1 if lower else steps + 1)
            self._step_down(epoch, loss)
        else:
            # No path that is used loses nearly everything by itself: more likely a table is full. Then it stays slow.
            lost, probes = loss_before * probes_before + self._lost, probes_before + self._sent
            own = lost <= probes * MOST_OWN + CHANCE_LOST * (probes * MOST_OWN * (1 - MOST_OWN)) ** 0.5
            if own:
                self._learn_own(lost, probes)
            self._trial, self._doubling = None, own and self._doubling
            self._change(before if own else self.rate)

    def _learn_own(self, lost: float, probes: float) -> None:
        """The path itself lost so many control probes. One trial has few of them, so all trials count."""
        self._own_sent, self._own_lost = self._own_sent + probes, self._own_lost + lost
        self._own = min(MOST_OWN, self._own_lost / self._own_sent)

    def _lower(self, loss: float, loss_before: float, probes_before: float) -> bool:
        """Whether less is lost now, and chance does not explain it. A few control probes before show nothing."""
        variance = loss_before * (1 - loss_before) / probes_before + max(0.01, loss * (1 - loss)) / self._sent
        return probes_before >= TRIAL_PROBES and loss < loss_before - 3 * variance**0.5

    def _judge_better(self, epoch: _Epoch, loss_before: float, before: float, probes_before: float) -> None:
        """Little is lost at the lower rate. Either the path is narrow, or the loss before was chance."""
        expected = self._sent * min(0.95, loss_before)
        # The loss before is known from its control probes only, and so not exactly.
        variance = expected * (1 - min(0.95, loss_before)) * (1 + self._sent / probes_before)
        if self._lost < expected - 3.5 * variance**0.5:
            self.too_fast.append((self._began_fast, epoch.began))
            self.carries = None if self._doubling else self.rate  # the first time it may be chance
            self._trial, self._doubling = None, False
            self._change(self.rate)
        elif self._sent >= MOST_TRIAL_PROBES:
            self._trial = None
            self._change(before)

    # ── growth ──

    def _grow(self, epoch: _Epoch, lost: int) -> None:
        if self._doubling and epoch.control and self._lost <= 1 + self._sent * (self._own + HIGH_LOSS):
            self._grow_to(epoch.rate * 2, epoch)
        elif self._doubling and not epoch.control:
            limit = self._limit if self._trip is not None else min(self._limit, BLIND_RATE)
            self._grow_to(min(limit, epoch.rate * (2 if self._trip is None else CAREFUL_GROWTH)), epoch)
        elif not self._doubling and self._good + self._bad >= self._needed:
            self._probe_upwards(epoch)

    def _probe_upwards(self, epoch: _Epoch) -> None:
        """After a narrow path was found: a little faster while that loses nothing, and back if it does."""
        probes = self._good + self._bad
        if self._bad <= 1 + (self._own + LITTLE_LOSS) * probes:
            self._failures = 0
            self._grow_to(epoch.rate * self._growth, epoch)
            self._good = self._bad = 0
            return
        self._failures += 1
        if self._failures > FAILURES:
            # Going back did not help, so this loss is the path's own.
            self._learn_own(self._bad, probes)
            self._failures, self._doubling, self.carries = 0, True, None
            self._change(self.rate)
            return
        self.carries, self._needed = self.rate / self._growth, min(MOST_NEEDED, 2 * self._needed)
        self._growth = SLOW_GROWTH
        self._change(max(LEAST_RATE, self.carries))

    def _grow_to(self, rate: float, epoch: _Epoch | None = None) -> None:
        # A rate that this machine or the wire does not reach is no reason to ask for more.
        if epoch is None or epoch.achieved >= self.rate / 2:
            self.rate = max(self.rate, min(self._limit, rate))
            if self._current and not self._current.sent:
                self._current.rate = self.rate

    # ── outages ──

    def _path_is_down(self, epoch: _Epoch, lost: int, now: int) -> bool:
        """Follow outages; whether this epoch belongs to one."""
        if epoch.answered or epoch.back:
            if self._mute > 0:
                self._runs, self._lost_in_runs = self._runs + 1, self._lost_in_runs + self._mute
            self._mute, self._gone = 0, False
            if self._down_since is not None:
                self.too_fast.append((self._down_since, epoch.ended))
                # If the rate itself brought the path down, it must not do so again.
                again = now - self._restored < 2 * OUTAGE_SECONDS * SECOND
                self._change(max(LEAST_RATE, self._rate_before / (2 if again else 1)))
                self._down_since, self._restored, self._trial = None, now, None
                self._doubling = self._doubling and not again
            return False
        if self._gone:  # nothing can be learned from control probes to hosts that are not there
            return True
        self._mute_since = self._mute_since if self._mute else epoch.began
        self._mute += lost
        if self._down_since is not None:
            if now - self._down_since > OUTAGE_SECONDS * SECOND:
                self._down_since = None  # nobody comes back, and a slower scan learns nothing more
                self._change(self._rate_before)
                self._gone = True
            return True
        long = epoch.ended - self._mute_since >= MUTE_SECONDS * SECOND
        # Loss comes in bursts on many paths: a run is an outage only if it is much longer than those before.
        usual = (self._lost_in_runs + LEAST_RUN) / (self._runs + 1)
        if lost and long and self._mute > MUTE_RUNS * max(usual, 1 / (1 - self._own)):
            self._down_since = self._mute_since
            self._rate_before = self._trial[0] if self._trial else self.rate
            self._change(min(self.rate, OUTAGE_RATE))
            return True
        return False
