"""What can go wrong on purpose.

Three kinds of wrong get three treatments. Strange bytes from the network or a file are counted
with a cause and never raised. A user's mistake is a `UsageError` whose message names the offending
text and the remedy. A scan that cannot go on (no permission, an interface that stopped) is a
`ScanError`. Everything else is a bug of ours and is left to crash.
"""


class ScannerError(Exception):
    """Base of every error meant for the user: one line that says what to do next."""

    exit_code = 1


class ScanError(ScannerError):
    """The run itself failed (permission, device, kernel); exit code 1."""


class UsageError(ScannerError):
    """The request cannot be carried out as written; nothing was sent; exit code 2."""

    exit_code = 2
