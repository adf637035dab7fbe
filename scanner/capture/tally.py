"""What reading a set of captures found out besides the frames: damage, counts, the last moment seen.

Strange bytes are never raised. Each piece of damage becomes one line here that names the file, the
byte offset and the cause; what was readable before it has been delivered. The caller decides the
exit code: nothing opened is 2, anything damaged is 1. `CaptureReader` is that record together
with the frames themselves; its counts are complete once the iteration has ended.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..packet.headers import Frames

NO_TIME = -(1 << 63)  # the `time` of a frame whose record carries no time stamp


RECORDED_BY = b"halfopen"  # how our own recordings are signed


class Damage(NamedTuple):
    """One thing wrong with one file. `offset` counts bytes from its start; of its unpacked content if it is gzip."""

    file: str
    offset: int
    cause: str

    def __str__(self) -> str:
        return f"{self.file}: byte {self.offset}: {self.cause}"


@dataclass
class CaptureReader:
    """Iterate it once for batches of Frames, in time order; each batch lives until the next one is fetched.

    Times are nanoseconds since 1970. `largest_time` is NO_TIME while no frame carried a time; `end_time` is the
    latest isb_endtime of a pcapng file, if there is any. `both_ways`: some pcapng file is a scan's own recording,
    which has what was sent and what came back. `skipped` counts records that were passed over, by cause.
    """

    batches: Iterator[Frames] = field(default_factory=lambda: iter(()))
    opened: int = 0  # files that are captures
    frames: int = 0
    damage: list[Damage] = field(default_factory=list)
    links: Counter[int] = field(default_factory=Counter)  # frames per LINKTYPE_ number
    skipped: Counter[str] = field(default_factory=Counter)
    largest_time: int = NO_TIME
    has_untimed: bool = False
    end_time: int | None = None
    both_ways: bool = False

    def __iter__(self) -> Iterator[Frames]:
        return self.batches

    def saw(self, frames: Frames) -> Frames:
        """Count a batch that is about to be delivered."""
        self.frames += len(frames)
        self.largest_time = max(self.largest_time, int(frames.time.max()))
        self.has_untimed = self.has_untimed or int(frames.time.min()) == NO_TIME
        first = int(frames.link[0])
        if (frames.link == first).all():
            self.links[first] += len(frames)
        else:
            for link, count in zip(*np.unique(frames.link, return_counts=True), strict=True):
                self.links[int(link)] += int(count)
        return frames

    def hurt(self, file: str, offset: int, cause: str) -> None:
        """Note damage."""
        self.damage.append(Damage(file, offset, cause))
