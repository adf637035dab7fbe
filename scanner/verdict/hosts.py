"""Rows of hosts, and how likely each is at every loss.

A row says what a host answered: how many targets first answered pass j, how many control probes it was sent and lost,
and how many of its targets are silent. Equal hosts share a row with their number, and where there are too many
different ones, hosts that are nearly equal share one with their mean. So the cost does not grow with the hosts.

The number N of targets that would answer is not known. In most networks it is anything (the prior 1/N up to the
host's targets). In many all targets of a host would answer, because closed ports answer with a reset. Both are kept
apart: the second says that every silent target was missed. With s answers, u silent targets and the chance q that a
responder is still unseen, the first gives a negative binomial of size s, cut at u. Its sums are incomplete beta
functions; Paulson's approximation (Abramowitz & Stegun 26.5.22) is good to some thousandths.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TINY = 1e-300
EULER = 0.5772156649
_EXACT = 64  # up to so many targets of a host the sums over N are exact


class Rows(NamedTuple):
    """R kinds of hosts, and how many hosts each stands for."""

    first: Floats  # [R, passes]: targets whose first answer answers pass j
    sent: Floats  # control probes
    lost: Floats
    passes: Ints
    silent: Floats
    group: Ints
    hosts: Floats

    @property
    def answers(self) -> Floats:
        """Targets of each row that answered."""
        return np.asarray(self.first.sum(axis=1))

    def part(self, which: Ints) -> "Rows":
        """Some of the rows."""
        r = which
        return Rows(
            self.first[r], self.sent[r], self.lost[r], self.passes[r], self.silent[r], self.group[r], self.hosts[r]
        )


class Tables(NamedTuple):
    """Chances at every point of the grid of losses."""

    answer: Floats  # [passes, G]: logarithm; of answering pass j and none before
    unseen: Floats  # [passes + 1, G]: of answering none of k passes
    lost: Floats  # [G]: of losing a control probe


class Likelihood(NamedTuple):
    """Of each row at every loss, [R, G]."""

    log: Floats
    mean: Floats  # of the missed responders of one host
    variance: Floats


class _Parts(NamedTuple):
    """The likelihood before anything is assumed about how many hosts respond on all targets."""

    log: Floats
    some: Floats  # logarithm: N is anything
    every: Floats  # logarithm: all targets respond
    seen_some: Floats  # the chance that a host answers at all
    seen_every: Floats
    mean: Floats
    variance: Floats
    silent: Floats


def distinct(rows: Rows) -> Rows:
    """Equal rows become one. All their numbers are whole."""
    table = np.column_stack([*rows.first.T, rows.sent, rows.lost, rows.passes, rows.silent, rows.group])
    # A sum with odd random factors stands for the row: sorting numbers is much faster than sorting rows.
    factors = np.random.default_rng(1).integers(1 << 62, size=table.shape[1], dtype=np.uint64) | np.uint64(1)
    key = (table.astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)
    _, index, which = np.unique(key, return_index=True, return_inverse=True)
    part = rows.part(index)
    return part._replace(hosts=np.asarray(np.bincount(which, rows.hosts), np.float64))


def similar(rows: Rows, most: int) -> Rows:
    """Rows that are nearly equal become one, until there are about `most`."""
    turn = np.arange(rows.first.shape[1])
    sizes = [np.log1p(x) for x in (rows.answers, rows.first @ turn, rows.lost, rows.sent, rows.silent)]
    steps = 12.0
    which = np.arange(len(rows.hosts))
    while which.max(initial=0) >= most and steps > 0.2:
        keys = [*(np.round(steps * size) for size in sizes), rows.passes, rows.group]
        which = np.unique(np.column_stack(keys), axis=0, return_inverse=True)[1].ravel()
        steps /= 1.5
    if which.max(initial=0) + 1 == len(rows.hosts):
        return rows
    count = np.asarray(np.bincount(which, rows.hosts), np.float64)
    mean = [np.bincount(which, column * rows.hosts) / count for column in (*rows.first.T, rows.sent, rows.lost)]
    index = np.unique(which, return_index=True)[1]
    silent = np.bincount(which, rows.silent * rows.hosts) / count
    first = np.column_stack(mean[:-2])
    return Rows(first, mean[-2], mean[-1], rows.passes[index], silent, rows.group[index], count)


def tables(loss: Floats, through: Floats, control_sent: Floats) -> Tables:
    """For the losses of hosts (`loss` [G]), the chance to get through each pass besides, and its control probes."""
    log_through = np.log1p(-loss) + np.log(through)[:, None]
    log_lost = np.log(-np.expm1(log_through))
    unseen = np.concatenate([np.zeros((1, len(loss))), np.cumsum(log_lost, axis=0)])
    share = (control_sent + 1e-9) / (control_sent + 1e-9).sum()
    return Tables(log_through + unseen[:-1], np.exp(unseen), np.asarray(share @ np.exp(log_lost)))


def parts(rows: Rows, table: Tables) -> _Parts:
    """The likelihood of each row, and what it missed, at every loss."""
    s, u = rows.answers[:, None], rows.silent[:, None]
    n, q = s + u, table.unseen[rows.passes]
    log_q, log_rest = np.log(q), np.log1p(-q)
    log = rows.first @ table.answer
    log += rows.lost[:, None] * np.log(table.lost) + (rows.sent - rows.lost)[:, None] * np.log1p(-table.lost)
    harmonic = np.log(n) + EULER + 0.5 / n
    roots = np.cbrt(1 - table.unseen)[rows.passes], np.cbrt(table.unseen)[rows.passes]
    none = np.exp(s * log_rest)
    limited = np.maximum(np.where(u > 0, _beta(s, u + 1, *roots), none), TINY)
    less = np.where(u > 1, _beta(s + 1, np.maximum(u, 1), *roots), none * (1 - q))
    every = _log_factorial(n) - _log_factorial(u) - _log_factorial(s - 1) + u * log_q
    some = np.log(limited) - s * log_rest - np.log(harmonic)
    free = s * q / (1 - q)
    mean = np.minimum(free * np.minimum(1.0, less / limited), u)
    variance = np.minimum(free / (1 - q), mean * (u - mean))
    seen = _seen(n[:, 0].astype(np.int64), rows.passes, table.unseen) / harmonic
    return _Parts(log, some, every, seen, -np.expm1(n * log_q), mean, variance, u)


def likelihood(of: _Parts, share: float) -> Likelihood:
    """Where this share of the hosts responds on all targets."""
    top = np.maximum(of.some, of.every)
    some, every = (1 - share) * np.exp(of.some - top), share * np.exp(of.every - top)
    both = some + every
    log = of.log + top + np.log(both) - np.log((1 - share) * of.seen_some + share * of.seen_every)
    weight = every / both
    rest = of.silent - of.mean
    return Likelihood(log, of.mean + weight * rest, (1 - weight) * of.variance + weight * (1 - weight) * rest * rest)


def _beta(a: Floats, b: Floats, x: Floats, y: Floats) -> Floats:
    """The incomplete beta function I(a, b), a and b [R, 1]; x and y [R, G] are cube roots of its limit and the rest."""
    w, v = np.cbrt(b) * x, np.cbrt(a) * y
    z = 3 * (w * (1 - 1 / (9 * b)) - v * (1 - 1 / (9 * a))) / np.sqrt(w * w / b + v * v / a)
    z = np.clip(z, -12, 12)
    return np.asarray(1 / (1 + np.exp(-z * (1.5976 + 0.07056 * z * z))))  # the normal distribution, to 0.0002


def _log_factorial(n: Floats) -> Floats:
    """Stirling's series, good to 0.0001 from 0 on."""
    x = n + 1.0
    return np.asarray((x - 0.5) * np.log(x) - x + 0.9189385332 + 1 / (12 * x) - 1 / (360 * x * x * x))


def _seen(n: Ints, passes: Ints, unseen: Floats) -> Floats:
    """Σ (1 - q^N)/N over N = 1 … n: in proportion to the chance that a host answers at all."""
    top = int(min(n.max(), _EXACT))
    kinds, which = np.unique(passes, return_inverse=True)
    q = unseen[kinds]
    table, power, total = np.zeros((top + 1, *q.shape)), q.copy(), np.zeros_like(q)
    for number in range(1, top + 1):
        total = total + (1 - power) / number
        table[number] = total
        power = power * q
    low = np.minimum(n, top)
    return np.asarray(table[low, which] + np.log(n / low)[:, None])
