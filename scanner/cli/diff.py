"""What `diff` does, from the options to the exit code.

A script wants to know by the exit code whether something happened that it must tell somebody. `--fail-on` says which
groups of changes count. What is printed does not depend on it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from ..capture.source import file_name
from ..errors import ScanError, UsageError, note
from ..output.jsonl import chunks
from ..output.stream import standard_output
from ..results.changes import Change, Difference, Group, json_line, table
from ..results.diff import Comparison, compared
from ..results.memory import at_most
from ..results.read import read_results
from .progress import reading
from .result_options import DiffOptions


def run_diff(options: DiffOptions) -> int:
    """The exit code: 1 if something changed (with --fail-on in one of these groups), else 0. Raises UsageError."""
    form, old, new = options.form, options.old, options.new
    if form not in (None, "table", "jsonl"):
        raise UsageError(f"format {form!r} is not known here: use table or jsonl")
    if old == new == "-":
        raise UsageError("both sides are standard input: name a file for one of them")
    wanted = _groups(options.fail_on)
    with at_most(options.max_memory):
        changed = _print_changes(options, _comparison(options))
    return 1 if changed & wanted else 0


def _comparison(options: DiffOptions) -> Comparison:
    """Both results, read and compared."""
    notes: list[str] = []
    try:
        with reading(options.quiet) as tell:
            sides = ((read_results([path], notes.append, tell), file_name(path)) for path in (options.old, options.new))
            return compared(sides, options.reasons, options.only_open, notes.append)
    finally:
        for line in notes:
            note(line)


def _print_changes(options: DiffOptions, comparison: Comparison) -> set[Group]:
    """Print what changed; the groups that it belongs to."""
    tally: Counter[Change] = Counter()
    groups: set[Group] = set()
    rows = _counted(comparison.differences, tally, groups)
    try:
        stream = standard_output()
        for text in chunks(map(json_line, rows) if options.form == "jsonl" else table(rows, options.everything)):
            stream.write(text)
    except ScanError as error:
        raise UsageError(str(error)) from error  # exit code 2: 1 says that something changed
    if not options.quiet:
        note(_summary(comparison, tally))
    return groups


def _groups(words: tuple[str, ...]) -> set[Group]:
    """The groups that --fail-on names; all of them without it. Raises UsageError."""
    named = {word.strip() for text in words for word in text.split(",")}
    known = {group.value: group for group in Group}
    if unknown := sorted(named - known.keys()):
        raise UsageError(f"--fail-on {unknown[0]!r} is no group of changes: use one or several of {', '.join(known)}")
    return {known[word] for word in named} or set(Group)


def _counted(rows: Iterable[Difference], tally: Counter[Change], groups: set[Group]) -> Iterator[Difference]:
    for row in rows:
        tally[row.change] += 1
        groups.add(row.group)
        yield row


def _summary(comparison: Comparison, tally: Counter[Change]) -> str:
    counts = [f"{tally[change]:,} {change.value}" for change in Change if tally[change]]
    text = ", ".join([*counts, f"{comparison.same:,} the same"])
    return text + (f"; {comparison.unknown:,} unknown on one side, not compared" if comparison.unknown else "")
