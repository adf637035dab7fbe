"""The time until a scan starts and ends.

Three moments of a short run: the prompt after `--help`, the first SYN on the wire (a packet socket in the target's
namespace sees it), and the prompt after a scan of one open port of one host on the same link. Nearly all of this time
is imports and requests to the kernel, so a scanner in Python is slower here than one in C.
"""

import select
import socket
import subprocess
import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from scanner.lab import Box
from scanner.packet.headers import IPV4, PROTO_TCP
from tests.lab.networks import direct_box

from .result import Plan, Result
from .running import HALFOPEN, MASSCAN, ROOT, ZMAP, in_turns, installed, run

GROUP = "Start-up"
_PORT = 80
_ETH_P_IP = 0x0800


def run_all(plan: Plan) -> list[Result]:
    """All three moments."""
    with direct_box() as box:
        box.listen([_PORT])
        helps = {
            "halfopen --help": partial(_wall, box, (*HALFOPEN, "--help")),
            "python -c pass": partial(_wall, box, (HALFOPEN[0], "-c", "pass")),
        }
        rows = [Result(GROUP, name, "s", tuple(each)) for name, each in in_turns(helps, plan.runs, 10).items()]
        lines = {name: line for name, line in commands(box.target_ip).items() if installed(line[0])}
        firsts = in_turns({name: partial(first_probe, box, line) for name, line in lines.items()}, plan.runs, 15)
        rows += _rows("first SYN on the wire", firsts)
        walls = in_turns({name: partial(_wall, box, line) for name, line in lines.items()}, plan.runs, 15)
        return rows + _rows("1 host x 1 open port", walls)


def commands(target: str) -> dict[str, Sequence[str]]:
    """One host, one port, for each scanner at its quickest."""
    port = str(_PORT)
    return {
        "halfopen": (*HALFOPEN, "syn", target, "-p", port, "--rate", "0"),
        "nmap": ("nmap", "-n", "-Pn", "-sS", "-T4", "-p", port, target),
        "masscan": (*MASSCAN, target, "-p", port, "--wait", "1"),
        "ZMap": (*ZMAP, "-p", port, "-c", "1", target),
    }


def _rows(what: str, done: dict[str, list[float]]) -> list[Result]:
    beside = f"{what}: halfopen"
    rows = {name: f"{what}: {name}" for name in commands("")}
    return [
        Result(
            GROUP,
            row,
            "s",
            tuple(done.get(name, ())),
            beside * (row != beside),
            "" if name in done else "not installed",
        )
        for name, row in rows.items()
    ]


def _wall(box: Box, command: Sequence[str]) -> float:
    return run(box, command, limit=15).seconds


def first_probe(box: Box, command: Sequence[str]) -> float:
    """Seconds from starting the command until its first SYN reaches the target; infinite if none does in 10 s."""
    with box.target.entered():
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
    with ear:
        began = time.monotonic()
        process = box.scanner.popen(command, stdin=-3, stdout=-3, stderr=-3, cwd=ROOT)
        took = float("inf")
        while time.monotonic() - began < 10 and took == float("inf"):
            if select.select([ear], [], [], 0.1)[0] and _is_tcp(ear.recv(256)):
                took = time.monotonic() - began
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return took


def _is_tcp(packet: bytes) -> bool:
    header = np.frombuffer(packet.ljust(IPV4.itemsize, b"\0"), IPV4, count=1)
    return bool(header["protocol"][0] == PROTO_TCP)
