"""What people type who know other scanners: each gets what they mean, or one line that says what to type."""

import json
import os
import subprocess
import sys
from pathlib import Path
from socket import if_nameindex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.api import scan
from scanner.cli.options import PROGRESS_FORMS
from scanner.cli.progress import check_form
from scanner.config import OPTION_SETS, TRANSPORTS, config_of
from scanner.errors import UsageError
from scanner.output import FORMATS
from scanner.targets.typed import separated, typed
from scanner.who.rows import FORMS
from tests.command import halfopen

ROOT = Path(__file__).resolve().parents[1]

LISTS = "(in a list, -iL, HOST:PORTS is read)"
# What is typed behind `halfopen`, and the one line.
TOLD = {
    "10.0.0.1": "name the verb first: halfopen syn 10.0.0.1 (or, without root, halfopen connect 10.0.0.1)",
    "web.example -p 80":
        "name the verb first: halfopen syn web.example -p 80 (or, without root, halfopen connect web.example -p 80)",
    "-sS -p 22 10.0.0.1": "name the verb first: halfopen syn -p 22 10.0.0.1 (or, without root, halfopen connect -p 22 "
                          "10.0.0.1)",
    "-sT 10.0.0.0/24": "name the verb first: halfopen connect 10.0.0.0/24",
    "-p22 10.0.0.1":
        "name the verb first: halfopen syn -p22 10.0.0.1 (or, without root, halfopen connect -p22 10.0.0.1)",
    "2001:db8::1": "name the verb first: halfopen syn 2001:db8::1 (or, without root, halfopen connect 2001:db8::1)",
    "scan.pcap.gz --open": "name the verb first: halfopen classify scan.pcap.gz --open",
    "10.0.0.1:80,443 --open": "name the verb first: halfopen syn 10.0.0.1 -p 80,443 --open (or, without root, halfopen "
                              "connect 10.0.0.1 -p 80,443 --open)",
    "http://web.example/": "name the verb first: halfopen syn web.example -p 80 (or, without root, halfopen connect "
                           "web.example -p 80)",
    "-sS -Pn -n 10.0.0.1": "name the verb first: halfopen syn 10.0.0.1 (or, without root, halfopen connect 10.0.0.1)",
    "10.0.0.1 -T4": "name the verb first: halfopen syn 10.0.0.1 -T4 (or, without root, halfopen connect 10.0.0.1 -T4); "
                    "-T4: use --rate with frames per second, or with auto (the default)",
    "scan.jsonl.gz": "name the verb first: halfopen report scan.jsonl.gz -o page.html",
    "README.md": "No such command 'README.md'.",
    "frobnicate": "No such command 'frobnicate'.",
    "--verson": "No such option: --verson (Possible options: --version)",
    "syn -sS 10.0.0.1": "-sS: leave it out, because the verb syn is this scan",
    "syn -sT 10.0.0.1": "-sT: leave it out and use the verb connect",
    "syn -Pn 10.0.0.1": "-Pn: leave it out, because every target is probed without a ping before",
    "plan 10.0.0.1 -n": "-n: leave it out, because every scan works so here",
    "connect -T4 10.0.0.1": "-T4: use --rate with frames per second, or with auto (the default)",
    "connect -T 4 10.0.0.1": "-T: use --rate with frames per second, or with auto (the default)",
    "syn 10.0.0.1 -sV": "-sV: use --then to hand the open ports to nmap",
    "syn 10.0.0.1 -sU": "-sU: TCP only, by the verbs syn and connect",
    "syn 10.0.0.1 -F": "-F: use --top-ports 100",
    "syn 10.0.0.1 -oJ x.json": "-oJ: use -o FILE.jsonl (JSON lines), or -f jsonl for standard output",
    "syn 10.0.0.1 -oJ=x.json": "-oJ: use -o FILE.jsonl (JSON lines), or -f jsonl for standard output",
    "syn 10.0.0.1 -oL x": "-oL: use -f list, or -o FILE.list (host:port a line), or -oG FILE",
    "syn 10.0.0.1 -oS x": "-oS: use -oN FILE",
    "syn -host 10.0.0.1": "-host: write the targets without an option",
    "syn 10.0.0.1 -json": "-json: use -f jsonl (JSON lines)",
    "syn 10.0.0.1 -silent": "-silent: use -q, and -f list for host:port alone",
    "syn 10.0.0.1 --reason": "--reason: leave it out, because every row has its reason",
    "syn 10.0.0.1 -c 50": "-c: use --rate",
    "syn 10.0.0.1 --host-timeout 5": "--host-timeout: use --timeout with seconds",
    "syn 10.0.0.1 -rate 100": "-rate: use --rate",
    "syn 10.0.0.1 -top-ports 100": "-top-ports: use --top-ports",
    "classify x.pcap -open": "-open: use --open",
    "plan 10.0.0.1:80": f"10.0.0.1:80: ports go to -p; write 10.0.0.1 -p 80 {LISTS}",
    "plan 10.0.0.1:22,80 -p 1": f"10.0.0.1:22,80: ports go to -p; write 10.0.0.1 -p 22,80 {LISTS}",
    "plan 10.0.0.1:80,10.0.0.2:81": f"10.0.0.1:80: ports go to -p; write 10.0.0.1 -p 80 {LISTS}",
    "plan web.example:http": f"web.example:http: ports go to -p; write web.example -p http {LISTS}",
    "plan localhost:8080": f"localhost:8080: ports go to -p; write localhost -p 8080 {LISTS}",
    "plan localhost:ssh": f"localhost:ssh: ports go to -p; write localhost -p ssh {LISTS}",
    "plan http://[fe80::1%25eth0]/": "http://[fe80::1%25eth0]/ is a URL; write fe80::1%eth0 -p 80",
    "plan [2001:db8::1]:443": f"[2001:db8::1]:443: ports go to -p; write 2001:db8::1 -p 443 {LISTS}",
    "plan 10.0.0.1:": f"10.0.0.1:: ports go to -p; write 10.0.0.1 {LISTS}",
    "plan http://10.0.0.1/login": "http://10.0.0.1/login is a URL; write 10.0.0.1 -p 80",
    "plan HTTPS://web.example": "HTTPS://web.example is a URL; write web.example -p 443",
    "plan https://web.example:8443/a:b": "https://web.example:8443/a:b is a URL; write web.example -p 8443",
    "plan https://[2001:db8::1]/": "https://[2001:db8::1]/ is a URL; write 2001:db8::1 -p 443",
    "plan nosuch://a": "nosuch://a is a URL; write a -p PORT",
    "plan http://[": "http://[ is a URL; write HOST -p 80",
    "plan http://a:99999": "http://a:99999 is a URL; write HOST -p 80",
    "plan 127.0.0.1 --rate fast": "--rate 'fast' is not auto, or frames a second such as 500, 10k or 1M",
    "plan 127.0.0.1 --rate k": "--rate 'k' is not auto, or frames a second such as 500, 10k or 1M",
    "plan 127.0.0.1 --rate 9999999M":
        "--rate 9999999000000.0 is out of range: 0 (unlimited) to 1,000,000,000",
    "plan -p 22": "no target given: name addresses, networks or hosts, a file with -iL, or pipe targets in",
}  # fmt: skip


@pytest.mark.parametrize("line", TOLD)
def test_one_line_says_what_to_type(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert halfopen(*line.split()) == 2
    assert tuple(capsys.readouterr()) == ("", f"halfopen: {TOLD[line]}\n")


# The value of an option is never taken for a flag, and -- ends the options.
@pytest.mark.parametrize("line", ["plan 127.0.0.1 -p 1 -e -n", "plan -p 1 -- -sS", "plan 127.0.0.1 -p -F"])
def test_only_flags_are_flags(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert halfopen(*line.split()) == 2
    assert "leave it out" not in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",), ("syn", "-h"), ("diff", "-h")])
def test_help(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert halfopen(*arguments) == (0 if arguments else 2)
    assert "Usage:" in "".join(capsys.readouterr())


SEPARATED = {
    "10.0.0.1": ["10.0.0.1"],
    "10.0.0.1,3,7": ["10.0.0.1,3,7"],
    "10.0.0.1,10.0.0.9": ["10.0.0.1", "10.0.0.9"],
    "10.0.0.1,3,10.0.0.9,11": ["10.0.0.1,3", "10.0.0.9,11"],
    "10.0.0.0/24,10.1.0-3.*,web.example": ["10.0.0.0/24", "10.1.0-3.*", "web.example"],
    "a.example,b,10.0.0.1": ["a.example", "b", "10.0.0.1"],
    "2001:db8::1,10.0.0.1-10.0.0.9,::1": ["2001:db8::1", "10.0.0.1-10.0.0.9", "::1"],
    "1,2.0.0.1": ["1,2.0.0.1"],
    "10.0.0.1,": ["10.0.0.1"],
    "[2001:db8::1]": ["2001:db8::1"],
    "[::1],[fe80::1%eth0]": ["::1", "fe80::1%eth0"],
    "10.0.0.1,,10.0.0.2": ["10.0.0.1,", "10.0.0.2"],
    "": [""],
    ",": [","],
}


@pytest.mark.parametrize("word", SEPARATED)
def test_commas_and_brackets(word: str) -> None:
    assert separated(word) == SEPARATED[word]


OCTET = st.lists(st.sampled_from(["0", "7", "255", "1-9", "*", "-", "200-"]), min_size=1, max_size=3).map(",".join)


@given(st.lists(OCTET, min_size=4, max_size=4).map(".".join))
def test_a_pattern_stays_one_target(pattern: str) -> None:
    assert typed([pattern]) == [pattern]


@given(st.text("10.,/-*:ag_%", max_size=30))
def test_nothing_of_a_word_is_lost(word: str) -> None:
    assert ",".join(separated(word)) == (word[:-1] if len(word) > 1 and word.endswith(",") else word)


@given(st.text("1a.,/:[]%@-", max_size=30))
def test_any_word_is_read_or_refused(word: str) -> None:
    with pytest.raises(UsageError, match="; write "):
        typed([word, f"http://{word}"])


def test_excludes_are_separated_in_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    line = "plan 127.0.0.0/29,127.0.1.1 -p 1 --exclude 127.0.0.1,3,127.0.0.4,[::1]"
    assert halfopen(*line.split()) == 0
    assert capsys.readouterr().out.startswith("targets    6 addresses × 1 port (1)\n")


RATES = {"500": 500.0, "10k": 10_000.0, "1.5K": 1500.0, "1M": 1_000_000.0, "0": 0.0, "auto": None}


@pytest.mark.parametrize("text", RATES)
def test_rates(text: str) -> None:
    assert config_of({"rate": text}).rate == RATES[text]


def test_the_largest_rate_has_units_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert halfopen("plan", "127.0.0.1", "-p", "1-10", "--max-rate", "2k") == 0
    assert "to 2,000/s" in capsys.readouterr().out


def test_rates_of_the_python_interface() -> None:
    rows = list(scan("127.0.0.1,127.0.0.2", 1, connect=True, max_rate="2k", retries=0))
    assert {row.ip for row in rows} == {"127.0.0.1", "127.0.0.2"}


JSON = {
    "-f json": "-f json",
    "-o rows.json": "rows.json",
    "-o rows.JSON.gz -f json": "-f json",
}


@pytest.mark.parametrize("words", JSON)
def test_json_is_json_lines(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert halfopen("connect", "127.0.0.1", "-p", "1,2", *words.split()) == 0
    out, err = capsys.readouterr()
    rows = Path("rows.json").read_text() if words == "-o rows.json" else out
    assert [json.loads(line)["port"] for line in rows.splitlines()] == [1, 2]
    assert err.splitlines()[0] == f"halfopen: {JSON[words]}: written as JSON lines, one object a line"


@pytest.mark.parametrize(
    "arguments", [("diff", "a.json", "a.json"), ("who", "demo.pcapng.gz"), ("classify", "demo.pcapng.gz")]
)
def test_every_verb_with_json_lines_takes_json(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_text('{"ip": "192.0.2.7", "port": 443, "state": "open", "reason": "syn-ack"}\n')
    Path("demo.pcapng.gz").write_bytes((ROOT / "pcaps/demo.pcapng.gz").read_bytes())
    assert halfopen(*arguments, "-f", "json", "-q") == 0


def piped(stdin: int | bytes, *arguments: str) -> tuple[int, list[str], list[str]]:
    """Exit code and lines of a process whose standard input is a file descriptor, or a pipe with these bytes."""
    given = {"stdin": stdin} if isinstance(stdin, int) else {"input": stdin}
    done = subprocess.run([sys.executable, "-m", "scanner", *arguments], cwd=ROOT, capture_output=True, **given)  # type: ignore[call-overload]
    return done.returncode, done.stdout.decode().splitlines(), done.stderr.decode().splitlines()


PLAN = ("plan", "-p", "80")
READING = "halfopen: reading targets from stdin"
INPUTS = {
    "a pipe": (b"127.0.0.1\n127.0.0.4-5 # more\n", PLAN, "targets    3 addresses × 1 port (80)", [READING]),
    "quiet": (b"127.0.0.1\n", ("connect", "-p", "1", "-q", "-f", "csv"), None, []),
    "targets are named": (b"127.0.0.1\n", (*PLAN, "127.0.0.8/31"), "targets    2 addresses × 1 port (80)", []),
    "a list is named": (b"127.0.0.1\n", (*PLAN, "-iL", "-"), "targets    1 address × 1 port (80)", []),
}


@pytest.mark.parametrize("case", INPUTS)
def test_targets_from_a_pipe(case: str) -> None:
    data, arguments, first, said = INPUTS[case]
    code, out, err = piped(data, *arguments)
    assert (code, first in (None, out[0]), err) == (0, True, said)


def test_targets_from_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1\n127.0.0.2\n")
    with open(tmp_path / "hosts", "rb") as file:
        code, out, err = piped(file.fileno(), *PLAN)
    assert (code, out[0], err) == (0, "targets    2 addresses × 1 port (80)", [READING])


def test_an_empty_pipe() -> None:
    empty = "halfopen: standard input is empty: write one address, range or host name a line, or leave it out"
    assert piped(b"", *PLAN) == (2, [], [READING, empty])


def test_a_device_is_no_list() -> None:
    code, out, err = piped(subprocess.DEVNULL, *PLAN)
    assert (code, out, err) == (2, [], [f"halfopen: {TOLD['plan -p 22']}"])


def completed(*words: str) -> list[str]:
    """What bash is told when the last word is to be completed."""
    variables = {
        "_HALFOPEN_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    code = "import sys; sys.argv = ['halfopen']; from scanner.cli.entry import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True
    )
    return done.stdout.split()


COMPLETED = {
    ("halfopen", "cl"): ["classify"],
    ("halfopen", "syn", "--transp"): ["--transport"],
    ("halfopen", "syn", "-e", ""): [name for _, name in if_nameindex()],
    ("halfopen", "syn", "-f", "j"): ["jsonl"],
    ("halfopen", "connect", "--progress", ""): ["auto", "json", "none"],
    ("halfopen", "who", "--progress", "j"): ["json"],
    ("halfopen", "classify", "-f", ""): [form for form in FORMATS if form != "parquet"],  # parquet is for files
    ("halfopen", "who", "-f", ""): list(FORMS),
    ("halfopen", "diff", "-f", ""): ["table", "jsonl"],
    ("halfopen", "syn", "10.0.0.1", "--options", ""): list(OPTION_SETS),
    ("halfopen", "syn", "--transport", ""): list(TRANSPORTS),
}


@pytest.mark.parametrize("words", COMPLETED)
def test_values_complete_in_the_shell(words: tuple[str, ...]) -> None:
    assert completed(*words) == COMPLETED[words]


def test_what_is_completed_is_accepted() -> None:
    for options in OPTION_SETS:
        assert config_of({"options": options}).options == options
    assert list(map(check_form, PROGRESS_FORMS)) == list(PROGRESS_FORMS)


def test_bash_completes_values(tmp_path: Path) -> None:
    """By the function that `--show-completion` prints, as bash calls it."""
    program = tmp_path / "halfopen"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from scanner.cli.entry import run; run()"
    program.write_text(f"#!{sys.executable}\n{code}\n")
    program.chmod(0o755)
    asked = 'COMP_WORDS=(halfopen syn --progress ""); COMP_CWORD=3; _halfopen_completion halfopen; echo ${COMPREPLY[*]}'
    script = f'eval "$(halfopen --show-completion bash)"; {asked}'
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(["bash", "-c", script], env=os.environ | path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("auto json none\n", "")
