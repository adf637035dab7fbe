"""How the process of the command starts and ends.

Half of the time of a short scan is Python's own start and end. The imports make half a million objects that all stay
alive, so a search for garbage among them finds nothing (40 ms of 440). And once everything is written and closed, the
kernel frees the memory faster than the interpreter takes down every module (75 ms).
"""

import gc
import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from io import TextIOWrapper
from typing import NoReturn

from ..errors import INTERRUPTED
from . import privileges
from .signals import of_a_request, of_lost_terminal

COMPLETION = ("--install-completion", "--show-completion")
NO_SCAN = {"--help", "-h", "--list-ports", "--fleet"}  # no frame is built here
GARBAGE_THRESHOLD = 100_000  # new objects before the collector runs


def run() -> NoReturn:
    """The entry point: `verbs.main`, then the end of the process with its exit code."""
    gc.set_threshold(GARBAGE_THRESHOLD, 50, 50)
    # The matrices of the loss estimate are small: threads of numpy's BLAS would only take processors from the scan.
    # They would also keep the rights that this process gives up.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    privileges.own()
    if any(argument.startswith(COMPLETION) for argument in sys.argv[1:]):  # Typer writes to files of the shell
        privileges.limit("completion")
    # SIGTERM and SIGHUP end every verb as Ctrl-C does, from here on. A scan has handlers of its own later.
    for number in (signal.SIGTERM, *of_lost_terminal()):
        signal.signal(number, signal.default_int_handler)
    # SIGUSR1 requests progress. It may come before the scan starts or after it ends, and must not kill the process.
    for number in of_a_request():
        signal.signal(number, signal.SIG_IGN)
    _have_standard_streams()
    code: object = 0
    try:
        with _scapy_ahead(sys.argv[1:]):
            from .verbs import main

            main()
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:  # one of these signals, before a verb handles them itself
        code = INTERRUPTED
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a failed write has been reported already
            stream.flush()
    os._exit(code if isinstance(code, int) else 1)


def _scapy_ahead(arguments: list[str]) -> AbstractContextManager[None]:
    """For a half-open scan: a child that imports Scapy on another core while this process imports all the rest."""
    if sys.platform != "linux" or arguments[:1] != ["syn"] or not NO_SCAN.isdisjoint(arguments):
        return nullcontext()
    from ..packet.template import building_ahead

    privileges.limit("syn")  # the child has none of the rights that this process keeps for its sockets
    return building_ahead(privileges.give_up)


def _have_standard_streams() -> None:
    """Open /dev/null for each standard stream that is closed (`>&-`); else a socket would get its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):  # a name that its encoding does not have must not end a verb
        sys.stdout.reconfigure(errors="backslashreplace")
