"""`-f list`: each open port once, as `host:port`, and early where a reader waits for it."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import pytest

from scanner.halfopen.scan import Settings
from scanner.lab import PortKind
from scanner.output import Summary, open_sinks
from scanner.output.hostport import list_format
from scanner.targets.spec import zones_in
from scanner.verdict.rows import Verdict
from tests import golden
from tests.lab.live import live
from tests.lab.networks import direct_box
from tests.processes import PATIENCE
from tests.simulation import NET, NET_PORTS, Clock, answers_all, lane_of, memory, session_of

ROOT = Path(__file__).resolve().parents[1]
SSH = Verdict("192.0.2.7", 22, "open", "syn-ack")
SIX = SSH._replace(ip="2001:db8::7")
OTHERS = [SSH._replace(port=port, state=state) for port, state in ((1, "closed"), (2, "filtered"), (3, "unknown"))]
DOWN = Verdict("192.0.2.8", None, "down", "no-arp")
SEEN = SSH._replace(scanner_ip="192.0.2.1")

BATCHES = {
    "only open ports": ([[*OTHERS, SSH, DOWN, SIX]], "192.0.2.7:22\n[2001:db8::7]:22\n"),
    "a zone stays": ([[SSH._replace(ip="fe80::1%eth0")]], "[fe80::1%eth0]:22\n"),
    "nothing open": ([OTHERS, []], ""),
    "one target of a capture, by prober, scan and tunnel": (
        [[SEEN, SEEN._replace(scanner_ip="192.0.2.2"), SEEN._replace(scan=2)], [SEEN._replace(tunnel="gre:7")]],
        "192.0.2.7:22\n",
    ),
}


@pytest.mark.parametrize(("batches", "expected"), BATCHES.values(), ids=BATCHES)
def test_lines(batches: list[list[Verdict]], expected: str) -> None:
    form = list_format(early=False)
    assert "".join(chain.from_iterable(map(form.texts, batches))) == expected


def test_a_link_local_address_has_its_link() -> None:
    """Without it the next program of a pipe cannot reach it."""
    form = list_format(early=False, zones=zones_in(["fe80::1%eth0", "fe80::2%eth1"]))
    rows = [SSH._replace(ip=ip) for ip in ("fe80::1", "2001:db8::1")]
    assert "".join(form.texts(rows)) == "[fe80::1%eth0]:22\n[2001:db8::1]:22\n"


@pytest.mark.parametrize("early", [True, False])
def test_a_name_with_several_addresses_has_one_line_a_port(early: bool) -> None:
    names = dict.fromkeys(["192.0.2.7", "192.0.2.8", "2001:db8::7"], "web.example")
    form = list_format(early=early, names=names)
    rows = [SSH, SIX, SSH._replace(port=80), SSH._replace(ip="192.0.2.8"), SSH._replace(ip="192.0.2.9")]
    found = form.found([(row.ip, row.port or 0) for row in rows]) if form.found else "".join(form.texts(rows))
    assert found == "web.example:22\nweb.example:80\n192.0.2.9:22\n"


def test_what_was_written_early_is_not_written_again() -> None:
    """A window that is scanned anew finds the same ports; its row comes last, with a port that nobody named early."""
    form = list_format(early=True)
    assert form.found is not None
    early = [form.found([("192.0.2.7", 22), ("192.0.2.7", 22)]), form.found([("192.0.2.7", 22)])]
    assert (early, list(form.texts([SSH, SIX]))) == (["192.0.2.7:22\n", ""], ["[2001:db8::7]:22\n"])


def test_files_wait_for_the_rows(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """They can be cut back to what whole windows gave; standard output cannot."""
    path = tmp_path / "open.list"
    outputs = open_sinks("list", [str(path)])
    outputs.found([("192.0.2.7", 22)])
    before = path.read_text()
    outputs.write([SSH])
    outputs.finish(Summary())
    assert (before, path.read_text(), capsysbinary.readouterr().out) == ("", "192.0.2.7:22\n", b"192.0.2.7:22\n")


@pytest.mark.parametrize("path", golden.captures(), ids=lambda path: path.name)
def test_captures(path: Path) -> None:
    """Rows as columns and from the golden file are the same list."""
    arguments = golden.ARGUMENTS.get(path.name, golden.USUAL)
    command = [sys.executable, "-m", "scanner", "classify", str(path), *arguments, "-f", "list", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    rows = map(json.loads, golden.golden(path).read_text().splitlines())
    targets = {(row["ip"], row["port"]) for row in rows if row["state"] == "open"}
    lines = done.stdout.splitlines()
    assert sorted(lines) == sorted(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in targets)


@pytest.mark.parametrize("naming", [True, False])
def test_a_session_names_each_open_target_before_its_row_if_asked(naming: bool) -> None:
    clock = Clock()
    wire = memory(answers_all(ports=NET_PORTS), clock)
    session = session_of(clock, [lane_of(wire, NET[4], NET_PORTS)], Settings())
    session.naming = naming
    batches = session.batches()
    rows = list(next(batches))
    opened = sorted((row.ip, row.port) for row in rows if row.state == "open")
    assert (sorted(session.opened), len(opened)) == (opened if naming else [], 32)


def test_a_scan_that_ends_at_once_writes_each_port_once() -> None:
    """Here the rows and the ports just found come from the same turn of the session."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        ports = sorted(str(server.getsockname()[1]) for server in servers)
        command = [sys.executable, "-m", "scanner", "connect", "127.0.0.1", "-p", ",".join(ports), "-f", "list", "-q"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert sorted(done.stdout.splitlines()) == [f"127.0.0.1:{port}" for port in ports]


@live
@pytest.mark.parametrize("verb", ["syn", "connect"])
def test_an_open_port_is_told_while_its_window_is_under_way(verb: str) -> None:
    """The other ports are silent, and their wait is long: the window closes much later than this test ends."""
    with direct_box() as box:
        box.listen([22])
        box.install({PortKind.DROP: ["2000-2100"]})
        line = [sys.executable, "-m", "scanner", verb, "198.18.0.2", "-p", "22,2000-2100", "--timeout", "60"]
        process = box.scanner.popen(
            [*line, "-f", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert process.stdout is not None
        first = process.stdout.readline()
        running = process.poll() is None
        process.kill()
        process.communicate(timeout=PATIENCE)
    assert (first, running) == (b"198.18.0.2:22\n", True)
