"""The command around the scan: what it refuses, what it needs, and how it is interrupted."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanner.cli.verbs import main
from scanner.lab import Box, Listeners, Namespace, PortKind
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.syn_wire import SYN, Done, Tap, command, done, environment, scan
from tests.processes import PATIENCE

pytestmark = LIVE

HOST = "198.18.0.2"
OPEN, DROPPED = range(1, 2000), range(2000, 3000)


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with direct_box() as made:
        made.listen(OPEN)
        made.install({PortKind.DROP: ["2000-2999"]})
        yield made


@pytest.fixture
def tap(box: Box) -> Iterator[Tap]:
    with Tap(box) as made:
        yield made


WRONG = {
    "address": (["198.18.0.300", "-p", "22"], "300"),
    "prefix": (["198.18.0.2/33", "-p", "22"], "/33"),
    "range backwards": (["198.18.0.9-198.18.0.2", "-p", "22"], "198.18.0.9-198.18.0.2"),
    "name": (["no.such.name.invalid", "-p", "22"], "no.such.name.invalid"),
    "empty target": (["", "-p", "22"], "''"),
    "no target": (["-p", "22"], "-iL"),
    "port": ([HOST, "-p", "22,70000"], "70000"),
    "service": ([HOST, "-p", "nosuchservice"], "nosuchservice"),
    "port range": ([HOST, "-p", "80-22"], "80-22"),
    "no ports": ([HOST, "-p", ""], "''"),
    "ports all excluded": ([HOST, "-p", "22", "--exclude-ports", "1-100"], "1-100"),
    "targets all excluded": ([HOST, "-p", "22", "--exclude", "198.18.0.0/24"], HOST),
    "exclude": ([HOST, "-p", "22", "--exclude", "what?"], "what?"),
    "list": (["-iL", "/nonexistent", "-p", "22"], "/nonexistent"),
    "list is a folder": (["-iL", "/proc", "-p", "22"], "/proc"),
    "interface": ([HOST, "-p", "22", "-e", "nope0"], "nope0"),
    "no route": (["203.0.113.9", "-p", "22"], "203.0.113.9"),
    "no route by that interface": ([HOST, "-p", "22", "-e", "lo"], "lo"),
    "broadcast": (["198.18.0.255", "-p", "22"], "198.18.0.255"),
    "multicast": (["ff02::1", "-p", "22"], "ff02::1"),
    "rate": ([HOST, "-p", "22", "--rate", "-1"], "-1"),
    "rate without end": ([HOST, "-p", "22", "--rate", "inf"], "inf"),
    "rate that is no number": ([HOST, "-p", "22", "--rate", "nan"], "nan"),
    "retries": ([HOST, "-p", "22", "--retries", "99"], "99"),
    "timeout": ([HOST, "-p", "22", "--timeout", "0"], "--timeout"),
    "seed": ([HOST, "-p", "22", "--seed", str(1 << 200)], "--seed"),
    "shard": ([HOST, "-p", "22", "--shard", "3/2"], "3/2"),
    "ttl": ([HOST, "-p", "22", "--ttl", "0"], "--ttl"),
    "tos": ([HOST, "-p", "22", "--tos", "3"], "--tos"),
    "options": ([HOST, "-p", "22", "--options", "all"], "'all'"),
    "source address": ([HOST, "-p", "22", "--source-ip", "me"], "'me'"),
    "source of the other family": ([HOST, "-p", "22", "--source-ip", "2001:db8::1"], "2001:db8::1"),
    "source port": ([HOST, "-p", "22", "--source-port", "70000"], "70000"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_one_line_and_nothing_is_sent(
    box: Box, tap: Tap, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, offender = WRONG[case]
    monkeypatch.setattr(sys, "argv", ["halfopen", "syn", *arguments])
    with box.scanner.entered(), pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out, tap.probes()) == (2, "", 0)
    [line] = said.err.splitlines()
    assert line.startswith("halfopen: ")
    assert offender in line


def test_a_wrong_line_of_a_list_is_named(box: Box, tap: Tap, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{HOST}\nnot/an/address\n")
    ended = scan(box, "-iL", str(tmp_path / "list"), "-p", "22")
    assert (ended.code, ended.rows, len(ended.errors), tap.probes()) == (2, [], 1, 0)
    assert "'not/an/address'" in ended.errors[0]


@pytest.mark.parametrize("output", ["/nonexistent/out.csv", "/nonexistent.xyz"])
def test_an_output_that_cannot_be_written(box: Box, tap: Tap, output: str) -> None:
    ended = scan(box, HOST, "-p", "22", "-o", output)
    assert (ended.code, ended.rows, len(ended.errors), tap.probes()) == (2, [], 1, 0)
    assert output in ended.errors[0]


def test_a_taken_source_port(box: Box, tap: Tap) -> None:
    with Listeners(box.scanner, [40001]):
        ended = scan(box, HOST, "-p", "22", "--source-port", "40001")
    assert (ended.code, ended.rows, len(ended.errors), tap.probes()) == (2, [], 1, 0)
    assert "40001" in ended.errors[0]


# ── rights ──


def test_without_cap_net_raw_it_says_how_to_get_it(box: Box, tap: Tap) -> None:
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    for address in (HOST, "127.0.0.1"):
        ended = scan(box, address, "-p", "22", under=bare)
        assert (ended.code, ended.rows, len(ended.errors), tap.probes()) == (1, [], 1, 0)
        assert "setpriv" in ended.errors[0]


def test_cap_net_raw_is_all_it_needs(box: Box) -> None:
    chain = "type filter hook output priority 0 ; oifname scan0 tcp flags & rst == rst counter name kernel"
    rules = f"table inet t {{ counter kernel {{ }} ; chain o {{ {chain} ; }} ; }}"
    counted = box.scanner.run(["nft", "-f", "-"], rules).returncode == 0
    only = ["setpriv", "--bounding-set=-all,+net_raw", "--inh-caps=-all,+net_raw"]
    ended = scan(box, HOST, "2001:db8::2", "127.0.0.1", "-p", "22,3001", under=only)
    counters = box.scanner.run(["nft", "list", "counters"]).stdout
    box.scanner.run(["nft", "flush", "ruleset"])
    there = [(ip, port, state) for ip in (HOST, "2001:db8::2") for port, state in ((22, "open"), (3001, "closed"))]
    here = [("127.0.0.1", 22, "closed"), ("127.0.0.1", 3001, "closed")]
    assert (ended.code, ended.brief("ip", "port", "state")) == (0, sorted([*there, *here], key=repr))
    assert not counted or counters.split("packets")[1].split()[0] == "0"


def test_our_own_link_local_address_is_an_address_of_this_machine() -> None:
    """Its route leads through `lo`, but its source port is held on the interface that has the address."""
    with Namespace.create() as alone:
        alone.ip(["link set lo up", "link add d0 type veth peer name d1", "link set d0 up"])
        alone.ip(["address add fe80::1 dev d0 nodad"])
        ended = alone.run(command("fe80::1", "-p", "22", "-e", "d0"))
    assert (ended.returncode, '"state":"closed"' in ended.stdout.replace(" ", "")) == (0, True)
    assert "not an address of this machine" not in ended.stderr


# ── interruptions ──


def start(box: Box, *arguments: str) -> "subprocess.Popen[bytes]":
    return box.scanner.popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())


def end(process: "subprocess.Popen[bytes]") -> Done:
    out, errors = process.communicate(timeout=PATIENCE)
    return done(process.returncode, out.decode(), errors.decode())


def false_rows(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The rows that contradict what the target's ports are."""
    truth = {**dict.fromkeys(OPEN, "open"), **dict.fromkeys(DROPPED, "filtered")}
    return [row for row in rows if row["state"] != truth.get(int(str(row["port"])), "closed")]


def wait_for_probes(tap: Tap, wanted: int) -> set[int]:
    """The ports probed so far, as soon as there are `wanted`."""
    ports: set[int] = set()
    until = time.monotonic() + PATIENCE
    while len(ports) < wanted and time.monotonic() < until:
        time.sleep(0.01)
        ports |= {each.dport for each in tap.segments() if not each.out and each.flags == SYN}
    return ports


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=str)
def test_an_interrupted_scan_tells_only_what_it_knows(box: Box, tap: Tap, signals: list[signal.Signals]) -> None:
    process = start(box, HOST, "-p-", "--rate", "5000")
    probed = wait_for_probes(tap, 1500)
    for each in signals:
        process.send_signal(each)
        time.sleep(0.03)
    ended = end(process)
    probed |= {each.dport for each in tap.segments() if not each.out and each.flags == SYN}
    told = [row["port"] for row in ended.rows]
    assert (ended.code, false_rows(ended.rows), len(told)) == (130, [], len(set(told)))
    assert 0.9 * len(probed) < len(told) <= len(probed) < 20_000
    assert set(told) <= probed


def test_silence_is_not_filtered_before_its_wait_is_over(box: Box, tap: Tap) -> None:
    process = start(box, HOST, "-p", "2000-2999", "--rate", "2000", "--timeout", "30")
    wait_for_probes(tap, 1000)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert (ended.code, ended.rows) == (130, [])


def test_a_closed_pipe_ends_the_scan_quietly(box: Box) -> None:
    process = start(box, HOST, "-p", "1-3000", "--rate", "0", "--retries", "0")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(b'{"ip"')
    process.stdout.close()
    with process.stderr:
        errors = process.stderr.read()
    assert process.wait(timeout=PATIENCE) in (0, 1, 141)
    assert b"Traceback" not in errors
