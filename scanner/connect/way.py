"""The way that calls leave, looked at again while the scan runs.

When an interface goes down its routes go with it, and the kernel sends further calls by another route, such as the
default one. There they reach nobody, or a host of another network with the same address. So the routes are looked at a
few times a second, and before a window is called complete. For each route one host stands for all.

Limits: nothing is watched where a host had no route at the start, nor while this process has no descriptor left. With
`-e` the kernel itself keeps to the interface.
"""

from collections.abc import Mapping
from ipaddress import ip_address

from ..errors import ScanError, UsageError
from ..net.routes import Route, routes_now
from ..packet.addresses import to_ints
from ..rounds.pacing import SECOND
from ..targets.hostspace import HostSpace
from .local_end import LocalEnd

LOOK_NS = SECOND // 4  # ns between two looks
MOST = 64  # routes that are looked at


class Way:
    """The interfaces by which a scan leaves."""

    def __init__(self, routes: Mapping[Route, HostSpace], local_end: LocalEnd) -> None:
        watched = [] if local_end.interface else list(routes.items())[:MOST]
        self._names = [route.interface.name for route, _ in watched]
        self._indices = [route.interface.index for route, _ in watched]
        self._targets = [to_ints(part.pick(0))[0] for _, part in watched]
        self._zones = local_end.zones
        self._source = ip_address(local_end.address) if local_end.address else None
        self._look_at = 0  # ns

    def check(self, now: int, at_once: bool) -> None:
        """Raises ScanError where a route leads elsewhere. Looks `at_once`, or if some time has passed."""
        if not self._targets or not (at_once or now >= self._look_at):
            return
        self._look_at = now + LOOK_NS
        try:
            routes = routes_now(self._targets, self._zones, self._source)
        except ScanError:
            return  # the calls may have every descriptor
        except UsageError as error:  # a zone
            raise ScanError(str(error)) from error
        for name, index, route in zip(self._names, self._indices, routes, strict=True):
            if route is None:
                raise ScanError(f"the route through {name} has gone")
            if route.interface.index != index:
                raise ScanError(f"the route through {name} now leads through {route.interface.name}")
