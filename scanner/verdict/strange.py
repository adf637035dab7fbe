"""Replies that no honest host can have sent here, told by their IP header alone.

The cookie says that somebody saw the probe. That may be a machine beside the path that forges replies. Some replies
contradict themselves, and they are rejected by cause, in a live scan as in a capture:

- TTL 0: a packet with it must not leave its sender (RFC 1122 3.2.1.7).
- An ICMP error from a loopback, multicast or broadcast address: they are no sources (RFC 1122 3.2.1.3, RFC 4291 2.7).
- An ICMP error from the prober's own address: what our own kernel says comes over loopback and tells of no path.

Who scans an own address hears from it, and so the target of the probe itself may always answer.
"""

from collections import Counter

import numpy as np

from ..packet.headers import MAPPED, Bools, Rows
from ..packet.parse import Segments
from .table import Rejected

_BROADCAST = np.uint64(MAPPED | 0xFFFF_FFFF)


def without_strange(segments: Segments, counts: Counter[str]) -> Bools:
    """Which rows are none of these replies, bool[n]; the others are added to `counts` by cause."""
    good = segments.ttl > 0
    if not good.all():
        counts[Rejected.TTL_ZERO.value] += int(np.count_nonzero(~good))
    if not segments.icmp.any():
        return good
    sender, error = segments.sender, segments.icmp
    elsewhere = error & (sender != segments.src)
    causes = (
        (error & _group(sender), Rejected.ICMP_FROM_MULTICAST),
        (elsewhere & _loopback(sender), Rejected.ICMP_FROM_LOOPBACK),
        (elsewhere & (sender == segments.dst), Rejected.ICMP_FROM_US),
    )
    for wrong, cause in causes:
        counts[cause.value] += int(np.count_nonzero(good & wrong))
        good &= ~wrong
    return good


def _group(address: Rows) -> Bools:
    """Multicast and limited broadcast."""
    hi, lo = address["hi"], address["lo"]
    four = (hi == 0) & ((lo >> np.uint64(28) == MAPPED >> 28 | 0xE) | (lo == _BROADCAST))
    return np.asarray(four | (hi >> np.uint64(56) == 0xFF))


def _loopback(address: Rows) -> Bools:
    """127.0.0.0/8 and ::1."""
    return np.asarray(
        (address["hi"] == 0) & ((address["lo"] >> np.uint64(24) == MAPPED >> 24 | 127) | (address["lo"] == 1))
    )
