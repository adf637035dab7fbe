"""Escape sequences in names, titles and arguments: no verb hands one to a terminal, a page, or a file for people."""

import sys
import unicodedata
from pathlib import Path

import pytest

from tests.command import halfopen

# Clears the screen, sets the title, reverses the writing, and pretends to be a line of its own.
EVIL = "x\x1b[2J\x1b]0;owned\x07\x9b31m\r\u202eb\u2028\nhalfopen: all is well\udc80"
ROW = '{"ip": "192.0.2.7", "port": 443, "state": "open", "reason": "syn-ack"}\n'
PCAP = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
CONNECT = ("connect", "127.0.0.1", "-p", "1")

LINES: dict[str, tuple[str, ...]] = {
    "no such verb": (EVIL,),
    "no such option": ("connect", f"--{EVIL}"),
    "an argument too many": ("demo", EVIL),
    "no number": (*CONNECT, "--ttl", EVIL),
    "no address": ("connect", EVIL, "-p", "1"),
    "no port": ("connect", "127.0.0.1", "-p", EVIL),
    "no shard": (*CONNECT, "--shard", EVIL),
    "no list": ("connect", "-iL", EVIL),
    "a list": ("plan", "-iL", f"list{EVIL}", "-p", "1"),
    "a wrong line of a list": ("plan", "-iL", f"wrong{EVIL}", "-p", "1"),
    "bytes of a list": ("plan", "-iL", f"bytes{EVIL}", "-p", "1"),
    "a list of names": ("plan", "-iL", f"names{EVIL}", "-p", "1"),
    "no list of excludes": ("plan", "127.0.0.1", "--exclude-file", EVIL),
    "an exclude": ("plan", "127.0.0.1", "--exclude", EVIL),
    "no interface": ("plan", "127.0.0.1", "-e", EVIL),
    "no suffix": (*CONNECT, "-o", EVIL),
    "no format": (*CONNECT, "-f", EVIL),
    "no folder": (*CONNECT, "-oX", f"no/{EVIL}"),
    "an output that exists": (*CONNECT, "-o", f"rows{EVIL}.jsonl"),
    "an output": (*CONNECT, "-o", f"new{EVIL}.txt", "-o", "new.txt", "-o", "new.gnmap", "-o", "new.xml"),
    "statistics that exist": (*CONNECT, "--stats", f"rows{EVIL}.jsonl"),
    "no state": (*CONNECT, "-o", "new.csv", "--resume", f"rows{EVIL}.jsonl"),
    "a recording": ("syn", "127.0.0.1", "-p", "1", "--record", EVIL),
    "no capture": ("classify", EVIL),
    "a capture": ("classify", f"cut{EVIL}.pcap", "-o", "new.txt"),
    "no ladder": ("classify", "cut.pcap", "--ladder", EVIL),
    "no results": ("report", EVIL, "-o", "page.html"),
    "wrong results": ("report", f"wrong{EVIL}", "-o", "page.html"),
    "a report": ("report", f"rows{EVIL}.jsonl", f"empty{EVIL}", "-o", "page.html", "--title", EVIL),
    "a page": ("report", "rows.jsonl", "-o", f"{EVIL}.html"),
    "no sides": ("diff", EVIL, EVIL),
    "wrong sides": ("diff", f"wrong{EVIL}", "rows.jsonl"),
    "sides": ("diff", f"empty{EVIL}", f"cut{EVIL}.pcap"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("", EVIL):
        Path(f"rows{name}.jsonl").write_text(ROW)
        Path(f"cut{name}.pcap").write_bytes(PCAP + b"\x01")
        Path(f"list{name}").write_text("127.0.0.1\n")
        Path(f"empty{name}").write_text("")
        Path(f"bytes{name}").write_bytes(b"127.0.0.1\n\xff\x9b31m\x1b[2J\n")
        Path(f"names{name}").write_text("nobody.invalid\n")
        Path(f"wrong{name}").write_text(ROW + '{"ip": "\x1b[2J", "port": "\x9b\u202e"}\n')
    return tmp_path


def control(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n", "\t"}


@pytest.mark.parametrize("case", LINES)
def test_a_name_is_only_shown(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    halfopen(*LINES[case])
    said = capsys.readouterr()
    files = [path for path in folder.iterdir() if path.suffix in (".txt", ".html", ".xml", ".gnmap")]
    texts = [said.out, said.err, *(path.read_text("utf-8") for path in files)]
    assert [(control(text), "\nhalfopen: all is well" in text) for text in texts] == [(set(), False)] * len(texts)
    assert said.err if case not in ("an exclude", "a list") else said.out + said.err


def test_names_in_any_script_stay_as_they_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert halfopen("diff", "Büro 東京.jsonl", "rows.jsonl") == 2
    assert "Büro 東京.jsonl cannot be read" in capsys.readouterr().err


def test_an_error_does_not_fill_the_screen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert halfopen("connect", "127.0.0.1", "-p", "1" * 100_000) == 2
    said = capsys.readouterr().err
    assert (len(said) < 2100, len(said.splitlines())) == (True, 1)


def test_python_itself_says_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard error that takes ASCII only gets escapes, and no exception."""
    before = sys.stderr
    sys.stderr = open(2, "w", encoding="ascii", errors="backslashreplace", closefd=False)  # noqa: SIM115
    try:
        assert halfopen("diff", f"東京{EVIL}", "rows.jsonl") == 2
    finally:
        sys.stderr.close()
        sys.stderr = before
    assert capfd.readouterr().err.startswith("halfopen: \\u6771\\u4eacx\\x1b[2J")
