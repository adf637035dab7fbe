"""ARP scans in a capture: they give no rows, and the report names them.

A file of nothing but ARP would otherwise end without a word. One machine that asks for many addresses scans a network,
or is a router with packets for all of them (as during a scan from outside). The capture does not tell these apart, so
the line says what was seen. Only distinct questions are kept: memory grows with the addresses, not with the packets.

Limit: neighbour discovery of IPv6 is not counted here.

Source: RFC 826 (request, reply); RFC 5227 1.1 (a request for an address of one's own is an announcement or a test).
"""

import numpy as np

from ..packet.addresses import from_ipv4, to_text
from ..packet.headers import U64
from .keys import Numbering

_MANY = 16  # addresses; a client asks for its gateway, its name server and a few others
_MOST_LINES = 3
_LOW = np.uint64(0xFFFF_FFFF)
_ASKED, _ANSWERED = 0, 1


class ArpScans:
    """Who asked for how many addresses, and how many of these answered."""

    def __init__(self) -> None:
        self._pairs = Numbering()

    def see(self, batches: list[tuple[U64, U64]]) -> None:
        """Requests and replies, each as the IPv4 address that asks << 32 | the address that is asked for."""
        for asked, answered in batches:
            for kind, pairs in ((_ASKED, asked[asked >> np.uint64(32) != asked & _LOW]), (_ANSWERED, answered)):
                pairs = np.unique(pairs)
                self._pairs.intern(pairs, np.full(len(pairs), kind, np.uint64))

    def lines(self) -> list[str]:
        """A line for each of the few machines that asked for most addresses, if these are many."""
        pairs, kind = self._pairs.keys[:, 0], self._pairs.keys[:, 1]
        asked = pairs[kind == _ASKED]
        who, counts = np.unique(asked >> np.uint64(32), return_counts=True)
        answers = np.intersect1d(asked, pairs[kind == _ANSWERED]) >> np.uint64(32)
        order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts >= _MANY)]
        lines = []
        for at in order[:_MOST_LINES].tolist():
            answered = int(np.count_nonzero(answers == who[at]))
            asker = to_text(from_ipv4(who[at : at + 1]))[0]
            said = f"{asker} asked for {counts[at]:,} addresses by ARP, and {answered:,} answered"
            lines.append(f"{said}: an ARP scan, or a router; ARP is not judged")
        if len(order) > _MOST_LINES:
            lines.append(f"{len(order) - _MOST_LINES:,} more machines asked for {_MANY} addresses or more by ARP")
        return lines
