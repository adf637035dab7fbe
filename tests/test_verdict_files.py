"""Files of results read back: written rows come back; a file that is not whole is refused, with the place."""

import gzip
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scanner.errors import UsageError
from scanner.output.csv import COLUMNS
from scanner.output.csv import line as csv_line
from scanner.output.jsonl import line as json_line
from scanner.results.read import read_results
from scanner.verdict.rows import Verdict

ROOT = Path(__file__).resolve().parents[1]
PCAPS = ROOT / "pcaps"

FULL = Verdict(
    "192.0.2.7",
    80,
    "closed",
    "reset",
    "tcp",
    63,
    "http",
    ("firewall-reset", "late"),
    0.125,
    1700000000.25,
    2,
    "192.0.2.254",
    "192.0.2.1",
)
OPEN = Verdict(
    "192.0.2.7", 443, "open", "syn-ack", ttl=64, service="https", window=0, mss=1460, options="mss,sok,ts,nop,ws=7"
)
SILENT = Verdict("2001:db8::7", 81, "filtered", "no-response")
DOWN = Verdict("192.0.2.8", None, "down", "no-arp")
ROWS = [FULL, OPEN, SILENT, DOWN]

JSON = "".join(map(json_line, ROWS)).encode()
CSV = (",".join(COLUMNS) + "\n" + "".join(map(csv_line, ROWS))).encode()

HEAD = '<?xml version="1.0"?>\n<!DOCTYPE nmaprun>\n<nmaprun scanner="nmap">\n'
HOST = '<host><status state="up" reason="echo-reply"/><address addr="192.0.2.7" addrtype="ipv4"/>'
NEW_NMAP = (
    HEAD
    + '<scaninfo type="syn" protocol="tcp" numservices="6" services="20-25"/>'
    + HOST
    + '<address addr="02:00:00:00:00:07" addrtype="mac" vendor="x"/><ports>'
    '<extraports state="closed" count="2"><extrareasons reason="reset" count="2" proto="tcp" ports="20-21"/>'
    "</extraports>"
    '<extraports state="filtered" count="2"><extrareasons reason="no-response" count="1" proto="tcp" ports="24"/>'
    '<extrareasons reason="host-unreach" count="1" proto="tcp" ports="25"/></extraports>'
    '<port protocol="tcp" portid="22"><state state="open" reason="syn-ack" reason_ttl="64"/>'
    '<service name="ssh"/></port>'
    '<port protocol="tcp" portid="23"><state state="filtered" reason="admin-prohibited" reason_ttl="63" '
    'reason_ip="192.0.2.1"/></port></ports></host>'
    '<host><status state="down" reason="no-response"/><address addr="2001:DB8:0::9" addrtype="ipv6"/></host></nmaprun>'
)
CARD: Any = {"mac": "02:00:00:00:00:07", "vendor": "x"}
NEW_ROWS = [
    Verdict("192.0.2.7", 22, "open", "syn-ack", ttl=64, service="ssh", **CARD),
    Verdict("192.0.2.7", 23, "filtered", "admin-prohibited", ttl=63, icmp_from="192.0.2.1", **CARD),
    Verdict("192.0.2.7", 20, "closed", "reset", **CARD),
    Verdict("192.0.2.7", 21, "closed", "reset", **CARD),
    Verdict("192.0.2.7", 24, "filtered", "no-response", **CARD),
    Verdict("192.0.2.7", 25, "filtered", "host-unreach", **CARD),
    Verdict("2001:db8::9", None, "down", "no-response"),
]
ONE_OPEN = (
    '<port protocol="tcp" portid="22"><state state="open" reason="syn-ack" reason_ttl="64"/></port></ports></host>'
)
OLD_NMAP = (
    HEAD
    + '<scaninfo type="syn" protocol="tcp" numservices="3" services="22-24"/>'
    + HOST
    + '<ports><extraports state="closed" count="2"><extrareasons reason="resets" count="2"/></extraports>'
    + ONE_OPEN
    + "</nmaprun>"
)
OLD_ROWS = [
    Verdict("192.0.2.7", 22, "open", "syn-ack", ttl=64),
    *(Verdict("192.0.2.7", n, "closed", "reset") for n in (23, 24)),
]
TWO_COUNTS = OLD_NMAP.replace(
    "<ports>",
    '<ports><extraports state="filtered" count="9"><extrareasons reason="no-responses" count="9"/></extraports>',
)
MASSCAN = (
    '<?xml version="1.0"?>\n<nmaprun scanner="masscan" version="1.0-BETA">\n'
    '<host endtime="1"><address addr="2001:db8::7" addrtype="ipv4"/><ports><port protocol="tcp" portid="80">'
    '<state state="open" reason="syn-ack" reason_ttl="64"/></port></ports></host></nmaprun>'
)
UNCOUNTED = "X: 11 ports that nmap only counted are left out; nmap -d names each port"

READ = {
    "jsonl": (JSON, ROWS, []),
    "jsonl, with blank lines, spaces and a byte order mark": (
        b"\xef\xbb\xbf" + JSON.replace(b"\n", b"\r\n\n"),
        ROWS,
        [],
    ),
    "jsonl of two gzip members": (gzip.compress(JSON[:-1]) + gzip.compress(b"\n" + JSON), ROWS * 2, []),
    "csv": (CSV, ROWS, []),
    "csv, columns in another order, some missing": (
        b"state,port,reason,ip\nopen,443,syn-ack,192.0.2.7\n",
        [Verdict("192.0.2.7", 443, "open", "syn-ack")],
        [],
    ),
    "csv.gz": (gzip.compress(CSV), ROWS, []),
    "an address is the same however it is written": (
        b'{"ip": "2001:DB8:0:0::7%eth0", "port": 1, "state": "open", "reason": "syn-ack"}',
        [Verdict("2001:db8::7", 1, "open", "syn-ack")],
        [],
    ),
    "nmap": (NEW_NMAP.encode(), NEW_ROWS, []),
    "nmap, which only counted": (OLD_NMAP.encode(), OLD_ROWS, []),
    "nmap, which counted twice": (TWO_COUNTS.encode(), OLD_ROWS[:1], [UNCOUNTED]),
    "masscan": (MASSCAN.encode(), [Verdict("2001:db8::7", 80, "open", "syn-ack", ttl=64)], []),
    "empty": (b"", [], ["X is a result without rows"]),
}


@pytest.mark.parametrize(("data", "rows", "notes"), READ.values(), ids=READ)
def test_read(data: bytes, rows: list[Verdict], notes: list[str], tmp_path: Path) -> None:
    path, notes_seen = tmp_path / "X", list[str]()
    path.write_bytes(data)
    assert (list(read_results([str(path)], notes_seen.append)), notes_seen) == (
        rows,
        [f"{tmp_path}/{note}" for note in notes],
    )


def place(row: Verdict) -> tuple[str, int, str]:
    """What to sort by."""
    return row.ip, row.port or 0, row.scanner_ip or ""


@pytest.mark.parametrize("name", ["nmap-syn-v6.pcap.gz", "zmap.pcap.gz"])
def test_a_capture_gives_the_rows_of_classify(name: str) -> None:
    capture, notes_seen = PCAPS / name, list[str]()
    expected = read_results([str(PCAPS / f"{name.partition('.')[0]}.jsonl")], notes_seen.append)
    assert sorted(read_results([str(capture)], notes_seen.append), key=place) == sorted(expected, key=place)


def test_all_formats_hold_the_same_rows(tmp_path: Path) -> None:
    """For a capture with several scanners: the rows of `classify`, without what a format has no place for."""
    files = [tmp_path / name for name in ("r.jsonl", "r.csv.gz", "r.xml")]
    wanted = [word for file in files for word in ("-o", str(file))]
    subprocess.run(
        [sys.executable, "-m", "scanner", "classify", str(PCAPS / "two-scanners.pcap"), "-q", *wanted],
        cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    rows, cells, elements = (sorted(read_results([str(file)], print), key=place) for file in files)
    none = dict.fromkeys(
        ("rtt_ms", "time", "pass_", "first_probe", "last_probe", "attempts", "window", "mss", "options")
    )
    spare = [row._replace(**none) for row in rows]  # type: ignore[arg-type]
    assert (len(rows) > 0, cells, elements) == (True, rows, spare)


ROW = '{"ip": "192.0.2.7", "port": 1, "state": "open", "reason": "syn-ack"'
FORMS = ": give JSON lines (-f jsonl), CSV, nmap's XML, or a capture"
REFUSED = {
    "a table": (b"192.0.2.7\nPORT STATE\n", ", line 1: is no result that halfopen can read back"),
    "a torn line": (JSON[:-9], ", line 4: is no JSON object on a line of its own"),
    "a list": (b'{"ip": 1}\n[]\n', ", line 1: ip 1 is not what a verdict holds"),
    "no port": (
        b'{"ip": "192.0.2.7", "state": "open", "reason": "syn-ack"}',
        ", line 1: has no 'port', so it is no verdict",
    ),
    "no state": (b'{"ip": "192.0.2.7", "ports": []}', ", line 1: has no 'port', so it is no verdict"),
    "no address": (ROW.replace("192.0.2.7", "example").encode() + b"}", ", line 1: 'example' is not an address"),
    "a first probe before 1970": (
        ROW.encode() + b', "first_probe": -1}',
        ", line 1: first_probe -1 is out of range",
    ),
    "a last probe that is no number": (
        ROW.encode() + b', "last_probe": "now"}',
        ", line 1: last_probe 'now' is not what a verdict holds",
    ),
    "too many attempts": (
        ROW.encode() + b', "attempts": 1e99}',
        ", line 1: attempts 1e+99 is not what a verdict holds",
    ),
    "a port above 65535": (ROW.replace("1,", "65536,").encode() + b"}", ", line 1: port 65536 is not one"),
    "a port that is a boolean": (
        ROW.replace("1,", "true,").encode() + b"}",
        ", line 1: port True is not what a verdict holds",
    ),
    "evidence that is not words": (
        ROW.encode() + b', "evidence": [1]}',
        ", line 1: evidence [1] is not a list of words",
    ),
    "a cell too many": (CSV + b"," * 23 + b"\n", ", line 6: has 24 cells where the header has 23"),
    "a word for a number": (CSV.replace(b"443", b"https", 1), ", line 3: port 'https' is not a number"),
    "cut gzip": (gzip.compress(JSON)[:-9], ": its gzip data is damaged or ends early"),
    "unfinished XML": (OLD_NMAP[:-10].encode(), ": the XML is not finished, the scan was interrupted, line 4"),
    "another XML": (b"<html/>", ": its XML is <html>, not nmap's <nmaprun>"),
    "entities": (
        b'<!DOCTYPE x [<!ENTITY a "aa">]><nmaprun>&a;</nmaprun>',
        ": it declares XML entities or attributes, which nmap never does",
    ),
    "ports backwards": (
        NEW_NMAP.replace("20-21", "21-20").encode(),
        ": an element near line 4 lacks what nmap writes (ports '21-20')",
    ),
}


@pytest.mark.parametrize(("data", "cause"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_place(data: bytes, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "X"
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        list(read_results([str(path)], print))
    assert str(caught.value) == f"{path}{cause}{FORMS}"


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UsageError) as caught:
        list(read_results(["/nowhere/scan.jsonl"], print))
    assert str(caught.value) == "/nowhere/scan.jsonl cannot be read (No such file or directory): name a file of results"


@given(st.binary(max_size=300), st.sampled_from([b"", b"{", b"<", JSON, CSV, NEW_NMAP.encode(), gzip.compress(JSON)]))
@example(tail=b"\xef", begin=b"")  # the first byte of a byte order mark, and no more
def test_strange_bytes_are_refused_in_one_line(tail: bytes, begin: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(begin + tail)
        file.flush()
        answer = ""
        try:
            list(read_results([file.name], lambda note: None))
        except UsageError as error:
            answer = str(error)
        assert answer.splitlines() == [answer][: len(answer)]
