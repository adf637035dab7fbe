"""The ports of a scan without `-p`: which they are, that they are the same everywhere, and who says so."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from socket import create_server

import numpy as np
import pytest

from scanner.config import TargetOptions, ports_of
from scanner.lab import Box
from scanner.targets import files
from scanner.targets.popular import GROUPS, HIGH, IN_WORDS
from scanner.targets.ports import format_ports
from tests.command import halfopen
from tests.lab.live import live
from tests.lab.networks import direct_box
from tests.live.syn_wire import scan

OFTEN_WANTED = (1433, 1521, 2375, 3306, 3389, 5432, 5900, 6379, 6443, 8080, 8443, 9200, 11211, 27017)
FOUND = [3306, 8080, 8443]


def test_each_port_stands_once_and_each_group_has_a_reason() -> None:
    listed = list(chain.from_iterable(ports for _, ports in GROUPS))
    assert (len(set(listed)), all(len(reason) > 5 for reason, _ in GROUPS)) == (len(listed), True)


def test_about_250_higher_ports() -> None:
    assert (240 <= len(HIGH) <= 270, min(HIGH) > 1024, set(OFTEN_WANTED) - set(HIGH)) == (True, True, set())


def test_no_file_of_the_machine_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "nmap_services", lambda: pytest.fail("nmap's file was read"))
    assert np.array_equal(ports_of(TargetOptions()), [*range(1, 1025), *HIGH])


def test_ports_can_be_left_out() -> None:
    assert np.array_equal(ports_of(TargetOptions(exclude_ports="1-1024,8080")), [p for p in HIGH if p != 8080])


PLANNED = {
    (): f"1 address × 1,286 ports ({IN_WORDS}; --list-ports prints them)",
    ("--exclude-ports", "80"): f"1 address × 1,285 ports ({IN_WORDS}, less --exclude-ports; --list-ports prints them)",
    ("-p", "80"): "1 address × 1 port (80)",
}


@pytest.mark.parametrize("arguments", PLANNED)
def test_a_plan_names_them(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert halfopen("plan", "127.0.0.1", *arguments) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"targets    {PLANNED[arguments]}"


def test_list_ports_prints_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert halfopen("syn", "--list-ports") == 0
    out, err = capsys.readouterr()
    assert [int(line.partition("/")[0]) for line in out.splitlines()] == [*range(1, 1025), *HIGH]
    assert err == f"halfopen: 1,286 ports: 1-1024,{format_ports(HIGH)}\n"


def test_a_connect_scan_finds_them_and_its_summary_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        for port in FOUND:
            stack.enter_context(create_server(("127.66.0.1", port)))
        code = halfopen("connect", "127.66.0.1", "--open", "-f", "jsonl", "--rate", "0")
    out, err = capsys.readouterr()
    assert (code, [json.loads(line)["port"] for line in out.splitlines()]) == (0, FOUND)
    assert f"ports: {IN_WORDS}; --list-ports prints them" in err.splitlines()


@pytest.fixture
def box() -> Iterator[Box]:
    with direct_box() as made:
        made.listen(FOUND)
        yield made


@live
def test_a_half_open_scan_finds_them(box: Box) -> None:
    done = scan(box, "198.18.0.2", "--open")
    assert sorted(row["port"] for row in done.rows) == FOUND
