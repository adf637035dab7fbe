"""The keys of a scan: a seed fixes the order, and nothing that a target sees tells how to forge a reply."""

from collections.abc import Iterator

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP

from scanner.config import SynConfig, keys_of
from scanner.halfopen import setup
from scanner.halfopen.scan import Scan, Settings
from scanner.packet.addresses import from_text
from scanner.packet.cookie import Key, sequence
from scanner.targets.spaces import Spaces
from scanner.targets.spec import parse_hosts
from scanner.transport.held_ports import HeldPorts
from scanner.verdict.loss import Bound
from tests.builders import OUR_PORT, SECOND, synack
from tests.memory import Host, answer
from tests.replies import Action
from tests.simulation import Bench, Clock, lane_of, memory, target

SEED, US, THEM, NET = 7, "127.0.0.1", "127.0.0.9", "127.0.0.8/30"
PORTS = range(1, 101)


def scan_of(action: Action = "drop") -> Bench:
    """A scan with the seed, as the command makes it, over the network in memory."""
    config, clock = SynConfig(seed=SEED), Clock()
    transport = memory({f"127.0.0.{host}": Host(other=action) for host in range(8, 12)}, clock)
    keys, hosts = keys_of(config), parse_hosts([NET], [], lambda name: [])
    ((route, part),) = setup.routes_of(hosts, config, print).hosts.items()
    held = HeldPorts(tuple(range(OUR_PORT, OUR_PORT + config.passes + 1)), False)
    lane = setup.lane_of(route, Spaces(part, [np.array(PORTS, np.uint16)]), transport, held, config, keys)
    return Bench(Scan([lane], Settings(bound=Bound(2)), keys.order), clock, [transport])


def probes(scan: Bench) -> list[bytes]:
    """What has left."""
    seen: list[bytes] = scan.transports[0].probes_seen
    return seen


def clocks(frames: list[bytes]) -> np.ndarray:
    """The TCP time stamps of frames, uint32."""
    return np.array([dict(IP(frame)[TCP].options)["Timestamp"][0] for frame in frames], np.uint32)


def test_one_seed_gives_one_order_and_two_scans_that_share_no_secret() -> None:
    one, other = (probes(scan_of().run()) for _ in range(2))
    assert [target(frame)[:3] for frame in one] == [target(frame)[:3] for frame in other]
    assert not {target(frame)[3] for frame in one} & {target(frame)[3] for frame in other}
    assert len({int(clocks(frames)[0]) for frames in (one, other)}) == 2


def test_the_time_stamp_is_a_clock_that_goes_on() -> None:
    frames = probes(scan_of().run())
    steps = np.diff(clocks(frames)).astype(np.int64)
    assert (steps.min(), 100 <= steps.sum() <= 10_000) == (0, True)  # ms; two passes, and a wait between them


@pytest.mark.parametrize(("later", "shown"), [(0, 5), (SECOND, 1005), (SECOND // 1000 - 1, 5), (SECOND << 32, 5)])
def test_the_time_stamp_counts_milliseconds_modulo_two_to_the_32(later: int, shown: int) -> None:
    lane = lane_of(None)
    lane.clock_offset = 5
    assert lane.clock(later) == shown


def guessed_keys(frame: bytes) -> Iterator[Key]:
    """What a host that got one probe may try: the seed in both words, and the time stamp beside it."""
    seen = int(clocks([frame])[0])
    for low in (SEED, seen, seen & 0x7FFFFFFF, seen | 1 << 31):
        yield from (Key(low, high) for high in (0, SEED, seen))
    yield Key.from_bytes(SEED.to_bytes(16, "little"))


def test_a_host_that_got_one_probe_opens_no_port_of_another_host() -> None:
    bench = scan_of().run(lambda bench: len(probes(bench)) >= 1)
    forged = 0
    for key in guessed_keys(probes(bench)[0]):
        ports = np.array(PORTS, np.uint16)
        numbers = sequence(key, 4, from_text(THEM).repeat(len(ports)), ports, OUR_PORT)
        for port, number in zip(PORTS, numbers.tolist(), strict=True):
            ack = (number + 1) & 0xFFFFFFFF
            bench.transports[0].deliver(synack(src=THEM, dst=US, sport=port, ack=ack), bench.clock.now)
            forged += 1
    bench.run()
    assert {row.state for row in bench.rows} == {"filtered"}
    assert bench.scan.receiver.rejected["bad-cookie"] == forged


def test_the_answers_of_an_earlier_scan_with_the_same_seed_open_nothing() -> None:
    earlier, bench = scan_of("open").run(), scan_of().run(lambda bench: len(probes(bench)) == 4 * len(PORTS))
    for frame in probes(earlier):
        bench.transports[0].deliver(answer(frame, "open", 64), bench.clock.now)
    bench.run()
    assert {row.state for row in earlier.rows} == {"open"}
    assert {row.state for row in bench.rows} == {"filtered"}
