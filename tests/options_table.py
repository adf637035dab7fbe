"""The table of options in the README: `python -m tests.options_table` (`make golden`) writes it anew.

Each option of each verb has a row. An option that several verbs share has one row that names them all.
"""

from pathlib import Path

from scanner.cli.options import OPTIONS
from scanner.config import Option

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- options -->\n", "<!-- /options -->\n"


def table() -> str:
    """The rows as Markdown, grouped as in `--help`."""
    verbs: dict[str, dict[str, list[str]]] = {}  # heading → cells of an option → its verbs
    for verb, options in OPTIONS.items():
        for option in options.values():
            verbs.setdefault(option.heading, {}).setdefault(_cells(option), []).append(verb)
    lines = ["| option | meaning | default | verbs |", "|---|---|---|---|"]
    for heading, rows in verbs.items():
        lines += [f"| **{heading}** | | | |", *(f"{cells} {', '.join(names)} |" for cells, names in rows.items())]
    return "\n".join(lines) + "\n"


def _cells(option: Option) -> str:
    """The first three cells of a row."""
    names = [f"`{name}`" for name in option.names] or [f"`{option.name.upper()}`"]
    if option.metavar:
        names[-1] = f"{names[-1][:-1]} {option.metavar}`"
    default = f"`{option.default}`" if isinstance(option.default, str | int | float) and option.kind is not bool else ""
    return f"| {', '.join(names)} | {option.help} | {default} |"


def in_readme() -> str:
    """The table as the README has it."""
    return README.read_text("utf-8").split(START)[1].split(END)[0]


if __name__ == "__main__":
    README.write_text(README.read_text("utf-8").replace(in_readme(), table()), "utf-8")
