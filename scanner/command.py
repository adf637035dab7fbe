"""What the verbs of the command line do, once their text has been read.

Here a request becomes checked values, a session or a lab is run, and rows and sums go to the outputs.
Signals are caught only while a scan runs: the first Ctrl-C stops sending and waits out the replies,
the second ends at once; what was learned is written either way.
"""

import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .ahead import Ahead
from .choice import Choice, choose, guard, skipped_text
from .config import SynConfig
from .errors import ScannerError, UsageError
from .hosts import read_list
from .lane import Shard
from .names import resolve
from .output import MANY, Run, Summary, open_sinks
from .popular import top_ports
from .ports import USUAL_PORTS, Ports, format_ports, parse_ports, service_name
from .progress import AnySession, Progress
from .session import Session
from .summary import summary_lines, write_stats
from .targets import HostSpace
from .verdict import Verdict
from .watch import Watch, scan_endpoints

INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class ScanRequest:
    """The options of `halfopen syn` or `connect` as they were typed; those that only `syn` has come last."""

    targets: tuple[str, ...]
    targets_file: tuple[str, ...]
    ports: str | None
    exclude: tuple[str, ...]
    exclude_file: tuple[str, ...]
    exclude_ports: str | None
    all_addresses: bool
    rate: str
    max_rate: float | None
    retries: int
    max_missed: str
    timeout: float | None
    seed: int | None
    shard: str
    interface: str | None
    source_ip: str | None
    top_ports: int | None = None
    list_ports: bool = False
    yes: bool = False
    form: str | None = None
    output: tuple[str, ...] = ()
    named: tuple[tuple[str, str], ...] = ()  # formats and files, as -oX and its kind name them
    force: bool = False
    only_open: bool = False
    everything: bool = False
    quiet: bool = False
    verbose: bool = False
    stats: str | None = None
    source_port: int | None = None
    ttl: int = 64
    tos: int = 4
    options: str = "os"
    senders: int = 1
    verify: bool = False
    record: str | None = None
    ladder: str | None = None

    def config(self) -> SynConfig:
        """The checked configuration. Raises UsageError."""
        missed, share = _missed(self.max_missed)
        return SynConfig(
            rate=None if self.rate == "auto" else _number("--rate", self.rate, "auto, or frames a second"),
            max_rate=self.max_rate, retries=self.retries, max_missed=missed, max_missed_share=share,
            timeout=self.timeout, seed=self.seed,
            shard=_shard(self.shard), interface=self.interface, source_ip=self.source_ip, source_port=self.source_port,
            ttl=self.ttl, tos=self.tos, options=self.options, senders=self.senders,
        )  # fmt: skip

    def port_column(self) -> Ports:
        """The ports. Raises UsageError."""
        if self.top_ports is None:
            return parse_ports(USUAL_PORTS if self.ports is None else self.ports, self.exclude_ports)
        if self.ports is not None:
            raise UsageError(f"--top-ports {self.top_ports} and -p {self.ports} both choose the ports: leave one out")
        return parse_ports(format_ports(top_ports(self.top_ports)), self.exclude_ports)

    def choice(self) -> Choice:
        """The targets. Raises UsageError."""
        specs = [*self.targets, *(spec for path in self.targets_file for spec in read_list(path))]
        if not specs:
            raise UsageError("no target given: name addresses, networks or hosts, or a file with -iL")
        excludes = [part for each in self.exclude for part in each.split(",")]
        excludes += [spec for path in self.exclude_file for spec in read_list(path)]
        return choose(specs, excludes, resolve, self.all_addresses)


def _number(option: str, text: str, wanted: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is not {wanted}") from None


def _missed(text: str) -> tuple[float, float | None]:
    """The bound as a number, or as a share of the responders."""
    wanted = "a number such as 0.01, or a percentage such as 1%"
    if text.endswith("%"):
        return 1.0, _number("--max-missed", text[:-1], wanted) / 100
    return _number("--max-missed", text, wanted), None


def _shard(text: str) -> Shard:
    try:
        number, count = text.split("/")
        return Shard(int(number), int(count))
    except ValueError:
        raise UsageError(f"--shard {text!r} is not i/n, such as 1/4") from None


def warn(text: str) -> None:
    """A line for people, beside the result."""
    print(f"halfopen: {text}", file=sys.stderr)


def command_line() -> str:
    """How this run was asked for, for files that say so."""
    return shlex.join(["halfopen", *sys.argv[1:]])


def _ask(question: str) -> bool:
    print(f"halfopen: {question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def careful_hosts(request: ScanRequest) -> HostSpace:
    """The targets; what is left out is told, and very many public ones are asked about. Raises UsageError."""
    choice = request.choice()
    for taken in choice.taken:
        warn(skipped_text(taken))
    guard(choice.hosts, request.yes, _ask if sys.stdin.isatty() else None)
    return choice.hosts


def print_ports(request: ScanRequest) -> int:
    """What a port specification means: a line for each port, in short beside it."""
    ports = request.port_column()
    sys.stdout.writelines(f"{f'{port}/tcp':<9}  {service_name(port) or '-'}\n" for port in ports.tolist())
    sys.stdout.flush()
    warn(f"{len(ports):,} port{'' if len(ports) == 1 else 's'}: {format_ports(ports)}")
    return 0


def run_syn(request: ScanRequest, ahead: Ahead) -> int:
    """A half-open scan from request to exit code; `ahead` builds the frames."""
    if request.list_ports:
        return print_ports(request)
    config = request.config()
    ports = request.port_column()
    hosts = careful_hosts(request)
    watch = Watch(request.record, request.force, scan_endpoints(request.ladder, hosts, ports))
    session = Session(hosts, ports, config, warn, watch.see, request.verify, ahead.build)
    ahead.done()
    watch.open(session.links)
    with _watched(watch, session):
        code = _run(request, session, Run(command_line(), "syn", format_ports(ports), len(ports)), watch.noting)
    if request.ladder is not None:
        from .offline import print_ladders

        print_ladders(watch.ladders(), request.form)
    return code


def run_connect(request: ScanRequest) -> int:
    """A full-handshake scan from request to exit code."""
    from .connect import ConnectSession

    if request.list_ports:
        return print_ports(request)
    config = request.config()
    ports = request.port_column()
    session = ConnectSession(careful_hosts(request), ports, config)
    return _run(request, session, Run(command_line(), "connect", format_ports(ports), len(ports)), lambda rows: rows)


def _run(
    request: ScanRequest, session: AnySession, run: Run, note: Callable[[Iterable[Verdict]], Iterable[Verdict]]
) -> int:
    """The way from a session's batches to the outputs, the same for every kind of scan."""
    size = session.sums.targets
    try:
        outputs = open_sinks(
            request.form, request.output, named=request.named, force=request.force, everything=request.everything,
            only_open=request.only_open, targets=size, run=run,
        )  # fmt: skip
    except ScannerError:
        session.close()
        raise
    write_silent = request.everything or (size <= MANY and not request.only_open)
    with _interrupts(session), Progress(session, request.quiet, request.verbose) as progress:
        for rows in session.batches(write_silent, progress.tick, request.only_open):
            with progress.paused():
                outputs.write(note(rows))
    lines = summary_lines(session.sums)
    outputs.finish(Summary("\n".join(lines), interrupted=session.sums.interrupted))
    if request.stats:
        write_stats(session.sums, request.stats)
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
def _interrupts(session: AnySession) -> Iterator[None]:
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

    return demonstrate(warn)
