"""How loss differs between passes: by the rate, by an outage, by the time of day.

A probe gets through when its host's own path lets it through and the time does: (1 - loss of the host) × (the chance
of its pass). The chances of the passes follow from control probes, pass by pass, and from when targets answered.
They are fitted by expectation and maximization (Dempster, Laird and Rubin 1977): a lost probe is shared out between
host and pass as their chances say. Then the data choose between this and loss that is the same in every pass. The
fit has a free number for each pass, so its evidence is lowered by what each could have been (Laplace's method).

Limit: inside a pass the loss is taken as even. Bursts much shorter than a pass are an even loss, and long ones are a
worse pass; what is missed then comes in lumps, which the variance knows of only through the passes.
"""

from typing import NamedTuple

import numpy as np

from .hosts import Floats, Rows, similar, tables
from .population import Posterior, assess, chances, grid, mixed

TIME_VARIES = 0.1  # the prior chance that passes differ
LEAST_LOST = 3  # with fewer lost round trips passes are not compared
MOST_ROWS, FIT_ROWS = 256, 48
_ROUNDS, _STEPS = 6, 3
_LEAST, _MOST = 1e-4, 0.995  # of what a pass loses besides


class Fit(NamedTuple):
    """Passes that differ."""

    through: Floats  # [passes]: the chance to get through besides the host's own loss; the best pass has 1
    lost: Floats  # [passes]: the chance that a control probe is lost
    trials: Floats  # [passes]: round trips to responders
    gain: float  # the logarithm of how much better it explains when control probes were lost


class Found(NamedTuple):
    """What was missed, and the chance to get through each pass besides the host's own loss."""

    posterior: Posterior
    through: Floats
    rows: Rows  # those of the posterior


def over_time(rows: Rows, control: Floats | None) -> Found:
    """What the hosts missed. `control` [passes, 2]: control probes of each pass, sent and lost; None: not known."""
    rows, passes = similar(rows, MOST_ROWS), rows.first.shape[1]
    even = np.ones(passes)
    constant = assess(rows, tables(grid().loss, even, even))
    lost = float(rows.hosts @ (rows.first @ np.arange(passes) + rows.lost))
    if control is None or passes < 2 or lost < LEAST_LOST:
        return Found(constant, even, rows)
    fit = _fit(similar(rows, FIT_ROWS), control)
    varying = assess(rows, tables(grid().loss, fit.through, control[:, 0]))
    # The chances of the passes are uncertain themselves, each by so much of itself.
    unsure = float(((1 - fit.lost) / (fit.lost * fit.trials + 1)).sum())
    varying = varying._replace(variance=varying.variance + varying.missed**2 * unsure)
    models = [
        (float(np.log(1 - TIME_VARIES)), constant),
        (float(np.log(TIME_VARIES)) + fit.gain + _penalty(fit), varying),
    ]
    same, differ = chances(models)
    return Found(mixed(models), np.asarray(same + differ * fit.through), rows)


def _penalty(fit: Fit) -> float:
    """How much of its range each chance takes up: log(√(2π) · its standard deviation), for all but the best pass."""
    lost, trials = fit.lost * fit.trials + 0.5, (1 - fit.lost) * fit.trials + 0.5
    width = np.sqrt(2 * np.pi * lost * trials / (fit.trials + 1) ** 3)
    return float(np.log(np.minimum(1.0, np.delete(width, np.argmax(fit.through)))).sum())


def _fit(rows: Rows, control: Floats) -> Fit:
    answered = rows.hosts @ rows.first
    later = rows.answers[:, None] - np.cumsum(rows.first, axis=1)  # missed in pass j, and answered afterwards
    trials = control[:, 0] + answered + rows.hosts @ later
    besides = (control[:, 1] + rows.hosts @ later + 0.5) / (trials + 1)
    through = 1 - np.clip(besides - besides.min(), _LEAST, _MOST)
    for _ in range(_ROUNDS):
        through /= through.max()
        table = tables(grid().loss, through, control[:, 0])
        weight = assess(rows._replace(group=np.zeros_like(rows.group)), table).loss * rows.hosts[:, None]
        asked = rows.sent @ weight + 1e-9
        asked /= asked.sum()  # of which hosts the control probes were
        for _ in range(_STEPS):
            through = _improved(rows, control, later, weight, asked, through)
    through /= through.max()
    lost = (1 - (1 - grid().loss) * through[:, None]) @ asked
    sent, mean = control[:, 0], float(lost @ control[:, 0] + 1e-9) / float(control[:, 0].sum() + 2e-9)
    gain = control[:, 1] @ np.log(lost / mean) + (sent - control[:, 1]) @ np.log((1 - lost) / (1 - mean))
    return Fit(through, lost, trials, float(gain))


def _improved(rows: Rows, control: Floats, later: Floats, weight: Floats, asked: Floats, through: Floats) -> Floats:
    """One step: share out the losses of each pass between hosts and the pass, and count."""
    loss, passes = grid().loss, np.arange(len(through))
    fails = 1 - (1 - loss) * through[:, None]
    unseen = np.exp(np.concatenate([np.zeros((1, len(loss))), np.cumsum(np.log(fails), axis=0)]))[rows.passes]
    missed = np.minimum(rows.silent[:, None], rows.answers[:, None] * unseen / (1 - unseen))
    lost = later.T @ weight + (passes < rows.passes[:, None]).T @ (weight * missed)
    back = rows.first.T @ weight
    share = fails @ asked
    lost = lost + (control[:, 1] / share)[:, None] * asked * fails
    back = back + ((control[:, 0] - control[:, 1]) / (1 - share))[:, None] * asked * (1 - fails)
    besides = (lost * (1 - through)[:, None] / fails).sum(axis=1) / ((lost + back).sum(axis=1) + 0.5)
    return np.asarray(1 - np.clip(besides, _LEAST, _MOST))
