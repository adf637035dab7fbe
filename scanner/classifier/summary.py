"""What a capture held besides rows: in words for people, and in numbers for `--stats`.

Nothing is left out in silence. What answered no probe is rejected, with the causes of a live scan. Packets of scans
that are no SYN scans are named by kind. The rest is not judged: other protocols, other segments of TCP, and what nobody
reads.
"""

from collections import Counter
from typing import Any

from ..packet.link import Cause
from ..packet.tunnel import Kind, Tunnels
from ..packet.unread import ETHERTYPE, UNSUPPORTED_LINK
from ..verdict.sentences import plural
from ..verdict.table import Rejected
from .leftover import SCAN

_MOST_NAMED = 8  # EtherTypes
_REJECTED = frozenset(cause.value for cause in Rejected)
_SAID_OTHERWISE = (Cause.ARP.words, Rejected.NOT_ASKED.value)  # ARP is expected; targets without a probe are counted


def tunnel_counts(tunnels: Tunnels | None) -> dict[str, int]:
    """How many packets were looked into, by the kind of tunnel."""
    counts = zip(Kind, tunnels.packets[1:].tolist(), strict=True) if tunnels else ()
    return {kind.words: count for kind, count in counts if count}


def tunnel_lines(tunnels: Tunnels | None) -> list[str]:
    """The same in words."""
    inside = ", ".join(f"{count:,} {kind}" for kind, count in tunnel_counts(tunnels).items())
    return [f"packets inside tunnels: {inside}"] if inside else []


def unread_lines(counts: Counter[str]) -> list[str]:
    """Packets by cause, in words: what was rejected, link types that are not supported, scans, and everything else."""
    rejected, lines, others, unknown = [], [], [], Counter[str]()
    for cause, count in sorted(counts.items()):
        if not count or cause in _SAID_OTHERWISE:
            continue
        if cause in _REJECTED:
            rejected.append(f"{count:,} {cause}")
        elif cause.startswith(UNSUPPORTED_LINK):
            lines.append(f"{plural(count, 'packet')} of {cause} not supported")
        elif cause.startswith(ETHERTYPE):
            unknown[cause] = count
        elif cause.endswith(SCAN):
            lines.append(f"{plural(count, 'packet')} of {'an' if cause[0] in 'AX' else 'a'} {cause}: not judged")
        else:
            others.append(f"{count:,} {cause}")
    others += [f"{count:,} {cause}" for cause, count in unknown.most_common(_MOST_NAMED)]
    rest = [count for _, count in unknown.most_common()[_MOST_NAMED:]]  # a hostile file may hold thousands
    others += [f"{sum(rest):,} of {len(rest):,} other EtherTypes"] if rest else []
    named = [("rejected: ", rejected), ("not judged: ", others)]
    return lines + [text + ", ".join(causes) for text, causes in named if causes]


def count_report(counts: Counter[str]) -> dict[str, Any]:
    """The same as numbers: `rejected`, `scans` and `not_judged`, each by cause."""
    sorts: dict[str, dict[str, int]] = {"rejected": {}, "scans": {}, "not_judged": {}}
    for cause, count in sorted(counts.items()):
        if count:
            sort = "rejected" if cause in _REJECTED else "scans" if cause.endswith(SCAN) else "not_judged"
            sorts[sort][cause.removesuffix(SCAN)] = count
    return sorts
