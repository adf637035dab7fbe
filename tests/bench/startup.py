"""How long until something happens.

Three moments of a short run: the prompt after `--help`, the first SYN on the wire (a packet socket in the target's
namespace sees it), and the prompt after a scan of one open port of one host on the same link. Nearly all of
it is importing and asking the kernel, so it is where a scanner in Python starts behind those in C.
"""

import select
import socket
import subprocess
import time
from collections.abc import Sequence
from functools import partial

from scanner.headers import IPV4, PROTO_TCP
from scanner.lab import Box

from .result import Plan, Result
from .running import HALFOPEN, MACS, ROOT, in_turns, installed, run

GROUP = "Start-up"
_PORT = 80
_ETH_P_IP = 0x0800


def run_all(plan: Plan) -> list[Result]:
    """All three moments."""
    with Box() as box:
        box.listen([_PORT])
        helps = {"halfopen --help": partial(_wall, box, (*HALFOPEN, "--help")), "python -c pass": partial(_wall, box, (HALFOPEN[0], "-c", "pass"))}
        rows = [Result(GROUP, name, "s", tuple(each)) for name, each in in_turns(helps, plan.runs, 10).items()]
        lines = {name: line for name, line in commands(box.target_ip).items() if installed(line[0])}
        firsts = in_turns({name: partial(first_probe, box, line) for name, line in lines.items()}, plan.runs, 15)
        rows += _rows("first SYN on the wire", firsts)
        walls = in_turns({name: partial(_wall, box, line) for name, line in lines.items()}, plan.runs, 15)
        return rows + _rows("1 host x 1 open port", walls)


def commands(target: str) -> dict[str, Sequence[str]]:
    """One host, one port, for each scanner at its quickest."""
    return {
        "halfopen": (*HALFOPEN, "syn", target, "-p", str(_PORT), "--rate", "0"),
        "nmap": ("nmap", "-n", "-Pn", "-sS", "-T4", "-p", str(_PORT), target),
        "masscan": ("masscan", target, "-p", str(_PORT), "--adapter", "scan0", "--adapter-ip", "198.18.0.1", "--adapter-mac", MACS[0],
                    "--router-mac", MACS[1], "--wait", "1"),
        "ZMap": ("zmap", "-i", "scan0", "-G", MACS[1], "-S", "198.18.0.1", "-b", "/dev/null", "-p", str(_PORT), "-c", "1", "-q", target),
    }  # fmt: skip


def _rows(what: str, done: dict[str, list[float]]) -> list[Result]:
    names = [name for name in commands("")]
    return [
        Result(GROUP, f"{what}: {name}", "s", tuple(done.get(name, ())), "" if name == "halfopen" else f"{what}: halfopen",
               "" if name in done else "not installed")
        for name in names
    ]  # fmt: skip


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
    at = (IPV4.fields or {})["protocol"][1]
    return len(packet) > at and packet[at] == PROTO_TCP
