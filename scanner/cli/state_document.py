"""The state of a scan as bytes: JSON with a version and a checksum, and the same read back without any trust.

`scanner/data/state.schema.json` describes the document, and the reader checks against this very schema
(`scanner.documents`, which also bounds what a crafted file costs).

The checksum finds damage, not forgery: who can write the file can also write its checksum. So the file must belong to
the caller, nobody else may be able to write to it, and nothing in it names a file to open.
"""

import json
import os
import stat
from hashlib import sha256
from typing import Any

from ..documents import NotJson, breaks, parse, schema
from ..errors import UsageError

MOST_BYTES = 16 << 20
MOST_VALUES = 1 << 20
OPENING = b'{"format": "halfopen scan state, version '  # of every state, also of other versions


class NotAState(Exception):
    """The bytes are something else than a state of this version."""


def encode(content: dict[str, Any]) -> bytes:
    """The document for this content, without its `format` and `checksum`."""
    content = {"format": _format(), **content}
    return json.dumps({**content, "checksum": _checksum(content)}).encode("ascii")


def decode(data: bytes) -> dict[str, Any]:
    """The document in these bytes. Raises NotAState, or ValueError that says what is damaged."""
    try:
        document = parse(data, MOST_BYTES, MOST_VALUES)
    except NotJson as error:
        raise NotAState from error
    if not isinstance(document, dict) or document.get("format") != _format():
        raise NotAState
    checksum = document.pop("checksum", None)
    if checksum != _checksum(document):
        raise ValueError("its checksum does not match")
    if wrong := breaks({**document, "checksum": checksum}, schema("state")):
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


def _format() -> str:
    return str(schema("state")["properties"]["format"]["const"])


def _checksum(content: dict[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()
