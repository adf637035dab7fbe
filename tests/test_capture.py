"""Captures built by hand, byte by byte, and the rows that they must give.

A row is (time, link type, bytes). `reference_*` are plain sequential readers: the vectorised walk has
to agree with them on any bytes.
"""

import gzip
import os
import shutil
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.capture.pcap import pcap_batches
from scanner.capture.pcapng import pcapng_batches
from scanner.capture.reader import open_captures
from scanner.capture.records import (
    MAX_BLOCK,
    MAX_RECORD,
    SECTION_HEADER,
    SLACK,
    Chain,
    PcapngBlocks,
    PcapRecords,
    walk,
)
from scanner.capture.source import CAPACITY, NO_TIME, Capture, CaptureFile, Damage
from scanner.capture.writer import PcapWriter, check_path
from scanner.errors import ScanError, UsageError
from scanner.packet.headers import Frames
from tests.capture_files import (
    NG,
    PCAP_ROWS,
    PLAIN,
    WHOLE,
    A,
    B,
    C,
    Row,
    S,
    T,
    block,
    interface,
    option,
    packet,
    pcap_header,
    record,
    section,
    statistics,
)


def rows(capture: Capture) -> list[Row]:
    rows = []
    for frames in capture:
        for start, length, time, link in zip(frames.start, frames.length, frames.time, frames.link, strict=True):
            rows.append((int(time), int(link), frames.buffer[start : start + length].tobytes()))
    return rows


def frames_of(wanted: list[Row]) -> Frames:
    data = b"".join(row[2] for row in wanted)
    length = np.array([len(row[2]) for row in wanted], np.int64)
    time, link = np.array([row[0] for row in wanted]), np.array([row[1] for row in wanted], np.uint16)
    return Frames(np.frombuffer(data, np.uint8), np.cumsum(length) - length, length, time, link)


def put(tmp_path: Path, data: bytes, name: str = "some.cap") -> str:
    path = tmp_path / name
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_whole_captures(tmp_path: Path, name: str, pack: type[bytes]) -> None:
    data, wanted = WHOLE[name]
    reader = open_captures([put(tmp_path, pack(data))])
    assert (rows(reader), reader.damage, reader.opened) == (wanted, [], 1)


RESOLUTIONS = {  # if_tsresol → ticks for one second and a half
    0: (1, S), 3: (1500, 1_500_000_000), 6: (1_500_000, 1_500_000_000), 9: (1_500_000_000, 1_500_000_000),
    12: (1_500_000_000_000, 1_500_000_000), 19: (15 * 10**18, 1_500_000_000), 25: (15 * 10**18, 1500), 127: (1, 0),
    0x80: (1, S), 0x81: (3, 1_500_000_000), 0x80 + 20: (3 << 19, 1_500_000_000), 0x80 + 40: (3 << 39, 1_500_000_000),
    0x80 + 63: (3 << 62, 1_500_000_000), 0x80 + 64: (1 << 63, 500_000_000), 0xFF: (1, 0),
}  # fmt: skip


@pytest.mark.parametrize("unit", RESOLUTIONS)
@pytest.mark.parametrize("offset", [0, T, -5])
def test_clock_of_an_interface(tmp_path: Path, unit: int, offset: int) -> None:
    ticks, time = RESOLUTIONS[unit]
    options = option("<", 9, bytes([unit])) + option("<", 14, struct.pack("<q", offset))
    data = section("<") + interface("<", 1, 0, options) + packet("<", 0, ticks, A) + statistics("<", 0, ticks)
    reader = open_captures([put(tmp_path, data)])
    assert (rows(reader), reader.end_time) == ([(time + offset * S, 1, A)], time + offset * S)


def test_a_time_beyond_64_bits_of_nanoseconds_is_no_time(tmp_path: Path) -> None:
    reader = open_captures([put(tmp_path, section("<") + interface("<", 1) + packet("<", 0, (1 << 64) - 1, A))])
    assert (rows(reader), reader.has_untimed, reader.largest_time) == ([(NO_TIME, 1, A)], True, NO_TIME)


def test_counts(tmp_path: Path) -> None:
    bad = packet("<", 5, 1, A) + packet("<", 1, 1, B) + interface("<", 276)  # 1 is described only afterwards
    longer = block("<", 6, struct.pack("<IIIII", 0, 0, 0, 400, 400) + C)
    data = NG + bad + longer + packet("<", 1, (T + 9) * 10**6, C) + statistics("<", 0, (T + 20) * 10**6)
    reader = open_captures([put(tmp_path, data)])
    assert rows(reader) == [*PCAP_ROWS, ((T + 9) * S, 276, C)]
    assert reader.skipped == Counter({"no such interface": 2, "packet longer than its block": 1})
    assert reader.frames == 3
    assert (reader.largest_time, reader.end_time, reader.has_untimed) == ((T + 9) * S, (T + 20) * S, False)


LIE = struct.pack("<IIIII", 0, 0, 0, 0, 0)
DAMAGED = {
    "empty": (b"", 0, 0, "the file is empty"),
    "text": (b"hello, world, this is no capture", 0, 0, "not a pcap or pcapng file"),
    "two bytes": (b"\xd4\xc3", 0, 0, "not a pcap or pcapng file"),
    "cut header": (PLAIN[:20], 0, 0, "the file ends inside its 24-byte header"),
    "cut record header": (PLAIN[:60], 1, 52, "the file ends inside a record header"),
    "cut record": (PLAIN[:-2], 1, 52, "the file ends inside a record: 4 of 6 bytes are there"),
    "claim of 4 GB": (
        PLAIN + struct.pack("<IIII", T, 3, 0xFFFFFFFF, 60) + bytes(99), 2, 74,
        "a record claims 4,294,967,295 bytes, more than any capture holds; nothing after it can be found",
    ),
    "claim of 200 KB": (PLAIN + struct.pack("<IIII", T, 3, 200_000, 60) + bytes(99), 2, 74,
                        "the file ends inside a record: 99 of 200,000 bytes are there"),
    "cut block": (NG[:-3], 1, 92, "the file ends inside a block"),
    "two lengths": (NG + struct.pack("<II", 9, 16) + bytes(8) + NG, 2, 132,
                    "a block of type 9 has two lengths, 16 and 0; the rest cannot be found"),
    "length of 5": (NG + struct.pack("<II", 9, 5) + LIE, 2, 132,
                    "a block of type 9 claims 5 bytes; the rest cannot be found"),
    "packet of 1 GB": (NG + struct.pack("<II", 6, 1 << 30) + LIE, 2, 132,
                       "a block of type 6 claims 1,073,741,824 bytes; the rest cannot be found"),
    "unknown of 1 GB": (NG + struct.pack("<II", 9, 1 << 30) + LIE, 2, 132,
                        "the file ends inside a block of type 9 that claims 1,073,741,824 bytes"),
    "second section cut": (NG + section(">")[:20], 2, 132, "the file ends inside a section header"),
    "no byte order": (section("<").replace(b"\x4d\x3c", b"\x00\x00"), 0, 0, "a section header without a byte order"),
    "pcapng 3": (section("<").replace(b"\x1a\1\0", b"\x1a\3\0"), 0, 0, "a section of the unknown pcapng version 3"),
    "section of 8": (section("<").replace(b"\x1c\0\0\0", b"\x08\0\0\0"), 0, 0, "a section header claims 8 bytes"),
    "gzip cut": (gzip.compress(PLAIN)[:-10], None, None, "the gzip data ends early"),
    "gzip checksum": (gzip.compress(PLAIN)[:-8] + bytes(8), 2, 74, "damaged gzip data"),
    "gzip and text": (gzip.compress(PLAIN) + b"text", 2, 74, "something that is not gzip follows the gzip data"),
    "gzip of nothing": (gzip.compress(b""), 0, 0, "the file is empty"),
    "gzip in name": (b"\x1f\x8b but not gzip at all", 0, 0, "damaged gzip data"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_names_file_offset_and_cause(tmp_path: Path, name: str) -> None:
    data, whole, offset, cause = DAMAGED[name]
    path = put(tmp_path, data)
    reader = open_captures([path])
    delivered = rows(reader)
    first = reader.damage[0]
    if whole is None:  # how much a cut gzip stream still yields depends on zlib
        assert (first.file, first.cause, PCAP_ROWS[: len(delivered)]) == (path, cause, delivered)
    else:
        assert (delivered, reader.damage) == (PCAP_ROWS[:whole], [Damage(path, offset, cause)])


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    missing, folder, good = str(tmp_path / "missing.pcap"), str(tmp_path), put(tmp_path, PLAIN)
    reader = open_captures([missing, folder, good])
    assert (rows(reader), reader.opened) == (PCAP_ROWS, 1)
    assert sorted(map(str, reader.damage)) == sorted(
        [f"{missing}: byte 0: cannot open: No such file or directory", f"{folder}: byte 0: cannot open: Is a directory"]
    )


def test_gzip_members_and_padding(tmp_path: Path) -> None:
    data = gzip.compress(PLAIN[:40]) + gzip.compress(b"") + gzip.compress(PLAIN[40:]) + bytes(700)
    reader = open_captures([put(tmp_path, data)])
    assert (rows(reader), reader.damage) == (PCAP_ROWS, [])


def test_records_across_block_boundaries(tmp_path: Path) -> None:
    """Many small reads must give what one large read gives, for pcap, pcapng and gzip."""
    wanted = [((T + n) * S, 1, bytes([n % 251]) * (n % 1500)) for n in range(1500)]
    name = {path: str(tmp_path / path) for path in ("a.pcap", "b.pcapng", "c.pcapng.gz")}
    for path in name.values():
        writer = PcapWriter(path, {1})
        writer.write(frames_of(wanted), "")
        writer.close(0, 0, 0)
    for path in name.values():
        capture = Capture()
        file = CaptureFile(path, capture, MAX_BLOCK + 1000)
        capture.batches = pcap_batches(file) if path.endswith(".pcap") else pcapng_batches(file)
        assert (rows(capture) == wanted, capture.damage) == (True, [])
        file.close()


def chunk(times: range, tag: bytes) -> tuple[bytes, list[Row]]:
    data = pcap_header() + b"".join(record("<", T, time, tag + b"%d" % time) for time in times)
    return data, [(T * S + time * 1000, 1, tag + b"%d" % time) for time in times]


@pytest.mark.parametrize(
    "spans",
    [
        [range(0, 5), range(5, 9), range(9, 12)],
        [range(9, 12), range(0, 5), range(5, 9)],
        [range(0, 400, 2), range(1, 400, 2)],
        [range(0, 300), range(100, 200), range(150, 500, 3)],
        [range(0), range(4, 50, 2), range(1, 90, 2)],
    ],
)
def test_several_files_are_one_capture_in_time_order(tmp_path: Path, spans: list[range]) -> None:
    chunks = [chunk(span, b"%d:" % number) for number, span in enumerate(spans)]
    paths = [put(tmp_path, data, f"{number}.pcap") for number, (data, _) in enumerate(chunks)]
    reader = open_captures(paths)
    assert (rows(reader), reader.opened) == (sorted(row for _, some in chunks for row in some), len(spans))


def test_a_pipe_delivers_what_has_arrived() -> None:
    out, into = os.pipe()
    reader = open_captures([f"/dev/fd/{out}"])
    os.write(into, PLAIN)
    first = next(iter(reader))
    assert [len(first), os.write(into, record("<", T, 3, C))] == [2, 16 + len(C)]
    os.close(into)
    assert rows(reader) == [(T * S + 3000, 1, C)]
    os.close(out)


def test_standard_input() -> None:
    code = (
        "from scanner.capture.reader import open_captures; r = open_captures(['-']); print(sum(map(len, r)), r.damage)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=gzip.compress(PLAIN), capture_output=True, check=True)
    assert done.stdout == b"2 []\n"


def test_only_python_and_numpy_are_needed() -> None:
    code = (
        "import socket, sys; del socket.AF_PACKET; import scanner.capture.reader, scanner.packet.link;"
        "print({'scapy', 'typer', 'netaddr', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"set()\n"


def reference_pcap(chain: PcapRecords, data: bytes) -> tuple[list[int], int]:
    at, positions = 0, []
    while at + chain.head <= len(data):
        length = struct.unpack_from(chain.order + "I", data, at + 8)[0]
        if length > MAX_RECORD or at + chain.head + length > len(data):
            break
        positions.append(at)
        at += chain.head + length
    return positions, at


def reference_pcapng(chain: PcapngBlocks, data: bytes) -> tuple[list[int], int]:
    at, positions = 0, []
    while at + 12 <= len(data):
        kind, length = struct.unpack_from(chain.order + "II", data, at)
        if kind == SECTION_HEADER or length % 4 or not 12 <= length <= min(MAX_BLOCK, len(data) - at):
            break
        if data[at + length - 4 : at + length] != data[at + 4 : at + 8]:
            break
        positions.append(at)
        at += length
    return positions, at


def walked(chain: Chain, data: bytes) -> tuple[list[int], int]:
    buffer = np.frombuffer(data + b"\xa5" * SLACK, np.uint8)
    at, stop = walk(chain, buffer, 0, len(data))
    return at.tolist(), stop


def build(kind: str, order: str, seed: int, count: int, damage: int) -> bytes:
    """A long stream of records; the payload of some is itself a stream of records; then some bits are flipped."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([[0, 1, 54, 58], [54, 58, 58, 1514], [4, 60, 300, 700]][seed % 3], count)

    def one(n: int, data: bytes) -> bytes:
        if kind == "pcapng":
            return packet(order, 0, n, data)
        return record(order, T + n, n, data, None, bytes(8) if kind == "modified" else b"")

    inner = b"".join(one(n, b"\7" * 40) for n in range(90))
    parts = []
    for n, size in enumerate(sizes.tolist()):
        payload = inner[:size] if n % 3 == 0 else rng.bytes(size)
        parts.append(one(n, inner[n % 24 :] if n % 151 == 0 and seed % 2 else payload))
    stream = bytearray(b"".join(parts))
    for place in rng.integers(0, len(stream), damage).tolist():
        stream[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(stream)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["pcap", "modified", "pcapng"]),
    order=st.sampled_from("<>"),
    seed=st.integers(0, 1 << 32),
    count=st.sampled_from([0, 3, 33, 5000, 9000]),
    damage=st.sampled_from([0, 0, 1, 5]),
    cut=st.integers(0, 80),
)
def test_the_walk_equals_the_sequential_one(
    kind: str, order: str, seed: int, count: int, damage: int, cut: int
) -> None:
    data = build(kind, order, seed, count, damage if count else 0)
    data = data[: max(0, len(data) - cut)]
    if kind == "pcapng":
        blocks = PcapngBlocks(order)
        assert walked(blocks, data) == reference_pcapng(blocks, data)
    else:
        records = PcapRecords(order, 24 if kind == "modified" else 16)
        assert walked(records, data) == reference_pcap(records, data)


def test_the_walk_takes_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above needs lanes: on a plain stream, nearly all records must come from lock step."""
    by_hand = []
    run = PcapRecords.run

    def counting(self: PcapRecords, *arguments: object) -> tuple[list[int], int, bool]:
        result = run(self, *arguments)  # type: ignore[arg-type]
        by_hand.extend(result[0])
        return result

    monkeypatch.setattr(PcapRecords, "run", counting)
    data = b"".join(record("<", T, n, b"x" * (54 + n % 5)) for n in range(9000))
    assert (len(walked(PcapRecords("<"), data)[0]), len(by_hand) < 300) == (9000, True)


MIXED = [(T * S + 1, 1, A), (T * S + 2, 1, B), (T * S + 4, 1, C), (T * S + 9, 1, b""), (T * S + 12, 1, C)]


@pytest.mark.parametrize("name", ["x.pcap", "x.pcap.gz", "x.pcapng", "x.pcapng.gz"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    writer = PcapWriter(path, {1})
    writer.write(frames_of(MIXED[:2]), "eth0")
    writer.write(frames_of([]), "eth0")
    writer.write(frames_of(MIXED[2:]), "eth0")
    before_close = rows(open_captures([path]))
    writer.close(started=T * S, ended=(T + 5) * S, dropped=0)
    reader = open_captures([path])
    assert (before_close, rows(reader), reader.damage) == (MIXED, MIXED, [])
    assert reader.end_time == ((T + 5) * S if "ng" in name else NO_TIME)


def test_pcapng_keeps_interfaces_apart(tmp_path: Path) -> None:
    path = str(tmp_path / "x.pcapng")
    wanted = [(T * S, 1, A), (T * S + 1, 101, B), (T * S + 2, 1, C)]
    writer = PcapWriter(path, {1, 101})
    writer.write(frames_of(wanted), "eth0")
    writer.write(frames_of(wanted), "eth1")
    writer.close(0, 0, 0)
    reader = open_captures([path])
    assert (rows(reader), writer.interfaces) == (
        wanted * 2,
        {(1, "eth0"): 0, (101, "eth0"): 1, (1, "eth1"): 2, (101, "eth1"): 3},
    )


@pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")
@pytest.mark.parametrize("name", ["x.pcap", "x.pcap.gz", "x.pcapng", "x.pcapng.gz"])
def test_tshark_reads_what_is_written(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    writer = PcapWriter(path, {1})
    writer.write(frames_of([row for row in MIXED if row[2]]), "eth0")
    writer.close(0, 0, dropped=1)
    command = ["tshark", "-r", path, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.cap_len"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wanted = [f"{time // S}.{time % S:09d}\t{len(data)}" for time, _, data in MIXED if data]
    assert done.stdout.splitlines() == wanted


def test_records_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot record to x\.txt: the name must end in \.pcap or \.pcapng"):
        check_path("x.txt", force=False)
    with pytest.raises(UsageError, match=r"none/x\.pcap. cannot be written \(No such file or directory\)"):
        PcapWriter(str(tmp_path / "none" / "x.pcap"), {1})
    with pytest.raises(UsageError, match=r"can hold one kind of link and this scan uses 2: record to .*x\.pcapng\.gz"):
        PcapWriter(str(tmp_path / "x.pcap.gz"), {1, 101})


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "x.pcap").symlink_to("/dev/full")
    with pytest.raises(ScanError, match=r"cannot record to .*x\.pcap: No space left on device"):
        PcapWriter(str(tmp_path / "x.pcap"), {1})


def test_memory_is_flat(tmp_path: Path) -> None:
    """A file that is larger than the buffer goes through one and the same buffer."""
    path = str(tmp_path / "x.pcap")
    writer = PcapWriter(path, {1})
    for _ in range(8):
        writer.write(frames_of([(T * S, 1, bytes(1000))] * 1000), "")
    writer.close(0, 0, 0)
    sizes = {len(frames.buffer) for frames in open_captures([path])}
    assert sizes == {CAPACITY + SLACK}
