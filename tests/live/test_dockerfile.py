"""The steps of the Dockerfile in a root of their own, because Docker itself cannot run everywhere.

A new mount namespace gets an empty root with the system programs and the Python of this test. Each instruction is
followed there, and the entry point runs as the user of the Dockerfile, with the capabilities that `--cap-drop=ALL
--cap-add=NET_RAW` leaves, in a network namespace that has only `lo`.

What this does not show: no image is built, and the base image is not fetched. Nothing is fetched from an index either:
for `pip` there is a stand-in that puts the package where pip would put it, and its dependencies are those of this test.
So the Python here may be another one, and the files that pip would leave out are looked for by their names.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.lab.live import live

ROOT = Path(__file__).resolve().parents[2]
IDS = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]

STAND_IN = """
import os, shutil, sys, sysconfig
assert sys.argv[1:] == ["install", "--no-cache-dir", "/src[report]"], sys.argv
shutil.copytree("/src/scanner", sysconfig.get_path("purelib") + "/scanner")
script = sysconfig.get_path("scripts") + "/halfopen"
with open(script, "w") as file:
    file.write("from scanner.cli.entry import run\\nrun()\\n")
"""

NEW_ROOT = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 halfopen "$new"
for name in bin sbin lib lib64 usr; do
    if [ -L "/$name" ]; then cp -P "/$name" "$new/"
    elif [ -d "/$name" ]; then mkdir "$new/$name"; mount --rbind "/$name" "$new/$name"; fi
done
mkdir -m 1777 "$new/tmp"
mkdir -p "$new/proc" "$new/dev" "$new/etc" "$new/stand-in" "$new/packages" "$new$base"
cp /etc/ld.so.cache "$new/etc/" || true
mount --rbind /proc "$new/proc"
for name in null zero urandom; do touch "$new/dev/$name"; mount --bind "/dev/$name" "$new/dev/$name"; done
mount --bind "$base" "$new$base"
mount --bind "$packages" "$new/packages"
printf %s "$pip" > "$new/stand-in/pip.py"
ip link set lo up
"""


class Image(NamedTuple):
    """What the instructions say."""

    base: str
    steps: list[str]  # lines of a shell that follow COPY, RUN and WORKDIR
    sources: list[str]
    user: str
    entry: list[str]


def image() -> Image:
    """The Dockerfile, read by its grammar as far as ours uses it."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M)
    base, user, entry = "", "0:0", list[str]()
    steps: list[str] = []
    sources: list[str] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base = rest
        elif word == "COPY":
            *files, place = rest.split()
            sources += files
            steps.append(f'mkdir -p "$new{place}"')
            steps += [f'cp -r {ROOT / file}{"/." if (ROOT / file).is_dir() else ""} "$new{place}"' for file in files]
        elif word == "RUN":
            steps.append(f'chroot "$new" env $inside sh -c {shlex.quote(rest)}')
        elif word == "WORKDIR":
            steps.append(f'mkdir -p "$new{rest}"')
        elif word == "USER":
            user = rest
        elif word == "ENTRYPOINT":
            entry = json.loads(rest)
        else:
            assert not word, f"{word} is not followed here"
    return Image(base, steps, sources, user, entry)


NET_RAW, NOTHING = "-all,+net_raw", "-all"
CALLS = {  # capabilities that docker leaves, arguments
    "version": (NOTHING, "--version"),
    "plan": (NOTHING, "plan 127.0.0.1 -p 80"),
    "connect": (NOTHING, "connect 127.0.0.1 -p 1 -f jsonl"),
    "scan": (NET_RAW, "syn 127.0.0.1 -p 1 -f jsonl"),
    "scan without": (NOTHING, "syn 127.0.0.1 -p 1 -f jsonl"),
    "file": (NET_RAW, "connect 127.0.0.1 -p 1 -o rows.csv"),
}


class Ended(NamedTuple):
    """What a call left."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Every call, in a root that the steps have made."""
    if not any(first <= 10001 < first + count for first, _, count in IDS):
        pytest.skip("this user namespace has no other users, so the steps of the Dockerfile were not followed")
    folder, made = tmp_path_factory.mktemp("docker"), image()
    uid, gid = made.user.split(":")
    lines = [NEW_ROOT, *made.steps]
    for name, (capabilities, arguments) in CALLS.items():
        rights = f"--reuid={uid} --regid={gid} --clear-groups --inh-caps=-all --bounding-set={capabilities}"
        call = f"cd /work && exec setpriv {rights} {' '.join(made.entry)} {arguments}"
        place = folder / name
        lines.append(
            f'code=0; chroot "$new" env $inside sh -c {shlex.quote(call)} > "{place}.out" 2> "{place}.err" || code=$?; '
            f'echo $code > "{place}.code"'
        )
    (folder / "new").mkdir()
    path = f"{sys.base_prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    variables = {
        "new": str(folder / "new"), "base": sys.base_prefix, "packages": str(Path(np.__file__).parents[1]),
        "pip": STAND_IN, "inside": f"-i PATH={path} PYTHONPATH=/stand-in:/packages PYTHONDONTWRITEBYTECODE=1",
    }  # fmt: skip
    line = ["unshare", "--mount", "--net", "sh", "-c", "\n".join(lines)]
    done = subprocess.run(line, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    texts = {path.name: path.read_text() for path in folder.glob("*.*")}
    return {name: Ended(int(texts[f"{name}.code"]), texts[f"{name}.out"], texts[f"{name}.err"]) for name in CALLS}


def test_the_base_is_slim_and_the_user_is_not_root() -> None:
    made = image()
    assert (bool(re.fullmatch(r"python:3\.\d+-slim", made.base)), int(made.user.split(":")[0]) > 0) == (True, True)


def test_what_is_copied_is_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(image().sources) == allowed


def test_pip_installs_every_file_of_the_package() -> None:
    """Files that are no modules are installed only if pyproject.toml names them."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    _, _, section = project.partition("[tool.setuptools.package-data]\n")
    named = dict(re.findall(r'^"?([\w.]+)"? = (\[.*\])$', section.partition("\n[")[0], re.M))
    patterns = [Path(*package.split("."), each) for package, found in named.items() for each in json.loads(found)]
    installed = {path for pattern in patterns for path in ROOT.glob(str(pattern))}
    every = {path for path in (ROOT / "scanner").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in every if path.suffix not in (".py", ".png")} - installed == set()  # pictures: README.md


@live
@pytest.mark.parametrize("name", ["version", "plan", "connect"])
def test_verbs_without_privileges_run_without_any_capability(ended: dict[str, Ended], name: str) -> None:
    assert ended[name].code == 0, ended[name].err


@live
def test_a_scan_runs_with_net_raw_alone(ended: dict[str, Ended]) -> None:
    assert ended["scan"].code == 0, ended["scan"].err
    assert json.loads(ended["scan"].out)["state"] == "closed"


@live
def test_a_scan_without_net_raw_is_one_line(ended: dict[str, Ended]) -> None:
    code, out, err = ended["scan without"]
    assert (code, out, len(err.splitlines()), "CAP_NET_RAW" in err) == (1, "", 1, True), err


@live
def test_the_folder_of_the_image_belongs_to_root(ended: dict[str, Ended]) -> None:
    """Without a volume that the user may write, a file is refused in one line."""
    code, _, err = ended["file"]
    assert (code, len(err.splitlines()), "rows.csv" in err) == (2, 1, True), err
