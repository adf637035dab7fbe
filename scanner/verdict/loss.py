"""How many responders were probably missed, and whether that is enough.

"Filtered" claims that nobody answered. On a lossy path the claim is as good as the number of probes. So the scan
measures loss while it runs. A target that answers pass j was missed in the j - 1 passes before. From the second pass
on some targets that have answered are probed again (control probes): the only direct measure. From both comes the
expected number of responders still unseen. Passes go on over the silent targets until it is below a bound.

Hosts of one window may be unlike, and so may passes. `estimate_hosts` learns both from the data: `population.py` how
loss differs between hosts and networks, `course.py` how it differs between passes, and `hosts.py` has the likelihood
of one host. It gives a mean and a variance, and `at_most` makes a bound of 99 % of them.

`estimate` is the simple model, for hosts that never answered and for sweeps: every round trip is lost independently,
with the same p. The posterior of p is taken on a fixed grid, with the prior Beta(1, 5) (a mean of 17 %):

    w(p) ∝ p^(f+l) · (1-p)^(4+s+c-l) / (1-p^k)^s

with s responders, f passes that they missed, c control probes of which l were lost, and k passes so far. The
denominator conditions on having been seen at all. Then E = (s + ½) · Σ w·p^k/(1-p^k) / Σ w.
The simple estimate from the first two passes alone printed 32 where 7,379 were missed. The prior Beta(1, 19) saves a
pass where nothing is lost, but with 20 responders twice as many were missed as it printed, at any loss.

Limits: only TCP replies count, because ICMP errors are rate-limited. A responder that never answers (a host that
drops repeats) looks like silence.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .course import over_time
from .hosts import Ints, Rows, distinct
from .population import MOST_GROUPS, PRIOR, grid

LEAST_TRIALS = 3  # round trips to responders, answers and control probes: with fewer the loss is not measured
CONTROL_PROBES = 100  # a pass, at most
MIN_PASSES, MIN_PASSES_UNANSWERED = 2, 3
MAX_PASSES = 31
MOST_NUMBERS = 1 << 20  # that `at_most` adds up: some 30 MB

_GRID = (np.arange(2000) + 0.5) / 2000
_LOG_P, _LOG_Q = np.log(_GRID), np.log1p(-_GRID)


class Estimate(NamedTuple):
    """What was probably missed: responders still unseen, and the loss per round trip (None: not measured).

    `estimate_hosts` counts only hosts that answered; `estimate` gives no variance.
    """

    missed: float
    loss: float | None
    variance: float = 0.0  # of the missed number, with all that is not known of the loss


class Bound(NamedTuple):
    """When a window needs no further pass: at most `passes`, fewer than `missed` responders expected to be missed."""

    passes: int = 11
    missed: float = 0.01
    share: float | None = None  # instead of `missed`: of the responders found

    def reached(self, passes: int, estimate: Estimate, responders: int = 1) -> bool:
        """Whether `passes` passes are enough."""
        if passes >= self.passes:
            return True
        if estimate.loss is None:  # nobody answered, so nothing was measured
            return passes >= MIN_PASSES_UNANSWERED
        return passes >= MIN_PASSES and estimate.missed < self.most(responders)

    def most(self, responders: int) -> float:
        """The bound as a number, where so many responders were found."""
        return self.missed if self.share is None else self.share * max(1, responders)


def estimate(
    answered_by_pass: npt.ArrayLike, control_sent: int = 0, control_lost: int = 0, passes: int | None = None
) -> Estimate:
    """From n_j, the number of targets whose first TCP reply answers pass j (j = 1 … k), and the control probes.

    `passes`: over the targets that are still silent, if these are not k.
    """
    first = np.asarray(answered_by_pass, np.float64)
    k, s = len(first), float(first.sum())
    if not s:
        return Estimate(0.0, None)
    failures = float((np.arange(k) * first).sum())
    unseen = np.exp(k * _LOG_P)  # p^k
    lost, passed = failures + control_lost, s + control_sent - control_lost
    log_w = lost * _LOG_P + (PRIOR - 1 + passed) * _LOG_Q - s * np.log1p(-unseen)
    weight = np.exp(log_w - log_w.max())  # the largest becomes 1, so that nothing underflows
    weight /= weight.sum()
    if passes is not None:
        unseen = np.exp(passes * _LOG_P)
    return Estimate(float((s + 0.5) * (weight * unseen / (1 - unseen)).sum()), float((weight * _GRID).sum()))


class HostAnswers(NamedTuple):
    """What a scan knows of the hosts with at least one TCP answer."""

    first: Ints  # [hosts, passes]: targets whose first TCP answer answers pass j
    control: Ints  # [hosts, 2]: control probes to targets that had answered: sent, lost
    passes: Ints  # [hosts]: how many passes over its silent targets told something
    silent: Ints  # [hosts]: targets without any answer
    group: Ints  # [hosts]: its /24 (IPv6: /64), or the link, as a number
    control_by_pass: Ints | None = None  # [passes, 2]: of all hosts; None: passes are not compared


def estimate_hosts(answers: HostAnswers) -> Estimate:
    """The responders among the silent targets of these hosts, which may be unlike."""
    first = np.asarray(answers.first, np.float64)
    control, silent = np.asarray(answers.control, np.float64), np.asarray(answers.silent, np.float64)
    total, probes = float(first.sum()), control.sum(axis=0)
    if not total:
        return Estimate(0.0, None)
    if not silent.any():  # nothing can be missed, however unlike the hosts are
        return Estimate(0.0, estimate(first.sum(axis=0), int(probes[0]), int(probes[1])).loss)
    count = np.ones(len(first))
    group = answers.group * MOST_GROUPS // max(MOST_GROUPS, int(answers.group.max()) + 1)  # many: neighbours together
    rows = distinct(Rows(first, control[:, 0], control[:, 1], answers.passes, silent, group, count))
    by_pass = answers.control_by_pass
    found = over_time(rows, None if by_pass is None else np.asarray(by_pass, np.float64))
    weight = found.posterior.loss / found.posterior.loss.sum(axis=1, keepdims=True)
    answered = found.rows.hosts * found.rows.answers
    own = float(answered @ (weight @ grid().loss)) / total
    loss = 1 - (1 - own) * float(found.through.mean())
    measured = total + probes[0] >= LEAST_TRIALS
    return Estimate(found.posterior.missed, loss if measured else None, found.posterior.variance)


def _at_most_many(missed: float, variance: float, share: float) -> int:
    """The same for large numbers, where the negative binomial is nearly a gamma distribution.

    The cube root of a gamma variable is nearly normal (Wilson and Hilferty 1931).
    """
    from statistics import NormalDist  # 2 ms, and only where something was lost

    spread = variance / missed / missed / 9  # 1 / (9 · shape)
    root = 1 - spread + NormalDist().inv_cdf(share) * math.sqrt(spread)
    return int(missed * max(0.0, root) ** 3) + 1


def at_most(missed: float, variance: float, share: float = 0.99) -> int:
    """The number that is not exceeded with this chance: of a negative binomial with this mean and variance.

    Means and variances of windows add up before they come here.
    """
    if missed <= 0:
        return 0
    variance = max(variance, missed)
    if missed + 12 * math.sqrt(variance) > MOST_NUMBERS:
        return _at_most_many(missed, variance, share)
    top = int(missed + 12 * math.sqrt(variance) + 50)
    number = np.arange(1, top)
    if variance <= missed * (1 + 1e-6):  # Poisson
        first, steps = -missed, np.log(missed / number)
    else:
        q = (variance - missed) / variance
        size = missed * (1 - q) / q
        first, steps = size * math.log1p(-q), np.log((size + number - 1) * q / number)
    chance = np.exp(first + np.concatenate([[0.0], np.cumsum(steps)]))
    return int(np.searchsorted(np.cumsum(chance), share))
