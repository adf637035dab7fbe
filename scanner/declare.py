"""How an option is declared: once, as the field of a dataclass.

Everything else about options is derived from these fields: the parameters and the --help of a verb (`cli.verbs`), the
keywords of `scanner.scan` (`api`), and the table in the README (`tests.generated`).

Limit: `halfopen --help` imports this module, so it imports neither numpy nor Typer.
"""

from collections.abc import Callable
from dataclasses import field, fields
from typing import Any, NamedTuple

Texts = tuple[str, ...]
Values = Texts | Callable[[], Texts]


class Option(NamedTuple):
    """How an option looks to a user.

    `flags`: separated by spaces; empty: the name of the field; None: a positional argument. `typed`: the default as the
    user would type it, for an option whose text is read later (see `config_of`). `fixed`: a resumed scan must be given
    the same value. `values`: what the shell completes it to. Name, kind and default come from the field: its name, its
    type, and its default (MISSING: required).
    """

    heading: str
    help: str
    flags: str | None = ""
    metavar: str | None = None
    typed: str | None = None
    fixed: bool = False
    name: str = ""
    kind: Any = None
    default: Any = None
    values: Values = ()

    @property
    def names(self) -> list[str]:
        """Every flag; none for a positional argument."""
        return [] if self.flags is None else self.flags.split() or ["--" + self.name.replace("_", "-")]


def option(default: Any, *looks: Any, **more: Any) -> Any:
    """The field of an option. `default` may be a function that makes the value."""
    metadata = {"option": Option(*looks, **more)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def declared(*groups: Any, without: tuple[str, ...] = ()) -> dict[str, Option]:
    """The options of some groups by the names of their fields, in the order of their declaration."""
    options: dict[str, Option] = {}
    for declaration in (declaration for group in groups for declaration in fields(group)):
        unnamed = declaration.metadata.get("option")
        if unnamed and declaration.name not in without:
            kind, default = (declaration.type, declaration.default) if unnamed.typed is None else (str, unnamed.typed)
            options[declaration.name] = unnamed._replace(name=declaration.name, kind=kind, default=default)
    return options
