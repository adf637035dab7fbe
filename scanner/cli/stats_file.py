"""The file of `--stats`: the numbers of the summary as one JSON object.

Scans and `classify` write it at their end, after the rows, so a name that cannot be used is refused before the start.
"""

import json
from typing import Any

from ..errors import ScanError, UsageError
from ..files import write_new


def write_stats(document: dict[str, Any], path: str, force: bool) -> None:
    """Write the numbers. Raises ScanError if the file cannot be written."""
    try:
        write_new(path, force, (json.dumps(document, indent=1) + "\n").encode())
    except UsageError as error:
        raise ScanError(str(error)) from error
    except OSError as error:
        raise ScanError(f"cannot write --stats {path}: {error.strerror}") from error
