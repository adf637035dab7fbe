"""The table: hosts in order over windows, a line for each host with `--open`, and nothing wider than 80 columns."""

import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6

from scanner.classifier.classification import Classification
from scanner.halfopen.scan import Settings
from scanner.output import Run, Summary
from scanner.output import table as table_module
from scanner.output.hosts import address_number
from scanner.output.table import table_format
from scanner.verdict.rows import Verdict
from tests import golden
from tests.lab.live import live
from tests.lab.networks import prefix_box
from tests.memory import Host
from tests.processes import PATIENCE
from tests.simulation import Clock, lane_of, memory, session_of
from tests.traffic import capture

ROOT = Path(__file__).resolve().parents[1]
WIDE = 80
SSH = Verdict("192.0.2.7", 22, "open", "syn-ack", ttl=64, service="ssh")
HTTP = SSH._replace(port=80, service="http")
SILENT = Verdict("192.0.2.7", 81, "filtered", "no-response")
IN_ORDER = Run(in_order=True)


def at(row: Verdict, *hosts: int) -> list[Verdict]:
    return [row._replace(ip=f"192.0.2.{host}") for host in hosts]


def written(run: Run, *batches: Iterable[Verdict]) -> tuple[str, str]:
    """What is written while batches come, and at the end."""
    form = table_format(False, False, False, run)
    return "".join(chain.from_iterable(map(form.texts, batches))), form.end(Summary())


# ── order ──

ORDERED = {
    "one port": [at(SSH, 30, 4), at(SILENT, 5), at(SSH, 200, 3)],
    "several ports": [[*at(SSH, 30), *at(HTTP, 30)], at(SSH, 200), [*at(SSH, 3), *at(HTTP, 3)]],
    "a silent host first": [at(SILENT, 5), at(SSH, 4)],
    "one silent host": [at(SILENT, 5)],
    "one host": [[*at(SSH, 5), *at(HTTP, 5)]],
}


@pytest.mark.parametrize("batches", ORDERED.values(), ids=ORDERED)
def test_windows_in_any_order_are_the_table_of_one_window(batches: list[list[Verdict]]) -> None:
    assert written(IN_ORDER, *batches) == ("", "".join(written(Run(), chain(*batches))))


def test_more_rows_than_are_held_go_on_window_by_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "HELD", 2)
    early, late = written(IN_ORDER, at(SSH, 30), at(SSH, 4), at(SSH, 5), at(SSH, 2))
    assert ([line.split()[0] for line in early.splitlines()], late) == (
        ["HOST", "192.0.2.4", "192.0.2.5", "192.0.2.30", "192.0.2.2"], "",
    )  # fmt: skip


def test_without_order_each_window_is_written_at_once() -> None:
    assert [line.split()[0] for line in written(Run(), at(SSH, 30), at(SSH, 4))[0].splitlines() if line] == [
        "192.0.2.30", "PORT", "22/tcp", "192.0.2.4", "PORT", "22/tcp",
    ]  # fmt: skip


@pytest.mark.parametrize("in_order", [True, False])
def test_the_windows_of_a_session(in_order: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two windows of 16 hosts each, which are drawn from the whole network: only their order makes a sorted table."""
    monkeypatch.setattr("scanner.rounds.schedule.WINDOW_TARGETS", 16)
    clock = Clock()
    hosts = {f"198.18.2.{n}": Host(ports={80: "open"}) for n in range(32)}
    session = session_of(clock, [lane_of(memory(hosts, clock), "198.18.2.0/27", (80,))], Settings())
    early, late = written(Run(in_order=in_order), *session.batches())
    shown = [line.split()[0] for line in (early + late).splitlines()[1:]]
    assert (set(shown), shown == sorted(shown, key=address_number)) == (set(hosts), in_order)


@live
def test_a_scan_of_a_network_has_a_line_for_each_host_in_order() -> None:
    with prefix_box(24) as box:
        box.listen([22, 80])
        line = [sys.executable, "-m", "scanner", "syn", "198.18.0.0/24", "-p", "22,80", "--open", "-q"]
        process = box.scanner.popen(line, stdout=-1, stderr=-1, cwd=ROOT)
        said, _ = process.communicate(timeout=PATIENCE)
    lines = [line for line in said.decode().splitlines() if "ssh" in line]
    hosts = [line.split()[0] for line in lines]
    assert (hosts, lines[-1]) == (sorted(hosts, key=address_number), f"{hosts[-1]:<12}  22/ssh 80/http")
    assert {f"198.18.0.{n}" for n in range(2, 255)} <= set(hosts)


# ── --open ──

ODD = HTTP._replace(port=443, service=None, evidence=("syn-proxy", "late"))
SPLIT = HTTP._replace(port=8443, service=None, reason="split-handshake-syn")
BRIEF = {
    "several hosts": (
        [[*at(SSH, 30), *at(HTTP, 30), *at(HTTP, 7)]],
        "192.0.2.7   80/http\n192.0.2.30  22/ssh 80/http\n",
    ),
    "what is unusual is said": (
        [[*at(SSH, 7), *at(ODD, 7), *at(SPLIT, 7), *at(SSH, 8)]],
        "192.0.2.7  22/ssh 443(syn-proxy, late) 8443(split-handshake-syn)\n192.0.2.8  22/ssh\n",
    ),
    "a host with many ports": (
        [[*(HTTP._replace(port=port, service="a-service") for port in range(1000, 1006)), *at(SSH, 70)]],
        "192.0.2.7   1000/a-service 1001/a-service 1002/a-service 1003/a-service\n"
        "            1004/a-service 1005/a-service\n192.0.2.70  22/ssh\n",
    ),
    "one host is a block": (
        [[*at(SSH, 7), *at(HTTP, 7)]],
        "192.0.2.7\nPORT       STATE     REASON            TTL  SERVICE\n"
        "22/tcp     open      syn-ack           64   ssh\n80/tcp     open      syn-ack           64   http\n",
    ),
    "one port is a table": (
        [at(SSH, 7, 8)],
        "HOST             PORT       STATE     REASON            TTL  SERVICE\n"
        "192.0.2.7        22/tcp     open      syn-ack           64   ssh\n"
        "192.0.2.8        22/tcp     open      syn-ack           64   ssh\n",
    ),
}


@pytest.mark.parametrize(("batches", "expected"), BRIEF.values(), ids=BRIEF)
def test_open_ports_of_several_hosts_are_a_line_each(batches: list[list[Verdict]], expected: str) -> None:
    assert "".join(written(Run(only_open=True), *batches)) == expected


def test_all_rows_are_no_brief_lines() -> None:
    form = table_format(True, False, False, Run(only_open=True))
    assert "REASON" in "".join(form.texts([*at(SSH, 30), *at(HTTP, 30), *at(HTTP, 7)]))


# ── width ──

LONG = "2001:db8:1111:2222:3333:4444:5555:6666"
WIDTHS = {
    "evidence goes to the next line": (
        [SSH._replace(evidence=("silent-after-handshake", "half-open", "conflict:reset", "late"), icmp_from=LONG)],
        "192.0.2.7\nPORT       STATE  REASON   TTL  SERVICE  EVIDENCE\n"
        "22/tcp     open   syn-ack  64   ssh      silent-after-handshake half-open\n"
        f"           conflict:reset late from {LONG}\n",
    ),
    "long addresses": (
        [row._replace(ip=ip) for row, ip in ((SSH, LONG), (SSH._replace(port=80), LONG[:-1] + "7"))],
        "HOST                                    PORT       STATE  REASON   TTL  SERVICE\n"
        f"{LONG}  22/tcp     open   syn-ack  64   ssh\n{LONG[:-1]}7  80/tcp     open   syn-ack  64   ssh\n",
    ),
    "a name that is too long has a line of its own": (
        [SSH._replace(hostname="a" * 60), SSH._replace(ip="192.0.2.8")],
        "HOST                                     PORT       STATE  REASON   TTL  SERVICE\n"
        f"192.0.2.7 ({'a' * 60})\n{' ' * 39}  22/tcp     open   syn-ack  64   ssh\n"
        f"192.0.2.8{' ' * 32}22/tcp     open   syn-ack  64   ssh\n",
    ),
}


@pytest.mark.parametrize(("rows", "expected"), WIDTHS.values(), ids=WIDTHS)
def test_lines_of_80_columns(rows: list[Verdict], expected: str) -> None:
    assert written(Run(), rows)[0] == expected


@pytest.mark.parametrize("only_open", [False, True])
@pytest.mark.parametrize("path", golden.captures(), ids=lambda path: path.name)
def test_no_line_of_a_capture_is_longer(path: Path, only_open: bool) -> None:
    text = "".join(written(Run(only_open=only_open), *Classification([str(path)], 0).batches()))
    assert [line for line in text.splitlines() if len(line) > WIDE] == []


STATES = [("open", "syn-ack"), ("closed", "reset"), ("filtered", "admin-prohibited"), ("unknown", "reply-not-captured"),
          ("open", "split-handshake-syn")]  # fmt: skip
WORDS = ["firewall-reset", "silent-after-handshake", "conflict:host-prohibited", "late", "repeat"]
ROWS = st.builds(
    lambda state, **more: Verdict(state=state[0], reason=state[1], **more),
    st.sampled_from(STATES),
    ip=st.sampled_from(["192.0.2.7", LONG, "fe80::1%eth0"]),
    port=st.integers(0, 65535),
    ttl=st.none() | st.just(255),
    service=st.none() | st.just("x" * 15),
    evidence=st.lists(st.sampled_from(WORDS), unique=True).map(tuple),
    icmp_from=st.none() | st.just(LONG),
    scanner_ip=st.sampled_from([None, LONG, f"{LONG[:-1]}5"]),
    hostname=st.none() | st.just("web.example"),
)


@given(st.lists(st.lists(ROWS, max_size=5), max_size=4), st.booleans(), st.booleans())
def test_no_line_is_longer(batches: list[list[Verdict]], in_order: bool, only_open: bool) -> None:
    text = "".join(written(Run(in_order=in_order, only_open=only_open), *batches))
    assert [line for line in text.splitlines() if len(line) > WIDE] == []


def test_no_line_of_two_long_addresses_is_longer(tmp_path: Path) -> None:
    """A batch of columns, a target of each of two probers."""
    frames = [bytes(IPv6(src=f"{LONG[:-1]}{digit}", dst=LONG) / TCP(dport=22, flags="S")) for digit in "12"]
    path = capture(tmp_path / "a.pcap", frames)
    form = table_format(True, False, False, Run())
    lines = "".join(chain.from_iterable(map(form.texts, Classification([path], 0).batches()))).splitlines()
    assert ([line for line in lines if len(line) > WIDE], sum("(scanner" in line for line in lines)) == ([], 2)
