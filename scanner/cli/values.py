"""What the words of a command line mean, read without pydantic.

Typer lets a pydantic model read every value. To import pydantic takes 45 to 75 ms, a fifth of the time that a scan of
one port takes. Our options are texts, lists of texts, numbers and flags, so `plainly` gives their parameters a reader
that needs no model. Where Typer has no such readers (before 0.27) this changes nothing.
"""

from collections.abc import Iterable
from typing import Any

import typer

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
            return kind(value)
        except ValueError:
            raise typer.BadParameter(f"{value!r} is not {_NAMES[kind]}", ctx=ctx, param=param) from None


_PLAIN = _Plain()


def plainly(parameters: Iterable[Any]) -> None:
    """Let Typer read the values of these parameters without pydantic."""
    for parameter in parameters:
        parameter.get_runtime_param = lambda: _PLAIN
