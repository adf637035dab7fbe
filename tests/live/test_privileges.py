"""With which rights the program runs, and whose its files are. A scan is looked at while it sends.

SUDO_UID and SUDO_GID are what sudo sets. One test runs sudo itself, with a rule that only its own mount namespace has.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from scanner.cli.privileges import Caller, caller_of
from scanner.lab import Box, PortKind
from scanner.packet.template import Recipe, build, building_ahead
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.syn_wire import ROOT, Tap
from tests.processes import PATIENCE, wait_until

pytestmark = LIVE

HOST = "198.18.0.2"
USER = 65534  # nobody
SUDO = {"SUDO_UID": str(USER), "SUDO_GID": str(USER)}
ONLY_RAW = ("setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all")
SLOW = (HOST, "-p", "2000-2999", "--rate", "200", "--retries", "0")
IDS = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
MAPPED = any(first <= USER < first + count for first, _, count in IDS)
with_other_users = pytest.mark.skipif(not MAPPED, reason="this user namespace has no other users")


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with direct_box() as made:
        made.listen(range(1, 10))
        made.install({PortKind.DROP: ["2000-2999"]})
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the user who calls sudo; those of pytest are below one that only root may enter."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    made.chmod(0o755)
    if MAPPED:
        os.chown(made, USER, USER)
    yield made
    shutil.rmtree(made)


class Rights(NamedTuple):
    """What a thread may do: its ids, every capability that it holds or passes on, whether it can get new ones."""

    uid: frozenset[str]
    gid: frozenset[str]
    groups: frozenset[str]
    capabilities: int
    no_new_privs: str


def nothing(uid: int) -> Rights:
    ids = frozenset({str(uid)})
    return Rights(ids, ids, frozenset(map(str, os.getgroups())) if uid == 0 else ids, 0, "1")


def rights(pid: int | str) -> list[Rights]:
    """The rights of every thread of a process."""
    found = []
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        fields = {
            name: text.split() for name, _, text in (line.partition(":") for line in status.read_text().splitlines())
        }
        held = [int(fields[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")]
        ids = (frozenset(fields[name]) for name in ("Uid", "Gid", "Groups"))
        found.append(Rights(*ids, sum(held), fields["NoNewPrivs"][0]))
    return found


def descendants(pid: int | str) -> list[str]:
    direct = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in direct for found in (child, *descendants(child))]


def start(
    box: Box, *arguments: str, variables: Mapping[str, str] | None = None, under: Sequence[str] = (),
    python: str = sys.executable, root: str = ROOT, stdin: int = subprocess.DEVNULL,
) -> "subprocess.Popen[bytes]":  # fmt: skip
    """The program in the scanner's namespace. Modules of this very Python are found by any other one."""
    packages = str(Path(np.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": f"{root}:{packages}"} | (variables or {})
    line = [*under, python, "-m", "scanner", *arguments]
    pipe = subprocess.PIPE
    return box.scanner.popen(line, env=environment, stdin=stdin, stdout=pipe, stderr=pipe, cwd="/")


def end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate(timeout=PATIENCE)


def run(box: Box, *arguments: str, variables: Mapping[str, str] | None = None, **options: str) -> tuple[int, list[str]]:
    """A whole run: its exit code, and its lines on standard error."""
    process = start(box, *arguments, variables=variables, **options)  # type: ignore[arg-type]
    errors = process.communicate(timeout=PATIENCE)[1]
    return process.returncode, errors.decode().splitlines()


WAYS: dict[str, tuple[Mapping[str, str], Sequence[str], int]] = {
    "root": ({}, (), 0),
    "sudo": (SUDO, (), USER if MAPPED else 0),
    "root with CAP_NET_RAW only": ({}, ONLY_RAW, 0),
    "sudo by a root who may not change ids": (SUDO, ONLY_RAW, 0),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_scan_that_sends_has_no_rights_left(box: Box, way: str) -> None:
    variables, under, uid = WAYS[way]
    process = start(box, "syn", *SLOW, variables=variables, under=under)
    wait_until(lambda: len(rights(process.pid)) > 1, process)  # the thread that sends starts with the first frame
    threads, helpers = rights(process.pid), [each for pid in descendants(process.pid) for each in rights(pid)]
    end(process)
    assert (len(threads), {*threads, *helpers}) == (2, {nothing(uid)})


def python_of_others() -> str | None:
    """A Python that the ordinary user can run, with the packages of this one."""
    user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    packages = {"PYTHONPATH": str(Path(np.__file__).parents[1])}
    for python in (sys.executable, "/usr/bin/python3"):
        line = [*user, python, "-c", "import numpy, typer"]
        if subprocess.run(line, capture_output=True, env=os.environ | packages, cwd="/").returncode == 0:
            return python
    return None


@with_other_users
def test_the_line_of_the_readme_keeps_nothing_either(box: Box) -> None:
    python = python_of_others()
    if python is None:
        pytest.skip(f"user {USER} may not run {sys.executable}")
    user = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups")
    under = (*user, "--inh-caps=+net_raw", "--ambient-caps=+net_raw")
    process = start(box, "syn", *SLOW, under=under, python=python)
    wait_until(lambda: len(rights(process.pid)) > 1, process)
    threads, owner = rights(process.pid), Path(f"/proc/{process.pid}/mem").stat().st_uid
    end(process)
    assert (len(threads), {*threads}) == (2, {nothing(USER)})
    assert owner == 0, "other processes of the user can trace it, and use its sockets"


@with_other_users
@pytest.mark.skipif(shutil.which("sudo") is None, reason="sudo is not installed")
def test_under_sudo_itself(box: Box, folder: Path) -> None:
    rule = folder / "sudoers"
    rule.write_text("Defaults env_keep += PYTHONPATH, !syslog, !use_pty\nnobody ALL=(ALL) NOPASSWD: ALL\n")
    os.chown(rule, 0, 0)
    rule.chmod(0o440)
    user = f"setpriv --reuid={USER} --regid={USER} --clear-groups"
    line = f'mount --bind {rule} /etc/sudoers && exec {user} sudo -n "$@"'
    output = folder / "rows.jsonl"
    under = ("unshare", "--mount", "sh", "-c", line, "sh")
    process = start(box, "syn", *SLOW, "-o", str(output), under=under)

    def scanners() -> list[list[Rights]]:
        return [found for pid in descendants(process.pid) for found in [rights(pid)] if len(found) > 1]

    wait_until(lambda: bool(scanners()), process)
    threads = [each for found in scanners() for each in found]
    owner = output.stat().st_uid
    for pid in descendants(process.pid):
        os.kill(int(pid), 9)
    said = process.communicate(timeout=PATIENCE)[1].decode()
    assert (len(threads), {*threads}, owner) == (2, {nothing(USER)}, USER), said


@pytest.mark.parametrize("verb", ["classify - -f jsonl", "report - -o -", "diff - /dev/null", "plan -iL - -p 1",
                                  "connect -iL - -p 1"])  # fmt: skip
def test_a_verb_without_raw_sockets_reads_its_input_without_rights(box: Box, verb: str) -> None:
    process = start(box, *verb.split(), variables=SUDO, stdin=subprocess.PIPE)
    wait_until(lambda: "pipe" in Path(f"/proc/{process.pid}/wchan").read_text(), process)  # it waits for input
    found = rights(process.pid)
    end(process)
    assert {*found} == {nothing(USER if MAPPED else 0)}


@pytest.mark.skipif(not MAPPED, reason="a user namespace has one user")
def test_completion_is_installed_with_the_rights_of_the_user(box: Box, folder: Path, tmp_path: Path) -> None:
    """Typer writes to files of the shell, which may be links."""
    victim = tmp_path / "victim"
    victim.write_text("what root keeps\n")
    (folder / ".bashrc").symlink_to(victim)
    run(box, "--install-completion", "bash", variables={**SUDO, "HOME": str(folder)})
    assert victim.read_text() == "what root keeps\n"
    assert {path.lstat().st_uid for path in folder.rglob("*")} <= {0, USER}
    assert all(path.lstat().st_uid == USER for path in folder.rglob("*") if not path.is_symlink())


def test_the_files_belong_to_the_user_who_called_sudo(box: Box, folder: Path) -> None:
    names = [folder / name for name in ("rows.csv", "frames.pcapng", "numbers.json")]
    output, record, stats = map(str, names)
    files = ("-o", output, "--record", record, "--stats", stats, "--resume", str(folder / "state"))
    code, errors = run(box, "syn", HOST, "-p", "1-20", *files, variables=SUDO)
    assert (code, {path.stat().st_uid for path in names}) == (0, {USER if MAPPED else 0}), errors


FORBIDDEN = {"-o": "rows.csv", "--record": "frames.pcapng", "--stats": "numbers.json", "--resume": "state"}


@with_other_users
@pytest.mark.parametrize(("variables", "owner", "whose"), [
    (SUDO, 0, "nobody, who called sudo"), ({}, USER, "root without its right to pass over file permissions"),
])  # fmt: skip
@pytest.mark.parametrize("option", FORBIDDEN)
def test_a_file_that_the_user_may_not_write_is_refused_before_sending(
    box: Box, folder: Path, option: str, variables: Mapping[str, str], owner: int, whose: str
) -> None:
    closed = folder / "closed"
    closed.mkdir(0o755)
    os.chown(closed, owner, owner)
    more = () if option == "-o" else ("-o", str(folder / "a.csv"))
    folder.chmod(0o777)
    with Tap(box) as tap:
        path = str(closed / FORBIDDEN[option])
        code, errors = run(box, "syn", HOST, "-p", "1-20", *more, option, path, variables=variables)
        # Not ARP: the kernel looks after the neighbours of the tests before.
        sent = [segment for segment in tap.segments() if not segment.out]
    assert (sent, list(closed.iterdir()), code in (1, 2), len(errors)) == ([], [], True, 1)
    assert path in errors[0]
    assert errors[0].endswith(f"(files are opened with the rights of {whose})")


@with_other_users
def test_a_list_that_only_root_may_read_is_not_read_for_the_user(box: Box, folder: Path) -> None:
    """A rule of sudo for this program must not show its user the lines of other files."""
    secret = folder / "secret"
    secret.write_text("the password\n")
    os.chown(secret, 0, 0)
    secret.chmod(0o600)
    code, errors = run(box, "syn", "-iL", str(secret), "-p", "1", variables=SUDO)
    assert (code, len(errors), "password" in errors[0]) == (2, 1, False)


def hidden_program(folder: Path) -> Path:
    """A copy of this package, below a folder that only root may enter."""
    hidden = folder / "hidden"
    shutil.copytree(Path(ROOT, "scanner"), hidden / "lib" / "scanner", ignore=shutil.ignore_patterns("__pycache__"))
    os.chown(hidden, 0, 0)
    hidden.chmod(0o700)
    return hidden / "lib"


@with_other_users
def test_a_program_that_the_user_may_not_read_is_one_line(box: Box, folder: Path) -> None:
    program = hidden_program(folder)
    program.chmod(0o700)
    code, errors = run(box, "plan", HOST, variables=SUDO, root=str(program))
    assert (code, len(errors), "may not read the program" in errors[0]) == (1, 1, True), errors


@with_other_users
def test_a_program_in_a_folder_of_root_works_for_the_user(box: Box, folder: Path) -> None:
    program = hidden_program(folder)
    rows = folder / "rows.csv"
    page = folder / "page.html"
    for arguments in (
        ["syn", HOST, "-p", "1-20", "--packet-trace", "-o", str(rows)],
        ["report", str(rows), "-o", str(page)],
    ):
        code, errors = run(box, *arguments, variables=SUDO, root=str(program))
        assert code == 0, errors
    assert (rows.stat().st_uid, page.stat().st_uid) == (USER, USER)


NEEDY = {
    "a low source port": ["--source-port", "53"],
    "handshakes through an interface": ["--verify", "-e", "scan0", "--source-ip", "198.18.0.1"],
    "several senders": ["--senders", "2", "--rate", "0"],
    "a trace of packets": ["--packet-trace", "--ladder"],
}


@pytest.mark.parametrize("case", NEEDY)
def test_what_other_programs_need_rights_for_works_for_the_user(box: Box, case: str) -> None:
    code, errors = run(box, "syn", HOST, "-p", "1-8", *NEEDY[case], variables=SUDO)
    assert code == 0, errors


def test_the_python_interface_changes_no_rights_of_its_program(box: Box) -> None:
    program = (
        "import os, scanner; before = open('/proc/self/status').read()\n"
        "for row in scanner.scan('198.18.0.2', 1): print(row.state)\n"
        "after = open('/proc/self/status').read()\n"
        "print([line for line in before.splitlines() if line[:3] in ('Cap', 'Uid') and line not in after])"
    )
    environment = os.environ | {"PYTHONPATH": ROOT} | SUDO
    with box.scanner.entered():
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "open\n[]\n", done.stderr


def test_the_process_that_builds_frames_gives_up_its_rights_first(tmp_path: Path) -> None:
    """It is forked from here. What it does first is to write its process number; the frame comes after that."""
    note = tmp_path / "number"
    with building_ahead(lambda: note.write_text(str(os.getpid())) and None):
        frame = build(Recipe("syn", 4, "192.0.2.1", None))
    assert (bool(frame), note.exists() and note.read_text() != str(os.getpid())) == (True, True)


ENVIRONMENTS = [
    ({}, None),
    ({"SUDO_UID": "0", "SUDO_GID": "0"}, None),
    ({"SUDO_UID": "4294967294"}, None),
    ({"SUDO_UID": "4294967294", "SUDO_GID": "7"}, Caller("user 4294967294", 4294967294, 7, [7])),
    ({"SUDO_UID": "4294967295", "SUDO_GID": "7"}, None),
    ({"SUDO_UID": "-1", "SUDO_GID": "7"}, None),
    ({"SUDO_UID": "1000 ", "SUDO_GID": "7"}, None),
    ({"SUDO_UID": "٣", "SUDO_GID": "7"}, None),
    ({"SUDO_UID": "9" * 5000, "SUDO_GID": "7"}, None),
    ({"SUDO_UID": "4294967294", "SUDO_GID": "4294967295"}, None),
]


@pytest.mark.parametrize(("variables", "caller"), ENVIRONMENTS)
def test_who_called_sudo(variables: Mapping[str, str], caller: Caller | None) -> None:
    assert caller_of(variables) == caller


def test_a_thread_that_keeps_rights_ends_the_program_before_it_sends(box: Box) -> None:
    program = (
        "import threading; from scanner.cli import privileges\n"
        "privileges.own(); privileges.limit('syn'); end = threading.Event()\n"
        "thread = threading.Thread(target=end.wait); thread.start()\n"
        "try: privileges.give_up()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "end.set(); thread.join(); privileges.give_up()"
    )
    with box.scanner.entered():
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("ScanError a thread that a library started keeps capabilities"), done.stderr
