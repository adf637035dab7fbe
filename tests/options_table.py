"""The table of options in the README: `python -m tests.options_table` (`make golden`) writes it anew.

Each option of each verb has a row. An option that several verbs share has one row that names them all.
"""

from pathlib import Path

from scanner.cli.options import OPTIONS
from scanner.config import Declared

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- options -->\n", "<!-- /options -->\n"


def table() -> str:
    """The rows as Markdown, grouped as in `--help`."""
    verbs: dict[str, dict[str, list[str]]] = {}  # heading → cells of an option → its verbs
    for verb, options in OPTIONS.items():
        for name, each in options.items():
            verbs.setdefault(each.option.heading, {}).setdefault(_cells(name, each), []).append(verb)
    lines = ["| option | meaning | default | verbs |", "|---|---|---|---|"]
    for heading, rows in verbs.items():
        lines += [f"| **{heading}** | | | |", *(f"{cells} {', '.join(names)} |" for cells, names in rows.items())]
    return "\n".join(lines) + "\n"


def _cells(name: str, each: Declared) -> str:
    """The first three cells of a row."""
    flags = [f"`{flag}`" for flag in each.flags] or [f"`{name.upper()}`"]
    if each.option.metavar:
        flags[-1] = f"`{each.flags[-1]} {each.option.metavar}`"
    default = f"`{each.default}`" if isinstance(each.default, str | int | float) and each.kind is not bool else ""
    return f"| {', '.join(flags)} | {each.option.help} | {default} |"


def in_readme() -> str:
    """The table as the README has it."""
    return README.read_text("utf-8").split(START)[1].split(END)[0]


if __name__ == "__main__":
    README.write_text(README.read_text("utf-8").replace(in_readme(), table()), "utf-8")
