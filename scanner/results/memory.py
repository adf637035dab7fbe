"""`--max-memory`: how much memory reading files of results may take.

A file of a few kilobytes can name millions of rows and be honest: nmap writes 65,536 closed ports as one element. So no
size of a file is too large by itself, and the limit is the memory that the rows take. The kernel keeps it
(RLIMIT_DATA, which counts private writable memory since Linux 4.7): the allocation that would pass the limit fails,
wherever it is made. Python turns that into a MemoryError, and this module into one line.

Limits: what the process had reserved before is counted as it is resident then. A limit below what the program needs
itself leaves it `LEAST` bytes more. Other systems than Linux have no such limit, and keep none.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UsageError

LEAST = 64 << 20
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@contextmanager
def at_most(size: str) -> Iterator[int]:
    """Inside, this process gets no more than `size` (such as `512M`) of memory; 0 is no limit. Raises UsageError.

    Yields how many bytes more it may take than it has now; 0: no limit.
    """
    most = _bytes(size)
    if sys.platform != "linux":
        yield most
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    room = 0
    if most:
        reserved, resident = _memory()
        room = max(LEAST, most - resident)
        limit = reserved + room
        allowed = [other for other in (soft, hard) if other != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_DATA, (min([limit, *allowed]), hard))
    try:
        yield room
    except MemoryError as error:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))  # what is said now needs some memory too
        raise UsageError(
            f"these files need more than {size} of memory: allow more with --max-memory, or give smaller files"
        ) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _bytes(text: str) -> int:
    """`512M` → 536,870,912. Raises UsageError."""
    if not (found := re.fullmatch(r"(\d{1,9})([KMGT]?)", text.upper())):
        raise UsageError(f"--max-memory {text!r} is not a size such as 512M or 2G")
    return int(found[1]) * _UNITS[found[2]]


def _memory() -> tuple[int, int]:
    """What this process has reserved for data, and what of its memory is resident, in bytes (proc(5))."""
    text = Path("/proc/self/status").read_text("utf-8", "replace")  # it begins with the name of the program
    lines = map(str.split, text.splitlines())
    fields = {words[0]: int(words[1]) << 10 for words in lines if len(words) == 3 and words[2] == "kB"}
    return fields.get("VmData:", 0), fields.get("VmRSS:", 0)
