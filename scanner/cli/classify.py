"""What `classify` does, from the options to the exit code.

This module opens no sockets and imports no module that does, so it works where only Python and numpy are installed.
`--ladder` reads the captures twice: first for the verdicts, then for the packets of the rows to be drawn.

The first Ctrl-C ends the reading, and what was read is judged and written. The second one ends the process at once.
"""

import gc
import sys
from collections.abc import Iterable, Iterator

from ..capture.reader import open_captures
from ..capture.times import Period
from ..errors import INTERRUPTED, UsageError, escaped, note
from ..output import Run, Summary
from ..packet.tunnel import Tunnels
from ..trace.ladder import EACH, MOST_TARGETS, LadderTarget, TargetPackets
from ..verdict.rows import Verdict
from .capture_progress import watched
from .options import ClassifyOptions, OutputOptions, command_line
from .reading import check, reading_of
from .signals import stopped_by_signals
from .stats_file import write_stats


def run_classify(options: ClassifyOptions, output: OutputOptions) -> int:
    """Returns the exit code: 0, 1 if something was damaged, 2 if nothing could be read, 130. Raises UsageError."""
    check(options, output)
    if options.each:
        from .each import run_each

        return run_each(options, output)
    reading = reading_of(options, output.only_open)
    drawn: list[Verdict] = []

    def noting(rows: Iterable[Verdict]) -> Iterator[Verdict]:
        for verdict in rows:
            if options.ladder and len(drawn) <= MOST_TARGETS:  # one more than can be drawn shows that it is too much
                drawn.append(verdict)
            yield verdict

    def stop() -> None:
        if reading.interrupted:
            sys.exit(INTERRUPTED)
        reading.capture.stop()

    # Rows are tuples of text and numbers without cycles. The collector would go through all of them, again and again.
    gc.disable()
    with stopped_by_signals(stop, lambda: reading.interrupted):
        outputs = output.open(Run(command_line(), more=("scan",) * bool(reading.gap), only_open=output.only_open))
        with watched(reading, output.quiet, output.progress) as progress:
            for rows in reading.batches():
                with progress.writing():
                    outputs.write(noting(rows) if options.ladder else rows)
        lines = list(map(escaped, reading.report()))  # files are named
        outputs.finish(Summary("\n".join(lines), interrupted=reading.interrupted))
        if output.stats:
            write_stats({"command": command_line(), **reading.as_report()}, output.stats, output.force)
    if reading.exit_code or not output.quiet:
        for line in lines:
            note(line)
    if options.ladder and reading.capture.opened and not reading.interrupted:
        output.print_ladders(_ladders(options, drawn))
    return INTERRUPTED if reading.interrupted else reading.exit_code


def _ladders(options: ClassifyOptions, verdicts: list[Verdict]) -> str:
    """The drawings for these rows. Raises UsageError if there is nothing to draw, or too much."""
    if not verdicts:
        target = "" if options.ladder == EACH else f" of {options.ladder}"
        raise UsageError(f"--ladder: no probe{target} in this capture to draw; --orphans adds replies without one")
    if len(verdicts) > MOST_TARGETS:
        raise UsageError(
            f"--ladder draws {MOST_TARGETS} targets at most: name one, IP:PORT, or select with --target and -p"
        )
    # Several scanners of one target are several rows.
    targets = list({LadderTarget(verdict.ip, verdict.port or 0): None for verdict in verdicts})
    packets = TargetPackets(targets, None if options.outer else Tunnels())
    period = Period.of(options.since, options.until)
    for frames in open_captures(list(options.captures)):
        packets.see(period.take(frames))
    return "\n".join(map(packets.ladder, verdicts))
