"""Clients, servers and monitoring are no scans: not in a whole capture, and not in a part of it."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner.who.reading import Who
from tests.traffic import LINUX, WINDOWS, asked, capture, conversation, mixed, segment

A, B = "192.0.2.1", "198.51.100.1"


def hosts(count: int, net: str = "203.0") -> list[str]:
    return [f"{net}.{n // 200}.{1 + n % 200}" for n in range(count)]


def opened(client: str, server: str, port: int, sport: int, seq: int = 100, options: str = LINUX) -> bytes:
    return segment(client, server, port, sport=sport, seq=seq, window=64240, options=options)


def unanswered(client: str, server: str, port: int, sport: int) -> list[bytes]:
    """A SYN that is sent three times."""
    return [opened(client, server, port, sport, 9 * sport)] * 3


def refused(client: str, server: str, port: int, sport: int) -> list[bytes]:
    seq = 7 * sport
    return [
        opened(client, server, port, sport, seq),
        segment(server, client, sport, sport=port, flags=0x14, seq=0, ack=seq + 1),
    ]


def check(client: str, server: str, port: int, sport: int) -> list[bytes]:
    """What a load balancer does: a handshake, and a reset."""
    seq = 3 * sport
    return [
        opened(client, server, port, sport, seq),
        segment(server, client, sport, sport=port, flags=0x12, seq=500, ack=seq + 1),
        segment(client, server, port, sport=sport, flags=0x14, seq=seq + 1, ack=501),
    ]


def closing(client: str, server: str, port: int, sport: int) -> list[bytes]:
    """A connection without data, as monitoring makes it."""
    there, back, seq = (client, server, port), (server, client, sport), 3 * sport
    return [
        opened(*there, sport, seq),
        segment(*back, sport=port, flags=0x12, seq=500, ack=seq + 1),
        segment(*there, sport=sport, flags=0x10, seq=seq + 1, ack=501),
        segment(*there, sport=sport, flags=0x11, seq=seq + 1, ack=501),
        segment(*back, sport=port, flags=0x11, seq=501, ack=seq + 2),
        segment(*there, sport=sport, flags=0x10, seq=seq + 2, ack=502),
    ]


def talk(client: str, server: str, port: int, sport: int, options: str = LINUX, pieces: int = 4) -> list[bytes]:
    """A connection with data in several pieces."""
    seq = 11 * sport
    parts = conversation(client, server, port, sport, opened(client, server, port, sport, seq, options), seq)
    return [*parts[:3], *parts[3:5] * pieces, *parts[5:]]


def crowd(count: int) -> list[bytes]:
    """Many clients behind one address, with many servers, at the same time."""
    draw = random.Random(5)
    return mixed([
        talk(A, server, draw.choice((80, 443, 443, 993)), 20000 + 13 * n, draw.choice((LINUX, WINDOWS)))
        for n, server in enumerate(hosts(count))
    ])  # fmt: skip


def peer(n: int, host: str) -> list[bytes]:
    """Of five peers, one still shares files."""
    port = 6881 if n % 6 == 0 else 1024 + n * 173 % 60000
    return (talk, refused, unanswered, unanswered, unanswered)[n % 5](A, host, port, 30000 + n)


def some_down(count: int, port: int, down: int) -> list[bytes]:
    """Hosts that are asked once; one in `down` does not answer."""
    return [
        p for n, host in enumerate(hosts(count)) for p in (talk if n % down else unanswered)(A, host, port, 20000 + n)
    ]


ORDINARY: dict[str, list[bytes]] = {
    "a browser": [p for n, host in enumerate(hosts(60)) for p in talk(A, host, 443, 40000 + 7 * n)],
    "clients behind one address": crowd(300),
    "a proxy": crowd(900),
    "a crawler": some_down(300, 80, 3),
    "a mail server": some_down(100, 25, 5),
    "monitoring with questions": [
        p for again in range(5) for n, host in enumerate(hosts(500))
        for p in (talk if n % 10 else unanswered)(A, host, 9100, 20000 + 600 * again + n)
    ],
    "monitoring without questions": [
        p for again in range(5) for n, host in enumerate(hosts(200))
        for p in (closing if n % 10 else unanswered)(A, host, 22, 20000 + 300 * again + n)
    ],
    "a load balancer": [
        p for again in range(30) for n, host in enumerate(hosts(20))
        for p in check(A, host, 8080, 20000 + 50 * again + n)
    ],
    "an agent whose servers are down": [
        p for again in range(50) for n, host in enumerate(hosts(5))
        for p in unanswered(A, host, 8443, 20000 + 9 * again + n)
    ],
    "Prometheus": mixed([talk(A, host, 9100, 20000 + n, pieces=20) for n, host in enumerate(hosts(100))]),
    "file sharing": [p for n, host in enumerate(hosts(300)) for p in peer(n, host)],
    "passive FTP": [p for n in range(50) for p in talk(A, B, 50000 + 13 * n % 900, 30000 + n)],
    "a server": [p for n, host in enumerate(hosts(300)) for p in talk(host, A, 443, 30000 + n)],
    "a server that asks a name server": [
        p for n, host in enumerate(hosts(300)) for p in [*asked(A, 40000 + n, B, 53), *talk(host, A, 443, 30000 + n)]
    ],
    "a table of connections that are kept alive": [
        p for _ in range(9) for n, host in enumerate(hosts(99))
        for p in (segment(A, host, 443, sport=30000 + n, flags=0x10, seq=99, ack=5),
                  segment(host, A, 30000 + n, sport=443, flags=0x10, seq=5, ack=100))
    ],
    "a moment of them": [
        p for n, host in enumerate(hosts(99))
        for p in (segment(A, host, 443, sport=30000 + n, flags=0x10, seq=99, ack=5),
                  segment(host, A, 30000 + n, sport=443, flags=0x10, seq=5, ack=100))
    ],
    "downloads": mixed([
        [p for piece in range(40) for p in (segment(host, A, 30000 + n, sport=443, flags=0x10, seq=piece, data=99),
                                            segment(A, host, 443, sport=30000 + n, flags=0x10, ack=piece))]
        for n, host in enumerate(hosts(150))
    ]),
}  # fmt: skip


def sent(packets: list[bytes]) -> list[bytes]:
    return [packet for packet in packets if packet[12:16] == bytes([192, 0, 2, 1])]


VIEWS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "all": list,
    "one direction": sent,
    "the other direction": lambda packets: [packet for packet in packets if packet[12:16] != bytes([192, 0, 2, 1])],
    "the second half": lambda packets: packets[len(packets) // 2 :],
    "the first half": lambda packets: packets[: len(packets) // 2],
    "one packet in ten": lambda packets: random.Random(7).sample(packets, len(packets) // 10),
    "one packet in three": lambda packets: random.Random(9).sample(packets, len(packets) // 3),
    "54 bytes of each": lambda packets: [packet[:40] for packet in packets],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("case", ORDINARY)
def test_ordinary_connections_are_no_scan(case: str, view: str, tmp_path: Path) -> None:
    rows = Who([capture(tmp_path / "a.pcap", VIEWS[view](ORDINARY[case]))]).rows()
    assert [(row.prober, row.kinds, row.states) for row in rows] == []


def test_a_connect_scan_that_two_taps_recorded_is_listed(tmp_path: Path) -> None:
    """A target that is asked twice at once is not asked again and again."""
    packets = [p for n, host in enumerate(hosts(50)) for p in closing(A, host, 22, 20000 + n) for _ in range(2)]
    assert [(row.prober, row.hosts) for row in Who([capture(tmp_path / "a.pcap", packets)]).rows()] == [(A, 50)]


def test_what_is_not_listed_is_said(tmp_path: Path) -> None:
    who = Who([capture(tmp_path / "a.pcap", ORDINARY["monitoring without questions"])])
    assert (list(who.rows()), who.left_out) == (
        [], ["1 client that asked the same targets again and again; --all lists them"]
    )  # fmt: skip


def test_a_small_sample_of_downloads_holds_no_ack_scan(tmp_path: Path) -> None:
    """One packet in a hundred: most connections have one packet."""
    packets = ORDINARY["downloads"] * 5
    some = random.Random(8).sample(packets, len(packets) // 100)
    assert list(Who([capture(tmp_path / "a.pcap", some)]).rows()) == []
