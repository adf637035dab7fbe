"""The state of a scan as bytes: JSON with a version and a checksum, and the same read back without any trust.

`scanner/data/state.schema.json` describes the document, and the reader checks against this very schema. So what is
documented is what is accepted. The part of JSON Schema that the schema needs is a short function; a library would be
one more dependency for everybody who never resumes a scan.

Before anything is parsed, the size and the number of values are bounded. So a crafted file costs some hundred
megabytes at most. Depth ends at Python's own limit for recursion. NaN, infinite and very long numbers are refused.

The checksum finds damage, not forgery: who can write the file can also write its checksum. So the file must belong to
the caller, nobody else may be able to write to it, and nothing in it names a file to open.
"""

import json
import math
import os
import re
import stat
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import UsageError

MOST_BYTES = 16 << 20
MOST_VALUES = 1 << 20
OPENING = b'{"format": "halfopen scan state, version '  # of every state, also of other versions
_LONGEST_NUMBER = 40  # digits
_SCHEMA = Path(__file__).parents[1] / "data" / "state.schema.json"
_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
_MOST: dict[type, str] = {dict: "maxProperties", list: "maxItems"}


class NotAState(Exception):
    """The bytes are something else than a state of this version."""


def encode(content: dict[str, Any]) -> bytes:
    """The document for this content, without its `format` and `checksum`."""
    content = {"format": _format(), **content}
    return json.dumps({**content, "checksum": _checksum(content)}).encode("ascii")


def decode(data: bytes) -> dict[str, Any]:
    """The document in these bytes. Raises NotAState, or ValueError that says what is damaged."""
    if len(data) > MOST_BYTES or sum(map(data.count, (b"[", b"{", b",", b":"))) > MOST_VALUES:
        raise NotAState
    try:
        document = json.loads(data.decode("utf-8"), parse_int=_integer, parse_float=_real, parse_constant=_constant)
        if not isinstance(document, dict) or document.get("format") != _format():
            raise NotAState
        checksum = document.pop("checksum", None)
        if checksum != _checksum(document):
            raise ValueError("its checksum does not match")
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAState from error
    if wrong := _wrong({**document, "checksum": checksum}, _schema(), "it"):
        raise ValueError(wrong)
    return document


def read_private(path: str) -> bytes:
    """A file of the caller that nobody else can write to. Raises UsageError for any other, and OSError."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise UsageError(f"{path} is no regular file: name a file that --resume made, or a new one")
        if facts.st_uid != os.geteuid():  # under sudo that is the caller already: see `privileges`
            raise UsageError(f"{path} belongs to another user, so what it says is not trusted: name a state of yours")
        if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise UsageError(f"others may write to {path}, so what it says is not trusted: scan anew")
        return file.read(MOST_BYTES + 1)


@cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(_SCHEMA.read_text("utf-8"))
    return schema


def _format() -> str:
    return str(_schema()["properties"]["format"]["const"])


def _checksum(content: dict[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("a number in it is too long")
    return int(text)


def _real(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _constant(text)


def _constant(text: str) -> float:
    raise ValueError(f"{text[:_LONGEST_NUMBER]} in it is no number")


def _wrong(value: Any, schema: dict[str, Any], where: str) -> str | None:
    """What breaks the schema first, as a sentence; None: nothing. Knows the keywords that the schema uses."""
    if not schema:
        return None  # anything: whoever uses it checks it
    kinds = schema.get("type", list(_KINDS))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    choice = schema.get("enum", [schema["const"]] if "const" in schema else [value])
    if not any(type(value) in _KINDS[kind] for kind in kinds):
        return f"{where} is no {' or '.join(kinds)}"
    if value not in choice:
        return f"{where} is none of {choice}"
    if isinstance(value, str) and "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        return f"{where} is not written as it should be"
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return f"{where} is out of range"
    if isinstance(value, dict | list) and len(value) > schema.get(_MOST[type(value)], len(value)):
        return f"{where} has too many members"
    if isinstance(value, list):
        return _first(_wrong(item, schema.get("items", {}), f"{where}[{at}]") for at, item in enumerate(value))
    return _wrong_member(value, schema, where) if isinstance(value, dict) else None


def _wrong_member(value: dict[str, Any], schema: dict[str, Any], where: str) -> str | None:
    members, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    if missing := [name for name in schema.get("required", []) if name not in value]:
        return f"{where} has no {missing[0]}"
    if others is False and (unknown := [name for name in value if name not in members]):
        return f"{where} has an unknown member {unknown[0][:_LONGEST_NUMBER]!r}"
    return _first(_wrong(item, members.get(name, others), f"{where}.{name}"[:80]) for name, item in value.items())


def _first(found: Iterable[str | None]) -> str | None:
    return next((text for text in found if text), None)
