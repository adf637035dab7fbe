"""What the verbs of the command line do, once their text has been read.

Here a request becomes checked values, a session or a lab is run, and rows and sums go to the outputs.
Signals are caught only while a scan runs: the first Ctrl-C stops sending and waits out the replies,
the second ends at once; what was learned is written either way.
"""

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import ScanError, ScannerError, UsageError
from ..halfopen.session import Session
from ..output import MANY, Outputs, Run, Summary, open_sinks
from ..rounds.statistics import Sums
from ..rounds.summary import summary_lines
from ..targets.hostspace import HostSpace
from ..targets.ports import Ports, format_ports, service_name
from ..targets.special import guard, skipped_text
from ..trace import Watch
from ..trace.ladder import scan_targets
from ..verdict.table import Verdict
from .progress import AnySession, Progress, check_form
from .request import ScanRequest

if TYPE_CHECKING:
    from .state_file import StateFile

INTERRUPTED = 130


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


def run_syn(request: ScanRequest) -> int:
    """A half-open scan from request to exit code."""
    if request.list_ports:
        return print_ports(request)
    config = request.config()
    check_form(request.progress)
    ports = request.port_column()
    hosts = careful_hosts(request)
    watch = Watch(request.record, request.force, scan_targets(request.ladder, hosts, ports), request.packet_trace)
    state = _state(request, "syn", hosts, ports)
    standing = state.note.standing if state and state.note else None
    session = Session(hosts, ports, config, warn, watch.see, request.verify, standing, keep=state is not None)
    watch.open(session.links)
    with _watched(watch, session):
        code = _run(request, session, Run(command_line(), "syn", format_ports(ports), len(ports)), state, watch.noting)
    if request.ladder is not None:
        from ..classifier.run import print_ladders

        print_ladders(watch.ladders(), request.form)
    return code


def run_connect(request: ScanRequest) -> int:
    """A full-handshake scan from request to exit code."""
    from ..connect.scan import ConnectSession

    if request.list_ports:
        return print_ports(request)
    config = request.config()
    check_form(request.progress)
    ports = request.port_column()
    hosts = careful_hosts(request)
    state = _state(request, "connect", hosts, ports)
    standing = state.note.standing if state and state.note else None
    session = ConnectSession(hosts, ports, config, standing, keep=state is not None)
    return _run(request, session, Run(command_line(), "connect", format_ports(ports), len(ports)), state)


def _state(request: ScanRequest, verb: str, hosts: HostSpace, ports: Ports) -> "StateFile | None":
    """The file of `--resume`. Raises UsageError where it could not be kept to, or does not fit."""
    if request.resume is None:
        return None
    from .state_file import StateFile

    if not request.files:
        raise UsageError("--resume needs a file to go on with: standard output cannot be cut back; name one with -o")
    others = [*request.files, *filter(None, (request.record, request.stats))]
    if os.path.realpath(request.resume) in map(os.path.realpath, others):
        raise UsageError(f"--resume {request.resume} is also a file to be written: give the state a name of its own")
    return StateFile(request.resume, request.inputs(verb, hosts, ports))


def _run(
    request: ScanRequest,
    session: AnySession,
    run: Run,
    state: "StateFile | None",
    note: Callable[[Iterable[Verdict]], Iterable[Verdict]] = lambda rows: rows,
) -> int:
    """The way from a session's batches to the outputs, the same for every kind of scan."""
    size = session.sums.targets
    before = state.note if state else None
    if before:
        run = replace(run, started=before.sums.started)

    def sums() -> Sums:
        return session.tally().after(before.sums) if before else session.tally()

    def keep(outputs: Outputs) -> None:
        assert state
        state.save(session.standing(), sums(), outputs.written())

    try:
        outputs = open_sinks(
            request.form, request.output, named=request.named, force=request.force, everything=request.everything,
            run=run, written=before.outputs if before else None,
        )  # fmt: skip
        if state:
            keep(outputs)
    except ScannerError:
        session.close()
        raise
    write_silent = request.everything or (size <= MANY and not request.only_open)
    with _interrupts(session), Progress(session, request.quiet, request.verbose, request.progress) as progress:
        for rows in session.batches(write_silent, progress.tick, request.only_open):
            with progress.paused():
                outputs.write(note(rows))
            if state and state.due:
                keep(outputs)
    if state and session.sums.interrupted:
        keep(outputs)
    lines = summary_lines(sums())
    if state and session.sums.interrupted:
        lines[-1] = f"interrupted: to go on, {run.command}"
    outputs.finish(Summary("\n".join(lines), interrupted=session.sums.interrupted))
    if state and not session.sums.interrupted:
        state.remove()
    if request.stats:
        write_stats(sums(), request.stats)
    if not request.quiet:
        print("\n".join(lines), file=sys.stderr)
    return INTERRUPTED if session.sums.interrupted else 0


def write_stats(sums: Sums, path: str) -> None:
    """The sums as one JSON object. Raises ScanError when the file cannot be written."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({**vars(sums), "rate": sums.rate}, file, indent=1)
            file.write("\n")
    except OSError as error:
        raise ScanError(f"cannot write --stats {path}: {error.strerror}") from error


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
    from ..lab.permissions import reenter

    code = reenter(["demo"])
    if code is not None:
        return code
    from ..lab.demo import demonstrate

    return demonstrate(warn)
