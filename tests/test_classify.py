"""`halfopen classify` as a command: what it writes to stdout and stderr, and its exit code."""

import gzip
import struct
import sys
from pathlib import Path

import pytest

from scanner.classifier.classification import Classification
from scanner.cli import verbs as cli
from tests.golden import PCAPS

RAW = PCAPS / "raw-ip.pcap"
DEMO = PCAPS / "demo.pcapng.gz"
HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 119)
PACKED = {  # by the program that unpacks it
    "zstd": b"\x28\xb5\x2f\xfd",
    "xz": b"\xfd7zXZ\0",
    "bzip2": b"BZh91AY",
    "lz4": b"\x04\x22\x4d\x18",
}
FILES = {
    "text.pcap": b"hello\n",
    "empty.pcap": b"",
    "cut.pcap": RAW.read_bytes()[:200],
    "cut.pcap.gz": gzip.compress(RAW.read_bytes(), mtime=0)[:-4],
    "radio.pcap": HEADER + struct.pack("<IIII", 0, 0, 4, 4) + b"wlan",
    "claim.pcap": HEADER + struct.pack("<IIII", 0, 0, 1 << 30, 4) + b"wlan",
}
FILES |= {f"{name}.pcap": begin + b"..." for name, begin in PACKED.items()}
ONE_ROW = """\
198.18.1.3
PORT       STATE     REASON            TTL  SERVICE       EVIDENCE
22/tcp     open      syn-ack           63   ssh           half-open
"""

# Arguments, stderr, exit code.
BAD = {
    "no capture": ("text.pcap", ["text.pcap: byte 0: not a pcap or pcapng file"], 2),
    "an empty file": ("empty.pcap", ["empty.pcap: byte 0: the file is empty"], 2),
    "no file": ("nothing.pcap", ["nothing.pcap: byte 0: cannot open: No such file or directory"], 2),
    "a folder": (".", [".: byte 0: cannot open: Is a directory"], 2),
    "a file cut in a record": (
        "cut.pcap -p 22",
        [
            "2 packets: 2 probes to 2 targets",
            "cut.pcap: byte 176: the file ends inside a record: 8 of 60 bytes are there",
        ],
        1,
    ),
    "a record that claims too much": (
        "claim.pcap",
        [
            "0 packets: 0 probes to 0 targets",
            "claim.pcap: byte 24: a record claims 1,073,741,824 bytes, more than any capture holds; "
            "nothing after it can be found",
        ],
        1,
    ),
    "a link type that nobody reads": (
        "radio.pcap",
        ["1 packet: 0 probes to 0 targets", "1 packet of link type 119 not supported"],
        0,
    ),
    "one file of two": (
        "radio.pcap nothing.pcap",
        [
            "1 packet: 0 probes to 0 targets",
            "1 packet of link type 119 not supported",
            "nothing.pcap: byte 0: cannot open: No such file or directory",
        ],
        1,
    ),
    "a negative timeout": (
        "radio.pcap --timeout -1",
        ["--timeout -1 is not a number of seconds to wait; 0 turns the rule off"],
        2,
    ),
    "no timeout at all": (
        "radio.pcap --timeout nan",
        ["--timeout nan is not a number of seconds to wait; 0 turns the rule off"],
        2,
    ),
    "a ladder of nothing": (
        "radio.pcap --ladder",
        [
            "1 packet: 0 probes to 0 targets",
            "1 packet of link type 119 not supported",
            "--ladder: no probe in this capture to draw; --orphans adds replies without one",
        ],
        2,
    ),
    "a ladder without a port": (
        "radio.pcap --ladder 198.18.0.2:x",
        ["--ladder '198.18.0.2:x' is not an address and a port: write 198.18.0.2:80 or [2001:db8::2]:80"],
        2,
    ),
    "a ladder of standard input": (
        "- --ladder",
        ["--ladder reads a capture twice, and standard input can be read once: name a file"],
        2,
    ),
}


BAD |= {
    f"data packed by {name}": (
        f"{name}.pcap",
        [
            f"{name}.pcap: byte 0: {'LZ4' if name == 'lz4' else name} data, which must be unpacked first: "
            f"{name} -dc FILE | halfopen classify -"
        ],
        2,
    )
    for name in PACKED
}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["halfopen", "classify", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(("arguments", "errors", "code"), BAD.values(), ids=BAD)
def test_bad_input(
    arguments: str,
    errors: list[str],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    exit_code = run(monkeypatch, *arguments.split())
    assert (exit_code, capsys.readouterr().err.splitlines()) == (code, [f"halfopen: {line}" for line in errors])


LADDER = (
    ONE_ROW
    + """
            198.18.0.1                                            198.18.1.3:22
            | from port 40000                                                 |
   0.000 ms |-- SYN seq=0 win=64240 ----------------------------------------->|
   1.522 ms |<- SYN/ACK seq=0 ack=1 win=64240 --------------------------------|
   1.522 ms |-- RST seq=1 --------------------------------------------------->|
            | from port 40001                                                 |
 500.500 ms |-- SYN seq=0 win=64240 ----------------------------------------->|
 502.403 ms |<- SYN/ACK seq=0 ack=1 win=64240 --------------------------------|
 502.403 ms |-- RST seq=1 --------------------------------------------------->|
            | from port 40002                                                 |
1001.000 ms |-- SYN seq=0 win=64240 ----------------------------------------->|
1002.112 ms |<- SYN/ACK seq=0 ack=1 win=64240 --------------------------------|
1002.112 ms |-- RST seq=1 --------------------------------------------------->|
            |                                                                 |
open (syn-ack): a SYN/ACK came back
  half-open: The SYN/ACK was answered by a reset, so no connection was made.
"""
)
GOOD = {
    "filters": ("--scanner 198.18.0.1 --target 198.18.1.3-4 -p 22,25 --open", ONE_ROW),
    "a filter that nothing passes": ("--scanner 198.18.0.77", ""),
    "a ladder": ("--ladder 198.18.1.3:22", LADDER),
    "a ladder of each": ("--ladder --target 198.18.1.3 -p 22", LADDER),
    "a ladder beside rows for machines": (
        "--ladder=198.18.1.3:22 -f csv",
        "ip,port,protocol,state,reason,ttl,service,evidence,rtt_ms,time,pass,icmp_from,scanner_ip,tunnel,"
        "first_probe,last_probe,attempts,hostname,mac,vendor,window,mss,options\n"
        "198.18.1.3,22,tcp,open,syn-ack,63,ssh,half-open,1.522,1700000000.001522,1,,198.18.0.1,,"
        "1700000000.000000,1700000001.001000,3,,,,64240,,none\n",
    ),
}


@pytest.mark.parametrize(("arguments", "out"), GOOD.values(), ids=GOOD)
def test_selections_and_ladders(
    arguments: str, out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (run(monkeypatch, str(RAW), "-q", *arguments.split()), capsys.readouterr().out) == (0, out)


def test_several_files_are_one_capture_in_time_order(tmp_path: Path) -> None:
    data = RAW.read_bytes()
    half = 24
    while half < len(data) // 2:
        half += 16 + struct.unpack_from("<I", data, half + 8)[0]
    (tmp_path / "a.pcap").write_bytes(data[:24] + data[half:])
    (tmp_path / "b.pcap").write_bytes(data[:half])
    both = Classification([str(tmp_path / "a.pcap"), str(tmp_path / "b.pcap")], 0)
    whole = Classification([str(RAW)], 0)
    assert [list(batch) for batch in both.batches()] == [list(batch) for batch in whole.batches()]


def test_from_a_pipe_open_ports_come_early_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scanner.capture.reader import open_captures
    from scanner.classifier import classification

    def in_pieces(paths: list[str]) -> object:
        reader = open_captures([str(DEMO)])
        frames = next(iter(reader))
        reader.batches = (frames.take(slice(at, at + 10)) for at in range(0, len(frames), 10))  # type: ignore[arg-type]
        return reader

    monkeypatch.setattr(classification, "open_captures", in_pieces)
    batches = [[(row.ip, row.port, row.state) for row in batch] for batch in Classification(["-"], 0).batches()]
    told = [row for batch in batches for row in batch]
    whole = [(row.ip, row.port, row.state) for batch in Classification(["file"], 0).batches() for row in batch]
    early = {row[2] for batch in batches[:-1] for row in batch}
    assert (len(batches) > 2, early, sorted(told)) == (True, {"open"}, sorted(whole))
