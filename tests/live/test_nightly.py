"""The README's five lines for every night: scan, diff, mail. The test runs these very lines in the lab."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scanner.lab.box import Box, pair_box
from tests.lab.live import LIVE
from tests.readme import block_with

pytestmark = LIVE
ROOT = Path(__file__).resolve().parents[2]
LINES = block_with("mail -s")
PROGRAMS = {
    "halfopen": f'PYTHONPATH={ROOT} exec {sys.executable} -m scanner "$@"',
    "mail": 'test ! -e broken && echo "$@" >> mails && cat >> mails',
}


def home(folder: Path) -> Path:
    """A home directory with the list of targets, and with the programs that the lines call."""
    for name, text in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    (folder / "scans").mkdir()
    (folder / "scans/targets.txt").write_text("198.18.0.2\n")
    return folder


def night(box: Box, folder: Path) -> tuple[int, list[str]]:
    """One run: the exit code, and the ports in the mail of this night."""
    mails = folder / "scans/mails"
    mails.unlink(missing_ok=True)
    environment = {"HOME": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}
    with box.scanner.entered():
        done = subprocess.run(["sh", "-c", LINES], env=environment, check=False)
    return done.returncode, re.findall(r"^\d+/tcp", mails.read_text(), re.M) if mails.exists() else []


def test_the_lines_are_five() -> None:
    assert LINES.count("\n") == 5


def test_a_mail_comes_in_the_night_after_a_port_opened(tmp_path: Path) -> None:
    folder = home(tmp_path)
    with pair_box() as box:
        box.listen([22])
        first, second = night(box, folder), night(box, folder)
        box.listen([8080])
        assert (first[0], first[1][0], second, night(box, folder), night(box, folder)) == (
            0, "22/tcp", (0, []), (0, ["8080/tcp"]), (0, []),
        )  # fmt: skip


@pytest.mark.parametrize("fault", ["targets", "mail"])
def test_after_a_failed_night_the_next_one_tells(fault: str, tmp_path: Path) -> None:
    folder = home(tmp_path)
    targets, broken = folder / "scans/targets.txt", folder / "scans/broken"
    with pair_box() as box:
        box.listen([22])
        night(box, folder)
        box.listen([8080])
        if fault == "mail":
            broken.touch()
        else:
            targets.write_text("198.18.0.300\n")
        code, told = night(box, folder)
        broken.unlink(missing_ok=True)
        targets.write_text("198.18.0.2\n")
        assert (code != 0, told, night(box, folder)) == (True, [], (0, ["8080/tcp"]))
