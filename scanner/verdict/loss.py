"""How many responders were probably missed, and whether that is enough.

"Filtered" claims that nobody answered. On a lossy path the claim is as good as the number of probes. So the scan
measures loss while it runs. A target that answers pass j was missed in the j - 1 passes before. From the second pass
on some targets that have answered are probed again (control probes): the only direct measure. From both comes the
expected number of responders still unseen. Passes go on over the silent targets until it is below a bound.

Model: every round trip of a probe is lost independently, with the same p. The posterior of p is taken on a fixed
grid, with the prior Beta(1, 5) (a mean of 17 %):

    w(p) ∝ p^(f+l) · (1-p)^(4+s+c-l) / (1-p^k)^s

with s responders, f passes that they missed, c control probes of which l were lost, and k passes so far. The
denominator conditions on having been seen at all. Then E = (s + ½) · Σ w·p^k/(1-p^k) / Σ w.
The simple estimate from the first two passes alone printed 32 where 7,379 were missed. The prior Beta(1, 19) saves a
pass where nothing is lost, but with 20 responders twice as many were missed as it printed, at any loss.

Limits: only TCP replies count, because ICMP errors are rate-limited. Hosts are told apart only from 50 answers on. A
responder that never answers (a host that drops repeats) looks like silence.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

OWN_ESTIMATE = 50  # answers from which on a host is estimated alone
PRIOR = 5  # Beta(1, PRIOR): as if so many round trips had been seen, none of them lost
CONTROL_PROBES = 100  # a pass, at most
MIN_PASSES, MIN_PASSES_UNANSWERED = 2, 3
MAX_PASSES = 31

_GRID = (np.arange(2000) + 0.5) / 2000
_LOG_P, _LOG_Q = np.log(_GRID), np.log1p(-_GRID)


class Estimate(NamedTuple):
    """What was probably missed: responders still unseen, and the loss per round trip (None: not measured)."""

    missed: float
    loss: float | None


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
        missed = self.missed if self.share is None else self.share * max(1, responders)
        return passes >= MIN_PASSES and estimate.missed < missed


def estimate(answered_by_pass: npt.ArrayLike, control_sent: int = 0, control_lost: int = 0) -> Estimate:
    """From n_j, the number of targets whose first TCP reply answers pass j (j = 1 … k), and the control probes."""
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
    return Estimate(float((s + 0.5) * (weight * unseen / (1 - unseen)).sum()), float((weight * _GRID).sum()))


def estimate_hosts(answered: npt.NDArray[np.int64], control: npt.NDArray[np.int64]) -> Estimate:
    """The sum over hosts: each with 50 answers or more alone, all others together.

    `answered` is int64[hosts, passes] (n_j of each host), `control` int64[hosts, 2] (sent, lost).
    """
    own = answered.sum(axis=1) >= OWN_ESTIMATE
    groups = [(answered[host], control[host]) for host in np.flatnonzero(own)]
    if not own.all() or not groups:
        groups.append((answered[~own].sum(axis=0), control[~own].sum(axis=0)))
    parts = [(float(n.sum()), estimate(n, int(c[0]), int(c[1]))) for n, c in groups]
    measured = [(s, part.loss) for s, part in parts if part.loss is not None]
    total = sum(s for s, _ in measured)
    loss = sum(s * value for s, value in measured) / total if total else None
    return Estimate(sum(part.missed for _, part in parts), loss)
