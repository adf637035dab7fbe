"""The half-open scan against real kernels whose every port is known: each row, each reset, each frame in time."""

import socket
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address

import pytest

from scanner.lab import Box, PortKind
from scanner.lab.box import INTERFACE
from scanner.lab.demo import DEMO, demo_box
from scanner.verdict.table import State
from tests.lab.live import LIVE
from tests.lab.networks import direct_box, routed_box
from tests.live.syn_wire import RST, SYN, SYN_ACK, Tap, scan

pytestmark = LIVE

VERSIONS = pytest.mark.parametrize("version", [4, 6])
EVIDENCE = {
    PortKind.SYN_PROXY: ("syn-proxy",),
    PortKind.TCP_RESET: ("firewall-reset",),
    PortKind.CLOSED: ("host-reset",),
}
PER_SECOND, DEPTH, WINDOW = 2000, 20, 100_000_000  # the depth is 10 ms of the rate; a window of 100 ms
ALL_PORTS = range(1, 65536)
PACKET_OUTGOING = 4  # include/uapi/linux/if_packet.h


def target(box: Box, version: int) -> str:
    return box.target_ip if version == 4 else box.target_ip6


@VERSIONS
@pytest.mark.parametrize("transport", ["xdp", "ring", "raw"])
def test_every_port_of_the_scene(version: int, transport: str) -> None:
    with demo_box() as box:
        known = [row for row in DEMO if row.expected_reason(version)]
        known = [row for row in known if (row.kind, version) not in box.unavailable]
        ports = ",".join(str(row.port) for row in known)
        done = scan(box, target(box, version), "-p", ports, "--transport", transport)
    if "no AF_XDP" in str(done.errors):
        pytest.skip(done.errors[0])
    truth = []
    for row in known:
        reason, silent = row.expected_reason(version), row.kind is PortKind.DROP
        assert reason is not None
        evidence = EVIDENCE.get(row.kind, ())
        truth.append((row.port, row.expected_state.value, reason.word, None if silent else 64, evidence))
    assert (done.code, done.brief("port", "state", "reason", "ttl", "evidence")) == (0, sorted(truth, key=repr))


SEEN = {("--rate", "1000"): True, ("--rate", "auto"): True, ("--rate", "0"): False, ("--transport", "xdp"): False}


@pytest.mark.parametrize("option", SEEN)
def test_taps_of_this_machine_see_ordinary_rates(option: tuple[str, str]) -> None:
    with direct_box() as box:
        with box.scanner.entered():
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        with tap:
            tap.bind((INTERFACE, 3))
            done = scan(box, box.target_ip, "-p", "1-50", *option)
            if "no AF_XDP" in str(done.errors):
                pytest.skip(done.errors[0])
            tap.setblocking(False)
            ports = set()
            with suppress(BlockingIOError):
                while True:
                    frame, (_, _, kind, *_) = tap.recvfrom(2048)
                    if kind == PACKET_OUTGOING and frame[12:14] == b"\x08\x00" and frame[47] == SYN:
                        ports.add(int.from_bytes(frame[36:38], "big"))
    assert ports == (set(range(1, 51)) if SEEN[option] else set())


@pytest.fixture(scope="module")
def crowd() -> Iterator[Box]:
    """300 open ports. The scanner's kernel counts and drops its own resets; frames from the ring bypass the rule."""
    with direct_box() as box:
        box.listen(range(1000, 1300))
        counted = "tcp flags & rst == rst counter name kernel drop"
        chain = f"chain o {{ type filter hook output priority 0 ; {counted} ; }}"
        rules = f"table inet t {{ counter kernel {{ }} ; {chain} ; }}"
        made = box.scanner.run(["nft", "-f", "-"], rules)
        if made.returncode:
            pytest.skip(f"nft: {made.stderr}")
        yield box


@VERSIONS
@pytest.mark.parametrize("transport", ["auto", "ring"])
def test_each_syn_ack_gets_one_reset_and_the_rate_holds(crowd: Box, version: int, transport: str) -> None:
    asked = ["-p", "990-1309", "--rate", str(PER_SECOND), "--transport", transport]
    with Tap(crowd) as tap:
        done = scan(crowd, target(crowd, version), *asked)
        seen = tap.segments()
    truth = [(port, "open" if 1000 <= port < 1300 else "closed") for port in range(990, 1310)]
    assert done.brief("port", "state") == sorted(truth, key=repr)

    answers = Counter((each.sport, each.dport, each.ack) for each in seen if each.out and each.flags == SYN_ACK)
    resets = Counter((each.dport, each.sport, each.seq) for each in seen if not each.out and each.flags == RST)
    assert (len({port for port, _, _ in answers}), resets) == (300, answers)  # control probes are answered, too
    counters = crowd.scanner.run(["nft", "list", "counters"]).stdout
    assert counters.split("packets")[1].split()[0] == "0"

    times = sorted(each.time for each in seen if not each.out)
    most = max(index + 1 - bisect_left(times, time - WINDOW) for index, time in enumerate(times))
    assert most <= PER_SECOND * WINDOW / 1e9 + 2 * DEPTH  # once for the bucket, once for a late wake-up of the sender


def test_options_are_on_the_wire(crowd: Box) -> None:
    crowd.scanner.ip(["addr replace 198.18.0.9/24 dev scan0"])
    asked = ["--ttl", "33", "--tos", "32", "--options", "mss", "--source-ip", "198.18.0.9", "--source-port", "53"]
    with Tap(crowd) as tap:
        done = scan(crowd, crowd.target_ip, "-p", "1000,990", *asked, "-e", "scan0")
        seen = [each for each in tap.segments() if not each.out]
    sent = Counter((each.src, each.ttl, each.tos, each.sport, each.flags, each.options) for each in seen)
    ours = (ip_address("198.18.0.9").packed, 33, 32, 53)
    assert done.brief("port", "state") == [(1000, "open"), (990, "closed")]
    assert sent == {(*ours, SYN, bytes.fromhex("020405b4")): 2, (*ours, RST, b""): 1}


def test_absent_neighbours_are_one_line_each(crowd: Box) -> None:
    done = scan(crowd, "198.18.0.2-3", "2001:db8::2-2001:db8::3", "-p", "1000,990")
    present = [
        (ip, port, state, reason)
        for ip in ("198.18.0.2", "2001:db8::2")
        for port, state, reason in ((1000, "open", "syn-ack"), (990, "closed", "reset"))
    ]
    absent = [("198.18.0.3", None, "down", "no-arp"), ("2001:db8::3", None, "down", "no-ndp")]
    assert (done.code, done.brief("ip", "port", "state", "reason")) == (0, sorted([*present, *absent], key=repr))


@pytest.fixture(scope="module")
def routed() -> Iterator[Box]:
    with routed_box() as box:
        box.listen([22])
        box.install({PortKind.ADMIN_PROHIBITED: [100], PortKind.DROP: [103]}, box.router, "forward")
        box.scanner.ip(["route add 198.18.2.0/24 via 198.18.0.77", "route add 2001:db8:2::/48 via 2001:db8::77"])
        yield box


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "198.18.0.1"])
def test_every_port_of_this_machine_its_own_source_ports_included(routed: Box, address: str) -> None:
    listeners = routed.listen([22, 40000], routed.scanner)
    try:
        done = scan(routed, address, "-p-", "--rate", "0")
    finally:
        listeners.close()
    states = {row["port"]: (row["state"], row["reason"]) for row in done.rows}
    assert len(done.rows) == len(states)
    others = dict.fromkeys(ALL_PORTS, ("closed", "reset"))
    assert states == others | {22: ("open", "syn-ack"), 40000: ("open", "syn-ack")}


@VERSIONS
def test_a_router_answers_for_itself(routed: Box, version: int) -> None:
    router = "198.18.0.254" if version == 4 else "2001:db8::fe"
    done = scan(routed, target(routed, version), "-p", "22,23,100,103")
    assert done.brief("port", "state", "reason", "ttl", "icmp_from") == [
        (100, "filtered", "admin-prohibited", 64, router),
        (103, "filtered", "no-response", None, None),
        (22, "open", "syn-ack", 63, None),
        (23, "closed", "reset", 63, None),
    ]


@pytest.mark.parametrize("block", ["198.19.0.0/24", "2001:db8:ff::/120"])
def test_a_block_behind_the_gateway(routed: Box, block: str) -> None:
    done = scan(routed, block, "-p", "22,23", "--rate", "0")
    assert Counter((row["port"], row["state"], row["ttl"]) for row in done.rows) == {
        (22, State.OPEN.value, 63): 256,
        (23, State.CLOSED.value, 63): 256,
    }
    assert len({(row["ip"], row["port"]) for row in done.rows}) == 512


@pytest.mark.parametrize(("address", "gateway"), [("198.18.2.5", "198.18.0.77"), ("2001:db8:2::5", "2001:db8::77")])
def test_a_silent_gateway_is_an_error_with_its_name(routed: Box, address: str, gateway: str) -> None:
    done = scan(routed, address, "-p", "22")
    assert (done.code, done.rows, len(done.errors)) == (1, [], 1)
    assert gateway in done.errors[0]
