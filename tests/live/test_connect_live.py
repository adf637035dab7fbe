"""Full handshakes against the lab's kernel: every way of answering, loss, shortage, interrupts, proxies."""

import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from scanner.config import SynConfig
from scanner.connect import verify
from scanner.connect.calls import Calls, descriptor_room
from scanner.connect.local_end import LocalEnd
from scanner.connect.scan import connect_session
from scanner.errors import ScanError
from scanner.halfopen.session import syn_session
from scanner.lab import Box, PortKind
from scanner.lab.box import INTERFACE, SCANNER
from scanner.lab.demo import DEMO, add_demo_ports
from scanner.packet.addresses import from_text
from scanner.rounds.pacing import Budget, TokenBucket
from scanner.rounds.rows import window_rows
from scanner.rounds.session import Session
from scanner.targets.hostspace import Shard
from scanner.targets.names import resolve
from scanner.targets.ports import parse_ports
from scanner.targets.spaces import Spaces
from scanner.targets.spec import parse_hosts
from scanner.transport.steady import steady_clock
from scanner.verdict.ledger import Mark
from scanner.verdict.rows import Verdict
from scanner.verdict.table import Reason, state_of
from tests.lab.live import LIVE
from tests.lab.networks import direct_box, require, routed_box

pytestmark = LIVE


def budget(rate: float = 0.0) -> Budget:
    return Budget(TokenBucket(rate), Counter())


OPEN = ("open", "syn-ack", ("handshake-completed",))
CLOSED = ("closed", "conn-refused", ())
SILENT = ("filtered", "no-response", ())
# What the kernel makes of each reply to a SYN (net/ipv4/icmp.c, net/ipv6/icmp.c): it tells less than the wire does.
TOLD = {
    Reason.SYN_ACK: Reason.SYN_ACK,
    Reason.RESET: Reason.CONN_REFUSED,
    Reason.NO_RESPONSE: Reason.NO_RESPONSE,
    Reason.NET_UNREACH: Reason.NET_UNREACH,
    Reason.HOST_UNREACH: Reason.HOST_UNREACH,
    Reason.PROTO_UNREACH: Reason.PROTO_UNREACH,
    Reason.PORT_UNREACH: Reason.CONN_REFUSED,
    Reason.DEST_UNREACH: Reason.NO_RESPONSE,  # 3/7, EHOSTDOWN
    Reason.NET_PROHIBITED: Reason.NET_UNREACH,
    Reason.HOST_PROHIBITED: Reason.HOST_UNREACH,
    Reason.ADMIN_PROHIBITED: Reason.HOST_UNREACH,
}
TOLD6 = TOLD | {
    Reason.NO_ROUTE: Reason.NET_UNREACH,
    Reason.ADMIN_PROHIBITED: Reason.ADMIN_PROHIBITED,
    Reason.BEYOND_SCOPE: Reason.HOST_UNREACH,
    Reason.REJECT_ROUTE: Reason.ADMIN_PROHIBITED,
}
LISTENING, DROPPED, NOBODY = 8443, 8445, 8444  # behind the router's SYN proxy


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with direct_box(hosts=30) as made:
        add_demo_ports(made)
        made.listen(range(10_000, 10_100))
        yield made


@pytest.fixture(scope="module")
def proxied() -> Iterator[Box]:
    """A router that proxies SYNs to a listener, to nobody, and to a host that drops them; 22 is not proxied."""
    with routed_box() as made:
        made.listen([LISTENING, 22])
        made.install({PortKind.SYN_PROXY: [LISTENING, DROPPED, NOBODY, "49152-65535"]}, made.router, "forward")
        made.install({PortKind.DROP: [DROPPED]})
        if made.unavailable:
            pytest.skip(f"no SYN proxy here: {made.unavailable}")
        yield made


def session(targets: list[str], ports: str, **options: object) -> Session:
    config = SynConfig(**({"rate": 0.0} | options))  # type: ignore[arg-type]
    return connect_session(Spaces(parse_hosts(targets, [], resolve), [parse_ports(ports)]), config)


def scan(box: Box, made: Session) -> list[Verdict]:
    with box.scanner.entered():
        return [row for rows in made.batches() for row in rows]


def scan_and_stop(box: Box, made: Session, times: int, when: Callable[[], bool]) -> list[Verdict]:
    """As `scan`; asks the session so many times to stop, as soon as the condition holds."""
    asked = 0

    def tick() -> None:
        nonlocal asked
        while asked < times and when():
            asked += 1
            made.stop()

    with box.scanner.entered():
        return [row for rows in made.batches(tick=tick) for row in rows]


def claims(rows: list[Verdict]) -> dict[tuple[str, int | None], tuple[str, str, tuple[str, ...]]]:
    assert len({(row.ip, row.port) for row in rows}) == len(rows)
    return {(row.ip, row.port): (row.state, row.reason, row.evidence) for row in rows}


@pytest.mark.parametrize(("version", "told"), [(4, TOLD), (6, TOLD6)])
def test_demo_scene(box: Box, version: int, told: dict[Reason, Reason]) -> None:
    address = box.target_ip if version == 4 else box.target_ip6
    expected = {}
    for row in DEMO:
        reason = row.expected_reason(version)
        if reason is not None and (row.kind, version) not in box.unavailable:
            word = told[reason]
            expected[(address, row.port)] = (state_of(word).value, word.word, OPEN[2] if word is Reason.SYN_ACK else ())
    made = session([address], ",".join(str(port) for _, port in expected))
    assert claims(scan(box, made)) == expected


def test_every_port_once_and_no_connection_left(box: Box) -> None:
    rows = scan(box, session([box.target_ip], "9000-29999"))
    left = box.scanner.run(["ss", "-Htan"]).stdout
    opened = {(row.ip, row.port) for row in rows if (row.state, row.reason, row.evidence) == OPEN}
    assert (Counter((row.state, row.reason) for row in rows), opened, left) == (
        {("open", "syn-ack"): 100, ("closed", "conn-refused"): 20_900},
        {(box.target_ip, port) for port in range(10_000, 10_100)},
        "",
    )


def test_rows_are_complete(box: Box) -> None:
    before = time.time()
    (row,) = scan(box, session([box.target_ip], "22"))
    assert 0 < (row.rtt_ms or 0) < 500
    assert before <= (row.time or 0) <= time.time()
    assert row._replace(rtt_ms=None, time=None) == Verdict(
        box.target_ip, 22, "open", "syn-ack", service="ssh", evidence=("handshake-completed",), pass_=1
    )


def test_shards_cover_everything_once(box: Box) -> None:
    rows = [scan(box, session(["198.18.0.2-31"], "22,23", seed=7, shard=Shard(i, 3))) for i in (1, 2, 3)]
    assert [len(part) for part in rows] == [20, 20, 20]
    expected = {
        (f"198.18.0.{host}", port): OPEN if port == 22 else CLOSED for host in range(2, 32) for port in (22, 23)
    }
    assert claims([row for part in rows for row in part]) == expected


def test_lost_syns_are_repeated() -> None:
    with direct_box() as box:
        box.listen(range(1000, 1200))
        require(box.target, "add table inet l; add chain inet l i { type filter hook input priority 0; };"
                "add rule inet l i tcp flags & (syn|ack) == syn numgen random mod 100 < 30 drop")  # fmt: skip
        made = session([box.target_ip], "1000-1999", max_missed=0.0001, retries=30, seed=1)
        rows = scan(box, made)
    assert claims(rows) == {(box.target_ip, port): OPEN if port < 1200 else CLOSED for port in range(1000, 2000)}
    assert made.stats().loss == pytest.approx(0.3, abs=0.08)
    assert {row.pass_ for row in rows} >= {1, 2, 3}


def test_a_thousand_filtered_ports_of_a_host_that_answers_take_two_passes() -> None:
    with direct_box() as box:
        box.install({PortKind.DROP: ["1000-1999"]})
        made = session([box.target_ip], "900-1999")
        rows = scan(box, made)
    assert claims(rows) == {(box.target_ip, port): CLOSED if port < 1000 else SILENT for port in range(900, 2000)}
    sent = made.stats().sent
    assert (made.stats().passes, sent["probe"], 100 <= sent["control"] <= 200) == (2, 1100 + 1000, True)
    assert made.stats().seconds < 10


def test_few_descriptors_slow_the_scan_and_change_nothing(box: Box) -> None:
    """The limit is lowered after the session has measured it."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    made = session([box.target_ip], "135,139,445,10000-10099", retries=1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 3, limits[1]))
    try:
        rows = scan(box, made)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    ports = {135: SILENT, 139: SILENT, 445: SILENT, **dict.fromkeys(range(10_000, 10_100), OPEN)}
    assert claims(rows) == {(box.target_ip, port): claim for port, claim in ports.items()}
    assert list(made.stats().shortages) == ["EMFILE (Too many open files)"]


def test_a_call_that_meets_itself_is_no_open_port(box: Box) -> None:
    """With two source ports to choose from, a call to the address's own ports meets itself sooner or later."""
    box.scanner.sysctl("net/ipv4/ip_local_port_range", "40000 40001")
    try:
        rows = [scan(box, session([SCANNER[0]], "40000,40001", retries=0)) for _ in range(20)]
    finally:
        box.scanner.sysctl("net/ipv4/ip_local_port_range", "32768 60999")
    assert [claims(each) for each in rows] == [dict.fromkeys([(SCANNER[0], 40_000), (SCANNER[0], 40_001)], CLOSED)] * 20


def test_rate_holds(box: Box) -> None:
    made = session([box.target_ip], "10000-10099", rate=200.0, seed=3)
    scan(box, made)
    assert 0.4 < made.stats().seconds < 20  # a busy machine may be slower, none may be faster


def test_interrupted_once_waits_for_what_is_under_way(box: Box) -> None:
    made = session([box.target_ip], "135,139,445", timeout=0.4, retries=5)
    rows = scan_and_stop(box, made, 1, lambda: made.stats().sent["probe"] == 3)
    expected = ("filtered", "no-response", ("interrupted",))
    assert claims(rows) == {(box.target_ip, port): expected for port in (135, 139, 445)}
    assert (made.stats().interrupted, made.stats().passes) == (True, 1)


def test_interrupted_twice_claims_nothing_of_what_is_under_way(box: Box) -> None:
    made = session([box.target_ip], "22,23,135,139,445", timeout=5.0)
    rows = scan_and_stop(box, made, 2, lambda: made.live_stats().answered == 2)
    assert claims(rows) == {(box.target_ip, 22): OPEN, (box.target_ip, 23): CLOSED}


def test_a_source_address_and_interface(box: Box) -> None:
    with box.scanner.entered():
        calls: Calls[None] = Calls(budget(), LocalEnd("198.18.0.1", INTERFACE), keep=True)
        assert calls.start(None, 0, box.target_ip, 22)
        while not calls.ended:
            calls.collect(1)
        (outcome,) = calls.take()
    assert outcome.connection is not None
    ours = outcome.connection.socket.getsockname()[0]
    calls.hang_up(outcome.connection)
    calls.close()
    assert (outcome.code, ours) == (0, "198.18.0.1")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (
            LocalEnd("198.18.0.77"),
            "198.18.0.2",
            "cannot connect from 198.18.0.77: Cannot assign requested address; is it this machine's?",
        ),
        (
            LocalEnd(None, "nowhere0"),
            "198.18.0.2",
            "cannot connect from nowhere0: No such device; is it this machine's?",
        ),
        (
            LocalEnd(),
            "fe80::1",
            "connect() failed with EINVAL (Invalid argument): a link-local address needs a zone (fe80::1%eth0)",
        ),
    ],
)
def test_what_no_target_can_answer_stops_the_scan(box: Box, source: LocalEnd, target: str, message: str) -> None:
    calls: Calls[None] = Calls(budget(), source)
    with box.scanner.entered(), pytest.raises(ScanError) as caught:
        calls.start(None, 0, target, 22)
    calls.close()
    assert str(caught.value) == message


def test_verify(proxied: Box) -> None:
    wanted = {
        (proxied.target_ip, 22): Mark.HANDSHAKE_COMPLETED,
        (proxied.target_ip, LISTENING): Mark.HANDSHAKE_COMPLETED,
        (proxied.target_ip, NOBODY): Mark.HANDSHAKE_REFUSED,
        (proxied.target_ip, DROPPED): Mark.SILENT_AFTER_HANDSHAKE,
        (proxied.target_ip, 23): Mark.HANDSHAKE_REFUSED,
        (proxied.target_ip6, 22): Mark.HANDSHAKE_COMPLETED,
    }
    hosts, ports = zip(*wanted, strict=True)
    with proxied.scanner.entered():
        found = verify.verify(hosts, ports, budget(100.0), steady_clock(), wait=1.2)
    assert dict(zip(wanted, found.marks, strict=True)) == wanted
    assert found.connected == [True, True, True, True, False, True]


def test_verify_a_target_that_is_silent(box: Box) -> None:
    with box.scanner.entered():
        found = verify.verify([box.target_ip], [135], budget(), steady_clock(), wait=0.1)
    assert (found.marks, found.connected) == ([Mark.SILENT_AFTER_HANDSHAKE], [False])


def test_verify_many(box: Box) -> None:
    with box.scanner.entered():
        found = verify.verify([box.target_ip] * 1000, [10_000 + i % 100 for i in range(1000)], budget(), steady_clock())
    assert found.marks == [Mark.HANDSHAKE_COMPLETED] * 1000


@pytest.mark.parametrize("name", ["proxied", "box"])
def test_control_ports_tell_a_wall(name: str, request: pytest.FixtureRequest) -> None:
    box: Box = request.getfixturevalue(name)
    with box.scanner.entered():
        found = verify.open_everywhere(
            from_text(box.target_ip), verify.control_ports(parse_ports("1-1024"), 5), budget(), steady_clock()
        )
    assert found.tolist() == [name == "proxied"]


def test_the_descriptor_limit_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    room = descriptor_room()
    assert (resource.getrlimit(resource.RLIMIT_NOFILE), room) == ((hard, hard), min(16_384, hard - 64))


def test_verify_marks_the_rows_of_a_half_open_scan(proxied: Box) -> None:
    ports = parse_ports(f"22,23,{NOBODY},{LISTENING},{DROPPED}")
    with proxied.scanner.entered():
        spaces = Spaces(parse_hosts([proxied.target_ip], [], resolve), [ports])
        made = syn_session(spaces, SynConfig(rate=0.0))
        while not made.engine.done:
            time.sleep(min(0.01, made.engine.turn(made.now())))
        (window,) = made.engine.windows.closed
        verify.verify_window(window, budget(), steady_clock(), wait=1.2)
        made.close()
    proxy = ("syn-proxy",)
    assert claims(list(window_rows(window, time.time_ns()))) == {
        (proxied.target_ip, 22): OPEN,
        (proxied.target_ip, 23): ("closed", "reset", ()),
        (proxied.target_ip, NOBODY): ("open", "syn-ack", ("handshake-refused", *proxy)),
        (proxied.target_ip, LISTENING): ("open", "syn-ack", ("handshake-completed", *proxy)),
        (proxied.target_ip, DROPPED): ("open", "syn-ack", ("silent-after-handshake", *proxy)),
    }
