"""The packets of a few targets, picked out of a stream of frames for their ladders.

A ladder wants every packet of one target in both directions, also those that no verdict is drawn from; the
stream may be a live scan's taps or the batches of a capture. Each batch is read once by the one
parser there is, and what does not name a wanted target costs a comparison.

Several probers of one target (two scanners in one capture) are kept apart by their address.

Limit: a target's first thousand packets; who needs more has a capture tool.
"""

import re
from collections import Counter
from ipaddress import ip_address
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..packet.addresses import from_ints, to_int, to_text
from ..packet.headers import ACK, FIN, PSH, RST, SYN, Bools, Frames, Rows
from ..packet.parse import Segments, parse
from ..verdict.table import Reason, Verdict, classify_icmp
from .ladder import Step, draw

EACH = "each"  # `--ladder` without a value: every target, if they are few
MOST_TARGETS = 8
MOST_STEPS = 1000
_FLAGS = ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (PSH, "PSH"), (ACK, "ACK"))
_ENDPOINT = re.compile(r"(?:\[(.+)\]|([^:\[\]]+)):([0-9]{1,5})")


class Endpoint(NamedTuple):
    """One target of a ladder: the address as text (RFC 5952) and the port."""

    ip: str
    port: int

    @property
    def address(self) -> Rows:
        """ADDRESS[1]."""
        return from_ints([to_int(ip_address(self.ip))])


def parse_endpoint(text: str) -> Endpoint:
    """`198.18.0.2:80` or `[2001:db8::2]:80`. Raises UsageError."""
    found = _ENDPOINT.fullmatch(text)
    try:
        if found and 0 < int(found[3]) < 65536:
            return Endpoint(str(ip_address(found[1] or found[2])), int(found[3]))
    except ValueError:
        pass
    raise UsageError(f"--ladder {text!r} is not an address and a port: write 198.18.0.2:80 or [2001:db8::2]:80")


class Trace:
    """Collects the steps of a few exchanges."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self.endpoints = endpoints
        self._steps: dict[tuple[Endpoint, str], list[Step]] = {}  # by target and prober
        self._addresses = [endpoint.address[0] for endpoint in endpoints]

    def see(self, frames: Frames, name: str = "") -> None:
        """Take the targets' packets out of a batch."""
        segments = parse(frames, Counter())
        for endpoint, address in zip(self.endpoints, self._addresses, strict=True):
            theirs = (segments.src == address) & (segments.sport == endpoint.port)
            ours = (segments.dst == address) & (segments.dport == endpoint.port) & ~segments.icmp
            if theirs.any() or ours.any():
                self._take(endpoint, segments, theirs, ours)

    def _take(self, endpoint: Endpoint, segments: Segments, theirs: Bools, ours: Bools) -> None:
        for row in np.flatnonzero(theirs | ours).tolist():
            one, from_us = segments.take(np.array([row])), bool(ours[row])
            us = to_text(one.src if from_us else one.dst)[0]
            steps = self._steps.setdefault((endpoint, us), [])
            if len(steps) >= MOST_STEPS:
                return
            steps.append(_step(one, from_us))

    def ladder(self, verdict: Verdict) -> str:
        """The drawing that leads to a verdict of one of the targets."""
        here = {us: steps for (endpoint, us), steps in self._steps.items() if endpoint == (verdict.ip, verdict.port)}
        us = verdict.scanner_ip or next(iter(here), "?")
        return draw(us, here.get(us, []), verdict)


def _step(one: Segments, from_us: bool) -> Step:
    icmp = bool(one.icmp[0])
    return Step(
        time_ns=int(one.time[0]),
        from_us=from_us,
        what=_icmp_name(one) if icmp else "/".join(word for bit, word in _FLAGS if one.flags[0] & bit) or "no flags",
        our_port=int((one.sport if from_us else one.dport)[0]),
        seq=int(one.seq[0]),
        ack=int(one.ack[0]) if one.flags[0] & ACK else None,
        window=None if icmp or one.flags[0] & RST else int(one.window[0]),
        router=to_text(one.sender)[0] if icmp and one.sender[0] != one.src[0] else None,
    )


def _icmp_name(one: Segments) -> str:
    reason = Reason(int(classify_icmp(one.version, one.icmp_type, one.icmp_code)[0]))
    return f"ICMP {reason.word}" if reason else f"ICMP {int(one.icmp_type[0])}/{int(one.icmp_code[0])}"
