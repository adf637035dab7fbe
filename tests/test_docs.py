"""The documents: what they show must exist, and what exists must be in them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

from scanner.cli.verbs import command_line
from scanner.lab.demo import DEMO, demo_box
from scanner.verdict.sentences import EVIDENCE
from scanner.verdict.table import Reason
from tests.generated import PARTS, options_table, written
from tests.lab.live import live

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
VERBS = typer.main.get_command(command_line([])).commands  # type: ignore[attr-defined]
OPTIONS = {name: {option for parameter in verb.params for option in parameter.opts} for name, verb in VERBS.items()}
FILES = sorted(
    path.relative_to(ROOT) for pattern in ("*.md", "pcaps/*.md", "scanner/**/*.md") for path in ROOT.glob(pattern)
)
DOCUMENTS = {str(path): (ROOT / path).read_text("utf-8") for path in FILES}
CODE = re.compile(r"`((?:scanner|tests|pcaps|\.ci)/[\w./-]*)(?:: (\w+))?`")  # `file` or `file: NAME`


def blocks() -> list[str]:
    """Every code block of the README that is not Python."""
    return re.findall(r"^```\n(.*?)^```", README, re.S | re.M)


def commands() -> list[str]:
    """Every call of halfopen in a code block."""
    calls = re.findall(rf"(?:^|[ |])(halfopen (?:{'|'.join(VERBS)})\b[^|\n]*)", "\n".join(blocks()), re.M)
    return [call for call in calls if "…" not in call]


def first_scan() -> tuple[str, str]:
    """The first scan that the README shows: the command and its table."""
    (block,) = [block for block in blocks() if block.startswith("$ ")]
    command, _, table = block.partition("\n")
    return command.removeprefix("$ sudo "), table


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_can_be_typed(command: str) -> None:
    _, verb, *words = shlex.split(command)
    assert {word for word in words if word.startswith("-") and word != "-" and word != "-p-"} <= OPTIONS[verb]


def test_there_are_commands_of_every_verb() -> None:
    assert {shlex.split(command)[1] for command in commands()} | {"demo"} == set(VERBS)


def test_the_readme_installs_from_a_copy() -> None:
    """No index has a package of this name that is ours."""
    assert re.findall(r"pip install [^`#\n]*[^`#\s]", README) == [
        "pip install .", "pip install '.[report]'", "pip install '.[fleet]'", "pip install '.[report]'",
        "pip install '.[parquet]'",
    ]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_the_changelog_names_every_verb(verb: str) -> None:
    assert f"`halfopen {verb}`" in DOCUMENTS["CHANGELOG.md"]


@pytest.mark.parametrize(("document", "marker"), PARTS)
def test_a_generated_part_is_current(document: str, marker: str) -> None:
    assert written(document, marker) == PARTS[document, marker](), "make golden writes it anew"


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_a_row(verb: str) -> None:
    flags = {flag for flag in OPTIONS[verb] if flag.startswith("-") and flag != "--help"}
    table = options_table()
    assert {flag for flag in flags if f"`{flag}`" not in table and f"`{flag} " not in table} == set()


def test_the_options_of_a_scan_are_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line(["syn"])(["syn", "--help"])
    headings = re.findall(r"^(\w+):$", capsys.readouterr().out, re.M)
    assert headings == ["Targets", "Ports", "Speed", "Network", "Evidence", "Output", "Resume", "Fleet", "Other"]


@pytest.mark.parametrize("option", sorted(OPTIONS["syn"]))
def test_every_option_of_a_scan_has_help(option: str) -> None:
    (parameter,) = [parameter for parameter in VERBS["syn"].params if option in parameter.opts]
    assert len(getattr(parameter, "help", "") or "") > 10


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.NONE])
def test_the_table_has_every_reason(reason: Reason) -> None:
    assert f"`{reason.word}`" in README


@pytest.mark.parametrize("word", EVIDENCE)
def test_evidence_words_are_explained_here_and_in_the_program(word: str) -> None:
    assert f"`{word}`" in README


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_exists(document: str) -> None:
    for file, name in CODE.findall(DOCUMENTS[document]):
        assert (ROOT / file).exists(), file
        if name:
            module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            assert hasattr(import_module(module), name), f"{file}: {name}"


def test_every_link_between_documents_leads_somewhere() -> None:
    for document, text in DOCUMENTS.items():
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (ROOT / document).parent.joinpath(link).exists(), f"{document}: {link}"


def test_the_architecture_has_every_package() -> None:
    named = re.findall(r"^\| `(\w+)` \|", DOCUMENTS["ARCHITECTURE.md"], re.M)
    assert sorted(named) == sorted(path.parent.name for path in (ROOT / "scanner").glob("*/__init__.py"))


def test_the_first_scan_shows_what_the_lab_builds() -> None:
    _, table = first_scan()
    shown = re.findall(r"^(\d+)/tcp +(\S+)(?: \(firewall reset\))? +(\S+)", table, re.M)
    built = {port.port: (port.expected_state.value, port.expected_reason_v4) for port in DEMO}
    assert len(shown) == 8
    for port, state, word in shown:
        expected_state, reason = built[int(port)]
        assert (state, word) == (expected_state, reason and reason.word)


def run(arguments: list[str]) -> tuple[str, str]:
    """The program's standard output and standard error."""
    command = [sys.executable, "-m", "scanner", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")
def test_tcpdump_filters_as_the_readme_shows(tmp_path: Path) -> None:
    """The capture has two scanners, and the filter names one of them."""
    (command,) = re.findall(r"^(tcpdump -r .*\| )halfopen (classify .*)$", "\n".join(blocks()), re.M)
    shutil.copy(ROOT / "pcaps/two-scanners.pcap", tmp_path / "scan.pcap")
    line = f"{command[0]}{shlex.quote(sys.executable)} -m scanner {command[1]} -f jsonl --timeout 0"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    columns = ("ip", "port", "state", "reason", "scanner_ip")
    expected = (ROOT / "pcaps/two-scanners.jsonl").read_text()
    filtered, every = (
        {tuple(row[name] for name in columns) for row in map(json.loads, text.splitlines())}
        for text in (done.stdout, expected)
    )
    assert filtered == {row for row in every if row[-1] == "198.18.0.1"} != set()


@live
def test_the_first_scan_prints_what_the_readme_shows() -> None:
    command, table = first_scan()
    with demo_box() as box:
        if box.unavailable:
            pytest.skip(f"this machine cannot build every port of the demo: {box.unavailable}")
        with box.scanner.entered():
            printed, summary = run(shlex.split(command)[1:])
    shown = next(block for block in blocks() if "expected missed responders" in block)
    # Times, rates and losses differ from run to run.
    assert (printed.strip(), shape(summary)) == (table.strip(), shape(shown))


def shape(summary: str) -> list[str]:
    """The lines of a summary without their numbers."""
    return re.sub(r"[\d.,]*\d", "#", summary).splitlines()


@live
def test_the_demo_checks_as_many_rows_as_the_readme_says() -> None:
    printed, _ = run(["demo"])
    if "not available here" in printed:
        pytest.skip("this machine cannot build every port of the demo")
    rows, checked = (int(count) for count in re.findall(r"prints (\d+) rows. It checks (\d+) of", prose())[0])
    others = rows - checked
    assert len(re.findall(r"^\d+/tcp ", printed, re.M)) == rows
    assert printed.splitlines()[-2:] == [
        f"{checked} of the {rows} rows are checked. For the other {others} the lab can build no special answer "
        "in that IP version.",
        f"{checked} of {checked} verdicts are what the lab built; nothing missed, nothing invented.",
    ]


def prose() -> str:
    """The README as one line."""
    return " ".join(README.split())
