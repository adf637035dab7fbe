"""States of a scan that somebody else wrote: each is refused in one line, and no file changes.

The states that a scan itself writes, and scans that go on with them, are in `test_resume`.
"""

import gzip
import json
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scanner.cli.state_file import StateFile
from tests.command import USUAL, forge, halfopen, sign

Document = dict[str, Any]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """The state of a connect scan of one closed port, as if it had been killed at its beginning."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scan.jsonl").write_text("")
    (tmp_path / "hosts").write_text("127.0.0.1\n")
    (tmp_path / "victim").write_text("what root keeps\n")
    monkeypatch.setattr(StateFile, "remove", lambda self: None)
    assert halfopen("connect", *USUAL) == 0
    capsys.readouterr()
    return tmp_path / "scan.state"


def refused(state: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said, in one line of ordinary length, by a scan that changes no file."""
    files = {path: path.read_bytes() for path in state.parent.iterdir() if path.is_file() and path != state}
    code, said = halfopen("connect", *USUAL), capsys.readouterr()
    assert (code, said.out, len(said.err.splitlines()), len(said.err) < 1000) == (2, "", 1, True), said.err
    assert {path: path.read_bytes() for path in files} == files
    return said.err


# ── bytes ──

BYTES: dict[str, tuple[Callable[[], bytes], str]] = {
    "zlib that holds 100 MB": (lambda: zlib.compress(bytes(10**8)), "is no state"),
    "gzip that holds 100 MB": (lambda: gzip.compress(bytes(10**8)), "is no state"),
    "17 MB of blanks": (lambda: b" " * (17 << 20), "is no state"),
    "a million lists": (lambda: b"[" + b"[]," * 10**6 + b"[]]", "is no state"),
    "deep": (lambda: b"[" * 100_000 + b"]" * 100_000, "is no state"),
    "another version": (lambda: b'{"format": "halfopen scan state, version 3"}', "is no state"),
    "a number of 5,000 digits": (lambda: b'{"format": ' + b"9" * 5000 + b"}", "too long"),
    "not a number": (lambda: b'{"format": NaN}', "NaN in it is no number"),
    "infinite": (lambda: b'{"format": -Infinity}', "-Infinity in it is no number"),
    "infinite by its exponent": (lambda: b'{"format": 1e999}', "1e999 in it is no number"),
}


@pytest.mark.parametrize("case", BYTES)
def test_crafted_bytes(case: str, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, words = BYTES[case]
    state.write_bytes(content())
    assert words in refused(state, capsys)


def test_a_state_that_seems_to_be_a_terabyte_long(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.truncate(state, 1 << 40)
    assert "is no state" in refused(state, capsys)


def test_any_changed_byte_is_damage(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A change that JSON does not see (a blank) harms nothing."""
    whole, rng = state.read_bytes(), random.Random(1)
    assert json.loads(whole) == json.loads(sign(json.loads(whole)))
    for _ in range(30):
        at = rng.choice([at for at, byte in enumerate(whole) if byte != ord(" ")])
        state.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(7)]) + whole[at + 1 :])
        refused(state, capsys)


# ── values, with a right checksum ──


def deep(levels: int) -> Document:
    value: Document = {}
    for _ in range(levels):
        value = {"a": value}
    return value


FORGED: dict[str, tuple[Callable[[Document], object], str]] = {
    "a file to be cut": (lambda doc: doc["outputs"][0].update(path="victim"), "unknown member 'path'"),
    "fewer files": (lambda doc: doc["outputs"].pop(), "notes of the output files is damaged"),
    "another file of the command": (lambda doc: doc["inputs"].update({"-o": "/etc/passwd"}), "whose -o was"),
    "a negative key": (lambda doc: doc["resume_point"].update(cookie_key="-" + "0" * 31), "cookie_key is not written"),
    "a key that is a number": (lambda doc: doc["resume_point"].update(cookie_key=-1), "cookie_key is no string"),
    "a key of 5,000 digits": (lambda doc: doc["resume_point"].update(order_key="9" * 5000), "order_key is not written"),
    "a key and a line end": (lambda doc: doc["resume_point"].update(order_key="1\n"), "order_key is not written"),
    "a million hosts at once": (
        lambda doc: doc["resume_point"].update(
            left=[{"lane": 0, "first": 0, "size": 1 << 20, "chosen": "////" * 43690 + "//8="}] * 9
        ),
        "more hosts than a scan has at once",
    ),
    "a range of 2^62 hosts": (
        lambda doc: doc["resume_point"].update(left=[{"lane": 0, "first": 0, "size": 1 << 62}]), "do not exist",
    ),
    "counts below zero": (lambda doc: doc["stats"]["sent"].update(probe=-1), "stats.sent.probe is out of range"),
    "counts beyond 64 bits": (lambda doc: doc["stats"].update(replies=1 << 70), "stats.replies is out of range"),
    "a start in the year 290 billion": (lambda doc: doc["stats"].update(started=1e18), "started is out of range"),
    "lists as counts": (lambda doc: doc["stats"].update(sent=[1]), "stats.sent is no number"),
    "truth as a number": (lambda doc: doc["stats"].update(replies=True), "replies is no int"),
    "more than anybody remembers": (
        lambda doc: doc["outputs"][0].update(memory={str(at): 1 for at in range(101)}), "too many members",
    ),
    "a file without lengths": (lambda doc: doc["outputs"][0].pop("length"), "has no length"),
    "an input of 1 MB": (lambda doc: doc["inputs"].update({"-p": "7" * 10**6}), "whose -p was"),
    "a nameless input of 1 MB": (lambda doc: doc["inputs"].update({"7 " * 500_000: "x"}), "goes on with a scan whose"),
    "hosts by the thousand": (lambda doc: doc["outputs"][1].update(memory={"up": deep(3)}), "scan.xml is damaged"),
    "17 MB of text": (lambda doc: doc["inputs"].update({"-p": "7" * (17 << 20)}), "is no state"),
    "deep memory": (lambda doc: doc["outputs"][1].update(memory=deep(900)), "scan.xml is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGED)
def test_forged_values(case: str, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, words = FORGED[case]
    forge(change)
    assert words in refused(state, capsys)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys or indices."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@pytest.mark.parametrize("seed", range(60))
def test_wrong_values_anywhere_end_in_one_line_or_do_no_harm(
    seed: int, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(seed)

    def change(document: Document) -> None:
        container, key = rng.choice([place for place in places(document) if place[1] != "format"])
        container[key] = rng.choice([None, True, -1, 0, 1 << 63, 1e308, "", "\x1b[2J", [], [[]], {}, {"\n": 1}])

    forge(change)
    code, said = halfopen("connect", *USUAL), capsys.readouterr()
    assert (code in (0, 2), "Traceback" in said.err, "\x1b" in said.err + said.out) == (True, False, False), said.err
    assert (state.parent / "victim").read_text() == "what root keeps\n"


# ── the file ──


def by_link(state: Path) -> None:
    state.rename("real")
    state.symlink_to("real")


def by_fifo(state: Path) -> None:
    state.unlink()
    os.mkfifo(state)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (by_link, "it is a symbolic link"),
    "a pipe": (by_fifo, "is no regular file"),
    "the group may write": (lambda state: state.chmod(0o620), "others may write to"),
    "everybody may write": (lambda state: state.chmod(0o602), "others may write to"),
    "another user's": (lambda state: os.chown(state, 12345, -1), "belongs to another user"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_not_trusted(case: str, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, words = FILES[case]
    try:
        spoil(state)
    except PermissionError:
        pytest.skip("only root can give files away")
    assert words in refused(state, capsys)
