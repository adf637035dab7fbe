"""JSON that others may have written, read without any trust: bounded, parsed, and checked by a schema.

The schemas are in `scanner/data/`, so what is documented is what is accepted. The part of JSON Schema that they need is
a short function here; a library would be one more dependency for everybody.

Before anything is parsed, the number of values is bounded. So a crafted document costs some hundred megabytes at most.
Depth ends at Python's own limit for recursion. NaN, infinite and very long numbers are refused.
"""

import json
import math
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

LONGEST_NUMBER = 40  # digits
_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
_MOST: dict[type, str] = {dict: "maxProperties", list: "maxItems", str: "maxLength"}


class NotJson(ValueError):
    """The bytes are no JSON document, or a larger one than is read."""


def parse(data: bytes, most_bytes: int, most_values: int) -> Any:
    """The value in these bytes. Raises NotJson, or ValueError for a number that is none."""
    if len(data) > most_bytes or sum(map(data.count, (b"[", b"{", b",", b":"))) > most_values:
        raise NotJson("it is too large")
    try:
        return json.loads(data.decode("utf-8"), parse_int=_integer, parse_float=_real, parse_constant=_constant)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJson("it is no JSON") from error


@cache
def schema(name: str) -> dict[str, Any]:
    """The schema `scanner/data/NAME.schema.json`."""
    found: dict[str, Any] = json.loads((Path(__file__).parent / "data" / f"{name}.schema.json").read_text("utf-8"))
    return found


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError("a number in it is too long")
    return int(text)


def _real(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _constant(text)


def _constant(text: str) -> float:
    raise ValueError(f"{text[:LONGEST_NUMBER]} in it is no number")


def breaks(value: Any, schema: dict[str, Any], where: str = "it") -> str | None:
    """What breaks the schema first, as a sentence; None: nothing. Knows the keywords that our schemas use."""
    if not schema:
        return None  # anything: whoever uses it checks it
    kinds = schema.get("type", list(_KINDS))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    choice = schema.get("enum", [schema["const"]] if "const" in schema else [value])
    if not any(type(value) in _KINDS[kind] for kind in kinds):
        return f"{where} is no {' or '.join(kinds)}"
    if value not in choice:
        return f"{where} is none of {choice}"
    if isinstance(value, dict | list | str) and len(value) > schema.get(_MOST[type(value)], len(value)):
        return f"{where} is too long" if isinstance(value, str) else f"{where} has too many members"
    if isinstance(value, str) and "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        return f"{where} is not written as it should be"
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return f"{where} is out of range"
    if isinstance(value, list):
        return _first(breaks(item, schema.get("items", {}), f"{where}[{at}]") for at, item in enumerate(value))
    return _wrong_member(value, schema, where) if isinstance(value, dict) else None


def _wrong_member(value: dict[str, Any], schema: dict[str, Any], where: str) -> str | None:
    members, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    if missing := [name for name in schema.get("required", []) if name not in value]:
        return f"{where} has no {missing[0]}"
    if others is False and (unknown := [name for name in value if name not in members]):
        return f"{where} has an unknown member {unknown[0][:LONGEST_NUMBER]!r}"
    return _first(breaks(item, members.get(name, others), f"{where}.{name}"[:80]) for name, item in value.items())


def _first(found: Iterable[str | None]) -> str | None:
    return next((text for text in found if text), None)
