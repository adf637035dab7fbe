"""The README is the manual: what it shows must exist, and what exists must be in it."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from scanner.cli.verbs import app
from scanner.lab.demo import DEMO
from scanner.verdict.sentences import EVIDENCE
from scanner.verdict.table import Reason

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = {name: {option for each in verb.params for option in each.opts} for name, verb in VERBS.items()}


def commands() -> list[str]:
    """Every call of halfopen in a code block."""
    blocks = re.findall(r"^```\n(.*?)^```", README, re.S | re.M)
    calls = re.findall(rf"(?:^|[ |])(halfopen (?:{'|'.join(VERBS)})\b[^|\n]*)", "\n".join(blocks), re.M)
    return [call for call in calls if "…" not in call]


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_can_be_typed(command: str) -> None:
    _, verb, *words = shlex.split(command)
    assert {word for word in words if word.startswith("-") and word != "-" and word != "-p-"} <= OPTIONS[verb]


def test_there_are_commands_of_every_verb() -> None:
    assert {shlex.split(command)[1] for command in commands()} | {"demo"} == set(VERBS)


@pytest.mark.parametrize("option", sorted(OPTIONS["syn"]))
def test_every_option_of_a_scan_has_help(option: str) -> None:
    (parameter,) = [each for each in VERBS["syn"].params if option in each.opts]
    assert len(getattr(parameter, "help", "") or "") > 10


@pytest.mark.parametrize("reason", [each for each in Reason if each not in (Reason.NONE, Reason.CONN_REFUSED)])
def test_the_table_has_every_reason(reason: Reason) -> None:
    assert f"`{reason.word}`" in README


@pytest.mark.parametrize(
    "word", ["firewall-reset", "host-reset", "syn-proxy", "all-open", "late", "repeat", "unverified"]
)
def test_evidence_words_are_explained_here_and_in_the_program(word: str) -> None:
    assert (f"`{word}`" in README, word in EVIDENCE) == (True, True)


@pytest.mark.parametrize("row", [row for row in DEMO if row.expected_reason_v4], ids=lambda row: str(row.port))
def test_the_first_screen_shows_what_the_lab_builds(row: object) -> None:
    shown = re.search(rf"^{row.port}/tcp +(\S+)(?: \(firewall reset\))? +(\S+)", README, re.M)  # type: ignore[attr-defined]
    assert shown
    assert shown.groups() == (row.expected_state.value, row.expected_reason_v4.word)  # type: ignore[attr-defined]
