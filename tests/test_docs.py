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
from tests.options_table import in_readme, table

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


def test_the_table_of_options_is_that_of_the_program() -> None:
    assert in_readme() == table(), "python -m tests.options_table writes it anew"


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_a_row(verb: str) -> None:
    flags = {flag for flag in OPTIONS[verb] if flag.startswith("-") and flag != "--help"}
    assert {flag for flag in flags if f"`{flag}`" not in table() and f"`{flag} " not in table()} == set()


def test_the_options_of_a_scan_are_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        app(["syn", "--help"])
    headings = re.findall(r"^(\w+):$", capsys.readouterr().out, re.M)
    assert headings == ["Targets", "Ports", "Speed", "Network", "Evidence", "Output", "Resume", "Other"]


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
