"""What the owner of a machine lets its worker do, whatever a job says.

A worker sends packets where a message from elsewhere says so. So its owner bounds it: how fast (`--max-rate`), and to
which addresses (`--allow`, `--deny`). A job that goes beyond is refused as a whole, with the reason, before any packet.

Without `--allow` every address is allowed that is a host on a network. This machine's own addresses of loopback,
multicast, broadcast and "this network" must be allowed by name: a job could otherwise ask what listens here for nobody
else. Source: RFC 6890.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .._version import __version__
from ..errors import UsageError
from ..targets.blocks import Blocks, blocks_of, outside, ranges_of, size_of, union
from ..targets.literals import span_of
from ..verdict.sentences import plural
from .job import Job
from .messages import Message

_NOT_BY_ITSELF = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255", "::/127", "ff00::/8")


class Limits(NamedTuple):
    """`max_rate`: frames a second, None: no limit. `allowed`: None: every ordinary address. `raw`: why no raw packets
    can be sent here, or None."""

    max_rate: float | None
    allowed: Blocks | None
    denied: Blocks
    raw: str | None = None


def limits_of(max_rate: float | None, allow: Sequence[str], deny: Sequence[str], raw: str | None) -> Limits:
    """From what the owner typed. Raises UsageError."""
    if max_rate is not None and not max_rate > 0:
        raise UsageError(f"--max-rate {max_rate:g} must be above 0")
    return Limits(max_rate, _blocks(allow) if allow else None, _blocks(deny), raw)


def refusal_of_offer(offer: Message, limits: Limits) -> str | None:
    """Why this worker takes no piece of a scan, by its offer; None: it may."""
    if offer["version"] != __version__:
        return f"it is version {__version__}, and the scan needs {offer['version']}"
    return limits.raw if offer["verb"] == "syn" else None


def refusal(job: Job, limits: Limits) -> str | None:
    """Why this worker takes no piece of a job; None: it does."""
    hosts = job.spaces.hosts
    denied = limits.denied if limits.allowed else union(limits.denied, _blocks(_NOT_BY_ITSELF))
    beyond = size_of(outside(hosts.blocks, limits.allowed)) if limits.allowed else 0
    if beyond:
        return f"{plural(beyond, 'address')} of the scan beyond what its owner allows (--allow)"
    if count := hosts.count(denied):
        return f"{plural(count, 'address')} of the scan that its owner denies (--deny)"
    return None


def _blocks(texts: Sequence[str]) -> Blocks:
    """Addresses, networks and ranges as a set. Raises UsageError."""
    words = [word for text in texts for word in text.split(",") if word]
    spans = [span_of(word) for word in words]
    for word, span in zip(words, spans, strict=True):
        if span is None:
            raise UsageError(
                f"{word!r} is no address or network: --allow and --deny take 192.0.2.0/24 or 2001:db8::/32"
            )
    return blocks_of(ranges_of(span for span in spans if span))
