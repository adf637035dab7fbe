"""What can go wrong, and how the user is told.

There are three kinds of trouble. Strange bytes from the network or from a file are counted with a cause and never
raised. A mistake of the user is a `UsageError`; its message names the text that is wrong and says what to do. A scan
that cannot go on (no permission, an interface that stopped) raises a `ScanError`. Every other exception is a bug in
halfopen and is not caught.

Results go to standard output. Every other line goes through `note` to standard error.
"""

import sys
from contextlib import suppress


class ScannerError(Exception):
    """Base of every error for the user: one line that says what to do next."""

    exit_code = 1


class ScanError(ScannerError):
    """The run failed (permission, device, kernel). Exit code 1."""


class UsageError(ScannerError):
    """The request cannot be carried out as written, and nothing was sent. Exit code 2."""

    exit_code = 2


def note(text: str, prefix: str = "halfopen: ") -> None:
    """Print a line on standard error, beside the results. `prefix` is empty for lines that programs read.

    A closed or full standard error is ignored: it must not end a scan or change the exit code.
    """
    with suppress(OSError, ValueError):
        print(f"{prefix}{text}", file=sys.stderr, flush=True)
