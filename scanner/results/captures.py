"""Captures among results: they are judged as `classify` does by default.

A capture is opened twice, to see what it is and to read it, so it must be a regular file. What could not be judged is a
note; a capture of which nothing could be read is an error.
"""

from collections.abc import Callable, Iterator

from ..capture.source import Capture, file_name
from ..classifier.classification import Classification
from ..errors import UsageError
from ..packet.headers import Frames
from ..targets.files import Tell
from ..verdict.rows import Verdict
from .runs import RunFacts

Note = Callable[[str], None]


def classified(paths: list[str], note: Note, tell: Tell | None, runs: list[RunFacts]) -> Iterator[Verdict]:
    """The verdicts of captures, all of which are one capture.

    `note` gets a line for what was not judged, `tell` the bytes read, `runs` what the captures held. Raises UsageError.
    """
    reading = Classification(paths)
    if tell:
        reading.capture.batches = _told_frames(reading.capture, iter(reading.capture), paths, tell)
    for batch in reading.batches():
        yield from batch
    if not reading.capture.opened:
        raise UsageError(f"{reading.report()[0]}: name a capture that can be read")
    runs.append(RunFacts(", ".join(map(file_name, paths)), summary=reading.report()[0]))
    for line in reading.report()[1:]:
        note(line)


def _told_frames(capture: Capture, batches: Iterator[Frames], paths: list[str], tell: Tell) -> Iterator[Frames]:
    name = paths[0] if len(paths) == 1 else f"{len(paths)} captures"
    for frames in batches:
        tell(name, capture.bytes_read, capture.size or 0)
        yield frames
