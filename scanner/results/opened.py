"""What a file of results is, by its first bytes: a capture, or text. gzip is unpacked on the way.

Suffixes may be wrong, and `<(…)` has none. A file that is to be read twice must be a regular one, because what has been
read from a pipe is gone.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..capture.pcap import MAGICS
from ..capture.pcapng import MAGIC
from ..capture.source import file_name
from ..errors import UsageError
from ..gzipped import DAMAGED, unpacked


def is_text(path: str) -> bool:
    """Whether this is a regular file that is no capture: it can be read twice, and row by row. Raises UsageError."""
    if path == "-" or not os.path.isfile(path):
        return False
    with opened(path) as (_, stream):
        return not is_capture(stream)


@contextmanager
def opened(path: str) -> Iterator[tuple[io.BufferedReader, io.BufferedReader]]:
    """The file, and its content, unpacked; closed at the end (standard input stays open)."""
    try:
        raw = open(0 if path == "-" else path, "rb", closefd=path != "-")  # noqa: SIM115 (the next block closes it)
    except OSError as error:
        raise UsageError(f"{file_name(path)} cannot be read ({error.strerror}): name a file of results") from error
    with raw, unpacked(raw) as stream:
        yield raw, stream


def begins_as_capture(path: str) -> bool:
    """Whether this file begins as a capture does. Also one that cannot be opened: whoever reads it says why."""
    try:
        with opened(path) as (_, stream):
            return is_capture(stream)
    except UsageError:
        return True


def is_capture(stream: io.BufferedReader) -> bool:
    """Whether this begins as a pcap or pcapng file does. Nothing is taken from the stream."""
    try:
        magic = stream.peek(4)[:4]
    except (OSError, *DAMAGED):
        return False  # the text reader meets the same damage, and names the place
    return magic in MAGICS or magic == MAGIC
