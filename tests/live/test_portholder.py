"""The kernel answers from ports that are not held, and not from held ports."""

import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address

import pytest

from scanner.errors import UsageError
from scanner.lab import Namespace
from scanner.transport import held_ports as portholder
from tests.lab.live import LIVE
from tests.processes import PATIENCE

pytestmark = LIVE

OURS = {4: "198.18.0.1", 6: "2001:db8::1"}
THEIRS = {4: "198.18.0.2", 6: "2001:db8::2"}
UNHELD = 9
MAC, THEIR_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    """Our machine is on eth0. The other end, far0, has no addresses, so the test reads every frame there."""
    with Namespace.create() as made:
        lines = ["link set lo up", f"link add eth0 address {MAC} type veth peer name far0 address {THEIR_MAC}"]
        lines += [f"link set {name} addrgenmode none" for name in ("eth0", "far0")]
        lines += [f"address add {OURS[4]}/24 dev eth0", f"address add {OURS[6]}/64 dev eth0 nodad"]
        lines += [f"link set {name} up" for name in ("eth0", "far0")]
        lines += [f"neighbour add {address} lladdr {THEIR_MAC} dev eth0" for address in THEIRS.values()]
        made.ip(lines)
        yield made


@pytest.fixture(autouse=True)
def _inside(namespace: Namespace) -> Iterator[None]:
    with namespace.entered():
        yield


def answers(version: int, ports: list[int], flags: str) -> set[int]:
    """Send one segment to each of our ports from outside, with the largest TTL; returns the ports that answered."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    header = IP if version == 4 else IPv6
    hops = {"ttl": 255} if version == 4 else {"hlim": 255}
    lead = Ether(src=THEIR_MAC, dst=MAC) / header(src=THEIRS[version], dst=OURS[version], **hops)
    found: set[int] = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire:
        wire.bind(("far0", 3))
        for port in ports:
            wire.send(bytes(lead / TCP(sport=80, dport=port, flags=flags, seq=100, ack=7)))
        # Nothing holds the last port. When its answer has come, the kernel has dealt with the ports before it.
        wire.send(bytes(lead / TCP(sport=80, dport=UNHELD, flags="S", seq=100)))
        until = time.monotonic() + PATIENCE
        while select.select([wire], [], [], 0.05 if UNHELD in found else max(0, until - time.monotonic()))[0]:
            frame, origin = wire.recvfrom(2048)
            reply = Ether(frame)
            if origin[2] != socket.PACKET_OUTGOING and TCP in reply:  # type: ignore[attr-defined]
                found.add(int(reply[TCP].sport))
    return found - {UNHELD}


@pytest.mark.parametrize("flags", ["SA", "S", "A", "R"])
@pytest.mark.parametrize("version", [4, 6])
def test_only_unheld_ports_are_reset(version: int, flags: str) -> None:
    with closing(portholder.hold(ip_address(OURS[version]), None, 3, seed=1234)) as mine:
        ports = [*mine.ports, mine.ports[-1] + 1, mine.ports[0] - 1]
        drawn = answers(version, ports, flags)
    unheld = set() if flags == "R" else set(ports[3:])  # no host answers a reset with a reset
    assert (mine.held, drawn) == (True, unheld)


HOLD = "from scanner.transport.held_ports import hold; from ipaddress import ip_address; import sys\n"
HOLD += "mine = hold(ip_address(sys.argv[1]), None, 3, seed=77); print(*mine.ports, flush=True); sys.stdin.read()"
BARE = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


@pytest.mark.parametrize("flags", ["SA", "S", "A", "R"])
@pytest.mark.parametrize("version", [4, 6])
def test_held_ports_of_a_process_without_rights_answer_nothing(version: int, flags: str) -> None:
    """Newer kernels refuse it the filter. Neighbours that send with TTL 255 get no answer either."""
    command = [*BARE, sys.executable, "-c", HOLD, OURS[version]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        ports = [int(port) for port in holder.stdout.readline().split()]
        drawn = answers(version, [*ports, ports[0] - 1], flags)
        holder.communicate()
    assert (len(ports), drawn) == (3, set() if flags == "R" else {ports[0] - 1})


@pytest.mark.parametrize("version", [4, 6])
def test_closing_gives_the_ports_back(version: int) -> None:
    mine = portholder.hold(ip_address(OURS[version]), 40000, 1)
    held = answers(version, [40000], "SA")
    mine.close()
    mine.close()
    assert (held, answers(version, [40000], "SA")) == (set(), {40000})


@pytest.mark.parametrize("version", [4, 6])
def test_a_port_held_without_quiet_looks_closed(version: int) -> None:
    address = ip_address(OURS[version])
    with (
        closing(portholder.hold(address, 40000, 1, quiet=False)),
        closing(portholder.hold(address, None, 1, seed=40000 - 32768)) as next_,
    ):
        assert (answers(version, [40000], "SA"), next_.ports) == ({40000}, (40001,))


@pytest.mark.parametrize(("seed", "base"), [(0, 32768), (28227, 60995), (28228, 32768), (28228 * 10**9 + 7, 32775)])
def test_a_seed_chooses_the_base(seed: int, base: int) -> None:
    with closing(portholder.hold(ip_address(OURS[4]), None, 5, seed)) as mine:
        assert mine.ports == tuple(range(base, base + 5))


@pytest.mark.parametrize("version", [4, 6])
def test_a_port_in_use_is_skipped(version: int) -> None:
    address = ip_address(OURS[version])
    with closing(portholder.hold(address, 32770, 1)), closing(portholder.hold(address, None, 4, seed=0)) as mine:
        assert mine.ports == (32771, 32772, 32773, 32774)


def test_a_wanted_port_in_use_is_an_error_that_names_it() -> None:
    with socket.socket() as other:
        other.bind(("", 40001))
        other.listen()
        with pytest.raises(UsageError) as caught:
            portholder.hold(ip_address(OURS[4]), 40001, 1)
    words = f"source port 40001 is in use on {OURS[4]}: choose another with --source-port, or leave it out"
    assert str(caught.value) == words


@pytest.mark.parametrize("address", ["198.18.77.7", "2001:db8:77::7"])
def test_an_address_that_is_not_ours_holds_nothing(address: str) -> None:
    with closing(portholder.hold(ip_address(address), 40002, 2)) as mine:
        assert mine == portholder.HeldPorts((40002, 40003), False)
