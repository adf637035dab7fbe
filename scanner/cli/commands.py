"""Typer's commands, made from our own declarations of options.

Typer gets the parameters of a verb from `OPTIONS`. It differs from plain Typer in three things. Options are printed
under their headings, which Typer does only with rich. Flags of other scanners get a line that names our option
(`familiar`). And no value is read by a pydantic model, as Typer does since 0.27: to import pydantic takes 45 to 75 ms,
a fifth of the time of a scan of one port. Our options are texts, lists of texts, numbers and flags, and need no model.
"""

from collections.abc import Callable, Iterable
from dataclasses import MISSING
from functools import cache
from inspect import Parameter, cleandoc
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..config import per_second
from ..declare import Option, Texts, Values
from .familiar import check_flags, check_verb

_NAMES = {int: "a whole number", float: "a number"}


class _Plain:
    """Reads the value of one parameter, which Typer hands over."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        kind = param.type_descriptor.annotation
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        if kind not in _NAMES or not isinstance(value, str):
            return list(value) if several else value
        try:
            return per_second(value) if param.name == "max_rate" else kind(value)
        except ValueError:
            raise typer.BadParameter(f"{value!r} is not {_NAMES[kind]}", ctx=ctx, param=param) from None


_PLAIN = _Plain()


def _plainly(parameters: Iterable[Any]) -> None:
    """Let Typer read the values of these parameters without pydantic; an older Typer reads them so anyway."""
    for each in parameters:
        each.get_runtime_param = lambda: _PLAIN


class Root(TyperGroup):
    """The command itself, with the verbs below it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _plainly(self.get_params(ctx))
        if not ctx.resilient_parsing:  # as it is while the shell completes a word
            check_verb(args, self.commands, {name for parameter in self.get_params(ctx) for name in parameter.opts})
        return super().parse_args(ctx, args)


class Grouped(TyperCommand):
    """A command that prints its options under headings, without rich."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _plainly(self.get_params(ctx))
        if not ctx.resilient_parsing:
            check_flags(self.name or "", args, self.get_params(ctx))
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            heading = getattr(parameter, "rich_help_panel", None) or "Other"
            if record := parameter.get_help_record(ctx):
                groups.setdefault(heading, []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _completing(values: Values) -> Callable[[str], list[str]]:
    """What the shell asks: the values that begin with what has been typed."""

    def begin_with(incomplete: str) -> list[str]:
        return [value for value in (values() if callable(values) else values) if value.startswith(incomplete)]

    return begin_with


@cache  # verbs share most of their options
def parameter(option: Option) -> Parameter:
    """An option as Typer wants it: the parameter of a function."""
    kind, default = option.kind, option.default
    looks: dict[str, Any] = {"help": option.help, "metavar": option.metavar, "rich_help_panel": option.heading}
    # To Typer a repeatable option is a list, and a list that was not given is None.
    if kind == Texts:
        kind, default = list[str] if default is MISSING else list[str] | None, default or None
    if option.values:
        looks["autocompletion"] = _completing(option.values)
    info = typer.Option(*option.names, **looks) if option.names else typer.Argument(**looks)
    default = Parameter.empty if default is MISSING else default
    return Parameter(option.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def ladder_of_each(arguments: list[str]) -> list[str]:
    """The command line with `--ladder=each` for `--ladder` without a value, which Typer does not support."""
    following = [*arguments[1:], ""]
    named = [after.count(":") == 1 or after.startswith("[") for after in following]
    return [
        "--ladder=each" if argument == "--ladder" and not name else argument
        for argument, name in zip(arguments, named, strict=False)
    ]


def texts(act: Callable[..., Any]) -> dict[str, Any]:
    """The help of a function, which is the first paragraph of its docstring, and the rest, printed below the options.

    The mark `\\b` keeps click from joining the lines of a paragraph.
    """
    text, *paragraphs = cleandoc(act.__doc__ or "").split("\n\n")
    return {"help": text, "epilog": "\n\n".join(f"\b\n{paragraph}" for paragraph in paragraphs)}
