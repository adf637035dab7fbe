"""`halfopen who`: who probed whom, and which tool is named. None may be named wrongly; "not told" is always right."""

import gzip
import json
import os
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scanner.capture.reader import open_captures
from scanner.classifier import classification
from scanner.packet.headers import Frames
from scanner.who.claims import EITHER, NAABU, NMAP, STACK, Claim, log10_chance
from scanner.who.gather import NEVER
from scanner.who.marks import SOURCES, Look
from scanner.who.reading import ProberRow, Who
from scanner.who.rows import COLUMNS, texts
from scanner.who.sums import STATES
from tests.capture_files import T, pcap_header, record
from tests.command import halfopen as command
from tests.golden import PCAPS, captures
from tests.traffic import LINUX, capture, conversation, ip, segment
from tests.tunnels import WRAPS, gre_key

NET = "198.18.0."
Named = dict[str, list[tuple[str, int]]]  # the tools of each prober, with their SYNs


def who(*names: str, min_targets: int = 3, everything: bool = False) -> list[ProberRow]:
    return list(Who([str(PCAPS / name) for name in names], min_targets, everything).rows())


def named(rows: Iterable[ProberRow]) -> Named:
    return {row.prober: [(claim.tool, claim.syns) for claim in row.claims] for row in rows}


# ── every tool at hand ──

OF_CAPTURES: dict[str, Named] = {
    "demo.pcapng.gz": {"198.18.0.1": [("halfopen", 50)], "2001:db8::1": [("halfopen", 52)]},
    "nmap-syn.pcap.gz": {"198.18.0.1": [(NMAP, 23)]},
    "nmap-syn-v6.pcap.gz": {"2001:db8::1": [(EITHER, 25)]},
    "nmap-connect.pcap.gz": {"198.18.0.1": [(STACK, 22)]},
    "masscan.pcap.gz": {"198.18.0.1": [("masscan", 19)]},
    "zmap.pcap.gz": {"198.18.0.1": [("ZMap (before 2024)", 38)]},
    "hping3.pcap.gz": {"198.18.0.1": [("hping", 80)]},
    "two-scanners.pcap": {"198.18.0.1": [(NMAP, 6)], "198.18.0.3": [(NMAP, 6)]},
    "only-sent.pcap": {"198.18.0.1": [(NMAP, 6)]},
    "only-received.pcap": {},
    "clients.pcap": {},
    "snap54.pcap": {"198.18.0.1": []},  # without the options
    "vlan.pcap": {"2001:db8::1": [(EITHER, 25)]},
    "who-tools.pcap.gz": {
        f"{NET}11": [(NMAP, 7)],  # -T2
        f"{NET}12": [(NMAP, 30)],  # -T4
        f"{NET}13": [(NMAP, 23)],  # -T5
        f"{NET}14": [(STACK, 7)],  # nmap -sT, the same timings
        f"{NET}15": [(STACK, 30)],
        f"{NET}16": [(STACK, 24)],
        f"{NET}17": [(STACK, 13)],  # nc
        f"{NET}19": [("Scapy (defaults)", 20)],
        f"{NET}20": [("hping", 30)],
        f"{NET}21": [], f"{NET}22": [], f"{NET}23": [], f"{NET}24": [], f"{NET}25": [],  # no SYNs
        f"{NET}26": [(NMAP, 30), ("masscan", 19), (STACK, 7)],
    },
    # Built from published formulas (tests/make_pcaps.py), because these tools are not at hand.
    "who-formula.pcap.gz": {
        f"{NET}51": [("Mirai or its heirs", 24)],
        f"{NET}52": [(NAABU, 24)],
        f"{NET}53": [(EITHER, 24)],  # naabu with its SYN cookie
        f"{NET}54": [("masscan", 24)],
        "2001:db8::55": [],  # masscan has no mark in IPv6
        f"{NET}56": [], f"{NET}57": [],  # ZMap since 2024, with the options of two systems
        f"{NET}58": [],  # another program with ZMap's IP ID
        f"{NET}59": [],  # the options of Linux, and no sign of a stack
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OF_CAPTURES)
def test_every_tool_is_named_right_or_not_told(name: str) -> None:
    assert named(who(name)) == OF_CAPTURES[name]


@pytest.mark.parametrize("path", captures(), ids=lambda path: path.name)
def test_no_capture_of_the_project_names_a_tool_that_is_not_in_it(path: Path) -> None:
    """The captures of this program hold halfopen, those of others hold what their names and pcaps/README.md say."""
    tools = {claim.tool for row in who(path.name, min_targets=1, everything=True) for claim in row.claims}
    ours = path.name.startswith(("demo", "loss", "two-interfaces", "router", "raw-ip"))
    others = {"masscan": {"masscan"}, "zmap": {"ZMap (before 2024)"}, "hping3": {"hping"}, "begun-late": {"hping"},
              "nmap-connect": {STACK}, "clients": {STACK}}  # fmt: skip
    if not path.name.startswith("who-"):
        assert tools <= ({"halfopen"} if ours else others.get(path.name.split(".")[0], {NMAP, EITHER}))


def test_each_timing_and_kind_of_scan() -> None:
    kinds = {row.prober.removeprefix(NET): (row.kinds, row.shape) for row in who("who-tools.pcap.gz")}
    expected = {
        "11": "half-open", "12": "half-open", "13": "half-open", "14": "full connections", "15": "full connections",
        "16": "full connections", "17": "full connections", "19": "half-open", "20": "half-open", "21": "FIN",
        "22": "NULL", "23": "Xmas", "24": "ACK", "25": "UDP", "26": "half-open",
    }  # fmt: skip
    assert {host: (list(words), shape) for host, (words, shape) in kinds.items()} == {
        host: ([word], "vertical") for host, word in expected.items()
    }


def test_what_answered_by_state() -> None:
    (row,) = who("nmap-syn.pcap.gz")
    rows = [json.loads(line) for line in (PCAPS / "nmap-syn.jsonl").read_text().splitlines()]
    count = Counter("no_response" if row["reason"] == "no-response" else row["state"] for row in rows)
    assert row.states == tuple(count[word] for word in ("open", "closed", "filtered", "no_response", "unknown"))


# ── chance and contrast ──


def masscan(src: str, n: int) -> bytes:
    dst, port, seq = f"10.0.{n}.7", 80 + n, n * 2654435761 & 0xFFFFFFFF
    return segment(src, dst, port, seq=seq, ip_id=(ip(dst) ^ port ^ seq) & 0xFFFF, window=1024, ttl=250)


A, B = "192.0.2.1", "198.51.100.1"
NOT_TOLD = {
    "two packets of masscan": [masscan(A, n) for n in range(1, 3)],
    "one packet of masscan again and again": [masscan(A, 1)] * 50,
    "one target, whose address is the sequence number": [segment(A, B, 23, seq=ip(B))] * 50,
    "IP ID 54321 with another window": [segment(A, B, n, seq=n << 20, ip_id=54321) for n in range(50)],
    "IP ID 54321 and one sequence number": [segment(A, B, n, ip_id=54321, window=65535) for n in range(50)],
    "window 1024 with another MSS": [segment(A, B, n, window=1024, options="020405a0") for n in range(50)],
    "window 512 without an acknowledgement number": [segment(A, B, n, window=512) for n in range(50)],
    "window 512 and one acknowledgement number": [segment(A, B, n, window=512, ack=5) for n in range(50)],
    "window 512, one acknowledgement number, and ports that count up": [
        segment(A, B, n, window=512, ack=7, seq=n * 0x9E37_79B1 % 2**32, sport=4000 + n) for n in range(50)
    ],
    "window 8192 and changing sequence numbers": [segment(A, B, n, window=8192, seq=n << 9) for n in range(50)],
    "IP ID 0, as the XOR of halves that are equal": [segment(A, B, n, seq=n << 16 | n) for n in range(50)],
}


@pytest.mark.parametrize("case", NOT_TOLD)
def test_without_enough_packets_or_a_contrast_nothing_is_told(case: str, tmp_path: Path) -> None:
    rows = list(Who([capture(tmp_path / "a.pcap", NOT_TOLD[case])], 1).rows())
    assert [(row.prober, row.claims, row.not_told) for row in rows] == [(A, [], len(NOT_TOLD[case]))]


def test_three_different_marks_of_16_bits_are_enough_and_the_odds_are_said(tmp_path: Path) -> None:
    (row,) = Who([capture(tmp_path / "a.pcap", [masscan(A, n) for n in range(1, 4)])]).rows()
    ((tool, syns, chance, seen),) = row.claims
    assert (tool, syns, round(chance or 0), seen) == (
        "masscan", 3, -14, "IP ID is target address ^ port ^ sequence number"
    )  # fmt: skip


def test_three_marks_among_thousands_of_packets_are_chance(tmp_path: Path) -> None:
    plain = [segment(A, f"10.{n // 250}.{n % 250}.9", 80, seq=n * 77777) for n in range(3000)]
    (row,) = Who([capture(tmp_path / "a.pcap", [*plain, *(masscan(A, n) for n in range(1, 4))])]).rows()
    assert (row.claims, row.not_told) == ([], 3003)


LIKE_NMAP: dict[str, tuple[Callable[[int], int], Callable[[int], int], str]] = {  # TTL, sequence number
    "a constant": (lambda n: 64, lambda n: 1000, EITHER),
    "a constant, and the TTL as nmap draws it": (lambda n: 37 + n * 7 % 23, lambda n: 1000, NMAP),
    "a constant, and any TTL": (lambda n: n * 37 % 256, lambda n: 1000, EITHER),
    "one mask": (lambda n: 64, lambda n: (n << 16 | n) ^ 0x1234_5678, NMAP),
    "counted": (lambda n: 64, lambda n: n, NAABU),
    "random": (lambda n: 64, lambda n: n * 0x9E37_79B1 % 2**32, EITHER),
}


@pytest.mark.parametrize("case", LIKE_NMAP)
def test_window_1024_and_mss_alone_are_not_enough_for_one_tool(case: str, tmp_path: Path) -> None:
    """Constant sequence numbers are no mask: any program may send one number."""
    ttl, seq, tool = LIKE_NMAP[case]
    syns = [
        segment(A, B, n + 1, seq=seq(n), window=1024, options="020405b4", ttl=ttl(n), sport=50000) for n in range(50)
    ]
    assert named(Who([capture(tmp_path / "a.pcap", syns)]).rows()) == {A: [(tool, 50)]}


def test_a_period(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", [masscan(A, n) for n in range(60)])
    lines = [json.loads(line) for line in halfopen(path, "-f", "jsonl", "--since", "1700000002")[0].splitlines()]
    assert [(line["probes"], line["first"]) for line in lines] == [(40, "2023-11-14T22:13:22.000000Z")]
    assert halfopen(path, "--since", "9", "--until", "8") == (
        "", ["halfopen: --since 9 is not before --until 8: no packet is between them"], 2
    )  # fmt: skip


@pytest.mark.parametrize(("rate", "claims"), [(1000, [(STACK, 60)]), (0, []), (10, [])])
def test_time_stamps_that_go_on_in_repeats_show_a_stack(
    rate: int, claims: list[tuple[str, int]], tmp_path: Path
) -> None:
    """Each SYN comes again after 3 s; its clock has `rate` steps a second."""
    syns = [
        segment(A, B, n, seq=n << 9, sport=40000 + 7 * n, options=f"020405b40402080a{clock:08x}0000000001030307")
        for again in (0, 3)
        for n in range(30)
        for clock in [n * 12345 + again * rate]
    ]
    assert named(Who([capture(tmp_path / "a.pcap", syns)]).rows()) == {A: claims}


def test_a_scanner_with_the_options_of_a_system_is_not_the_stack_of_its_own_machine(tmp_path: Path) -> None:
    """ZMap can write these options, and its TTL is 255."""
    scan = [segment(A, f"10.0.0.{n}", 80, seq=n << 9, sport=40000 + 7 * n, options=LINUX, ttl=250) for n in range(90)]
    (row,) = Who([capture(tmp_path / "a.pcap", [*scan, *BROWSER])]).rows()
    assert ([(claim.tool, claim.syns) for claim in row.claims], row.not_told) == ([(STACK, 59)], 90)


@pytest.mark.parametrize(("hits", "trials", "expected"), [(3, 3, -14.4), (3, 1000, -6.2), (20, 10**6, 0.0), (0, 9, 0)])
def test_the_chance_grows_with_the_packets_looked_at(hits: int, trials: int, expected: float) -> None:
    assert log10_chance(hits, trials, -16 * 0.693147) == pytest.approx(expected, abs=0.1)


def test_every_mark_has_a_source() -> None:
    assert set(SOURCES) == set(Look) - {Look.OTHER}


def test_frames_that_are_cut_before_the_options_name_nobody_wrongly(tmp_path: Path) -> None:
    """34 bytes of each packet: IP, and TCP up to its flags. The marks in the IP header and in the numbers are there."""
    whole = capture(tmp_path / "a.pcap", [masscan(A, n) for n in range(9)])
    data, cut = Path(whole).read_bytes(), bytearray()
    for at in range(24, len(data), 56):
        second, micro, _, length = struct.unpack_from("<4I", data, at)
        cut += struct.pack("<4I", second, micro, 34, length) + data[at + 16 : at + 50]
    (tmp_path / "b.pcap").write_bytes(data[:24] + cut)
    assert named(Who([str(tmp_path / "b.pcap")]).rows()) == {A: [("masscan", 9)]}
    options = [segment(A, B, n, seq=9, window=1024, options="020405b4") for n in range(50)]
    short = [struct.pack("<4I", 0, n, 34, 44) + packet[:34] for n, packet in enumerate(options)]
    (tmp_path / "c.pcap").write_bytes(data[:24] + b"".join(short))
    assert named(Who([str(tmp_path / "c.pcap")]).rows()) == {A: []}


# ── who gets a row ──


BROWSER = [packet for n in range(1, 60) for packet in conversation(A, f"203.0.113.{n}", 443, 40000 + n)]
NAMES = [
    packet
    for n in range(60)
    for packet in (
        segment(A, B, 53, sport=50000 + n, protocol=17, data=30),
        segment(B, A, 50000 + n, sport=53, protocol=17, data=90),
    )
]
ORDINARY = {
    "a browser": BROWSER,
    "a browser, captured from its middle": [packet for n, packet in enumerate(BROWSER) if n % 8 > 2],
    "downloads, captured in one direction from their middle": [
        segment(A, f"203.0.113.{n % 20}", 443, sport=40000 + n % 20, ack=1460 * n, flags=0x10) for n in range(2000)
    ],
    "keep-alives": [
        packet
        for n in range(1, 60)
        for packet in (
            segment(A, f"203.0.113.{n}", 22, sport=n, flags=0x10, seq=99),
            segment(f"203.0.113.{n}", A, n, sport=22, flags=0x10, ack=100),
        )
    ],
    "questions to a name server": NAMES,
    "answers of a name server, without the questions": NAMES[1::2],
    "peers of a tunnel": [
        segment(*hosts, 4789, sport=49152 + n, protocol=17, data=9)
        for n in range(50)
        for hosts in ((A, f"203.0.113.{n % 25}"), (f"203.0.113.{n % 25}", A))
    ],
    "multicast": [segment(A, f"239.0.0.{n}", 1900 + n, protocol=17, data=9) for n in range(50)],
    "a victim of spoofed SYNs": [segment(B, f"10.1.{n}.1", n, sport=80, flags=0x12, ack=n) for n in range(99)],
}


@pytest.mark.parametrize("case", ORDINARY)
def test_ordinary_traffic_has_no_row(case: str, tmp_path: Path) -> None:
    assert list(Who([capture(tmp_path / "a.pcap", ORDINARY[case])]).rows()) == []


def test_clients_are_counted_and_listed_on_request(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", BROWSER)
    reading = Who([path])
    assert (list(reading.rows()), reading.left_out) == (
        [], ["1 client whose connections carry data; --all lists them"]
    )  # fmt: skip
    (row,) = Who([path], everything=True).rows()
    assert (row.kinds, row.claims[0].tool, row.hosts) == ({"connections with data": 59}, STACK, 59)


def test_a_scanner_whose_connections_carry_data_is_no_client(tmp_path: Path) -> None:
    """As masscan --banners does."""
    packets = []
    for n in range(1, 20):
        server = f"203.0.113.{n}"
        syn = segment(A, server, 80, sport=40000, seq=100, ip_id=(ip(server) ^ 80 ^ 100) & 0xFFFF, window=1024, ttl=250)
        packets += conversation(A, server, 80, 40000, syn)
    (row,) = Who([capture(tmp_path / "a.pcap", packets)]).rows()
    assert ([claim.tool for claim in row.claims], row.kinds) == (["masscan"], {"connections with data": 19})


def test_a_flood_from_spoofed_addresses_is_summed_up(tmp_path: Path) -> None:
    flood = [segment(f"10.{n // 250}.{n % 250}.9", B, 80, seq=n * 77777) for n in range(5000)]
    reading = Who([capture(tmp_path / "a.pcap", [*flood, *(masscan(A, n) for n in range(9))])], 1)
    assert [row.prober for row in reading.rows()] == [A]
    assert reading.left_out == [
        f"5,000 addresses that sent one SYN each, 5,000 of them to {B}: a flood from spoofed addresses looks like this"
    ]


def test_probers_with_few_targets_are_counted(tmp_path: Path) -> None:
    reading = Who([capture(tmp_path / "a.pcap", [segment(A, B, n) for n in range(9)])], 10)
    assert (list(reading.rows()), reading.left_out) == ([], ["1 address with fewer than 10 targets, 9 probes"])


@pytest.mark.parametrize(
    ("hosts", "ports", "shape"),
    [(30, 2, "horizontal"), (2, 30, "vertical"), (9, 9, "block"), (1, 3, "vertical"), (3, 1, "horizontal")],
)
def test_horizontal_or_vertical(hosts: int, ports: int, shape: str, tmp_path: Path) -> None:
    probes = [segment(A, f"10.0.0.{host}", port) for host in range(hosts) for port in range(ports)]
    (row,) = Who([capture(tmp_path / "a.pcap", probes)]).rows()
    assert (row.shape, row.hosts, row.port_count, row.targets) == (shape, hosts, ports, hosts * ports)


def test_rotated_files_and_gzip_are_one_capture(tmp_path: Path) -> None:
    probes = [masscan(A, n) for n in range(60)]
    whole = list(Who([capture(tmp_path / "a.pcap", probes)]).rows())
    first, second = capture(tmp_path / "b", probes[:30]), capture(tmp_path / "c", probes[30:], 1_700_000_003)
    packed = tmp_path / "c.gz"
    packed.write_bytes(gzip.compress(Path(second).read_bytes()))
    assert list(Who([str(packed), first]).rows()) == whole
    assert (whole[0].first, whole[0].last, whole[0].rate) == (1_700_000_000 * 10**9, 1_700_000_005_900_000_000, 10.0)


# ── tunnels ──


def in_tunnels(path: Path, frames: Iterable[bytes]) -> str:
    path.write_bytes(pcap_header() + b"".join(record("<", T + at, 0, data) for at, data in enumerate(frames)))
    return str(path)


@pytest.mark.parametrize("name", WRAPS)
def test_a_prober_in_a_tunnel_is_listed_once_with_its_tunnel(name: str, tmp_path: Path) -> None:
    wrap, tunnel = WRAPS[name]
    reading = Who([in_tunnels(tmp_path / "a.pcap", [wrap(masscan(A, n), 7) for n in range(1, 20)])])
    (row,) = reading.rows()
    assert (row.prober, row.tunnel, row.probes, row.claims[0][:2]) == (A, tunnel, 19, ("masscan", 19))
    assert reading.reading.report() == [
        "19 packets: 19 probes to 19 targets", f"packets inside tunnels: 19 {tunnel.partition(':')[0]}"
    ]  # fmt: skip


def test_one_address_in_two_tunnels_is_two_probers(tmp_path: Path) -> None:
    frames = [gre_key(masscan(A, n), 5 + n % 2) for n in range(1, 19)]
    rows = Who([in_tunnels(tmp_path / "a.pcap", frames)]).rows()
    assert [(row.prober, row.tunnel, row.probes) for row in rows] == [(A, "gre:5", 9), (A, "gre:6", 9)]


def test_scans_without_syns_in_a_tunnel(tmp_path: Path) -> None:
    ports = range(20, 50)
    packets = [segment(A, B, port, flags=1) for port in ports] + [segment(A, B, port, protocol=17) for port in ports]
    (row,) = Who([in_tunnels(tmp_path / "a.pcap", [gre_key(packet, 7) for packet in packets])]).rows()
    assert (row.kinds, row.tunnel, row.targets) == ({"FIN": 30, "UDP": 30}, "gre:7", 60)


def test_the_outside_alone(tmp_path: Path) -> None:
    path = in_tunnels(tmp_path / "a.pcap", [WRAPS["vxlan"][0](masscan(A, n), 7) for n in range(1, 99)])
    assert halfopen(path, "--outer")[0] == ""
    assert halfopen(path)[0].splitlines()[1].split()[:3] == [A, "in", "vxlan:7"]


# ── the command ──


def halfopen(*arguments: str, stdin: bytes = b"") -> tuple[str, list[str], int]:
    done = subprocess.run(
        [sys.executable, "-m", "scanner", "who", *arguments], input=stdin, capture_output=True, check=False
    )
    return done.stdout.decode(), done.stderr.decode().splitlines(), done.returncode


TABLE = """\
PROBER           PROBES  HOSTS  PORTS  RATE      SHAPE     TOOL
198.18.0.1       6       1      6      11,111/s  vertical  nmap -sS
  2026-11-21 03:47:05 to 03:47:05 UTC; SYN; ports 22, 23, 113, 135, 3001, 3013;
  6 unknown
"""


def test_the_table() -> None:
    path = str(PCAPS / "only-sent.pcap")
    assert halfopen(path) == (TABLE, ["halfopen: 7 packets: 6 probes to 6 targets"], 0)
    assert halfopen("-", "-q", stdin=Path(path).read_bytes()) == (TABLE, [], 0)


LONG = ProberRow(
    "2001:db8:1234:5678:9abc:def0:1234:5678", None, 1_700_000_000 * 10**9, 1_700_100_000 * 10**9, 1_234_567_890,
    1_234_567_890, 16_777_216, ",".join(map(str, range(20_001, 20_999, 2))), 65_536,
    {"half-open": 1_234_567_890, "FIN": 5, "UDP": 2_000}, (1_234_567,) * len(STATES),
    [Claim(tool, 1_234_567, None, "") for tool in (NMAP, EITHER, STACK, "ZMap (before 2024)")], 123_456,
)  # fmt: skip
TUNNELLED = replace(LONG, tunnel="vxlan:5001/ipip/gre:12345678/gtp-u:4294967295/vxlan:16777215")
SHORT = replace(LONG, prober="192.0.2.1", probes=3, hosts=1, claims=[], first=NEVER, last=NEVER)


@pytest.mark.parametrize("rows", [[LONG], [SHORT], [LONG, SHORT], [LONG, SHORT, TUNNELLED]])
def test_no_line_of_the_table_is_wider_than_a_terminal(rows: list[ProberRow]) -> None:
    lines = "".join(texts(rows, "table")).splitlines()
    wide = [line for line in lines if len(line) > 80 and line.split()[-1] != TUNNELLED.tunnel]
    missing = [word for row in rows for word in (row.prober, f"{row.probes:,}") if word not in "".join(lines)]
    assert (wide, missing) == ([], [])


def test_no_prober_makes_no_table() -> None:
    assert "".join(texts([], "table")) == ""


def test_no_line_names_an_option_of_classify() -> None:
    assert not [line for line in halfopen(str(PCAPS / "only-received.pcap"))[1] if "--orphans" in line]


def test_the_formats_agree() -> None:
    path = str(PCAPS / "who-tools.pcap.gz")
    lines = [json.loads(line) for line in halfopen(path, "-f", "jsonl")[0].splitlines()]
    head, *rows = halfopen(path, "-f", "csv")[0].splitlines()
    assert [tuple(line) for line in lines] == [COLUMNS] * 15
    assert head == ",".join(COLUMNS)
    assert [row.split(",")[:4] for row in rows] == [
        [line["prober"], line["first"], line["last"], str(line["probes"])] for line in lines
    ]
    assert lines[0]["tools"][1] == {
        "tool": "masscan", "probes": 19, "chance": "1e-68",
        "seen": "IP ID is target address ^ port ^ sequence number",
    }  # fmt: skip


def test_ctrl_c_writes_what_was_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The signal comes behind the first of two batches."""
    whole = open_captures([str(PCAPS / "nmap-syn.pcap.gz")])
    (frames,) = list(whole)
    half, rest = frames.take(np.arange(20)), frames.take(np.arange(20, len(frames)))

    def batches() -> Iterator[Frames]:
        yield half
        os.kill(os.getpid(), signal.SIGINT)
        if whole.stopped_at is None:
            yield rest

    whole.batches = batches()
    monkeypatch.setattr(classification, "open_captures", lambda paths: whole)
    code = command("who", "any", "-f", "jsonl")
    out, said = capsys.readouterr()
    assert (code, json.loads(out)["tools"][0]["tool"]) == (130, NMAP)
    assert said.splitlines()[-1] == "halfopen: interrupted: only what had been read by then is judged"


BAD = {
    "an unknown format": (["-f", "xml"], "format 'xml' is not known: use one of table, jsonl, csv", 2),
    "no targets": (["--min-targets", "0"], "--min-targets 0 is not a number of targets: give 1 or more", 2),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_done_is_one_line(case: str) -> None:
    arguments, line, code = BAD[case]
    assert halfopen(str(PCAPS / "only-sent.pcap"), *arguments) == ("", [f"halfopen: {line}"], code)


def test_a_capture_without_probes_says_so(tmp_path: Path) -> None:
    path = capture(tmp_path / "a.pcap", [segment(A, B, 80, flags=0x18, data=9)])
    assert halfopen(path, "-f", "jsonl") == (
        "",
        [
            "halfopen: 1 packet: 0 probes to 0 targets",
            "halfopen: not judged: 1 other-tcp",
            "halfopen: no probes in this capture: nobody is listed",
        ],
        0,
    )


@pytest.mark.parametrize(
    ("content", "code"), [(b"hello", 2), (gzip.decompress((PCAPS / "cut.pcap.gz").read_bytes()), 1)]
)
def test_damage_has_the_exit_code_of_classify(content: bytes, code: int, tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(content)
    assert halfopen(str(path))[2] == code
    assert command("classify", str(path), "-q") == code
