"""`halfopen report`: results as one page that opens anywhere, without a network.

The flow is files → verdicts → columns (`results`) → what the page shows (`model`, with the drawings of `charts`) → one
page, through a Jinja2 template. Everything is inside the page, its script and style included, so a report can be sent,
kept and opened offline.

Jinja2 escapes text from result files everywhere (autoescape). Data for the script goes through `tojson`, which also
escapes what could end a script element. The page's own Content-Security-Policy allows exactly one script and one style
sheet, by their hashes, and no request at all. Text that got through in spite of that could run and fetch nothing.

The template draws charts as tables and SVG. A plotting library would add megabytes to every report and does not follow
the reader's light or dark scheme. The map is a canvas, because it may have a quarter of a million cells.

What a scan says of itself (its command, how sure it is) comes from its XML or its statistics, never from rows.

Limit: sums, charts and map count every row; the table holds 262,144 rows, the strongest states first, and says so.
"""

from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, nullcontext
from hashlib import sha256
from importlib.util import find_spec
from typing import Any

from .._version import __version__
from ..capture.source import file_name
from ..errors import UsageError, escaped, note
from ..files import check_new
from ..output.stream import create, standard_output
from ..results.columns import Vocabulary
from ..results.diff import compare_sides
from ..results.read import Showing, read_results
from ..results.runs import RunFacts, moment, read_stats, with_stats
from ..verdict.rows import Verdict
from ..verdict.sentences import plural
from .model import Model
from .overview import FEW_HOSTS

TITLE = "Scan report"


def run_report(
    *, results: Sequence[str], output: str, title: str | None, force: bool, quiet: bool, stats: Sequence[str] = (),
    since: str | None = None, showing: Showing = nullcontext,
) -> int:  # fmt: skip
    """`halfopen report`, by its options: read results and write the page (`-`: to standard output).

    Raises UsageError, also where Jinja2 is missing.
    """
    _check_jinja()
    if [*results, since].count("-") > 1:
        raise UsageError("standard input is named twice, and can be read once")
    if output != "-":
        check_new(output, force)  # before minutes of reading
    given = list(map(read_stats, stats))
    notes: list[str] = []
    runs: list[RunFacts] = []
    names = list(map(file_name, results))
    with showing() as tell:
        rows = read_results(results, notes.append, tell, runs)
        before = (read_results([since], notes.append, tell), file_name(since)) if since else None
        model = model_of(rows, title or TITLE, names, notes, lambda: with_stats(runs, given, results), before)
    page = render(model)
    stream = standard_output() if output == "-" else create(output, force)
    with ExitStack() as undo:
        undo.callback(stream.abandon)
        stream.write(page)
        stream.begin()
        undo.pop_all()  # the page is whole
    stream.close()
    if not quiet:
        for line in (
            *model.notes,
            f"{plural(model.targets, 'target')} of {plural(model.hosts, 'host')} in {stream.name}",
        ):
            note(line)
    return 0


def model_of(
    rows: Iterable[Verdict], title: str, names: Sequence[str], notes: list[str], runs: Callable[[], Sequence[RunFacts]],
    before: tuple[Iterable[Verdict], str] | None = None,
) -> Model:  # fmt: skip
    """Rows as what a page shows. `names`: what they come from; `notes`: what the page says of them.

    `runs`, asked when all rows are read: what the scans say of themselves. `before`: earlier rows to compare with, and
    their name.
    """
    texts = Vocabulary()
    columns = texts.rows(rows)
    if before is None:
        return Model(texts, columns, title, names, notes, runs())
    sides = [(texts.rows(before[0]), before[1]), (columns, ", ".join(names))]
    since = before[1], compare_sides(texts, sides, tell=notes.append)
    return Model(texts, columns, title, names, notes, runs(), since)


def page_of(*given: Any) -> str:
    """The same as HTML. Raises UsageError where Jinja2 is missing."""
    _check_jinja()
    return render(model_of(*given))


def _check_jinja() -> None:
    if find_spec("jinja2") is None:  # an extra of the package; nothing else needs it
        raise UsageError("a report needs jinja2: pip install jinja2")


def render(model: Model) -> str:
    """The model as HTML. The same model gives the same text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("scanner.page", "template")
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters |= {"thousands": "{:,}".format, "moment": moment, "line": escaped}
    style, script = (loader.get_source(jinja, name)[0] for name in ("report.css", "report.js"))
    return jinja.get_template("report.html").render(
        model=model, style=style, script=script, style_hash=_hash(style), script_hash=_hash(script),
        version=__version__, few=FEW_HOSTS,
    ) + "\n"  # fmt: skip


def _hash(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode("utf-8")).digest()).decode("ascii")
