"""What a scan did, in numbers: while it runs, at its end, and over the parts of one that was resumed.

Everything that could make a verdict weaker than it looks is counted here, by whoever sees it; `summary` puts it
into words. Two parts of a resumed scan add up, except for what is a rate or a share: the loss is weighed by answers.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple


class Glance(NamedTuple):
    """Where a scan stands: probes sent, the latest pass, targets that answered, were found open, have not been asked
    yet, the loss per round trip (None: not measured), and the expected number of missed responders so far."""

    sent: int
    passes: int
    answered: int
    opened: int
    remaining: int
    loss: float | None
    missed: float


@dataclass
class Sums:
    """What a scan did. Times in seconds, the rest in frames, targets or replies."""

    targets: int = 0
    started: float = 0.0
    seconds: float = 0.0
    sending_seconds: float = 0.0
    sent: Counter[str] = field(default_factory=Counter)
    replies: int = 0
    late: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    ring_drops: int = 0
    interface_drops: int = 0
    expected_missed: float = 0.0
    loss: float | None = None
    answered: int = 0
    passes: int = 0
    silent_counted: int = 0
    interrupted: bool = False
    asked_rate: float | None = None  # None: auto
    shortages: Counter[str] = field(default_factory=Counter)  # of this machine's own: starts that were put off

    @property
    def rate(self) -> float:
        """Frames a second while sending."""
        return self.sent.total() / self.sending_seconds if self.sending_seconds else 0.0

    def after(self, earlier: "Sums") -> "Sums":
        """The sums of two parts of a scan, this one being the later."""
        added = ("seconds", "sending_seconds", "sent", "replies", "late", "rejected", "ring_drops", "interface_drops",
                 "expected_missed", "answered", "silent_counted", "shortages")  # fmt: skip
        whole = replace(self, **{name: getattr(self, name) + getattr(earlier, name) for name in added})
        whole.started, whole.passes = earlier.started, max(self.passes, earlier.passes)
        parts = [each for each in (self, earlier) if each.loss is not None]
        weight = sum(each.answered for each in parts)
        whole.loss = sum((each.loss or 0.0) * each.answered for each in parts) / weight if weight else None
        return whole


def sums_of(text: dict[str, Any]) -> Sums:
    """What `vars` of Sums and JSON have made of them. Raises TypeError for anything else."""
    counters = {name: Counter(text[name]) for name in ("sent", "rejected", "shortages")}
    for name, value in text.items():
        if name not in counters and not isinstance(value, int | float | None):
            raise TypeError(f"{name} is no number")
    return Sums(**{**text, **counters})
