"""The page: a model through one Jinja2 template, with its style and script inside.

Jinja2 escapes text from result files everywhere (autoescape). Data for the script goes through `tojson`,
which also escapes what could end a script element. The page's own policy then allows exactly one script and one style
sheet, by their hashes, and no request at all: text that got through in spite of that could run and fetch nothing.
"""

from base64 import b64encode
from datetime import datetime, timezone
from hashlib import sha256

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from .charts import HEIGHT, WIDTH
from .model import Model


def render(model: Model) -> str:
    """The model as HTML. The same model gives the same text."""
    loader = PackageLoader("scanner.report", "template")
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters["thousands"] = "{:,}".format
    jinja.filters["moment"] = _moment
    style, script = (loader.get_source(jinja, name)[0] for name in ("report.css", "report.js"))
    return jinja.get_template("report.html").render(
        model=model, style=Markup(style), script=Markup(script), style_hash=_hash(style), script_hash=_hash(script),
        version=__version__, width=WIDTH, height=HEIGHT,
    ) + "\n"  # fmt: skip


def _hash(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode("utf-8")).digest()).decode("ascii")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
