"""The sums of a scan in words, for people.

Everything that could make a verdict weaker than it looks is said here: replies that were rejected
and why, frames that this machine lost itself, the loss on the path and what was probably missed.
"""

from .statistics import Sums

_QUIET = (
    "other-protocol",
    "other-icmp",
    "arp",
    "not-to-us",
    "own-probe",
    "ARP",
    "not IP",
    "not-ip",
)  # other programs' traffic; not worth a line to everybody


def summary_lines(sums: Sums) -> list[str]:
    """The summary as lines without a line end."""
    lines = [
        f"{_count(sums.targets, 'target')} in {sums.seconds:.2f} s, {_count(sums.passes, 'pass')}: "
        f"{sums.sent['probe']:,} probes, {sums.sent['query']:,} queries and {sums.sent['reset']:,} resets sent"
        f"{_speed(sums)}; "
        f"{_count(sums.replies, 'reply')}" + (f", {sums.late:,} late" if sums.late else "")
    ]
    lines.append(_trust(sums))
    rejected = {cause: count for cause, count in sums.rejected.items() if cause not in _QUIET}
    if rejected:
        lines.append("rejected: " + ", ".join(f"{count:,} {cause}" for cause, count in sorted(rejected.items())))
    lines.append(f"kernel drops: {sums.ring_drops:,} received, {sums.interface_drops:,} sent")
    lines += [f"put off {count:,} times: {cause}" for cause, count in sorted(sums.shortages.items())]
    if sums.silent_counted:
        lines.append(
            f"{sums.silent_counted:,} silent targets (filtered, no-response) counted and not listed; --all lists them"
        )
    if sums.interrupted:
        lines.append("interrupted: targets that were not probed, or not long enough ago, have no row")
    return lines


def _trust(sums: Sums) -> str:
    if sums.loss is None:
        if not sums.answered:
            return "loss unknown: nobody answered"
        return "loss not measured: everyone answered at once" if sums.passes == 1 else "loss unknown: no TCP answer"
    return f"loss {sums.loss:.1%} a round trip; expected missed responders: {sums.expected_missed:.4f}"


def _speed(sums: Sums) -> str:
    """The rate; a scan of a few milliseconds has none worth the name."""
    return f" at {sums.rate:,.0f}/s ({_allowed(sums.asked_rate)})" if sums.sending_seconds >= 0.1 else ""


def _allowed(rate: float | None) -> str:
    return "auto" if rate is None else f"{rate:,.0f}/s allowed" if rate else "unlimited"


def _count(number: int, word: str) -> str:
    plural = {"reply": "replies", "pass": "passes"}.get(word, word + "s")
    return f"{number:,} {word if number == 1 else plural}"
