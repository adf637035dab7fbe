"""`--resume STATE`: the file that a scan can be taken up from, after Ctrl-C, kill -9 or a full disk.

The file says what was asked for, where the scan stood (`standing`), and how long each output file was at that
moment. Taking up is cutting each file back to that length and scanning on: what was written after the note was taken is
scanned and written again, so every target is decided exactly once in the files, whatever moment the end came at. A new
note replaces the old one in one step (write beside it, then rename), at most every two seconds, and only between two
windows, when every line that has been given out is in the files.

The order of hosts comes from the key in the file, and positions in it from targets, excludes and shard. So these must
be what they were, and so must everything else that decides what a row is or where it goes; what differs is named.
How fast and how quietly it goes on is free.
"""

import json
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import ScanError, UsageError
from ..rounds.resume_point import Standing, standing_of
from ..rounds.statistics import Sums, sums_of

FORMAT = "halfopen scan state, version 1"
INTERVAL = 2.0  # seconds between two notes, at least


class Written(NamedTuple):
    """One output file: how many bytes of it stand, and what its format must remember for the end."""

    path: str
    length: int
    memory: dict[str, Any]


class Note(NamedTuple):
    """What the file holds."""

    inputs: dict[str, str]
    standing: Standing
    sums: Sums
    outputs: list[Written]


class StateFile:
    """The state of one scan on disk. `note`: what an earlier part has left, None for a scan that begins."""

    def __init__(self, path: str, inputs: dict[str, str]) -> None:
        """`inputs`: what was asked for, by the name that a user knows it by. Raises UsageError."""
        self.path, self._inputs = path, inputs
        self.note = _read(path) if os.path.lexists(path) else None
        self._due = 0.0
        if self.note:
            _compare(path, self.note.inputs, inputs)
        elif not os.path.isdir(os.path.dirname(path) or "."):
            raise UsageError(f"cannot keep the state in {path}: there is no folder {os.path.dirname(path)}")

    @property
    def due(self) -> bool:
        """Whether it is time for a new note."""
        return time.monotonic() >= self._due

    def save(self, standing: Standing, sums: Sums, outputs: Sequence[tuple[str, int, dict[str, Any]]]) -> None:
        """Replace the note. Raises ScanError when the disk does not take it; then the old one still stands."""
        self._due = time.monotonic() + INTERVAL
        document = {
            "format": FORMAT,
            "inputs": self._inputs,
            "standing": standing.as_json(),
            "sums": vars(sums),
            "outputs": [Written(*each)._asdict() for each in outputs],
        }
        beside = self.path + ".new"
        try:
            with open(beside, "w", encoding="utf-8") as file:
                json.dump(document, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self.path)
        except OSError as error:
            raise ScanError(f"cannot keep the state in {self.path}: {error.strerror}") from error

    def remove(self) -> None:
        """The scan is complete: there is nothing to take up."""
        for path in (self.path, self.path + ".new"):
            if os.path.lexists(path):
                os.unlink(path)


def _read(path: str) -> Note:
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except OSError as error:
        raise UsageError(f"cannot read the state {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is no state of a scan: name a file that --resume has made, or a new one") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UsageError(f"{path} is no state of a scan: name a file that --resume has made, or a new one")
    try:
        inputs = {str(name): str(text) for name, text in document["inputs"].items()}
        outputs = [
            Written(str(each["path"]), int(each["length"]), dict(each["memory"])) for each in document["outputs"]
        ]
        return Note(inputs, standing_of(document["standing"]), sums_of(document["sums"]), outputs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"the state in {path} is damaged ({error!r}): scan anew") from error


def _compare(path: str, before: dict[str, str], now: dict[str, str]) -> None:
    """Raises UsageError naming the first input that differs."""
    for name in [*now, *(name for name in before if name not in now)]:
        old, new = before.get(name, ""), now.get(name, "")
        if old != new:
            raise UsageError(
                f"--resume {path} goes on with a scan whose {name} was {old or 'not given'} and now is "
                f"{new or 'not given'}: give what was given, or name another state"
            )
