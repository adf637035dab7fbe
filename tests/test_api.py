"""The Python interface: what it gives, what it refuses, and the README's example."""

import contextlib
import io
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scanner
from scanner import Verdict, classify, scan
from scanner.api import Verdicts
from scanner.config import SynConfig, TargetOptions
from scanner.errors import UsageError

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


def test_columns() -> None:
    table = Verdicts([], [], iter([FULL, DOWN])).to_numpy()
    expected = [
        ("192.0.2.7", 80, "closed", "reset", "tcp", 63, "http", "firewall-reset late", 0.125, 1700000000.25, 2,
         "192.0.2.254", "192.0.2.1", "", np.nan, np.nan, -1, -1),
        ("192.0.2.8", -1, "down", "no-arp", "tcp", -1, "", "", np.nan, np.nan, 0, "", "", "", np.nan, np.nan, -1, -1),
    ]  # fmt: skip
    assert (table.shape, repr(table.tolist())) == ((2,), repr(expected))


def test_columns_of_nothing_have_every_field() -> None:
    table = Verdicts([], [], iter([])).to_numpy()
    assert (table.shape, table.dtype.names) == (
        (0,),
        ("ip", "port", "state", "reason", "protocol", "ttl", "service", "evidence", "rtt_ms", "time", "pass",
         "icmp_from", "scanner_ip", "tunnel", "first_probe", "last_probe", "attempts", "scan"),
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
KEYWORDS = {name: value for name, value in KEYWORDS.items() if name not in ("targets", "ports", "list_ports")}


@pytest.mark.parametrize("name", KEYWORDS)
def test_every_option_of_a_scan_is_a_keyword(name: str) -> None:
    assert scan("192.0.2.1", 80, **{name: KEYWORDS[name]}).notes == []


@pytest.mark.parametrize("name", ["nothing", "list_ports"])
def test_other_keywords_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        scan("192.0.2.1", 80, **{name: False})


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
