"""Who of a fleet may send how fast: leases that end by themselves, so that no rate is ever counted twice.

The sum of what all workers send must stay below the rate of the scan, also when a worker comes, goes, stops for a
while, or is cut off. So a worker sends only under a lease. It asks for one every second. A lease holds for
`LEASE_SECONDS` from the moment when the worker *asked*; the collector counts them from the moment when it *answered*,
which is later. So a worker's lease is over before the collector gives its rate to another one, and no clocks need to
agree. The same lease stops a worker that has lost its server, and all workers when nobody collects.

A worker follows one lease at a time, the latest that it has. It says which one with each question. Until then, or until
they are over, the collector counts the highest of the leases that this worker may follow. A new lease is what the
others leave of the rate. So shares fall first and rise afterwards.

Limit: clocks must run equally fast within a per mille. `MARGIN` covers that.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

LEASE_SECONDS = 5.0
MARGIN = 0.1  # seconds that a worker stops earlier
LEAST_RATE = 0.001  # of the rate of a scan: a smaller lease is none


class Lease(NamedTuple):
    """What a worker may send: frames a second (0: no limit), or None: nothing."""

    serial: int
    rate: float | None


class _Given(NamedTuple):
    serial: int
    rate: float
    until: float  # seconds


@dataclass
class _Sharer:
    """A worker as the collector knows it."""

    seen: float
    wants: bool
    most: float | None
    given: list[_Given] = field(default_factory=list)

    def held(self, now: float) -> float:
        """The highest rate that it may be using."""
        self.given = [lease for lease in self.given if lease.until > now]
        return max((lease.rate for lease in self.given), default=0.0)


class Leases:
    """The collector's side. Times in seconds, of one steady clock."""

    def __init__(self, rate: float, begins: float = 0.0) -> None:
        """`rate`: of the whole scan, frames a second; 0: no limit.

        `begins`: nothing may be sent before. A collector that goes on after another one waits until every lease of that
        one is over.
        """
        self._rate, self._begins, self._serial = rate, begins, 0
        self._sharers: dict[str, _Sharer] = {}

    def beat(self, worker: str, now: float, holds: int, wants: bool, most: float | None) -> Lease:
        """A worker asks. `holds`: the serial number of its lease. `most`: the limit of its owner.

        A worker that does not want to send has given every lease back.
        """
        sharer = self._sharers.setdefault(worker, _Sharer(now, wants, most))
        sharer.seen, sharer.wants, sharer.most = now, wants, most
        sharer.given = [lease for lease in sharer.given if wants and lease.serial >= holds]
        rate = self._share(worker, now) if wants and now >= self._begins else None
        if rate is None:
            return Lease(0, None)
        self._serial += 1
        sharer.given.append(_Given(self._serial, rate, now + LEASE_SECONDS))
        return Lease(self._serial, rate)

    def drop(self, worker: str) -> None:
        """Give this worker nothing more. What it holds still counts until it is over."""
        if worker in self._sharers:
            self._sharers[worker].wants = False

    def leave(self, worker: str) -> None:
        """A worker has gone, and holds no lease."""
        self._sharers.pop(worker, None)

    def share(self, now: float) -> float:
        """The rate of one worker, if all that are there take part; 0: no limit."""
        return self._rate / max(1, len(self.present(now)))

    def present(self, now: float) -> list[str]:
        """The workers that have asked within the time of a lease."""
        return [name for name, sharer in self._sharers.items() if sharer.seen + LEASE_SECONDS > now]

    def _share(self, worker: str, now: float) -> float | None:
        most = self._sharers[worker].most
        if not self._rate:
            return most or 0.0
        others = sum(sharer.held(now) for name, sharer in self._sharers.items() if name != worker)
        rate = min(self._fair(worker, now), self._rate - others)
        return rate if rate >= LEAST_RATE * self._rate else None

    def _fair(self, worker: str, now: float) -> float:
        """An equal share; what the limits of some workers leave goes to the others."""
        limits = {
            name: sharer.most or self._rate
            for name, sharer in self._sharers.items()
            if sharer.wants and sharer.seen + LEASE_SECONDS > now
        }
        return level(limits.values(), self._rate, limits[worker])


def level(limits: Iterable[float], total: float, own: float) -> float:
    """What a sharer with the limit `own` gets, where each gets the same as far as its limit allows."""
    left, waiting = total, sorted(limits)
    while waiting and waiting[0] <= left / len(waiting):
        left -= waiting.pop(0)
    return min(own, left / len(waiting)) if waiting else own


class Allowance:
    """The worker's side: whether it may send now, and how fast. Times in seconds, of one steady clock."""

    def __init__(self) -> None:
        self._asked: dict[int, float] = {}  # when, by number of the beat
        self._ignored = 0  # answers to beats up to this one come too late
        self._number = 0
        self._lease = Lease(0, None)
        self._until = 0.0

    def ask(self, now: float) -> tuple[int, int]:
        """A question leaves: its number, and the serial number of the lease in use."""
        self._number += 1
        self._asked[self._number] = now
        return self._number, self._lease.serial

    def answered(self, number: int, lease: Lease) -> None:
        """The answer to question `number`. Answers may come twice, late, and in any order; only a later one counts."""
        asked = self._asked.get(number)
        if asked is None or number <= self._ignored:
            return
        self._ignored = number
        self._asked = {each: when for each, when in self._asked.items() if each > number}
        self._lease, self._until = lease, asked + LEASE_SECONDS - MARGIN

    def give_back(self) -> None:
        """Nothing is sent from now on, under no lease that was asked for before."""
        self._ignored, self._asked = self._number, {}
        self._lease, self._until = Lease(0, None), 0.0

    def rate(self, now: float) -> float | None:
        """Frames a second that may be sent now (0: no limit); None: nothing."""
        return self._lease.rate if now < self._until else None
