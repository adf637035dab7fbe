"""How loss differs between hosts: a population is learned, and each host is judged by its own answers and by it.

A population is a distribution of loss over hosts. It comes from a fixed list: all hosts alike (one loss, any), beta
distributions (the beta-binomial model, from nearly alike to nearly two kinds), and alike but for a few bad hosts. Its
weights are the prior times the likelihood of all hosts. A host with few answers is then shrunk towards what the other
hosts show (empirical Bayes: Robbins 1956; Efron and Morris 1975). Nothing is fixed at its best value: sums go over
all populations and losses, so the variance holds what is not known about them.

Networks may differ too. Then each group of hosts has a population of its own, and the groups together teach a prior
for it. The data choose between one population and one for each group. They choose as well whether hosts respond on
all targets (see `hosts.py`).

The prior favours alike hosts, with Beta(1, 5) as in `loss.py`: a clean network costs no further pass. Limit: where
few bad hosts give no sign at all, the mean says too little about them.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from .hosts import TINY, Floats, Ints, Likelihood, Rows, Tables, likelihood, parts

POINTS, LOWEST, HIGHEST = 240, -9.0, 6.0  # of the grid of losses, as log odds
PRIOR = 5  # Beta(1, PRIOR) of alike hosts
UNLIKE = 0.04  # the prior chance that hosts are not alike
GROUPS_DIFFER = 0.04  # that networks differ
MOST_GROUPS = 16
EVERY_TARGET = ((0.02, 0.55), (0.3, 0.4), (0.99, 0.05))  # shares of hosts that respond on all targets; prior chances

_STRENGTHS, _MEANS = (0.3, 1.0, 3.0, 10.0, 30.0), (0.01, 0.03, 0.07, 0.15, 0.25, 0.4, 0.55, 0.7, 0.85)
_CORES = {0.002: 0.5, 0.02: 0.15, 0.07: 0.15, 0.15: 0.1, 0.35: 0.1}  # loss of the good hosts: its prior chance
_BAD_SHARES, _BAD_LOSSES = (0.01, 0.03, 0.1, 0.25, 0.5), (0.25, 0.5, 0.7, 0.85, 0.94)
_ROUNDS, _OWN = 4, 2.0  # of learning from the groups; the weight of the prior, in groups
_FLOOR = -80.0  # smaller likelihoods would only make numbers that processors handle slowly


class Grid(NamedTuple):
    """The losses, and the populations over them."""

    loss: Floats  # [G]
    populations: Floats  # [C, G]: of unlike hosts; those of alike hosts are the points themselves
    prior: Floats  # [G + C]


class Posterior(NamedTuple):
    """What one set of assumptions says."""

    evidence: float  # the logarithm of the chance of what was seen
    missed: float
    variance: float
    loss: Floats  # [R, G]: the weight of each loss for a host of each row


def mixed(models: Sequence[tuple[float, Posterior]]) -> Posterior:
    """The mean over several sets of assumptions, each with the logarithm of its prior chance."""
    weight = chances(models)
    top = max(prior + model.evidence for prior, model in models)
    evidence = top + float(np.log(sum(np.exp(prior + model.evidence - top) for prior, model in models)))
    each = [model for _, model in models]
    missed = sum(float(w) * model.missed for w, model in zip(weight, each, strict=True))
    square = sum(float(w) * (model.variance + model.missed**2) for w, model in zip(weight, each, strict=True))
    loss = np.sum([w * model.loss for w, model in zip(weight, each, strict=True)], axis=0)
    return Posterior(evidence, missed, max(0.0, square - missed**2), loss)


def chances(models: Sequence[tuple[float, Posterior]]) -> Floats:
    """How likely each set of assumptions is, given what was seen."""
    log_weight = np.array([prior + model.evidence for prior, model in models])
    weight = np.exp(log_weight - log_weight.max())
    return np.asarray(weight / weight.sum())


@cache
def grid() -> Grid:
    """The losses, denser near 0 and 1."""
    loss = 1 / (1 + np.exp(-np.linspace(LOWEST, HIGHEST, POINTS)))
    alike = _beta(loss, 1 / (1 + PRIOR), 1.0 + PRIOR)
    betas = [(_beta(loss, mean, strength), (1 - mean) ** 4) for strength in _STRENGTHS for mean in _MEANS]
    bad = {at: _beta(loss, at, 12.0) for at in _BAD_LOSSES}
    few = [
        ((1 - share) * _beta(loss, core, max(100.0, 1.5 / core)) + share * bad[at], chance)
        for core, chance in _CORES.items()
        for share in _BAD_SHARES
        for at in _BAD_LOSSES
    ]
    prior = [np.array([chance for _, chance in family]) for family in (betas, few)]
    unlike = np.concatenate([0.4 * prior[0] / prior[0].sum(), 0.6 * prior[1] / prior[1].sum()])
    populations = np.array([each for each, _ in betas + few])
    return Grid(loss, populations, np.concatenate([(1 - UNLIKE) * alike, UNLIKE * unlike]))


def _beta(loss: Floats, mean: float, strength: float) -> Floats:
    """A beta distribution on the grid, whose points are as far apart as p (1 - p)."""
    log_weight = mean * strength * np.log(loss) + (1 - mean) * strength * np.log1p(-loss)
    weight = np.exp(np.maximum(log_weight - log_weight.max(), _FLOOR))
    return np.asarray(weight / weight.sum())


def assess(rows: Rows, table: Tables) -> Posterior:
    """What the hosts missed, over all populations."""
    given = parts(rows, table)
    return mixed([(float(np.log(chance)), _assess(rows, likelihood(given, share))) for share, chance in EVERY_TARGET])


def _assess(rows: Rows, given: Likelihood) -> Posterior:
    seen = _Seen.of(rows, given)
    one = _one_population(seen, grid().prior)
    groups, which = np.unique(rows.group, return_inverse=True)
    if len(groups) == 1 or 2 * len(groups) > rows.hosts.sum():  # hosts that differ tell as much
        return one
    which = which.ravel() * min(len(groups), MOST_GROUPS) // len(groups)
    several = _by_group(seen, which)
    return mixed([(float(np.log(1 - GROUPS_DIFFER)), one), (float(np.log(GROUPS_DIFFER)), several)])


class _Seen(NamedTuple):
    """Rows with their likelihood, and that of every population."""

    hosts: Floats
    given: Likelihood
    scaled: Floats  # [R, G]: the likelihood over its largest value
    under: Floats  # [R, C]: the same under each population of unlike hosts
    log: Floats  # [R, G + C]: the logarithm under each population

    @classmethod
    def of(cls, rows: Rows, given: Likelihood) -> "_Seen":
        top = given.log.max(axis=1, keepdims=True)
        scaled = np.exp(np.maximum(given.log - top, _FLOOR))
        under = np.maximum(scaled @ grid().populations.T, TINY)
        return cls(rows.hosts, given, scaled, under, np.concatenate([given.log, np.log(under) + top], axis=1))

    def part(self, which: Ints) -> "_Seen":
        """Some of the rows."""
        given = Likelihood(*(column[which] for column in self.given))
        return _Seen(self.hosts[which], given, self.scaled[which], self.under[which], self.log[which])


def _one_population(seen: _Seen, prior: Floats) -> Posterior:
    """All hosts come from one population, which is any of the list."""
    log_weight = seen.hosts @ seen.log + np.log(prior)
    top = log_weight.max()
    weight = np.exp(log_weight - top)
    evidence = float(top + np.log(weight.sum()))
    weight /= weight.sum()
    alike, unlike = weight[:POINTS], weight[POINTS:]
    kept = unlike > 1e-8
    under, populations, unlike = seen.under[:, kept], grid().populations[kept].T, unlike[kept]
    n, mean, spread = seen.hosts, seen.given.mean, seen.given.variance
    missed = (seen.scaled * mean) @ populations / under
    square = (seen.scaled * (spread + mean * mean)) @ populations / under
    means = np.concatenate([n @ mean, n @ missed])
    variances = np.concatenate([n @ spread, n @ (square - missed * missed)])
    weight = np.concatenate([alike, unlike])
    total = float(weight @ means)
    loss = alike + seen.scaled * ((unlike / under) @ populations.T)
    return Posterior(evidence, total, max(0.0, float(weight @ (variances + means * means)) - total * total), loss)


def _by_group(seen: _Seen, which: Ints) -> Posterior:
    """Each group has a population of its own, and all groups together teach the prior of these."""
    groups = int(which.max()) + 1
    total = np.zeros((groups, seen.log.shape[1]))
    np.add.at(total, which, seen.log * seen.hosts[:, None])
    top = total.max(axis=1, keepdims=True)
    scaled = np.exp(np.maximum(total - top, _FLOOR))
    base = grid().prior
    evidence = float((np.log(scaled @ base) + top[:, 0]).sum())
    prior = base
    for _ in range(_ROUNDS):
        posterior = scaled * prior
        posterior /= posterior.sum(axis=1, keepdims=True)
        prior = (_OWN * base + posterior.sum(axis=0)) / (_OWN + groups)
    missed = variance = 0.0
    loss = np.zeros_like(seen.scaled)
    for group in range(groups):
        mine = np.flatnonzero(which == group)
        found = _one_population(seen.part(mine), prior)
        missed, variance, loss[mine] = missed + found.missed, variance + found.variance, found.loss
    return Posterior(evidence, missed, variance, loss)
