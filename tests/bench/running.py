"""Running a scanner and counting at the far end of its wire.

Every scanner is a process in the scanner's namespace. While it runs, the counters of the target's interface are
sampled. The rate is that of the middle 98 % of the frames, so it contains no start-up, no cooldown and no neighbour
query. CPU time is the kernel's account of the finished process. Peak memory is read while the process runs, because
that account begins with the parent's memory, copied at the fork. The scanners take turns, run by run, so that a busy
minute of the machine affects all of them.

masscan's receiving thread ends only when one more frame arrives. Real networks always send one and a box never does,
so the target sends a frame of an experimental EtherType ten times a second.

Every process ends: it gets SIGINT when its sending time is over or it sends nothing more, and SIGKILL when it
continues. A scanner whose runs have used up its time gets no further ones.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from resource import struct_rusage
from typing import NamedTuple, TypeVar

from scanner.lab import Box
from scanner.lab.firewall import load
from scanner.lab.namespace import SEARCH

ROOT = Path(__file__).resolve().parents[2]
HALFOPEN = (sys.executable, "-m", "scanner")
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")  # of the scanner's and the target's end, see scanner/lab/box.py
MASSCAN = (
    "masscan",
    "--adapter",
    "scan0",
    "--adapter-ip",
    "198.18.0.1",
    "--adapter-mac",
    MACS[0],
    "--router-mac",
    MACS[1],
)
ZMAP = ("zmap", "-i", "scan0", "-G", MACS[1], "-S", "198.18.0.1", "-b", "/dev/null", "-q")
_INGRESS_DROP = """table netdev bench {
 chain ingress {
  type filter hook ingress device host0 priority 0;
  ether type ip ip protocol tcp drop
 }
}"""
_SAMPLE, _MURMUR = 0.005, 0.1  # seconds between looks at the counters, and between stray frames
_STRAY = bytes.fromhex("ffffffffffff" + "020000000002" + "88b5") + bytes(46)  # IEEE 802 local experimental EtherType 1
_GRACE = 3.0  # seconds between SIGINT and SIGKILL

T = TypeVar("T")


class Traffic(NamedTuple):
    """What the target's interface had received at one moment: seconds (monotonic), frames, bytes."""

    time: float
    frames: int
    size: int


class Run(NamedTuple):
    """A finished process: wall and CPU seconds, peak resident bytes, output, and the far end's counters over time."""

    seconds: float
    cpu: float
    peak: int
    out: str
    err: str
    ended_itself: bool
    samples: tuple[Traffic, ...]

    @property
    def frames(self) -> int:
        """Frames that reached the target."""
        return self.samples[-1].frames - self.samples[0].frames

    @property
    def frame_size(self) -> float:
        """Mean bytes of a frame."""
        return (self.samples[-1].size - self.samples[0].size) / max(1, self.frames)

    @property
    def rate(self) -> float:
        """Frames a second at the target, from 1 % of them to 99 %."""
        first, total = self.samples[0].frames, self.frames
        middle = [each for each in self.samples if 0.01 * total <= each.frames - first <= 0.99 * total]
        seconds = middle[-1].time - middle[0].time if len(middle) > 1 else 0.0
        return (middle[-1].frames - middle[0].frames) / seconds if seconds else 0.0


def installed(program: str) -> bool:
    """Whether there is such a program."""
    return shutil.which(program, path=SEARCH) is not None


def compiled(name: str, folder: Path) -> Path | None:
    """`tests/bench/NAME.c` as a program in `folder`; None where there is no compiler, or it fails."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    program = folder / name
    source = ROOT / "tests" / "bench" / f"{name}.c"
    done = subprocess.run([compiler, "-O2", "-o", program, source], capture_output=True, timeout=60, check=False)
    return program if done.returncode == 0 else None


def drop_tcp(box: Box) -> str | None:
    """Let the target forget every TCP frame as it comes in; None, or why that is not possible here."""
    return load(box.target, _INGRESS_DROP)


def traffic(box: Box) -> Traffic:
    """The target's receive counters."""
    with box.target.entered():
        return _read()


def _read() -> Traffic:
    text = Path("/proc/thread-self/net/dev").read_text()
    size, frames = text.partition("host0:")[2].split()[:2]
    return Traffic(time.monotonic(), int(frames), int(size))


def run(box: Box, command: Sequence[str], *, limit: float = 60.0, sending: float = 60.0, quiet: float = 60.0) -> Run:
    """Run a command in the scanner's namespace to its end.

    It gets SIGINT after `limit` seconds, or `sending` seconds after the first hundred frames, or `quiet` seconds
    after the last frame.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        before = traffic(box)
        process = box.scanner.popen(command, stdin=-3, stdout=out, stderr=err, cwd=ROOT)
        with box.target.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as mouth:
            mouth.bind(("host0", 0))
            samples, usage, peak, stopped = _watch(process.pid, before, Limits(limit, sending, quiet), mouth)
        seconds = time.monotonic() - before.time
        process.returncode = 0  # reaped here already
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
        cpu = usage.ru_utime + usage.ru_stime
        return Run(seconds, cpu, peak, texts[0], texts[1], not stopped, tuple(samples))


class Limits(NamedTuple):
    """When a process gets SIGINT: seconds in all, after the first hundred frames, after the last frame."""

    whole: float
    sending: float
    quiet: float


def _watch(
    pid: int, before: Traffic, limits: Limits, mouth: socket.socket
) -> tuple[list[Traffic], struct_rusage, int, bool]:
    """Sample until the process has gone; stop it when it is time: samples, usage, peak memory, was it stopped."""
    samples, peak = [before], 0
    started = moved = stopped = spoken = 0.0
    while True:
        gone, _, usage = os.wait4(pid, os.WNOHANG)
        sample = _read()
        if sample.frames != samples[-1].frames:
            moved = sample.time
        if not started and sample.frames - before.frames >= 100:
            started = sample.time
        samples.append(sample)
        peak = max(peak, _peak(pid))
        if gone:
            return samples, usage, peak, bool(stopped)
        if sample.time - spoken > _MURMUR:
            spoken = sample.time
            mouth.send(_STRAY)
        over = started and sample.time > min(started + limits.sending, moved + limits.quiet)
        if not stopped and (over or sample.time - before.time > limits.whole):
            stopped = sample.time
            os.kill(pid, signal.SIGINT)
        elif stopped and sample.time - stopped > _GRACE:
            os.kill(pid, signal.SIGKILL)
        time.sleep(_SAMPLE)


class Cost(NamedTuple):
    """What a program took: wall and CPU seconds, peak resident bytes."""

    seconds: float
    cpu: float
    peak: int


def cost_of(command: Sequence[str], out: Path | None = None) -> Cost:
    """Run a program to its end, outside of the lab. `out`: where its output goes; None drops it. It must not fail."""
    with (out or Path(os.devnull)).open("wb") as file:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=-3, stdout=file, stderr=-3, cwd=ROOT)
        peak, gone = 0, 0
        while not gone:
            time.sleep(_SAMPLE)
            peak = max(peak, _peak(process.pid))
            gone, status, usage = os.wait4(process.pid, os.WNOHANG)
        seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)  # reaped here already
    assert process.returncode == 0, f"{command[0]} ended with {process.returncode}"
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peak)


def _peak(pid: int) -> int:
    """The most resident memory of a process so far, in bytes (proc(5), VmHWM); 0 when it has gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    kilobytes = text.partition("VmHWM:")[2].split()[:1]
    return int(kilobytes[0]) * 1024 if kilobytes else 0


def in_turns(contenders: Mapping[str, Callable[[], T]], runs: int, budget: float) -> dict[str, list[T]]:
    """Each contender once, then each once more, `runs` times; none goes on when it has used `budget` seconds."""
    done: dict[str, list[T]] = {name: [] for name in contenders}
    used = dict.fromkeys(contenders, 0.0)
    for _ in range(runs):
        for name, contender in contenders.items():
            if used[name] < budget:
                began = time.monotonic()
                done[name].append(contender())
                used[name] += time.monotonic() - began
    return done
