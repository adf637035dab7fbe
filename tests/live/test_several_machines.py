"""The README's lines for shards on several machines. Namespaces stand for the machines, and a program for ssh."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from scanner.lab import Box
from scanner.lab.box import add_addresses, cable, configure, new_namespace
from tests.lab.live import LIVE
from tests.readme import block_with

pytestmark = LIVE
ROOT = Path(__file__).resolve().parents[2]
LINES = block_with("ssh ")
MACHINES = ("scanner1", "scanner2", "scanner3")
# Enters the namespace of the machine that is named, and runs the command there.
SSH = """#!/bin/sh
test -e {folder}/broken-$1 && exit 255
net=$(cat {folder}/$1)
shift
exec nsenter --net=$net sh -c "$*"
"""
HALFOPEN = '#!/bin/sh\nPYTHONPATH={root} exec {python} -m scanner "$@"\n'
SUDO = '#!/bin/sh\nexec "$@"\n'


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Path]:
    """Three scanners, each on a cable of its own to the target, which has 14 addresses behind it. Port 80 is open."""
    with ExitStack() as stack:
        box = Box(stack, new_namespace(stack), new_namespace(stack))
        for number, name in enumerate(MACHINES):
            scanner, near, far = new_namespace(stack), f"198.18.{number}.1", f"198.18.{number}.2"
            cable(scanner, "scan0", box.target, f"host{number}", number)
            add_addresses(scanner, "scan0", [near])
            add_addresses(box.target, f"host{number}", [far])
            configure(scanner, [f"route add 198.19.0.0/28 via {far}"])
            (tmp_path / name).write_text(f"/proc/{os.getpid()}/fd/{scanner.fd}")
        configure(box.target, ["route add local 198.19.0.0/28 dev lo"])
        box.listen([80])
        for name, text in (("ssh", SSH), ("halfopen", HALFOPEN), ("sudo", SUDO)):
            (tmp_path / name).write_text(text.format(folder=tmp_path, root=ROOT, python=sys.executable))
            (tmp_path / name).chmod(0o755)
        (tmp_path / "targets.txt").write_text("198.19.0.0/28\n")
        yield tmp_path


def run(folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": f"{folder}:{os.environ['PATH']}:/usr/sbin:/sbin"}
    return subprocess.run(["sh", "-c", LINES], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def targets(path: Path) -> list[tuple[str, int, str]]:
    rows = map(json.loads, path.read_text().splitlines())
    return [(row["ip"], row["port"], row["state"]) for row in rows]


EVERY = [(f"198.19.0.{host}", port, "open" if port == 80 else "closed") for host in range(16) for port in (80, 443)]


def test_every_target_of_the_shards_is_in_the_merged_file_once(machines: Path) -> None:
    done = run(machines)
    shards = [targets(machines / f"shard-{number}.jsonl") for number in (1, 2, 3)]
    assert done.returncode == 0, done.stderr
    assert (targets(machines / "all.jsonl"), all(shards), sum(map(len, shards))) == (EVERY, True, len(EVERY))


def test_a_machine_that_fails_is_named_and_its_line_can_be_run_again(machines: Path) -> None:
    (machines / "broken-scanner2").touch()
    first = run(machines)
    (machines / "broken-scanner2").unlink()
    (machines / "all.jsonl").unlink()
    assert ("shard-2.jsonl is a result without rows" in first.stderr, run(machines).returncode) == (True, 0)
    assert targets(machines / "all.jsonl") == EVERY
