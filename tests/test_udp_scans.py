"""UDP scans are counted and listed, and ordinary datagrams never are: not as a whole, and not in parts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from scanner.classifier.classification import Classification
from scanner.who.reading import Who
from tests.traffic import asked, capture, conversation, datagram, unreachable

A, B, C = "192.0.2.1", "198.51.100.1", "203.0.113.1"
HOSTS = [f"10.0.{n // 200}.{1 + n % 200}" for n in range(300)]
GUARD = [datagram(C, 53, A, 50000)]  # something comes back to the prober


def scans(path: Path, packets: Sequence[bytes]) -> tuple[dict[str, int], list[dict[str, int]]]:
    """What `classify` counts, and the kinds of probes that `who` lists."""
    reading = Classification([capture(path, packets)], 0)
    for _ in reading.batches():
        pass
    return reading.as_report()["scans"], [row.kinds for row in Who([str(path)]).rows()]


LOW = [datagram(A, 50000, B, port) for port in range(20, 50)]
WIDE = [datagram(A, 50000, host, 161) for host in HOSTS]
SCANS: dict[str, tuple[list[bytes], int]] = {
    "many ports of a host, silent": (LOW, 30),
    "many ports of a host, each sent twice": (LOW * 2, 60),
    "many ports of a host, closed": ([each for packet in LOW for each in (packet, unreachable(packet))], 30),
    "many ports of a host, of which one answers": ([*LOW, datagram(B, 49, A, 50000)], 29),
    "one port of many hosts": ([*WIDE, *GUARD], 300),
    "one port of many hosts, of which some answer": ([*WIDE, *(datagram(h, 161, A, 50000) for h in HOSTS[:9])], 291),
    "many ports of a host, from a client": ([*LOW, *(p for n in range(20) for p in asked(A, 50001 + n, C, 53))], 30),
}


@pytest.mark.parametrize("case", SCANS)
def test_scans(case: str, tmp_path: Path) -> None:
    packets, count = SCANS[case]
    assert scans(tmp_path / "a.pcap", packets) == ({"UDP": count}, [{"UDP": count}])


def test_a_scan_by_a_client_is_listed(tmp_path: Path) -> None:
    found = scans(tmp_path / "a.pcap", [*LOW, *(p for n in range(60) for p in conversation(A, C, 443 + n, 40000))])
    assert found == ({"UDP": 30}, [{"connections with data": 60, "UDP": 30}])


def test_the_report_says_it_and_counts_no_packet_twice(tmp_path: Path) -> None:
    reading = Classification([capture(tmp_path / "a.pcap", [*LOW, *asked(A, 50001, C, 53)])], 0)
    assert not [row for rows in reading.batches() for row in rows]
    assert reading.report()[1:] == ["30 packets of a UDP scan: not judged", "not judged: 2 other-protocol"]
    assert [row.port_count for row in Who([str(tmp_path / "a.pcap")]).rows()] == [30]


def test_who_does_not_call_unjudged_what_it_lists(tmp_path: Path) -> None:
    who = Who([capture(tmp_path / "a.pcap", LOW)])
    assert ([row.prober for row in who.rows()], who.reading.report()) == ([A], ["30 packets: 0 probes to 0 targets"])


def peers(port: int, source: int) -> list[bytes]:
    """Of many hosts that are asked, nobody answers, but something comes back."""
    return [*(datagram(A, source, host, port) for host in HOSTS), *GUARD]


ORDINARY: dict[str, list[bytes]] = {
    "questions to a name server": [p for n in range(60) for p in asked(A, 50000 + n, B, 53)],
    "a name server that asks others": [p for n, host in enumerate(HOSTS) for p in asked(A, 50000 + n, host, 53)],
    "a name server and its clients": [p for n, host in enumerate(HOSTS) for p in asked(host, 50000 + n, A, 53)],
    "QUIC": [p for n, host in enumerate(HOSTS) for _ in range(9) for p in asked(A, 50000 + n, host, 443)],
    "QUIC behind a firewall, and then TCP": [
        *(datagram(A, 50000 + n, host, 443, 1200) for n, host in enumerate(HOSTS)),
        *(p for n, host in enumerate(HOSTS) for p in conversation(A, host, 443, 40000 + n)),
    ],
    "time servers": [p for host in HOSTS for p in asked(A, 123, host, 123)],
    "a time server whose clients use any port": [p for n, h in enumerate(HOSTS) for p in asked(h, 40000 + n, A, 123)],
    "DHCP from a server to clients that are new": [datagram(A, 67, host, 68, 300) for host in HOSTS] * 2 + GUARD,
    "answers to multicast": [
        p for n in range(99) for p in (datagram(B, 50000 + n, "239.255.255.250", 1900), datagram(A, 1900, B, 50000 + n))
    ],
    "multicast names": [datagram(host, 5353, "224.0.0.251", 5353) for host in HOSTS],
    "broadcast": [datagram(A, 50000, "255.255.255.255", port) for port in range(1, 99)],
    "logs": [datagram(A, 50000, B, 514)] * 500,
    "logs of many hosts": [datagram(host, 50000, B, 514) for host in HOSTS] * 3,
    "NetFlow to three collectors": [datagram(A, 50000, f"198.51.100.{n}", 2055) for n in range(3)] * 99,
    "calls": [
        p for call in range(60) for n in range(30)
        for p in asked(A, 10000 + 2 * call, f"198.51.100.{call % 3 + 1}", 20000 + 2 * call)
    ],
    "calls in one direction": [
        datagram(A, 10000 + 2 * call, B, 20000 + 2 * call) for call in range(60) for _ in range(30)
    ],
    "file sharing: peers of which half have left": [
        p for n, host in enumerate(HOSTS) for p in asked(A, 6881, host, 6881 + n * 7 % 40000)[: 1 + n % 2]
    ],
    "file sharing behind a firewall": [
        *(datagram(A, 51413, host, 1024 + n * 131 % 60000) for n, host in enumerate(HOSTS)), *GUARD
    ],
    "discovery of peers with one port": peers(30303, 30303),
    "peers of a mesh": [p for host in HOSTS for p in (datagram(A, 8301, host, 8301), datagram(host, 8301, A, 8301))],
    "STUN": [p for n in range(20) for p in asked(A, 40000, f"198.51.100.{n}", 3478 + n % 2)],
    "candidates of a call": [datagram(A, 40000, f"198.51.100.{n % 5}", 30000 + n * 17) for n in range(200)],
    "traceroute": [datagram(A, 50000 + n, B, 33434 + n, 40) for n in range(90)] + GUARD,
    "file sharing behind a firewall, often at one port": [
        *(datagram(A, 51413, host, 6881 if n % 4 == 0 else 1024 + n * 131 % 60000) for n, host in enumerate(HOSTS)),
        *GUARD,
    ],
    "traceroute to many hosts at one port": [datagram(A, 50000 + n, host, 33435) for n, host in enumerate(HOSTS)]
    + GUARD,
    "polling by SNMP": [p for _ in range(5) for n, h in enumerate(HOSTS) for p in asked(A, 40000 + n, h, 161)],
    "polling by SNMP, one in ten down": [
        p for _ in range(2) for n, h in enumerate(HOSTS) for p in asked(A, 40000 + n, h, 161)[: 1 + (n % 10 > 0)]
    ],
    "a domain controller": [p for n in range(99) for q in (53, 88, 123, 389, 464) for p in asked(A, 50000 + n, B, q)],
    "peers of a tunnel": [
        p for n in range(400)
        for h in [HOSTS[n % 80]]
        for p in (datagram(A, 49152 + n, h, 4789), datagram(h, 50000, A, 4789))
    ],
    "WireGuard": [p for host in HOSTS for p in asked(A, 51820, host, 51820)],
    "games": [p for n, host in enumerate(HOSTS) for p in asked(A, 50000, host, 27015 + n % 5)[: 1 + (n % 4 > 0)]],
    "a game server": [p for n, host in enumerate(HOSTS) for p in asked(host, 40000 + n * 13 % 20000, A, 27015)],
    "names of visitors, asked by a server": [datagram(A, 137, host, 137) for host in HOSTS] * 3 + GUARD,
}  # fmt: skip


def test_a_host_that_is_down_and_is_asked_again_and_again_is_not_scanned(tmp_path: Path) -> None:
    packets = [datagram(A, 50000 + n, B, 10 + n % 12) for n in range(99)]
    assert scans(tmp_path / "a.pcap", packets) == ({}, [])


def from_one(packets: list[bytes]) -> list[bytes]:
    """One direction: what A sent."""
    return [packet for packet in packets if packet[12:16] == bytes([192, 0, 2, 1])]


VIEWS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "all": list,
    "one direction": from_one,
    "the other direction": lambda packets: [packet for packet in packets if packet not in set(from_one(packets))],
    "the second half": lambda packets: packets[len(packets) // 2 :],
    "one packet in ten": lambda packets: packets[3::10],
    "one packet in seven": lambda packets: packets[::7],  # the scenes have rhythms of ten
    "one packet in three": lambda packets: packets[1::3],
    "54 bytes of each": lambda packets: [packet[:40] for packet in packets],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("case", ORDINARY)
def test_ordinary_datagrams_are_no_scan(case: str, view: str, tmp_path: Path) -> None:
    assert scans(tmp_path / "a.pcap", VIEWS[view](ORDINARY[case])) == ({}, [])
