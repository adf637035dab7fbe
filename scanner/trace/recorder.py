"""`--record`: what a live scan sent and received, in a capture file.

Whoever argues about a scan later needs its packets, and `classify` gives the same rows from them without root.
The recorder is a listener at the taps: it decides nothing and the scan does not know it. Every refusal comes before the
first packet leaves: a wrong suffix, a file that exists already, a missing folder, or two kinds of link in a
`.pcap`, which holds one.

A `.pcapng` also says how long the scan listened, so that silence after the last packet can be told from the
end of the recording, and that halfopen wrote it: a scan listens to both directions.

Limit: a reply after its window has closed changes no row of the scan any more, but it is in the file.
"""

import os
import stat
from collections.abc import Collection

from ..capture import PcapWriter
from ..capture.writer import check_name
from ..errors import UsageError
from ..packet.headers import Frames


class Recorder:
    """`see` is for Session's list of listeners; nothing is written before `open`."""

    def __init__(self, path: str, force: bool) -> None:
        """Raises UsageError if `path` is no name for a capture, or a file exists already (without `force`)."""
        self._plain = check_name(path)
        if os.path.exists(path) and stat.S_ISREG(os.stat(path).st_mode) and not force:
            raise UsageError(f"{path} exists and is not overwritten: name another file, or add --force")
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            raise UsageError(f"cannot record to {path}: there is no folder {folder}")
        self.path = path
        self._writer: PcapWriter | None = None

    def open(self, links: Collection[int]) -> None:
        """Create the file, for frames of these link types (LINKTYPE_ numbers). Raises UsageError."""
        if len(links) > 1 and self._plain.endswith(".pcap"):
            other = self._plain + "ng" + self.path[len(self._plain) :]
            raise UsageError(
                f"{self.path} can hold one kind of link and this scan uses {len(links)}: record to {other}"
            )
        self._writer = PcapWriter(self.path, min(links))

    def see(self, frames: Frames, name: str) -> None:
        """Append a batch that interface `name` carried. Raises ScanError when the disk does not take it."""
        assert self._writer, "opened before anything is sent"
        writer, self._writer = self._writer, None
        writer.write(frames, name)
        self._writer = writer  # only after success: a writer that failed has closed its file

    def close(self, started: int, ended: int, dropped: int | None = None) -> None:
        """Finish the file: when listening began and ended (ns), and how many frames the kernel dropped."""
        if self._writer:
            self._writer.close(started, ended, dropped=dropped)
            self._writer = None
