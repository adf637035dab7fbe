"""What a capture hides is read, or named in the report: other protocols, ARP scans, radio, and frames that were cut."""

from collections.abc import Sequence
from pathlib import Path

from scapy.layers.dot11 import Dot11, Dot11Beacon, RadioTap
from scapy.layers.l2 import ARP, LLC, SNAP, Ether

from scanner.classifier.classification import Classification
from tests.builders import syn, synack
from tests.capture_files import T, pcap_header, record

ETHERNET, RADIO = 1, 127
MACS = {"src": "02:00:00:00:00:03", "dst": "ff:ff:ff:ff:ff:ff"}  # without them Scapy asks the network
MACS_OF_ARP = {"hwsrc": "02:00:00:00:00:03", "hwdst": "00:00:00:00:00:00"}


def reading_of(path: Path, frames: Sequence[bytes], link: int = ETHERNET) -> Classification:
    """A capture of these frames, a second apart."""
    path.write_bytes(
        pcap_header(network=link) + b"".join(record("<", T + at, 0, data) for at, data in enumerate(frames))
    )
    return Classification([str(path)], timeout=0)


def rows_of(reading: Classification) -> list[tuple[str, int | None, str, tuple[str, ...]]]:
    return [(row.ip, row.port, row.state, row.evidence) for batch in reading.batches() for row in batch]


def report_of(path: Path, frames: Sequence[bytes], link: int = ETHERNET) -> list[str]:
    """The lines of the report behind the first."""
    reading = reading_of(path, frames, link)
    rows_of(reading)
    return reading.report()[1:]


def other(ethertype: int) -> bytes:
    return bytes(12) + ethertype.to_bytes(2, "big") + bytes(46)


def asks(asker: str, asked: str) -> bytes:
    return bytes(Ether(**MACS) / ARP(**MACS_OF_ARP, op=1, psrc=asker, pdst=asked))


def answers(asker: str, asked: str) -> bytes:
    return bytes(Ether(**MACS) / ARP(**MACS_OF_ARP, op=2, psrc=asked, pdst=asker))


def test_other_protocols_are_named_by_their_ethertype(tmp_path: Path) -> None:
    frames = [other(0x88CC), other(0x88E5), other(0x88E5), other(0x1234)]
    named = "not judged: 2 EtherType 0x88e5 (MACsec), 1 EtherType 0x1234, 1 EtherType 0x88cc (LLDP)"
    assert report_of(tmp_path / "c", frames) == [named]


def test_thousands_of_ethertypes_make_one_short_line(tmp_path: Path) -> None:
    (line,) = report_of(tmp_path / "c", [other(0xA000 + number) for number in range(3000)])
    assert line.endswith(", 2,992 of 2,992 other EtherTypes")


def test_an_arp_scan_is_said(tmp_path: Path) -> None:
    frames = [asks("192.0.2.1", f"192.0.2.{host}") for host in range(1, 255)] * 2
    frames += [answers("192.0.2.1", "192.0.2.9"), answers("192.0.2.1", "192.0.2.7"), answers("192.0.2.8", "192.0.2.3")]
    said = "192.0.2.1 asked for 253 addresses by ARP, and 2 answered: an ARP scan, or a router; ARP is not judged"
    assert report_of(tmp_path / "c", frames) == [said]


def test_ordinary_arp_is_no_scan(tmp_path: Path) -> None:
    frames = [asks(f"192.0.2.{host}", f"192.0.2.{gate}") for host in range(1, 255) for gate in (254, 253)]
    assert report_of(tmp_path / "c", frames) == []


def test_many_machines_that_ask_by_arp_are_summed_up(tmp_path: Path) -> None:
    frames = [
        asks(f"198.18.{asker}.1", f"198.18.{asker}.{host}") for asker in range(9) for host in range(2, 20 + asker)
    ]
    lines = report_of(tmp_path / "c", frames)
    assert [line.split()[0] for line in lines] == ["198.18.8.1", "198.18.7.1", "198.18.6.1", "6"]


def test_a_scan_over_radio_is_read_and_the_rest_of_it_is_named(tmp_path: Path) -> None:
    radio = RadioTap(present="TSFT+Flags+Rate", mac_timestamp=7, Flags=0)
    link = LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=0, code=0x800)
    data = [bytes(radio / Dot11(type=2, subtype=subtype, FCfield=way)) for subtype, way in ((0, 1), (8, 2))]
    frames = [
        bytes(radio / Dot11(type=0, subtype=8) / Dot11Beacon()),
        data[0] + bytes(link) + syn(),
        data[1] + bytes(2) + bytes(link) + synack(),
        bytes(radio / Dot11(type=2, subtype=8, FCfield=0x40) / bytes(60)),
    ]
    reading = reading_of(tmp_path / "c", frames, RADIO)
    assert rows_of(reading) == [("198.18.1.7", 443, "open", ())]
    assert reading.report()[1:] == ["not judged: 1 802.11 without data, 1 encrypted 802.11"]


def test_fourteen_bytes_of_tcp_are_enough_and_claim_nothing_about_the_window(tmp_path: Path) -> None:
    frames = [syn(ethernet=True), synack(ethernet=True, window=64240)]
    reading = reading_of(tmp_path / "c", [frame[: 14 + 20 + 14] for frame in frames])
    assert rows_of(reading) == [("198.18.1.7", 443, "open", ())]


def test_a_window_that_is_there_is_read(tmp_path: Path) -> None:
    frames = [syn(ethernet=True), synack(ethernet=True, window=0)]
    reading = reading_of(tmp_path / "c", [frame[: 14 + 20 + 16] for frame in frames])
    assert rows_of(reading) == [("198.18.1.7", 443, "open", ("syn-proxy",))]
