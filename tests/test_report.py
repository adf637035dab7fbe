"""Reports: sums, charts and maps as data, the page as text."""

import json
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
from scanner.page import page_of, render

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


def test_rows_that_contradict_each_other_are_said() -> None:
    twice = [ROWS[0], ROWS[1]._replace(port=22), ROWS[3], ROWS[4], ROWS[3]._replace(scanner_ip=B, state="closed")]
    assert model(twice).notes == ["1 row contradicts another row of the same target: the strongest state is shown"]


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


FOUND = {
    "firewall-reset": ("A firewall most likely forged the resets of 1 port on 1 host.", A),
    "syn-proxy": ("A SYN proxy answers on 2 ports of 1 host.", f"{B} (web.example)"),
    "all-open": ("Nearly every port of 12 hosts answers alike (12 ports).", "198.18.1.0, "),
    "stopped-answering": ("Before the scan was over, 1 host stopped answering.", A),
}


def test_findings_are_sentences_about_evidence() -> None:
    rows = [
        *ROWS,
        *(
            Verdict(B, port, "open", "syn-ack", evidence=("syn-proxy", "late"), hostname="web.example")
            for port in (1, 2)
        ),
        *(row._replace(evidence=("all-open",)) for row in many("198.18.1.0", 12)),
        Verdict(A, 9, "unknown", "no-response", evidence=("stopped-answering",)),
    ]
    found = {each.search.removeprefix("evidence:"): (each.sentence, each.hosts) for each in model(rows).findings}
    assert found.pop("all-open")[1].endswith("198.18.1.7, and 4 more")
    assert found == {word: told for word, told in FOUND.items() if word != "all-open"}
    assert model([row for row in rows if not row.evidence]).findings == []


def test_the_table_holds_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "MOST_BYTES", 100_000)
    rows = [
        Verdict(f"198.18.{host}.1", port, "closed", "x", rtt_ms=host + port / 7)
        for host in range(40)
        for port in range(1000)
    ]
    found = model([*rows, Verdict("198.19.0.1", 1, "open", "x")])
    last = found.data["kinds"][unpacked(found.data["rows"]["kind"])[-1]].state
    assert (1000 < found.shown < 20_000, found.rows, len(json.dumps(found.data)) <= 100_000, last) == (
        True, 40_001, True, "open",
    )  # fmt: skip


def from_vantages(row: Verdict, **states: str) -> list[Verdict]:
    """A row as vantage points see it, each with its state."""
    return [row._replace(state=state, vantage=vantage) for vantage, state in states.items()]


def test_where_vantage_points_differ() -> None:
    rows = [
        *from_vantages(ROWS[0], paris="open", tokyo="open"),
        *from_vantages(ROWS[1], paris="closed", tokyo="filtered"),
        *from_vantages(ROWS[2], paris="closed", tokyo="open", lima="filtered"),
        *from_vantages(ROWS[3], lima="open"),
    ]
    found = model(rows)
    assert [(each.sentence, each.hosts) for each in found.findings[:1]] == [
        ("Some of 3 vantage points see 1 target open, and others do not.", f"{A} port 113: open from 1 of 3")
    ]
    assert (found.open_ports, found.targets, found.rows, found.data["vantages"], found.notes) == (
        3, 4, 8, ["", "paris", "tokyo", "lima"], [],
    )  # fmt: skip


def test_rows_with_and_without_a_vantage_point() -> None:
    assert model([*from_vantages(ROWS[0], paris="open"), ROWS[1]]).notes == [
        "1 row without a vantage point beside 1 row with one: only the latter are compared by vantage point"
    ]


def test_open_ports_by_host() -> None:
    rows = [
        *ROWS,
        Verdict(A, 8443, "open", "syn-ack", evidence=("syn-proxy", "late"), tunnel="gre"),
        *(Verdict(B, port, "open", "syn-ack", hostname="web.example") for port in (80, *range(1000, 1030))),
    ]
    found = model(rows)
    hosts = found.opened
    assert [(host.ip, host.name, host.opened, host.ports, host.many) for host in hosts] == [
        (A, "", 1, [(22, "ssh")], ""),
        (A, "gre", 1, [(8443, "")], ""),
        (B, "web.example", 31, [], "80,1000-1029"),
    ]
    table = render(found).partition('id="open"')[2].partition("</section>")[0]
    assert ("80,1000-1029" in table, "<li><b>22</b> ssh</li>" in table, "<b>1000</b>" in table) == (True, True, False)
    assert [words for host in hosts for words in host.words] == [("syn-proxy", EVIDENCE["syn-proxy"])]


def test_the_first_hosts_are_named_and_the_others_counted() -> None:
    found = model([row._replace(state="open") for row in many("198.18.0.0", 600)])
    page = render(found)
    assert (len(found.opened), found.more_hosts, page.count("<details>")) == (500, 100, 1)
    assert ("460 more hosts" in page, "100 further hosts" in page) == (True, True)


def test_what_changed() -> None:
    old = [ROWS[0], ROWS[3], Verdict(A, 25, "open", "syn-ack"), Verdict(B, 9, "unknown", "no-response")]
    new = [*ROWS[:2], Verdict(A, 139, "open", "syn-ack", hostname="web.example"), Verdict(B, 9, "open", "syn-ack")]
    shown = page_of(new, "T", ["new"], [], list, (old, "old.jsonl"))
    assert "3 ports are open, on 2 of 2 hosts. 1 newly open." in shown
    text = " ".join(
        unescape(re.sub(r"<[^>]*>", " ", shown.partition('id="changes"')[2].partition("</section>")[0])).split()
    )
    assert text.startswith(
        ">What changed since old.jsonl Targets that are the same: 1; unknown on one side, and not compared: 1."
    )
    assert text.partition("compared: 1. ")[2] == (
        f"Newly open: 1 Host Port Before Now {A} web.example 139/tcp netbios-ssn filtered (no-response) open (syn-ack) "
        f"Newly reachable: 1 Host Port Before Now {A} web.example 23/tcp telnet no row closed (reset) "
        f"No longer open or reachable: 1 Host Port Before Now {A} web.example 25/tcp smtp open (syn-ack) no row"
    )


def test_many_changes_are_counted() -> None:
    page = page_of(many("198.18.0.0", 600), "T", ["new"], [], list, ([ROWS[0]], "old"))
    assert ("Newly reachable: 599" in page, "399 more; halfopen diff lists them." in page) == (True, True)


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


def test_the_pictures_of_the_readme_are_small() -> None:
    named = re.findall(r"!\[[^\]]+\]\((scanner/page/pictures/[^)]+)\)", (ROOT / "README.md").read_text("utf-8"))
    pictures = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "scanner/page/pictures").iterdir())
    assert (sorted(named), len(named)) == (pictures, 2)
    assert [name for name in named if not 10_000 < (ROOT / name).stat().st_size < 150_000] == []


def test_verb(tmp_path: Path) -> None:
    made = report(str(ROOT / "pcaps/demo.jsonl"), "-o", "r.html", cwd=tmp_path)
    again = report(str(ROOT / "pcaps/demo.jsonl"), "-o", "r.html", cwd=tmp_path)
    assert (made, again) == (
        (0, "halfopen: 44 targets of 2 hosts in r.html\n"),
        (2, "halfopen: r.html exists and is not overwritten: name another file, or add --force\n"),
    )


def test_verb_with_an_earlier_result(tmp_path: Path) -> None:
    old = tmp_path / "old.jsonl"
    old.write_text('{"ip": "192.0.2.7", "port": 1, "state": "open", "reason": "syn-ack"}\n')
    code, said = report(str(ROOT / "pcaps/demo.jsonl"), "--since", str(old), "-o", "r.html", cwd=tmp_path)
    ports = f"{old} and {ROOT}/pcaps/demo.jsonl have no port in common: were the same ports scanned?"
    assert (code, said.splitlines()[0]) == (0, f"halfopen: {ports}")
    assert f"What changed since {old}" in (tmp_path / "r.html").read_text()


def test_without_jinja2_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    answer = report(str(ROOT / "pcaps/demo.jsonl"), "-o", "r.html", cwd=tmp_path, code="sys.modules['jinja2'] = None")
    assert answer == (2, "halfopen: a report needs jinja2: pip install jinja2\n")
