"""`--packet-trace`: a line on standard error for each frame that a scan sends or receives.

The line holds the time of day, the interface, and Scapy's summary of the frame. Scapy knows every protocol that may
turn up on the wire, and people cannot read more lines a second than it can write (some thousand).
"""

import time
from contextlib import suppress

from ..errors import note
from ..packet.headers import LINK_ETHERNET, Frames
from ..packet.template import frame_summary
from ..verdict.sentences import printable


def print_frames(frames: Frames, name: str) -> None:
    """Print the frames of a batch that interface `name` carried."""
    columns = (frames.start.tolist(), frames.length.tolist(), frames.time.tolist(), frames.link.tolist())
    for start, length, when, link in zip(*columns, strict=True):
        clock = time.strftime("%H:%M:%S", time.localtime(when // 1_000_000_000))
        text = frame_summary(frames.buffer[start : start + length].tobytes(), link == LINK_ETHERNET)
        with suppress(OSError):  # a closed standard error does not end the scan
            note(f"{clock}.{when // 1000 % 1_000_000:06} {name} {printable(text)}", prefix="")
