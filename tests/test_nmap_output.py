"""nmap's XML and grepable form: whole texts, the DTD, and the programs that read such files."""

import gzip
import io
import os
import shutil
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scanner.errors import ScanError, UsageError
from scanner.gzipped import pack, split_suffix
from scanner.output import Format, Run, Sink, Summary, open_sinks
from scanner.output.gnmap import gnmap_format
from scanner.output.stream import Stream, create
from scanner.output.xml import xml_format
from scanner.verdict.rows import Verdict

DTD = Path("/usr/share/nmap/nmap.dtd")
RUN = Run("halfopen syn 192.0.2.7 -o 'a b.xml'", "syn", "22,80", 2, 1700000000.0)
SSH = Verdict("192.0.2.7", 22, "open", "syn-ack", "tcp", 64, "ssh", (), 1.5, 1700000001.5, 1)
FORGED = Verdict("192.0.2.7", 80, "closed", "reset", "tcp", 63, "http", ("firewall-reset", "late"),
                 2.5, 1700000003.0, 2)  # fmt: skip
ROUTED = Verdict("192.0.2.9", 443, "filtered", "host-unreach", ttl=250, icmp_from="192.0.2.254")
SILENT = Verdict("2001:db8::1", 80, "filtered", "no-response", service='h"<&\x1b')
DOWN = Verdict("192.0.2.8", None, "down", "no-arp")
CLOSED = [Verdict("192.0.2.7", port, "closed", "reset", ttl=64) for port in range(1000, 1026)]
BLOCKED = [Verdict("192.0.2.7", port, "closed", "port-unreach") for port in (2000, *range(2002, 2030))]

MATERIAL = [[SSH, FORGED, DOWN, ROUTED, SILENT], [SSH._replace(ip="192.0.2.30", scanner_ip="192.0.2.1"), *CLOSED]]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The end of every run, in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: 1700000004.25)
    yield
    monkeypatch.undo()
    time.tzset()


Make = Callable[[bool, Run], Format]


def written(make: Make, *batches: list[Verdict], everything: bool = False, run: Run = RUN, **summary: Any) -> str:
    buffer = io.BytesIO()
    sink = Sink(Stream(buffer, "test", person=True), make(everything, run))
    for batch in batches:
        sink.write(iter(batch))
    sink.finish(Summary(**summary))
    return buffer.getvalue().decode()


HEAD = """\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE nmaprun>
<!-- halfopen 0.1.0; the form has no other name for a scanner than nmap -->
<nmaprun scanner="nmap" args="halfopen syn 192.0.2.7 -o &#x27;a b.xml&#x27;" start="1700000000" \
startstr="Tue Nov 14 22:13:20 2023" version="0.1.0" xmloutputversion="1.05">
<scaninfo type="syn" protocol="tcp" numservices="2" services="22,80"/>
<verbose level="0"/>
<debugging level="0"/>
"""
END = """\
<runstats>
<finished time="1700000004" timestr="Tue Nov 14 22:13:24 2023" elapsed="4.25"%s exit="%s"/>
<hosts up="%d" down="%d" total="%d"/>
</runstats>
</nmaprun>
"""

XML = {
    "state, service and evidence of a port": (
        [FORGED, SSH],
        """\
<host starttime="1700000001" endtime="1700000003">
<status state="up" reason="reset" reason_ttl="63"/>
<address addr="192.0.2.7" addrtype="ipv4"/>
<ports><port protocol="tcp" portid="22"><state state="open" reason="syn-ack" reason_ttl="64"/>\
<service name="ssh" method="table" conf="3"/></port>
<port protocol="tcp" portid="80"><state state="closed" reason="reset" reason_ttl="63"/>\
<service name="http" method="table" conf="3"/>\
<script id="halfopen-evidence" output="firewall-reset late"><elem>firewall-reset</elem><elem>late</elem></script></port>
</ports>
<times srtt="2000" rttvar="500" to="100000"/>
</host>
""",
        (1, 0, 1),
    ),
    "hosts in order; down, and those that sent nothing themselves": (
        [SILENT, ROUTED, DOWN],
        """\
<host>
<status state="down" reason="no-arp" reason_ttl="0"/>
<address addr="192.0.2.8" addrtype="ipv4"/>
</host>
<host>
<status state="unknown" reason="host-unreach" reason_ttl="250"/>
<address addr="192.0.2.9" addrtype="ipv4"/>
<ports><port protocol="tcp" portid="443"><state state="filtered" reason="host-unreach" reason_ttl="250" \
reason_ip="192.0.2.254"/></port>
</ports>
</host>
<host>
<status state="unknown" reason="no-response" reason_ttl="0"/>
<address addr="2001:db8::1" addrtype="ipv6"/>
<ports><port protocol="tcp" portid="80"><state state="filtered" reason="no-response" reason_ttl="0"/>\
<service name="h&quot;&lt;&amp;\\x1b" method="table" conf="3"/></port>
</ports>
</host>
""",
        (0, 1, 3),
    ),
    "26 of a kind are folded, under one state": (
        [*CLOSED, SSH._replace(rtt_ms=None, time=None), *BLOCKED],
        """\
<host>
<status state="up" reason="reset" reason_ttl="64"/>
<address addr="192.0.2.7" addrtype="ipv4"/>
<ports><extraports state="closed" count="55">
<extrareasons reason="port-unreach" count="29" proto="tcp" ports="2000,2002-2029"/>
<extrareasons reason="reset" count="26" proto="tcp" ports="1000-1025"/>
</extraports>
<port protocol="tcp" portid="22"><state state="open" reason="syn-ack" reason_ttl="64"/>\
<service name="ssh" method="table" conf="3"/></port>
</ports>
</host>
""",
        (1, 0, 1),
    ),
}


@pytest.mark.parametrize("name", XML)
def test_xml(name: str) -> None:
    batch, hosts, counts = XML[name]
    assert written(xml_format, batch) == HEAD + hosts + END % ("", "success", *counts)


def test_xml_of_an_interrupted_scan_without_rows() -> None:
    end = END.replace("/>\n<hosts", ' errormsg="interrupted"/>\n<hosts') % (' summary="a; b"', "error", 0, 0, 0)
    assert written(xml_format, [], text="a\nb", interrupted=True) == HEAD + end


def test_xml_of_a_capture_names_the_scanner_and_no_probed_ports() -> None:
    tree = ElementTree.fromstring(
        written(xml_format, [SSH._replace(scanner_ip="192.0.2.1")], run=Run("halfopen classify a"))
    )
    assert ([host.get("comment") for host in tree.iter("host")], list(tree.iter("scaninfo"))) == (
        ["scanner 192.0.2.1"], [],
    )  # fmt: skip


def test_all_folds_nothing() -> None:
    tree = ElementTree.fromstring(written(xml_format, CLOSED, everything=True))
    ports = [int(port.get("portid") or 0) for port in tree.iter("port")]
    assert (ports, list(tree.iter("extraports"))) == (list(range(1000, 1026)), [])


GNMAP = {
    "ports, unknown and down": (
        [SILENT, SSH, FORGED, DOWN],
        "Host: 192.0.2.7 ()\tStatus: Up\n"
        "Host: 192.0.2.7 ()\tPorts: 22/open/tcp//ssh///, 80/closed/tcp//http///\n"
        "Host: 192.0.2.8 ()\tStatus: Down\n"
        "Host: 2001:db8::1 ()\tStatus: Unknown\n"
        'Host: 2001:db8::1 ()\tPorts: 80/filtered/tcp//h"<&\\x1b///\n',
        "3 IP addresses (1 host up)",
    ),
    "folded": (
        [SSH._replace(service="a/b,c"), *CLOSED, *(row._replace(state="filtered") for row in BLOCKED)],
        "Host: 192.0.2.7 ()\tStatus: Up\n"
        "Host: 192.0.2.7 ()\tPorts: 22/open/tcp//a|b|c///\tIgnored State: filtered (29), closed (26)\n",
        "1 IP address (1 host up)",
    ),
    "all folded": (
        CLOSED,
        "Host: 192.0.2.7 ()\tStatus: Up\nHost: 192.0.2.7 ()\tIgnored State: closed (26)\n",
        "1 IP address (1 host up)",
    ),
}


@pytest.mark.parametrize("name", GNMAP)
def test_gnmap(name: str) -> None:
    batch, hosts, counts = GNMAP[name]
    head = "# halfopen 0.1.0 scan initiated Tue Nov 14 22:13:20 2023 as: halfopen syn 192.0.2.7 -o 'a b.xml'\n"
    end = f"# halfopen done at Tue Nov 14 22:13:24 2023 -- {counts} scanned in 4.25 seconds\n"
    assert written(gnmap_format, batch) == head + hosts + end


@pytest.mark.skipif(not DTD.exists() or not shutil.which("xmllint"), reason="nmap's DTD or xmllint is not installed")
@pytest.mark.parametrize("run", [RUN, Run("halfopen classify a.pcap")], ids=["syn", "classify"])
def test_xml_is_valid_by_nmaps_dtd(run: Run, tmp_path: Path) -> None:
    """Also where a host comes in two batches."""
    path = tmp_path / "a.xml"
    path.write_text(written(xml_format, *MATERIAL, [SSH], BLOCKED, run=run, text="1 line"))
    done = subprocess.run(
        ["xmllint", "--noout", "--dtdvalid", DTD, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_libnmap_reads_it() -> None:
    """python-libnmap, of the development packages."""
    parser = pytest.importorskip("libnmap.parser").NmapParser
    report = parser.parse_fromstring(written(xml_format, *MATERIAL))
    seen = [(host.address, host.status, host.get_ports(), host.extraports_state) for host in report.hosts]
    facts = {"state": "closed", "count": "26"}
    folded = {"state": facts, "count": facts}  # as libnmap nests them
    assert (report.scan_type, report.numservices, report.hosts_up, report.hosts_total, seen) == (
        "syn", 2, 3, 6, [
            ("192.0.2.7", "up", [(22, "tcp"), (80, "tcp")], None),
            ("192.0.2.8", "down", [], None),
            ("192.0.2.9", "unknown", [(443, "tcp")], None),
            ("2001:db8::1", "unknown", [(80, "tcp")], None),
            ("192.0.2.7", "up", [], folded),
            ("192.0.2.30", "up", [(22, "tcp")], None),
        ],
    )  # fmt: skip


@pytest.mark.skipif(not shutil.which("ndiff"), reason="ndiff is not installed")
def test_ndiff_reads_it(tmp_path: Path) -> None:
    old, new = tmp_path / "old.xml", tmp_path / "new.xml"
    old.write_text(written(xml_format, MATERIAL[0]))
    new.write_text(written(xml_format, [SSH._replace(state="closed", reason="reset"), *MATERIAL[0][1:]]))
    runs = [["ndiff", old, old], ["ndiff", old, new]]
    done = [subprocess.run(each, capture_output=True, text=True, timeout=60, check=False) for each in runs]
    changed = [line.split()[:3] for line in done[1].stdout.splitlines() if "22/tcp" in line]
    assert ([each.returncode for each in done], changed) == (
        [0, 1], [["-22/tcp", "open", "ssh"], ["+22/tcp", "closed", "ssh"]],
    )  # fmt: skip


def test_nmaps_options_name_the_format_whatever_the_file_is_called(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    names = [("xml", str(tmp_path / "plain")), ("gnmap", str(tmp_path / "a.csv")), ("table", "-")]
    outputs = open_sinks(None, [str(tmp_path / "b.gnmap")], named=names, run=RUN)
    outputs.write([SSH])
    outputs.finish(Summary())
    texts = [(tmp_path / name).read_text() for name in ("plain", "a.csv", "b.gnmap")]
    shown = capsysbinary.readouterr().out.decode()
    grepable = written(gnmap_format, [SSH])
    assert (texts, shown.splitlines()[0]) == ([written(xml_format, [SSH]), grepable, grepable], "192.0.2.7")


def test_standard_output_has_one_format() -> None:
    with pytest.raises(UsageError) as error:
        open_sinks("jsonl", named=[("xml", "-")])
    assert str(error.value) == "standard output cannot be jsonl and xml at once: name a file for all but one"


SUFFIXES = [("a.csv.gz", ("a.csv", True)), ("a.CSV.GZ", ("a.CSV", True)), ("a.gz.csv", ("a.gz.csv", False))]


@pytest.mark.parametrize(("path", "expected"), SUFFIXES)
def test_suffix(path: str, expected: tuple[str, bool]) -> None:
    assert split_suffix(path) == expected


def test_a_packed_file_is_whole_after_every_write(tmp_path: Path) -> None:
    """So a killed scan keeps what it wrote, and a resumed one can append behind any noted length."""
    path = tmp_path / "a.txt.gz"
    stream = create(str(path), force=False)
    seen = []
    for text in ("one\ntwo\n", "", "three\n"):
        stream.write(text)
        seen.append((gzip.decompress(path.read_bytes()).decode(), stream.length == path.stat().st_size))
    stream.close()
    assert seen == [("one\ntwo\n", True), ("one\ntwo\n", True), ("one\ntwo\nthree\n", True)]


def test_a_torn_member_is_cut_off(tmp_path: Path) -> None:
    """The descriptor takes ten bytes of the second member, then says that the disk is full."""
    path = tmp_path / "a.gz"

    class Full:
        """A file with little room left."""

        def __init__(self, file: Any) -> None:
            self.file, self.room, self.fileno = file, len(pack(b"kept\n")) + 10, file.fileno

        def write(self, data: Any) -> int:
            if not self.room:
                raise OSError(28, os.strerror(28))
            count: int = self.file.write(data[: self.room])
            self.room -= count
            return count

    with open(path, "wb", buffering=0) as file:
        stream = Stream(Full(file), "a.gz", packed=True)
        stream.write("kept\n")
        with pytest.raises(ScanError):
            stream.write("torn\n" * 1000)
    assert (gzip.decompress(path.read_bytes()), stream.length) == (b"kept\n", path.stat().st_size)
