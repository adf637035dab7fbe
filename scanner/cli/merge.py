"""What `merge` does, from the options to the exit code.

A merged result takes the place of files that are deleted afterwards. So output files get their names only when all of
them are whole. A file that cannot be read, a full disk, Ctrl-C or `kill -9` leave nothing behind. Standard output gets
the rows only if no file is named, or with -f.
"""

import gc

from ..errors import UsageError, note
from ..files import check_new
from ..output import Outputs, Run, Summary, check_forms
from ..results.memory import at_most
from ..results.merge import Merge, Unforeseen, batches
from ..verdict.rows import Verdict
from ..verdict.sentences import plural
from ..verdict.table import State
from .options import OutputOptions, command_line
from .progress import reading
from .result_options import MergeOptions


def run_merge(options: MergeOptions, output: OutputOptions) -> int:
    """The exit code. Raises UsageError, ScanError, and BrokenPipeError if the reader of standard output has left."""
    to_screen = _checked(options, output)
    gc.disable()  # rows are tuples without cycles
    with at_most(options.max_memory) as room:
        try:
            _merge(options, output, room, to_screen, streaming=not to_screen)
        except Unforeseen:
            _merge(options, output, room, to_screen, streaming=False)
    return 0


def _checked(options: MergeOptions, output: OutputOptions) -> bool:
    """Refuse before minutes of reading what would be refused after them. Returns whether standard output gets rows."""
    if options.results.count("-") > 1:
        raise UsageError("standard input is named twice, and can be read once")
    output.check_names()
    _, paths = check_forms(output.form, output.output, output.named)
    for path in paths:
        check_new(path, output.force)
    return not paths or output.form is not None or "-" in (*output.output, *(path for _, path in output.named))


def _merge(options: MergeOptions, output: OutputOptions, room: int, to_screen: bool, streaming: bool) -> None:
    """Read and write everything, and say how much it was."""
    notes: list[str] = []
    with reading(output.quiet) as tell, Merge(options.results, room, notes.append, tell, streaming) as merge:
        outputs = output.open(
            Run(command_line(), more=merge.more, only_open=output.only_open), whole=True, to_screen=to_screen
        )
        try:
            targets, reader_left = _write(merge, outputs, output.only_open)
            files = plural(len(options.results), "file")
            sums = f"{plural(merge.rows, 'row')} of {files}: {plural(targets, 'target')}"
            outputs.publish(Summary("\n".join([*notes, sums])))
        finally:
            outputs.abandon()  # does nothing after `publish`
    for line in [*notes, *([] if output.quiet else [sums])]:
        note(line)
    if reader_left:
        raise BrokenPipeError


def _write(merge: Merge, outputs: Outputs, only_open: bool) -> tuple[int, bool]:
    """Every row to every output: how many targets there are, and whether the reader of standard output has left."""
    count, reader_left = 0, False
    for batch in batches(merge.targets()):
        count += len(batch)
        rows: list[Verdict] = [row for row in batch if row.state == State.OPEN.value] if only_open else batch
        try:
            outputs.write(rows)
        except BrokenPipeError:  # it costs the files nothing
            reader_left = True
            if not outputs.left:
                raise
    return count, reader_left
