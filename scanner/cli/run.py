"""What every scan does, from the request to the exit code (`scans` has the kinds of scans).

The request becomes checked values, the session gives batches of rows, and rows and statistics go to the outputs. The
first Ctrl-C stops the probes and waits for replies under way. The second one ends the scan at once. The rows that
are decided by then are written in both cases (`signals`).

Nothing that is decided is lost by a fault. When an output or an interface fails, the scan ends, its last rows go to
every output that still works, and the state of `--resume` stays usable. Then the fault is said, in one line. Only a
terminal that has gone ends nothing by itself: the scan goes on for its files.
"""

import os
import sys
from collections.abc import Callable
from contextlib import closing

import numpy as np

from ..config import SynConfig, TargetOptions, choice_of, config_of, ports_of, usual_ports_text
from ..errors import INTERRUPTED, UNSURE, ScanError, UsageError, escaped, note
from ..files import check_new
from ..output import MANY, Outputs, Run, Summary
from ..rounds.running import Running
from ..rounds.statistics import ScanStats
from ..rounds.summary import summary_lines
from ..targets.ports import format_ports, services
from ..targets.spaces import Spaces
from ..targets.special import guard, skipped_text
from ..targets.zones import Zones, zones_by
from ..trace import Watch
from ..verdict.sentences import plural
from .faults import Faults
from .options import OutputOptions, ScanRequest, command_line, next_command
from .progress import Progress, check_form, reading, shown
from .scan_progress import ScanProgress
from .signals import stopped_by_signals
from .state_file import StateFile, earlier_answers, open_state
from .stats_file import write_stats
from .then import Then


def _then_of(output: OutputOptions) -> Then | None:
    """What --then asks for. Raises UsageError."""
    if output.then is None:
        return None
    if output.resume:
        raise UsageError("--then knows only the ports that this part finds: leave out --then, or --resume")
    return Then(output.then)


def checked(request: ScanRequest) -> tuple[SynConfig, Spaces, StateFile, Then | None]:
    """What the request means, after every check that needs no packet. Raises UsageError."""
    # What needs neither a file nor a name server comes first.
    config = config_of(request.given)
    check_form(request.output.progress)
    request.output.check_names(request.evidence.record)
    then = _then_of(request.output)
    ports = ports_of(request.targets)
    whole, answers = config.shard.of > 1 or bool(request.output.resume), earlier_answers(request.output.resume)
    with reading(request.output.quiet) as tell:
        only_open, resolve = request.output.only_open, answers.resolve
        choice = choice_of(request.targets, tell=tell, whole=whole, only_open=only_open, resolve=resolve)
    for line in (*choice.notes, *map(skipped_text, choice.taken)):
        note(line)
    guard(choice.hosts, request.targets.yes, _ask if sys.stdin.isatty() else None)
    spaces = choice.spaces(ports)
    for line in choice.own.notes(request.targets.ports, request.targets.top_ports):
        note(line)
    state = open_state(request, spaces, answers)
    if request.output.stats:
        check_new(request.output.stats, _may_replace(request.output, state))
    return config, spaces, state, then


def _may_replace(output: OutputOptions, state: StateFile) -> bool:
    """Whether the --stats file may replace another one: with --force, or if it is that of the earlier part."""
    return output.force or (output.stats is not None and state.stats_file == os.path.realpath(output.stats))


def _ask(question: str) -> bool:
    print(f"halfopen: {escaped(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def print_ports(options: TargetOptions) -> int:
    """Print what a port specification means: one line for each port, and the short form on stderr."""
    ports = ports_of(options)
    sys.stdout.writelines(f"{f'{port}/tcp':<9}  {services().get(port, '-')}\n" for port in ports.tolist())
    sys.stdout.flush()
    note(f"{plural(len(ports), 'port')}: {format_ports(ports)}")
    return 0


def _zones(request: ScanRequest, spaces: Spaces) -> Zones:
    """The links of link-local targets, for programs that take the open ports."""
    return zones_by(spaces.hosts.zones, request.given.get("interface"))


def followed(then: Then | None, code: int, request: ScanRequest, spaces: Spaces) -> int:
    """After a scan with this exit code: run what --then asks for. Returns the exit code of both."""
    if then is None or code == INTERRUPTED:
        return code
    output = request.output
    failed = then.run(for_people=output.for_people, quiet=output.quiet, zones=_zones(request, spaces))
    return failed if failed == INTERRUPTED else code or failed


def run_session(
    request: ScanRequest, spaces: Spaces, session: Running, state: StateFile, watch: Watch, then: Then | None = None
) -> int:
    """Write the batches of a session, of either kind, to the outputs. Returns the exit code."""
    output, faults = request.output, Faults()
    # Of very many targets the silent ones are counted and get no rows.
    write_silent = output.everything or (session.targets <= MANY and not output.only_open)
    outputs: Outputs | None = None

    def stop() -> None:
        """A signal while files are opened must not leave one without its end. A second one ends the wait for a pipe."""
        if outputs is None and session.interrupted:
            sys.exit(INTERRUPTED)
        session.stop()

    with closing(session), stopped_by_signals(stop, lambda: session.interrupted):
        outputs = _opened(request, spaces, session, state, watch)
        faults.attempt(state.save, session, outputs)
        if faults.errors:  # nothing is sent, and the files get their ends
            session.stop()
        source = ScanProgress(session, output.verbose)
        session.naming = output.verbose or outputs.early
        with (
            shown(source, output.quiet, output.progress) as progress,
            closing(session.batches(write_silent, lambda: tick(), output.only_open)) as batches,
        ):
            tick = _ticking(session, outputs, source, progress, faults)
            try:
                for rows in batches:
                    tick()  # ports that were found open leave before the rows of their window, or they would come twice
                    with progress.writing():
                        faults.attempt(outputs.write, watch.noting(then.noting(rows) if then else rows))
                    # Here every row that the session has given out is in the files.
                    faults.attempt(state.save, session, outputs, True)
                    if faults.errors:
                        session.stop()
                    if not outputs.left:
                        break
            except ScanError as error:  # all rows of the session have been written
                faults.errors.append(error)
        code = INTERRUPTED
        try:
            code = _finish(request, spaces, session, outputs, state, faults)
        finally:
            if then and code == INTERRUPTED:  # or a fault
                then.not_run()
        return code


def _ticking(
    session: Running, outputs: Outputs, source: ScanProgress, progress: Progress, faults: Faults
) -> Callable[[], None]:
    """What is due after every turn of the session: ports just found open, and progress."""

    def tick() -> None:
        if session.opened:
            found, session.opened = session.opened, []
            with progress.writing():
                faults.attempt(outputs.found, found)
            source.found(found)
            if faults.errors:
                session.stop()
        progress.tick()

    return tick


def _opened(request: ScanRequest, spaces: Spaces, session: Running, state: StateFile, watch: Watch) -> Outputs:
    """Every file of the scan, opened. If one is refused, all are as they were. Raises UsageError."""
    started = state.total(session.stats()).started
    output, ports = request.output, spaces.ports
    run = Run(
        command_line(), request.verb, format_ports(ports), len(ports), started, names=session.names,
        zones=_zones(request, spaces), only_open=output.only_open,
        in_order=session.targets <= MANY and not output.resume,  # a killed part has written what its state says
    )  # fmt: skip
    outputs = output.open(run, state.written)
    watch.begin()
    return outputs


def _ports_text(request: ScanRequest, spaces: Spaces) -> str:
    """In words which ports were scanned; "" if the user chose one set of them."""
    if len(spaces.sets) > 1:
        return f"{len(spaces.sets):,} different sets, target by target"
    usual = usual_ports_text(request.targets)
    return usual if usual and np.array_equal(spaces.ports, ports_of(request.targets)) else ""


def _finish(
    request: ScanRequest, spaces: Spaces, session: Running, outputs: Outputs, state: StateFile, faults: Faults
) -> int:
    """Write the ends of the files and the summary. Returns the exit code. Raises the fault that ended the scan."""
    output, stats, interrupted = request.output, state.total(session.stats()), session.interrupted
    lines = list(map(escaped, summary_lines(stats)))  # hosts that stopped are named by the state too
    if ports := _ports_text(request, spaces):
        lines.insert(1, f"ports: {ports}")
    if output.stats:
        faults.attempt(_write_stats, stats, output, state)
    if session.unfinished:
        faults.attempt(state.save, session, outputs)  # before the ends of the files are written
        if state.saved:
            cause = "interrupted" if interrupted else "some hosts have not been asked"
            lines[-1:] = [*([] if interrupted else lines[-1:]), f"{cause}: to go on, {next_command()}"]
    before = len(faults.errors)
    faults.attempt(outputs.finish, Summary("\n".join(lines), interrupted=interrupted))
    if not session.unfinished and len(faults.errors) == before:
        faults.attempt(state.remove)
    if not output.quiet and not faults.errors:
        for line in lines:
            note(line, "")
    elif session.unfinished and faults.failed and state.saved:
        note(lines[-1], "")
    faults.raise_first()
    if interrupted:
        return INTERRUPTED
    return UNSURE if output.strict and not stats.within_bound else 0


def _write_stats(stats: ScanStats, output: OutputOptions, state: StateFile) -> None:
    path = output.stats or ""
    write_stats({"command": command_line(), **stats.as_report()}, path, _may_replace(output, state))
    state.wrote_stats(path)
