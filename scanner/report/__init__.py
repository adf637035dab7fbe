"""`halfopen report`: results as one page that opens anywhere, without a network.

The flow is files → verdicts → columns (`results`) → what the page shows (`model`, with the drawings of `charts`)
→ one page (`page`, through Jinja2). Everything is inside the page, its script and style included. The
page itself forbids the browser to fetch anything (Content-Security-Policy), so a report can be sent, kept and opened
offline.

The template draws charts as tables and SVG. A plotting library would add megabytes to every
report and does not follow the reader's light or dark scheme. The map is a canvas, because it may have a quarter of a
million cells.

Limit: sums, charts and map count every row; the table holds 100,000 rows, the strongest states first, and says so.
"""

from collections.abc import Sequence

from ..errors import UsageError, note
from ..output.stream import create, standard_output
from ..results.columns import Vocabulary
from ..results.read import named, read_results
from ..verdict.sentences import plural
from .model import model_of


def run_report(*, results: Sequence[str], output: str, title: str | None, force: bool, quiet: bool) -> int:
    """`halfopen report`, by its options: read results and write the page (`-`: to standard output).

    Raises UsageError, also where Jinja2 is missing.
    """
    try:
        from .page import render
    except ModuleNotFoundError as error:
        raise UsageError(f"a report needs {error.name}: pip install halfopen[report]") from error
    if results.count("-") > 1:
        raise UsageError("standard input is named twice, and can be read once")
    notes: list[str] = []
    texts = Vocabulary()
    rows = texts.rows(read_results(results, notes.append))
    model = model_of(texts, rows, title or "Scan report", [named(path) for path in results], notes)
    stream = standard_output() if output == "-" else create(output, force)
    stream.cut_back()
    stream.write(render(model))
    stream.close()
    if not quiet:
        for line in (*notes, f"{plural(model.targets, 'target')} of {plural(model.hosts, 'host')} in {stream.name}"):
            note(line)
    return 0
