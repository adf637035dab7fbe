"""The kinds of scans: half-open, by connect(), and by a fleet. Each opens its session, and `run` does the rest.

What only one kind needs is imported by that kind, because a short scan waits for imports.
"""

from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..config import excluded_ports_of
from ..errors import note
from ..trace import Watch
from . import privileges
from .options import ScanRequest
from .run import checked, followed, run_session

if TYPE_CHECKING:
    from ..trace.ladder import LadderTarget


def run_scan(request: ScanRequest) -> int:
    """A scan from request to exit code: by a fleet, half-open, or by connect()."""
    if request.fleet.fleet:
        from .fleet import run_fleet

        return run_fleet(request)
    return _run_syn(request) if request.verb == "syn" else _run_connect(request)


def _run_syn(request: ScanRequest) -> int:
    """A half-open scan from request to exit code."""
    from ..halfopen.session import syn_session

    config, spaces, state, then = checked(request)
    evidence = request.evidence
    drawn: list[LadderTarget] = []
    if evidence.ladder is not None:
        from ..trace.ladder import scan_targets

        drawn = scan_targets(evidence.ladder, spaces)
    watch = Watch(evidence.record, request.output.force, drawn, evidence.packet_trace)

    def opened(links: set[int]) -> None:
        """The sockets are open: what replies say is read, and files are opened, without any right of root."""
        privileges.give_up()
        watch.open(links)

    with ExitStack() as undo:
        undo.callback(watch.abandon)
        session = syn_session(
            spaces, config, note, watch.see, opened, evidence.verify, excluded_ports_of(request.targets),
            state.resume_point, state.kept,
        )  # fmt: skip
        started = session.now()
        try:
            code = run_session(request, spaces, session, state, watch, then)
        finally:  # a recording is complete however the scan ends
            watch.close(started, session.now(), session.stats().ring_drops)
    request.output.print_ladders(watch.ladders())
    return followed(then, code, request, spaces)


def _run_connect(request: ScanRequest) -> int:
    """A full-handshake scan from request to exit code."""
    from ..connect.probing import with_routes
    from ..connect.scan import connect_session

    config, spaces, state, then = checked(request)
    spaces = spaces.within(with_routes(spaces.hosts, config, note))
    session = connect_session(spaces, config, state.resume_point, state.kept)
    code = run_session(request, spaces, session, state, Watch(None, False, [], False), then)
    return followed(then, code, request, spaces)
