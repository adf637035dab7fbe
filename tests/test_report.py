"""Reports: sums, charts and maps as data, the page as text."""

import re
import subprocess
import sys
from html import unescape
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from scanner.page import model as model_module
from scanner.page.charts import STYLES, Bar, Map, histogram
from scanner.verdict.rows import Verdict
from scanner.verdict.sentences import EVIDENCE
from tests.pages import EVIL, ROWS, A, B, evil, many, model

pytest.importorskip("jinja2", reason="a report needs Jinja2: pip install jinja2")
from scanner.page import render

ROOT = Path(__file__).resolve().parents[1]


def test_sums() -> None:
    found = model(ROWS)
    assert (found.targets, found.hosts, found.open_hosts, found.first, found.last) == (
        4,
        2,
        1,
        1700000000.0,
        1700000001.0,
    )


def test_states() -> None:
    assert model(ROWS).states == [
        Bar("open", "open", 1, 20.0, "20.0 %"),
        Bar("closed", "closed", 1, 20.0, "20.0 %"),
        Bar("closed (firewall reset)", "firewall", 1, 20.0, "20.0 %"),
        Bar("filtered", "filtered", 1, 20.0, "20.0 %"),
        Bar("host down", "down", 1, 20.0, "20.0 %"),
    ]


def test_evidence_words_have_sentences() -> None:
    found = [(word, count, sentence) for word, sentence, count in model(ROWS).words]
    assert found == [(word, 1, EVIDENCE[word]) for word in ("host-reset", "firewall-reset")]


def test_no_rows_at_all() -> None:
    found = model([])
    assert (found.targets, found.states, found.rtt, found.maps, found.words) == (0, [], None, [], [])


@pytest.mark.parametrize(
    ("times", "counts", "ticks"),
    [
        ([0.1], [1], ["0.1 ms", "1 ms"]),
        ([0.02, 0.02, 150, float("nan")], [2, 1], ["0.01 ms", "0.1 ms", "1 ms", "10 ms", "100 ms", "1 s"]),
        ([0.02, 2e5], [1, 1], ["0.01 ms", "1 ms", "100 ms", "10 s", "1,000 s"]),
        ([0, -1], [2], ["0.001 ms", "0.01 ms"]),
    ],
)
def test_histogram(times: list[float], counts: list[int], ticks: list[str]) -> None:
    drawn = histogram(np.array(times, np.float32))
    assert drawn
    assert ([int(bin.label.rpartition(" ")[2]) for bin in drawn.bins], [label for _, label in drawn.ticks]) == (
        counts,
        ticks,
    )


def test_a_few_hosts_are_a_grid() -> None:
    (drawn,) = model(ROWS).maps
    code = {name: str(number) for number, name in enumerate(STYLES)}
    first = "".join(code[name] for name in ("open", "closed", "firewall", "filtered"))
    assert drawn == Map("grid", "2 hosts × 4 ports", first + code["down"] * 4, hosts=(A, B), ports=(22, 23, 113, 139))


def test_all_ports_of_one_host_are_a_square() -> None:
    (drawn,) = model([Verdict(A, port, "open" if port == 22 else "closed", "x") for port in range(2000)]).maps
    assert (drawn.kind, drawn.title, drawn.order, len(drawn.cells), drawn.cells[21:24], drawn.cells.count("0")) == (
        "ports",
        A,
        8,
        65536,
        "212",
        65536 - 2000,
    )


BLOCKS = {
    "a subnet, one address in a cell": (many("198.18.4.0", 1024), [("198.18.4.0/22", 5, 0, {1: "1"})]),
    "an odd prefix is rounded up": (many("198.18.6.0", 512), [("198.18.4.0/22", 5, 0, {513: "1", 0: "0"})]),
    "far apart, a map for each": (
        many("198.18.0.0", 300) + many("198.19.0.0", 300) + many("2001:db8::", 2),
        [
            ("198.18.0.0/22", 5, 0, {1: "1"}),
            ("198.19.0.0/22", 5, 0, {1: "1"}),
            ("2001:db8::/126", 1, 0, {0: "2", 1: "1"}),
        ],
    ),
    "many networks, subnets for cells": (
        many("198.18.0.0", 600, 1 << 12) + many("2001:db8::", 300, 1 << 96),
        [
            ("198.0.0.0/10", 8, 6, {18432: "2", 18433: "0", 18496: "1"}),
            ("2001:c00::/22", 8, 90, {28160: "2", 28161: "0", 28224: "1"}),
        ],
    ),
}


@pytest.mark.parametrize(("rows", "expected"), BLOCKS.values(), ids=BLOCKS)
def test_many_hosts_are_drawn_as_their_addresses(
    rows: list[Verdict], expected: list[tuple[str, int, int, dict[int, str]]]
) -> None:
    found = model(rows).maps
    shown = [
        (each.title, each.order, each.bits, {at: each.cells[at] for at in want[3]})
        for each, want in zip(found, expected, strict=True)
    ]
    assert shown == expected


def test_a_cell_shows_the_strongest_state_of_its_ports() -> None:
    rows = many("198.18.0.0", 300) + [row._replace(state="filtered") for row in many("198.18.0.0", 300, port=81)]
    (drawn,) = model(rows).maps
    assert drawn.cells[:3] == "212"


def unpacked(column: list[int | list[int]]) -> list[int]:
    """The numbers of a column of the table."""
    steps = [step for item in column for step in ([item[0]] * item[1] if isinstance(item, list) else [item])]
    return list(accumulate(steps))


def test_columns_are_written_as_runs_of_differences() -> None:
    found = model([Verdict(ip, port, "closed", "reset", ttl=64) for ip in (A, B) for port in range(1, 101)]).data[
        "rows"
    ]
    assert (found["host"], found["place"], found["ttl"], found["sender"]) == (
        [[0, 100], 1, [0, 99]], [0, [1, 99], -99, [1, 99]], [64, [0, 199]], None,
    )  # fmt: skip


def test_the_table_keeps_the_strongest_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "MOST_ROWS", 3)
    found = model(ROWS)
    kept = [found.data["places"][at][0] for at in unpacked(found.data["rows"]["place"])]
    assert (kept, sum(bar.count for bar in found.states)) == ([22, 23, 113], 5)


def test_text_from_files_is_escaped() -> None:
    page = render(evil())
    assert (page.count("<script"), page.count("<img"), EVIL in unescape(page)) == (2, 0, True)


def test_the_page_names_nothing_to_fetch() -> None:
    page = render(model(ROWS))
    addresses = set(re.findall(r"\bhttps?://[^\"' ]+", page)) - {"http://www.w3.org/2000/svg"}
    assert (addresses, re.findall(r"<(?:link|img|iframe)|\ssrc=|@import|url\(", page)) == (set(), [])


def test_the_same_rows_give_the_same_page() -> None:
    assert render(model(ROWS)) == render(model(ROWS))


def report(*arguments: str, cwd: Path, code: str = "") -> tuple[int, str]:
    argv = "sys.argv = ['halfopen', 'report', *sys.argv[1:]]"
    program = f"import sys; {code}\nfrom scanner.cli.verbs import main\n{argv}\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    return done.returncode, done.stderr


def test_verb(tmp_path: Path) -> None:
    made = report(str(ROOT / "pcaps/demo.jsonl"), "-o", "r.html", cwd=tmp_path)
    again = report(str(ROOT / "pcaps/demo.jsonl"), "-o", "r.html", cwd=tmp_path)
    assert (made, again) == (
        (0, "halfopen: 44 targets of 2 hosts in r.html\n"),
        (2, "halfopen: r.html exists and is not overwritten: name another file, or add --force\n"),
    )


def test_without_jinja2_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    answer = report(str(ROOT / "pcaps/demo.jsonl"), "-o", "r.html", cwd=tmp_path, code="sys.modules['jinja2'] = None")
    assert answer == (2, "halfopen: a report needs jinja2: pip install jinja2\n")
