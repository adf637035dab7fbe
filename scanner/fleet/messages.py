"""The messages of a fleet as bytes, and read back as hostile input.

A message is a JSON object of one of the kinds in `data/fleet.schema.json`, and the reader checks against this very
schema. Each kind has a limit of its own for its size. A batch of rows has its object on the first line, and the rows
follow as JSON lines. Whoever may publish on a subject can publish anything there, so both sides read every message
here, and a message that breaks the schema is dropped and counted.

Limit: a message is not signed. Who may publish on which subject is up to the server (`subjects`).
"""

import json
from typing import Any

from ..documents import breaks, parse, schema

FORMAT = "halfopen fleet, version 1"
MOST_JOB = 256 << 20  # bytes
MOST_ROWS = 512 << 10  # bytes of a batch; a server takes 1 MB in one message if nobody has changed that
_MOST_BYTES = {"job": MOST_JOB, "rows": 4096, "end": 256 << 10}
_USUAL_BYTES = 4096
_MOST_VALUES = 1 << 18
Message = dict[str, Any]


class BadMessage(ValueError):
    """Bytes that are no message of the kind that belongs there. The text says why."""


def encode(kind: str, **content: Any) -> bytes:
    """A message of this kind."""
    message = {"format": FORMAT, "kind": kind, **content}
    assert not breaks(message, _schema(kind)), breaks(message, _schema(kind))
    return json.dumps(message).encode("ascii")


def decode(data: bytes, *kinds: str) -> Message:
    """A message of one of these kinds. Raises BadMessage."""
    try:
        message = parse(data, max(_MOST_BYTES.get(kind, _USUAL_BYTES) for kind in kinds), _MOST_VALUES)
    except ValueError as error:
        raise BadMessage(str(error)) from error
    kind = message.get("kind") if isinstance(message, dict) else None
    if kind not in kinds or len(data) > _MOST_BYTES.get(kind, _USUAL_BYTES):
        raise BadMessage(f"it is no {' or '.join(kinds)}")
    if wrong := breaks(message, _schema(kind)):
        raise BadMessage(wrong)
    return dict(message)


def with_rows(head: bytes, rows: bytes) -> bytes:
    """The message of a batch: its object, and its rows as JSON lines."""
    return head + b"\n" + rows


def decode_result(data: bytes) -> tuple[Message, bytes]:
    """A batch with its rows, or the end of an attempt with b"". Raises BadMessage."""
    head, _, rows = data.partition(b"\n")
    if len(rows) > MOST_ROWS:
        raise BadMessage("its rows are too long")
    message = decode(head, "rows", "end")
    # Only JSON lines begin so: what reads the rows tells formats by their first bytes.
    if (message["kind"] == "rows") != rows.startswith(b'{"ip": '):
        raise BadMessage("its rows are no JSON lines")
    return message, rows


def _schema(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = schema("fleet")["$defs"][kind]
    return found
