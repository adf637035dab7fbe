"""The offline half needs Python and numpy, and nothing else: no packet sockets, no other package."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
POOR = """
import socket, sys
for name in [name for name in dir(socket) if name.startswith(("AF_PACKET", "PF_PACKET", "PACKET_"))]:
    delattr(socket, name)
OURS = ("scanner.halfopen.session", "scanner.transport", "scanner.net.netlink")
for name in ("scapy", "typer", "netaddr", "rich", *OURS):
    sys.modules[name] = None
"""
LIBRARY = """
from scanner.classifier.classification import Classification
print(sum(1 for batch in Classification([CAPTURE]).batches() for row in batch))
"""
PROGRAM = """
from scanner.cli.classify import run_classify
from scanner.cli.options import ClassifyOptions, OutputOptions
options = ClassifyOptions(captures=(CAPTURE,), timeout=0.0, target=TARGET, ports="22-80")
sys.exit(run_classify(options, OutputOptions(form="csv", only_open=True, quiet=True)))
"""
WHO = """
from scanner.cli.who import run_who
from scanner.cli.options import WhoOptions
sys.exit(run_who(WhoOptions(captures=(CAPTURE,), form="csv", quiet=True)))
"""
CASES = {
    "library": (LIBRARY, (), ["44"]),
    "program": (PROGRAM, (), ["198.18.0.2,22,", "198.18.0.2,80,", "2001:db8::2,22,", "2001:db8::2,80,"]),
    "program, with a selection": (PROGRAM, ("198.18.0.0/24",), ["198.18.0.2,22,", "198.18.0.2,80,"]),
    "who": (WHO, (), ["2001:db8::1,2026-11-21T03:46:33.836404Z,", "198.18.0.1,2026-11-21T03:46:33.833566Z,"]),
}


@pytest.mark.parametrize(("code", "target", "expected"), CASES.values(), ids=CASES)
def test_with_numpy_alone(code: str, target: tuple[str, ...], expected: list[str]) -> None:
    facts = f"\nCAPTURE, TARGET = {str(ROOT / 'pcaps/demo.pcapng.gz')!r}, {target!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", POOR + facts + code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = [",".join(line.split(",")[:2]) + "," * ("," in line) for line in done.stdout.splitlines()]
    assert (done.stderr, done.returncode, [line for line in lines if not line.startswith(("ip,", "prober,"))]) == (
        "",
        0,
        expected,
    )
