"""Packets shown to people: recorded (`--record`), drawn as ladders, printed line by line (`--packet-trace`).

`Watch` is the object that the verb of a live scan uses. All that it holds is optional and listens at the same taps. It
is checked before anything is sent, fed while the scan runs, and finished however the scan ends. A scan that shows
nothing has no tap. No verdict depends on a listener. `ladder` serves captures too.

A recording holds what a scan sent and received, so `classify` gives the same rows from it without root. A reply after
its window has closed changes no row of the scan any more, but it is in the file. A line of the packet trace is Scapy's
summary: Scapy knows every protocol that may turn up on the wire.

Limit: with ladders every frame is parsed a second time, and Scapy describes some thousand frames a second; both are for
few targets.
"""

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import note
from ..packet.headers import LINK_ETHERNET, Frames
from ..packet.template import frame_summary
from ..verdict.rows import Verdict
from ..verdict.sentences import printable

if TYPE_CHECKING:  # a scan that shows nothing does not wait for these modules
    from ..capture.writer import PcapWriter
    from ..transport.tap import See
    from .ladder import LadderTarget, TargetPackets


class Watch:
    """The listeners of one scan: `see` is for its Session."""

    def __init__(self, record: str | None, force: bool, targets: "list[LadderTarget]", packet_trace: bool) -> None:
        """Raises UsageError for a recording that cannot be made."""
        self._record, self._force, self._targets = record, force, set(targets)
        self._writer: PcapWriter | None = None
        self._packets: TargetPackets | None = None
        self._verdicts: list[Verdict] = []
        self.see: list[See] = [print_frames] if packet_trace else []
        if targets:
            from . import ladder

            self._packets = ladder.TargetPackets(targets)
            self.see.insert(0, self._packets.see)
        if record:
            from ..capture.writer import check_path

            check_path(record, force)
            self.see.insert(0, self._write)

    def open(self, links: Collection[int]) -> None:
        """Before the first frame: the link types of all frames (LINKTYPE_ numbers). Raises UsageError or ScanError.

        A recording that is there already is replaced by `begin`.
        """
        if self._record:
            from ..capture.writer import PcapWriter

            self._writer = PcapWriter(self._record, links, self._force, later=True)

    def begin(self) -> None:
        """Every other output is open: the recording takes its name. Raises UsageError."""
        if self._writer:
            self._writer.begin()

    def abandon(self) -> None:
        """The scan has ended. If it has not begun, no recording is left, and an older one is as it was."""
        if self._writer:
            self._writer.abandon()

    def _write(self, frames: Frames, name: str) -> None:
        assert self._writer, "opened before anything is sent"
        self._writer.write(frames, name)

    def noting(self, rows: Iterable[Verdict]) -> Iterator[Verdict]:
        """The same rows; those of the ladders' targets are remembered."""
        for verdict in rows:
            if (verdict.ip, verdict.port) in self._targets:
                self._verdicts.append(verdict)
            yield verdict

    def close(self, started: int, ended: int, dropped: int) -> None:
        """After the last frame: when listening began and ended (ns), and how many frames the kernel dropped."""
        if self._writer:
            self._writer.close(started, ended, dropped)

    def ladders(self) -> str:
        """The drawings, one below the other."""
        return "\n".join(map(self._packets.ladder, self._verdicts)) if self._packets else ""


def print_frames(frames: Frames, name: str) -> None:
    """Print a line on standard error for each frame that interface `name` carried: time of day, name, summary."""
    columns = (frames.start.tolist(), frames.length.tolist(), frames.time.tolist(), frames.link.tolist())
    for start, length, when, link in zip(*columns, strict=True):
        clock = time.strftime("%H:%M:%S", time.localtime(when // 1_000_000_000))
        text = frame_summary(frames.buffer[start : start + length].tobytes(), link == LINK_ETHERNET)
        with suppress(OSError):  # a closed standard error does not end the scan
            note(f"{clock}.{when // 1000 % 1_000_000:06} {name} {printable(text)}", prefix="")
