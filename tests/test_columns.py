"""Rows as columns are written as the same rows one by one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scanner.classifier.classification import Classification
from scanner.output import FORMATS, Run
from scanner.output.stream import Summary, standard_output
from scanner.packet.addresses import from_ints, from_ipv4
from scanner.packet.headers import MAPPED
from scanner.verdict.columns import Columns, Services
from scanner.verdict.details import Options
from scanner.verdict.ledger import blank
from scanner.verdict.rows import Verdict
from scanner.verdict.table import Reason

PCAPS = sorted(Path(__file__).resolve().parents[1].glob("pcaps/*.pcap*"))
REASONS = [Reason.NO_RESPONSE, Reason.SYN_ACK, Reason.RESET, Reason.ADMIN_PROHIBITED, Reason.ONE_WAY_CAPTURE]


def text(form: str, everything: bool, batches: list[Columns] | list[list[Verdict]]) -> str:
    """All that a file of these batches holds."""
    made = FORMATS[form](standard_output(), everything, Run(started=0))
    return made.head + "".join("".join(made.texts(rows)) for rows in batches) + made.end(Summary("the end"))


def columns(hosts: int, ports: int, scanners: int, six: bool, silent: float, seed: int) -> Columns:
    """Random rows: `hosts` hosts with up to `ports` ports, as each of the scanners saw them."""
    random = np.random.default_rng(seed)
    pairs = [(us, them, port) for us in range(scanners) for them in range(hosts) for port in range(ports)]
    us, them, port = np.array([pair for pair in pairs if pair[2] == 0 or random.random() < 0.7]).T
    n = len(us)
    record = blank(n)
    record["reason"] = random.choice(REASONS, n, p=[silent, *[(1 - silent) / 4] * 4])
    answered = np.isin(record["reason"], REASONS[1:4])
    record["ttl"], record["pass"] = random.integers(1, 256, n), np.where(answered, random.integers(1, 4, n), 0)
    record["time"] = random.integers(0, 2_000_000_000 * 10**9, n)
    # Of an ICMP error who sent it, of a SYN/ACK its options.
    record["detail"] = np.where(np.isin(record["reason"], REASONS[1::2]), random.integers(0, 3, n), 0)
    record["window"] = random.integers(0, 65536, n)
    four = from_ipv4(0x0A000000 + them * 65521 % 2**24)
    other = from_ints([0x20010DB8 << 96 | int(each) * 2654435761 for each in them])
    return Columns(
        np.where(six & (them % 2 == 0), other, four),
        (port * 1009 % 65535 + 22).astype(np.uint16),
        record,
        np.where(answered, random.integers(-1, 10 ** random.integers(1, 13, n), n), -1),
        random.random(n) < 0.9,
        random.integers(0, 3, n),
        from_ints([MAPPED | 0xC0000200 + int(each) for each in us]),
        [(), ("half-open",), ("conflict:reset", "repeat")],
        Services.of({22: "ssh", 1031: "iad2"}),
        [None, "192.0.2.9", "2001:db8::9"],
        [Options(), Options(), Options(1460, "mss,ws=7")],
        np.zeros(n, np.int64),
        [None],
        first := random.integers(1, 2_000_000_000 * 10**9, n) * (random.random(n) < 0.9),
        first + random.integers(0, 10**12, n) * (first > 0),
        random.integers(0, 100, n).astype(np.uint32),
        np.zeros(n, np.int64),
    )


CASES = {
    "a port on many hosts": (300, 1, 1, False, 0.5),
    "all of them answered": (300, 1, 1, False, 0.0),
    "none of them answered": (300, 1, 1, False, 1.0),
    "few of them are silent": (20, 1, 1, False, 0.2),
    "both families": (300, 1, 1, True, 0.5),
    "several scanners": (100, 1, 3, True, 0.5),
    "many ports": (9, 60, 2, True, 0.9),
    "one host": (1, 60, 1, False, 0.5),
    "one silent host": (1, 1, 1, False, 1.0),
    "one target and two scanners": (1, 1, 2, False, 0.0),
}


@pytest.mark.parametrize("form", ["jsonl", "table", "csv"])
@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_random_rows(form: str, everything: bool, case: tuple[int, int, int, bool, float]) -> None:
    batches = [columns(*case, seed) for seed in range(3)]
    assert text(form, everything, batches) == text(form, everything, [list(rows) for rows in batches])


@pytest.mark.parametrize("form", ["jsonl", "table"])
@pytest.mark.parametrize("path", PCAPS, ids=lambda path: path.name)
def test_the_rows_of_captures(form: str, path: Path) -> None:
    batches = list(Classification([str(path)], 0).batches())
    assert text(form, False, batches) == text(form, False, [list(rows) for rows in batches])


@pytest.mark.parametrize("form", ["jsonl", "table", "csv"])
def test_rows_in_tunnels(form: str) -> None:
    rows = columns(100, 3, 2, True, 0.5, 1)
    rows = replace(rows, tunnel=rows.ip["lo"].astype(np.int64) % 3, tunnels=[None, "vxlan:1", "gtp-u:70000/gre"])
    assert text(form, False, [rows]) == text(form, False, [list(rows)])
    assert "gtp-u:70000/gre" in text(form, True, [rows])


@pytest.mark.parametrize("form", ["jsonl", "table"])
def test_rows_of_several_scans(form: str) -> None:
    rows = columns(100, 3, 2, True, 0.5, 1)
    rows = replace(rows, scan=np.sort(rows.ip["lo"].astype(np.int64) % 12) + 1)
    assert text(form, False, [rows]) == text(form, False, [list(rows)])
    assert {"jsonl": '"scan": 12}', "table": ", scan 12"}[form] in text(form, True, [rows])


def test_times_that_floats_cannot_hold() -> None:
    rows = columns(50, 1, 1, False, 0.0, 1)
    rows.record["time"][:2] = [-1, 2**63 - 1]
    assert text("jsonl", False, [rows]) == text("jsonl", False, [list(rows)])
