"""The wire with faults does to real frames what its models say, and a neighbour can change while a scan runs.

Counted at the target or from what the scan saw; no time decides a test. What is missed here is not the subject.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.live import LIVE
from tests.lab.networks import direct_box, new_mac, routed_box, set_neighbour
from tests.lab.wire import WireFaults
from tests.live.syn_wire import RST, Segment, Tap, scan
from tests.paths import Ban, Ecmp, Elsewhere, Model, Path, Policer, Table

pytestmark = LIVE
ONCE = ("--retries", "0", "--rate", "5000")


def seen(*out: Model, back: tuple[Model, ...] = ()) -> tuple[list[Segment], list[dict[str, object]]]:
    """What crosses the target's interface while 400 closed ports are probed once, and the rows of the scan."""
    with direct_box(faults=WireFaults(path=Path(out, back))) as box, Tap(box) as tap:
        rows = scan(box, box.target_ip, "-p", "1000-1399", "--all", *ONCE).rows
        return tap.segments(), rows


def closed(rows: list[dict[str, object]]) -> int:
    return sum(row["state"] == "closed" for row in rows)


def test_a_ban_counts_probes() -> None:
    """Control probes count, too."""
    segments, rows = seen(Ban(50, "syn"))
    assert (len([each for each in segments if not each.out]), 40 <= closed(rows) <= 50) == (50, True)


def test_a_table_of_connections_is_full() -> None:
    """Control probes take entries, too."""
    segments, rows = seen(Table(100, 60, 60))
    assert (len([each for each in segments if not each.out]), 80 <= closed(rows) <= 100) == (100, True)


@pytest.mark.parametrize(("model", "least", "most"), [(Ecmp(0.5), 150, 250), (Policer(1, 100, clear=True), 100, 101)])
def test_headers_are_changed_and_their_checksums_are_right(model: Model, least: int, most: int) -> None:
    """The kernel drops a packet whose IP checksum is wrong, so every probe must be answered."""
    segments, rows = seen(model)
    marked = [each for each in segments if not each.out and each.tos == 4]
    assert (closed(rows), least <= len(marked) <= most) == (400, True)
    assert len([each for each in segments if each.out and each.flags & RST and each.tos == 4]) == len(marked)


def test_some_ports_seem_to_be_another_host() -> None:
    rows = seen(back=(Elsewhere(1000, 1099, hops=-63),))[1]
    assert {(int(str(row["port"])) < 1100, row["ttl"]) for row in rows} == {(True, 127), (False, 64)}


@pytest.mark.parametrize("network", [direct_box, routed_box])
def test_a_neighbour_changes_its_mac_address_and_goes_and_comes_back(network: Callable[..., Any]) -> None:
    counts = []
    with network(faults=WireFaults()) as box:
        for change in (
            lambda: None,
            lambda: new_mac(box, "02:00:00:00:07:07"),
            lambda: set_neighbour(box, False),
            lambda: set_neighbour(box, True),
        ):
            change()
            counts.append(closed(scan(box, box.target_ip, "-p", "1000-1009", "--all", *ONCE).rows))
    assert counts == [10, 10, 0, 10]
