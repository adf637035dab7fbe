"""Two machines with one address: what contradicts itself is shown, and a second MAC address is said."""

import json
from typing import Any

import pytest
from scapy.layers.l2 import Ether

from scanner.halfopen.neighbours import FURTHER, MOST_NAMED
from scanner.rounds.statistics import ScanStats, stats_of
from scanner.rounds.summary import summary_lines
from tests.builders import OUR_MAC, SECOND
from tests.memory import Faults, Host, MemoryTransport
from tests.simulation import NET, NET_PORTS, Clock, Link, bench_of, lane_of, link, target

TARGET = {4: "198.18.1.7", 6: "2001:db8:1::7"}
FORGER = "02:00:00:00:00:66"


@pytest.mark.parametrize("version", [4, 6])
def test_an_address_whose_hosts_take_turns(version: int) -> None:
    """One host has all ports open, the other none. Some ports are silent, so answered ones are asked again.

    What both have answered is open, and shows the conflict.
    """
    clock, turn = Clock(), iter(range(10**6))
    silent = dict.fromkeys(range(41, 61), "drop")
    hosts = (Host(silent, other="open"), Host(silent, other="closed"))
    wire = MemoryTransport(lambda address: hosts[next(turn) % 2], clock, Faults(), 1)
    done = bench_of(clock, [lane_of(wire, TARGET[version], range(1, 61))]).run()
    answered: dict[int, set[int]] = {}
    for number, frame in enumerate(wire.probes_seen):
        answered.setdefault(target(frame)[1], set()).add(number % 2)
    said = {row.port: (row.state, "conflict:reset" in row.evidence) for row in done.rows if row.port not in silent}
    words = {(0,): ("open", False), (1,): ("closed", False), (0, 1): ("open", True)}
    assert said == {port: words[tuple(sorted(answered[port]))] for port in said}
    assert len(said) == 40
    assert sum(conflict for _, conflict in said.values()) > 10


class Twins(Link):
    """Each query is answered by a second machine as well, `later` seconds after the first."""

    later = 0.0

    def ask(self, frame: Any) -> None:
        super().ask(frame)
        when, answer = self.answers[-1]
        second = bytes(answer).replace(answer[6:12], bytes.fromhex(FORGER.replace(":", "")))
        assert Ether(second).src == FORGER
        self.answers.append((when + int(self.later * SECOND), second))


def twins(version: int, later: float, **lane: Any) -> ScanStats:
    wire, clock = link(version, [TARGET[version]])
    both = Twins(wire.inner, clock, dict(wire.macs, gateway=wire.macs[TARGET[version]]))
    both.macs |= dict.fromkeys(GATEWAY.values(), wire.macs[TARGET[version]])
    both.later = later
    return bench_of(clock, [lane_of(both, TARGET[version], NET_PORTS, mac=OUR_MAC, **lane)]).run().stats()


GATEWAY = {4: "198.18.0.254", 6: "2001:db8::fe"}
NAME = "(02:00:00:00:00:66 and 02:00:00:00:01:00)"


@pytest.mark.parametrize("later", [0.0, 0.002])
@pytest.mark.parametrize("version", [4, 6])
def test_a_second_mac_address_is_said(version: int, later: float) -> None:
    """At once, and when the first probes have left."""
    stats = twins(version, later)
    assert stats.two_macs == {f"{TARGET[version]} {NAME}": 1}
    assert f"{TARGET[version]} {NAME} answers from more than one MAC address" in summary_lines(stats)
    assert stats_of(json.loads(json.dumps(stats.as_json()))).two_macs == stats.two_macs


@pytest.mark.parametrize("version", [4, 6])
def test_a_second_mac_address_of_the_gateway_is_said(version: int) -> None:
    gateway = GATEWAY[version]
    assert list(twins(version, 0.002, gateway=gateway).two_macs) == [f"{gateway} {NAME}"]


def test_one_mac_address_is_usual() -> None:
    wire, clock = link(4, [TARGET[4]])
    assert bench_of(clock, [lane_of(wire, NET[4], NET_PORTS, mac=OUR_MAC)]).run().stats().two_macs == {}


def test_many_second_addresses_are_counted_and_few_are_named() -> None:
    targets = [f"198.18.{high}.{low}" for high in (4, 5) for low in range(256)]
    clock = Clock()
    wire = Twins(
        MemoryTransport(lambda address: None, clock, Faults(), 1), clock, dict.fromkeys(targets, "02:00:00:00:01:00")
    )
    stats = bench_of(clock, [lane_of(wire, "198.18.4.0/23", [80], mac=OUR_MAC)]).run().stats()
    assert (len(stats.two_macs), FURTHER in stats.two_macs, stats.two_macs.total()) == (MOST_NAMED + 1, True, 512)
    assert len([line for line in summary_lines(stats) if "MAC" in line]) == 10
