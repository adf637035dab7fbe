"""What cannot be scanned is named and counted, and does not keep the rest from being scanned."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanner.lab import Box
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.syn_wire import scan

pytestmark = LIVE

HOST, AWAY, AWAY_6 = "198.18.0.2", "203.0.113.9", "2001:db8:ffff::9"
NO_ROUTE = "cannot be reached (no route): leave it out (--exclude), or add a route"
NOT_THROUGH = NO_ROUTE.replace("reached", "reached through scan0").replace(
    "no route", "no route, or one of type unreachable"
)
UNRESOLVED = "cannot resolve 'no.such.name.invalid'"


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with direct_box() as made:
        made.listen([22])
        yield made


@pytest.mark.parametrize("verb", ["syn", "connect"])
def test_the_rest_is_scanned(box: Box, verb: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{AWAY}\n{HOST}\nno.such.name.invalid\n{AWAY_6}\n")
    stats = tmp_path / "stats.json"
    ended = scan(box, "-iL", str(tmp_path / "list"), "-p", "22", "--stats", str(stats), verb=verb)
    assert (ended.code, [(row["ip"], row["state"]) for row in ended.rows]) == (0, [(HOST, "open")])
    said = "\n".join(ended.errors)
    assert f"halfopen: {tmp_path}/list, line 3: {UNRESOLVED}: it is left out\n" in said
    assert f"halfopen: skipped {AWAY}: {NO_ROUTE}\n" in said
    assert f"halfopen: skipped {AWAY_6}: {NO_ROUTE}\n" in said
    assert "\nnot scanned: 1 name without an address, 2 addresses without a route\n" in said
    counted = json.loads(stats.read_text())
    assert (counted["unresolved"], counted["unrouted"], counted["targets"]) == (1, 2, 1)


@pytest.mark.parametrize("verb", ["syn", "connect"])
def test_with_an_interface_too(box: Box, verb: str) -> None:
    """The kernel would take the host for a neighbour on this interface, and ask the link for it."""
    ended = scan(box, HOST, AWAY, "-p", "22", "-e", "scan0", verb=verb)
    assert (ended.code, [(row["ip"], row["state"]) for row in ended.rows]) == (0, [(HOST, "open")])
    assert f"halfopen: skipped {AWAY}: {NOT_THROUGH}" in ended.errors


NOTHING_LEFT = {
    "no route": ([AWAY], f"{AWAY} {NO_ROUTE}"),
    "no route through an interface": (
        ["-e", "scan0", AWAY],
        f"{AWAY} {NOT_THROUGH}",
    ),
    "no name": (["no.such.name.invalid"], f"{UNRESOLVED}: check the spelling, or give its address"),
    "neither": ([AWAY_6, "no.such.name.invalid"], f"{AWAY_6} {NO_ROUTE}"),
    "a mistake beside a host": ([HOST, "198.18.0.300"], "300 in 198.18.0.300 is not an octet"),
    "an exclude that has no address": ([HOST, "--exclude", "no.such.name.invalid"], UNRESOLVED),
    "a shard without a name": ([HOST, "no.such.name.invalid", "--seed", "1", "--shard", "1/2"], UNRESOLVED),
}


@pytest.mark.parametrize("verb", ["syn", "connect"])
@pytest.mark.parametrize("case", NOTHING_LEFT)
def test_nothing_is_scanned(box: Box, verb: str, case: str) -> None:
    arguments, message = NOTHING_LEFT[case]
    ended = scan(box, *arguments, "-p", "22", verb=verb)
    assert (ended.code, ended.rows) == (2, [])
    assert ended.errors[-1].startswith(f"halfopen: {message}")


@pytest.mark.parametrize("verb", ["syn", "connect"])
def test_a_shard_without_a_route_is_refused(box: Box, verb: str) -> None:
    """Other machines may have the route, and then shards would not number the same hosts."""
    ended = scan(box, HOST, AWAY, "-p", "22", "--seed", "1", "--shard", "1/2", verb=verb)
    assert (ended.code, ended.errors[-1:]) == (2, [f"halfopen: {AWAY} {NO_ROUTE}"])


def test_a_resumed_scan_needs_every_name(box: Box, tmp_path: Path) -> None:
    files = ("-o", str(tmp_path / "scan.jsonl"), "--resume", str(tmp_path / "scan.state"))
    ended = scan(box, HOST, "no.such.name.invalid", "-p", "22", *files)
    assert (ended.code, list(tmp_path.iterdir())) == (2, [])
    assert ended.errors[-1].startswith(f"halfopen: {UNRESOLVED}")
