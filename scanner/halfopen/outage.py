"""Interfaces that go down while a scan runs, and come back.

What arrives at an interface that is down is lost, and nobody knows what it was. So the scan stands still, no wait goes
on, and nothing is sent. When the interface is back, the open windows behind it are scanned anew. If it stays down, the
scan ends with what it knows: silence counts only up to the moment when the interface was last known to be up.
"""

from collections import Counter
from collections.abc import Callable, Collection

from ..errors import ScanError
from ..rounds.pacing import SECOND
from ..rounds.windows import Windows
from ..transport import LinkDown, Transport

LONGEST_OUTAGE = 60.0  # seconds
LOOK = 0.02  # seconds between two looks at an interface that is down


class Outages:
    """The interfaces of a scan: which of them are down, and since when."""

    def __init__(self, windows: Windows) -> None:
        self.causes: Counter[str] = Counter()  # how often which interface went down
        self._windows = windows
        self._down: dict[int, int] = {}  # by id of the transport: when it was last known to be up, ns
        self._looked = 0  # when all interfaces were looked at, ns

    def take_in(
        self, transports: Collection[Transport], receive: Callable[[Transport], None], now: int
    ) -> tuple[bool, list[Transport]]:
        """Receive on every interface. Returns whether all of them are up, and those that are back.

        Raises ScanError if one stays down for long, or if the scan is to end while it is down.
        """
        back = []
        for transport in transports:
            try:
                receive(transport)
            except LinkDown as error:
                self._lost(transport, error, now)
            except ScanError:
                self._windows.deaf_since = self._windows.deaf_since or self._looked or now
                raise
            else:
                if self._down.pop(id(transport), None):
                    back.append(transport)
        self._looked = now
        if not self._down and not self._windows.stopped:
            self._windows.deaf_since = 0
        return not self._down, back

    def _lost(self, transport: Transport, error: LinkDown, now: int) -> None:
        if id(transport) not in self._down:
            self._down[id(transport)] = self._looked or now
            self.causes[f"{error}; what was open was scanned anew"] += 1
        self._windows.deaf_since = min(self._down.values())
        if self._windows.stopped:
            raise ScanError(str(error)) from error
        if now - self._down[id(transport)] > LONGEST_OUTAGE * SECOND:
            raise ScanError(f"{error} for {LONGEST_OUTAGE:.0f} s") from error
