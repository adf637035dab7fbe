"""The MAC address of a host on the link, and who made its card: asked for by the scan, and in its rows."""

import json
from pathlib import Path

import pytest

from scanner import Verdict
from scanner.config import SynConfig
from scanner.halfopen.session import syn_session
from scanner.lab.box import PEER, configure
from scanner.net.vendors import vendor_of
from scanner.output import Run, Summary, open_sinks
from scanner.output.csv import line as csv_line
from scanner.output.jsonl import line as json_line
from scanner.results.read import read_results
from scanner.targets.ports import parse_ports
from scanner.targets.spaces import Spaces
from scanner.targets.spec import parse_hosts
from tests.lab.live import live
from tests.lab.networks import direct_box

ROW = Verdict("192.0.2.7", 22, "open", "syn-ack", mac="00:0c:29:11:22:33", vendor='VM "ware", Inc.')
VENDORS = {"000c29": "VMware, Inc.", "020c29": None, "010c29": None, "525400": None, "00f000": None}


@pytest.mark.parametrize(("block", "vendor"), VENDORS.items())
def test_the_maker_of_a_card(block: str, vendor: str | None) -> None:
    """Only a universal address of one card has a maker."""
    assert vendor_of(bytes.fromhex(block)) == vendor


def test_the_formats_have_both() -> None:
    row = json.loads(json_line(ROW))
    assert (row["mac"], row["vendor"], csv_line(ROW).endswith(',00:0c:29:11:22:33,"VM ""ware"", Inc.",,,\n')) == (
        ROW.mac, ROW.vendor, True,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["scan.jsonl", "scan.csv", "scan.xml"])
def test_a_file_reads_back(name: str, tmp_path: Path) -> None:
    outputs = open_sinks("list", [str(tmp_path / name)], run=Run())
    outputs.write([ROW])
    outputs.finish(Summary())
    (row,) = read_results([str(tmp_path / name)], print)
    assert (row.mac, row.vendor) == (ROW.mac, ROW.vendor)


def test_xml_has_the_address_as_nmap_writes_it(tmp_path: Path) -> None:
    outputs = open_sinks("list", [str(tmp_path / "scan.xml")], run=Run())
    outputs.write([ROW])
    outputs.finish(Summary())
    expected = '<address addr="00:0C:29:11:22:33" addrtype="mac" vendor="VM &quot;ware&quot;, Inc."/>'
    assert expected in (tmp_path / "scan.xml").read_text()


@live
def test_a_scan_names_the_cards_of_its_neighbours_and_of_no_others() -> None:
    """The card of the target has a maker; 198.19.0.2 is behind it as a next hop."""
    with direct_box() as box:
        configure(box.target, [f"link set {PEER} address 00:0c:29:11:22:33"])
        targets = ["198.18.0.2", "2001:db8::2", "198.19.0.2"]
        with box.scanner.entered():
            spaces = Spaces(parse_hosts(targets, [], lambda name: []), [parse_ports("1,2")])
            session = syn_session(spaces, SynConfig(rate=0))
            rows = [row for batch in session.batches() for row in batch]
    card = ("00:0c:29:11:22:33", "VMware, Inc.")
    assert {row.ip: (row.mac, row.vendor) for row in rows} == {
        "198.18.0.2": card, "2001:db8::2": card, "198.19.0.2": (None, None),
    }  # fmt: skip
