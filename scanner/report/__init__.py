"""`halfopen report`: results as one page that opens anywhere, without a network.

The flow is the house's: files → verdicts → columns (`gather`) → what is to be seen (`model`, with `charts` and
`maps`) → one page (`page`, through Jinja2). Everything is inside the page, its script and style included, and the
page itself forbids the browser to fetch anything (Content-Security-Policy), so a report can be sent, kept and opened
offline.

Charts are drawn by the template as tables and SVG, because a plotting library would weigh megabytes in every
report and know nothing of light and dark; the map is a canvas, because it may have a quarter of a million cells.

Limit: sums, charts and map count every row, the table holds the 100,000 most telling ones and says so.
"""

import sys
from dataclasses import dataclass

from ..errors import UsageError
from ..output.stream import create, standard_output
from ..results.columns import Gathering
from ..results.read import named, read_results
from .model import model_of


@dataclass(frozen=True)
class ReportRequest:
    """The options of `halfopen report` as they were typed."""

    results: tuple[str, ...]
    output: str
    title: str | None
    force: bool
    quiet: bool


def run_report(request: ReportRequest) -> int:
    """Read results and write the page (`-`: to standard output). Raises UsageError, also where Jinja2 is missing."""
    try:
        from .page import render
    except ModuleNotFoundError as error:
        raise UsageError(f"a report needs {error.name}: pip install halfopen[report]") from error
    if request.results.count("-") > 1:
        raise UsageError("standard input is named twice, and can be read once")
    notes: list[str] = []
    gathering = Gathering()
    rows = gathering.rows(read_results(request.results, notes.append))
    names = [named(path) for path in request.results]
    model = model_of(gathering, rows, request.title or "Scan report", names, notes)
    stream = standard_output() if request.output == "-" else create(request.output, request.force)
    stream.cut_back()
    stream.write(render(model))
    stream.close()
    if not request.quiet:
        lines = [*notes, f"{_many(model.targets, 'target')} of {_many(model.hosts, 'host')} in {stream.name}"]
        print("\n".join(f"halfopen: {line}" for line in lines), file=sys.stderr)
    return 0


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
