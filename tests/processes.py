"""Waiting for a scan that runs as a process of its own, by what it has done and not by time.

A fixed pause is too short on a busy machine and too long on a free one.
"""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 120  # seconds; only a test that fails waits so long


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[Any] | None" = None) -> bool:
    """Wait until the condition holds, the process has ended, or the patience is over; whether the condition holds."""
    until = time.monotonic() + PATIENCE
    while not (holds := condition()) and time.monotonic() < until and (process is None or process.poll() is None):
        time.sleep(0.01)
    return holds


def wait_until_it_scans(process: "subprocess.Popen[Any]") -> None:
    """Until the scan has opened its outputs and installed its signal handlers; SIGUSR1's is the last one."""
    wait_until_it_catches(process, signal.SIGUSR1)


def wait_until_it_catches(process: "subprocess.Popen[Any]", number: signal.Signals) -> None:
    """Until the process has a handler for this signal."""
    wait_until(lambda: _catches(process.pid, number), process)


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for this signal (proc(5), SigCgt)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    masks = [int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")]
    return bool(masks and masks[0] >> (number - 1) & 1)
