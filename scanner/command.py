"""What the verbs of the command line do, once their text has been read.

Here a request becomes checked values, a session or a lab is run, and rows and sums go to the outputs.
Signals are caught only while a scan runs: the first Ctrl-C stops sending and waits out the replies,
the second ends at once; what was learned is written either way.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .config import SynConfig
from .errors import UsageError
from .hosts import parse_hosts, read_list
from .names import resolve
from .offline import print_ladders
from .targets import HostSpace
from .lane import Shard
from .output import MANY, Summary, open_sinks
from .ports import parse_ports
from .progress import Progress
from .session import Session
from .summary import summary_lines
from .watch import Watch, scan_endpoints

INTERRUPTED = 130


@dataclass(frozen=True)
class SynRequest:
    """The options of `halfopen syn` as they were typed."""

    targets: tuple[str, ...]
    target_files: tuple[str, ...]
    ports: str
    exclude: tuple[str, ...]
    exclude_files: tuple[str, ...]
    exclude_ports: str | None
    all_addresses: bool
    rate: float
    retries: int
    max_missed: float
    timeout: float | None
    seed: int | None
    shard: str
    interface: str | None
    source_ip: str | None
    source_port: int | None
    ttl: int
    tos: int
    options: str
    form: str | None
    output: tuple[str, ...]
    force: bool
    only_open: bool
    everything: bool
    quiet: bool
    verbose: bool
    record: str | None = None
    ladder: str | None = None

    def config(self) -> SynConfig:
        """The checked configuration. Raises UsageError."""
        return SynConfig(
            self.rate, self.retries, self.max_missed, self.timeout, self.seed, _shard(self.shard),
            self.interface, self.source_ip, self.source_port, self.ttl, self.tos, self.options,
        )  # fmt: skip

    def hosts(self) -> HostSpace:
        """The targets. Raises UsageError."""
        specs = [*self.targets, *(spec for path in self.target_files for spec in read_list(path))]
        if not specs:
            raise UsageError("no target given: name addresses, networks or hosts, or a file with -iL")
        excludes = [part for each in self.exclude for part in each.split(",")]
        excludes += [spec for path in self.exclude_files for spec in read_list(path)]
        return parse_hosts(specs, excludes, resolve, all_addresses=self.all_addresses)


def _shard(text: str) -> Shard:
    try:
        number, count = text.split("/")
        return Shard(int(number), int(count))
    except ValueError:
        raise UsageError(f"--shard {text!r} is not i/n, such as 1/4") from None


def warn(text: str) -> None:
    """A line for people, beside the result."""
    print(f"halfopen: {text}", file=sys.stderr)


def run_syn(request: SynRequest) -> int:
    """A half-open scan from request to exit code."""
    config = request.config()
    ports = parse_ports(request.ports, request.exclude_ports)
    hosts = request.hosts()
    size = hosts.size * len(ports)
    watch = Watch(request.record, request.force, scan_endpoints(request.ladder, hosts, ports))
    session = Session(hosts, ports, config, warn, watch.see)
    watch.open(session.links)
    outputs = open_sinks(
        request.form, request.output, force=request.force, everything=request.everything, only_open=request.only_open, targets=size
    )  # fmt: skip
    write_silent = request.everything or (size <= MANY and not request.only_open)
    with _interrupts(session), _watched(watch, session), Progress(session, request.quiet, request.verbose) as progress:
        for rows in session.batches(write_silent, progress.tick):
            with progress.paused():
                outputs.write(watch.noting(rows))
    lines = summary_lines(session.sums, config.rate)
    outputs.finish(Summary("\n".join(lines)))
    print_ladders(watch.ladders(), request.form)
    if not request.quiet:
        print("\n".join(lines), file=sys.stderr)
    return INTERRUPTED if session.sums.interrupted else 0


@contextmanager
def _watched(watch: Watch, session: Session) -> Iterator[None]:
    """A recording is finished however the scan ends."""
    started = session.now()
    try:
        yield
    finally:
        watch.close(started, session.now(), session.sums.ring_drops)


@contextmanager
def _interrupts(session: Session) -> Iterator[None]:
    """Ctrl-C and TERM end the scan in good order."""

    def stop(number: int, frame: object) -> None:
        session.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_demo() -> int:
    """The demonstration: re-entered in a user namespace where that is what it takes."""
    from .lab.permissions import reenter

    code = reenter(["demo"])
    if code is not None:
        return code
    from .lab.demo import demonstrate

    return demonstrate()
