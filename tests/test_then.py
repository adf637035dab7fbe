"""`--then`: a program for each host with open ports, called without a shell, and never by what a target is called."""

import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scanner.cli.then import Then
from scanner.errors import UsageError
from scanner.targets.spec import zones_in
from scanner.targets.zones import with_zone, zones_by
from scanner.verdict.rows import Verdict
from tests.command import halfopen
from tests.lab.live import live
from tests.lab.networks import direct_box
from tests.processes import PATIENCE, wait_until_it_scans

ROOT = Path(__file__).resolve().parents[1]
SCAN = ("connect", "-q", "127.0.0.1", "127.0.0.2")
ARGUMENTS = "import sys; print(sys.argv[1:], flush=True)"
SHOW = shlex.join([sys.executable, "-c", ARGUMENTS])


@pytest.fixture
def port() -> Iterator[int]:
    """Open on both addresses."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]


PORTS = (80, 22, 8000, 8001, 8002)

WORDS = {
    "each placeholder stays in its word": ("cat -p{ports} {ip} '{host} x' {ip}.xml", "web.example",
                                           ["cat", "-p22,80,8000-8002", "192.0.2.7", "web.example x", "192.0.2.7.xml"]),
    "nothing for a shell": ("cat '$(id)' {ip}; `id` > x", None, ["cat", "$(id)", "192.0.2.7;", "`id`", ">", "x"]),
    "braces": ("cat {{ip}} '{{\"a\": {ports}}}'", None, ["cat", "{ip}", '{"a": 22,80,8000-8002}']),
    "no name": ("cat {host}", None, ["cat", "192.0.2.7"]),
    "a name that is an option": ("cat {host}", "-oX", ["cat", "192.0.2.7"]),
    "a name in another script": ("cat {host}", "bücher.example", ["cat", "xn--bcher-kva.example"]),
    "a name that is a path": ("cat {host}.xml", "../../etc/passwd", ["cat", "192.0.2.7.xml"]),
    "a name with two dots": ("cat {host}", "a..b", ["cat", "192.0.2.7"]),
    "a name with a blank": ("cat {host}", "a b", ["cat", "192.0.2.7"]),
    "a name with a line end": ("cat {host}", "a\n", ["cat", "192.0.2.7"]),
    "a name of braces": ("cat {host}", "{ip}", ["cat", "192.0.2.7"]),
}  # fmt: skip


@pytest.mark.parametrize(("command", "name", "words"), WORDS.values(), ids=WORDS)
def test_words(command: str, name: str | None, words: list[str]) -> None:
    then = Then(command)
    list(then.noting(Verdict("192.0.2.7", port, "open", "syn-ack", hostname=name) for port in PORTS))
    assert then.arguments("192.0.2.7") == words


def test_a_link_local_address_has_its_link() -> None:
    then = Then("cat {ip} {host}.xml")
    list(then.noting([Verdict("fe80::1", 22, "open", "syn-ack")]))
    assert then.arguments("fe80::1", zones_in(["fe80::1%eth0"])) == ["cat", "fe80::1%eth0", "fe80::1%eth0.xml"]


def test_on_the_interface_of_e_every_link_is_this_one() -> None:
    assert with_zone("fe80::9", zones_by((), "eth1")) == "fe80::9%eth1"
    assert [with_zone(ip, zones_by((), "eth1")) for ip in ("fec0::1", "192.0.2.1")] == ["fec0::1", "192.0.2.1"]


WRONG = {
    "a placeholder that is not known": ("cat {port}", "'{port}': this placeholder is not known: use {ip}"),
    "an empty one": ("cat {}", "'{}': this placeholder is not known"),
    "an attribute": ("cat {ip.real}", "this placeholder is not known"),
    "a format": ("cat {ip!r}", "this placeholder is not known"),
    "a brace": ("cat {ip", "'{ip': expected '}' before end of string: use {ip}"),
    "a quote": ("cat 'a", "cannot be split into words: No closing quotation"),
    "nothing": ("  ", "--then is empty"),
    "no such program": ("nosuchprogram {ip}", "there is no program 'nosuchprogram' to run"),
    "no program": ("/etc/passwd {ip}", "there is no program '/etc/passwd' to run"),
    "a target as the program": ("{host} {ip}", "a placeholder cannot name the program"),
}


@pytest.mark.parametrize(("command", "said"), WRONG.values(), ids=WRONG)
def test_wrong_commands(command: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        Then(command)
    assert said in str(refused.value)


REFUSED = {
    "a wrong placeholder": ("--then", "cat {x}"),
    "a resumed scan": ("--then", "cat {ip}", "--resume", "scan.state", "-o", "scan.csv"),
}


@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED)
def test_a_refusal_is_one_line_before_anything_is_written(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = halfopen(*SCAN, "-p", "1", *options), capsys.readouterr()
    assert (code, said.out, said.err.count("\n"), list(tmp_path.iterdir())) == (2, "", 1, [])


def connect(*options: str, **more: Any) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "scanner", *SCAN, *options]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, **more)


CALLS = "['127.0.0.1', '{port}']\n['127.0.0.2', '{port}']\n"


@pytest.mark.parametrize(("form", "stream"), [("table", "stdout"), ("jsonl", "stderr"), ("list", "stderr")])
def test_each_host_with_open_ports_has_a_call(port: int, form: str, stream: str) -> None:
    """What a program reads from standard output holds nothing of the calls."""
    done = connect("-p", f"1,{port}", "-f", form, "--then", f"{SHOW} {{ip}} {{ports}}")
    said, other = (done.stdout, done.stderr) if stream == "stdout" else (done.stderr, done.stdout)
    expected = CALLS.replace("{port}", str(port))
    assert (done.returncode, said.endswith(expected), "['127" in other) == (0, True, False)


def test_no_host_with_open_ports_has_no_call() -> None:
    done = connect("-p", "1", "--then", f"{SHOW} {{ip}}")
    assert (done.returncode, "[" in done.stdout, done.stderr) == (0, False, "")


ENDED = {
    "a code": ("sys.exit(7 * (sys.argv[1] == '127.0.0.2'))",
               "2 hosts with open ports; 1 ended with exit code 0; 1 ended with exit code 7: 127.0.0.2"),
    "a signal": ("import os; os.kill(os.getpid(), 9)",
                 "2 hosts with open ports; 2 ended by SIGKILL: 127.0.0.1, 127.0.0.2"),
}  # fmt: skip


@pytest.mark.parametrize(("program", "said"), ENDED.values(), ids=ENDED)
def test_how_the_programs_ended_is_said_and_the_exit_code_is_1(port: int, program: str, said: str) -> None:
    command = shlex.join([sys.executable, "-c", f"import sys; {program}"])
    done = connect("-p", str(port), "--then", f"{command} {{ip}}")
    assert (done.returncode, done.stderr) == (1, f"halfopen: --then {sys.executable}, {said}\n")


def test_standard_input_is_not_theirs(port: int) -> None:
    command = shlex.join([sys.executable, "-c", "import sys; print([sys.stdin.read()])"])
    line = [sys.executable, "-m", "scanner", "connect", "-q", "-iL", "-", "-p", str(port), "--then", command]
    done = subprocess.run(line, cwd=ROOT, input="127.0.0.1\n", capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.endswith("['']\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_the_call_and_the_calls_behind_it(port: int, number: signal.Signals) -> None:
    wait = shlex.join([sys.executable, "-c", "import time; print('here', flush=True); time.sleep(100)"])
    line = [sys.executable, "-m", "scanner", *SCAN, "-p", str(port), "--then", f"{wait} {{ip}}"]
    with subprocess.Popen(line, cwd=ROOT, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "here\n":
            pass
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
    expected = f"halfopen: interrupted: --then {sys.executable}, 1 of 2 hosts with open ports; 1 ended by SIGTERM: "
    assert (process.returncode, said) == (130, f"{expected}127.0.0.1\n")


def test_after_an_interrupted_scan_nothing_is_run(port: int) -> None:
    line = [sys.executable, "-m", "scanner", "connect", "127.0.0.1", "-q", "-f", "list", "--rate", "100"]
    with subprocess.Popen(
        [*line, "-p", f"1-9000,{port}", "--then", f"{SHOW} {{ip}}"], cwd=ROOT, stdout=-1, stderr=-1, text=True
    ) as process:
        wait_until_it_scans(process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    last = f"halfopen: --then {sys.executable} is not run, because the scan is not complete"
    assert (process.returncode, said.splitlines()) == (130, [last])


@live
def test_it_has_no_rights_of_the_scan() -> None:
    with direct_box() as box:
        box.listen([22])
        line = [sys.executable, "-m", "scanner", "syn", "198.18.0.2", "-p", "22", "-q"]
        process = box.scanner.popen(
            [*line, "--then", "grep -E '^(CapPrm|CapAmb|NoNewPrivs)' /proc/self/status"], stdout=-1, stderr=-1, cwd=ROOT
        )
        said, errors = process.communicate(timeout=PATIENCE)
    rights = [line.split(b"\t") for line in said.splitlines()[-3:]]
    assert (rights, errors) == ([[b"CapPrm:", b"0" * 16], [b"CapAmb:", b"0" * 16], [b"NoNewPrivs:", b"1"]], b"")
