"""`halfopen merge` against a reference in memory: each target once, in any order of the files and any format."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import permutations
from operator import attrgetter
from pathlib import Path

import pytest

from scanner.output import open_sinks
from scanner.output.jsonl import line
from scanner.output.stream import Summary
from scanner.results.merge import Merge, Unforeseen
from scanner.results.merging import one_of
from scanner.results.read import read_results
from scanner.verdict.rows import Verdict
from tests.processes import wait_until

ROOT = Path(__file__).resolve().parents[1]
A = "192.0.2.7"
# The ranks of STATES.md, the strongest first: state, reason, evidence.
SAYS = [
    ("open", "syn-ack", ()), ("closed", "reset", ()), ("filtered", "host-unreach", ()), ("filtered", "no-response", ()),
    ("filtered", "no-response", ("interrupted",)), ("open|filtered", "no-response", ()),
    ("unknown", "split-handshake-syn", ("unverified",)), ("unknown", "capture-ended", ()),
]  # fmt: skip
KEY = attrgetter("ip", "port", "protocol", "tunnel", "scanner_ip", "scan", "vantage", "capture")
REPLIES = ("syn-ack", "reset", "host-unreach", "split-handshake-syn")


def written(path: Path, rows: list[Verdict]) -> str:
    """A file in the format of its suffix."""
    outputs = open_sinks(files=[str(path)], whole=True, to_screen=False, everything=True)
    outputs.write(rows)
    outputs.publish(Summary())
    return str(path)


def merged(*paths: str, room: int = 0, streaming: bool = True) -> list[Verdict]:
    try:
        with Merge(paths, room, print, streaming=streaming) as merge:
            return list(merge.targets())
    except Unforeseen:
        return merged(*paths, room=room, streaming=False)


def halfopen(folder: Path, *arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "scanner", "merge", *arguments],
        cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, **options,
    )  # type: ignore[call-overload, no-any-return] # fmt: skip


# ── which row stands ──


def says(number: int, time: float | None = None, **more: object) -> Verdict:
    state, reason, evidence = SAYS[number]
    return Verdict(A, 22, state, reason, evidence=evidence, time=time)._replace(**more)


@pytest.mark.parametrize("strong", range(len(SAYS)))
@pytest.mark.parametrize("weak", range(len(SAYS)))
def test_the_stronger_row_stands(strong: int, weak: int) -> None:
    if strong < weak:
        both = says(weak, 1.0), says(strong, 2.0)
        assert {one_of(list(rows))[:4] for rows in permutations(both)} == {says(strong)[:4]}


STANDS = {
    "of equal ranks the earliest reply": ([says(0, 5.0), says(0, 4.0)], says(0, 4.0)),
    "a time that is unknown is late": ([says(0), says(0, 4.0)], says(0, 4.0)),
    "a reply that lost is a conflict": (
        [says(0, 4.0), says(1, 2.0), says(2, 1.0)], says(0, 4.0, evidence=("conflict:host-unreach", "conflict:reset")),
    ),
    "silence is no conflict": ([says(0, 4.0), says(3), says(7)], says(0, 4.0)),
    "a SYN before the proof is no conflict": ([says(0, 4.0), says(6, 1.0)], says(0, 4.0)),
    "an unproved SYN is one of a closed port": (
        [says(1, 4.0), says(6, 1.0)], says(1, 4.0, evidence=("conflict:split-handshake-syn",)),
    ),
    "two ICMP errors": (
        [says(2, 4.0), says(2, 5.0, reason="net-unreach")], says(2, 4.0, evidence=("conflict:net-unreach",)),
    ),
    "connect() calls a reset a refusal": ([says(1, 4.0), says(1, 5.0, reason="conn-refused")], says(1, 4.0)),
    "conflicts of all rows stay": (
        [says(0, 4.0, evidence=("late", "conflict:reset")), says(0, 5.0, evidence=("conflict:host-unreach", "repeat"))],
        says(0, 4.0, evidence=("late", "conflict:host-unreach", "conflict:reset")),
    ),
    "one row is left as it is": (
        [says(0, 4.0, evidence=("conflict:reset", "late"))] * 2, says(0, 4.0, evidence=("conflict:reset", "late")),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "stands"), STANDS.values(), ids=STANDS)
def test_which_row_stands(rows: list[Verdict], stands: Verdict) -> None:
    assert {one_of(list(each)) for each in permutations(rows)} == {stands}


DOWN = Verdict(A, None, "down", "no-arp")
OTHER = "192.0.2.8"
HOSTS = {
    "alone": ([], True),
    "with an open port": ([says(0)], False),
    "with a closed port of another scanner": ([says(1, scanner_ip=OTHER)], False),
    "with silent ports": ([says(3)], True),
    "with an ICMP error of a router": ([says(2, icmp_from=OTHER)], True),
    "with an ICMP error of its own": ([says(2, icmp_from=A)], False),
    "beside another host that is up": ([says(0, ip=OTHER)], True),
    "beside the same address in a tunnel": ([says(0, tunnel="vxlan:1")], True),
    "seen from elsewhere": ([says(0, vantage="there")], True),
}


@pytest.mark.parametrize(("rows", "stays"), HOSTS.values(), ids=HOSTS)
def test_a_host_that_is_down_loses_to_any_reply_of_it(rows: list[Verdict], stays: bool, tmp_path: Path) -> None:
    down, others = written(tmp_path / "a.jsonl", [DOWN, DOWN]), written(tmp_path / "b.jsonl", rows)
    assert [row for row in merged(down, others) if row.port is None] == [DOWN] * stays


# ── all rows ──


def anything(rng: random.Random, count: int) -> list[Verdict]:
    """Rows with few different keys, so that many meet."""
    return [
        Verdict(
            rng.choice(("192.0.2.7", "192.0.2.10", "10.0.0.9", "2001:db8::7", "2001:db8::10")), rng.randrange(40),
            *rng.choice(SAYS)[:2], time=rng.choice((None, 1.0, 2.0, 3.0)), ttl=rng.choice((None, 64)),
            evidence=rng.choice(((), ("late",), ("conflict:reset",), ("interrupted",))),
            protocol=rng.choice(("tcp", "udp")), tunnel=rng.choice((None, None, "gre:7", "gre:7é", "é")),
            scanner_ip=rng.choice((None, "10.0.0.1")), scan=rng.choice((None, 1, 2)),
            hostname=rng.choice((None, "a.example")), vantage=rng.choice((None, None, "here", "there")),
            capture=rng.choice((None, None, "a,b.pcap")),
        )
        for _ in range(count)
    ]  # fmt: skip


def rank(row: Verdict) -> int:
    if row.state == "filtered" and row.reason == "no-response":
        return 4 if "interrupted" in row.evidence else 3
    if row.state == "unknown":
        return 6 if row.reason == "split-handshake-syn" else 7
    return {"open": 0, "closed": 1, "filtered": 2}.get(row.state, 5)


def reference(rows: list[Verdict]) -> dict[tuple[object, ...], tuple[object, ...]]:
    """What stands for each key, without the choice between rows that differ in less than this."""
    found: dict[tuple[object, ...], list[Verdict]] = {}
    for row in rows:
        found.setdefault(KEY(row), []).append(row)
    stands = {}
    for key, same in found.items():
        best = min(same, key=lambda row: (rank(row), row.time or 99))
        conflicts = {word for row in same for word in row.evidence if word.startswith("conflict:")}
        if len(set(same)) == 1:
            stands[key] = best.state, best.time, frozenset(conflicts)
            continue
        conflicts |= {f"conflict:{row.reason}" for row in same if row.reason in REPLIES}
        conflicts -= {f"conflict:{best.reason}"} | ({"conflict:split-handshake-syn"} if best.state == "open" else set())
        stands[key] = best.state, best.time, frozenset(conflicts)
    return stands


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("room", [0, 1 << 14])
def test_random_rows_as_a_reference_merges_them(seed: int, room: int, tmp_path: Path) -> None:
    """With little room the rows go through some hundred runs, and the runs through two levels."""
    rng = random.Random(seed)
    rows = anything(rng, 3000)
    cuts = sorted(rng.sample(range(len(rows)), 3))
    pieces = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    paths = [written(tmp_path / f"{number}.jsonl", piece) for number, piece in enumerate(pieces)]
    found = merged(*paths, room=room)
    keys = list(map(KEY, found))
    shown = [
        (row.state, row.time, frozenset(word for word in row.evidence if word.startswith("conflict:"))) for row in found
    ]
    assert (len(set(keys)), dict(zip(keys, shown, strict=True))) == (len(keys), reference(rows))
    rng.shuffle(paths)
    assert merged(*paths, room=room) == found
    first = written(tmp_path / "first.jsonl", merged(*paths[:2], room=room))
    assert merged(first, first, *paths[2:]) == found


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "xml"])
def test_vantage_points_and_captures_stay_apart(suffix: str, tmp_path: Path) -> None:
    names = (None, "here", 'é, scan 7, "x"')
    rows = [says(0)._replace(vantage=vantage, capture=capture) for vantage in names for capture in names]
    first = written(tmp_path / "a.jsonl", rows)
    done = halfopen(tmp_path, first, "-o", f"all.{suffix}")
    assert (done.returncode, set(read_results([str(tmp_path / f"all.{suffix}")], print))) == (0, set(rows)), done.stderr


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "csv", "csv.gz", "xml"])
def test_every_format_is_read_and_written(suffix: str, tmp_path: Path) -> None:
    rows = list(read_results([str(ROOT / "pcaps/demo.jsonl")], print))
    odd, even = (written(tmp_path / f"{at}.{suffix}", rows[at::2]) for at in (0, 1))
    assert halfopen(tmp_path, odd, even, "-o", f"all.{suffix}", "--all", "-q").returncode == 0
    whole = written(tmp_path / f"whole.{suffix}", rows)
    all_of_them, expected = (read_results([path], print) for path in (str(tmp_path / f"all.{suffix}"), whole))
    assert sorted(all_of_them, key=repr) == sorted(expected, key=repr)


def test_captures_are_merged_with_results(tmp_path: Path) -> None:
    capture, rows = str(ROOT / "pcaps/two-scanners.pcap"), str(ROOT / "pcaps/demo.jsonl")
    done = halfopen(tmp_path, rows, capture, "-o", "all.jsonl")
    scanners = [json.loads(each).get("scanner_ip") for each in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert (done.returncode, len(scanners), set(scanners) > {"198.18.0.1"}) == (0, done_targets(done.stderr), True)


def done_targets(said: str) -> int:
    return int(said.rpartition(": ")[2].split()[0].replace(",", ""))


# ── files in order ──


def in_order(count: int) -> list[Verdict]:
    return [Verdict(f"10.0.{at >> 8}.{at & 255}", 22, "open", "syn-ack") for at in range(count)]


def test_files_in_order_are_read_as_they_are_merged(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{at}.jsonl", in_order(3000)[at::2]) for at in (0, 1)]
    with Merge(paths, 0, print) as merge:
        targets = merge.targets()
        next(targets)
        first = merge.rows
        assert (first < 10, len(list(targets)), merge.rows) == (True, 2999, 3000)


@pytest.mark.parametrize(
    "late", [Verdict("10.0.0.1", 80, "open", "syn-ack"), Verdict("10.0.255.1", 80, "open", "syn-ack", scan=1),
             Verdict("10.0.255.1", 80, "open", "syn-ack", vantage="there")],
    ids=["out of order", "the first one of a numbered scan", "the first one with a vantage point"],
)  # fmt: skip
def test_a_file_that_is_not_as_it_began_is_sorted(late: Verdict, tmp_path: Path) -> None:
    rows = [*in_order(3000), late]
    written(tmp_path / "a.jsonl", rows)
    written(tmp_path / "b.jsonl", in_order(2))
    done = halfopen(tmp_path, "a.jsonl", "b.jsonl", "-o", "all.csv")
    assert done.stderr == "halfopen: 3,003 rows of 2 files: 3,001 targets\n"
    found = list(read_results([str(tmp_path / "all.csv")], print))
    assert (set(found), len(found)) == (set(rows), 3001)


# ── what goes wrong ──


def folder_with(tmp_path: Path) -> Path:
    written(tmp_path / "a.jsonl", in_order(5)[::-1])
    written(tmp_path / "b.jsonl", in_order(5))
    (tmp_path / "torn.jsonl").write_text('{"ip": "10.0.0.1", "port": 22, "sta')
    (tmp_path / "old.jsonl").write_text("old\n")
    return tmp_path


REFUSED = {
    "a torn file": (("a.jsonl", "torn.jsonl", "-o", "all.jsonl"), 2, "torn.jsonl, line 1: is no JSON object"),
    "a file that is not there": (("a.jsonl", "none.jsonl", "-o", "all.jsonl"), 2, "none.jsonl cannot be read"),
    "an output that exists": (("a.jsonl", "-o", "old.jsonl"), 2, "old.jsonl exists and is not overwritten"),
    "an unknown suffix": (("none.jsonl", "-o", "all.doc"), 2, "'all.doc' does not say its format"),
    "standard input twice": (("-", "-", "-o", "all.jsonl"), 2, "standard input is named twice"),
    "a full disk": (("a.jsonl", "-o", "all.jsonl", "-oN", "/dev/full"), 1, "/dev/full: No space left on device"),
    "no results": (("-o", "all.jsonl"), 2, "Missing argument"),
}


@pytest.mark.parametrize(("arguments", "code", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_leaves_nothing(arguments: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = halfopen(folder, *arguments)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert (done.returncode, said in done.stderr, done.stderr.count("\n"), after) == (code, True, 1, before)


def test_a_result_without_rows_is_said(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").touch()
    written(tmp_path / "a.jsonl", in_order(5))
    done = halfopen(tmp_path, "a.jsonl", "none.jsonl", "-o", "all.jsonl")
    assert done.stderr.splitlines() == [
        "halfopen: none.jsonl is a result without rows", "halfopen: 5 rows of 2 files: 5 targets",
    ]  # fmt: skip


def test_an_input_may_be_replaced_by_the_output(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    written(folder / "c.jsonl", in_order(2000))
    done = halfopen(folder, "c.jsonl", "b.jsonl", "-o", "c.jsonl", "--force", "-q")
    assert (done.returncode, done.stderr, len((folder / "c.jsonl").read_text().splitlines())) == (0, "", 2000)


def test_standard_output_has_rows_only_where_no_file_is_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    calls: list[tuple[str, ...]] = [
        ("-f", "list"), ("-o", "x.jsonl"), ("-f", "list", "-o", "y.jsonl"), ("--open", "-f", "list"),
    ]  # fmt: skip
    printed = [halfopen(folder, "a.jsonl", *options).stdout.count("\n") for options in calls]
    assert (printed, (folder / "x.jsonl").read_bytes()) == ([5, 0, 5, 5], (folder / "y.jsonl").read_bytes())


def limited(bytes_of_a_file: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_of_a_file, bytes_of_a_file))


@pytest.mark.parametrize("most", [20_000, 300_000], ids=["of the temporary files", "of the output"])
def test_a_disk_that_is_full_is_one_line(most: int, tmp_path: Path) -> None:
    """40 MB of rows: out of order they need temporary files, and in order only the output."""
    wide = [row._replace(evidence=("x" * 190,) * 9) for row in in_order(20_000)]
    written(tmp_path / "a.jsonl", wide[::-1] if most < 100_000 else wide)
    done = halfopen(tmp_path, "a.jsonl", "-o", "all.jsonl", "--max-memory", "64M", preexec_fn=limited(most))
    names = sorted(path.name for path in tmp_path.iterdir())
    place = "temporary files in " if most < 100_000 else "all.jsonl: "
    assert (done.returncode, done.stderr.count("\n"), names) == (1, 1, ["a.jsonl"]), done.stderr
    assert (done.stderr.startswith(f"halfopen: {place}"), "File too large" in done.stderr) == (True, True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130), (signal.SIGINT, 130)])
def test_a_merge_that_is_ended_while_it_writes_leaves_nothing(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    """The second output is a pipe that nobody empties, so the merge stands in the middle of its rows."""
    written(tmp_path / "a.jsonl", in_order(60_000))
    os.mkfifo(tmp_path / "pipe")
    process = subprocess.Popen(
        [sys.executable, "-m", "scanner", "merge", "a.jsonl", "-o", "all.jsonl", "-oN", "pipe"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    reader = os.open(tmp_path / "pipe", os.O_RDONLY)
    try:
        os.read(reader, 1)
        assert wait_until(lambda: "pipe_write" in Path(f"/proc/{process.pid}/wchan").read_text(), process)
        process.send_signal(number)
        assert process.wait(60) == code
    finally:
        os.close(reader)
        process.kill()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "pipe"]


# ── text of strangers ──

NASTY = '\x1b[2J"},\n<&>;é\u202e'


@pytest.mark.parametrize("name", ["state", "reason", "protocol", "tunnel", "icmp_from", "scanner_ip", "mac", "service"])
def test_a_word_that_would_be_more_than_a_word_is_refused(name: str, tmp_path: Path) -> None:
    row = {"ip": A, "port": 22, "state": "open", "reason": "syn-ack"}
    (tmp_path / "a.jsonl").write_text(json.dumps({**row, name: NASTY}) + "\n")
    done = halfopen(tmp_path, "a.jsonl", "-o", "all.jsonl")
    assert (done.returncode, done.stderr.count("\n"), (tmp_path / "all.jsonl").exists()) == (2, 1, False), done.stderr


@pytest.mark.parametrize("form", ["table", "jsonl", "csv", "xml", "gnmap", "list"])
@pytest.mark.parametrize("name", ["hostname", "vendor", "options"])
def test_names_of_strangers_are_only_shown(name: str, form: str, tmp_path: Path) -> None:
    rows = [Verdict(A, port, "open", "syn-ack")._replace(**{name: NASTY}) for port in (22, 80)]
    (tmp_path / "a.jsonl").write_text("".join(map(line, rows)))
    done = halfopen(tmp_path, "a.jsonl", "-f", form, "-q")
    printed = done.stdout.replace("\t", " ").splitlines()
    assert (done.returncode, [text for text in printed if not text.isprintable()]) == (0, [])


@pytest.mark.parametrize("form", ["xml", "gnmap", "table", "csv"])
def test_ports_of_other_protocols_keep_them(form: str, tmp_path: Path) -> None:
    """Folded ports are TCP's."""
    rows = [Verdict(A, port, "closed", "reset", protocol) for port in range(40) for protocol in ("tcp", "udp")]
    written(tmp_path / "a.jsonl", rows)
    printed = halfopen(tmp_path, "a.jsonl", "-f", form, "-q").stdout
    assert printed.count("udp") == 40
