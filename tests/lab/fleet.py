"""A fleet as a real network: a server, a collector, three workers and the targets, each in a namespace behind a router.

    server 198.18.1.2   collector 198.18.2.2   workers 198.18.3.2, 198.18.4.2, 198.18.5.2   targets 198.19.0.0/24

The router hides the third worker behind its own address (masquerade). Every process is a real one: nats-server, and
halfopen as a command. The targets' side counts the frames that arrive, with the kernel's time stamps.
"""

import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from scanner.errors import ScanError
from scanner.lab import Box, Namespace, PortKind
from scanner.lab.box import cable, configure, new_namespace
from tests.lab.networks import require

SERVER, COLLECTOR, WORKERS, TARGETS = 1, 2, (3, 4, 5), 9  # the third number of their addresses
URL = "nats://198.18.1.2:4222"
HOSTS = "198.19.0.0/24"
ROOT = str(Path(__file__).parents[2])
_ETH_P_IP, _TIMESTAMP = 0x0800, 35  # SO_TIMESTAMPNS
Process = "subprocess.Popen[Any]"


def nats_server() -> str | None:
    """The path of nats-server: beside this Python, or in the PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


class Fleet:
    """The machines. `end` ends what was started."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder, self.router = folder, new_namespace(stack)
        self.machines: dict[int, Namespace] = {}
        for number in (SERVER, COLLECTOR, *WORKERS, TARGETS):
            self.machines[number] = new_namespace(stack)
            cable(self.router, f"net{number}", self.machines[number], "host0", number)
            configure(self.router, [f"addr add 198.18.{number}.1/24 dev net{number}"])
            routes = [f"addr add 198.18.{number}.2/24 dev host0", f"route add default via 198.18.{number}.1"]
            configure(self.machines[number], routes)
        if not self.router.sysctl("net/ipv4/ip_forward", 1):
            raise ScanError("the lab's router cannot forward")
        configure(self.router, [f"route add {HOSTS} via 198.18.{TARGETS}.2"])
        configure(self.machines[TARGETS], [f"route add local {HOSTS} dev lo"])
        nat = "add table ip nat\nadd chain ip nat post { type nat hook postrouting priority 100 ; }\n"
        require(self.router, f"{nat}add rule ip nat post ip saddr 198.18.{WORKERS[2]}.0/24 masquerade\n")
        self.box = Box(stack, self.machines[COLLECTOR], self.machines[TARGETS])
        self._started: list[subprocess.Popen[Any]] = []

    def start(self, number: int, command: Sequence[str], name: str, **more: str) -> "subprocess.Popen[Any]":
        """Start a program on a machine; what it prints goes to the file `name`.log."""
        environment = {**os.environ, "PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1", **more}
        with open(self.folder / f"{name}.log", "ab") as log, open(self.folder / f"{name}.out", "ab") as out:
            process = self.machines[number].popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=environment, cwd=self.folder
            )
        self._started.append(process)
        return process

    def serve(self, *options: str) -> "subprocess.Popen[Any]":
        """Start the server; its data is in the folder `data`."""
        program = nats_server()
        assert program
        data = str(self.folder / "data")
        return self.start(SERVER, [program, "-js", "-sd", data, "-a", "198.18.1.2", "-p", "4222", *options], "server")

    def work(self, index: int, *options: str) -> "subprocess.Popen[Any]":
        """Start worker 0, 1 or 2."""
        name = f"w{index}"
        command = [sys.executable, "-m", "scanner", "worker", URL, "--name", name, *options]
        return self.start(WORKERS[index], command, name)

    def scan(self, *options: str, name: str = "scan") -> "subprocess.Popen[Any]":
        """Start the collector."""
        command = [sys.executable, "-m", "scanner", "syn", *options, "--fleet", URL]
        return self.start(COLLECTOR, command, name)

    def alone(self, *options: str) -> None:
        """The same scan by one machine, to its end. It sends through the collector's interface."""
        command = [sys.executable, "-m", "scanner", "syn", *options, "-q"]
        process = self.start(COLLECTOR, command, "alone")
        assert process.wait(120) == 0, self.said("alone")

    def said(self, name: str) -> str:
        """What a program has printed on stderr."""
        path = self.folder / f"{name}.log"
        return path.read_text("utf-8") if path.exists() else ""

    def rows(self, name: str) -> int:
        """How many rows a file of JSON lines has."""
        path = self.folder / name
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def end(self) -> None:
        """End every process that was started."""
        for process in self._started:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait(30)


@contextmanager
def fleet(folder: Path, *, open_ports: Sequence[int] = (), dropped: Sequence[int | str] = ()) -> Iterator[Fleet]:
    """The network, with the ports of every target."""
    with ExitStack() as stack:
        made = Fleet(stack, folder)
        stack.callback(made.end)
        made.box.listen(open_ports)
        made.box.install({PortKind.DROP: dropped})
        yield made


class Arrivals:
    """The times at which TCP segments arrive at the targets, ns, while the context lasts."""

    def __init__(self, made: Fleet) -> None:
        with made.machines[TARGETS].entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IP))
        self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._socket.bind(("host0", _ETH_P_IP))
        self._socket.settimeout(0.2)
        self.times: list[int] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Arrivals":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while not self._ended.is_set():
            with suppress(TimeoutError):
                data, extra, _, address = self._socket.recvmsg(64, 64)
                if address[2] != socket.PACKET_OUTGOING and data[23] == socket.IPPROTO_TCP and extra:
                    seconds, nanoseconds = struct.unpack("qq", extra[0][2][:16])
                    self.times.append(seconds * 1_000_000_000 + nanoseconds)

    def busiest(self, seconds: float) -> float:
        """The most segments in any such span, as segments a second."""
        times = np.sort(np.array(self.times, np.int64))
        after = np.searchsorted(times, times + int(seconds * 1e9))
        return float((after - np.arange(len(times))).max() / seconds) if len(times) else 0.0

    def between(self, begin: int, end: int) -> int:
        """How many arrived in a span, ns since 1970."""
        return sum(begin <= when < end for when in list(self.times))
