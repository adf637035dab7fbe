"""What can go wrong, and how the user is told.

There are three kinds of trouble. Strange bytes from the network or from a file are counted with a cause and never
raised. A mistake of the user is a `UsageError`; its message names the text that is wrong and says what to do. A scan
that cannot go on (no permission, an interface that stopped) raises a `ScanError`. Every other exception is a bug in
halfopen and is not caught.

Results go to standard output. Every other line goes through `note` to standard error. Names of files, hosts and
interfaces come from outside and may hold escape sequences, which a terminal would execute. So `note` prints one line
in which every such character is written out, and whatever else puts names before a person uses `escaped`.
"""

import errno
import sys
from contextlib import suppress

# Exit codes: of --strict; of a shell for SIGINT and SIGPIPE, which are 128 and the number of the signal.
UNSURE, INTERRUPTED, NO_READER = 3, 130, 141
LONGEST = 2000  # characters of an error: a value in it may come from a file
_ON_LINUX = sys.platform == "linux"
_SYSTEMS = {"darwin": "macOS", "win32": "Windows"}


class ScannerError(Exception):
    """Base of every error for the user: one line that says what to do next."""

    exit_code = 1


class ScanError(ScannerError):
    """The run failed (permission, device, kernel). Exit code 1."""


class UsageError(ScannerError):
    """The request cannot be carried out as written, and nothing was sent. Exit code 2."""

    exit_code = 2


def need_linux(what: str) -> None:
    """Raises UsageError on another system. Packet sockets, netlink, epoll and capabilities are of Linux alone."""
    if not _ON_LINUX:
        system = _SYSTEMS.get(sys.platform, sys.platform)
        raise UsageError(
            f"{what} needs Linux, and this is {system}: classify, who, diff, merge, report and schema work here"
        )


def cause_of(error: OSError) -> str:
    """What the system said. Where a limit was reached, the limit and how to raise it."""
    said = error.strerror or str(error)
    if error.errno == errno.EMFILE and _ON_LINUX:
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"{said}: this process may have {most:,} at once; raise the limit (ulimit -n 1024)"
    if error.errno == errno.ENFILE:
        return f"{said}: the limit of this machine is reached; close programs, or raise fs.file-max"
    if error.errno in (errno.ENOMEM, errno.ENOBUFS):
        return f"{said}: free some memory, or raise the limits of this process (ulimit -v, ulimit -l)"
    return said


def escaped(text: str) -> str:
    """Text on one line, with an escape for every character that is not printable. Letters of any script stay.

    Control characters, line ends, marks that turn the direction of writing, and bytes that are no text are escaped.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shortened(text: str) -> str:
    """Text of at most `LONGEST` characters; the middle is left out. The remedy stands at the end of an error."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 500]} […] {text[-490:]}"


def note(text: str, prefix: str = "halfopen: ") -> None:
    """Print one line on standard error, beside the results. `prefix` is empty for lines that programs read.

    A closed or full standard error is ignored: it must not end a scan or change the exit code.
    """
    with suppress(OSError, ValueError):
        print(f"{prefix}{escaped(text)}", file=sys.stderr, flush=True)
