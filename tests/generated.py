"""The parts of the documents that follow from the code: `python -m tests.generated` (`make golden`) writes them anew.

The README has a row for each option of each verb; an option that several verbs share has one row that names them all.
ARCHITECTURE.md has the life of a window as a diagram. Each part stands between two markers.
"""

from collections.abc import Callable
from pathlib import Path

from scanner.cli.options import OPTIONS
from scanner.declare import Option
from scanner.rounds.lifecycle import TABLE, Action, Rule, Wait

ROOT = Path(__file__).resolve().parents[1]

# Where a window begins is not in the table, because no rule leads there.
STARTS = ("[*] --> SWEEPING: the link needs MAC addresses", "[*] --> PROBING: it does not, or a connect scan")


def options_table() -> str:
    """The options as a Markdown table, grouped as in `--help`."""
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


def window_diagram() -> str:
    """The life of a window as a Mermaid diagram: a box for each state, an arrow for each rule."""
    lines = [f'state "{state.name}: {state.value}" as {state.name}' for state in TABLE]
    lines += STARTS
    for state, rules in TABLE.items():
        for number, rule in enumerate(rules, 1):
            order = f"({number}) " if len(rules) > 1 else ""
            lines.append(f"{state.name} --> {rule.next.name}: {order}{_label(rule)}")
        if not rules:
            lines.append(f"{state.name} --> [*]")
    return "```mermaid\nstateDiagram-v2\n" + "".join(f"    {line}\n" for line in lines) + "```\n"


def _label(rule: Rule) -> str:
    """What an arrow says: event, wait and action. A wait of no time and no action are left out."""
    wait = "" if rule.wait is Wait.NONE else f", {rule.wait.value}"
    action = "" if rule.action is Action.NONE else f" / {rule.action.value}"
    return f"{rule.event.value}{wait}{action}"


# (document, marker) → the text that belongs between the markers.
PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("README.md", "options"): options_table,
    ("ARCHITECTURE.md", "window"): window_diagram,
}


def written(document: str, marker: str) -> str:
    """The part as the document has it now."""
    return _around(document, marker)[1]


def _around(document: str, marker: str) -> tuple[str, str, str]:
    """A document in three: up to the marker, the part, and the rest."""
    before, rest = (ROOT / document).read_text("utf-8").split(f"<!-- {marker} -->\n")
    part, after = rest.split(f"<!-- /{marker} -->\n")
    return f"{before}<!-- {marker} -->\n", part, f"<!-- /{marker} -->\n{after}"


def main() -> None:
    for (document, marker), generate in PARTS.items():
        before, _, after = _around(document, marker)
        (ROOT / document).write_text(before + generate() + after, "utf-8")


if __name__ == "__main__":
    main()
