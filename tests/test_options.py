"""Window, MSS and options of the SYN/ACK: right in every row that rests on one, and absent where they are not known.

Hostile options (no length, too long, cut) never raise, and nothing is said that was not there.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from scanner.classifier.flow_numbers import NEVER
from scanner.classifier.flows import Flows
from scanner.classifier.judge import judge
from scanner.classifier.rows import rows
from scanner.classifier.settle import settle
from scanner.halfopen.scan import Settings
from scanner.output import Run, Summary, open_sinks
from scanner.packet.headers import Frames
from scanner.packet.tunnel import Tunnels
from scanner.results.read import read_results
from scanner.verdict import details
from scanner.verdict.rows import Verdict
from scanner.verdicts import Verdicts
from tests.builders import (
    OUR_PORT,
    THEIR_PORT,
    THEM,
    US,
    batch,
    ethernet_batch,
    network,
    rst,
    segment,
    syn,
    unreachable,
)
from tests.command import halfopen
from tests.memory import Host
from tests.simulation import Clock, bench_of, lane_of, memory

Said = tuple[int | None, int | None, str | None]
NOISE = rst(sport=9, dport=9, ack=9)
LINUX = bytes.fromhex("020405b40402080a11223344556677880103030a")


def answer(options: bytes, version: int = 4, words: int | None = None, sport: int = THEIR_PORT, **tcp: int) -> bytes:
    """A SYN/ACK with these bytes behind its header. `words`: the length of the header, as it says itself."""
    fields = {"sport": sport, "dport": OUR_PORT, "seq": 77, "ack": 1001, "window": 65160} | tcp
    header = TCP(flags="SA", dataofs=5 + len(options) // 4 if words is None else words, **fields)
    return bytes(network(version, THEM[version], US[version]) / header / options)


def flows_of(*batches: Frames, tunnels: Tunnels | None = None) -> Flows:
    flows = Flows(tunnels)
    for frames in batches:
        flows.feed(frames)
    settle(flows)
    return flows


def read(*batches: Frames, tunnels: Tunnels | None = None) -> list[Verdict]:
    """The rows of a capture that is read in these batches."""
    flows = flows_of(*batches, tunnels=tunnels)
    return list(rows(flows, judge(flows, NEVER, False, False).whole()))


def said(frames: Sequence[bytes], times: Sequence[int] | None = None) -> list[Said]:
    return [(row.window, row.mss, row.options) for row in read(batch(*frames, times=times))]


OPTIONS: dict[str, tuple[bytes, int | None, str]] = {
    "none": (b"", None, "none"),
    "Linux": (LINUX, 1460, "mss,sok,ts,nop,ws=10"),
    "another clock": (LINUX[:8] + b"\xff" * 8 + LINUX[16:], 1460, "mss,sok,ts,nop,ws=10"),
    "Windows": (bytes.fromhex("020405b40103030801010402"), 1460, "mss,nop,ws=8,nop,nop,sok"),
    "the end of the list": (bytes.fromhex("0204ffff00b40402"), 65535, "mss,eol+3"),
    "only the end": (bytes(4), None, "eol+3"),
    "MSS 0": (bytes.fromhex("02040000"), 0, "mss"),
    "a kind without a length": (bytes.fromhex("030303ff"), None, "ws=3,bad"),
    "scale 255": (bytes.fromhex("0303ff01"), None, "ws=255,nop"),
    "two of each": (bytes.fromhex("020400010204000203030103030301010101"[:32]), 2, "mss,mss,ws,ws=3,nop,nop"),
    "SACK blocks": (bytes.fromhex("050a" + "00" * 8 + "0101"), None, "sack,nop,nop"),
    "unknown kinds": (bytes.fromhex("220a0011223344556677fe02"), None, "?34,?254"),
    "an MSS of the wrong length": (bytes.fromhex("020305040402"[:8]), None, "?2,bad"),
    "a scale of the wrong length": (bytes.fromhex("03040707"), None, "?3"),
    "40 times nothing": (b"\1" * 40, None, ",".join(["nop"] * 40)),
    "length 0": (bytes.fromhex("020405b403000000"), 1460, "mss,bad"),
    "length 1": (bytes.fromhex("020405b403010000"), 1460, "mss,bad"),
    "a length beyond the header": (bytes.fromhex("020405b4080a0000"), 1460, "mss,bad"),
    "no room for a length": (bytes.fromhex("01010102"), None, "nop,nop,nop,bad"),
    "all bits": (b"\xff" * 40, None, "bad"),
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("options", "mss", "text"), OPTIONS.values(), ids=OPTIONS)
def test_what_a_capture_shows(options: bytes, mss: int | None, text: str, version: int) -> None:
    assert said([syn(version), answer(options, version)]) == [(65160, mss, text)]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("options", "mss", "text"), OPTIONS.values(), ids=OPTIONS)
def test_what_a_scan_is_told(options: bytes, mss: int | None, text: str, version: int) -> None:
    clock, them = Clock(), THEM[version]
    wire = memory({them: Host({22: "open", 113: "reject-reset"}, options=options)}, clock)
    bench = bench_of(clock, [lane_of(wire, them, (22, 80, 113))], Settings(timeout=1.0))
    bench.run()
    found = {row.port: (row.window, row.mss, row.options) for row in bench.rows}
    assert found == {22: (64240, mss, text), 80: (None,) * 3, 113: (None,) * 3}


NOT_WHOLE = {
    "a header of four words": (answer(b"", words=4), (65160, None, None)),
    "a header of no words": (answer(b"", words=0), (65160, None, None)),
    "a header beyond the packet": (answer(LINUX, words=15), (65160, None, None)),
}


@pytest.mark.parametrize(("frame", "expected"), NOT_WHOLE.values(), ids=NOT_WHOLE)
def test_a_header_that_contradicts_its_packet_has_no_options(frame: bytes, expected: Said) -> None:
    assert said([syn(), frame]) == [expected]


@pytest.mark.parametrize("version", [4, 6])
def test_what_a_capture_cut_is_absent(version: int) -> None:
    """Other bytes stand behind the frame, and are not taken for options."""
    whole, ip = answer(LINUX, version), 20 if version == 4 else 40
    found = [said([syn(version), whole[:length], NOISE]) for length in range(ip + 14, len(whole) + 1)]
    window, mss, text = 65160, 1460, "mss,sok,ts,nop,ws=10"
    assert found == [[(None, None, None)]] * 2 + [[(window, None, None)]] * 24 + [[(window, mss, text)]]


def test_bytes_behind_a_packet_in_a_tunnel_are_not_its_options() -> None:
    """A mirror that cuts packets leaves padding behind them."""

    def carried(packet: bytes) -> bytes:
        macs = {"src": "02:00:00:00:00:03", "dst": "02:00:00:00:00:04"}
        outside = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=50000, dport=4789) / VXLAN(vni=7, flags="Instance")
        return bytes(Ether(**macs) / outside / Ether(**macs, type=0x800) / packet) + b"\1" * 20

    frames = ethernet_batch(carried(syn()), carried(answer(LINUX)[:-12]))
    assert [(row.window, row.options) for row in read(frames, tunnels=Tunnels())] == [(65160, None)]


FIRST, SECOND = answer(b"\1" * 4, window=900), answer(LINUX, window=100)


@pytest.mark.parametrize("order", [[0, 1, 2], [0, 2, 1], [2, 1, 0]])
def test_of_two_syn_acks_the_first_one_counts(order: list[int]) -> None:
    """Also where it stands behind the second one in the file."""
    frames, times = [syn(), FIRST, SECOND], [1, 2, 3]
    found = said([frames[each] for each in order], [times[each] for each in order])
    assert found == [(900, None, "nop,nop,nop,nop")]


def test_a_syn_ack_wins_over_a_reset_that_came_first() -> None:
    assert said([syn(), rst(), answer(LINUX)]) == [(65160, 1460, "mss,sok,ts,nop,ws=10")]


ABSENT: dict[str, Callable[[], list[bytes]]] = {
    "closed": lambda: [syn(), rst()],
    "silent": lambda: [syn()],
    "an error of a router": lambda: [syn(), unreachable()],
    "an answer that was not captured": lambda: [
        syn(), segment("A", src=US[4], dst=THEM[4], sport=OUR_PORT, dport=THEIR_PORT, seq=1001, ack=78),
        segment("PA", seq=78, payload=b"hello", window=501),
    ],
    "a split handshake": lambda: [
        syn(), segment("S", seq=77, ack=0), segment("SA", src=US[4], dst=THEM[4], sport=OUR_PORT, dport=THEIR_PORT,
                                                    seq=1000, ack=78), segment("A", seq=78),
    ],
}  # fmt: skip


@pytest.mark.parametrize("frames", ABSENT.values(), ids=ABSENT)
def test_other_rows_have_none_of_it(frames: Callable[[], list[bytes]]) -> None:
    assert said(frames())[0] == (None, None, None)


# Mostly options that systems send, so that layouts repeat, and some of any bytes.
FIELDS = st.one_of(
    st.sampled_from([options for options, _, _ in OPTIONS.values()]),
    st.binary(min_size=40, max_size=40),
    st.lists(st.sampled_from([b"\1", b"\4\2", b"\3\3\7", b"\2\4\5\xb4", b"\2\4\5\x50", b"\x08\n" + bytes(8), b"\0"]),
             max_size=8).map(lambda parts: (b"".join(parts) + bytes(3))[: len(b"".join(parts)) + 3 & ~3][:40]),
)  # fmt: skip


@given(st.lists(FIELDS, min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_options_are_the_same_in_one_batch_and_alone(fields: list[bytes]) -> None:
    """Also where a batch has more layouts than are compared by columns."""
    port = range(1, len(fields) + 1)
    probes = [syn(dport=each) for each in port]
    answers = [answer(options, sport=each) for each, options in zip(port, fields, strict=True)]
    together = read(batch(*probes, *answers))
    alone = read(batch(*probes), *[batch(each, times=[100]) for each in answers])
    assert [(row.window, row.mss, row.options) for row in together] == [
        (row.window, row.mss, row.options) for row in alone
    ]
    assert [row.options is None for row in together] == [False] * len(fields)


def test_a_batch_may_have_many_layouts() -> None:
    """More than are compared by columns, each with an MSS and a scale of its own."""
    numbers = range(1, 61)
    kinds = {each: f"{each:06b}" for each in numbers}
    bodies = {each: b"".join(b"\4\2" if bit == "1" else b"\1\1" for bit in kinds[each]) for each in numbers}
    answers = [answer(bytes([2, 4, 5, each, *bodies[each], 3, 3, each, 1]), sport=each) for each in numbers]
    found = said([*[syn(dport=each) for each in numbers], *answers])
    words = {each: ",".join("sok" if bit == "1" else "nop,nop" for bit in kinds[each]) for each in numbers}
    assert found == [(65160, 0x500 + each, f"mss,{words[each]},ws={each},nop") for each in numbers]


def test_random_options_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of later batches nothing is said, and the window is still right."""
    monkeypatch.setattr(details, "MOST_OPTIONS", 10)
    probes = batch(*[syn(dport=port) for port in range(1, 31)])
    answers = [batch(answer(bytes([2, 4, 0, port]), sport=port), times=[100]) for port in range(1, 31)]
    found = read(probes, *answers)
    assert [(row.window, row.mss) for row in found] == [(65160, port if port <= 8 else None) for port in range(1, 31)]


# ── files ──

FULL = Verdict("192.0.2.7", 22, "open", "syn-ack", ttl=64, service="ssh", window=0, mss=0, options="mss,ws=0")
PLAIN = Verdict("192.0.2.7", 80, "open", "syn-ack", ttl=64, service="http", window=65535, options="none")
WITHOUT = Verdict("192.0.2.7", 81, "closed", "reset", ttl=64)


def written(path: Path, *verdicts: Verdict) -> str:
    outputs = open_sinks("list", [str(path)], run=Run())
    outputs.write(list(verdicts))
    outputs.finish(Summary())
    return str(path)


@pytest.mark.parametrize("name", ["scan.jsonl", "scan.csv", "scan.csv.gz"])
def test_a_file_reads_back(name: str, tmp_path: Path) -> None:
    path = written(tmp_path / name, FULL, PLAIN, WITHOUT)
    assert list(read_results([path], print)) == [FULL, PLAIN, WITHOUT]


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "old.csv", FULL, PLAIN)
    lines = Path(path).read_text().replace('"mss,ws=0"', "").splitlines()
    Path(path).write_text("".join(",".join(line.split(",")[:20]) + "\n" for line in lines))
    assert [(row.port, row.window, row.mss, row.options) for row in read_results([path], print)] == [
        (22, None, None, None), (80, None, None, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "said"),
    [('"window": 65536', "window 65536 is out of range"), ('"mss": -1', "mss -1 is out of range"),
     ('"mss": "1460"', "mss '1460' is not what a verdict holds"), ('"options": 5', "options 5 is not what"),
     (f'"options": "{"nop," * 500}"', "has a name that is too long")],
)  # fmt: skip
def test_hostile_values_are_refused(key: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scan.jsonl").write_text(
        f'{{"ip": "192.0.2.7", "port": 22, "state": "open", "reason": "syn-ack", {key}}}\n'
    )
    assert halfopen("diff", str(tmp_path / "scan.jsonl"), str(tmp_path / "scan.jsonl")) == 2
    assert said in capsys.readouterr().err


def test_diff_does_not_compare_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = written(tmp_path / "old.jsonl", FULL, PLAIN)
    new = written(tmp_path / "new.csv", FULL._replace(window=1, mss=9, options="bad"), PLAIN._replace(window=None))
    capsys.readouterr()
    assert (halfopen("diff", old, new, "--reasons", "-f", "jsonl"), capsys.readouterr().out) == (0, "")


def test_numpy_columns_have_their_types() -> None:
    table = Verdicts([], [], iter([[FULL, PLAIN, WITHOUT]])).to_numpy()
    assert table[["window", "mss", "options"]].tolist() == [(0, 0, "mss,ws=0"), (65535, -1, "none"), (-1, -1, "")]
    assert (table.dtype["window"], table.dtype["mss"]) == (np.int32, np.int32)
