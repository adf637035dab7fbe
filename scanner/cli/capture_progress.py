"""How far the reading of captures is, for `progress`.

Bytes are those of the files, packed ones of gzip, and all files together. A pipe has no size, so there is no share and
no time left. The time left is that of reading, from the time that each byte has taken so far; judging and writing come
after it, and say that they are under way. With `--gap` the bytes of both readings count.
"""

from contextlib import AbstractContextManager
from typing import Any

from ..classifier.classification import Classification, Step
from .progress import Progress, Speed, shown, time_left

DELAY = 1.0  # seconds before the first line: most captures are read by then
SPEED_INTERVAL = 1.0  # seconds: packets are counted in batches of some 60,000
LEAST_SHARE = 0.01  # the share of the bytes read before there is an estimate of the time left


class CaptureProgress:
    """A `progress.Source` of one reading of captures."""

    def __init__(self, reading: Classification) -> None:
        self._reading, self._speed, self._rate = reading, Speed(SPEED_INTERVAL), 0.0

    def news(self) -> tuple[str, ...]:
        """Nothing: rows leave by themselves."""
        return ()

    def facts(self, seconds: float) -> dict[str, Any]:
        """How far the reading is, for a program."""
        reading, capture = self._reading, self._reading.capture
        done, size, _ = reading.done
        return {
            "step": reading.step.value, "bytes": done, "size": size, "packets": capture.frames,
            "rate": round(self._packets_per_second(seconds)), "targets": reading.judged_targets,
            "written": reading.handed_out, "seconds_left": self._seconds_left(seconds),
        }  # fmt: skip

    def line(self, seconds: float) -> str:
        """How far the reading is, for a person."""
        reading, capture = self._reading, self._reading.capture
        if reading.step is Step.JUDGING:
            return f"{capture.frames:,} packets read; judging"
        if reading.step is Step.WRITING:
            share = reading.handed_out / max(1, reading.judged_targets)
            return f"{capture.frames:,} packets read; writing {share:.0%} of {reading.judged_targets:,} targets"
        read, size, _ = reading.done
        done = f"{min(1.0, read / size):.0%} of {size / 1e6:,.0f} MB" if size else f"{read / 1e6:,.0f} MB"
        parts = [done, f"{capture.frames:,} packets", f"{self._packets_per_second(seconds):,.0f}/s"]
        left = self._seconds_left(seconds)
        if left is not None:
            parts.append(time_left(left))
        return "; ".join(parts)

    def _packets_per_second(self, seconds: float) -> float:
        """The speed of reading; after it the latest one."""
        if self._reading.step is Step.READING:
            self._rate = self._speed.at(seconds, self._reading.done[2])
        return self._rate

    def _seconds_left(self, seconds: float) -> float | None:
        """The estimated seconds until everything is read. None: a pipe, too early to tell, or reading is over."""
        done, size, _ = self._reading.done
        if self._reading.step is not Step.READING or not size or done < LEAST_SHARE * size:
            return None
        return round(seconds / done * max(0, size - done), 1)


def watched(reading: Classification, quiet: bool, form: str) -> AbstractContextManager[Progress]:
    """The progress of a reading while a block runs."""
    return shown(CaptureProgress(reading), quiet, form, DELAY, by_itself=True)
