"""Who sent a reset: paths and addresses without any firewall, where the mark of the probes comes and goes.

Each scene changes the replies of one host in memory, over many seeds. A claim about the sender of a reset would be
false in all of them. The same scan of a host with a firewall keeps its claims.
"""

import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from scanner.halfopen.scan import Settings
from scanner.packet.headers import IP, TCP, Bytes, Rows
from scanner.verdict.loss import Bound
from tests.builders import SECOND
from tests.memory import Faults, Host
from tests.simulation import Bench, bench

HOST = {4: "198.18.1.7", 6: "2001:db8:1::7"}
SEEDS = range(30)
CLAIMS = {"firewall-reset", "host-reset"}
VERSIONS = pytest.mark.parametrize("version", [4, 6])


class Reply(NamedTuple):
    """A reset on its way back: its headers, writable, when it arrives (ns), and a number for its flow, from 0 to 99."""

    ip: Rows
    port: int
    when: int
    flow: int

    def clear(self) -> None:
        """As a path that clears the DSCP."""
        if "tos" in (self.ip.dtype.names or ()):
            self.ip["tos"] = 0
        else:
            self.ip["version_class_flow"] &= np.uint32(0xF00FFFFF)

    def nearer(self, hops: int) -> None:
        """Over fewer routers; over more, if negative."""
        self.ip["ttl" if "ttl" in (self.ip.dtype.names or ()) else "hop_limit"] += np.uint8(hops % 256)

    def number(self) -> None:
        """As a stack that counts its packets, or marks its flows."""
        if "id" in (self.ip.dtype.names or ()):
            self.ip["id"] = self.flow + 1
        else:
            self.ip["version_class_flow"] |= np.uint32(self.flow + 1)


Change = Callable[[Reply], None]


def altered(running: Bench, change: Change, seed: int) -> Bench:
    """The scan, with a path that changes every reply."""
    transport = running.transports[0]
    deliver = transport.deliver

    def changed(frame: bytes, when: int) -> None:
        version = frame[0] >> 4
        raw: Bytes = np.frombuffer(frame, np.uint8).copy()
        tcp = raw[IP[version].itemsize :].view(TCP)[0]
        flow = zlib.crc32(seed.to_bytes(4, "big") + tcp.tobytes()[:4])
        change(Reply(raw[: IP[version].itemsize].view(IP[version]), int(tcp["sport"]), when, flow % 100))
        deliver(raw.tobytes(), when)

    transport.deliver = changed
    return running


def claims(running: Bench) -> dict[int, set[str]]:
    """Ports with a claim about the sender of their reset."""
    words = {row.port or 0: CLAIMS & set(row.evidence) for row in running.run().rows}
    return {port: found for port, found in words.items() if found}


def balanced(share: int, *effects: Change) -> Change:
    """This share (%) of the flows takes another path, or goes to another machine."""

    def balance(reply: Reply) -> None:
        for effect in effects if reply.flow < share else ():
            effect(reply)

    return balance


def elsewhere(*effects: Change) -> Change:
    """Another machine answers for ports from 1012 on."""

    def answer(reply: Reply) -> None:
        for effect in effects if reply.port >= 1012 else ():
            effect(reply)

    return answer


def hops(nearer: int) -> Change:
    """Over fewer routers; over more, if negative."""
    return lambda reply: reply.nearer(nearer)


def policer(rate: float, burst: int) -> Change:
    """What exceeds a token bucket loses its DSCP."""
    state = {"tokens": float(burst), "time": 0}

    def police(reply: Reply) -> None:
        passed = max(0, reply.when - state["time"]) / SECOND if state["time"] else 0.0
        state["tokens"] = min(float(burst), state["tokens"] + passed * rate)
        state["time"] = max(int(state["time"]), reply.when)
        if state["tokens"] < 1:
            reply.clear()
        else:
            state["tokens"] -= 1

    return police


def nothing(reply: Reply) -> None:
    """A path that changes nothing."""


clear, number = Reply.clear, Reply.number
SCENES: dict[str, Callable[[], Change]] = {
    "ECMP, 5 % of the flows": lambda: balanced(5, clear),
    "ECMP, 12 % of the flows": lambda: balanced(12, clear),
    "ECMP, half of the flows": lambda: balanced(50, clear),
    "ECMP, 88 % of the flows": lambda: balanced(88, clear),
    "ECMP, 95 % of the flows": lambda: balanced(95, clear),
    "a virtual IP by flow, one server behind a router": lambda: balanced(50, clear, hops(-1)),
    "a virtual IP by port, one server behind a router": lambda: elsewhere(clear, hops(-1)),
    "a virtual IP by port, one server with another stack": lambda: elsewhere(clear, number),
    "a port forward to a host behind": lambda: elsewhere(clear, hops(-2)),
    "a port forward to another system": lambda: elsewhere(clear, hops(63)),
    "a policer of 100/s": lambda: policer(100, 5),
    "a policer of 2,000/s": lambda: policer(2000, 8),
    "a policer with a large bucket": lambda: policer(10, 12),
}


@pytest.mark.parametrize("scene", SCENES)
@VERSIONS
def test_nothing_is_claimed_without_a_firewall(scene: str, version: int) -> None:
    false: list[tuple[int, dict[int, set[str]]]] = []
    for seed in SEEDS:
        ports, settings = (4, 12, 40)[seed % 3], Settings(rate=(0.0, 500.0, 5000.0)[seed // 3 % 3])
        span = range(1012 - ports // 2, 1012 + ports // 2)
        running = bench({HOST[version]: Host()}, targets=HOST[version], ports=span, seed=seed, settings=settings)
        if found := claims(altered(running, SCENES[scene](), seed)):
            false.append((seed, found))
    assert false == []


FIREWALL = {**dict.fromkeys(range(1000, 1010), "closed"), **dict.fromkeys(range(1010, 1013), "reject-reset")}
TRUE = {port: {"host-reset" if action == "closed" else "firewall-reset"} for port, action in FIREWALL.items()}


@pytest.mark.parametrize("lost", [0.0, 0.2])
@VERSIONS
def test_a_firewall_is_named(version: int, lost: float) -> None:
    for seed in SEEDS:
        host = Host(dict(FIREWALL))
        running = bench(
            {HOST[version]: host}, targets=HOST[version], ports=FIREWALL, seed=seed, faults=Faults(lost, lost)
        )
        assert claims(running) == TRUE


def probes_from(running: Bench, first: int) -> list[bytes]:
    """Probes from our ports from this one on."""
    at = 20 if running.scan.lanes[0].version == 4 else 40
    return [frame for frame in running.transports[0].probes_seen if int.from_bytes(frame[at : at + 2], "big") >= first]


@VERSIONS
def test_at_most_16_more_probes_half_of_them_to_each_kind_of_port(version: int) -> None:
    running = bench({HOST[version]: Host(dict(FIREWALL))}, targets=HOST[version], ports=FIREWALL)
    running.run()
    at = 22 if version == 4 else 42
    checks = probes_from(running, running.scan.lanes[0].check_ports[0])
    asked = [int.from_bytes(frame[at : at + 2], "big") >= 1010 for frame in checks]
    assert (asked.count(False), asked.count(True), running.scan.transmit.sent["probe"]) == (8, 8, 16 + len(FIREWALL))


def test_no_host_without_a_contrast_is_probed_again() -> None:
    running = bench({HOST[4]: Host(ports={22: "open"})}, targets=HOST[4], ports=range(20, 30)).run()
    assert running.scan.transmit.sent["probe"] == 10


def test_a_claim_that_nobody_answers_to_is_not_made() -> None:
    """The host falls silent before the evidence is tested."""
    running = bench({HOST[4]: Host(dict(FIREWALL))}, targets=HOST[4], ports=FIREWALL, settings=Settings(bound=Bound(2)))
    transport = running.transports[0]
    deliver, first = transport.deliver, running.scan.lanes[0].check_ports[0]
    transport.deliver = lambda frame, when: (
        None if int.from_bytes(frame[22:24], "big") >= first else deliver(frame, when)
    )
    assert claims(running) == {}
    assert running.scan.transmit.sent["probe"] == len(FIREWALL) + 2 * 16


def test_one_source_port_for_all_passes_can_test_nothing_and_claims_nothing() -> None:
    running = bench({HOST[4]: Host(dict(FIREWALL))}, targets=HOST[4], ports=FIREWALL, source_port=40000)
    assert (claims(running), running.scan.transmit.sent["probe"]) == ({}, len(FIREWALL))


def test_a_scan_that_is_stopped_before_the_test_claims_nothing() -> None:
    running = bench({HOST[4]: Host(dict(FIREWALL))}, targets=HOST[4], ports=FIREWALL)
    running.run(lambda now: now.scan.transmit.sent["probe"] > 0)
    running.scan.stop()
    assert claims(running) == {}
