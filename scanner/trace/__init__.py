"""Packets shown to people: recorded, drawn as ladders, printed line by line.

`Watch` is the object that the verb of a live scan uses. All that it holds is optional, listens at the same taps, and
needs the same care: checked before anything is sent, fed while the scan runs, finished however the scan ends.
A scan that shows nothing has no tap at all. No verdict depends on a listener. `ladder` serves captures too.

Limit: with ladders every frame is parsed a second time, and Scapy describes some thousand frames a second; both are for
few targets.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from ..verdict.rows import Verdict
from .ladder import LadderTarget, TargetPackets
from .packet_trace import print_frames
from .recorder import Recorder

if TYPE_CHECKING:  # `classify` draws ladders where there are no packet sockets
    from ..transport.tap import See

__all__ = ["Watch"]


class Watch:
    """The listeners of one scan: `see` is for its Session."""

    def __init__(self, record: str | None, force: bool, targets: list[LadderTarget], packet_trace: bool) -> None:
        """Raises UsageError for a recording that cannot be made."""
        self._recorder = Recorder(record, force) if record else None
        self._packets = TargetPackets(targets)
        self._verdicts: list[Verdict] = []
        self.see: list[See] = []
        if self._recorder:
            self.see.append(self._recorder.see)
        if targets:
            self.see.append(self._packets.see)
        if packet_trace:
            self.see.append(print_frames)

    def open(self, links: Collection[int]) -> None:
        """Before the first frame: the link types of all frames. Raises UsageError."""
        if self._recorder:
            self._recorder.open(links)

    def noting(self, rows: Iterable[Verdict]) -> Iterator[Verdict]:
        """The same rows; those of the ladders' targets are remembered."""
        wanted = set(self._packets.targets)
        for verdict in rows:
            if (verdict.ip, verdict.port) in wanted:
                self._verdicts.append(verdict)
            yield verdict

    def close(self, started: int, ended: int, dropped: int | None) -> None:
        """After the last frame: when listening began and ended (ns), and how many frames the kernel dropped."""
        if self._recorder:
            self._recorder.close(started, ended, dropped)

    def ladders(self) -> str:
        """The drawings, one below the other."""
        return "\n".join(map(self._packets.ladder, self._verdicts))
