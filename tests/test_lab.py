"""Each port of the lab answers with its own packet, and no lab leaves anything behind."""

import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager

import numpy as np
import pytest

from scanner.errors import ScanError
from scanner.lab import Box, Listeners, Namespace, PortKind, firewall, permissions
from scanner.lab import namespace as namespaces
from scanner.lab.box import INTERFACE, SCANNER, pair_box
from scanner.lab.demo import DEMO, demo_box, expected
from scanner.verdict.table import Reason, classify_icmp, classify_tcp, state_of
from tests.lab.live import LIVE, live
from tests.lab.networks import accept_and_close, direct_box, prefix_box, require, routed_box

Network = Callable[[], AbstractContextManager[Box]]
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


OUR_PORT, SEQUENCE = 40000, 7


def _l4(frame: bytes) -> tuple[int, int, bytes]:
    """Ethernet frame → IP version, protocol, what follows the IP header."""
    ip = frame[14:]
    return (4, ip[9], ip[(ip[0] & 15) * 4 :]) if ip[0] >> 4 == 4 else (6, ip[6], ip[40:])


def _reason(version: int, protocol: int, data: bytes) -> tuple[int, Reason] | None:
    """A reply to one of our SYNs → (target port, reason); None for everything else on the wire.

    Segments of earlier connections arrive too: the kernel delays the ACK of a FIN by up to 40 ms (delayed ACK).
    """
    if protocol == socket.IPPROTO_TCP:
        their_port, our_port, _, acknowledged = struct.unpack("!HHII", data[:12])
        if (our_port, acknowledged) != (OUR_PORT, SEQUENCE + 1):
            return None
        return their_port, Reason(classify_tcp(np.array([data[13]], np.uint8))[0])
    code = classify_icmp(*(np.array([value], np.uint8) for value in (version, data[0], data[1])))[0]
    our_port, their_port = struct.unpack("!HH", data[8 + (20 if version == 4 else 40) :][:4]) if code else (0, 0)
    return (their_port, Reason(code)) if our_port == OUR_PORT else None


def half_open(
    box: Box, version: int, ports: list[int], ttl: int = 64, silent: Collection[int] = ()
) -> dict[int, Reason]:
    """SYN every port from the scanner's namespace with nothing but scapy and a packet socket; port → reason.

    All ports but the `silent` ones are waited for, however long the machine takes. Silence is then short.
    """
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    us, them = (SCANNER[0], box.target_ip) if version == 4 else (SCANNER[1], box.target_ip6)
    header = IP(src=us, dst=them, ttl=ttl) if version == 4 else IPv6(src=us, dst=them, hlim=ttl)
    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    answers = dict.fromkeys(ports, Reason.NO_RESPONSE)
    waited_for = set(ports) - set(silent)
    with box.scanner.entered():
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with wire:
        wire.bind((INTERFACE, 3))
        for port in ports:
            wire.send(bytes(ether / header / TCP(sport=OUR_PORT, dport=port, seq=SEQUENCE, flags="S")))
        until = time.monotonic() + 10
        while select.select([wire], [], [], max(0, until - time.monotonic()) if waited_for else 0.2)[0]:
            frame, origin = wire.recvfrom(2048)
            if origin[2] != socket.PACKET_OUTGOING and origin[1] in (0x0800, 0x86DD):  # type: ignore[attr-defined]
                port, reason = _reason(*_l4(frame)) or (0, Reason.NONE)
                answers |= {port: reason} if port in answers else {}
                waited_for.discard(port)
                if not waited_for and not silent:
                    break
    return answers


def connect(namespace: Namespace, address: str, port: int) -> str:
    """A full handshake from this namespace: "connected", or the name of the error."""
    with namespace.entered():
        client = socket.socket(FAMILY[6 if ":" in address else 4])
    with client:
        client.settimeout(30)
        try:
            client.connect((address, port))
        except OSError as error:
            return type(error).__name__
        return "connected"


def _fds() -> set[str]:
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return {f"{link} {os.readlink(link)}" for link in links if os.path.islink(link)}


def _fail_inside(network: Network) -> None:
    with network() as box, accept_and_close(box, [80]), box.target.entered():
        raise ZeroDivisionError


def _net() -> str:
    return os.readlink("/proc/thread-self/ns/net")


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with demo_box() as made:
        yield made


class TestScene:
    pytestmark = LIVE

    @pytest.mark.parametrize("version", [4, 6])
    def test_every_port_answers_as_the_table_says(self, box: Box, version: int) -> None:
        rows = expected(box, version)
        truth = {row.port: (row.expected_state, row.expected_reason(version)) for row in rows}
        silent = [row.port for row in rows if row.kind is PortKind.DROP]
        seen = half_open(box, version, [row.port for row in rows], silent=silent)
        assert {port: (state_of(reason), reason) for port, reason in seen.items()} == truth

    def test_a_handshake_through_the_syn_proxy_reaches_the_listener(self, box: Box) -> None:
        if (PortKind.SYN_PROXY, 4) in box.unavailable:
            pytest.skip(box.unavailable[PortKind.SYN_PROXY, 4])
        with accept_and_close(box, [8444]):
            box.install({PortKind.SYN_PROXY: [8444]})
            with box.scanner.entered(), socket.create_connection((box.target_ip, 8444), 3) as client:
                assert client.recv(1) == b""  # only the listener behind the proxy closes like this

    def test_there_is_no_default_route(self, box: Box) -> None:
        routes = [["ip", version, "route", "show", "default"] for version in ("-4", "-6")]
        assert [space.run(route).stdout for space in (box.scanner, box.target) for route in routes] == [""] * 4


def test_scene_is_consistent() -> None:
    reasons = [(row.expected_state, reason) for row in DEMO for reason in row[3:5] if reason is not None]
    assert [state for state, _ in reasons] == [state_of(reason) for _, reason in reasons]


def test_scene_names_each_port_once_and_each_kind() -> None:
    assert len({row.port for row in DEMO}) == len(DEMO)
    assert {row.kind for row in DEMO} == set(PortKind)


class TestBox:
    pytestmark = LIVE

    def test_whole_prefix_answers_on_the_link_and_the_scanner_keeps_its_address(self) -> None:
        with prefix_box(16) as box:
            box.listen([80])
            addresses = ["198.18.0.2", "198.18.0.3", "198.18.0.77", "198.18.200.7", "198.18.255.254"]
            assert {a: connect(box.scanner, a, 80) for a in addresses} == dict.fromkeys(addresses, "connected")
            seen = set(box.scanner.run(["ip", "-4", "neigh"]).stdout.split()) & set(addresses)
            assert seen == set(addresses)

    def test_hosts_are_added_one_by_one(self) -> None:
        with direct_box(hosts=20) as box:
            box.listen([80])
            addresses = ["198.18.0.21", "2001:db8::2", "2001:db8::15"]
            assert [connect(box.scanner, a, 80) for a in addresses] == ["connected"] * 3

    @pytest.mark.parametrize("network", [direct_box, routed_box])
    def test_far_addresses_are_all_the_target(self, network: Network) -> None:
        with network() as box:
            box.listen([80])
            addresses = ["198.19.0.1", "198.19.255.9", "2001:db8:ff::1", "2001:db8:ff::ffff:9"]
            assert [connect(box.scanner, a, 80) for a in addresses] == ["connected"] * 4

    @pytest.mark.parametrize("version", [4, 6])
    def test_router_reports_expired_probes_and_forwards_the_others(self, version: int) -> None:
        with routed_box() as box:
            box.listen([80])
            connect(box.scanner, box.target_ip if version == 4 else box.target_ip6, 80)  # fills the neighbour tables
            got = [half_open(box, version, [80, 81], ttl) for ttl in (1, 2)]
            expired = {80: Reason.TIME_EXCEEDED, 81: Reason.TIME_EXCEEDED}
            assert got == [expired, {80: Reason.SYN_ACK, 81: Reason.RESET}]

    def test_router_filters_translates_and_masquerades(self) -> None:
        with routed_box() as box:
            box.listen([80])
            assert box.router is not None
            box.install({PortKind.TCP_RESET: [22], PortKind.ADMIN_PROHIBITED: ["23-25"]}, box.router, "forward")
            require(
                box.router,
                "add table ip nat\n"
                "add chain ip nat pre { type nat hook prerouting priority -100 ; }\n"
                f"add rule ip nat pre tcp dport 8000 dnat to {box.target_ip}:80\n"
                "add chain ip nat post { type nat hook postrouting priority 100 ; }\n"
                "add rule ip nat post masquerade\n",
            )
            assert connect(box.scanner, "198.18.0.254", 8000) == "connected"
            direct = half_open(box, 4, [22, 24, 80, 81])
            assert direct == {22: Reason.RESET, 24: Reason.ADMIN_PROHIBITED, 80: Reason.SYN_ACK, 81: Reason.RESET}

    def test_what_nft_refuses_is_reported_and_the_rest_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(firewall.ACTIONS, PortKind.POLICY_FAIL, firewall.Actions("reject with nonsense", None))
        with direct_box() as box:
            box.install({PortKind.POLICY_FAIL: [1], PortKind.PORT_UNREACHABLE: [2]})
            assert list(box.unavailable) == [(PortKind.POLICY_FAIL, 4)]
            assert half_open(box, 4, [1, 2]) == {1: Reason.RESET, 2: Reason.PORT_UNREACH}

    @pytest.mark.parametrize("network", [direct_box, routed_box])
    def test_nothing_is_left_behind_by_an_exception(self, network: Network) -> None:
        before = _net(), _fds(), threading.active_count()
        with pytest.raises(ZeroDivisionError):
            _fail_inside(network)
        assert (_net(), _fds(), threading.active_count()) == before

    def test_a_box_that_cannot_be_built_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = _net(), _fds()
        monkeypatch.setattr("scanner.lab.box.TARGET", ("not-an-address2", "2001:db8::2"))
        with pytest.raises(ScanError, match="the lab's network could not be set up: Error"), pair_box():
            pass
        assert (_net(), _fds()) == before

    def test_a_started_program_lives_in_the_namespace(self) -> None:
        with direct_box() as box:
            child = box.target.popen(["sh", "-c", "readlink /proc/self/ns/net"], stdout=-1)
            output, _ = child.communicate(timeout=60)
            with box.target.entered():
                assert output.decode().strip() == _net()


class TestListeners:
    pytestmark = LIVE

    def test_accepting_takes_each_connection_and_closes_it(self) -> None:
        with direct_box() as box, accept_and_close(box, [80]):
            with box.scanner.entered():
                client = socket.create_connection((box.target_ip, 80), 30)
            with client:
                assert client.recv(1) == b""

    def test_a_taken_port_leaves_nothing_open(self) -> None:
        with Namespace.create() as space, Listeners(space, [80]):
            before = _fds()
            with pytest.raises(OSError, match="in use"):
                Listeners(space, [79, 80])
            assert _fds() == before


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "SEARCH", "/nonexistent")
    wanted = "the lab needs the program 'ip': install the package iproute2 (apt install iproute2)"
    assert permissions.inside("not here") == wanted


CAPS = 1 << permissions.CAP_SYS_ADMIN
AS_ROOT = "run it as root: sudo make demo (sudo halfopen demo where it is installed)"
PRIVILEGED = "start the container with --privileged (or run it outside): docker run --privileged …"
APPARMOR = "kernel/apparmor_restrict_unprivileged_userns"
EXPLANATIONS = [
    (False, 0, {APPARMOR: "1"},
     f"kernel.apparmor_restrict_unprivileged_userns=1 takes the rights away inside user namespaces; {AS_ROOT}"),
    (False, 0, {"user/max_user_namespaces": "0", APPARMOR: "1"},
     f"user.max_user_namespaces=0 allows no user namespaces; {AS_ROOT}"),
    (False, 0, {"kernel/unprivileged_userns_clone": "0"},
     f"kernel.unprivileged_userns_clone=0 keeps user namespaces from ordinary users; {AS_ROOT}"),
    (False, 0, {"user/max_user_namespaces": "9", "kernel/unprivileged_userns_clone": "1", APPARMOR: "0"},
     f"the complaint; {AS_ROOT}"),
    (True, CAPS - 1, {}, f"this root lacks CAP_SYS_ADMIN, as in a container; {PRIVILEGED}"),
    (True, CAPS, {}, f"the complaint; {PRIVILEGED}"),
    (True, CAPS, {"user/max_net_namespaces": "0"},
     "user.max_net_namespaces=0 allows no network namespaces; as root: sysctl -w user.max_net_namespaces=1000"),
    (True, CAPS, {APPARMOR: "1"}, f"the complaint; {PRIVILEGED}"),
]  # fmt: skip


@pytest.mark.parametrize(("root", "capabilities", "settings", "sentence"), EXPLANATIONS)
def test_the_cause_is_named(root: bool, capabilities: int, settings: dict[str, str], sentence: str) -> None:
    said = permissions.explain(root, capabilities, settings, "the complaint")
    assert said == f"no lab can be made here: {sentence}"


class TestReenter:
    pytestmark = LIVE

    @pytest.fixture(autouse=True)
    def _elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pretend that this process may not; the child in its user namespace decides for itself."""
        refusal = permissions.inside("not here")
        if refusal is not None:
            pytest.skip(refusal)
        monkeypatch.setattr(permissions, "here", lambda: "not here")

    @pytest.mark.parametrize(
        ("program", "code"),
        [
            ("from scanner.lab import here; raise SystemExit(here())", 0),
            ("raise SystemExit(7)", 7),
            ("import os; os.kill(os.getpid(), 15)", 128 + signal.SIGTERM),
            ("import socket as s; a = s.create_server(('127.0.0.1', 0)); s.create_connection(a.getsockname(), 2)", 0),
        ],
    )
    def test_the_child_makes_a_lab_and_its_exit_code_comes_back(self, program: str, code: int) -> None:
        assert permissions.run_inside(["-c", program]) == code

    def test_refused_everywhere_is_one_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(permissions, "inside", lambda _: "no lab can be made here: because")
        with pytest.raises(ScanError, match=r"^no lab can be made here: because$"):
            permissions.reenter(["demo"])


@live
def test_reenter_stays_where_a_lab_can_be_made() -> None:
    assert permissions.reenter(["demo"]) is None
