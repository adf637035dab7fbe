"""`--fleet` of syn and connect, and the verb `worker`: from the request to the exit code.

A collector sends no packet itself, so it gives up every right before it connects. A worker keeps the right to open raw
sockets until it ends, because it opens them anew for each piece. Only its main thread does: the thread that talks to
the server gives up every right before it reads its first byte.
"""

import socket
import sys

from ..errors import INTERRUPTED, UsageError, note
from ..fleet.limits import limits_of
from ..fleet.link import Access, Link
from ..fleet.session import FleetSession, Wanted
from ..fleet.subjects import permissions
from ..fleet.worker import Worker
from ..output import MANY
from ..trace import Watch
from . import privileges
from .fleet_options import FleetOptions, WorkerOptions
from .options import OPTIONS, ScanRequest
from .run import checked, followed, run_session
from .signals import stopped_by_signals

_OF_ONE_MACHINE = {
    "interface": "-e", "source_ip": "--source-ip", "source_port": "-g", "senders": "--senders",
    "transport": "--transport", "record": "--record", "ladder": "--ladder", "packet_trace": "--packet-trace",
    "verify": "--verify",
}  # fmt: skip
_LONGEST_NAME = 64


def run_fleet(request: ScanRequest) -> int:
    """A scan by a fleet, from request to exit code."""
    for name, flag in _OF_ONE_MACHINE.items():
        if request.given.get(name) not in (None, OPTIONS["syn"][name].default):
            raise UsageError(f"{flag} is about one machine, and --fleet scans with others: leave one of them out")
    privileges.give_up()
    config, spaces, state, then = checked(request)
    output, fleet = request.output, request.fleet
    silent = output.everything or (spaces.targets <= MANY and not output.only_open)
    session = FleetSession(
        Wanted(
            request.verb, spaces, config, _access(fleet.fleet or "", fleet), _word("--tag", fleet.tag), silent,
            output.only_open, output.resume,
        ),
        state.resume_point,
        note,
    )  # fmt: skip
    code = run_session(request, spaces, session, state, Watch(None, False, [], False), then)
    return followed(then, code, request, spaces)


def run_worker(options: WorkerOptions) -> int:
    """Work for the scans of a server until Ctrl-C."""
    tags = tuple(_word("--tag", tag) or "" for tag in options.tag)
    if options.print_permissions:
        sys.stdout.write(permissions(tags))
        return 0
    if options.server is None:
        raise UsageError("name the server: halfopen worker nats://HOST:4222")
    name = _word("--name", options.name or _host_name()) or "worker"
    limits = limits_of(options.max_rate, options.allow, options.deny, _without_raw_sockets())
    say = (lambda text: None) if options.quiet else note
    link = Link(_access(options.server, options), f"halfopen worker {name}", privileges.give_up_thread)
    worker = Worker(link, name, tags, limits, say)
    stops: list[None] = []

    def stop() -> None:
        stops.append(None)
        worker.stop()

    with stopped_by_signals(stop, lambda: bool(stops)):
        say(f"worker {name} waits for scans at {options.server}" + (f"; {limits.raw}" if limits.raw else ""))
        try:
            worker.run()
        finally:
            worker.close()
    return INTERRUPTED


def _access(url: str, options: FleetOptions | WorkerOptions) -> Access:
    return Access(url, options.tls_ca, options.creds, options.insecure)


def _word(flag: str, text: str | None) -> str | None:
    """A name that may be a part of a subject. Raises UsageError."""
    if text is None:
        return None
    if len(text) > _LONGEST_NAME or not text.isascii() or not text.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"{flag} {text!r}: use letters, digits, - and _, at most {_LONGEST_NAME}")
    return text


def _host_name() -> str:
    letters = (letter if letter.isascii() and letter.isalnum() else "-" for letter in socket.gethostname())
    return "".join(letters).strip("-")[:_LONGEST_NAME] or "worker"


def _without_raw_sockets() -> str | None:
    """Why this process can send no raw packets; None: it can."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError:
        return "it has no CAP_NET_RAW, so it takes connect scans only"
    return None
