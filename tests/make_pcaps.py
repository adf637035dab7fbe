"""Makes the captures of pcaps/ again: `python -m tests.make_pcaps [NAME…]`, as root, then `make golden`.

Everything is recorded in the lab: this scanner, other scanners and ordinary clients against hosts whose ports are all
known, in network namespaces without a route out. Forms that tcpdump does not write here (the other byte order, a file
cut in the middle) are made from one of those recordings, byte by byte, by the functions at the end. Nothing is copied
from elsewhere. It needs tcpdump, nmap, masscan, zmap, hping3, nc and curl.
"""

import gzip
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scanner.halfopen.scan import Settings
from scanner.lab import Box, PortKind
from scanner.lab.box import INTERFACE
from scanner.lab.demo import DEMO, demo_box
from scanner.packet.headers import LINK_RAW
from scanner.trace import Watch
from scanner.transport.tap import Tap
from tests.lab.networks import routed_box
from tests.memory import Faults, Host
from tests.simulation import Clock, bench_of, lane_of, memory

ROOT = Path(__file__).resolve().parents[1]
PCAPS = ROOT / "pcaps"
PORTS = ",".join(str(row.port) for row in DEMO)
PORTS4 = ",".join(str(row.port) for row in DEMO if row.expected_reason_v4)
FEW = "22,23,113,135,3001,3013"
MAKERS: dict[str, Callable[[Path], None]] = {}


def makes(name: str) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Register the maker of one file."""

    def register(maker: Callable[[Path], None]) -> Callable[[Path], None]:
        MAKERS[name] = maker
        return maker

    return register


def run(box: Box, command: str) -> None:
    """A program in the scanner's namespace, to its end."""
    done = subprocess_in(box, command.split())
    done.communicate(timeout=60)


def subprocess_in(box: Box, command: list[str]) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return box.scanner.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)


def halfopen(box: Box, *arguments: str) -> None:
    run(box, " ".join([sys.executable, "-m", "scanner", "syn", "-q", "--rate", "0", *arguments]))


@contextmanager
def tcpdump(box: Box, path: Path, *arguments: str) -> Iterator[None]:
    """Records in the scanner's namespace; packed afterwards if the name says so."""
    plain = path.with_name(path.name.removesuffix(".gz"))
    wanted = arguments if "-i" in arguments else ("-i", INTERFACE, *arguments)
    dump = subprocess_in(box, ["tcpdump", "-Z", "root", "-n", "-U", "--immediate-mode", "-w", str(plain), *wanted])
    assert dump.stderr
    while b"listening on" not in dump.stderr.readline():
        assert dump.poll() is None, "tcpdump does not start"
    try:
        time.sleep(0.5)  # it says so a little before it listens
        yield
        time.sleep(0.3)
    finally:
        dump.send_signal(signal.SIGINT)
        dump.wait(10)
        dump.stderr.close()
    if plain != path:
        path.write_bytes(gzip.compress(plain.read_bytes(), 9, mtime=0))
        plain.unlink()


# ── this scanner ──


@makes("demo.pcapng.gz")
def demo(path: Path) -> None:
    with demo_box() as box:
        halfopen(box, box.target_ip, box.target_ip6, "-p", PORTS, "--record", str(path), "--force")


@makes("loss.pcapng")
def loss(path: Path) -> None:
    with demo_box() as box:
        lose = "add rule inet loss input tcp dport 1-65535 numgen random mod 10 < 4 drop"
        chain = "add chain inet loss input { type filter hook input priority -9 ; }"
        box.target.run(["nft", "-f", "-"], f"add table inet loss\n{chain}\n{lose}\n")
        halfopen(box, box.target_ip, "-p", FEW, "--record", str(path), "--force")


@makes("two-interfaces.pcapng")
def two_interfaces(path: Path) -> None:
    with demo_box() as box:
        halfopen(box, box.target_ip, "127.0.0.1", "::1", "-p", FEW, "--record", str(path), "--force")


def in_memory(path: Path, targets: str, hosts: dict[str, Host], faults: Faults, ports: list[int]) -> None:
    """A seeded scan of a network inside the process; the same bytes every time."""
    clock = Clock()
    wire = memory(hosts, clock, faults, seed=4)
    watch = Watch(str(path), True, [], False)
    watch.open({LINK_RAW})
    watch.begin()
    bench = bench_of(
        clock, [lane_of(Tap(wire, watch.see[0], "memory", LINK_RAW, clock), targets, ports)], Settings(timeout=0.5)
    )
    bench.transports = [wire]
    bench.run()
    watch.close(bench.rows and 1_700_000_000 * 10**9, clock.now, 0)


@makes("raw-ip.pcap")
def raw_ip(path: Path) -> None:
    hosts = {f"198.18.1.{n}": Host({22: "open", 25: (3, 13), 80: "drop"}, ttl=60 + n) for n in range(1, 4)}
    in_memory(path, "198.18.1.1-4", hosts, Faults(), [22, 25, 80, 443])


@makes("raw-ip-faults.pcapng.gz")
def raw_ip_faults(path: Path) -> None:
    hosts = {f"2001:db8::{n}": Host({22: "open", 25: (1, n), 80: "drop"}, ttl=60 + n) for n in range(1, 7)}
    in_memory(path, "2001:db8::/125", hosts, Faults(0.3, 0.2, 0.3, (0.0, 0.2)), [22, 25, 80, 443])


# ── other scanners, against the same host ──


def peer(name: str, commands: str | list[str], *capture: str) -> None:
    """One scanner scans the host of the lab."""

    @makes(name)
    def make(path: Path) -> None:
        with demo_box() as box, tcpdump(box, path, *capture):
            for command in [commands] if isinstance(commands, str) else commands:
                run(box, command)


TO4 = "198.18.0.2"
GATE = "02:00:00:00:00:02"
NMAP = f"nmap -n -Pn -p {PORTS4} --max-retries 1 {TO4}"
peer("nmap-syn.pcap.gz", NMAP + " -sS")
peer("nmap-connect.pcap.gz", NMAP + " -sT")
peer("nmap-syn-v6.pcap.gz", f"nmap -6 -n -Pn -sS -p {PORTS} --max-retries 1 2001:db8::2")
peer(
    "masscan.pcap.gz",
    f"masscan {TO4} -p {PORTS4} --rate 500 --wait 1 --adapter scan0 --adapter-ip 198.18.0.1 "
    f"--adapter-mac 02:00:00:00:00:01 --router-mac {GATE}",
)
ZMAP = f"zmap -i scan0 -G {GATE} -S 198.18.0.1 -b /dev/null -r 500 -c 1 --probes 2 {TO4} -p"  # zmap takes one port
peer("zmap.pcap.gz", [f"{ZMAP} {port}" for port in PORTS4.split(",")])
peer("hping3.pcap.gz", f"hping3 -S --scan {PORTS4} {TO4}")

# ── how it was captured ──

SYN_SCAN = f"nmap -n -Pn -sS -p {FEW} --max-retries 0 {TO4}"
peer("any-sll2.pcap", SYN_SCAN, "-i", "any")
peer("any-sll.pcap", SYN_SCAN, "-i", "any", "-y", "LINUX_SLL")
peer("snap54.pcap", SYN_SCAN, "-s", "54")
peer("snap68.pcap", SYN_SCAN, "-s", "68")
peer("only-sent.pcap", SYN_SCAN, "-Q", "out", "tcp")
peer("only-received.pcap", SYN_SCAN, "-Q", "in")


@makes("router.pcap")
def router(path: Path) -> None:
    with routed_box() as box:
        box.listen([22])
        box.install(
            {PortKind.TCP_RESET: [113], PortKind.ADMIN_PROHIBITED: [3013], PortKind.DROP: [135]}, box.router, "forward"
        )
        targets = (box.target_ip, box.target_ip6, "198.18.77.7")  # the third address has no route
        halfopen(box, *targets, "-p", f"21,{FEW}", "--retries", "1", "--record", str(path), "--force")


@makes("two-scanners.pcap")
def two_scanners(path: Path) -> None:
    with demo_box() as box:
        box.scanner.ip(["addr add 198.18.0.3/24 dev scan0"])
        with tcpdump(box, path):
            for source in ("198.18.0.1", "198.18.0.3"):
                run(box, f"{SYN_SCAN} -S {source} -e scan0")


@makes("clients.pcap")
def clients(path: Path) -> None:
    """Connections: one carries data, the server resets one, one is refused, one gets no answer."""
    with demo_box() as box, tcpdump(box, path):
        with box.target.entered():
            server = socket.create_server(("198.18.0.2", 5000))
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        with box.scanner.entered():
            for port in (5000, 5000, 22, 23, 135):
                with socket.socket() as client:
                    client.settimeout(0.5)
                    try:
                        client.connect(("198.18.0.2", port))
                        client.sendall(b"hello\n")
                        client.recv(100)
                    except OSError:
                        pass
        server.close()


def _serve(server: socket.socket) -> None:
    """The first client gets an answer, the second a reset."""
    first, _ = server.accept()
    first.recv(100)
    first.sendall(b"hello yourself\n")
    first.close()
    second, _ = server.accept()
    second.recv(100)
    second.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    second.close()


# ── many tools, each from an address of its own ──

TOOLS_NET = "198.18.0"
PLAIN_PORTS = ",".join(str(port) for port in range(20, 50))
SCAPY = """
from scapy.all import IP, TCP, conf, send
conf.verb = 0
send([IP(src="{source}", dst="{target}") / TCP(dport=port) for port in range(20, 40)])
"""
# By the last byte of the source address. `-S` and `-a` choose the address; other programs have that of the route.
BY_ADDRESS: dict[int, list[str]] = {
    11: [f"nmap -n -Pn -sS -T2 -p {FEW} --max-retries 1 -e scan0 -S {TOOLS_NET}.11 {TO4}"],
    12: [f"nmap -n -Pn -sS -T4 -p {PLAIN_PORTS} -e scan0 -S {TOOLS_NET}.12 {TO4}"],
    13: [f"nmap -n -Pn -sS -T5 -p {PORTS4} -e scan0 -S {TOOLS_NET}.13 {TO4}"],
    14: [f"nmap -n -Pn -sT -T2 -p {FEW} --max-retries 1 {TO4}"],
    15: [f"nmap -n -Pn -sT -T4 -p {PLAIN_PORTS} {TO4}"],
    16: [f"nmap -n -Pn -sT -T5 -p {PORTS4} {TO4}"],
    17: [f"nc -n -z -w 1 {TO4} 20-30", f"nc -n -z -w 1 {TO4} 80", f"nc -n -z -w 1 {TO4} 443"],
    18: [f"curl -s -m 2 http://{TOOLS_NET}.{host}:8000/README.md" for host in (201, 202, 203, 204)],
    19: ["scapy"],
    20: [f"hping3 -S -p ++20 -c 30 -i u2000 -a {TOOLS_NET}.20 {TO4}"],
    21: [f"nmap -n -Pn -sF -p {FEW} --max-retries 1 -e scan0 -S {TOOLS_NET}.21 {TO4}"],
    22: [f"nmap -n -Pn -sN -p {FEW} --max-retries 1 -e scan0 -S {TOOLS_NET}.22 {TO4}"],
    23: [f"nmap -n -Pn -sX -p {FEW} --max-retries 1 -e scan0 -S {TOOLS_NET}.23 {TO4}"],
    24: [f"nmap -n -Pn -sA -p {PLAIN_PORTS} -e scan0 -S {TOOLS_NET}.24 {TO4}"],
    25: [f"nmap -n -Pn -sU -T5 -p {PLAIN_PORTS} --max-retries 1 -e scan0 -S {TOOLS_NET}.25 {TO4}"],
    26: [
        f"nmap -n -Pn -sS -T4 -p {PLAIN_PORTS} -e scan0 -S {TOOLS_NET}.26 {TO4}",
        f"masscan {TO4} -p {PORTS4} --rate 500 --wait 1 --adapter scan0 --adapter-ip {TOOLS_NET}.26 "
        f"--adapter-mac 02:00:00:00:00:01 --router-mac {GATE}",
        f"nmap -n -Pn -sT -T4 -p {FEW} {TO4}",
    ],
}  # fmt: skip


@makes("who-tools.pcap.gz")
def who_tools(path: Path) -> None:
    """Port scanners, and clients, one after the other."""
    with demo_box() as box, tcpdump(box, path, "-s", "192"):  # short slots: more fit
        box.scanner.ip([f"addr add {TOOLS_NET}.{host}/24 dev scan0" for host in BY_ADDRESS])
        box.target.ip([f"addr add {TOOLS_NET}.{host}/24 dev host0" for host in (201, 202, 203, 204)])
        server = box.target.popen([sys.executable, "-m", "http.server", "8000"], cwd=PCAPS, stderr=subprocess.DEVNULL)
        time.sleep(1)
        for host, commands in BY_ADDRESS.items():
            source = f"{TOOLS_NET}.{host}"
            box.scanner.ip([f"route replace {TOOLS_NET}.0/24 dev scan0 src {source}"])
            for command in commands:
                script = [sys.executable, "-c", SCAPY.format(source=source, target=TO4)]
                subprocess_in(box, script if command == "scapy" else command.split()).communicate(timeout=60)
        server.terminate()
        server.wait(10)


# ── made from the published formulas of tools that are not here ──


def _syn(
    address: int, target: str, port: int, seq: int, ip_id: int, ttl: int, window: int, options: str, sport: int
) -> bytes:
    """A SYN in IPv4 from 198.18.0.`address`; in IPv6 where the target is such an address. Checksums are 0."""
    extra = bytes.fromhex(options)
    tcp = struct.pack(">HHIIBBHHH", sport, port, seq, 0, (20 + len(extra)) << 2, 2, window, 0, 0) + extra
    if ":" in target:
        source, far = (socket.inet_pton(socket.AF_INET6, text) for text in (f"2001:db8::{address}", target))
        return struct.pack(">IHBB", 6 << 28, len(tcp), 6, ttl) + source + far + tcp
    source, far = (socket.inet_aton(text) for text in (f"198.18.0.{address}", target))
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), ip_id, 0, ttl, 6, 0) + source + far + tcp


MSS, WINDOWS_OPTIONS = "020405b4", "020405b40103030801010402"
LINUX_OPTIONS = "020405b40402080a{clock:08x}0000000001030307"


def _formula(draw: random.Random) -> Iterator[bytes]:
    """24 probes of each tool to as many targets."""
    for n in range(24):
        far, port = f"198.18.{n}.{draw.randrange(1, 255)}", draw.choice((22, 23, 80, 443))
        word = struct.unpack(">I", socket.inet_aton(far))[0]
        seq, seq32, ip_id, sport = (
            draw.randrange(1 << 32),
            draw.randrange(1 << 32),
            draw.randrange(65536),
            32768 + n * 7,
        )
        mass = (word ^ port ^ seq) & 0xFFFF
        yield _syn(51, far, 23, word, ip_id, 52, draw.randrange(65536), "", 40000)  # Mirai
        yield _syn(52, far, port, n, 0, 64, 1024, MSS, 40001)  # naabu with its counter
        yield _syn(53, far, port, seq32, 0, 64, 1024, MSS, 40002)  # naabu with its SYN cookie
        yield _syn(54, far, port, seq, mass, 245, 1025, MSS, 40003)  # masscan 1.3.9
        yield _syn(55, f"2001:db8::{n + 256:x}", port, seq, 0, 245, 1025, MSS, 40004)  # masscan in IPv6
        yield _syn(56, far, port, seq, ip_id, 250, 65535, WINDOWS_OPTIONS, sport)  # ZMap since 2024
        yield _syn(57, far, port, seq, ip_id, 250, 65535, LINUX_OPTIONS.format(clock=seq32), sport)  # the same
        yield _syn(58, far, port, 1105024978, 54321, 64, 14600, "", 43591)  # a scanner in C that many copied
        yield _syn(59, far, port, seq, 0, 64, 29200, LINUX_OPTIONS.format(clock=seq32), sport)  # no clock: no stack


@makes("who-formula.pcap.gz")
def who_formula(path: Path) -> None:
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINK_RAW)
    records = [
        struct.pack("<IIII", 1_700_000_000, 1000 * n, len(data), len(data)) + data
        for n, data in enumerate(_formula(random.Random(13)))
    ]
    path.write_bytes(gzip.compress(header + b"".join(records), 9, mtime=0))


# ── made from those ──


def _records(name: str) -> tuple[bytes, list[bytes]]:
    """Header and records of a little-endian pcap of pcaps/."""
    data = (PCAPS / name).read_bytes()
    data = gzip.decompress(data) if name.endswith(".gz") else data
    records, at = [], 24
    while at < len(data):
        size = 16 + struct.unpack_from("<I", data, at + 8)[0]
        records.append(data[at : at + size])
        at += size
    return data[:24], records


@makes("big-endian-ns.pcap")
def big_endian(path: Path) -> None:
    header, records = _records("any-sll2.pcap")
    link = struct.unpack("<I", header[20:])[0]
    out = [struct.pack(">IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, link)]
    for record in records:
        second, micro, captured, original = struct.unpack("<4I", record[:16])
        out.append(struct.pack(">4I", second, micro * 1000 + 7, captured, original) + record[16:])
    path.write_bytes(b"".join(out))


@makes("vlan.pcap")
def vlan(path: Path) -> None:
    """A tag within a tag, put into each frame: 802.1ad outside, 802.1Q inside."""
    header, records = _records("nmap-syn-v6.pcap.gz")
    out = [header]
    for record in records:
        second, micro, captured, original = struct.unpack("<4I", record[:16])
        tagged = record[16:28] + struct.pack(">4H", 0x88A8, 7, 0x8100, 9) + record[28:]
        out.append(struct.pack("<4I", second, micro, captured + 8, original + 8) + tagged)
    path.write_bytes(b"".join(out))


@makes("vxlan.pcap")
def vxlan(path: Path) -> None:
    """Each frame in VXLAN, as a cloud's traffic mirror sends it."""
    header, records = _records("nmap-syn-v6.pcap.gz")
    out = [header]
    for record in records:
        second, micro, captured, original = struct.unpack("<4I", record[:16])
        size = 8 + 8 + captured
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + size, 0, 0, 64, 17, 0, b"\xc0\0\2\1", b"\xc0\0\2\2")
        outside = (
            bytes(12)
            + b"\x08\0"
            + ip
            + struct.pack(">4H", 50000, 4789, size, 0)
            + struct.pack(">II", 8 << 24, 5001 << 8)
        )
        out.append(struct.pack("<4I", second, micro, captured + 50, original + 50) + outside + record[16:])
    path.write_bytes(b"".join(out))


@makes("cut.pcap.gz")
def cut(path: Path) -> None:
    header, records = _records("nmap-syn.pcap.gz")
    path.write_bytes(gzip.compress(header + b"".join(records)[:3000], 9, mtime=0))


@makes("begun-late.pcap")
def begun_late(path: Path) -> None:
    header, records = _records("hping3.pcap.gz")
    path.write_bytes(header + b"".join(records[len(records) // 3 :]))


def main() -> None:
    wanted = sys.argv[1:] or list(MAKERS)
    PCAPS.mkdir(exist_ok=True)
    for name in wanted:
        MAKERS[name](PCAPS / name)
        print(f"{(PCAPS / name).stat().st_size:7,} {name}", flush=True)


if __name__ == "__main__":
    main()
