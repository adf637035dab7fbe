"""Frames that are strange below TCP: rejected by cause, judged but counted, or said.

The peer answers each probe with a frame that would be a proof, but for one thing.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from scanner.classifier.classification import Classification
from scanner.lab import Box, PortKind
from scanner.lab.box import INTERFACE, PEER, SCANNER, TARGET, add_addresses, cable, new_namespace
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.liar import Liar, Lies, Probe
from tests.live.syn_wire import SYN_ACK, scan

pytestmark = LIVE

VERSIONS = pytest.mark.parametrize("version", [4, 6])
SILENT, OPEN = ("filtered", "no-response"), ("open", "syn-ack")


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with direct_box() as made:
        made.listen([22])
        made.install({PortKind.DROP: ["1000-1099"]})
        yield made


def proof(probe: Probe, ttl: int = 64) -> bytes:
    """The right answer."""
    return probe.packet(6, probe.tcp(SYN_ACK, probe.segment.seq + 1), ttl=ttl)


def tagged(frame: bytes, tag: int) -> bytes:
    return frame[:12] + b"\x81\x00" + tag.to_bytes(2, "big") + frame[12:]


def strange(probe: Probe) -> Iterator[bytes]:
    """One frame of each kind that is rejected."""
    yield b"\x02\x00\x00\x00\x99\x99" + proof(probe)[6:]
    yield tagged(proof(probe), 5)
    yield proof(probe, ttl=0)
    loopback = b"\x7f\x00\x00\x01" if probe.four else bytes(15) + b"\x01"
    multicast = b"\xe0\x00\x00\x01" if probe.four else b"\xff\x02" + bytes(13) + b"\x01"
    for sender in (loopback, probe.us, multicast):
        yield probe.error(probe.quote, sender=sender)


CAUSES = ("other-mac", "vlan-tag", "ttl-zero", "icmp-from-loopback", "icmp-from-us", "icmp-from-multicast")


@VERSIONS
def test_strange_frames_are_rejected_by_cause(box: Box, version: int, tmp_path: Path) -> None:
    """The recording of the scan gives the same rows."""
    target = box.target_ip if version == 4 else box.target_ip6
    stats, record = tmp_path / "stats.json", tmp_path / "scan.pcap"
    with Liar(box, version, strange):
        done = scan(box, target, "-p", "22,1000-1009", "--rate", "1000", "--stats", str(stats), "--record", str(record))
    rejected = json.loads(stats.read_text())["rejected"]
    rows = sorted([(22, *OPEN), *((port, *SILENT) for port in range(1000, 1010))])
    assert done.brief("port", "state", "reason") == sorted(rows, key=repr)
    assert [cause for cause in CAUSES if rejected.get(cause, 0) < 20] == []
    assert {cause for line in done.errors if line.startswith("rejected: ") for cause in CAUSES if cause in line} == set(
        CAUSES
    )
    [again] = [list(batch) for batch in Classification([str(record)], timeout=0).batches()]
    assert sorted((row.port, row.state, row.reason) for row in again) == rows


@VERSIONS
def test_a_priority_without_a_vlan_is_no_vlan(box: Box, version: int) -> None:
    """IEEE 802.1Q: VLAN number 0 says that the tag has a priority only."""
    target = box.target_ip if version == 4 else box.target_ip6
    with Liar(box, version, lambda probe: iter([tagged(proof(probe), 5 << 13)])):
        done = scan(box, target, "-p", "1000-1003")
    assert done.brief("port", "state", "reason") == [(port, *OPEN) for port in range(1000, 1004)]


def damaged(probe: Probe) -> Iterator[bytes]:
    """A SYN/ACK with a wrong TCP checksum."""
    frame = bytearray(proof(probe))
    frame[14 + (20 if probe.four else 40) + 16] ^= 0x55
    yield bytes(frame)


def damaged_above(probe: Probe) -> Iterator[bytes]:
    """A SYN/ACK whose IPv4 header has a wrong checksum."""
    frame = bytearray(proof(probe))
    frame[24:26] = b"\x12\x34"
    yield bytes(frame)


DAMAGE = pytest.mark.parametrize(("version", "lie"), [(4, damaged), (6, damaged), (4, damaged_above)])


@DAMAGE
def test_a_host_whose_every_checksum_is_wrong_is_named(box: Box, version: int, lie: Lies, tmp_path: Path) -> None:
    target = box.target_ip if version == 4 else box.target_ip6
    stats, record = tmp_path / "stats.json", tmp_path / "scan.pcapng"
    with Liar(box, version, lie):
        done = scan(box, target, "-p", "1000-1003", "--stats", str(stats), "--record", str(record))
    assert done.brief("port", "state", "reason", "evidence") == [
        (port, *OPEN, ("bad-checksum",)) for port in range(1000, 1004)
    ]
    assert json.loads(stats.read_text())["bad_checksums"] >= 4
    assert [line for line in done.errors if "with a wrong checksum, judged like the others" in line]
    [again] = [list(batch) for batch in Classification([str(record)], timeout=0).batches()]
    assert {"bad-checksum" in row.evidence for row in again} == {True}


@DAMAGE
def test_one_right_checksum_is_enough(box: Box, version: int, lie: Lies) -> None:
    target = box.target_ip if version == 4 else box.target_ip6
    with Liar(box, version, lie):
        done = scan(box, target, "-p", "22,1000-1003")
    assert {row["port"]: row["evidence"] for row in done.rows} == {port: [] for port in (22, 1000, 1001, 1002, 1003)}


@VERSIONS
def test_what_a_virtual_link_leaves_unfinished_is_not_wrong(box: Box, version: int, tmp_path: Path) -> None:
    """The kernel of the peer leaves TCP checksums to hardware that a veth pair does not have."""
    target = box.target_ip if version == 4 else box.target_ip6
    stats, record = tmp_path / "stats.json", tmp_path / "scan.pcap"
    done = scan(box, target, "-p", "1-99", "--stats", str(stats), "--record", str(record))
    assert (len(done.rows), json.loads(stats.read_text())["bad_checksums"]) == (99, 0)
    capture = Classification([str(record)], timeout=0)
    assert len([row for batch in capture.batches() for row in batch if "bad-checksum" in row.evidence]) == 0
    assert capture.flows.bad_checksums == 0


@pytest.fixture(scope="module")
def twins() -> Iterator[Box]:
    """Two hosts with the same addresses on one link, and a bridge between them and the scanner."""
    with ExitStack() as stack:
        box = Box(stack, new_namespace(stack), new_namespace(stack))
        bridge, twin = new_namespace(stack), new_namespace(stack)
        bridge.ip(["link add br0 type bridge", "link set br0 up"])
        for number, (end, name) in enumerate([(box.scanner, INTERFACE), (box.target, PEER), (twin, PEER)]):
            cable(bridge, f"port{number}", end, name, number)
            bridge.ip([f"link set port{number} master br0"])
        add_addresses(box.scanner, INTERFACE, SCANNER)
        for host in (box.target, twin):
            add_addresses(host, PEER, TARGET)
        yield box


@VERSIONS
def test_two_mac_addresses_for_one_address_are_said(twins: Box, version: int, tmp_path: Path) -> None:
    target = twins.target_ip if version == 4 else twins.target_ip6
    stats = tmp_path / "stats.json"
    done = scan(twins, target, "-p", "80-82", "--stats", str(stats))
    name = f"{target} (02:00:00:00:01:02 and 02:00:00:00:02:02)"
    assert list(json.loads(stats.read_text())["two_macs"]) == [name]
    assert f"{name} answers from more than one MAC address" in done.errors
    assert done.brief("port", "state") == [(80, "closed"), (81, "closed"), (82, "closed")]
