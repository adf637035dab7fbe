"""The files that targets and ports come from: lists of targets, and nmap's file of services.

A list may be larger than the memory, so it is read in pieces of about 1 MB. Each piece ends where a line ends, or
between the words of a very long line, so that no word and no comment is cut.

Limit: a comment, and a word, has at most 16 MB.
"""

import os
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO

from ..errors import UsageError
from .lists import Lines, words_of

# Of a file: its path, the bytes read so far, and those of the whole (0: not known). Of names: None, how many are
# resolved, and how many there are.
Tell = Callable[[str | None, int, int], None]

NMAP_FOLDERS = (*filter(None, [os.environ.get("NMAPDIR")]), "/usr/share/nmap", "/usr/local/share/nmap")
PIECE, MOST_HELD = 1 << 20, 16 << 20  # bytes: read at once, and of one word or comment


def read_list(path: str, tell: Tell | None = None) -> Iterator[Lines]:
    """A list file, `-` for standard input, in pieces of whole lines, for `parse_hosts`.

    `tell` is told the path, the bytes read so far, and those of the whole file (0: not known). Raises UsageError,
    naming the file, when it cannot be read or holds no spec at all.
    """
    empty, line = True, 1
    try:
        with nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as file:
            for number, piece in enumerate(_pieces(file, path, tell or (lambda path, done, size: None))):
                lines = piece if number else piece.removeprefix(BOM_UTF8)
                empty = empty and not words_of(lines)
                yield Lines(lines, path, line)
                line += lines.count(b"\n") + (lines.count(b"\r") - lines.count(b"\r\n") if b"\r" in lines else 0)
    except OSError as error:
        raise UsageError(f"cannot read the list {path}: {error.strerror}") from None
    if empty:
        name = "standard input" if path == "-" else f"the list {path}"
        raise UsageError(f"{name} is empty: write one address, range or host name a line, or leave it out")


def _pieces(file: IO[bytes], path: str, tell: Tell) -> Iterator[bytes]:
    """A file in pieces of about 1 MB that end where a line ends, or before a word that no comment holds."""
    size = done = 0
    with suppress(OSError):  # of no file: a stream that has no descriptor
        size = os.fstat(file.fileno()).st_size
    held: list[bytes] = []
    in_comment = False  # the text that is held, or the line that goes on behind it
    while data := file.read(PIECE):
        done += len(data)
        tell(path, done, size)
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        in_comment = b"#" in data[end:] or (not end and in_comment)
        if not end and not in_comment:  # a very long line
            end = max(data.rfind(b" "), data.rfind(b"\t")) + 1
        if end:
            yield b"".join([*held, data[:end]])
            held = [data[end:]]
        else:
            held.append(data)
        if sum(map(len, held)) > MOST_HELD:
            raise UsageError(
                f"the list {path} has a word or a comment of more than {MOST_HELD >> 20} MB: is it a list?"
            )
    yield b"".join(held)


def nmap_services(folders: tuple[str, ...] = NMAP_FOLDERS) -> str:
    """The text of nmap's services file; "" where nmap is not installed."""
    for folder in folders:
        with suppress(OSError):
            return Path(folder, "nmap-services").read_text("utf-8", "replace")
    return ""
