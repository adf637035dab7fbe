"""Formats, byte for byte: each expected text is given in full."""

import csv
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.cli.verbs import main
from scanner.errors import ScanError, UsageError
from scanner.output import Outputs, Run, Sink, Summary, open_sinks
from scanner.output.csv import COLUMNS, csv_format
from scanner.output.csv import line as csv_line
from scanner.output.jsonl import json_format
from scanner.output.jsonl import line as json_line
from scanner.output.stream import Stream, create
from scanner.output.table import table_format
from scanner.rounds.session import Session
from scanner.verdict.rows import Verdict
from scanner.verdict.table import Reason, State

PCAPS = Path(__file__).resolve().parents[1] / "pcaps"
OPEN = Verdict("192.0.2.7", 443, "open", "syn-ack", ttl=64, service="https")
FULL = Verdict("192.0.2.7", 80, "closed", "reset", "tcp", 63, "http", ("firewall-reset", "late"),
               0.1234, 1700000000.25, 2, "192.0.2.254", "192.0.2.1")  # fmt: skip
SILENT = Verdict("192.0.2.7", 81, "filtered", "no-response")
DOWN = Verdict("192.0.2.8", None, "down", "no-arp")
SENT: dict[str, Any] = {"first_probe": 1700000000.25, "last_probe": 1700000003.5, "attempts": 4}
SAID: dict[str, Any] = {"window": 65160, "mss": 1460, "options": "mss,sok,ts,nop,ws=7"}

JSON_LINES = [
    (OPEN, '{"ip": "192.0.2.7", "port": 443, "protocol": "tcp", "state": "open", "reason": "syn-ack", "ttl": 64, '
           '"service": "https", "evidence": []}\n'),
    (FULL, '{"ip": "192.0.2.7", "port": 80, "protocol": "tcp", "state": "closed", "reason": "reset", "ttl": 63, '
           '"service": "http", "evidence": ["firewall-reset", "late"], "rtt_ms": 0.123, "time": 1700000000.250000, '
           '"pass": 2, "icmp_from": "192.0.2.254", "scanner_ip": "192.0.2.1"}\n'),
    (SILENT, '{"ip": "192.0.2.7", "port": 81, "protocol": "tcp", "state": "filtered", "reason": "no-response", '
             '"ttl": null, "service": null, "evidence": []}\n'),
    (SILENT._replace(**SENT),
     '{"ip": "192.0.2.7", "port": 81, "protocol": "tcp", "state": "filtered", "reason": "no-response", '
     '"ttl": null, "service": null, "evidence": [], "first_probe": 1700000000.250000, '
     '"last_probe": 1700000003.500000, "attempts": 4}\n'),
    (DOWN, '{"ip": "192.0.2.8", "state": "down", "reason": "no-arp"}\n'),
    (OPEN._replace(service='a"\x1b\n\\é'),
     '{"ip": "192.0.2.7", "port": 443, "protocol": "tcp", "state": "open", "reason": "syn-ack", "ttl": 64, '
     '"service": "a\\"\\u001b\\n\\\\\\u00e9", "evidence": []}\n'),
    (DOWN._replace(hostname="web.example"),
     '{"ip": "192.0.2.8", "state": "down", "reason": "no-arp", "hostname": "web.example"}\n'),
    (OPEN._replace(hostname='"\x1b\n.b\u00fc'),
     '{"ip": "192.0.2.7", "port": 443, "protocol": "tcp", "state": "open", "reason": "syn-ack", "ttl": 64, '
     '"service": "https", "evidence": [], "hostname": "\\"\\u001b\\n.b\\u00fc"}\n'),
    (OPEN._replace(**SAID),
     '{"ip": "192.0.2.7", "port": 443, "protocol": "tcp", "state": "open", "reason": "syn-ack", "ttl": 64, '
     '"service": "https", "evidence": [], "window": 65160, "mss": 1460, "options": "mss,sok,ts,nop,ws=7"}\n'),
    (OPEN._replace(window=0, options="none"),
     '{"ip": "192.0.2.7", "port": 443, "protocol": "tcp", "state": "open", "reason": "syn-ack", "ttl": 64, '
     '"service": "https", "evidence": [], "window": 0, "options": "none"}\n'),
]  # fmt: skip

CSV_LINES = [
    (OPEN, "192.0.2.7,443,tcp,open,syn-ack,64,https,,,,,,,,,,,,,,,,\n"),
    (
        FULL,
        "192.0.2.7,80,tcp,closed,reset,63,http,firewall-reset;late,0.123,1700000000.250000,2,192.0.2.254,192.0.2.1,,,,,,,,,,\n",
    ),
    (
        SILENT._replace(scanner_ip="192.0.2.1", **SENT),
        "192.0.2.7,81,tcp,filtered,no-response,,,,,,,,192.0.2.1,,1700000000.250000,1700000003.500000,4,,,,,,\n",
    ),
    (SILENT, "192.0.2.7,81,tcp,filtered,no-response,,,,,,,,,,,,,,,,,,\n"),
    (DOWN, "192.0.2.8,,,down,no-arp,,,,,,,,,,,,,,,,,,\n"),
    (OPEN._replace(service='a,"b"\n'), '192.0.2.7,443,tcp,open,syn-ack,64,"a,""b""\n",,,,,,,,,,,,,,,,\n'),
    (
        OPEN._replace(hostname='a,"b"\n\x1b.example'),
        '192.0.2.7,443,tcp,open,syn-ack,64,https,,,,,,,,,,,"a,""b""\\n\\x1b.example",,,,,\n',
    ),
    (
        OPEN._replace(**SAID),
        '192.0.2.7,443,tcp,open,syn-ack,64,https,,,,,,,,,,,,,,65160,1460,"mss,sok,ts,nop,ws=7"\n',
    ),
    (OPEN._replace(window=0, options="none"), "192.0.2.7,443,tcp,open,syn-ack,64,https,,,,,,,,,,,,,,0,,none\n"),
]


@pytest.mark.parametrize(("verdict", "expected"), JSON_LINES)
def test_json_line(verdict: Verdict, expected: str) -> None:
    assert json_line(verdict) == expected


@pytest.mark.parametrize(("verdict", "expected"), CSV_LINES)
def test_csv_line(verdict: Verdict, expected: str) -> None:
    assert csv_line(verdict) == expected


maybe = st.none()
VERDICTS = st.builds(
    Verdict,
    st.sampled_from(["192.0.2.1", "2001:db8::1"]),
    st.integers(0, 65535),
    st.sampled_from([state.value for state in State if state is not State.DOWN]),
    st.sampled_from([reason.word for reason in Reason]),
    st.just("tcp"),
    maybe | st.integers(0, 255),
    maybe | st.text(min_size=1),
    st.lists(st.text("abc-:", min_size=1)).map(tuple),
    maybe | st.integers(0, 10**6).map(lambda eighths: eighths / 8),
    maybe | st.integers(0, 2**31),
    maybe | st.integers(1, 20),
    maybe | st.just("2001:db8::2"),
    maybe | st.just("192.0.2.9"),
    maybe | st.text("abc:/", min_size=1),
    maybe | st.integers(0, 2**31),
    maybe | st.integers(0, 2**31),
    maybe | st.integers(0, 2**31),
    maybe,
    maybe | st.text("ab,.\u00fc", min_size=1),
    maybe | st.just("00:0c:29:11:22:33"),
    maybe | st.text("ab,.\u00fc", min_size=1),
    maybe | st.integers(0, 65535),
    maybe | st.integers(0, 65535),
    maybe | st.text("abc,=+?", min_size=1),
)


@given(VERDICTS)
def test_json_reads_back(verdict: Verdict) -> None:
    always = ("ip", "port", "protocol", "state", "reason", "ttl", "service", "evidence")
    known = {name.rstrip("_"): value for name, value in verdict._asdict().items()}
    assert json.loads(json_line(verdict)) == {
        name: list(value) if name == "evidence" else value
        for name, value in known.items()
        if name in always or value is not None
    }


@given(VERDICTS)
def test_csv_reads_back(verdict: Verdict) -> None:
    known = {name.rstrip("_"): value for name, value in verdict._asdict().items()}
    (cells,) = csv.reader(io.StringIO(csv_line(verdict), newline=""))
    numbers = {"rtt_ms": "{:.3f}", **dict.fromkeys(("time", "first_probe", "last_probe"), "{:.6f}")}
    assert cells == [
        ";".join(verdict.evidence) if name == "evidence"
        else "" if known[name] is None else numbers.get(name, "{}").format(known[name])
        for name in COLUMNS
    ]  # fmt: skip


NOTHING = Summary()


def table(
    *batches: list[Verdict], everything: bool = False, colour: bool = False, summary: Summary = NOTHING, **run: Any
) -> str:
    """What the table shows of these batches, as on standard output."""
    buffer = io.BytesIO()
    form = table_format(everything, colour, False, Run(**run))
    sink = Sink(Stream(buffer, "test", colour, person=True), form)
    for batch in batches:
        sink.write(iter(batch))
    sink.finish(summary)
    return buffer.getvalue().decode()


def rows(ip: str, ports: range, state: str = "closed", reason: str = "reset", **more: Any) -> list[Verdict]:
    return [Verdict(ip, port, state, reason)._replace(**more) for port in reversed(ports)]


SSH = Verdict("192.0.2.7", 22, "open", "syn-ack", ttl=64, service="ssh")
TABLES = {
    "folded, the rest in order of ports; several scanners are told apart": (
        [
            [
                *rows("192.0.2.7", range(1000, 1997)),
                FULL,
                SSH,
                *rows("192.0.2.7", range(1, 4), "filtered", "no-response"),
            ]
        ],
        """\
192.0.2.7
Not shown: 997 closed (reset)
PORT       STATE     REASON            TTL  SERVICE
1/tcp      filtered  no-response       -    -
2/tcp      filtered  no-response       -    -
3/tcp      filtered  no-response       -    -
22/tcp     open      syn-ack           64   ssh

192.0.2.7 (scanner 192.0.2.1)
PORT       STATE   REASON  TTL  SERVICE  EVIDENCE
80/tcp     closed  reset   63   http     firewall-reset late from 192.0.2.254
""",
    ),
    "26 are folded, the larger number first": (
        [
            [
                *rows("2001:db8::1", range(100, 126), evidence=("firewall-reset",)),
                *rows("2001:db8::1", range(200, 226)),
                *rows("2001:db8::1", range(300, 327), "filtered", "host-unreach"),
            ]
        ],
        """\
2001:db8::1
Not shown: 27 filtered (host-unreach), 26 closed (reset),
  26 closed (firewall reset)
""",
    ),
    "a single scanner of a capture is not named": (
        [[SILENT._replace(scanner_ip="192.0.2.1")]],
        """\
192.0.2.7
PORT       STATE     REASON
81/tcp     filtered  no-response
""",
    ),
    "hosts by number, IPv4 first; an empty batch is nothing": (
        [[], rows("2001:db8::1", range(1, 3)) + rows("192.0.2.10", range(1, 3)) + rows("192.0.2.9", range(5, 6))],
        """\
192.0.2.9
PORT       STATE     REASON
5/tcp      closed    reset

192.0.2.10
PORT       STATE     REASON
1/tcp      closed    reset
2/tcp      closed    reset

2001:db8::1
PORT       STATE     REASON
1/tcp      closed    reset
2/tcp      closed    reset
""",
    ),
    "one port on many hosts, over batches": (
        [
            [SSH._replace(ip="192.0.2.30"), SILENT, SSH._replace(ip="192.0.2.4", service="\x1b[2Jé")],
            [
                DOWN,
                SSH._replace(ip="2001:db8::aaaa:bbbb"),
                SILENT._replace(reason="host-unreach", icmp_from="192.0.2.1"),
            ],
            [SSH._replace(ip="192.0.2.3")],
        ],
        """\
HOST             PORT       STATE     REASON            TTL  SERVICE
192.0.2.4        22/tcp     open      syn-ack           64   \\x1b[2J\\xe9
192.0.2.30       22/tcp     open      syn-ack           64   ssh

HOST                 PORT       STATE     REASON            TTL  SERVICE
192.0.2.7            81/tcp     filtered  host-unreach      -    -
           from 192.0.2.1
2001:db8::aaaa:bbbb  22/tcp     open      syn-ack           64   ssh
192.0.2.3            22/tcp     open      syn-ack           64   ssh

Not shown: 192.0.2.7 with all ports filtered (no-response)
Not shown: 192.0.2.8 down (no-arp)
""",
    ),
    "silent and down hosts are counted when they are many": (
        [
            [SSH, *(SILENT._replace(ip=f"192.0.3.{n}", port=port) for n in range(254) for port in (1, 2))],
            [DOWN._replace(ip=f"192.0.4.{n}", reason="no-arp" if n < 9 else "no-ndp") for n in range(10)],
        ],
        """\
HOST             PORT       STATE     REASON            TTL  SERVICE
192.0.2.7        22/tcp     open      syn-ack           64   ssh

Not shown: 254 hosts with all ports filtered (no-response)
Not shown: 9 hosts down (no-arp)
Not shown: 192.0.4.9 down (no-ndp)
""",
    ),
    "the only host is shown though it is silent": (
        [rows("192.0.2.7", range(1, 1001), "filtered", "no-response")],
        "192.0.2.7\nNot shown: 1,000 filtered (no-response)\n",
    ),
    "the only host is down": ([[DOWN]], "Not shown: 192.0.2.8 down (no-arp)\n"),
}


@pytest.mark.parametrize("name", TABLES)
def test_table(name: str) -> None:
    batches, expected = TABLES[name]
    assert table(*batches) == expected


def test_table_shows_everything_if_asked() -> None:
    batch = [*rows("192.0.2.7", range(1, 28)), DOWN, SILENT._replace(ip="192.0.2.9")]
    head = "PORT       STATE     REASON\n"
    closed = "".join(f"{f'{port}/tcp':9}  closed    reset\n" for port in range(1, 28))
    down = f"\n192.0.2.8\n{head}-          down      no-arp\n"
    silent = f"\n192.0.2.9\n{head}81/tcp     filtered  no-response\n"
    assert table(batch, everything=True) == f"192.0.2.7\n{head}{closed}{down}{silent}"


SHOWN_ONE_BY_ONE = [(25, "closed", "reset"), (60, "open", "syn-ack")]


@pytest.mark.parametrize(("count", "state", "reason"), SHOWN_ONE_BY_ONE)
def test_table_shows_few_of_a_kind_and_every_open_port(count: int, state: str, reason: str) -> None:
    shown = "".join(f"{f'{port}/tcp':9}  {state:8}  {reason}\n" for port in range(1, count + 1))
    head = "192.0.2.7\nPORT       STATE     REASON\n"
    assert table(rows("192.0.2.7", range(1, count + 1), state, reason)) == head + shown


def test_table_colours_only_the_state() -> None:
    batch = [SSH, FULL._replace(icmp_from=None, scanner_ip=None), SILENT]
    assert table(batch, colour=True) == (
        "192.0.2.7\n"
        "PORT       STATE     REASON       TTL  SERVICE  EVIDENCE\n"
        "22/tcp     \033[32mopen\033[0m      syn-ack      64   ssh\n"
        "80/tcp     \033[31mclosed\033[0m    reset        63   http     firewall-reset late\n"
        "81/tcp     \033[33mfiltered\033[0m  no-response  -    -\n"
    )


def test_table_on_a_terminal_has_no_summary() -> None:
    """There the summary goes to standard error."""
    assert table([], summary=Summary("not on a terminal")) == ""


def run(outputs: Outputs, *batches: list[Verdict], summary: Summary = NOTHING) -> Outputs:
    for batch in batches:
        outputs.write(iter(batch))
    outputs.finish(summary)
    return outputs


CSV_HEAD = (
    "ip,port,protocol,state,reason,ttl,service,evidence,rtt_ms,time,pass,icmp_from,scanner_ip,tunnel,"
    "first_probe,last_probe,attempts,hostname,mac,vendor,window,mss,options\n"
)


def test_every_file_has_the_format_of_its_suffix(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    paths = [str(tmp_path / name) for name in ("a.jsonl", "b.CSV", "c.txt")]
    run(open_sinks("jsonl", [*paths, "-"]), [OPEN], [DOWN], summary=Summary("1 open"))
    text = table([OPEN], [DOWN]) + "1 open\n"
    lines = JSON_LINES[0][1] + JSON_LINES[4][1]
    assert [Path(path).read_text() for path in paths] + [capsysbinary.readouterr().out.decode()] == [
        lines, CSV_HEAD + CSV_LINES[0][1] + CSV_LINES[4][1], text, lines,
    ]  # fmt: skip


def test_standard_output_is_a_table_and_csv_without_rows_has_its_header(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    run(open_sinks(files=[str(tmp_path / "a.csv")]))
    assert ((tmp_path / "a.csv").read_text(), capsysbinary.readouterr().out) == (CSV_HEAD, b"")


@pytest.mark.parametrize("name", ["demo.pcapng.gz", "nmap-connect.pcap.gz"])
def test_only_open_ports_are_written_if_asked(name: str) -> None:
    rows = [json.loads(row) for row in (PCAPS / f"{name.partition('.')[0]}.jsonl").read_text().splitlines()]
    done = subprocess.run(
        [sys.executable, "-m", "scanner", "classify", str(PCAPS / name), "--open", "-f", "jsonl"],
        cwd=PCAPS.parent, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    shown = {(row["ip"], row["port"]) for row in map(json.loads, done.stdout.splitlines())}
    assert shown == {(row["ip"], row["port"]) for row in rows if row["state"] == "open"} != set()


def test_connect_writes_only_open_ports_if_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "scanner", "connect", "127.0.0.1", "-p", f"1,{port}", "--open", "-f", "csv"],
            cwd=PCAPS.parent, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert [line.split(",")[:4] for line in done.stdout.splitlines()[1:]] == [["127.0.0.1", str(port), "tcp", "open"]]


# Options of a scan; whether silent targets get rows, whether only open ports do.
WRITTEN = {
    "2^20 targets": ("-p 1", True, False),
    "more targets": ("-p 1-2", False, False),
    "more targets, all rows": ("-p 1-2 --all", True, False),
    "open ports": ("-p 1 --open", False, True),
}


@pytest.mark.parametrize(("options", "silent", "only_open"), WRITTEN.values(), ids=WRITTEN)
def test_which_rows_a_scan_writes(options: str, silent: bool, only_open: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    requested = []

    def batches(session: Session, write_silent: bool, tick: object, only_open: bool) -> Iterator[list[Verdict]]:
        requested.append((write_silent, only_open))
        yield from ()

    monkeypatch.setattr(Session, "batches", batches)
    monkeypatch.setattr(sys, "argv", ["halfopen", "connect", "127.0.0.0/12", "-q", *options.split()])
    with pytest.raises(SystemExit):
        main()
    assert requested == [(silent, only_open)]


NO_FORMAT = (
    " does not say its format: end the name in one of .txt, .jsonl, .json, .csv, .xml, .gnmap, .list, "
    ".parquet, or in one and .gz"
)
REFUSED = [
    ("yaml", [], "format 'yaml' is not known: use one of table, jsonl, csv, xml, gnmap, list"),
    (None, ["new.csv", "a.pdf"], "'a.pdf'" + NO_FORMAT),
    (None, ["plain"], "'plain'" + NO_FORMAT),
    (None, ["new.csv", "./new.csv"], "./new.csv is named twice as an output file: name it once"),
    (None, ["new.csv", "old.csv"], "old.csv exists and is not overwritten: name another file, or add --force"),
    (None, ["new.csv", "no/a.csv"],
     "'no/a.csv' cannot be written (No such file or directory): name a file in a folder that you may write to"),
    (None, ["d.csv"], "'d.csv' cannot be written (Is a directory): name a file in a folder that you may write to"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "files", "message"), REFUSED)
def test_a_refused_request_leaves_the_folder_as_it_was(
    form: str | None, files: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.csv").write_text("old")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(UsageError) as error:
        open_sinks(form, files)
    assert (str(error.value), sorted(os.listdir()), (tmp_path / "old.csv").read_text()) == (
        message, ["d.csv", "old.csv"], "old",
    )  # fmt: skip


def test_force_overwrites_only_when_every_file_can_be_written(tmp_path: Path) -> None:
    old, impossible = tmp_path / "old.csv", tmp_path / "no" / "a.csv"
    old.write_text("old results\n" * 9)
    with pytest.raises(UsageError):
        open_sinks(files=[str(old), str(impossible)], force=True)
    before = old.read_text()
    run(open_sinks(files=[str(old)], force=True))
    assert (before, old.read_text()) == ("old results\n" * 9, CSV_HEAD)


LOST = "the lines written so far are whole, the rest is lost: make room, or name another file"

LIMITED = """
import resource, sys
from scanner.errors import ScanError
from scanner.output import Summary, open_sinks
from scanner.verdict.rows import Verdict
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
outputs = open_sinks("jsonl", [sys.argv[1], sys.argv[2]])
rows = [Verdict("192.0.2.7", port, "open", "syn-ack") for port in range(10)]
try:
    outputs.write(rows)
except ScanError as error:
    print(error, file=sys.stderr)
outputs.finish(Summary())
"""


def python(code: str, *arguments: str, **more: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code, *arguments], text=True, capture_output=True, timeout=60, **more)


def test_a_full_disk_leaves_whole_lines_and_the_other_outputs(tmp_path: Path) -> None:
    """A file limit stands for the full disk: both take a part of the last write, then fail."""
    path, short = tmp_path / "a.jsonl", tmp_path / "b.csv"
    done = python(LIMITED, str(path), str(short))
    lines = [json_line(Verdict("192.0.2.7", port, "open", "syn-ack")) for port in range(10)]
    fit = 1000 // len(lines[0])
    message = f"{path}: File too large; {LOST}\n"
    assert (path.read_text(), done.stdout, len(short.read_text().splitlines()), done.stderr) == (
        "".join(lines[:fit]), "".join(lines), 11, message,
    )  # fmt: skip


def test_an_output_may_be_a_device_and_its_error_is_reported(tmp_path: Path) -> None:
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    stream = create(str(tmp_path / "full.jsonl"), force=False)
    sink = Sink(stream, json_format())
    with pytest.raises(ScanError) as error:
        sink.write([OPEN])
    stream.close()
    assert str(error.value) == f"{tmp_path}/full.jsonl: No space left on device; {LOST}"


PIPED = """
import sys
from scanner.output import Summary, closed_pipe, open_sinks
from scanner.verdict.rows import Verdict
outputs = open_sinks(sys.argv[2], [sys.argv[1]])
try:
    for batch in range(1000):
        outputs.write([Verdict("192.0.2.7", port, "open", "syn-ack") for port in range(batch, batch + 1000)])
except BrokenPipeError:
    outputs.finish(Summary())
    sys.exit(closed_pipe())
"""


@pytest.mark.parametrize("form", ["table", "jsonl", "csv"])
def test_a_closed_pipe_ends_the_run_without_a_message(form: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    code = '"$0" -c "$1" "$2" "$3" | head -n 2 >&2; echo ${PIPESTATUS[0]}'
    done = subprocess.run(
        ["bash", "-c", code, sys.executable, PIPED, path, form], text=True, capture_output=True, timeout=60
    )
    rows_written = len(path.read_text().splitlines()) - 1
    assert (done.stdout, len(done.stderr.splitlines()), rows_written % 1000, rows_written > 0) == ("141\n", 2, 0, True)


def test_a_batch_is_written_at_once(tmp_path: Path) -> None:
    """A batch is in the file when `write` returns: a killed scan keeps it."""
    stream = create(str(tmp_path / "a.csv"), force=False)
    sink = Sink(stream, csv_format())
    sink.write([OPEN])
    seen, length = (tmp_path / "a.csv").read_text(), stream.length
    sink.finish(Summary())
    assert (seen, length) == (CSV_HEAD + CSV_LINES[0][1], len(CSV_HEAD + CSV_LINES[0][1]))


COLOUR = [({}, True, True), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, True, False), ({}, False, False),
          ({"system": "win32"}, True, False), ({"system": "win32", "WT_SESSION": "1"}, True, True)]  # fmt: skip


@pytest.mark.parametrize(("environment", "terminal", "coloured"), COLOUR)
def test_colour_only_on_a_terminal(
    environment: dict[str, str], terminal: bool, coloured: bool,
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes],
) -> None:  # fmt: skip
    for name in ("NO_COLOR", "WT_SESSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "platform", environment.get("system", "linux"))
    run(open_sinks(), [OPEN])
    expected = "\033[32mopen\033[0m    " if coloured else "open    "
    assert (
        capsysbinary.readouterr().out.decode().splitlines()[2] == f"443/tcp    {expected}  syn-ack           64   https"
    )
