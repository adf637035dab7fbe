"""The packets of one target, picked out of a stream of frames for its ladder."""

from collections import Counter

import numpy as np

from .addresses import to_text
from .headers import ACK, FIN, PSH, RST, SYN, Frames, Rows
from .ladder import Step
from .verdict import Reason, classify_icmp
from .wire import Segments, parse

_FLAGS = ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (PSH, "PSH"), (ACK, "ACK"))
MOST_STEPS = 1000


class Trace:
    """Collects the steps of one exchange; `us` is the prober's address as text once a packet was seen."""

    def __init__(self, target: Rows, port: int) -> None:
        self.steps: list[Step] = []
        self.us = "?"
        self._target, self._port = target[0], port

    def see(self, frames: Frames, name: str = "") -> None:
        """Take the target's packets out of a batch."""
        segments = parse(frames, Counter())
        theirs = (segments.src == self._target) & (segments.sport == self._port)
        ours = (segments.dst == self._target) & (segments.dport == self._port) & ~segments.icmp
        for row in np.flatnonzero(theirs | ours)[: MOST_STEPS - len(self.steps)].tolist():
            self._step(segments.take(np.array([row])), bool(ours[row]))

    def _step(self, one: Segments, from_us: bool) -> None:
        self.us = to_text(one.src if from_us else one.dst)[0]
        icmp = bool(one.icmp[0])
        what = _icmp_name(one) if icmp else "/".join(word for bit, word in _FLAGS if one.flags[0] & bit) or "no flags"
        self.steps.append(
            Step(
                time_ns=int(one.time[0]),
                from_us=from_us,
                what=what,
                our_port=int((one.sport if from_us else one.dport)[0]),
                seq=int(one.seq[0]),
                ack=int(one.ack[0]) if one.flags[0] & ACK else None,
                window=None if icmp or one.flags[0] & RST else int(one.window[0]),
                router=to_text(one.sender)[0] if icmp and one.sender[0] != one.src[0] else None,
            )
        )


def _icmp_name(one: Segments) -> str:
    reason = Reason(int(classify_icmp(one.version, one.icmp_type, one.icmp_code)[0]))
    return f"ICMP {reason.word}" if reason else f"ICMP {int(one.icmp_type[0])}/{int(one.icmp_code[0])}"
