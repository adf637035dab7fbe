"""Packets inside tunnels: found, kept apart by the tunnel's id, counted, and left alone where nobody wants them."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from scanner.classifier.classification import Classification
from scanner.cli import verbs as cli
from scanner.packet.parse import parse
from scanner.packet.tunnel import Tunnels
from scanner.results.read import read_results
from tests.builders import THEM, US, ethernet_batch, rst, segment, syn, synack, unreachable
from tests.capture_files import T, pcap_header, record
from tests.tunnels import WRAPS, gre_key, gtp, in_ipv6, ipip, nested, over, udp, vxlan

Row = tuple[str, str, str, str | None]


def capture(path: Path, frames: Sequence[bytes]) -> str:
    path.write_bytes(pcap_header() + b"".join(record("<", T + at, 0, data) for at, data in enumerate(frames)))
    return str(path)


def reading_of(path: Path, frames: Sequence[bytes], outer: bool = False) -> Classification:
    return Classification([capture(path, frames)], timeout=0, outer=outer)


def rows_of(reading: Classification) -> list[Row]:
    return [(row.ip, row.state, row.reason, row.tunnel) for batch in reading.batches() for row in batch]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", WRAPS)
def test_a_scan_inside_is_judged(name: str, version: int, tmp_path: Path) -> None:
    wrap, tunnel = WRAPS[name]
    reading = reading_of(tmp_path / "c", [wrap(syn(version), 7), wrap(synack(version), 7)])
    assert rows_of(reading) == [(THEM[version], "open", "syn-ack", tunnel)]
    kind = tunnel.partition(":")[0]
    assert reading.report() == ["2 packets: 1 probe to 1 target", f"packets inside tunnels: 2 {kind}"]


@pytest.mark.parametrize(("version", "tunnel"), [(4, "ipip"), (6, "6in4")])
def test_ip_in_ipv4(version: int, tunnel: str, tmp_path: Path) -> None:
    reading = reading_of(tmp_path / "c", [ipip(syn(version)), ipip(rst(version))])
    assert rows_of(reading) == [(THEM[version], "closed", "reset", tunnel)]


@pytest.mark.parametrize("version", [4, 6])
def test_ip_in_ipv6(version: int, tmp_path: Path) -> None:
    reading = reading_of(tmp_path / "c", [in_ipv6(syn(version)), in_ipv6(rst(version))])
    assert rows_of(reading) == [(THEM[version], "closed", "reset", "ipip")]


@pytest.mark.parametrize("name", WRAPS)
def test_the_outside_alone(name: str, tmp_path: Path) -> None:
    wrap, _ = WRAPS[name]
    outside = [syn(ethernet=True), rst(ethernet=True)]
    reading = reading_of(tmp_path / "c", [*outside, wrap(syn(), 7), wrap(synack(), 7)], outer=True)
    assert rows_of(reading) == [(THEM[4], "closed", "reset", None)]
    assert reading.report()[1:] == ["not judged: 2 other-protocol"]


APART = {
    "vni": [vxlan(syn(), 1), vxlan(syn(), 2), vxlan(synack(), 2), vxlan(rst(), 1)],
    "gre key": [gre_key(syn(), 1), gre_key(rst(), 1), gre_key(syn(), 2), gre_key(synack(), 2)],
    "teid": [gtp(syn(), 2), gtp(syn(), 1), gtp(synack(), 2), gtp(rst(), 1)],
}


@pytest.mark.parametrize("name", APART)
def test_two_customers_with_one_address_are_two_targets(name: str, tmp_path: Path) -> None:
    found = [(state, tunnel and tunnel[-1]) for _, state, _, tunnel in rows_of(reading_of(tmp_path / "c", APART[name]))]
    assert sorted(found) == [("closed", "1"), ("open", "2")]


def test_a_target_inside_is_not_the_one_outside(tmp_path: Path) -> None:
    frames = [syn(ethernet=True), vxlan(syn()), vxlan(synack()), rst(ethernet=True)]
    assert sorted(rows_of(reading_of(tmp_path / "c", frames)), key=str) == [
        (THEM[4], "closed", "reset", None),
        (THEM[4], "open", "syn-ack", "vxlan:7"),
    ]


@pytest.mark.parametrize("wrap", [vxlan, gre_key])
def test_an_answer_to_another_customer_opens_nothing(wrap: object, tmp_path: Path) -> None:
    assert callable(wrap)
    noise = wrap(rst(sport=9, dport=9, ack=9), 1)
    rows = rows_of(reading_of(tmp_path / "c", [wrap(syn(), 1), wrap(synack(), 2), noise]))
    assert [(state, reason) for _, state, reason, _ in rows] == [("filtered", "no-response")]


DIRECTIONS = {  # SYNs of two targets and the answer of the first, by the tunnels of both directions
    "gtp-u": ([gtp(syn(), 1), gtp(syn(dport=81), 1), gtp(synack(), 2)], "gtp-u:1"),
    "gtp-u, the answer stands first": ([gtp(synack(), 2), gtp(syn(), 1), gtp(syn(dport=81), 1)], "gtp-u:1"),
    "an answer without a tunnel": ([ipip(syn()), ipip(syn(dport=81)), synack(ethernet=True)], "ipip"),
    "erspan": (
        [WRAPS["erspan 2"][0](syn(), 1), WRAPS["erspan 2"][0](syn(dport=81), 1), WRAPS["erspan 2"][0](synack(), 2)],
        "erspan:1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIRECTIONS)
def test_tunnels_whose_id_differs_by_direction(name: str, tmp_path: Path) -> None:
    frames, tunnel = DIRECTIONS[name]
    reading = reading_of(tmp_path / "c", frames)
    assert rows_of(reading) == [
        (THEM[4], "filtered", "no-response", tunnel),
        (THEM[4], "open", "syn-ack", tunnel),
    ]
    assert not [line for line in reading.report() if "without a captured probe" in line]


def test_an_answer_that_fits_two_tunnels_is_given_to_none(tmp_path: Path) -> None:
    rows = rows_of(reading_of(tmp_path / "c", [gtp(syn(), 1), gtp(syn(), 2), gtp(synack(), 3)]))
    assert [state for _, state, _, _ in rows] == ["unknown", "unknown"]


def test_an_icmp_error_inside(tmp_path: Path) -> None:
    frames = [vxlan(syn()), vxlan(unreachable(code=13))]
    assert rows_of(reading_of(tmp_path / "c", frames)) == [(THEM[4], "filtered", "admin-prohibited", "vxlan:7")]


def test_a_tunnel_in_a_tunnel(tmp_path: Path) -> None:
    frames = [vxlan(ipip(packet)[14:]) for packet in (syn(), synack())]
    reading = reading_of(tmp_path / "c", frames)
    assert rows_of(reading) == [(THEM[4], "open", "syn-ack", "vxlan:7/ipip")]
    assert reading.report()[1:] == ["packets inside tunnels: 2 ipip, 2 vxlan"]


@pytest.mark.parametrize(("depth", "rows"), [(4, 1), (5, 0)])
def test_tunnels_are_followed_four_deep(depth: int, rows: int, tmp_path: Path) -> None:
    reading = reading_of(tmp_path / "c", [nested(syn(), depth), nested(synack(), depth)])
    assert len(rows_of(reading)) == rows
    named = [line for line in reading.report() if "tunnels nested too deep" in line]
    assert named == ([] if rows else ["not judged: 2 tunnels nested too deep"])


ARP_FRAME = bytes(12) + b"\x08\x06" + bytes(28)
VXLAN_7 = over(udp(4789)) + b"\x08\0\0\0\0\0\7\0"
GENEVE, GTP = over(udp(6081)), over(udp(2152))
NOT_READ = {  # what looks like a tunnel, or is one that holds something else
    "arp in vxlan": (VXLAN_7 + ARP_FRAME, "ARP"),
    "lldp in vxlan": (VXLAN_7 + bytes(12) + b"\x88\xcc" + bytes(30), "EtherType 0x88cc (LLDP)"),
    "vxlan without a vni": (over(udp(4789)) + bytes(8) + ARP_FRAME, "other-protocol"),
    "vxlan cut in its header": (over(udp(4789)) + b"\x08\0\0", "other-protocol"),
    "geneve control": (GENEVE + b"\0\x80\x65\x58" + bytes(40), "other-protocol"),
    "geneve whose options end outside": (GENEVE + b"\x3f\0\x65\x58" + bytes(40), "other-protocol"),
    "gtp-u echo": (GTP + b"\x32\x01\0\4" + bytes(8), "other-protocol"),
    "gtp-u extension of no length": (GTP + b"\x34\xff\0\x20" + bytes(7) + b"\x85" + bytes(40), "other-protocol"),
    "gtp-u extensions without end": (
        GTP + b"\x34\xff\0\x20" + bytes(7) + b"\x85" + b"\1\0\0\x85" * 40, "other-protocol",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_READ)
def test_what_cannot_be_read_inside_is_counted(name: str) -> None:
    frame, cause = NOT_READ[name]
    counts: Counter[str] = Counter()
    assert len(parse(ethernet_batch(lengthened(frame)), counts, None, Tunnels())) == 0
    assert +counts == Counter({cause: 1})


GRE = {"version 1": b"\0\1\x88\x0b", "routing": b"\x40\0\x08\0", "cut": b"\x20\0\x08"}


@pytest.mark.parametrize("name", GRE)
def test_gre_that_is_not_read_is_counted(name: str) -> None:
    counts: Counter[str] = Counter()
    frame = lengthened(over()[:23] + b"\x2f" + over()[24:] + GRE[name])
    assert len(parse(ethernet_batch(frame), counts, None, Tunnels())) == 0
    assert +counts == Counter({"GRE not understood": 1})


def lengthened(frame: bytes) -> bytes:
    """With the length of the IPv4 header set to what is there."""
    return frame[:16] + (len(frame) - 14).to_bytes(2, "big") + frame[18:]


@pytest.mark.parametrize("name", WRAPS)
def test_every_truncation(name: str) -> None:
    """A frame that is cut gives its segment from 14 bytes of the inner TCP on, and a count before."""
    frame = WRAPS[name][0](syn(), 7)
    least = frame.index(syn()) + 20 + 14
    for length in range(len(frame)):
        counts: Counter[str] = Counter()
        found = parse(ethernet_batch(frame[:length]), counts, None, Tunnels())
        assert (len(found), bool(+counts)) == ((1, False) if length >= least else (0, True)), length


def test_a_live_scan_does_not_look_inside() -> None:
    counts: Counter[str] = Counter()
    assert len(parse(ethernet_batch(vxlan(synack()), ipip(synack()), gtp(synack(), 1)), counts)) == 0
    assert +counts == Counter({"other-protocol": 3})


def test_a_million_ids_are_numbered_without_a_row_of_python_each() -> None:
    import numpy as np

    from scanner.packet.tunnel import Inside, Kind

    tunnels, ids = Tunnels(), np.arange(1 << 20)
    same = np.zeros(len(ids), np.int64)
    inside = Inside(same, same, same, same, np.full(len(ids), Kind.GTP_U), ids)
    numbers = tunnels.enter(same, inside)
    assert np.array_equal(np.sort(numbers), ids + 1)
    assert np.array_equal(tunnels.enter(same, inside), numbers)
    assert tunnels.text(int(numbers[70000])) == "gtp-u:70000"


def run(monkeypatch: pytest.MonkeyPatch, verb: str, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["halfopen", verb, *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


FRAMES = [
    vxlan(syn(), 1),
    vxlan(synack(), 1),
    vxlan(syn(), 2),
    vxlan(rst(), 2),
    syn(ethernet=True),
    segment(ethernet=True),
]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "xml"])
def test_every_format_that_is_read_back_keeps_the_tunnel(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = capture(tmp_path / "c.pcap", FRAMES)
    out = str(tmp_path / f"rows.{suffix}")
    assert run(monkeypatch, "classify", path, "-q", "--timeout", "0", "-o", out) == 0
    found = {(row.tunnel, row.state, row.scanner_ip) for row in read_results([out], lambda line: None)}
    assert found == {(None, "open", US[4]), ("vxlan:1", "open", US[4]), ("vxlan:2", "closed", US[4])}


def test_the_table_names_the_tunnel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = capture(tmp_path / "c.pcap", FRAMES)
    run(monkeypatch, "classify", path, "-q", "--timeout", "0")
    hosts = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert hosts == ["HOST", THEM[4], f"{THEM[4]} in vxlan:1", f"{THEM[4]} in vxlan:2"]


def test_diff_compares_each_tunnel_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = capture(tmp_path / "old.pcap", FRAMES)
    new = capture(tmp_path / "new.pcap", [*FRAMES[:3], vxlan(synack(), 2), *FRAMES[4:]])
    assert run(monkeypatch, "diff", old, new, "-q", "-f", "jsonl") == 1
    assert [line.count('"tunnel": "vxlan:2"') for line in capsys.readouterr().out.splitlines()] == [1]


def test_a_ladder_shows_the_packets_of_its_tunnel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = capture(tmp_path / "c.pcap", FRAMES)
    run(monkeypatch, "classify", path, "-q", "--timeout", "0", "--ladder")
    out = capsys.readouterr().out
    assert [out.count(f"<- {flags} ") for flags in ("SYN/ACK", "RST/ACK")] == [2, 1]
