"""Simulated scans over networks whose loss is known: what was really missed, beside what the estimate prints.

A scene is a number of hosts with responding ports behind lossy paths. A run sends passes as a scan does: probes to the
silent targets, control probes between them, and then the stop rule. No frames are made. Each frame is lost or not.
Time is counted in frames, so bursts go on from one pass to the next. Every kind varies hosts, ports, the share of
responding ports and the retries with the seed.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scanner.verdict.loss import CONTROL_PROBES, Bound, Estimate, HostAnswers, at_most, estimate_hosts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Random = np.random.Generator
Stop = Callable[[HostAnswers], Estimate]

RETRIES = (2, 4, 10)
SHARES = (1.0, 0.9, 0.5, 0.2, 0.05)  # of the ports, that respond
GROUPS = 8  # networks (/24) of the scenes with many hosts
FIRST_CONTROL = 0.05  # control probes of the first pass, as a share of its frames


class Burst(NamedTuple):
    """Loss in bursts (Gilbert 1960, Elliott 1963). Lengths are in frames."""

    length: float  # mean length of a bad period
    share: float  # of the time that is bad
    bad: float = 1.0  # loss in a bad period
    good: float = 0.0  # loss between them


class Scene(NamedTuple):
    """Hosts with responding ports, and what their paths lose."""

    ports: int
    responding: Ints  # ports of each host that would answer
    loss: Floats  # of each host's own path, for a round trip
    retries: int = 10
    group: Ints | None = None  # the network of each host; None: all share one
    over_time: Callable[[Floats], Floats] | None = None  # time in passes → loss that every path has besides
    burst: Burst | None = None


class Outcome(NamedTuple):
    """The end of one run."""

    missed: int  # responding ports without an answer, of hosts with an answer
    printed: float
    at_most: int
    frames: int  # probes and control probes
    passes: int
    loss: float | None


class Run:
    """A scan of one scene, pass by pass."""

    def __init__(self, scene: Scene, random: Random) -> None:
        self.scene, self.random = scene, random
        hosts, ports = len(scene.responding), scene.ports
        turn = random.permutation(hosts * ports)  # the order in which every pass probes the targets
        self.host = turn // ports
        self.responds = turn % ports < scene.responding[self.host]
        self.answered = np.zeros(hosts * ports, np.bool_)
        self.first = np.zeros((hosts, 0), np.int64)
        self.control, self.by_pass = np.zeros((hosts, 2), np.int64), np.zeros((0, 2), np.int64)
        self.frames = 0
        self.bad_left, self.bad = 0, bool(scene.burst and random.random() < scene.burst.share)

    def one_pass(self) -> HostAnswers:
        pass_no = self.first.shape[1]
        silent = np.flatnonzero(~self.answered)
        control = self._control_targets() if pass_no else np.zeros(0, np.int64)
        at = (2 * np.arange(len(control)) + 1) * len(silent) // max(1, 2 * len(control))
        target = np.insert(silent, at, control)
        probe = np.insert(np.ones(len(silent), np.bool_), at, False)
        back = self._passes_through(target, pass_no + (np.arange(len(target)) + 0.5) / max(1, len(target)))
        found = target[probe & back & self.responds[target]]
        self.answered[found] = True
        hosts = len(self.control)
        self.first = np.column_stack([self.first, np.bincount(self.host[found], minlength=hosts)])
        if not pass_no:
            chosen = self._control_targets(int(FIRST_CONTROL * len(target)))
            control, probe = chosen, np.zeros(len(chosen), np.bool_)
            back = self._passes_through(chosen, self.random.random(len(chosen)))
            self.frames += len(chosen)
        self._count_control(self.host[control], back[~probe])
        self.frames += len(target)
        return self.answers()

    def answers(self) -> HostAnswers:
        """What the scan knows of the hosts with an answer."""
        scene, hosts = self.scene, len(self.control)
        known = self.first.sum(axis=1) > 0
        silent = scene.ports - np.bincount(self.host[self.answered], minlength=hosts)
        group = np.zeros(hosts, np.int64) if scene.group is None else scene.group
        passes = np.full(hosts, self.first.shape[1])
        return HostAnswers(
            self.first[known], self.control[known], passes[known], silent[known], group[known], self.by_pass
        )

    def missed(self) -> int:
        unseen = np.bincount(self.host[self.responds & ~self.answered], minlength=len(self.control))
        return int(unseen[self.first.sum(axis=1) > 0].sum())

    def _control_targets(self, most: int = CONTROL_PROBES) -> Ints:
        """Targets that have answered, spread evenly over the hosts."""
        answered = np.flatnonzero(self.answered)
        answered = answered[np.argsort(self.host[answered], kind="stable")]
        most = min(most, CONTROL_PROBES)
        return answered[:: max(1, -(-len(answered) // most))] if most else answered[:0]

    def _count_control(self, host: Ints, back: Bools) -> None:
        np.add.at(self.control[:, 0], host, 1)
        np.add.at(self.control[:, 1], host[~back], 1)
        self.by_pass = np.concatenate([self.by_pass, [[len(back), np.count_nonzero(~back)]]])

    def _passes_through(self, target: Ints, time: Floats) -> Bools:
        scene = self.scene
        through = 1 - scene.loss[self.host[target]]
        if scene.over_time is not None:
            through = through * (1 - np.clip(scene.over_time(time), 0.0, 1.0))
        if scene.burst is not None:
            through = through * np.where(self._bad_times(len(target)), 1 - scene.burst.bad, 1 - scene.burst.good)
        return np.asarray(self.random.random(len(target)) < through)

    def _bad_times(self, frames: int) -> Bools:
        """For each of the next frames, whether it leaves in a bad period."""
        assert self.scene.burst
        length, share = self.scene.burst[:2]
        parts = []
        while frames > 0:
            if not self.bad_left:
                self.bad = not self.bad
                mean = length if self.bad else length * (1 - share) / share
                self.bad_left = int(self.random.geometric(1 / max(1.0, mean)))
            step = min(frames, self.bad_left)
            parts.append(np.full(step, self.bad))
            frames, self.bad_left = frames - step, self.bad_left - step
        return np.concatenate(parts) if parts else np.zeros(0, np.bool_)


def run(scene: Scene, random: Random, stop: Stop = estimate_hosts) -> Outcome:
    """One scan of the scene with the stop rule over `stop`."""
    scan, bound = Run(scene, random), Bound(scene.retries + 1, 0.01)
    while True:
        answers = scan.one_pass()
        found, passes = stop(answers), scan.first.shape[1]
        if bound.reached(passes, found) or scan.answered.all():
            limit = at_most(found.missed, found.variance)
            return Outcome(scan.missed(), found.missed, limit, scan.frames, passes, found.loss)


# ── kinds of scene ──


def _log_uniform(random: Random, low: int, high: int) -> int:
    return int(np.exp(random.uniform(np.log(low), np.log(high + 1))))


def _plain(random: Random, hosts: tuple[int, int] = (1, 250), ports: tuple[int, int] = (1, 500)) -> Scene:
    """A scene without loss, of a size that varies."""
    count, width = _log_uniform(random, *hosts), _log_uniform(random, *ports)
    responding = random.binomial(width, SHARES[random.integers(len(SHARES))], count)
    responding[random.integers(count)] += not responding.any()
    return Scene(width, responding, np.zeros(count), RETRIES[random.integers(len(RETRIES))])


Kind = Callable[[Random], Scene]


def alike(loss: float) -> Kind:
    def made(random: Random) -> Scene:
        scene = _plain(random)
        return scene._replace(loss=np.full(len(scene.loss), loss))

    return made


def bursts(length: float, share: float, bad: float = 1.0, good: float = 0.0) -> Kind:
    return lambda random: _plain(random)._replace(burst=Burst(length, share, bad, good))


def unlike(share: float, loss: float, least: int = 20) -> Kind:
    """So many of the hosts lose, and the others do not."""

    def made(random: Random) -> Scene:
        scene = _plain(random, (least, 250))
        hosts = len(scene.loss)
        bad = random.permutation(hosts) < max(1, round(share * hosts))
        return scene._replace(loss=np.where(bad, loss, 0.0), group=np.arange(hosts) * GROUPS // hosts)

    return made


def bad_network(loss: float) -> Kind:
    def made(random: Random) -> Scene:
        scene = _plain(random, (16, 250))
        group = np.arange(len(scene.loss)) * GROUPS // len(scene.loss)
        return scene._replace(loss=np.where(group == random.integers(GROUPS), loss, 0.0), group=group)

    return made


def few(random: Random) -> Scene:
    hosts, ports = int(random.integers(1, 6)), _log_uniform(random, 3, 500)
    responding = random.integers(1, 4, hosts)
    loss = (0.0, 0.1, 0.2, 0.36)[random.integers(4)]
    return Scene(ports, responding, np.full(hosts, loss), RETRIES[random.integers(len(RETRIES))])


def many_silent(loss: float) -> Kind:
    def made(random: Random) -> Scene:
        scene = _plain(random, ports=(50, 500))
        responding = random.binomial(scene.ports, 0.02, len(scene.loss))
        responding[0] += not responding.any()
        return scene._replace(responding=responding, loss=np.full(len(scene.loss), loss))

    return made


def over_time(course: Callable[[Random], Callable[[Floats], Floats]]) -> Kind:
    return lambda random: _plain(random)._replace(over_time=course(random))


def _outage(random: Random) -> Callable[[Floats], Floats]:
    start, length = random.uniform(0.2, 2.0), random.uniform(0.2, 1.5)
    return lambda time: np.where((time >= start) & (time < start + length), 1.0, 0.02)


def _slope(random: Random) -> Callable[[Floats], Floats]:
    start, end = random.uniform(0, 0.6, 2)
    return lambda time: np.asarray(start + (end - start) * np.minimum(1.0, time / 6))


def _fast_start(_random: Random) -> Callable[[Floats], Floats]:
    return lambda time: np.where(time < 1, 0.5, 0.05)


def _alternating(_random: Random) -> Callable[[Floats], Floats]:
    return lambda time: np.where(np.floor(time) % 2 == 0, 0.5, 0.05)


KINDS: dict[str, Kind] = {
    **{f"alike, {loss:.0%}": alike(loss) for loss in (0.0, 0.05, 0.1, 0.2, 0.36, 0.64)},
    "one direction, 20%": alike(0.2),
    "bursts of 5": bursts(5, 0.1),
    "bursts of 20": bursts(20, 0.2),
    "bursts of 50, 70% lost": bursts(50, 0.3, 0.7, 0.02),
    "bursts of 200": bursts(200, 0.1),
    "bursts of 500, 80% lost": bursts(500, 0.2, 0.8),
    "5% of hosts at 70%": unlike(0.05, 0.7),
    "5% of hosts at 90%": unlike(0.05, 0.9),
    "50% of hosts at 70%": unlike(0.5, 0.7, 2),
    "50% of hosts at 90%": unlike(0.5, 0.9, 2),
    "one bad /24 of eight, 70%": bad_network(0.7),
    "one bad /24 of eight, 40%": bad_network(0.4),
    "first pass 50%, then 5%": over_time(_fast_start),
    "few responders": few,
    "98% silent, 10%": many_silent(0.1),
    "98% silent, 36%": many_silent(0.36),
    "an outage": over_time(_outage),
    "a slope": over_time(_slope),
    "alternating 50% and 5%": over_time(_alternating),
}


class Row(NamedTuple):
    """The runs of one kind together."""

    kind: str
    runs: int
    missed: float  # a run
    printed: float  # a run
    held: float  # the share of runs that missed no more than they printed as the most
    at_most: float  # a run
    frames: float  # a run

    @property
    def ratio(self) -> float | None:
        """Printed over missed; None where too few were missed in all to say."""
        return self.printed / self.missed if self.missed * self.runs > 20 else None


def calibrate(kind: str, seeds: range, stop: Stop = estimate_hosts) -> Row:
    """Run one kind with each seed."""
    done = [_seeded(kind, seed, stop) for seed in seeds]
    missed, printed, limit, frames = (
        float(np.mean([getattr(each, field) for each in done])) for field in ("missed", "printed", "at_most", "frames")
    )
    held = float(np.mean([each.missed <= each.at_most for each in done]))
    return Row(kind, len(done), missed, printed, held, limit, frames)


def _seeded(kind: str, seed: int, stop: Stop) -> Outcome:
    random = np.random.default_rng([seed, list(KINDS).index(kind)])
    return run(KINDS[kind](random), random, stop)
