"""What `classify` is to read: its options, checked, as a classification that has not begun.

One capture (`classify`) and every file by itself (`each`) begin here.
"""

from ..capture.times import Period, duration
from ..classifier.classification import LONGEST_TIMEOUT, Classification, Selection
from ..errors import UsageError
from ..files import check_new
from ..trace.ladder import EACH, parse_target
from .options import ClassifyOptions, OutputOptions
from .progress import check_form


def check(options: ClassifyOptions, output: OutputOptions) -> None:
    """Refuse what does not go together. Raises UsageError."""
    if not 0 <= options.timeout <= LONGEST_TIMEOUT:
        raise UsageError(f"--timeout {options.timeout:g} is not a number of seconds to wait; 0 turns the rule off")
    if options.ladder and "-" in options.captures:
        raise UsageError("--ladder reads a capture twice, and standard input can be read once: name a file")
    if options.ladder and options.gap:
        raise UsageError("--ladder draws all scans of a target: choose one with --since and --until, without --gap")
    if options.jobs and not options.each:
        raise UsageError("--jobs needs --each: several files are one capture, and one process judges it")
    check_form(output.progress)
    output.check_names()
    if output.stats:
        check_new(output.stats, output.force)


def reading_of(options: ClassifyOptions, only_open: bool) -> Classification:
    """What is to be read, and how. Raises UsageError."""
    selection, period = _selection(options, only_open), Period.of(options.since, options.until)
    gap = 0 if options.gap is None else duration("--gap", options.gap)
    return Classification(
        list(options.captures), options.timeout, options.orphans, selection, options.outer, period, gap
    )


def _selection(options: ClassifyOptions, only_open: bool) -> Selection:
    """The rows that are wanted. A target of `--ladder` selects too. Raises UsageError."""
    targets, ports = options.target, options.ports
    if options.ladder not in (None, EACH):
        drawn = parse_target(options.ladder)
        targets, ports = (drawn.ip,), str(drawn.port)
    return Selection(options.scanner, targets, ports, only_open)
