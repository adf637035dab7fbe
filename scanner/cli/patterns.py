"""Patterns among the names of files, such as `rotated-*.pcap.gz`, where the shell leaves them to the program.

The shells of Unix replace a pattern by the names that it matches. Those of Windows hand it over as it is.
"""

import sys
from glob import glob
from typing import Any

from .options import Given

_FILES = ("captures", "results")  # the options that take several files


def expanded(given: Given) -> dict[str, Any]:
    """The same options. On Windows a pattern becomes the names that it matches; one that matches nothing stays."""
    found = dict(given)
    if sys.platform == "win32":
        for name in _FILES:
            if name in found:
                found[name] = tuple(path for each in found[name] for path in sorted(glob(each)) or [each])
    return found
