"""How far a scan is, for `progress`.

With `-v` open ports are named when they are found, because their rows come when their window closes. The time left is
estimated from the time that each target has taken so far, later passes and waits included.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..rounds.statistics import ScanStats
from ..verdict.sentences import titled
from .progress import Speed, time_left

if TYPE_CHECKING:
    from ..rounds.running import Running

LEAST_SHARE = 0.01  # the share of targets probed before there is an estimate of the time left


class ScanProgress:
    """A `progress.Source` of a session."""

    def __init__(self, session: "Running", verbose: bool) -> None:
        self._session, self._verbose = session, verbose
        self._speed = Speed()
        self._found: list[tuple[str, int]] = []

    def found(self, targets: list[tuple[str, int]]) -> None:
        """These targets, address and port, were just found open."""
        self._found += targets if self._verbose else []

    def news(self) -> Iterator[str]:
        """Ports that were found open since the last call."""
        found, self._found = self._found, []
        for host, port in found:
            yield f"open {titled(host, self._session.names.get(host))} {port}/tcp"

    def facts(self, seconds: float) -> dict[str, Any]:
        """How far the scan is, for a program."""
        stats, targets = self._session.live_stats(), self._session.targets
        rate = self._speed.at(seconds, stats.sent["probe"])
        return {
            "targets": targets, "asked": targets - stats.remaining, "sent": stats.sent["probe"], "rate": round(rate),
            "pass": stats.passes, "answered": stats.answered, "open": stats.opened, "loss": stats.loss,
            "expected_missed": stats.expected_missed, "seconds_left": self._seconds_left(stats, seconds),
        }  # fmt: skip

    def line(self, seconds: float) -> str:
        """How far the scan is, for a person."""
        stats, targets = self._session.live_stats(), max(1, self._session.targets)
        parts = [
            f"{1 - stats.remaining / targets:.0%} of {targets:,} targets, pass {stats.passes}",
            f"{self._speed.at(seconds, stats.sent['probe']):,.0f}/s",
            f"{stats.answered:,} answered, {stats.opened:,} open",
        ]
        if self._session.crew:
            parts.append(self._session.crew)
        if stats.loss is not None:
            parts.append(f"loss {stats.loss:.1%}, {stats.expected_missed:.3f} missed")
        left = self._seconds_left(stats, seconds)
        if left is not None:
            parts.append(time_left(left))
        return "; ".join(parts)

    def _seconds_left(self, stats: ScanStats, seconds: float) -> float | None:
        """The estimated seconds until every target is probed as often as those so far. None: too early to tell."""
        targets = max(1, self._session.targets)
        probed = targets - stats.remaining
        return round(seconds / probed * stats.remaining, 1) if probed > LEAST_SHARE * targets else None
