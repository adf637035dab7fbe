"""The Python interface: what it gives, what it refuses, and the README's example."""

import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scanner
from scanner import Verdict, classify, scan
from scanner.config import SynConfig, TargetOptions
from scanner.declare import declared
from scanner.errors import UsageError
from scanner.keywords import ScanOptions
from scanner.targets.hostspace import Shard
from scanner.verdicts import Interrupted, Verdicts

ROOT = Path(__file__).parent.parent
DEMO = str(ROOT / "pcaps" / "demo.pcapng.gz")
DOWN = Verdict("192.0.2.8", None, "down", "no-arp")
FULL = Verdict("192.0.2.7", 80, "closed", "reset", "tcp", 63, "http", ("firewall-reset", "late"),
               0.125, 1700000000.25, 2, "192.0.2.254", "192.0.2.1")  # fmt: skip


def test_the_readmes_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands there; the live part goes to loopback."""
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.S | re.M)
    monkeypatch.chdir(ROOT)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(code, "README.md", "exec"), {})
    lines = shown.getvalue().splitlines()
    live = re.sub("'(open|closed)'", "?", lines[9]).split(" in ")[0]
    assert (len(code.splitlines()) <= 15, lines[0], lines[8], live) == (
        True,
        "198.18.0.2 22 syn-ack ('half-open',)",
        "44 targets, resets forged for [113, 113]",
        "[(22, ?), (80, ?), (443, ?)] 3 targets",
    )


def test_rows_are_those_of_the_command(tmp_path: Path) -> None:
    from scanner.output.jsonl import line

    done = subprocess.run(
        [sys.executable, "-m", "scanner", "classify", DEMO, "-f", "jsonl", "-q"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "".join(map(line, classify(DEMO))) == done.stdout


def test_merged_rows_have_each_target_once() -> None:
    rows = list(scanner.classify(DEMO))
    merged = scanner.merge([row._replace(time=None) for row in rows[::2]], DEMO, iter(rows[1::2]))
    assert sorted(merged, key=repr) == sorted(rows, key=repr)


def test_columns() -> None:
    table = Verdicts([], [], iter([[FULL, DOWN]])).to_numpy()
    expected = [
        ("192.0.2.7", 80, "closed", "reset", "tcp", 63, "http", "firewall-reset late", 0.125, 1700000000.25, 2,
         "192.0.2.254", "192.0.2.1", "", np.nan, np.nan, -1, -1, "", "", "", -1, -1, "", "", ""),
        ("192.0.2.8", -1, "down", "no-arp", "tcp", -1, "", "", np.nan, np.nan, 0, "", "", "", np.nan, np.nan, -1, -1,
         "", "", "", -1, -1, "", "", ""),
    ]  # fmt: skip
    assert (table.shape, repr(table.tolist())) == ((2,), repr(expected))


def test_columns_of_nothing_have_every_field() -> None:
    table = Verdicts([], [], iter([])).to_numpy()
    assert (table.shape, table.dtype.names) == (
        (0,),
        ("ip", "port", "state", "reason", "protocol", "ttl", "service", "evidence", "rtt_ms", "time", "pass",
         "icmp_from", "scanner_ip", "tunnel", "first_probe", "last_probe", "attempts", "scan",
         "hostname", "mac", "vendor", "window", "mss", "options", "vantage", "capture"),
    )  # fmt: skip


SELECTED: list[tuple[dict[str, Any], int]] = [
    ({}, 44),
    ({"only_open": True}, 8),
    ({"ports": [22, 80]}, 4),
    ({"ports": "22-80", "targets": "198.18.0.0/24"}, 4),
    ({"scanners": ["198.18.0.1"], "ports": 22}, 1),
    ({"scanners": ["198.18.0.9"]}, 0),
]


@pytest.mark.parametrize(("options", "count"), SELECTED)
def test_selections(options: dict[str, Any], count: int) -> None:
    assert len(classify([DEMO], **options).to_numpy()) == count


def test_a_full_handshake_scan() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        verdicts = scan(["127.0.0.1"], port, connect=True, retries=0)
        rows = [(row.ip, row.port, row.state, row.reason) for row in verdicts]
    assert (rows, verdicts.notes, verdicts.summary[0].split(" in ")[0]) == (
        [("127.0.0.1", port, "open", "syn-ack")], [], "1 target",
    )  # fmt: skip


KEYWORDS = {**vars(TargetOptions()), **vars(SynConfig())}
KEYWORDS = {
    name: KEYWORDS[name] for name in declared(TargetOptions, SynConfig, without=("targets", "ports", "list_ports"))
}


@pytest.mark.parametrize("name", KEYWORDS)
def test_every_option_of_a_scan_is_a_keyword(name: str) -> None:
    assert scan("192.0.2.1", 80, **{name: KEYWORDS[name]}).notes == []


@pytest.mark.parametrize("name", ["nothing", "list_ports"])
def test_other_keywords_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        scan("192.0.2.1", 80, **{name: False})


FORMS: list[tuple[str, list[Any]]] = [
    ("rate", ["auto", "500", 500, 500.0, np.float32(500), None]),
    ("max_missed", ["1%", "0.01", 0.01, 1]),
    ("retries", ["3", 3, np.int64(3)]),
    ("shard", ["1/1", (1, 1), Shard(1, 1)]),
    ("exclude", ["192.0.2.9", IPv4Address("192.0.2.9"), [IPv6Address("2001:db8::9"), "192.0.2.8"]]),
    ("source_ip", ["192.0.2.9", IPv4Address("192.0.2.9")]),
    ("exclude_ports", ["22,http", 22, [22, 23], range(1, 4)]),
    ("exclude_file", ["", Path()]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in FORMS for value in values])
def test_an_option_takes_what_the_command_takes(name: str, value: Any, tmp_path: Path) -> None:
    if name == "exclude_file":
        (tmp_path / "hosts.txt").write_text("192.0.2.9\n")
        value = type(value)(tmp_path / "hosts.txt")
    assert scan(IPv4Network("192.0.2.0/28"), [80, 81], **{name: value}).notes == []


WRONG: list[tuple[str, Any]] = [
    ("source_ip", "me"), ("source_ip", "1\0"), ("targets-file", "a\0b"), ("again", 5), ("again", Path("missing")),
    ("shard", [1, 4]), ("shard", (1, 2, 3)), ("silent", "no"), ("verify", True), ("ttl", 64), ("tos", 8),
    ("senders", 1), ("transport", "raw"), ("options", "os"), ("source_port", 4000), ("interface", "nowhere0"),
    ("rate", "fast"), ("rate", [1]), ("rate", True), ("rate", float("nan")), ("max_missed", "x%"), ("max_missed", {}),
    ("retries", 3.5), ("retries", "many"), ("retries", True), ("timeout", "long"), ("seed", 1.0), ("shard", "1"),
    ("shard", (1, "x")), ("ttl", b"64"), ("yes", "no"), ("all_addresses", 1), ("interface", 5), ("source_ip", 5),
    ("exclude", 5), ("exclude", [None]), ("exclude-file", Path("missing")), ("targets-file", 7), ("exclude-ports", 1.5),
    ("transport", 1), ("connect", 1), ("only_open", "yes"), ("ports", 1.5), ("ports", ["http"]), ("targets", 5),
    ("targets", b"192.0.2.1"), ("targets", [Path("hosts.txt")]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_refused_by_the_name_of_its_option(name: str, value: Any) -> None:
    given = {"targets": "127.0.0.1", "ports": 1, "connect": True, name.replace("-", "_"): value}
    with pytest.raises(UsageError, match=rf"(?i)\b{name.replace('_', '.')}\b|missing|nowhere0"):
        list(scan(**given))


HALF_OPEN: list[tuple[str, Any]] = [
    ("source_ip", "me"), ("ttl", b"64"), ("ttl", 0), ("options", 5), ("transport", 1), ("senders", 9),
    ("source_port", "x"), ("tos", 3), ("verify", 1), ("interface", "nowhere0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), HALF_OPEN)
def test_a_wrong_value_of_a_half_open_scan_is_refused_by_the_name_of_its_option(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"(?i)\b{name.replace('_', '.')}\b|nowhere0"):
        list(scan("127.0.0.1", 1, **{name: value}))


@pytest.mark.parametrize("name", KEYWORDS)
def test_every_option_is_in_the_help_of_scan_and_has_a_type(name: str) -> None:
    assert (name in scan.__doc__, name in ScanOptions.__annotations__) == (True, True)


def test_no_other_option_has_a_type() -> None:
    assert ScanOptions.__annotations__.keys() - KEYWORDS.keys() == set()


def test_an_earlier_result_may_be_a_path(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        '{"ip":"127.0.0.1","port":1,"protocol":"tcp","state":"open","reason":"reset"}\n'
    )
    rows = scan(again=tmp_path / "rows.jsonl", connect=True)
    assert [(row.ip, row.port) for row in rows] == [("127.0.0.1", 1)]


def test_a_scan_that_is_closed_half_way_gives_its_sockets_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with contextlib.closing(scan("127.0.0.0/24", [1, 2, 3], connect=True, rate=2000)) as verdicts:
        first = next(verdicts)
    assert (first.state, list(verdicts), len(os.listdir("/proc/self/fd"))) == ("closed", [], before)


@pytest.mark.parametrize(
    "name", ["timeout", "scanners", "targets", "only_open", "paths", "since", "gap", "ports", "orphans", "outer"]
)
def test_a_wrong_value_of_classify_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        classify(**{"paths": DEMO, name: {"timeout": "x", "ports": 1.5}.get(name, object())})


WRONG_CALLS = {
    "no capture": (lambda: classify([]), "paths: no capture is named"),
    "a path with a zero": (lambda: classify("a\0b"), r"paths 'a\\x00b' holds a zero byte"),
    "a title": (lambda: scanner.report(DEMO, title=5), "title 5 is not text"),
    "reasons": (lambda: scanner.diff(DEMO, DEMO, reasons="no"), "reasons 'no' is not True or False"),
}


@pytest.mark.parametrize("case", WRONG_CALLS)
def test_a_wrong_argument_is_one_line(case: str) -> None:
    call, message = WRONG_CALLS[case]
    with pytest.raises(UsageError, match=message):
        call()


def test_a_capture_may_be_a_path_and_a_target_an_address() -> None:
    rows = list(classify(Path(DEMO), targets=IPv4Network("198.18.0.0/24"), scanners=[IPv4Address("198.18.0.1")]))
    assert {row.ip for row in rows} == {"198.18.0.2"}


def test_the_module_shows_its_functions() -> None:
    code = "import scanner; print(*dir(scanner))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert {"scan", "classify", "report", "diff", "Verdict", "UsageError"} <= set(done.stdout.split())


def test_type_checkers_may_use_the_annotations() -> None:
    """PEP 561: the file is there, and a package has it."""
    project = (ROOT / "pyproject.toml").read_text()
    assert ((ROOT / "scanner/py.typed").exists(), 'scanner = ["data/*", "py.typed"]' in project) == (True, True)


def test_a_report_of_rows_is_the_report_of_the_file() -> None:
    page = scanner.report(Path(DEMO), title="<x>")
    of_rows = scanner.report(classify(DEMO), title="<x>")
    assert ("&lt;x&gt;" in page, page.count("198.18.0.2"), page.count("<td")) == (
        True, of_rows.count("198.18.0.2"), of_rows.count("<td"),
    )  # fmt: skip


@pytest.mark.parametrize("form", ["path", "rows", "list"])
def test_a_difference(form: str) -> None:
    new = {"path": DEMO, "rows": classify(DEMO), "list": list(classify(DEMO))}[form]
    old = [row._replace(state="filtered", reason="no-response") if row.port == 22 else row for row in classify(DEMO)]
    found = scanner.diff(old, new)
    rows = [(row.port, row.change.value) for row in found.differences]
    notes = ["not judged: 3 other-icmp"] if form == "path" else []
    assert (rows, found.same + found.unknown, found.notes) == ([(22, "opened")] * 2, 42, notes)


def test_results_that_are_no_results() -> None:
    with pytest.raises(UsageError, match="results 5 is not a path"):
        scanner.diff(DEMO, 5)  # type: ignore[arg-type]


def test_ctrl_c_keeps_what_was_learned() -> None:
    stopped: list[bool] = []

    def batches() -> Iterator[list[Verdict]]:
        yield [FULL]
        signal.raise_signal(signal.SIGINT)
        yield [DOWN]
        if not stopped:
            yield [FULL]

    verdicts = Verdicts([], [], batches(), lambda: stopped.append(True))
    with pytest.raises(Interrupted) as error:
        list(verdicts)
    assert (error.value.partial, verdicts.partial, list(verdicts)) == ([FULL, DOWN], [FULL, DOWN], [])
    assert (stopped, signal.getsignal(signal.SIGINT)) == ([True], signal.default_int_handler)


def test_ctrl_c_in_a_scan_keeps_its_rows() -> None:
    """Every target is one listener of this process, which sends the signal at the first connection."""
    with contextlib.closing(socket.create_server(("0.0.0.0", 0))) as server:

        def interrupt() -> None:
            server.accept()[0].close()
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        port = server.getsockname()[1]
        with pytest.raises(Interrupted) as error:
            list(scan("127.0.0.1-200", port, connect=True, rate=100))
    states = {row.state for row in error.value.partial}
    assert ("open" in states, len(error.value.partial) < 200 or "unknown" in states) == (True, True)


def test_options_of_the_command_choose_hosts_and_ports() -> None:
    verdicts = scan("127.0.0.1-4", top_ports=2, exclude="127.0.0.2,127.0.0.4", exclude_ports="80", connect=True)
    assert {row.ip for row in verdicts} == {"127.0.0.1", "127.0.0.3"}


REFUSED = [
    (lambda: scan("192.0.2.300"), "300 in 192.0.2.300 is not an octet: octets end at 255"),
    (lambda: scan("192.0.2.1", [80, -5]), "port -5 is below 0: ports are numbers from 0 to 65535"),
    (lambda: scan("192.0.2.1", 70000), "port 70000 in '70000' is too large: ports end at 65535"),
    (lambda: scan("1.0.0.0/8"), "16,777,216 public addresses are more than 1,048,576: if they are meant, add --yes"),
    (lambda: scan("192.0.2.1", ttl=0), "--ttl 0 is out of range: 1 to 255"),
    (lambda: classify(DEMO, ports="9-8"), "port range '9-8' ends before it starts: swap its ends"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message[:20] for _, message in REFUSED])
def test_mistakes_are_told_at_once(call: Any, message: str) -> None:
    with pytest.raises(UsageError) as error:
        call()
    assert str(error.value) == message


def test_a_capture_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"nowhere\.pcap"):
        next(classify("nowhere.pcap"))


def test_what_is_skipped_is_in_the_notes() -> None:
    assert scan("126.255.255.255-127.0.0.0", 1).notes == [
        "skipped 1 address of 127.0.0.0/8 (loopback, RFC 1122): name a target inside that block to scan it"
    ]


def test_importing_the_package_costs_nothing_and_names_stay_functions() -> None:
    code = (
        "import sys, scanner; print(sorted({'numpy', 'scapy', 'typer'} & set(sys.modules)))\n"
        "import scanner.classifier.classification, scanner.api; print(scanner.classify.__name__, scanner.scan.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\nclassify scan\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'scanner' has no attribute 'nothing'"):
        _ = scanner.nothing
