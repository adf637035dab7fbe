"""The plan: its whole text on loopback, where routes are the same on every machine; and the other texts for users."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from scanner.cli.options import ScanRequest
from scanner.cli.plan import bytes_text, duration_text
from scanner.cli.run import checked
from scanner.cli.verbs import command_line, main
from scanner.errors import UsageError

ROOT = Path(__file__).parent.parent
COMMAND = typer.main.get_command(command_line([]))
VERBS = COMMAND.commands  # type: ignore[attr-defined]


def outcome(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command."""
    monkeypatch.setattr(sys, "argv", ["halfopen", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), *capsys.readouterr()


WHOLE = """\
targets    255 addresses × 2 ports (22,80)
           510 targets
left out   1 address by exclude 127.0.0.4
           0 addresses by exclude 10.0.0.0/8
routes     lo, this machine itself, from 127.0.0.1: 255 addresses
packets    510 probes of 60 bytes (30.6 kB) if every target answers, and resets
           1,530 (91.8 kB) in 3 passes if none answers; at most 11
time       0.5 s at 1,000/s if every target answers; 4.5 s if none answers
first      """


def test_a_plan(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [
        "plan",
        "127.0.0.0/24",
        "-p",
        "80,22",
        "--exclude",
        "127.0.0.4,10.0.0.0/8",
        "--rate",
        "1000",
        "--seed",
        "7",
    ]
    first, again = outcome(capsys, monkeypatch, *arguments), outcome(capsys, monkeypatch, *arguments)
    probes = first[1].removeprefix(WHOLE).split()
    targets = [f"127.0.0.{host}:{port}" for host in range(256) for port in (22, 80) if host != 4]
    assert (first == again, first[::2], len(set(probes) & set(targets)), len(probes)) == (True, (0, ""), 10, 10)


PARTS = {
    "auto": ("127.0.0.1 -p 1-1000",
             "--rate auto: begins with 10 probes, doubles each round trip while control probes come back"),
    "auto with an end": ("127.0.0.1 -p 1-1000 --max-rate 500",
                         "at least 2.0 s, and about 9.0 s if no target answers"),
    "no limit": ("127.0.0.1 -p 1-1000 --rate 0", "--rate 0: as fast as this machine sends 1,000 frames"),
    "shard": ("127.0.0.0/24 -p 1 --seed 1 --shard 2/3", "85 targets in shard 2/3"),
    "special": ("127.0.0.1 126.255.255.255-127.0.0.2 --exclude 126.255.255.255",
                "2 addresses of 127.0.0.0/8 (loopback, RFC 1122)"),
    "many without a route": ("127.0.0.1 224.0-59.0.1 -p 9",
                             "skipped 40 more addresses up to 224.59.0.1: each is a multicast address, no host"),
    "ipv6": ("::1 -p 9", "lo, this machine itself, from ::1: 1 address"),
    "no seed": ("127.0.0.1 -p 9", "in another order each time; --seed fixes it; for example:"),
    "retries": ("127.0.0.1 -p 9 --retries 0 --rate 10", "1 (60 bytes) in 1 pass if none answers; at most 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_a_line_of_a_plan(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, expected = PARTS[name]
    code, out, err = outcome(capsys, monkeypatch, "plan", *arguments.split())
    assert (code, err, expected in [line[11:] for line in out.splitlines()]) == (0, "", True)


def test_a_plan_opens_only_the_socket_for_routes() -> None:
    code = (
        "import socket, sys; from scanner.cli.verbs import main; made = socket.socket\n"
        "class Counted(made):\n"
        "    def __init__(self, family=-1, *rest, **more):\n"
        "        print(int(family), file=sys.stderr); super().__init__(family, *rest, **more)\n"
        "socket.socket = Counted; sys.argv = ['halfopen', 'plan', '127.0.0.1', '-p', '1']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stderr.split()) == {"16"}  # AF_NETLINK


LISTED = [
    (["syn", "-p", "22,80-82,9"],
     "9/tcp      discard\n22/tcp     ssh\n80/tcp     http\n81/tcp     -\n82/tcp     xfer\n",
     "halfopen: 5 ports: 9,22,80-82\n"),
    (["connect", "-p", "80", "--list-ports"], "80/tcp     http\n", "halfopen: 1 port: 80\n"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "out", "err"), LISTED)
def test_list_ports(
    arguments: list[str], out: str, err: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outcome(capsys, monkeypatch, *arguments, "--list-ports") == (0, out, err)


REFUSED = [
    ("plan 127.0.0.1 -p 80 --top-ports 5", "--top-ports 5 and -p 80 both choose the ports: leave one out"),
    ("plan 127.0.0.1 --top-ports 0", "--top-ports 0:"),
    ("connect 1.0.0.0/8", "16,777,216 public addresses are more than 1,048,576: if they are meant, add --yes"),
    ("connect 127.0.0.1 -p 1 -f csv -oX -",
     "standard output cannot be csv and xml at once: name a file for all but one"),
    ("connect 127.0.0.1 -p 1 -oX no/such/folder",
     "'no/such/folder' cannot be written (No such file or directory): name"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_refused(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    code, out, err = outcome(capsys, monkeypatch, *arguments.split())
    sys.stdin.close()
    assert (code, out, err.startswith(f"halfopen: {message}"), err.count("\n")) == (2, "", True, 1)


def test_a_scan_writes_every_format_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("a.jsonl.gz", "b.xml", "c.gnmap.gz")
    files = [word for name in names for word in ("-o", name)] + ["-oX", "d", "-oG", "e", "-oN", "f", "-oA", "g"]
    code, out, _ = outcome(capsys, monkeypatch, "connect", "127.0.0.1", "-p", "1", "-q", "-oG", "e", *files)
    texts = [subprocess.run(["zcat", "-f", path], capture_output=True, text=True, check=True).stdout for path in
             (*names, "d", "e", "f", "g.xml", "g.gnmap", "g.nmap")]  # fmt: skip
    starts = [re.sub("[^a-zA-Z<{#]", "", text)[:8] for text in texts]
    assert (code, starts, out.splitlines()[0]) == (
        0, ["{ipportp", "<xmlvers", "#halfope", *["<xmlvers", "#halfope", "PORTSTAT"] * 2], "127.0.0.1",
    )  # fmt: skip


def test_a_full_standard_error_changes_nothing() -> None:
    line = [sys.executable, "-m", "scanner", "connect", "127.0.0.1", "-p", "1", "-f", "csv"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)


ANSWERS = [("y\n", 1 << 24), ("n\n", None), ("", None)]


@pytest.mark.parametrize(("answer", "targets"), ANSWERS)
def test_many_public_addresses_need_a_yes(
    answer: str, targets: int | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the checks before a scan are called. They open no socket, so that nothing can be sent after a yes."""

    class Person:
        isatty: Callable[[], bool] = staticmethod(lambda: True)
        readline: Callable[[], str] = staticmethod(lambda: answer)

    monkeypatch.setattr(sys, "stdin", Person())
    try:
        found = checked(ScanRequest("connect", {"targets": ("1.0.0.0/8",), "ports": "1"}))[1].targets
    except UsageError:
        found = None
    question = "halfopen: 16,777,216 public addresses. Do you have permission to scan them all? [y/N] "
    assert (found, capsys.readouterr().err.startswith(question)) == (targets, True)


def example_lines() -> list[str]:
    lines = [
        line.strip().removeprefix("sudo ") for verb in (COMMAND, *VERBS.values()) for line in verb.epilog.splitlines()
    ]
    return [re.split(r"\s{3,}", line)[0] for line in lines if line.startswith("halfopen ")]


def test_every_verb_with_options_has_examples() -> None:
    assert {line.split()[1] for line in example_lines()} == set(VERBS)


@pytest.mark.parametrize("line", example_lines())
def test_an_example_of_the_help_can_be_typed(line: str) -> None:
    _, verb, *words = shlex.split(line)
    options = {option for each in VERBS[verb].params for option in each.opts}
    assert {word for word in words if word.startswith("-") and word != "-p-"} <= options


def test_version_names_what_runs_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = outcome(capsys, monkeypatch, "--version")
    lines = out.splitlines()
    assert (code, err, lines[0], [line.split(" ")[0] for line in lines[1:]], lines[1].count(",")) == (
        0, "", "halfopen 0.1.0", ["Python", "Linux", "tools:"], 4,
    )  # fmt: skip


AMOUNTS = [(bytes_text(999), "999 bytes"), (bytes_text(74_000), "74.0 kB"), (bytes_text(275e9), "275 GB"),
           (bytes_text(5e15), "5,000 TB"),
           (duration_text(0.04), "0.0 s"), (duration_text(61), "1 min 1 s"), (duration_text(7200), "2 h"),
           (duration_text(90061), "1 d 1 h 1 min")]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), AMOUNTS)
def test_amounts(text: str, expected: str) -> None:
    assert text == expected
