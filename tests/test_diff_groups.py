"""What to look at first in a comparison, which changes make it fail, and hosts whose name leads to another address."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scanner.output.jsonl import line
from scanner.results.changes import Change, Group, group_of
from scanner.results.columns import RowKind, Vocabulary
from scanner.results.diff import compare
from scanner.verdict.rows import Verdict

ROOT = Path(__file__).resolve().parents[1]
WORDS = {
    "open": RowKind("tcp", "open", "syn-ack", ()),
    "closed": RowKind("tcp", "closed", "reset", ("host-reset",)),
    "forged": RowKind("tcp", "closed", "reset", ("firewall-reset",)),
    "filtered": RowKind("tcp", "filtered", "no-response", ()),
    "nmap's": RowKind("tcp", "open|filtered", "no-response", ()),
    "down": RowKind("tcp", "down", "no-arp", ()),
    "-": None,
}
GROUPS = {
    "closed open": "opened", "filtered open": "opened", "- open": "opened", "nmap's open": "opened",
    "filtered closed": "reachable", "- closed": "reachable", "forged closed": "reachable",
    "open closed": "gone", "open filtered": "gone", "open -": "gone", "open forged": "gone",
    "closed filtered": "gone", "closed -": "gone", "closed forged": "gone",
    "filtered forged": "other", "- filtered": "other", "filtered -": "other", "- down": "other", "down -": "other",
    "- forged": "other", "closed closed": "other", "open open": "other",
}  # fmt: skip


@pytest.mark.parametrize("sides", GROUPS)
def test_the_group_of_a_change(sides: str) -> None:
    old, new = sides.split()
    assert group_of(Change.CHANGED, WORDS[old], WORDS[new]) == Group(GROUPS[sides])


@pytest.mark.parametrize(("change", "group"), [(Change.UP, Group.REACHABLE), (Change.DOWN, Group.GONE)])
def test_the_group_of_a_host(change: Change, group: Group) -> None:
    assert group_of(change, WORDS["down"], None) is group


def side(*hosts: str) -> list[Verdict]:
    """`www@1 22o 80c` → rows of 192.0.2.1, which was given by the name www; without a name, `1 22o`."""
    found = []
    for host in hosts:
        who, *ports = host.split()
        name, _, number = who.rpartition("@")
        for port in ports:
            words = ("open", "syn-ack") if port[-1] == "o" else ("closed", "reset")
            found.append(Verdict(f"192.0.2.{number}", int(port[:-1]), *words, hostname=name or None))
    return found


def changes(old: list[Verdict], new: list[Verdict]) -> list[str]:
    """Each difference as `1 22 opened`; where the address was another one, `1<2 22 opened`."""
    texts = Vocabulary()
    found = compare(texts, texts.rows(old), texts.rows(new)).differences
    return [
        f"{row.ip[8:]}{'<' + row.old_ip[8:] if row.old_ip else ''} {row.port or '-'} {row.change.value}"
        for row in found
    ]


NAMES = {
    "another address": (side("www@1 22o 80c"), side("www@2 22o 80o"), ["2<1 80 opened", "2<1 - moved"]),
    "the case of letters and the last dot": (side("WWW.@1 22o"), side("www@2 22o"), ["2<1 - moved"]),
    "without names": (side("1 22o"), side("2 22o"), ["2 22 appeared", "1 22 vanished"]),
    "named on one side only": (side("www@1 22o"), side("2 22o"), ["2 22 appeared", "1 22 vanished"]),
    "named once, at the same address": (side("www@1 22o"), side("1 22o"), []),
    "another name at the same address": (side("www@1 22o"), side("mail@1 22o"), []),
    "two names of one address": (side("www@1 22o", "mail@1 25o"), side("www@1 22o 25o"), []),
    "two names of one address part: the first one stands for the host": (
        side("www@1 22o", "mail@1 25o"), side("www@2 22o", "mail@3 25o"),
        ["3 25 appeared", "2<1 25 vanished", "2<1 - moved"],
    ),
    "a swap": (side("www@1 80o", "mail@2 25o"), side("www@2 80o", "mail@1 25o"), ["1<2 - moved", "2<1 - moved"]),
    "a chain": (side("a@1 1o", "b@2 2o"), side("a@2 1o", "b@3 2o"), ["2<1 - moved", "3<2 - moved"]),
    "a chain whose first place is taken": (
        side("a@1 1o", "b@2 2o"), side("1 1o", "a@2 1o", "b@3 2o"), ["2 1 appeared", "3 2 appeared", "2 2 vanished"],
    ),
    "a chain whose last place was taken": (
        side("a@1 1o", "b@2 2o", "3 3o"), side("a@2 1o", "b@3 2o"),
        ["2 1 appeared", "3 2 appeared", "1 1 vanished", "2 2 vanished", "3 3 vanished"],
    ),
    "both addresses are scanned in both results": (
        side("www@1 80o", "2 22o"), side("1 80o", "www@2 22o 80o"), ["2 80 appeared"],
    ),
    "one of several addresses": (
        side("www@1 80o", "www@2 80o"), side("www@2 80o", "www@3 80o"), ["3<1 - moved"],
    ),
    "all of several addresses": (
        side("www@1 80o", "www@2 80o"), side("www@3 80o", "www@4 80o"),
        ["3 80 appeared", "4 80 appeared", "1 80 vanished", "2 80 vanished"],
    ),
    "one of them is left out": (side("www@1 80o", "www@2 80o"), side("www@2 80o"), ["1 80 vanished"]),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), NAMES.values(), ids=NAMES)
def test_names_and_addresses(old: list[Verdict], new: list[Verdict], expected: list[str]) -> None:
    assert changes(old, new) == expected


def diff(folder: Path, old: str | list[Verdict], new: str | list[Verdict], *options: str) -> tuple[int, str, str]:
    for name, rows in (("old", old), ("new", new)):
        (folder / name).write_text(rows if isinstance(rows, str) else "".join(map(line, rows)))
    done = subprocess.run(
        [sys.executable, "-m", "scanner", "diff", "old", "new", *options],
        cwd=folder, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


OLD, NEW = side("1 22c 80o"), side("1 22o 80c")
CODES = {
    "": 1, "--fail-on opened": 1, "--fail-on gone": 1, "--fail-on reachable": 0, "--fail-on other": 0,
    "--fail-on reachable,gone": 1, "--fail-on other --fail-on opened": 1, "--fail-on reachable,other": 0,
    "--fail-on open": 2, "--fail-on opened,": 2,
}  # fmt: skip


@pytest.mark.parametrize(("options", "code"), CODES.items(), ids=CODES)
def test_which_changes_make_it_fail(options: str, code: int, tmp_path: Path) -> None:
    assert diff(tmp_path, OLD, NEW, *options.split())[0] == code


def test_json_lines_name_the_group_and_the_old_address(tmp_path: Path) -> None:
    _, printed, _ = diff(tmp_path, side("www@1 22o 25c"), side("www@2 22c 25c"), "-f", "jsonl")
    shown = [[row[key] for key in ("ip", "old_ip", "change", "group")] for row in map(json.loads, printed.splitlines())]
    assert shown == [["192.0.2.2", "192.0.2.1", "closed", "gone"], ["192.0.2.2", "192.0.2.1", "moved", "other"]]


NMAP = """<nmaprun><scaninfo protocol="tcp" services="135"/><host><status state="up"/>
<address addr="192.0.2.1" addrtype="ipv4"/><ports><port protocol="tcp" portid="135">
<state state="open" reason="syn-ack"/><service name="msrpc" method="table"/></port></ports></host>
<runstats/></nmaprun>"""


def test_a_service_that_nmap_and_iana_name_differently_is_no_change(tmp_path: Path) -> None:
    ours = [row._replace(service="epmap") for row in side("1 135o")]
    assert diff(tmp_path, NMAP, ours, "--reasons") == (0, "", "halfopen: 1 the same\n")


def test_rows_are_compared_with_those_of_the_same_vantage_point() -> None:
    here, there = ([row._replace(vantage=place) for row in side("1 22o")] for place in ("here", "there"))
    closed = [row._replace(vantage="there") for row in side("1 22c")]
    assert changes(here + there, closed + here) == ["1 22 closed"]


VANTAGE = [row._replace(vantage="here") for row in side("1 22o")]
MIXED = {
    "in one file": (VANTAGE + side("1 80o"), OLD, "old has rows with a vantage point and rows without: give"),
    "in one of two files": (OLD, VANTAGE, "only one of old and new has vantage points: give"),
}


@pytest.mark.parametrize(("old", "new", "said"), MIXED.values(), ids=MIXED)
def test_rows_with_and_without_a_vantage_point_are_refused(
    old: list[Verdict], new: list[Verdict], said: str, tmp_path: Path
) -> None:
    code, printed, errors = diff(tmp_path, old, new)
    assert (code, printed, errors.count("\n"), said in errors) == (2, "", 1, True)


ODD = {
    "no row at all": ("", OLD, "old is a result without rows"),
    "only the head of a CSV file": ("ip,port,state,reason\n", OLD, "old is a result without rows"),
    "no host in the XML": ("<nmaprun/>", OLD, "old is a result without rows"),
    "other ports": (side("1 22o"), side("1 80o"), "old and new have no port in common: were the same ports scanned?"),
    "other hosts": (
        side("1 22o"),
        side("2 22o"),
        "old and new have no address in common: were the same hosts scanned?",
    ),
}


@pytest.mark.parametrize(("old", "new", "said"), ODD.values(), ids=ODD)
def test_results_that_hardly_compare_are_said_in_one_line(
    old: str | list[Verdict], new: list[Verdict], said: str, tmp_path: Path
) -> None:
    code, _, errors = diff(tmp_path, old, new, "-q")
    assert (code, errors) == (1, f"halfopen: {said}\n")
