"""What `who` does, from the options to the exit code.

As `classify`, it opens no sockets and imports no module that does: Python and numpy are enough. The first Ctrl-C ends
the reading, and what was read is written. The second one ends the process at once.
"""

import sys

from ..capture.times import Period
from ..errors import INTERRUPTED, UsageError, escaped, note
from ..output.stream import standard_output
from ..who.reading import Who
from ..who.rows import FORMS, texts
from .capture_progress import watched
from .options import WhoOptions
from .progress import check_form
from .signals import stopped_by_signals


def run_who(options: WhoOptions) -> int:
    """Returns the exit code: 0, 1 if something was damaged, 2 if nothing could be read, 130. Raises UsageError."""
    check_form(options.progress)
    form = options.form or "table"
    if form not in FORMS:
        raise UsageError(f"format {form!r} is not known: use one of {', '.join(FORMS)}")
    if options.min_targets < 1:
        raise UsageError(f"--min-targets {options.min_targets} is not a number of targets: give 1 or more")
    period = Period.of(options.since, options.until)
    who = Who(list(options.captures), options.min_targets, options.everything, options.outer, period)
    reading = who.reading
    stream = standard_output()

    def stop() -> None:
        if reading.interrupted:
            sys.exit(INTERRUPTED)
        reading.capture.stop()

    with stopped_by_signals(stop, lambda: reading.interrupted):
        with watched(reading, options.quiet, options.progress):
            rows = list(who.rows())
        for text in texts(rows, form) if reading.capture.opened or reading.interrupted else ():
            stream.write(text)
    lines = reading.report()
    if reading.capture.opened and not rows and not who.left_out:
        lines.append("no probes in this capture: nobody is listed")
    lines += [f"not listed: {text}" for text in who.left_out]
    if reading.exit_code or not options.quiet:
        for line in map(escaped, lines):
            note(line)
    return INTERRUPTED if reading.interrupted else reading.exit_code
