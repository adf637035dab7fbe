"""Comparisons of two small results as whole outputs, and `halfopen diff` with its exit codes."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from scanner.output.jsonl import line
from scanner.results.changes import Change, Difference, json_line, table
from scanner.results.columns import RowKind, Vocabulary
from scanner.results.diff import compare
from scanner.verdict.rows import Verdict

ROOT = Path(__file__).resolve().parents[1]
A, B, SIX = "192.0.2.7", "192.0.2.10", "2001:db8::7"
WORDS = {
    "o": ("open", "syn-ack"),
    "c": ("closed", "reset"),
    "r": ("closed", "conn-refused"),
    "f": ("filtered", "no-response"),
    "u": ("unknown", "capture-ended"),
    "d": ("down", "no-arp"),
}


def rows(text: str, ip: str = A) -> list[Verdict]:
    """`22o 80c` → verdicts; a single `d` is the host itself."""
    return [Verdict(ip, int(word[:-1]) if word[:-1] else None, *WORDS[word[-1]]) for word in text.split()]


def compared(old: list[Verdict], new: list[Verdict], **options: bool) -> tuple[list[Difference], int, int]:
    texts = Vocabulary()
    found = compare(texts, texts.rows(old), texts.rows(new), **options)
    return list(found.differences), found.same, found.unknown


def kind(state: str, reason: str) -> RowKind:
    return RowKind("tcp", state, reason, ())


def short(row: Difference) -> str:
    return f"{'' if row.port is None else row.port} {row.change.value}".strip()


CASES = {
    "nothing": ("", "", [], 0, 0),
    "the same": ("22o 80c", "80c 22o", [], 2, 0),
    "opened, from closed and from filtered": ("22c 80f", "22o 80o", ["22 opened", "80 opened"], 0, 0),
    "closed, or filtered now": ("22o 80o", "22c 80f", ["22 closed", "80 closed"], 0, 0),
    "changed": ("22c 80f", "22f 80c", ["80 changed", "22 changed"], 0, 0),
    "appeared and vanished": ("22o", "80f", ["22 vanished", "80 appeared"], 0, 0),
    "another reason is no change": ("22c", "22r", [], 1, 0),
    "unknown is not compared": ("22o 80u 81u", "22u 80o 82u", [], 0, 4),
    "of two rows the stronger one counts": ("22f 22o 22c", "22o", [], 1, 0),
    "a host came up": ("d", "22o", ["22 appeared", "up"], 0, 0),
    "a host went down": ("22o", "d", ["down", "22 vanished"], 0, 0),
    "a host is still down": ("d", "d", [], 1, 0),
    "a new host is down": ("", "d", ["appeared"], 0, 0),
}


@pytest.mark.parametrize(("old", "new", "changes", "same", "unknown"), CASES.values(), ids=CASES)
def test_changes(old: str, new: str, changes: list[str], same: int, unknown: int) -> None:
    found, alike, untold = compared(rows(old), rows(new))
    assert ([short(row) for row in found], alike, untold) == (changes, same, unknown)


def test_reasons_when_asked_for() -> None:
    found = compared(rows("22c 80o"), rows("22r 80o"), reasons=True)
    assert found == (
        [Difference(A, 22, "tcp", Change.REASON, kind("closed", "reset"), kind("closed", "conn-refused"))],
        1,
        0,
    )


def test_only_changes_from_or_to_open() -> None:
    found, same, _ = compared(rows("1o 2c 3c 4o 5c 6o"), rows("1c 2o 3f 6o 7o 8c"), only_open=True)
    assert ([short(row) for row in found], same) == (["2 opened", "7 appeared", "1 closed", "4 vanished"], 1)


def test_hosts_are_in_the_order_of_numbers_and_protocols_are_kept_apart() -> None:
    udp = [row._replace(protocol="udp") for row in rows("53c")]
    found, _, _ = compared(rows("22c", SIX) + rows("22c", B) + rows("53o"), rows("53o") + udp)
    assert [(row.ip, row.protocol, short(row)) for row in found] == [
        (A, "udp", "53 appeared"),
        (B, "tcp", "22 vanished"),
        (SIX, "tcp", "22 vanished"),
    ]


def test_a_comparison_of_dictionaries_gives_the_same() -> None:
    rng = random.Random(7)
    old, new = (
        {(f"192.0.2.{rng.randrange(9)}", rng.randrange(50)): rng.choice("ocf") for _ in range(300)} for _ in "ab"
    )
    sides = [[Verdict(ip, port, *WORDS[state]) for (ip, port), state in side.items()] for side in (old, new)]
    found, same, _ = compared(*sides)
    expected = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    assert ({(row.ip, row.port) for row in found}, len(found), same) == (
        expected,
        len(expected),
        len(old.keys() | new.keys()) - len(expected),
    )


OLD = rows("22c 80o 443f 8080o") + [Verdict(B, port, "closed", "reset") for port in range(1, 41)] + rows("d", SIX)
NEW = (
    rows("22o 80c 443f 9000c")
    + [Verdict(B, port, "filtered", "no-response") for port in range(1, 41)]
    + rows("22o", SIX)
)
TABLE = """\
Newly open:

192.0.2.7
PORT    CHANGE  OLD             NEW             SERVICE
22/tcp  opened  closed (reset)  open (syn-ack)  ssh

2001:db8::7
PORT    CHANGE    OLD  NEW             SERVICE
22/tcp  appeared  -    open (syn-ack)  ssh

Newly reachable:

192.0.2.7
PORT      CHANGE    OLD  NEW             SERVICE
9000/tcp  appeared  -    closed (reset)  cslistener

2001:db8::7
PORT  CHANGE  OLD            NEW  SERVICE
-     up      down (no-arp)  -

No longer open or reachable:

192.0.2.7
PORT      CHANGE    OLD             NEW             SERVICE
80/tcp    closed    open (syn-ack)  closed (reset)  http
8080/tcp  vanished  open (syn-ack)  -               http-alt

192.0.2.10
Not shown: 40 changed (closed → filtered)
"""


def test_table() -> None:
    assert "".join(table(compared(OLD, NEW)[0])) == TABLE


def test_all_folds_nothing() -> None:
    text = "".join(table(compared(OLD, NEW)[0], everything=True))
    assert (text.count("changed"), "Not shown" in text) == (40, False)


def test_control_characters_of_a_file_are_escaped() -> None:
    evil = [Verdict(A, 22, "\x1b[2J", "\u202e")]
    assert "".join(table(compared(evil, [])[0])).splitlines()[4] == "22/tcp  vanished  \\x1b[2J (\\u202e)  -    ssh"


def test_json_lines() -> None:
    found, _, _ = compared(OLD, NEW, only_open=True)
    assert json_line(found[0]) == (
        '{"ip": "192.0.2.7", "port": 22, "protocol": "tcp", "change": "opened", "group": "opened", '
        '"old_state": "closed", "old_reason": "reset", "new_state": "open", "new_reason": "syn-ack"}\n'
    )


def test_json_line_of_a_host() -> None:
    assert json_line(compared([], rows("d"))[0][0]) == (
        '{"ip": "192.0.2.7", "change": "appeared", "group": "other", "old_state": null, "old_reason": null, '
        '"new_state": "down", "new_reason": "no-arp"}\n'
    )


VERB = {
    "the same": (("old", "old"), 0, "halfopen: 45 the same\n"),
    "changed": (
        ("old", "new"),
        1,
        "halfopen: 1 opened, 1 closed, 40 changed, 2 appeared, 1 vanished, 1 up, 1 the same\n",
    ),
    "only open": (("old", "new", "--open"), 1, "halfopen: 1 opened, 1 closed, 1 appeared, 1 vanished, 1 the same\n"),
    "quiet": (("old", "new", "-q"), 1, ""),
    "no such file": (
        ("old", "none"),
        2,
        "halfopen: none cannot be read (No such file or directory): name a file of results\n",
    ),
    "no such format": (
        ("old", "new", "-f", "csv"),
        2,
        "halfopen: format 'csv' is not known here: use table or jsonl\n",
    ),
    "standard input twice": (("-", "-"), 2, "halfopen: both sides are standard input: name a file for one of them\n"),
}


@pytest.mark.parametrize(("arguments", "code", "errors"), VERB.values(), ids=VERB)
def test_verb(arguments: tuple[str, ...], code: int, errors: str, tmp_path: Path) -> None:
    for name, verdicts in (("old", OLD), ("new", NEW)):
        (tmp_path / name).write_text("".join(map(line, verdicts)))
    done = subprocess.run(
        [sys.executable, "-m", "scanner", "diff", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (code, errors)


@pytest.mark.parametrize(("old", "service"), [("reset", True), ("admin-prohibited", False)])
def test_a_table_that_would_be_wider_than_80_columns_has_no_services(old: str, service: bool) -> None:
    before, after = kind("filtered", old), kind("filtered", "host-prohibited")
    lines = "".join(table([Difference(A, 8443, "tcp", Change.REASON, before, after)])).splitlines()
    assert (max(map(len, lines)) <= 80, "SERVICE" in lines[3]) == (True, service)
