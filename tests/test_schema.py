"""The JSON Schema of a verdict: every expected row keeps it, and its words are those of the program."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scanner import Verdict
from scanner.output.jsonl import line
from scanner.verdict.sentences import EVIDENCE
from scanner.verdict.table import Reason, State
from tests.command import halfopen

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "scanner/data/verdict.schema.json").read_text("utf-8"))
TARGET, HOST = SCHEMA["oneOf"]
KINDS = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}


def keeps(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value keeps a schema, by the keywords that ours uses."""
    kinds = schema.get("type", list(KINDS))
    number = isinstance(value, int | float)
    return all((
        any(isinstance(value, KINDS[kind]) for kind in ([kinds] if isinstance(kinds, str) else kinds)),
        value in schema.get("enum", [value]) and value == schema.get("const", value),
        not isinstance(value, str) or re.search(schema.get("pattern", ""), value) is not None,
        not number or schema.get("minimum", value) <= value <= schema.get("maximum", value),
        not isinstance(value, list) or all(keeps(each, schema["items"]) for each in value),
        not isinstance(value, dict) or has_members(value, schema),
        "oneOf" not in schema or sum(keeps(value, each) for each in schema["oneOf"]) == 1,
    ))  # fmt: skip


def has_members(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Whether an object has the members that it must have, and no others."""
    if "properties" not in schema:
        return True
    members = schema["properties"]
    return set(schema["required"]) <= value.keys() <= members.keys() and all(
        keeps(each, members[name]) for name, each in value.items()
    )


@pytest.mark.parametrize("path", sorted((ROOT / "pcaps").glob("*.jsonl")), ids=lambda path: path.stem)
def test_every_expected_row_keeps_the_schema(path: Path) -> None:
    assert [row for row in path.read_text().splitlines() if not keeps(json.loads(row), SCHEMA)] == []


def test_a_host_that_is_down_keeps_it() -> None:
    assert keeps(json.loads(line(Verdict("192.0.2.8", None, "down", "no-arp"))), SCHEMA)


@pytest.mark.parametrize(
    "change",
    [{"port": None}, {"port": 65536}, {"state": "down"}, {"reason": "x"}, {"evidence": ["x"]}, {"evidence": "late"},
     {"ttl": "64"}, {"more": 1}, {"ip": "a b"}, {"pass": 0}],
)  # fmt: skip
def test_a_row_that_is_wrong_breaks_it(change: dict[str, Any]) -> None:
    row = json.loads(line(Verdict("192.0.2.7", 80, "closed", "reset", "tcp", 63, "http", ("late", "conflict:reset"))))
    assert (keeps(row, SCHEMA), keeps({**row, **change}, SCHEMA)) == (True, False)


def test_its_words_are_those_of_the_program() -> None:
    members = TARGET["properties"]
    reasons = {reason.word for reason in Reason if reason is not Reason.NONE}
    assert {*members["state"]["enum"], HOST["properties"]["state"]["const"]} == {state.value for state in State}
    assert {*members["reason"]["enum"], *HOST["properties"]["reason"]["enum"]} == reasons
    pattern = members["evidence"]["items"]["pattern"]
    assert [
        word for word in (*EVIDENCE, *(f"conflict:{word}" for word in reasons)) if not re.search(pattern, word)
    ] == []
    assert {field.rstrip("_") for field in Verdict._fields} <= members.keys()


def test_the_verb_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert (halfopen("schema"), json.loads(capsys.readouterr().out)) == (0, SCHEMA)
