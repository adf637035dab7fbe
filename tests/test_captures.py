"""Every capture of pcaps/ gives the verdicts that stand beside it, and captures of one host agree."""

import json
from pathlib import Path

import pytest

from tests import golden

CAPTURES = golden.captures()
EXIT_CODES = {"cut.pcap.gz": 1}


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_the_verdicts_of_a_capture(capture: Path, tmp_path: Path) -> None:
    expected = (EXIT_CODES.get(capture.name, 0), golden.golden(capture).read_text())
    assert golden.classify(capture, tmp_path) == expected


def test_every_capture_is_explained() -> None:
    lines = (golden.PCAPS / "README.md").read_text().splitlines()
    named = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert sorted(named) == [path.name for path in CAPTURES]


def test_no_verdicts_without_a_capture() -> None:
    assert sorted(golden.PCAPS.glob("*.jsonl")) == sorted(golden.golden(path) for path in CAPTURES)


def states(name: str, *columns: str) -> set[tuple[object, ...]]:
    """The rows of a golden file for the lab's IPv4 host, cut down to some columns."""
    rows = [json.loads(line) for line in (golden.PCAPS / f"{name}.jsonl").read_text().splitlines()]
    return {tuple(row[column] for column in columns) for row in rows if row["ip"] == "198.18.0.2"}


# Ports 3102, 3105 and 3106 have their reasons in IPv6 only; of IPv4, only our own scan probed them.
TRUTH = {row for row in states("demo", "port", "state", "reason", "ttl") if row[0] not in (3102, 3105, 3106)}


@pytest.mark.parametrize("scanner", ["nmap-syn", "nmap-connect", "masscan", "zmap", "hping3"])
def test_every_scanner_shows_the_same_host(scanner: str) -> None:
    assert states(scanner, "port", "state", "reason", "ttl") == TRUTH


@pytest.mark.parametrize("shape", ["any-sll", "any-sll2", "big-endian-ns", "two-interfaces", "loss", "two-scanners"])
def test_every_way_to_capture_shows_the_same_host(shape: str) -> None:
    few = {22, 23, 113, 135, 3001, 3013}
    assert states(shape, "port", "state", "reason", "ttl") == {row for row in TRUTH if row[0] in few}


def test_a_tunnel_adds_its_name_and_changes_nothing_else() -> None:
    inside = (golden.PCAPS / "vxlan.jsonl").read_text().replace(', "tunnel": "vxlan:5001"', "")
    assert inside == (golden.PCAPS / "nmap-syn-v6.jsonl").read_text()


def test_vlan_tags_change_nothing() -> None:
    assert (golden.PCAPS / "vlan.jsonl").read_text() == (golden.PCAPS / "nmap-syn-v6.jsonl").read_text()
