"""Hostile files of results: `report`, `diff` and `merge` refuse each in one line, within 512 MB. Honest large ones are
read, and `merge` reads any number of rows.
"""

import gzip
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner.errors import UsageError
from scanner.gzipped import unpacked
from scanner.results.memory import at_most

ROOT = Path(__file__).resolve().parents[1]
MOST_MB = 512

# Runs a command and prints the largest memory that it had, in MB (getrusage(2)). This is a process of its own, because
# a child counts the memory of its parent until exec().
MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)
"""

HEAD = '<?xml version="1.0"?>\n<!DOCTYPE nmaprun>\n<nmaprun scanner="nmap">\n'
HOST = '<host><status state="up" reason="x"/><address addr="192.0.2.7" addrtype="ipv4"/><ports>'
PORTS = '<extrareasons reason="reset" count="65536" proto="tcp" ports="0-65535"/>'
EXTRA = f'<extraports state="closed" count="65536">{PORTS}</extraports>'
COUNTED = '<extraports state="closed" count="9"><extrareasons reason="resets" count="9"/></extraports>'
END = "</ports></host>"
ROW = '{"ip": "192.0.2.7", "port": 1, "state": "open", "reason": "syn-ack"'
CELLS = "ip,port,state,reason"


def packed(head: str, filler: bytes) -> bytes:
    """10 MB of gzip that hold 10 GB."""
    return gzip.compress(head.encode()) + gzip.compress(filler * (100_000_000 // len(filler)), 9) * 100


def long_line(path: Path) -> None:
    path.write_text(ROW + ', "service": "')
    os.truncate(path, 1 << 30)


HOSTILE: dict[str, tuple[Callable[[], str | bytes], str]] = {
    "a host of 3,000 × all ports": (lambda: HEAD + HOST + EXTRA * 3000 + END, "more ports than there are"),
    "3,000 × all ports of one state": (
        lambda: HEAD + HOST + f'<extraports state="closed" count="1">{PORTS * 3000}</extraports>' + END,
        "more ports than there are",
    ),
    "3,000 × all ports in one list": (
        lambda: HEAD + HOST + EXTRA.replace("0-65535", "0-65535," * 3000) + END, "(ports '0-65535')",
    ),
    "3,000 × all ports were scanned": (
        lambda: HEAD + f'<scaninfo protocol="tcp" services="{"0-65535," * 3000}"/>' + HOST + COUNTED + END,
        "(ports '0-65535')",
    ),
    "a host with a million ports": (
        lambda: HEAD + HOST + '<port portid="1"><state state="open" reason="reset"/></port>' * 1_000_000 + END,
        "need more than 512M of memory",
    ),
    "deep XML": (lambda: HEAD + "<a>" * 1_000_000, "deeper"),
    "a million kinds of elements": (lambda: HEAD + "".join(f"<e{n}/>" for n in range(1_000_000)), "more kinds"),
    "a million attributes": (
        lambda: HEAD + "<host " + " ".join(f'a{n}="1"' for n in range(1_000_000)) + "/>", "a tag in it is longer",
    ),
    "an attribute of 100 MB": (lambda: HEAD + '<host comment="' + "x" * 100_000_000, "a tag in it is longer"),
    "a comment of 100 MB": (lambda: HEAD + "<!--" + "x" * 100_000_000, "a tag in it is longer"),
    "an unknown encoding": (lambda: HEAD.replace("?>", ' encoding="none"?>', 1), "unknown encoding: none"),
    "attributes by default": (
        lambda: '<!DOCTYPE nmaprun [<!ATTLIST host a CDATA "x">]><nmaprun/>', "declares XML entities or attributes",
    ),
    "gzip of zeros": (lambda: packed("", bytes(1)), "line 1: is longer"),
    "gzip of blank XML": (lambda: packed(HEAD, b" "), "more than 400 times its size"),
    "gzip of empty lines": (lambda: packed(ROW + "}\n", b" " * 99_999 + b"\n"), "more than 400 times its size"),
    "a line of a gigabyte": (bytes, "line 1: is longer"),
    "deep JSON": (lambda: ROW + ', "a":' + "[" * 100_000 + "]" * 100_000 + "}", "line 1: is longer"),
    "JSON that is somewhat deep": (lambda: ROW + ', "a":' + "[" * 60_000 + "]" * 60_000 + "}", "is no JSON object"),
    "a cell of 100 MB": (lambda: CELLS + '\n"' + "x" * 100_000_000, "line 2: is longer"),
    "a quoted cell of 100 MB": (lambda: CELLS + '\n"' + "x\n" * 50_000_000, "larger than field limit"),
    "a record that never ends": (lambda: CELLS + "\n" + '"a","\n' * 20_000_000, "need more than 512M of memory"),
    "a million columns": (lambda: CELLS + ",a" * 1_000_000, "line 1: is longer"),
    "a word of 1,000 letters": (lambda: ROW.replace("syn-ack", "x" * 1000) + "}", "a word that is too long"),
    "a thousand words": (lambda: ROW + ', "evidence": [' + '"x",' * 1000 + '"x"]}', "a word that is too long"),
    "an ICMP error from 1,000 letters": (lambda: ROW + f', "icmp_from": "{"x" * 1000}"}}', "is not an address"),
    "a TTL of 4,000 digits": (lambda: ROW + f', "ttl": {"9" * 4000}}}', "is out of range"),
    "a time after all times": (lambda: ROW + ', "time": 1e300}', "time 1e+300 is out of range"),
    "a round trip that is no number": (lambda: ROW + ', "rtt_ms": NaN}', "rtt_ms nan is out of range"),
    "a port of 4,000 digits in XML": (
        lambda: HEAD + HOST + f'<port portid="{"9" * 4000}"><state state="open"/></port>' + END, "lacks what nmap",
    ),
    "a TTL of 30 digits in XML": (
        lambda: HEAD + HOST + f'<port portid="1"><state state="open" reason_ttl="{"9" * 30}"/></port>' + END,
        "is out of range",
    ),
    "ports beyond counting": (
        lambda: HEAD + HOST + EXTRA.replace(PORTS, "").replace("65536", "9" * 4000) * 2 + END, "lacks what nmap",
    ),
}  # fmt: skip


def run(*arguments: str) -> tuple[int, int, str]:
    """The exit code of a verb, the largest memory that it had in MB, and what it said."""
    line = [sys.executable, "-c", MEASURED, sys.executable, "-m", "scanner", *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    code, megabytes = map(int, done.stdout.split())
    return code, megabytes, done.stderr


@pytest.mark.parametrize("verb", ["report", "diff", "merge"])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(case: str, verb: str, tmp_path: Path) -> None:
    content, words = HOSTILE[case]
    data, path, page = content(), tmp_path / "hostile", tmp_path / ("all.jsonl" if verb == "merge" else "page.html")
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    if case == "a line of a gigabyte":
        long_line(path)
    del data
    code, megabytes, said = run(verb, str(path), *([str(path)] if verb == "diff" else ["-o", str(page)]))
    path.unlink()
    assert (code, said.count("\n"), len(said) < 500, words in said) == (2, 1, True, True), said
    assert (megabytes <= MOST_MB, page.exists()) == (True, False), megabytes


def hosts(count: int) -> str:
    addresses = (f"192.0.{n >> 8}.{n & 255}" for n in range(count))
    return HEAD + "".join((HOST + EXTRA + END).replace("192.0.2.7", address) for address in addresses) + "</nmaprun>"


def test_an_honest_file_is_read_where_the_limit_allows_it(tmp_path: Path) -> None:
    """All ports of 12 hosts are 786,432 rows in a file of 3 kB."""
    path = tmp_path / "nmap.xml"
    path.write_text(hosts(12))
    assert path.stat().st_size < 4000
    code, _, said = run("diff", str(path), str(path), "--max-memory", "128M")
    assert (code, said) == (
        2, "halfopen: these files need more than 128M of memory: allow more with --max-memory, or give smaller files\n",
    )  # fmt: skip
    code, megabytes, said = run("diff", str(path), str(path))
    assert (code, said, megabytes <= MOST_MB) == (0, "halfopen: 786,432 the same\n", True)


def test_rows_that_pack_well_are_unpacked(tmp_path: Path) -> None:
    """Rows that differ only in the port are the densest that a scan writes."""
    path = tmp_path / "rows.jsonl.gz"
    lines = "".join(ROW.replace('"port": 1', f'"port": {port}') + "}\n" for port in range(65536))
    text = "".join(lines.replace("192.0.2.7", f"192.0.2.{n}") for n in range(16)).encode()
    path.write_bytes(gzip.compress(text, 9))
    assert len(text) > 1 << 26
    with open(path, "rb") as raw, unpacked(raw) as stream:
        assert stream.read() == text


@pytest.mark.parametrize("size", ["lots", "-1", "1.5G", "512 M", "", "1" * 20])
def test_a_size_that_is_none(size: str) -> None:
    with pytest.raises(UsageError, match="is not a size such as 512M or 2G"), at_most(size):
        pass


@pytest.mark.parametrize("size", ["0", "1k", "64M", "2g"])
def test_the_limit_ends_with_the_block(size: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with at_most(size):
        assert (resource.getrlimit(resource.RLIMIT_DATA) == before) == (size == "0")
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_two_million_rows_are_merged_in_little_memory(tmp_path: Path) -> None:
    """All ports of 16 hosts in each file, the last ones first; half of the hosts are in both files."""
    for name, first in (("a", 0), ("b", 8)):
        addresses = (f"192.0.2.{number}" for number in range(first + 15, first - 1, -1))
        text = HEAD + "".join((HOST + EXTRA + END).replace("192.0.2.7", address) for address in addresses)
        (tmp_path / f"{name}.xml").write_text(text + "</nmaprun>")
    files = [str(tmp_path / name) for name in ("a.xml", "b.xml")]
    code, megabytes, said = run("merge", *files, "-o", str(tmp_path / "all.jsonl.gz"), "--max-memory", "128M")
    assert (code, said) == (0, "halfopen: 2,097,152 rows of 2 files: 1,572,864 targets\n")
    assert megabytes <= 128
    with gzip.open(tmp_path / "all.jsonl.gz") as file:
        lines = list(file)
    assert (len(lines), len(set(lines)), lines[0][:31]) == (1_572_864, 1_572_864, b'{"ip": "192.0.2.0", "port": 0, ')
