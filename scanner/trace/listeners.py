"""What of a live scan's packets is shown: a recording, the ladders of a few targets, a line for each frame.

All are listeners at the same taps, all are optional, and all need the verb's care in the same places: checked
before anything is sent, fed while the scan runs, finished however it ends. So they are one thing for
the verb, and a scan without any of them has no tap at all.

Limit: with ladders every frame is parsed a second time, and Scapy sums up some thousand frames a second; both are for
few targets.
"""

import sys
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import UsageError
from ..packet.addresses import to_text
from ..packet.headers import LINK_ETHERNET, Frames
from ..packet.template import frame_summary
from ..targets.hostspace import HostSpace
from ..transport.tap import See
from ..verdict.sentences import printable
from ..verdict.table import Verdict

if TYPE_CHECKING:
    from .exchange import Endpoint, Trace
    from .recorder import Recorder


class Watch:
    """The listeners of one scan: `see` is for its Session."""

    def __init__(
        self, record: str | None, force: bool, endpoints: list["Endpoint"], packet_trace: bool = False
    ) -> None:
        """Raises UsageError for a recording that cannot be."""
        self._recorder = _recorder(record, force) if record else None
        self._trace = _trace(endpoints) if endpoints else None
        self._verdicts: list[Verdict] = []
        self.see: list[See] = [each.see for each in (self._recorder, self._trace) if each]
        if packet_trace:
            self.see.append(print_frames)

    def open(self, links: Collection[int]) -> None:
        """Before the first frame: its link types. Raises UsageError."""
        if self._recorder:
            self._recorder.open(links)

    def noting(self, rows: Iterable[Verdict]) -> Iterator[Verdict]:
        """The same rows; those of the ladders' targets are remembered."""
        wanted = set(self._trace.endpoints) if self._trace else set()
        for verdict in rows:
            if (verdict.ip, verdict.port) in wanted:
                self._verdicts.append(verdict)
            yield verdict

    def close(self, started: int, ended: int, dropped: int | None) -> None:
        """After the last frame: when listening began and ended (ns), and how many frames the kernel dropped."""
        if self._recorder:
            self._recorder.close(started, ended, dropped=dropped)

    def ladders(self) -> str:
        """The drawings, one below the other."""
        return "\n".join(self._trace.ladder(verdict) for verdict in self._verdicts) if self._trace else ""


def print_frames(frames: Frames, name: str) -> None:
    """A line on stderr for each frame: its time of day, the interface, and what Scapy says of it."""
    columns = (frames.start.tolist(), frames.length.tolist(), frames.time.tolist(), frames.link.tolist())
    for start, length, when, link in zip(*columns, strict=True):
        clock = time.strftime("%H:%M:%S", time.localtime(when // 1_000_000_000))
        text = frame_summary(frames.buffer[start : start + length].tobytes(), link == LINK_ETHERNET)
        with suppress(OSError):  # who does not listen any more takes nothing from the scan
            print(f"{clock}.{when // 1000 % 1_000_000:06} {name} {printable(text)}", file=sys.stderr)


def _recorder(path: str, force: bool) -> "Recorder":
    """Most scans record and draw nothing, and need not wait for these modules."""
    from .recorder import Recorder

    return Recorder(path, force)


def _trace(endpoints: list["Endpoint"]) -> "Trace":
    from .exchange import Trace

    return Trace(endpoints)


def scan_endpoints(ladder: str | None, hosts: HostSpace, ports: npt.NDArray[np.uint16]) -> list["Endpoint"]:
    """The targets to be drawn. Raises UsageError for what is no target of the scan, or for too many."""
    if ladder is None:
        return []
    from .exchange import EACH, MOST_TARGETS, Endpoint, parse_endpoint

    if ladder != EACH:
        wanted = parse_endpoint(ladder)
        if hosts.index_of(wanted.address)[0] < 0 or wanted.port not in ports:
            raise UsageError(f"--ladder {ladder} is no target of this scan: add it to the targets and to -p")
        return [wanted]
    size = hosts.size * len(ports)
    if size > MOST_TARGETS:
        raise UsageError(f"--ladder draws {MOST_TARGETS} targets at most and this scan has {size:,}: name one, IP:PORT")
    names = to_text(hosts.pick(np.arange(hosts.size, dtype=np.uint64)))
    return [Endpoint(name, port) for name in names for port in ports.tolist()]
