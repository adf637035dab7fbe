"""What a scan did, in numbers: while it runs, at its end, and over the parts of a resumed scan.

Everything that could make a verdict weaker than it looks is counted here: replies that were rejected and why, frames
that this machine lost, the loss of the path and the expected number of missed responders. `summary` says it in words.
The parts of a resumed scan add up, except for rates and shares: the loss is weighted by answers.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..verdict.loss import Bound, at_most
from .stopped import stopped_hosts
from .window import Window

_UNSAVED = ("opened", "remaining", "measured", "bound")  # fields that only a running scan uses
MOST_MISSED = 0.01  # share of the responders that a scan may expect to have missed


@dataclass
class ScanStats:
    """What a scan did. Times in seconds, the rest in frames, targets or replies."""

    targets: int = 0
    unresolved: int = 0  # names without an address, which were left out
    unrouted: int = 0  # addresses without a route, which were left out
    started: float = 0.0  # seconds since 1970
    seconds: float = 0.0
    sending_seconds: float = 0.0
    sent: Counter[str] = field(default_factory=Counter)  # frames by kind, see README.md
    replies: int = 0
    late: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # frames by cause
    bad_checksums: int = 0  # replies that were judged all the same
    two_macs: Counter[str] = field(default_factory=Counter)  # addresses with more than one MAC: further answers
    ring_drops: int = 0
    interface_drops: int = 0
    expected_missed: float = 0.0  # responders, on hosts that answered or should have
    missed_with_hosts: float = 0.0  # of these, responders of hosts whose every answer to a query may have been lost
    missed_variance: float = 0.0  # of that number
    hosts_heard: int = 0  # hosts that answered
    hosts_unheard: int = 0  # hosts that were probed and never answered
    missed_by_loss: float = 0.0  # responders on hosts that never answered, if only the loss of the others hid them
    stopped: Counter[str] = field(default_factory=Counter)  # hosts that stopped answering: probes until then
    carries: float | None = None  # frames a second, where the path carries less than could be sent
    loss: float | None = None  # per round trip, as estimated for the whole scan; None: not measured
    tried: int = 0  # probes to targets that answered
    lost: int = 0  # of these, probes without an answer
    responders: int = 0  # targets with a TCP answer
    answered: int = 0
    passes: int = 0
    silent_counted: int = 0
    interrupted: bool = False
    asked_rate: float | None = None  # None: auto
    shortages: Counter[str] = field(default_factory=Counter)  # calls put off: this machine was short
    opened: int = 0  # targets found open so far
    remaining: int = 0  # targets not probed yet
    measured: int = 0  # answers in windows whose loss was measured
    bound: Bound | None = None  # of missed responders, that the user asked for
    unmeasured: int = 0  # silent targets on hosts that answered, in windows whose loss was not measured

    @property
    def rate(self) -> float:
        """Frames a second while sending."""
        return self.sent.total() / self.sending_seconds if self.sending_seconds else 0.0

    def add_window(self, window: Window) -> None:
        """Take in a window that has closed."""
        estimate = window.estimate
        # A scan that was interrupted may have asked for the MAC address of a host and sent it no probe.
        probed = window.by_host(window.ledger.was_probed()) > 0
        unheard = int(np.count_nonzero(window.unheard & probed & (window.stopped_at == 0)))
        self.expected_missed += estimate.missed + window.missed_with_hosts
        self.missed_with_hosts += window.missed_with_hosts
        self.missed_variance += estimate.variance + window.missed_with_hosts
        self.hosts_heard += int(np.count_nonzero(window.last_answer))
        self.hosts_unheard += unheard
        self.missed_by_loss += window.unheard_estimate.missed
        for name, probes in stopped_hosts(window):
            self.stopped[name] += probes
        if estimate.loss is None:
            self.unmeasured += int(window.by_host(window.ledger.silent(slice(None)))[window.last_answer > 0].sum())
        responders = window.responders
        self.loss = _weighted((self.loss, self.measured), (estimate.loss, responders))
        passes, control = window.first_pass[window.first_pass > 0].astype(np.int64), window.control.outcomes().back
        self.tried += int(passes.sum()) + len(control)
        self.lost += int(passes.sum()) - len(passes) + int(np.count_nonzero(~control))
        self.measured += responders if estimate.loss is not None else 0
        self.responders += responders
        self.answered += window.ledger.answered
        self.passes = max(self.passes, window.passes.pass_no)

    @property
    def at_most_missed(self) -> int:
        """The responders that were missed on hosts that answered are at most so many, in 99 of 100 scans."""
        return at_most(self.expected_missed, self.missed_variance)

    @property
    def missed_if_there(self) -> float | None:
        """The responders on hosts that never answered, if these are there and like the others; None: unknown."""
        if not self.hosts_unheard:
            return 0.0
        if not self.hosts_heard:
            return None
        return self.hosts_unheard * (self.responders + self.expected_missed) / self.hosts_heard

    @property
    def within_bound(self) -> bool:
        """Whether at most one in a hundred responders is expected to be missed."""
        if not self.responders:
            return False
        missed = self.expected_missed + self.missed_by_loss
        return not (self.stopped or self.unmeasured) and missed <= MOST_MISSED * (self.responders + missed)

    def after(self, earlier: "ScanStats") -> "ScanStats":
        """The statistics of two parts of a scan, this one being the later."""
        added = ("seconds", "sending_seconds", "sent", "replies", "late", "rejected", "bad_checksums", "two_macs",
                 "ring_drops", "interface_drops", "expected_missed", "missed_with_hosts", "missed_variance",
                 "hosts_heard", "hosts_unheard", "missed_by_loss", "tried", "lost", "stopped", "unmeasured",
                 "responders", "answered", "silent_counted", "shortages", "opened")  # fmt: skip
        return replace(
            self,
            **{name: getattr(self, name) + getattr(earlier, name) for name in added},
            started=earlier.started,
            passes=max(self.passes, earlier.passes),
            carries=self.carries or earlier.carries,
            loss=_weighted((self.loss, self.responders), (earlier.loss, earlier.responders)),
        )

    def as_json(self) -> dict[str, Any]:
        """The fields of a scan that has ended."""
        return {name: value for name, value in vars(self).items() if name not in _UNSAVED}

    def as_report(self) -> dict[str, Any]:
        """The same with what follows from it, for `--stats`."""
        derived = ("rate", "at_most_missed", "missed_if_there", "within_bound")
        return self.as_json() | {name: getattr(self, name) for name in derived}


def _weighted(*parts: tuple[float | None, int]) -> float | None:
    measured = [(loss, answered) for loss, answered in parts if loss is not None]
    weight = sum(answered for _, answered in measured)
    return sum(loss * answered for loss, answered in measured) / weight if weight else None


def stats_of(document: dict[str, Any]) -> ScanStats:
    """What `as_json` gave. Raises TypeError for anything else."""
    usual = ScanStats()
    for name, value in document.items():
        kinds = _KINDS[type(vars(usual).get(name, ""))]
        if type(value) not in kinds:
            raise TypeError(f"{name} is no {kinds[0].__name__}" if kinds else f"{name} is unknown")
    fields: dict[str, Any] = {name: Counter(v) if isinstance(v, dict) else v for name, v in document.items()}
    return ScanStats(**fields)


# What a field with a default of this type may hold.
_KINDS: dict[type, tuple[type, ...]] = {
    int: (int,), float: (float, int), bool: (bool,), Counter: (dict,), type(None): (float, int, type(None)), str: (),
}  # fmt: skip
