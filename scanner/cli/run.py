"""What `syn`, `connect` and `demo` do, from the request to the exit code.

The request becomes checked values, the session gives batches of rows, and rows and statistics go to the outputs. The
first Ctrl-C stops the probes and waits for replies under way. The second one ends the scan at once. The rows that
are decided by then are written in both cases.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..config import SynConfig, TargetOptions, choice_of, config_of, ports_of
from ..errors import ScanError, ScannerError, note
from ..halfopen.session import syn_session
from ..output import MANY, Outputs, Run, Summary
from ..rounds.session import Session
from ..rounds.statistics import ScanStats, summary_lines
from ..targets.hostspace import HostSpace
from ..targets.ports import Ports, format_ports, service_name
from ..targets.special import guard, skipped_text
from ..trace import Watch
from ..trace.ladder import scan_targets
from ..verdict.rows import Verdict
from ..verdict.sentences import plural
from .classify import command_line, print_ladders
from .options import ScanRequest
from .progress import check_form, handling, shown
from .state_file import NoState, StateFile, open_state

INTERRUPTED = 130  # the exit code of a shell for SIGINT: 128 + 2
Rows = Iterable[Verdict]


class Checked(NamedTuple):
    """A request after every check that needs no packet."""

    request: ScanRequest
    config: SynConfig
    ports: Ports
    hosts: HostSpace
    state: StateFile | NoState


def _check(request: ScanRequest) -> Checked:
    """Raises UsageError. What needs neither a file nor a name server is checked first."""
    config = config_of(request.settings)
    check_form(request.output.progress)
    ports = ports_of(request.targets)
    choice = choice_of(request.targets)
    for taken in choice.taken:
        note(skipped_text(taken))
    guard(choice.hosts, request.targets.yes, _ask if sys.stdin.isatty() else None)
    return Checked(request, config, ports, choice.hosts, open_state(request, choice.hosts, ports))


def _ask(question: str) -> bool:
    print(f"halfopen: {question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def print_ports(options: TargetOptions) -> int:
    """Print what a port specification means: one line for each port, and the short form on stderr."""
    ports = ports_of(options)
    sys.stdout.writelines(f"{f'{port}/tcp':<9}  {service_name(port) or '-'}\n" for port in ports.tolist())
    sys.stdout.flush()
    note(f"{plural(len(ports), 'port')}: {format_ports(ports)}")
    return 0


def run_syn(request: ScanRequest) -> int:
    """A half-open scan from request to exit code."""
    if request.targets.list_ports:
        return print_ports(request.targets)
    checked, evidence = _check(request), request.evidence
    _, config, ports, hosts, state = checked
    drawn = scan_targets(evidence.ladder, hosts, ports)
    watch = Watch(evidence.record, request.output.force, drawn, evidence.packet_trace)
    session = syn_session(
        hosts, ports, config, note, watch.see, watch.open, evidence.verify, state.resume_point, state.kept
    )
    started = session.now()
    try:
        code = run_session(checked, session, watch.noting)
    finally:  # a recording is complete however the scan ends
        watch.close(started, session.now(), session.stats().ring_drops)
    print_ladders(watch.ladders(), request.output.form)
    return code


def run_connect(request: ScanRequest) -> int:
    """A full-handshake scan from request to exit code."""
    from ..connect.scan import connect_session

    if request.targets.list_ports:
        return print_ports(request.targets)
    checked = _check(request)
    _, config, ports, hosts, state = checked
    return run_session(checked, connect_session(hosts, ports, config, state.resume_point, state.kept))


def run_session(checked: Checked, session: Session, noting: Callable[[Rows], Rows] = lambda rows: rows) -> int:
    """Write the batches of a session, of either kind, to the outputs. Returns the exit code."""
    output, state = checked.request.output, checked.state
    outputs = _open_outputs(checked, session)
    # Of very many targets the silent ones are counted and get no rows.
    write_silent = output.everything or (session.targets <= MANY and not output.only_open)
    with (
        handling(session.stop, signal.SIGINT, signal.SIGTERM),
        shown(session, output.quiet, output.verbose, output.progress) as progress,
    ):
        for rows in session.batches(write_silent, progress.tick, output.only_open):
            with progress.paused():
                outputs.write(noting(rows))
            # Here every row that the session has given out is in the files.
            state.save(session, outputs, if_due=True)
    return _finish(checked, session, outputs)


def _open_outputs(checked: Checked, session: Session) -> Outputs:
    """The outputs, and the first save of the state. Raises ScannerError, with the session closed."""
    request, _, ports, _, state = checked
    started = state.total(session.stats()).started
    run = Run(command_line(), request.verb, format_ports(ports), len(ports), started)
    try:
        outputs = request.output.open(run, state.written)
        state.save(session, outputs)
    except ScannerError:
        session.close()
        raise
    return outputs


def _finish(checked: Checked, session: Session, outputs: Outputs) -> int:
    """Write the ends of the files and the summary. Returns the exit code."""
    output, state = checked.request.output, checked.state
    stats, interrupted = state.total(session.stats()), session.interrupted
    lines = summary_lines(stats)
    if interrupted:
        state.save(session, outputs)  # before the ends of the files are written
        if state.kept:
            lines[-1] = f"interrupted: to go on, {command_line()}"
    outputs.finish(Summary("\n".join(lines), interrupted=interrupted))
    if not interrupted:
        state.remove()
    if output.stats:
        write_stats(stats, output.stats)
    if not output.quiet:
        note("\n".join(lines), "")
    return INTERRUPTED if interrupted else 0


def write_stats(stats: ScanStats, path: str) -> None:
    """Write the statistics as one JSON object. Raises ScanError if the file cannot be written."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({**stats.as_json(), "rate": stats.rate}, file, indent=1)
            file.write("\n")
    except OSError as error:
        raise ScanError(f"cannot write --stats {path}: {error.strerror}") from error


def run_demo() -> int:
    """The demonstration. It starts itself again in a user namespace if it needs one."""
    from ..lab.permissions import reenter

    code = reenter(["demo"])
    if code is not None:
        return code
    from ..lab.demo import demonstrate

    return demonstrate(note)
