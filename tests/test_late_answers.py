"""Answers that come late, or stand elsewhere in the file: they find their probe, however small the tables are."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest

from scanner.classifier import settle as module
from scanner.classifier.flow_numbers import NEVER
from scanner.classifier.flows import Flows
from scanner.classifier.judge import judge
from scanner.classifier.order import host_runs
from scanner.classifier.rows import rows
from scanner.classifier.settle import retire, settle
from scanner.verdict.rows import Verdict
from tests.builders import SECOND, US, batch, rst, syn, synack, unreachable

Packet = tuple[int, bytes]  # time, frame
PORTS = range(1, 121)
MS = SECOND // 1000


@cache
def scan(version: int) -> tuple[list[Packet], list[Packet]]:
    """What was sent and what came back: two SYNs to each port, both answered after 7 s, in seven ways."""
    sent, received = [], []
    for port in PORTS:
        for turn in range(2):
            probe = {"sport": 40000 + turn, "dport": port, "seq": port * 1000 + turn}
            reply = {"sport": port, "dport": 40000 + turn, "ack": port * 1000 + turn + 1}
            time = port * MS + turn * SECOND
            probe_frame = syn(version, **probe)
            sent.append((time, probe_frame))
            answers = {
                0: [rst(version, seq=0, tos=4, **reply)],
                1: [unreachable(version, quoting=probe_frame)],
                2: [synack(version, **reply), rst(version, **reply)],
                3: [synack(version, **reply)] * 3,
                4: [rst(version, **reply | {"ack": port * 1000 + turn})],
                5: [],
            }.get(port % 8, [synack(version, **reply)])
            received += [(time + 7 * SECOND + at, answer) for at, answer in enumerate(answers)]
            if port % 16 == 7:  # the same SYN again
                sent.append((time + 8 * SECOND, probe_frame))
    return sent, received


def in_time(sent: list[Packet], received: list[Packet]) -> list[Packet]:
    return sorted([*sent, *received])


def shuffled(sent: list[Packet], received: list[Packet]) -> list[Packet]:
    every = [*sent, *received]
    return [every[at] for at in np.random.default_rng(13).permutation(len(every))]


ORDERS: dict[str, Callable[[list[Packet], list[Packet]], list[Packet]]] = {
    "in the order of time": in_time,
    "all that was sent, then all that came back": lambda sent, received: sorted(sent) + sorted(received),
    "all that came back first": lambda sent, received: sorted(received) + sorted(sent),
    "backwards": lambda sent, received: in_time(sent, received)[::-1],
    "shuffled": shuffled,
}


def verdicts(packets: Sequence[Packet], size: int) -> tuple[list[Verdict], int]:
    """The rows of a capture that is read in batches of `size` frames, and the most flows that were forgotten."""
    flows, most = Flows(), 0
    for at in range(0, len(packets), size):
        fresh = flows.count
        times, frames = zip(*packets[at : at + size], strict=True)
        flows.feed(batch(*frames, times=times))
        retire(flows, fresh)
        most = max(most, flows.forgotten.count)
    settle(flows)
    assert flows.probes == 2 * len(PORTS)
    return list(rows(flows, judge(flows, NEVER, False, False).whole())), most


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("size", [3, 50])
def test_small_tables_and_the_order_of_packets_change_no_row(
    version: int, order: Callable[..., list[Packet]], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = verdicts(in_time(*scan(version)), 10_000)
    monkeypatch.setattr(module, "FEW_FLOWS", 16)
    given, _ = verdicts(order(*scan(version)), size)
    assert given == expected


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_batches_of_rows_part_no_host(most: int) -> None:
    flows = Flows()
    flows.feed(batch(*(syn(dst=f"198.18.2.{host}", dport=port) for host in range(9) for port in range(host + 1))))
    judged = judge(flows, NEVER, False, False).whole()
    parts = [list(rows(flows, judged.take(part))) for part in host_runs(flows, judged.target, most)]
    assert sum(parts, []) == list(rows(flows, judged))  # noqa: RUF017
    assert sum(len({row.ip for row in part}) for part in parts) == 9
    assert all(len(part) - most < 9 for part in parts)


@pytest.mark.parametrize("size", [3, 50])
def test_every_open_port_is_open(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW_FLOWS", 16)
    sent, received = scan(4)
    given, forgotten = verdicts([*sent, *received], size)
    assert forgotten > len(PORTS)
    states = {port: {0: "closed", 1: "filtered", 4: "closed", 5: "filtered"}.get(port % 8, "open") for port in PORTS}
    assert {row.port: row.state for row in given if row.scanner_ip == US[4]} == states
