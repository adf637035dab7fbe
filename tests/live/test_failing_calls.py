"""System calls that fail, injected at every place where a scan makes them: what was decided is kept, and it is said.

Every port of the targets is known (22 is open, the rest are closed). So any other row is false. After each fault the
scan is taken up again, without the fault: then its file must hold each target once.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanner.lab import Box
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.syn_wire import ROOT, environment
from tests.processes import PATIENCE

pytestmark = LIVE

PORTS = 200
ALWAYS = 1_000_000
AUTO = ["syn", "198.18.0.2"]
RING, XDP = [*AUTO, "--transport", "ring"], [*AUTO, "--transport", "xdp"]
HERE = ["syn", "127.0.0.1"]  # through raw IP sockets
CONNECT = ["connect", "198.18.0.2"]

# What fails, of which scan: the call, its error, the number of the first call that fails, how many fail.
CASES: dict[str, tuple[list[str], str, str, int, int]] = {
    "no socket": (RING, "socket", "ENOBUFS", 1, ALWAYS),
    "no socket to the process that imports Scapy; another way is allowed": (RING, "socket", "ENOBUFS", 1, 1),
    "no packet socket": (RING, "packet socket", "ENOMEM", 1, ALWAYS),
    "no packet socket for sending": (RING, "packet socket", "ENOBUFS", 2, ALWAYS),
    "source ports": (RING, "bind", "ENETDOWN", 1, ALWAYS),
    "bind of a ring": (RING, "packet bind", "ENXIO", 1, ALWAYS),
    "bind of a ring for sending": (RING, "packet bind", "ENETDOWN", 2, ALWAYS),
    "options of source ports": (RING, "setsockopt", "ENOMEM", 1, ALWAYS),
    "memory of a ring": (RING, "packet option", "ENOBUFS", 3, ALWAYS),
    "option of a ring": (RING, "packet option", "EIO", 6, ALWAYS),
    "map of a ring": (RING, "mmap", "ENOMEM", 1, 1),
    "map of a ring for sending": (RING, "mmap", "EAGAIN", 2, 1),
    "netlink": (RING, "recv", "ENOBUFS", 2, 1),
    "netlink request": (RING, "send", "ENOMEM", 3, 1),
    "full queue for a moment": (RING, "transmit", "ENOBUFS", 3, 50),
    "no memory for a moment": (RING, "transmit", "ENOMEM", 3, 50),
    "down for a moment": (RING, "transmit", "ENETDOWN", 3, 50),
    "full queue for ever": (RING, "transmit", "ENOBUFS", 5, ALWAYS),
    "no device": (RING, "transmit", "ENXIO", 5, ALWAYS),
    "no XDP socket": (XDP, "xdp socket", "EAFNOSUPPORT", 1, ALWAYS),
    "no XDP socket, another way is allowed": (AUTO, "xdp socket", "EPERM", 1, ALWAYS),
    "no memory for XDP": (XDP, "xdp option", "ENOBUFS", 1, ALWAYS),
    "less memory for XDP, for a moment": (XDP, "xdp option", "ENOBUFS", 1, 2),
    "no XDP ring, another way is allowed": (AUTO, "xdp option", "ENOMEM", 3, 1),
    "XDP: no memory for a moment": (XDP, "transmit", "ENOBUFS", 3, 50),
    "XDP: queue full for a moment": (XDP, "transmit", "EAGAIN", 3, 50),
    "XDP: frames dropped, for a moment": (XDP, "transmit", "EBUSY", 3, 50),
    "XDP: no device": (XDP, "transmit", "ENXIO", 5, ALWAYS),
    "counters": (RING, "getsockopt", "EIO", 20, ALWAYS),
    "flags of the interface": (RING, "ioctl", "EIO", 10, ALWAYS),
    "poll": (RING, "poll", "ENOMEM", 3, ALWAYS),
    "frames to this machine, for a moment": (HERE, "sendto", "ENOBUFS", 50, 20),
    "frames to this machine, no memory": (HERE, "sendto", "ENOMEM", 50, ALWAYS),
    "some frames to this machine": (HERE, "sendto", "EPERM", 50, 20),
    "all frames to this machine": (HERE, "sendto", "EPERM", 1, ALWAYS),
    "no way to this machine": (HERE, "sendto", "ENETUNREACH", 50, ALWAYS),
    "first state to disk": (HERE, "fsync", "EIO", 1, ALWAYS),
    "state to disk": ([*HERE, "--rate", "80"], "fsync", "ENOSPC", 2, ALWAYS),
    "state to its name": ([*HERE, "--rate", "80"], "replace", "EDQUOT", 2, ALWAYS),
    "state of a connect scan": ([*CONNECT, "--rate", "80"], "fsync", "EIO", 2, ALWAYS),
    "some calls are refused": (CONNECT, "connect", "EPERM", 30, 50),
    "calls are prohibited": (CONNECT, "connect", "EACCES", 1, ALWAYS),
    "calls without a network": (CONNECT, "connect", "ENETUNREACH", 30, ALWAYS),
    "calls without ports, for a moment": (CONNECT, "connect", "EADDRNOTAVAIL", 30, 3),
    "calls without memory": (CONNECT, "connect", "ENOMEM", 30, ALWAYS),
    "epoll": (CONNECT, "epoll", "ENOMEM", 5, ALWAYS),
}
PASSES_BY = {name for name in CASES if name.startswith("some ") or name.endswith(("for a moment", "is allowed"))} | {
    "counters"
}
EXPECTED = {True: (0, False), False: (1, True)}  # exit code, and whether anything is said
MID_SCAN = ("full queue for ever", "XDP: no device", "frames to this machine, no memory", "calls without memory")


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with direct_box() as made:
        made.listen([22])
        made.listen([22], made.scanner)
        yield made


def run(box: Box, program: list[str], scan: list[str], out: Path, *more: str) -> tuple[int, list[str]]:
    """The exit code and what was said."""
    verb, *target = scan
    line = [sys.executable, "-m", *program, verb, "-p", f"1-{PORTS}", "--rate", "2000", "-q", "-o", str(out), *more]
    process = box.scanner.popen([*line, *target], cwd=ROOT, stdout=-3, stderr=subprocess.PIPE, env=environment())
    _, said = process.communicate(timeout=PATIENCE)
    return process.returncode, said.decode().splitlines()


def right_rows(out: Path) -> list[int]:
    """The ports of the rows, all of which must be right."""
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    assert [row for row in rows if row["state"] != ("open" if row["port"] == 22 else "closed")] == []
    return sorted(row["port"] for row in rows)


def injected(case: str) -> list[str]:
    _, call, error, first, count = CASES[case]
    return ["tests.lab.injection", call, error, str(first), str(count)]


@pytest.mark.parametrize("case", CASES)
def test_a_scan_whose_call_fails_is_taken_up_again(box: Box, tmp_path: Path, case: str) -> None:
    """Kept: rows that are all right, and a state from which the scan goes on."""
    out, state = tmp_path / "out.jsonl", tmp_path / "state"
    scan = CASES[case][0]
    code, said = run(box, injected(case), scan, out, "--resume", str(state))
    kept = right_rows(out)
    # How many calls came before the end depends on how long the scan took.
    assert (code, bool(said)) in (((0, False), (1, True)) if case == "counters" else (EXPECTED[case in PASSES_BY],))
    further = ("halfopen: ", "interrupted: to go on", "some hosts have not been asked: to go on")
    assert [line for line in said if not line.startswith(further)] == []
    if not code:
        assert kept == list(range(1, PORTS + 1))
        return
    if not state.exists() and not out.exists():
        return  # nothing had begun
    if not state.exists():
        out.unlink(missing_ok=True)  # the scan had not begun, or had ended
    assert run(box, ["scanner"], scan, out, "--resume", str(state)) == (0, [])
    assert right_rows(out) == list(range(1, PORTS + 1))


@pytest.mark.parametrize("case", MID_SCAN)
def test_a_call_that_fails_in_mid_scan_costs_no_row(box: Box, tmp_path: Path, case: str) -> None:
    """Kept: the rows of what had answered; one line says what failed."""
    code, said = run(box, injected(case), CASES[case][0], tmp_path / "out.jsonl")
    assert (code, len(said)) == (1, 1)
    assert 0 < len(right_rows(tmp_path / "out.jsonl")) < PORTS
