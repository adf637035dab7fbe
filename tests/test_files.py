"""How output files are opened: what exists is kept, links are not followed, devices and pipes are written."""

import os
import resource
import shlex
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from scanner.capture.writer import PcapWriter, check_path
from scanner.cli.options import OutputOptions
from scanner.cli.state_file import StateFile
from scanner.connect.scan import connect_session
from scanner.errors import ScannerError, UsageError
from scanner.files import check_new, open_again, open_new, write_new
from scanner.output import Outputs
from scanner.rounds.session import Session
from tests.command import USUAL, halfopen

ROW = '{"ip": "192.0.2.7", "port": 443, "state": "open", "reason": "syn-ack"}\n'
PCAP = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
OLD = "what was there before\n"
CONNECT = ("connect", "127.0.0.1", "-p", "1", "-q")


def recording(path: str, force: bool) -> int:
    """What `--record` does, without a scan."""
    try:
        check_path(path, force)
        PcapWriter(path, {1}, force).close(0, 0, 0)
    except ScannerError as error:
        return error.exit_code
    return 0


# Each kind of file that a verb writes: its name, and a call.
WRITERS: dict[str, tuple[str, Callable[[str, list[str]], int]]] = {
    "-o": ("a.jsonl", lambda path, force: halfopen(*CONNECT, "-o", path, *force)),
    "-o .gz": ("a.csv.gz", lambda path, force: halfopen(*CONNECT, "-o", path, *force)),
    "-oX": ("a.xml", lambda path, force: halfopen(*CONNECT, "-oX", path, *force)),
    "-oA": ("a.nmap", lambda path, force: halfopen(*CONNECT, "-oA", path.removesuffix(".nmap"), *force)),
    "classify -o": ("a.txt", lambda path, force: halfopen("classify", "empty.pcap", "-o", path, *force)),
    "report -o": ("a.html", lambda path, force: halfopen("report", "rows.jsonl", "-q", "-o", path, *force)),
    "--stats": ("a.json", lambda path, force: halfopen(*CONNECT, "--stats", path, *force)),
    "--record": ("a.pcap", lambda path, force: recording(path, bool(force))),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(ROW)
    Path("empty.pcap").write_bytes(PCAP)
    return tmp_path


def listing() -> dict[str, bytes | str]:
    return {name: os.readlink(name) if os.path.islink(name) else Path(name).read_bytes() for name in os.listdir()}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_exists_is_not_overwritten(writer: str, folder: Path) -> None:
    name, write = WRITERS[writer]
    Path(name).write_text(OLD)
    before = listing()
    assert (write(name, []), listing()) == (2, before)


@pytest.mark.parametrize("writer", WRITERS)
def test_with_force_a_new_file_takes_the_name(writer: str, folder: Path) -> None:
    """Another name of the old file keeps the old content, whoever made it, and nothing stays beside the new file."""
    name, write = WRITERS[writer]
    Path(name).write_text(OLD)
    Path(name).chmod(0o600)
    os.link(name, "other")
    mask = os.umask(0o027)
    try:
        code = write(name, ["--force"])
    finally:
        os.umask(mask)
    facts = os.stat(name)
    found = {path for path in os.listdir() if path.endswith(".new")}
    assert (code, Path("other").read_text(), facts.st_size > 0, found) == (0, OLD, True, set())
    assert (Path(name).read_bytes() != OLD.encode(), stat.S_IMODE(facts.st_mode)) == (True, 0o640)


@pytest.mark.parametrize("force", [[], ["--force"]], ids=["plain", "force"])
@pytest.mark.parametrize("target", ["victim", "missing"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_link_to_a_file_is_never_followed(writer: str, target: str, force: list[str], folder: Path) -> None:
    name, write = WRITERS[writer]
    Path("victim").write_text(OLD)
    os.symlink(target, name)
    before = listing()
    assert (write(name, force), listing()) == (2, before)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_device_is_written_also_behind_a_link(writer: str, folder: Path) -> None:
    name, write = WRITERS[writer]
    os.symlink("/dev/null", name)
    assert (write(name, []), os.readlink(name)) == (0, "/dev/null")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_pipe_is_written(writer: str, folder: Path) -> None:
    name, write = WRITERS[writer]
    os.mkfifo(name)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(Path(name).read_bytes()))
    reader.start()
    code = write(name, [])
    reader.join()
    assert (code, found != [b""], stat.S_ISFIFO(os.stat(name).st_mode)) == (0, True, True)


def test_no_folder_and_a_folder_as_a_file_are_refused(folder: Path) -> None:
    for path in ("no/a.json", "rows.jsonl/a.json", "."):
        for call in (lambda path: check_new(path, True), lambda path: open_new(path, True)):
            with pytest.raises(UsageError, match="cannot be written"):
                call(path)


def test_statistics_are_refused_before_the_scan_starts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("no/a.json", "-"):
        assert halfopen(*CONNECT, "--stats", path) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n"), os.path.exists("-")) == ("", 1, False)


def test_a_file_that_is_in_the_way_is_kept(folder: Path) -> None:
    for name in ("a.jsonl", "a.jsonl.new"):
        Path(name).write_text(OLD)
    before = listing()
    with pytest.raises(UsageError, match=r"a\.jsonl\.new is in the way"):
        open_new("a.jsonl", force=True)
    assert listing() == before


def test_a_refused_file_leaves_the_others_as_they_were(folder: Path) -> None:
    Path("a.csv").write_text(OLD)
    os.symlink("missing", "b.csv")
    before = listing()
    assert (halfopen(*CONNECT, "-o", "new.csv", "-o", "a.csv", "-o", "b.csv", "--force"), listing()) == (2, before)


SYN = ("syn", "127.0.0.1", "-p", "1", "-q", "--record", "old.pcapng")


@pytest.fixture
def recorded_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """`syn` opens its recording, and then scans with connect(): no test here needs raw sockets."""

    def session(spaces: Any, config: Any, *others: Any) -> Session:
        others[2]({1})
        return connect_session(spaces, config, *others[-2:])

    monkeypatch.setattr("scanner.halfopen.session.syn_session", session)
    monkeypatch.setattr("scanner.cli.privileges.give_up", lambda: None)


@pytest.mark.parametrize("old", [True, False])
def test_a_refused_output_leaves_the_recording_as_it_was(old: bool, folder: Path, recorded_calls: None) -> None:
    for name in ("a.xml", "a.xml.new", *(["old.pcapng"] if old else [])):
        Path(name).write_text(OLD)
    before = listing()
    assert (halfopen(*SYN, "-o", "a.xml", *(["--force"] if old else [])), listing()) == (2, before)


def test_a_recording_takes_its_name_with_the_other_files(folder: Path, recorded_calls: None) -> None:
    Path("old.pcapng").write_text(OLD)
    assert halfopen(*SYN, "-o", "a.xml", "--force") == 0
    assert (Path("old.pcapng").read_bytes()[:4].hex(), Path("old.pcapng.new").exists()) == ("0a0d0d0a", False)


@pytest.mark.parametrize("record", [("--record", "part.pcapng"), ("--record=part.pcapng",)])
def test_the_command_that_is_printed_goes_on(
    record: tuple[str, ...], folder: Path, recorded_calls: None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A recording is of one part. Printed with its name, the command would be refused."""
    line = ("syn", "127.0.0.1", "-p", "1-9", *record, "-o", "a.jsonl", "--resume", "a.state")
    with monkeypatch.context() as stopped:
        stopped.setattr(Session, "interrupted", property(lambda session: session.stop() or True))
        assert halfopen(*line) == 130
    printed = next(text for text in capsys.readouterr().err.splitlines() if text.startswith("interrupted: to go on, "))
    command = shlex.split(printed.removeprefix("interrupted: to go on, ").split(" (and --record")[0])
    assert (halfopen(*command[1:]), len(Path("a.jsonl").read_text().splitlines())) == (0, 9)


def test_ctrl_c_while_files_are_opened_leaves_whole_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opening = OutputOptions.open

    def interrupted(*values: Any) -> Outputs:
        opened = opening(*values)
        os.kill(os.getpid(), signal.SIGINT)
        return opened

    monkeypatch.setattr(OutputOptions, "open", interrupted)
    assert halfopen(*CONNECT, "-oX", "a.xml") == 130
    assert ElementTree.parse("a.xml").getroot().tag == "nmaprun"


def test_a_second_ctrl_c_ends_the_wait_for_the_reader_of_a_pipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def waiting(*_: Any) -> Outputs:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("nobody ends the wait")

    monkeypatch.setattr(OutputOptions, "open", waiting)
    assert halfopen(*CONNECT) == 130


@pytest.mark.parametrize("end", [("-e", "nowhere0"), ("--source-ip", "192.0.2.77")])
def test_a_local_end_that_is_not_there_is_refused_before_a_file_is_made(end: tuple[str, str], folder: Path) -> None:
    before = listing()
    assert (halfopen(*CONNECT, *end, "-o", "a.jsonl"), listing()) == (2, before)


def test_statistics_of_a_capture_do_not_replace_its_rows(folder: Path) -> None:
    before = listing()
    assert (halfopen("classify", "empty.pcap", "-oX", "a.xml", "--stats", "a.xml", "--force"), listing()) == (2, before)


def test_two_scans_with_force_do_not_share_a_file(folder: Path) -> None:
    Path("a.csv").write_text(OLD)
    first = open_new("a.csv", force=True)
    with pytest.raises(UsageError, match="is being written by another scan"):
        open_new("a.csv", force=True)
    first.commit()
    with pytest.raises(UsageError, match="is being written by another scan"):
        open_new("a.csv", force=True)
    os.close(first.descriptor)
    second = open_new("a.csv", force=True)
    second.abandon()
    os.close(second.descriptor)
    assert Path("a.csv").read_text() == ""


def test_a_whole_file_that_cannot_be_written_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    Path("a.json").write_text(OLD)
    before = listing()
    monkeypatch.setattr("scanner.files.os.fsync", full)
    for path, force in (("a.json", True), ("b.json", False)):
        with pytest.raises(OSError, match="No space"):
            write_new(path, force, b"{}")
    assert listing() == before


@pytest.mark.parametrize("old", [{}, {"page.html": OLD}])
def test_a_page_that_cannot_be_written_leaves_what_was_there(
    old: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in old.items():
        Path(name).write_text(text)
    before, limits = listing(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # stands for a full disk
    try:
        code = halfopen("report", "rows.jsonl", "-q", "-o", "page.html", "--force")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (code, listing()) == (1, before)


@pytest.mark.parametrize("target", ["victim", "missing", "/dev/null"])
def test_a_resumed_scan_follows_no_link_either(target: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StateFile, "remove", lambda self: None)
    Path("hosts").write_text("127.0.0.1\n")
    assert halfopen("connect", *USUAL) == 0
    Path("victim").write_text(OLD * 1000)
    Path("scan.jsonl").unlink()
    os.symlink(target, "scan.jsonl")
    before = listing()
    assert (halfopen("connect", *USUAL), listing()) == (2, before)


def test_only_a_regular_file_is_gone_on_with(folder: Path) -> None:
    os.mkfifo("pipe")
    os.symlink("rows.jsonl", "link")
    for path in ("pipe", "link"):
        with pytest.raises(OSError, match=r"No such device|no regular file|symbolic links"):
            open_again(path)


def test_a_resumed_scan_replaces_its_own_statistics(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that goes on is the same one; another file that exists is still kept."""
    monkeypatch.setattr(StateFile, "remove", lambda self: None)
    Path("hosts").write_text("127.0.0.1\n")
    usual = ("connect", *USUAL[:-2], "-q", "--stats", "stats.json")
    assert (halfopen(*usual), halfopen(*usual)) == (0, 0)
    Path("other.json").write_text(OLD)
    assert (halfopen(*usual[:-1], "other.json"), Path("other.json").read_text()) == (2, OLD)


def test_statistics_that_no_part_has_written_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first part ends as by `kill -9`: before it writes its statistics."""
    Path("hosts").write_text("127.0.0.1\n")
    usual = ("connect", *USUAL[:-2], "-q", "--stats", "stats.json")
    with monkeypatch.context() as killed:
        killed.setattr(StateFile, "remove", lambda self: None)
        killed.setattr("scanner.cli.run._write_stats", lambda *_: None)
        assert halfopen(*usual) == 0
    Path("stats.json").write_text(OLD)
    assert (halfopen(*usual), Path("stats.json").read_text()) == (2, OLD)
