"""Interfaces that vanish, change their name, or go down while a half-open scan runs.

Every target answers: port 22 is open and port 23 closed on each address. So a row that says anything else is false, and
above all `filtered`: it would say of a target what is true of our own interface.
"""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scanner.errors import ScanError
from scanner.lab import Box, PortKind
from scanner.lab.box import INTERFACE, PEER, SCANNER, TARGET, add_addresses, cable
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.syn_wire import SYN, Tap, command, environment
from tests.processes import PATIENCE, wait_until

pytestmark = LIVE

NET, TARGETS = "198.19.0.0/21", 4096
NET6 = "2001:db8:ff::/117"
TRUTH = {22: "open", 23: "closed"}
MANY = [NET, "-p", "22,23", "--rate", "2000"]


@pytest.fixture
def box() -> Iterator[Box]:
    with direct_box() as made:
        made.listen([22])
        made.install({PortKind.DROP: ["2000-2099"]})
        yield made


def start(box: Box, out: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """A scan into a file, with a line of progress for each second."""
    line = [*command(*arguments), "-o", str(out), "--progress", "json", "--force"]
    return box.scanner.popen(line, stdout=-3, stderr=subprocess.PIPE, env=environment())


def probed(box: Box, wanted: int) -> None:
    """Return when so many probes have arrived at the target."""
    with Tap(box) as tap:
        seen = 0

        def enough() -> bool:
            nonlocal seen
            seen += sum(each.flags == SYN and not each.out for each in tap.segments())
            return seen >= wanted

        assert wait_until(enough)


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, list[str]]:
    """The exit code, and what was said beside the progress and the summary."""
    _, said = process.communicate(timeout=PATIENCE)
    return process.returncode, [line for line in said.decode().splitlines() if line.startswith("halfopen: ")]


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def false(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in found if row["state"] != TRUTH[row["port"]]]


def connect_again(box: Box) -> None:
    """The cable, the addresses and the route that went with the interface."""
    cable(box.scanner, INTERFACE, box.target, PEER)
    add_addresses(box.scanner, INTERFACE, SCANNER)
    add_addresses(box.target, PEER, TARGET)
    box.scanner.ip([f"route add 198.19.0.0/16 via {TARGET[0]}"])


def test_an_interface_that_is_deleted_in_mid_scan(box: Box, tmp_path: Path) -> None:
    """Kept: the rows of what had answered; nothing is called filtered."""
    out = tmp_path / "out.jsonl"
    process = start(box, out, *MANY)
    probed(box, 1000)
    box.scanner.ip([f"link delete {INTERFACE}"])
    assert ended(process) == (1, [f"halfopen: the interface {INTERFACE} has gone"])
    found = rows(out)
    assert (false(found), 900 < len(found) < TARGETS) == ([], True)


def test_an_interface_that_is_deleted_in_the_last_wait(box: Box, tmp_path: Path) -> None:
    """Kept: the host and the ports that had answered. The silent ones had not been waited for, so they have no row."""
    out = tmp_path / "out.jsonl"
    # Many passes follow the first one, so that the scan is not over before the interface goes.
    patient = ("--timeout", "30", "--max-missed", "1e-30", "--retries", "30")
    process = start(box, out, box.target_ip, "-p", "22,23,2000-2099", "--rate", "2000", *patient)
    probed(box, 102)
    box.scanner.ip([f"link delete {INTERFACE}"])
    assert ended(process) == (1, [f"halfopen: the interface {INTERFACE} has gone"])
    assert sorted((row["port"], row["state"]) for row in rows(out)) == sorted(TRUTH.items())


def test_a_scan_whose_interface_was_deleted_is_taken_up_again(box: Box, tmp_path: Path) -> None:
    """Kept: the state. Both parts together hold each target once."""
    out, state = tmp_path / "out.jsonl", tmp_path / "state"
    process = start(box, out, *MANY, "--resume", str(state))
    probed(box, 1000)
    box.scanner.ip([f"link delete {INTERFACE}"])
    assert ended(process)[0] == 1
    connect_again(box)
    code, _ = ended(start(box, out, *MANY, "--resume", str(state)))
    found = rows(out)
    assert (code, false(found), len(found), state.exists()) == (0, [], TARGETS, False)
    assert len({(row["ip"], row["port"]) for row in found}) == TARGETS


ANOTHER_MAC = f"link set {INTERFACE} address 02:00:00:00:77:01"
MAC_CHANGED = [f"halfopen: the interface {INTERFACE} has got another MAC address"]


def test_an_interface_that_gets_another_mac_address(box: Box, tmp_path: Path) -> None:
    """Kept: the rows of what had answered. Replies to the old address are lost, and no target is called filtered."""
    out = tmp_path / "out.jsonl"
    process = start(box, out, *MANY)
    probed(box, 1000)
    box.scanner.ip([ANOTHER_MAC])
    assert ended(process) == (1, MAC_CHANGED)
    assert (false(rows(out)), 900 < len(rows(out)) < TARGETS) == ([], True)


def test_an_interface_that_comes_back_with_another_mac_address(box: Box, tmp_path: Path) -> None:
    """Kept: the state. Both parts together hold each target once."""
    out, state = tmp_path / "out.jsonl", tmp_path / "state"
    process = start(box, out, *MANY, "--resume", str(state))
    probed(box, 1000)
    box.scanner.ip([f"link set {INTERFACE} down", ANOTHER_MAC, f"link set {INTERFACE} up"])
    box.scanner.ip([f"route replace 198.19.0.0/16 via {TARGET[0]}"])
    assert ended(process) == (1, MAC_CHANGED)
    code, _ = ended(start(box, out, *MANY, "--resume", str(state)))
    assert (code, false(rows(out)), len(rows(out))) == (0, [], TARGETS)


@pytest.mark.parametrize("around", [("link set scan0 down", "link set other0 up"), ()])
def test_a_renamed_interface_is_still_the_same(box: Box, tmp_path: Path, around: tuple[str, ...]) -> None:
    """Kept: everything, because the scan goes on."""
    out = tmp_path / "out.jsonl"
    process = start(box, out, *MANY)
    probed(box, 1000)
    try:
        box.scanner.ip([*around[:1], f"link set {INTERFACE} name other0", *around[1:]])
    except ScanError:  # before Linux 6.2 only an interface that is down can be renamed
        process.kill()
        process.communicate()
        pytest.skip("this kernel renames no interface that is up")
    if around:
        add_addresses(box.scanner, "other0", SCANNER[1:])
    assert ended(process) == (0, [])
    assert (false(rows(out)), len(rows(out))) == ([], TARGETS)


@pytest.mark.parametrize("end", [INTERFACE, PEER])
@pytest.mark.parametrize("net", [NET, NET6])
def test_an_interface_that_is_down_for_longer_than_a_stuck_one(box: Box, tmp_path: Path, end: str, net: str) -> None:
    """Kept: everything. The scan stands still without its interface or its cable, and goes on."""
    out = tmp_path / "out.jsonl"
    process = start(box, out, net, *MANY[1:])
    side = box.scanner if end == INTERFACE else box.target
    probed(box, 1000)
    side.ip([f"link set {end} down"])
    assert process.stderr is not None
    sent = (json.loads(process.stderr.readline())["sent"] for _ in range(60))
    still = any(len(set(seven)) == 1 for seven in zip(*[sent] * 7, strict=False))  # a line a second
    side.ip([f"link set {end} up"])
    add_addresses(side, end, SCANNER[1:] if end == INTERFACE else TARGET[1:])
    code, _ = ended(process)
    assert (code, false(rows(out)), len(rows(out))) == (0, [], TARGETS)
    assert still


def test_an_interface_that_flaps_in_the_last_wait(box: Box, tmp_path: Path) -> None:
    """Kept: everything: what may have been missed is asked again."""
    out = tmp_path / "out.jsonl"
    process = start(box, out, box.target_ip, "-p", "22,23,2000-2099", "--rate", "2000", "--retries", "0")
    probed(box, 102)
    box.scanner.ip([f"link set {INTERFACE} down", f"link set {INTERFACE} up"])
    _, said = process.communicate(timeout=PATIENCE)
    states = Counter(row["state"] for row in rows(out))
    assert (process.returncode, states) == (0, Counter(filtered=100, open=1, closed=1))
    assert f"put off 1 time: {INTERFACE} is down; what was open was scanned anew" in said.decode()
