"""Signals that end the work instead of the process.

The first Ctrl-C (or SIGTERM) asks the work to end, and what was learned until then is written. What a second one does
is up to the work. SIGHUP, the sign of a lost terminal, counts as one Ctrl-C however often it comes, because the kernel
and the shell both send it. Under `nohup` it stays ignored. Windows has neither SIGHUP nor SIGUSR1.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def of_lost_terminal() -> tuple[signal.Signals, ...]:
    """SIGHUP; nothing where it is ignored."""
    known = _known("SIGHUP")
    return () if known and signal.getsignal(known[0]) is signal.SIG_IGN else known


def of_a_request() -> tuple[signal.Signals, ...]:
    """SIGUSR1, which asks for progress."""
    return _known("SIGUSR1")


def _known(name: str) -> tuple[signal.Signals, ...]:
    """A signal, if this system has it."""
    return tuple(number for number in signal.Signals if number.name == name and hasattr(signal, name))


@contextmanager
def handling(act: Callable[[], None], *numbers: signal.Signals) -> Iterator[None]:
    """Call `act` on these signals, instead of what they did before."""
    before = {number: signal.signal(number, lambda *_: act()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stopped_by_signals(stop: Callable[[], None], stopped: Callable[[], bool]) -> Iterator[None]:
    """Until the files are closed, signals call `stop`. `stopped`: whether it has been called."""
    with (
        handling(stop, signal.SIGINT, signal.SIGTERM),
        handling(lambda: None if stopped() else stop(), *of_lost_terminal()),
    ):
        yield
