"""macOS and Windows: what needs no raw packets works there, and what does says in one line that it needs Linux.

The tests run on Linux, in a process that has hidden what the other system lacks (`tests/elsewhere.py`).
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = ROOT / "tests" / "elsewhere.py"
SYSTEMS = {"darwin": "macOS", "win32": "Windows"}
CAPTURE = "two-scanners.pcap"

systems = pytest.mark.parametrize("system", SYSTEMS)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a capture."""
    shutil.copy(ROOT / "pcaps" / CAPTURE, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(system: str, *arguments: str, given: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    """A command as on a system."""
    command = [sys.executable, str(ELSEWHERE), system, *arguments]
    return subprocess.run(command, capture_output=True, check=False, input=given)


def here(*arguments: str, given: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    """The same command on this system."""
    return run("linux", *arguments, given=given)


WORKING = {
    "classify": ("classify", CAPTURE, "--timeout", "0", "-f", "jsonl"),
    "classify, the table": ("classify", CAPTURE),
    "classify, two ladders": ("classify", CAPTURE, "--open", "--ladder"),
    "classify, selected": ("classify", CAPTURE, "--target", "198.18.0.0/24", "-p", "http", "--progress", "json"),
    "who": ("who", CAPTURE, "--all"),
    "diff": ("diff", CAPTURE, CAPTURE),
    "report": ("report", CAPTURE, "-o", "-", "--title", "x"),
    "schema": ("schema",),
    "help": ("--help",),
    "help of a scan": ("syn", "--help"),
    "an unknown option": ("classify", CAPTURE, "--no-such-option"),
    "no capture": ("classify", "missing.pcap"),
    "a bad limit": ("diff", CAPTURE, CAPTURE, "--max-memory", "x"),
}


@systems
@pytest.mark.parametrize("arguments", WORKING.values(), ids=WORKING)
def test_what_works_prints_the_same_as_on_linux(system: str, arguments: tuple[str, ...]) -> None:
    there, expected = run(system, *arguments), here(*arguments)
    assert (there.returncode, there.stdout, [line for line in there.stderr.splitlines() if line[:1] != b"{"]) == (
        expected.returncode, expected.stdout, [line for line in expected.stderr.splitlines() if line[:1] != b"{"],
    )  # fmt: skip


@systems
def test_standard_input_is_read(system: str, folder: Path) -> None:
    given = (folder / CAPTURE).read_bytes()
    arguments = ("classify", "-", "--timeout", "0", "-f", "csv", "-q")
    there, expected = run(system, *arguments, given=given), here(*arguments, given=given)
    assert (there.stderr, there.stdout) == (b"", expected.stdout)
    assert expected.stdout.count(b"\n") > 1


@systems
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.xml.gz"])
def test_files_are_written_and_replaced_only_with_force(system: str, name: str, folder: Path) -> None:
    once = ("classify", CAPTURE, "-q", "--timeout", "0", "--stats", "stats.json", "-o", name)
    codes = [run(system, *once).returncode, run(system, *once).returncode, run(system, *once, "--force").returncode]
    there = here("diff", name, CAPTURE)
    assert (codes, sorted(path.name for path in folder.iterdir())) == (
        [0, 2, 0], sorted([CAPTURE, name, "stats.json"]),
    )  # fmt: skip
    assert there.returncode in (0, 1)


@systems
def test_a_link_is_not_followed(system: str, folder: Path) -> None:
    (folder / "kept.jsonl").write_text("kept")
    (folder / "rows.jsonl").symlink_to("kept.jsonl")
    done = run(system, "classify", CAPTURE, "-q", "-o", "rows.jsonl", "--force")
    assert (done.returncode, (folder / "kept.jsonl").read_text()) == (2, "kept")


NEED_LINUX = {
    "syn": ("syn", "192.0.2.1", "-p", "80"),
    "connect": ("connect", "192.0.2.1", "-p", "80"),
    "plan": ("plan", "192.0.2.1"),
    "demo": ("demo",),
}


@systems
@pytest.mark.parametrize("verb", NEED_LINUX)
def test_what_sends_packets_says_that_it_needs_linux(system: str, verb: str) -> None:
    done = run(system, *NEED_LINUX[verb])
    working = "classify, who, diff, merge, report and schema work here"
    expected = f"halfopen: {verb} needs Linux, and this is {SYSTEMS[system]}: {working}\n"
    assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", expected)


@systems
def test_the_version_is_printed(system: str) -> None:
    done = run(system, "--version")
    assert (done.returncode, done.stderr, b"scans need Linux" in done.stdout) == (0, b"", True)


IN_PYTHON = """
import scanner
print(len(list(scanner.classify("two-scanners.pcap", timeout=0))))
try:
    scanner.scan("192.0.2.1", 80)
except scanner.errors.UsageError as error:
    print(error)
"""


@systems
def test_the_python_interface_works_alike(system: str) -> None:
    done = run(system, "-c", IN_PYTHON)
    count, refused = done.stdout.decode().splitlines() or ["", done.stderr.decode()]
    assert (int(count) > 1, refused.split(":")[0]) == (True, f"scan needs Linux, and this is {SYSTEMS[system]}")


@pytest.mark.parametrize("verb", [("classify", "--timeout", "0"), ("who", "--all"), ("report", "-o", "-", "-q")])
def test_the_patterns_that_a_shell_of_windows_leaves_are_expanded(verb: tuple[str, ...], folder: Path) -> None:
    shutil.copy(CAPTURE, "more.pcap")
    there, expected = run("win32", *verb, "m*.pcap", "t*s.pcap"), here(*verb, "more.pcap", CAPTURE)
    assert (there.returncode, there.stdout) == (expected.returncode, expected.stdout), there.stderr.decode()


def test_a_pattern_that_matches_nothing_is_named() -> None:
    done = run("win32", "classify", "none-*.pcap")
    assert (done.returncode, b"none-*.pcap" in done.stderr) == (2, True)


@pytest.mark.parametrize("arguments", [("plan", "127.0.0.1", "-p", "1-3"), ("--help",), ("schema",), ("--version",)])
def test_an_encoding_without_our_characters_ends_no_verb(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii:strict")
    done = here(*arguments)
    assert (done.returncode, done.stderr) == (0, b"")
