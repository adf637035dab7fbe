"""Host names: how they become addresses, and where they stand in the results."""

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from scanner.cli.state_file import StateFile
from scanner.config import TargetOptions, choice_of
from scanner.errors import UsageError
from scanner.output import Summary, open_sinks
from scanner.output.hostport import list_format
from scanner.results.read import read_results
from scanner.targets.lists import Lines
from scanner.targets.names import (
    MOST_AT_ONCE,
    MOST_SHOWN,
    Named,
    Naming,
    Resolve,
    addresses_of,
    answers_of,
    lines_of,
    literals_of,
)
from scanner.targets.spec import parse_targets
from scanner.targets.special import Choice, choose
from scanner.trace.ladder import scan_targets
from scanner.verdict.rows import Verdict
from tests.command import halfopen
from tests.processes import PATIENCE

ROOT = Path(__file__).resolve().parents[1]
NAMES = {
    "web.example": ["127.0.0.1", "127.0.0.2", "::1"],
    "www.example": ["127.0.0.1"],
    "six.example": ["::1"],
    "bücher.example": ["127.0.0.3"],
    "false.example": ["10.0.0.*", "10.0.0.0/8", "\x1b[2J", "1.2.3.4 5.6.7.8", ""],
    "mapped.example": ["::ffff:127.0.0.4"],
}


def resolve(name: str) -> list[str]:
    return NAMES.get(name, [])


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver knows these names and no others."""

    def getaddrinfo(name: str, *values: Any, **named: Any) -> list[Any]:
        if name not in NAMES:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in NAMES[name]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


# ── resolving ──


def test_names_are_resolved_at_the_same_time() -> None:
    """Each answer waits until others are asked for, too."""
    together = threading.Barrier(4)

    def slow(name: str) -> list[str]:
        together.wait(PATIENCE)
        return ["192.0.2.1"]

    names = [f"{number}.example" for number in range(8)]
    assert {name: list(map(str, found)) for name, found in addresses_of(names, slow).items()} == {
        name: ["192.0.2.1"] for name in names
    }


def test_so_many_names_at_once_and_no_more() -> None:
    running: list[int] = []
    most: list[int] = []
    full = threading.Barrier(MOST_AT_ONCE)

    def count(name: str) -> list[str]:
        running.append(1)
        most.append(len(running))
        full.wait(PATIENCE)
        running.pop()
        return []

    told: list[tuple[Any, ...]] = []
    names = [f"{number}.example" for number in range(3 * MOST_AT_ONCE)]
    found = addresses_of([*names, *names], count, lambda *values: told.append(values))
    assert (len(found), max(most), told[-1]) == (len(names), MOST_AT_ONCE, (None, len(names), len(names)))


def test_a_resolver_that_fails_in_an_unknown_way_is_no_silence() -> None:
    def broken(name: str) -> list[str]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        addresses_of(["web.example"], broken)


def test_a_resolver_that_hangs_is_not_waited_for() -> None:
    """Of three names one is answered, and the two others never are."""
    never = threading.Event()

    def hang(name: str) -> list[str]:
        if name != "web.example":
            never.wait(PATIENCE)
        return []

    with pytest.raises(UsageError) as caught:
        addresses_of(["web.example", "a.example", "b.example"], hang, most_silent=2)
    never.set()
    assert str(caught.value).startswith("the resolver has not answered for 0 s (1 of 3 names are done)")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_the_wait_for_a_resolver(number: signal.Signals) -> None:
    hangs = "socket.getaddrinfo = lambda *values, **named: (print('asked', flush=True), threading.Event().wait())"
    code = f"import socket, sys, threading; sys.argv = {['halfopen', 'connect', 'web.example', '-p', '1']}; {hangs}; "
    command = [sys.executable, "-c", code + "from scanner.cli.entry import run; run()"]
    with subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "asked\n"
        process.send_signal(number)
        assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 130


TWO_READINGS = {
    "0x7f.1": "'0x7f.1' is an address in a short or hexadecimal form: write 127.0.0.1, if that is meant",
    "0xa000001": "'0xa000001' is an address in a short or hexadecimal form: write 10.0.0.1, if that is meant",
    "straße.example": "'straße.example' is another domain by older and newer rules (ß): write its xn-- form",
}


@pytest.mark.parametrize("name", TWO_READINGS)
def test_a_name_that_is_read_in_two_ways_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        scanned(name)
    assert str(caught.value) == TWO_READINGS[name]


@pytest.mark.parametrize(
    "name", ["bücher.example", "xn--bcher-kva.example", "db.1", "deadbeef", "0x.example", "a_b.c-"]
)
def test_other_names_are_names(name: str) -> None:
    names, _ = scanned(name, resolve=lambda name: ["127.0.0.1"])
    assert names == {"127.0.0.1": name}


def test_an_address_that_a_resolver_gives_twice_is_one() -> None:
    names, choice = scanned("a.example", everything=True, resolve=lambda name: ["127.0.0.1", "127.0.0.1"])
    assert (names, choice.hosts.size, choice.notes) == ({"127.0.0.1": "a.example"}, 1, [])


def scanned(
    *specs: str, family: int = 0, everything: bool = False, resolve: Resolve = resolve
) -> tuple[dict[str, str], Choice]:
    choice = choose(specs, [], resolve, everything, family=family, lenient=True)
    return dict(choice.hosts.names), choice


def test_each_address_has_the_first_name_that_was_given() -> None:
    names, choice = scanned("www.example", "web.example", "127.0.0.1", "mapped.example", "127.0.0.9", everything=True)
    assert names == {"127.0.0.1": "www.example", "127.0.0.2": "web.example", "::1": "web.example",
                     "127.0.0.4": "mapped.example"}  # fmt: skip
    assert choice.hosts.size == 5


def test_a_name_of_a_block_is_that_of_one_address() -> None:
    names, choice = scanned("www.example/30")
    assert (names, choice.hosts.size) == ({"127.0.0.1": "www.example"}, 4)


@pytest.mark.parametrize(
    ("family", "everything", "names", "notes"),
    [
        (0, False, {"127.0.0.1": "web.example"},
         ["web.example is 127.0.0.1, also 127.0.0.2, ::1; --all-addresses scans them"]),
        (0, True, {"127.0.0.1": "web.example", "127.0.0.2": "web.example", "::1": "web.example"}, []),
        (4, False, {"127.0.0.1": "web.example"},
         ["web.example is 127.0.0.1, also 127.0.0.2; --all-addresses scans them"]),
        (4, True, {"127.0.0.1": "web.example", "127.0.0.2": "web.example"}, []),
        (6, False, {"::1": "web.example"}, []),
    ],
)  # fmt: skip
def test_which_addresses_are_scanned(family: int, everything: bool, names: dict[str, str], notes: list[str]) -> None:
    found, choice = scanned("web.example", family=family, everything=everything)
    assert (found, choice.notes) == (names, notes)


def test_one_family_leaves_the_addresses_of_the_other_out() -> None:
    _, choice = scanned("127.0.0.1", "::1", "2001:db8::/126", family=4)
    assert (choice.hosts.size, choice.notes) == (1, ["left out 5 IPv6 addresses: -4 scans IPv4 only"])


@pytest.mark.parametrize(
    ("specs", "family", "message"),
    [
        (["::1"], 4, "no target has an IPv4 address: leave out -4, or name others"),
        (["six.example"], 4, "six.example has no IPv4 address: check the spelling, or give its address"),
        (["false.example"], 0, "cannot resolve 'false.example': check the spelling, or give its address"),
        (["a.example", "b.example"], 0,
         "cannot resolve 'a.example', nor 1 other name: check the spelling, or give its address"),
    ],
)  # fmt: skip
def test_nothing_is_left(specs: list[str], family: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        scanned(*specs, family=family)
    assert str(caught.value) == message


def test_both_families_are_none() -> None:
    with pytest.raises(UsageError, match="-4 and -6 each leave out"):
        choice_of(TargetOptions(targets=("127.0.0.1",), ipv4=True, ipv6=True))


def test_many_sentences_are_summed_up() -> None:
    names = [f"{number}.example" for number in range(MOST_SHOWN + 2)]
    _, choice = scanned("127.0.0.1", *names)
    assert (len(choice.notes), choice.notes[-1], choice.hosts.unresolved) == (
        MOST_SHOWN + 1, "2 more names have no address: they are left out", len(names),
    )  # fmt: skip
    _, choice = scanned(*names, resolve=lambda name: ["127.0.0.1", "127.0.0.2"])
    assert choice.notes[-1] == "2 more names have further addresses; --all-addresses scans them"


def test_of_very_many_addresses_the_first_are_named() -> None:
    many = Naming(lambda name: [f"192.0.2.{number}" for number in range(MOST_SHOWN + 3)])
    with pytest.raises(UsageError):
        parse_targets(["web.example"], ["web.example"], many.resolve)

    _, names = literals_of([Named("web.example", "web.example", "", None)], many)
    (line,) = lines_of(names)
    assert line.endswith(f"192.0.2.{MOST_SHOWN} and 2 more; --all-addresses scans them")


# ── one bad line ──


def test_a_bad_exclude_refuses() -> None:
    """An exclude that is left out would be scanned."""
    with pytest.raises(UsageError, match=r"cannot resolve 'nobody\.example'"):
        choose(["127.0.0.1"], ["nobody.example"], resolve, lenient=True)


PLACES = {
    "a word that is nothing": (b"127.0.0.1\n# x\r\n!\n", "list, line 3: '!' is not an address, range or host name"),
    "an octet": (b"127.0.0.1\r127.0.0.2\r1.2.3.400\r", "list, line 3: 400 in 1.2.3.400 is not an octet"),
    "bytes that are no text": (b"127.0.0.1 \x1b[2J\xff\n", r"list, line 1: '\x1b[2J\xff' is not an address"),
    "a zone": (b"127.0.0.1\n\n2001:db8::1%eth0\n", "list, line 3: 2001:db8::1%eth0: only link-local addresses"),
    "behind a piece": (b"127.0.0.1\n" * 200_000 + b"1..2.3", "list, line 200001: '' in 1..2.3 is not an octet"),
    "a name, when names must all be there": (b"\n\nnobody.example", "list, line 3: cannot resolve 'nobody.example'"),
}


@pytest.mark.parametrize("case", PLACES)
@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.usefixtures("resolver")
def test_an_error_in_a_list_names_file_and_line(
    case: str, exclude: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if exclude and case == "a zone":  # an exclude counts on every link
        return
    monkeypatch.chdir(tmp_path)
    text, message = PLACES[case]
    Path("list").write_bytes(text)
    targets = ("127.0.0.1", "--exclude-file", "list") if exclude else ("-iL", "list", "--seed", "1", "--shard", "1/2")
    assert halfopen("plan", *targets, "-p", "1") == 2
    said = capsys.readouterr().err
    assert (said.startswith(f"halfopen: {message}"), said.count("\n")) == (True, 1)


def test_lines_without_a_file_have_no_place() -> None:
    with pytest.raises(UsageError, match=r"^'!' is not an address"):
        parse_targets([Lines(b"127.0.0.1\n!")], [], resolve)


# ── a resumed scan ──


def test_a_resumed_scan_keeps_names_and_their_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many name servers give several addresses in another order each time."""
    answers = iter([["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]])

    def getaddrinfo(name: str, *values: Any, **named: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in next(answers)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(StateFile, "remove", lambda self: None)  # as if the first part had been killed
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert halfopen("connect", "web.example", "-p", "1", "-o", "scan.jsonl", "--resume", "scan.state", "-q") == 0
    rows = [json.loads(line) for line in Path("scan.jsonl").read_text().splitlines()]
    assert [(row["ip"], row["hostname"]) for row in rows] == [("127.0.0.1", "web.example")]


def test_what_a_state_says_of_names_is_not_trusted(monkeypatch: pytest.MonkeyPatch, resolver: None) -> None:
    answers = answers_of("web.example 127.0.0.9 10.0.0.*; six.example; www.example ::1 127.0.0.8;;")
    found = {name: answers.resolve(name) for name in ("web.example", "six.example", "www.example")}
    assert found == {"web.example": NAMES["web.example"], "six.example": ["::1"], "www.example": ["::1", "127.0.0.8"]}
    assert answers_of(answers.as_text()).as_text() == answers.as_text()


# ── ladders ──


LADDERS = {
    "web.example:22": [("127.0.0.1", 22), ("127.0.0.2", 22), ("::1", 22)],
    "WWW.Example:80": [("127.0.0.1", 80)],  # not the first name of this address
    "[::1]:22": [("::1", 22)],
    "127.0.0.2:22": [("127.0.0.2", 22)],
}


@pytest.mark.parametrize("ladder", LADDERS)
def test_a_ladder_by_name(ladder: str) -> None:
    _, choice = scanned("web.example", "www.example", everything=True)
    ports = np.array([22, 80], np.uint16)
    assert scan_targets(ladder, choice.spaces(ports)) == LADDERS[ladder]


NO_LADDERS = {
    "web.example:23": "--ladder web.example:23 is no target of this scan: add it to the targets and to -p",
    "six.example:22": "--ladder six.example:22 is no target of this scan: add it to the targets and to -p",
    "web.example": "--ladder 'web.example' is not an address and a port",
    "web.example:x": "--ladder 'web.example:x' is not an address and a port",
    "300.0.0.1:22": "--ladder '300.0.0.1:22' is not an address and a port",
    "web.example:99999": "--ladder web.example:99999 is no target of this scan",
}


@pytest.mark.parametrize("ladder", NO_LADDERS)
def test_a_ladder_of_no_target(ladder: str) -> None:
    _, choice = scanned("web.example")
    with pytest.raises(UsageError) as caught:
        scan_targets(ladder, choice.spaces(np.array([22], np.uint16)))
    assert str(caught.value).startswith(NO_LADDERS[ladder])


# ── the name in every output ──

SCAN = ("connect", "www.example", "bücher.example", "127.0.0.9", "-p", "1")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert halfopen(*arguments) == 0
    return capsys.readouterr().out


@pytest.fixture
def quiet_scan(resolver: None, capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *more: said(capsys, *SCAN, "-q", *more)


def test_json_lines(quiet_scan: Any) -> None:
    rows = {row["ip"]: row.get("hostname") for row in map(json.loads, quiet_scan("-f", "jsonl").splitlines())}
    assert rows == {"127.0.0.1": "www.example", "127.0.0.3": "bücher.example", "127.0.0.9": None}


def test_csv(quiet_scan: Any) -> None:
    head, *lines = (line.split(",") for line in quiet_scan("-f", "csv").splitlines())
    assert {line[0]: line[head.index("hostname")] for line in lines} == {
        "127.0.0.1": "www.example", "127.0.0.3": "bücher.example", "127.0.0.9": "",
    }  # fmt: skip


def test_xml(quiet_scan: Any) -> None:
    hosts = ElementTree.fromstring(quiet_scan("-f", "xml")).iter("host")
    assert [[name.attrib for name in host.findall("hostnames/hostname")] for host in hosts] == [
        [{"name": "www.example", "type": "user"}], [{"name": "bücher.example", "type": "user"}], [],
    ]  # fmt: skip


def test_grepable(quiet_scan: Any) -> None:
    lines = [line.split("\t")[0] for line in quiet_scan("-f", "gnmap").splitlines() if line[0] != "#"]
    assert lines[::2] == ["Host: 127.0.0.1 (www.example)", "Host: 127.0.0.3 (bücher.example)", "Host: 127.0.0.9 ()"]


def test_tables(quiet_scan: Any) -> None:
    lines = quiet_scan().splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "127.0.0.1 (www.example)", "127.0.0.3 (bücher.example)", "127.0.0.9",
    ]  # fmt: skip
    assert quiet_scan("-p", "1,2").splitlines()[0] == "127.0.0.1 (www.example)"


def test_lists() -> None:
    names = {"192.0.2.1": "web.example", "192.0.2.9": "x\x1b.example"}
    form = list_format(early=True, names=names)
    assert form.found
    assert form.found([("192.0.2.1", 22), ("2001:db8::1", 80)]) == "web.example:22\n[2001:db8::1]:80\n"
    rows = [Verdict(ip, 22, "open", "syn-ack") for ip in names]
    assert "".join(form.texts(rows)) == "x\\x1b.example:22\n"


@pytest.mark.usefixtures("resolver")
def test_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "plan", "web.example", "nobody.example", "-p", "22")
    assert "names      web.example is 127.0.0.1, also 127.0.0.2, ::1; --all-addresses scans them\n" in text
    assert "           cannot resolve 'nobody.example': it is left out\n" in text
    assert text.endswith("127.0.0.1:22 (web.example)\n")


HOSTILE = Verdict("192.0.2.7", 22, "open", "syn-ack", hostname='<a href="x">\x1b[2J\r\n(),/\t\udc80\u202e')


@pytest.mark.parametrize("form", ["xml", "gnmap", "table", "csv", "jsonl"])
def test_a_hostile_name_is_only_shown(form: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    outputs = open_sinks("jsonl", named=[(form, str(path))])
    outputs.write([HOSTILE])
    outputs.finish(Summary())
    text = path.read_bytes().decode("utf-8")
    assert [c for c in text if not c.isprintable() and c not in "\n\t"] == []
    assert [line for line in text.splitlines() if line.startswith("(")] == []
    if form in ("xml", "csv", "jsonl"):
        (row,) = read_results([str(path)], print)
        assert row.hostname
        assert row.hostname.startswith('<a href="x">')


def test_names_of_nmap(tmp_path: Path) -> None:
    path = tmp_path / "nmap.xml"
    hosts = {
        "192.0.2.1": '<hostname name="ptr.example" type="PTR"/><hostname name="web.example" type="user"/>',
        "192.0.2.2": '<hostname name="a.example" type="PTR"/><hostname name="b.example" type="PTR"/>',
        "192.0.2.3": "",
    }
    ports = '<ports><port protocol="tcp" portid="22"><state state="open" reason="syn-ack"/></port></ports>'
    text = "".join(
        f'<host><address addr="{ip}"/><hostnames>{names}</hostnames>{ports}</host>' for ip, names in hosts.items()
    )
    path.write_text(f"<nmaprun>{text}</nmaprun>")
    assert [row.hostname for row in read_results([str(path)], print)] == ["web.example", "a.example", None]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "xml"])
def test_report_and_diff_read_names(
    suffix: str, quiet_scan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"scan.{suffix}"
    quiet_scan("-o", name)
    Path("none.jsonl").write_text("")
    assert halfopen("report", name, "-o", "page.html", "-q") == 0
    data = Path("page.html").read_text().partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(data)["hostnames"] == ["www.example", "bücher.example", ""]
    assert halfopen("diff", "none.jsonl", name, "-q") == 1
    titles = [line for line in capsys.readouterr().out.splitlines() if line.startswith("127.")]
    assert titles == ["127.0.0.1 (www.example)", "127.0.0.3 (bücher.example)", "127.0.0.9"]
    assert halfopen("diff", "none.jsonl", name, "-q", "-f", "jsonl") == 1
    assert next(json.loads(line).get("hostname") for line in capsys.readouterr().out.splitlines()) == "www.example"


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"ip": "192.0.2.7", "port": 1, "state": "open", "reason": "syn-ack", "hostname": "x" * 1025}
    path.write_text(json.dumps(row))
    with pytest.raises(UsageError, match="has a name that is too long"):
        list(read_results([str(path)], print))
