"""What a scan did, in numbers: while it runs, at its end, and over the parts of a resumed scan.

Everything that could make a verdict weaker than it looks is counted here: replies that were rejected and why, frames
that this machine lost, the loss of the path and the expected number of missed responders. `summary_lines` says it in
words. The parts of a resumed scan add up, except for rates and shares: the loss is weighted by answers.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from ..verdict.loss import Estimate
from ..verdict.sentences import plural

_UNSAVED = ("opened", "remaining", "measured")  # fields that only a running scan uses
_OTHER_TRAFFIC = ("other-protocol", "other-icmp", "arp", "not-to-us", "own-probe", "ARP", "not IP", "not-ip")
_LEAST_SENDING = 0.1  # seconds: a shorter scan has no rate worth printing


@dataclass
class ScanStats:
    """What a scan did. Times in seconds, the rest in frames, targets or replies."""

    targets: int = 0
    started: float = 0.0  # seconds since 1970
    seconds: float = 0.0
    sending_seconds: float = 0.0
    sent: Counter[str] = field(default_factory=Counter)  # frames by kind: probe, query, reset
    replies: int = 0
    late: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # frames by cause
    ring_drops: int = 0
    interface_drops: int = 0
    expected_missed: float = 0.0
    loss: float | None = None  # per round trip; None: not measured
    answered: int = 0
    passes: int = 0
    silent_counted: int = 0
    interrupted: bool = False
    asked_rate: float | None = None  # None: auto
    shortages: Counter[str] = field(default_factory=Counter)  # calls put off: this machine was short
    opened: int = 0  # targets found open so far
    remaining: int = 0  # targets not probed yet
    measured: int = 0  # answers in windows whose loss was measured

    @property
    def rate(self) -> float:
        """Frames a second while sending."""
        return self.sent.total() / self.sending_seconds if self.sending_seconds else 0.0

    def add_window(self, answered: int, passes: int, estimate: Estimate, unreachable: float = 0.0) -> None:
        """Take in a window that has closed. `unreachable`: expected targets of hosts whose MAC address was missed."""
        self.expected_missed += estimate.missed + unreachable
        self.loss = _weighted((self.loss, self.measured), (estimate.loss, answered))
        self.measured += answered if estimate.loss is not None else 0
        self.answered += answered
        self.passes = max(self.passes, passes)

    def after(self, earlier: "ScanStats") -> "ScanStats":
        """The statistics of two parts of a scan, this one being the later."""
        added = ("seconds", "sending_seconds", "sent", "replies", "late", "rejected", "ring_drops", "interface_drops",
                 "expected_missed", "answered", "silent_counted", "shortages", "opened")  # fmt: skip
        return replace(
            self,
            **{name: getattr(self, name) + getattr(earlier, name) for name in added},
            started=earlier.started,
            passes=max(self.passes, earlier.passes),
            loss=_weighted((self.loss, self.answered), (earlier.loss, earlier.answered)),
        )

    def as_json(self) -> dict[str, Any]:
        """The fields of a scan that has ended."""
        return {name: value for name, value in vars(self).items() if name not in _UNSAVED}


def _weighted(*parts: tuple[float | None, int]) -> float | None:
    measured = [(loss, answered) for loss, answered in parts if loss is not None]
    weight = sum(answered for _, answered in measured)
    return sum(loss * answered for loss, answered in measured) / weight if weight else None


def stats_of(document: dict[str, Any]) -> ScanStats:
    """What `as_json` gave. Raises KeyError or TypeError for anything else."""
    counters = {name: Counter(document[name]) for name in ("sent", "rejected", "shortages")}
    for name, value in document.items():
        if name not in counters and not isinstance(value, int | float | None):
            raise TypeError(f"{name} is no number")
    return ScanStats(**{**document, **counters})


def summary_lines(stats: ScanStats) -> list[str]:
    """The summary for people, as lines without a line end."""
    sent = stats.sent
    lines = [
        f"{plural(stats.targets, 'target')} in {stats.seconds:.2f} s, {plural(stats.passes, 'pass')}: "
        f"{plural(sent['probe'], 'probe')}, {plural(sent['query'], 'query')}"
        + (f", {plural(sent['syn-ack'], 'SYN/ACK')}" if sent["syn-ack"] else "")
        + f" and {plural(sent['reset'], 'reset')} sent"
        f"{_speed(stats)}; "
        f"{plural(stats.replies, 'reply')}" + (f", {stats.late:,} late" if stats.late else ""),
        _trust(stats),
    ]
    rejected = {cause: count for cause, count in stats.rejected.items() if cause not in _OTHER_TRAFFIC}
    if rejected:
        lines.append("rejected: " + ", ".join(f"{count:,} {cause}" for cause, count in sorted(rejected.items())))
    lines.append(f"kernel drops: {stats.ring_drops:,} received, {stats.interface_drops:,} sent")
    lines += [f"put off {plural(count, 'time')}: {cause}" for cause, count in sorted(stats.shortages.items())]
    if stats.silent_counted:
        lines.append(
            f"{stats.silent_counted:,} silent targets (filtered, no-response) counted and not listed; --all lists them"
        )
    if stats.interrupted:
        lines.append("interrupted: targets that were not probed, or not long enough ago, have no row")
    return lines


def _trust(stats: ScanStats) -> str:
    if stats.loss is not None:
        return f"loss {stats.loss:.1%} a round trip; expected missed responders: {stats.expected_missed:.4f}"
    if not stats.answered:
        return "loss unknown: nobody answered"
    return "loss not measured: everyone answered at once" if stats.passes == 1 else "loss unknown: no TCP answer"


def _speed(stats: ScanStats) -> str:
    if stats.sending_seconds < _LEAST_SENDING:
        return ""
    asked = stats.asked_rate
    allowed = "auto" if asked is None else f"{asked:,.0f}/s allowed" if asked else "unlimited"
    return f" at {stats.rate:,.0f}/s ({allowed})"
