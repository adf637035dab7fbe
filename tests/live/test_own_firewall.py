"""Probes that this machine itself does not let out: they are said once, and make no row."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scanner.lab import Box, Listeners, Namespace
from scanner.lab.box import INTERFACE
from tests.lab.live import LIVE
from tests.lab.networks import direct_box
from tests.live.syn_wire import ROOT, SYN, Done, Tap, done, environment, scan
from tests.processes import PATIENCE, wait_until

pytestmark = LIVE

NO_ROW = "see its firewall and its routes; such targets have no row"


@pytest.fixture
def alone() -> Iterator[Namespace]:
    with Namespace.create() as made:
        made.ip(["link set lo up"])
        yield made


def forbid(namespace: Namespace, rule: str, hook: str = "inet t { chain o { type filter hook output") -> None:
    """Add a firewall rule for what leaves the namespace."""
    ended = namespace.run(["nft", "-f", "-"], f"table {hook} priority 0 ; {rule}\n }}\n }}\n")
    assert "syntax" not in ended.stderr
    if ended.returncode:
        pytest.skip(f"nft: {ended.stderr.strip()}")


def run(namespace: Namespace, verb: str, *arguments: str) -> Done:
    line = [sys.executable, "-m", "scanner", verb, "-f", "jsonl", "-q", *arguments]
    with namespace.popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        out, said = process.communicate(timeout=PATIENCE)
    return done(process.returncode, out.decode(), said.decode())


@pytest.mark.parametrize("verdict", ["drop", "reject", "reject with tcp reset"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_what_the_own_firewall_keeps_back_is_not_called_filtered(alone: Namespace, address: str, verdict: str) -> None:
    """Kept: the rows of the other half. What the firewall answers is no answer of a target."""
    forbid(alone, f"tcp flags & (syn | ack) == syn tcp dport 1-100 {verdict}")
    ended = run(alone, "syn", address, "-p", "1-200")
    assert ended.brief("port", "state") == sorted([(port, "closed") for port in range(101, 201)], key=repr)
    line = f"halfopen: this machine refused to send to 100 targets (Operation not permitted): {NO_ROW}"
    assert (ended.code, ended.errors) == (1, [line])


def test_an_own_firewall_that_starts_in_mid_scan_is_no_ban(alone: Namespace, tmp_path: Path) -> None:
    """Kept: the rows from before. The rest of the targets is counted, and no host is said to have stopped answering."""
    out = tmp_path / "out.jsonl"
    line = ["syn", "127.0.0.1", "-p", "1-2000", "--rate", "800", "-o", str(out), "--progress", "json"]
    begun = [sys.executable, "-m", "scanner", *line]
    process = alone.popen(begun, cwd=ROOT, stdout=-3, stderr=subprocess.PIPE, env=environment())
    assert process.stderr is not None
    while json.loads(process.stderr.readline())["sent"] < 300:
        pass
    forbid(alone, "tcp dport 1-2000 drop")
    said = process.communicate(timeout=PATIENCE)[1].decode()
    found = [json.loads(row)["state"] for row in out.read_text().splitlines()]
    line_of = f"this machine refused to send to {2000 - len(found):,} targets (Operation not permitted): {NO_ROW}"
    assert (process.returncode, line_of in said, "stopped answering" in said) == (1, True, False)
    assert {*found} == {"closed"}


def test_a_scan_whose_every_probe_is_kept_back_has_no_row(alone: Namespace) -> None:
    forbid(alone, "tcp dport 1-200 drop")
    ended = run(alone, "syn", "127.0.0.1", "-p", "1-200")
    assert (ended.code, ended.rows, len(ended.errors)) == (1, [], 1)


def test_a_rule_that_keeps_back_our_resets_costs_no_row(alone: Namespace) -> None:
    """Such rules are common on machines that scan. Kept: everything."""
    forbid(alone, "tcp flags & (rst | ack) == rst drop")
    with Listeners(alone, [22]):
        ended = run(alone, "syn", "127.0.0.1", "-p", "22")
    assert (ended.code, ended.brief("port", "state"), ended.errors) == (0, [(22, "open")], [])


def test_a_rule_behind_the_ring_stops_the_scan(tmp_path: Path) -> None:
    """An egress rule drops frames of packet sockets. Kept: what had answered; no target is called filtered."""
    with direct_box() as box:
        forbid(box.scanner, "tcp dport 23 drop", f"netdev t {{ chain o {{ type filter hook egress device {INTERFACE}")
        ended = scan(box, "198.19.0.0/28", "-p", "22,23", "--rate", "100", "-q", "--transport", "ring")
    assert (ended.code, len(ended.errors), {row["state"] for row in ended.rows} - {"closed"}) == (1, 1, set())
    assert "egress" in ended.errors[0]


def test_no_egress_rule_is_asked_about_af_xdp() -> None:
    """SECURITY.md says so. Who wants such a rule to hold takes another transport."""
    with direct_box() as box:
        forbid(box.scanner, "tcp dport 23 drop", f"netdev t {{ chain o {{ type filter hook egress device {INTERFACE}")
        ended = scan(box, "198.19.0.0/28", "-p", "22,23", "-q", "--transport", "xdp")
    if "no AF_XDP" in str(ended.errors):
        pytest.skip(ended.errors[0])
    assert (ended.code, {row["port"] for row in ended.rows}) == (0, {22, 23})


def test_an_output_rule_is_asked_about_raw_sockets() -> None:
    """Kept: the rows of the other port. What this machine refuses has no row."""
    with direct_box() as box:
        forbid(box.scanner, "tcp dport 23 drop")
        ended = scan(box, "198.18.0.2", "-p", "22,23", "-q", "--transport", "raw")
    assert (ended.code, {row["port"] for row in ended.rows}) == (1, {22})


# ── connect ──


def test_connect_tells_a_prohibiting_route_from_a_target(alone: Namespace) -> None:
    """Addresses that no route leads to are left out before the scan."""
    alone.ip(["route add prohibit 198.18.5.0/24"])
    ended = run(alone, "connect", "127.0.0.1", "198.18.5.1", "203.0.113.9", "-p", "22,23")
    assert ended.brief("ip", "port", "state") == [("127.0.0.1", 22, "closed"), ("127.0.0.1", 23, "closed")]
    skipped = [
        f"halfopen: skipped {ip}: cannot be reached ({cause}): leave it out (--exclude), or add a route"
        for ip, cause in (("198.18.5.1", "a route of type prohibit"), ("203.0.113.9", "no route"))
    ]
    assert (ended.code, [line for line in ended.errors if line.startswith("halfopen:")]) == (0, skipped)


def test_connect_without_its_interface_ends_with_what_it_knows(tmp_path: Path) -> None:
    """Kept: the rows of what had answered. Every target answers, so no row is false."""
    with direct_box() as box:
        box.listen([22])
        line = ["-p", "22,23", "198.19.0.0/21", "--rate", "2000", "-o", str(tmp_path / "out.jsonl")]
        process = start_connect(box, *line)
        with Tap(box) as tap:
            seen: list[int] = []
            assert wait_until(
                lambda: bool(seen.extend(s.dport for s in tap.segments() if s.flags == SYN)) or len(seen) > 1000
            )
        box.scanner.ip([f"link delete {INTERFACE}"])
        _, said = process.communicate(timeout=PATIENCE)
    found: list[dict[str, Any]] = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (process.returncode, len(said.decode().splitlines())) == (1, 1)
    assert [row for row in found if row["state"] != {22: "open", 23: "closed"}[row["port"]]] == []
    assert 900 < len(found) < 4096


def test_connect_whose_route_leads_elsewhere_ends_with_what_it_knows(tmp_path: Path) -> None:
    """Its interface goes down, and a default route leads to nobody. Kept: the rows of what had answered."""
    out = tmp_path / "out.jsonl"
    with direct_box() as box:
        box.listen([22])
        box.scanner.ip(["link add dum0 type veth peer name dum1", "addr add 10.9.9.9/24 dev dum0"])
        box.scanner.ip(["link set dum0 up", "link set dum1 up", "route add default via 10.9.9.1 dev dum0"])
        process = start_connect(box, "-p", "22,23", "198.19.0.0/24", "--rate", "200", "-o", str(out))
        with Tap(box) as tap:
            seen: list[int] = []
            assert wait_until(
                lambda: bool(seen.extend(s.dport for s in tap.segments() if s.flags == SYN)) or len(seen) > 100
            )
        box.scanner.ip([f"link set {INTERFACE} down"])
        said = process.communicate(timeout=PATIENCE)[1].decode().splitlines()
    found: list[dict[str, Any]] = [json.loads(line) for line in out.read_text().splitlines()]
    line = f"halfopen: the route through {INTERFACE} now leads through dum0"
    assert (process.returncode, said) == (1, [line])
    assert [row for row in found if row["state"] != {22: "open", 23: "closed"}[row["port"]]] == []
    assert 80 < len(found) < 512


def start_connect(box: Box, *arguments: str) -> "subprocess.Popen[bytes]":
    line = [sys.executable, "-m", "scanner", "connect", "-q", *arguments]
    return box.scanner.popen(line, stdout=-3, stderr=subprocess.PIPE, env=environment())


def test_hosts_that_were_kept_back_are_asked_by_the_next_part(alone: Namespace, tmp_path: Path) -> None:
    """Kept: the rows of the other hosts, once."""
    forbid(alone, "ip daddr 127.0.0.4/30 drop")
    files = ["-o", str(tmp_path / "out.jsonl"), "--resume", str(tmp_path / "state")]
    first = run(alone, "syn", "127.0.0.0/28", "-p", "1-3", *files)
    rows = (tmp_path / "out.jsonl").read_text().splitlines()
    assert (first.code, len(rows), "some hosts have not been asked: to go on" in str(first.errors)) == (1, 36, True)
    assert alone.run(["nft", "flush", "ruleset"]).returncode == 0
    second = run(alone, "syn", "127.0.0.0/28", "-p", "1-3", *files)
    lines = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    found = sorted((row["ip"], row["port"]) for row in lines)
    assert (second.code, (tmp_path / "state").exists()) == (0, False)
    assert found == sorted((f"127.0.0.{low}", port) for low in range(16) for port in (1, 2, 3))
