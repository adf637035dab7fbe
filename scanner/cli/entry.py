"""How the command comes into the world and leaves it.

Half of a short scan is the coming and going of Python itself. Imports make half a million objects that all stay, so
nothing is gained by looking for garbage among them (40 ms of 440); and when everything is written and closed, the
kernel takes the memory back faster than the interpreter takes every module apart (75 ms).
"""

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

GARBAGE = 100_000  # objects made before the collector looks at them


def run() -> NoReturn:
    """The entry point: `cli.main`, then the end of the process with its exit code."""
    gc.set_threshold(GARBAGE, 50, 50)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # who asks how far we are may ask too early, or too late
    _have_standard_streams()
    from .verbs import main

    code: object = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever wrote has been told already
            stream.flush()
    os._exit(code if isinstance(code, int) else 1)


def _have_standard_streams() -> None:
    """Whoever starts us with a stream closed (`>&-`) must not get a socket of ours in its place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
