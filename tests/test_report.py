"""Reports: sums, charts and maps as data, the page as text, and the page in a browser if one is installed."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanner.page import model as model_module
from scanner.page.charts import STYLES, Bar, Map, histogram
from scanner.page.model import Model
from scanner.results.columns import Vocabulary
from scanner.verdict.rows import Verdict
from scanner.verdict.sentences import EVIDENCE
from tests.browser import CHROMIUM, Browser

pytest.importorskip("jinja2", reason="a report needs Jinja2: pip install jinja2")
from scanner.page import render

ROOT = Path(__file__).resolve().parents[1]
A, B = "198.18.0.2", "198.18.0.3"
ROWS = [
    Verdict(A, 22, "open", "syn-ack", ttl=64, service="ssh", rtt_ms=0.5, time=1700000000.0),
    Verdict(
        A, 23, "closed", "reset", ttl=64, service="telnet", evidence=("host-reset",), rtt_ms=0.25, time=1700000001.0
    ),
    Verdict(A, 113, "closed", "reset", ttl=64, service="ident", evidence=("firewall-reset",), rtt_ms=12.5),
    Verdict(A, 139, "filtered", "no-response"),
    Verdict(A, 139, "filtered", "host-unreach", icmp_from="198.18.9.9"),
    Verdict(B, None, "down", "no-arp"),
]


def model(rows: list[Verdict], **more: Any) -> Model:
    texts = Vocabulary()
    return Model(texts, texts.rows(rows), "T", more.get("sources", ["X"]), more.get("notes", []))


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
        Bar("open", "open", 1, 100.0, "20.0 %"),
        Bar("closed", "closed", 1, 100.0, "20.0 %"),
        Bar("closed (firewall reset)", "firewall", 1, 100.0, "20.0 %"),
        Bar("filtered", "filtered", 1, 100.0, "20.0 %"),
        Bar("host down", "down", 1, 100.0, "20.0 %"),
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


def many(first: str, hosts: int, step: int = 1, port: int = 80) -> list[Verdict]:
    start = ip_address(first)
    return [
        Verdict(str(start + step * number), port, "open" if number == 1 else "closed", "x") for number in range(hosts)
    ]


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


def test_the_table_keeps_the_strongest_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "MOST_ROWS", 3)
    found = model(ROWS)
    kept = [found.data["rows"]["port"][at] for at in range(found.shown)]
    assert (kept, sum(bar.count for bar in found.states)) == ([22, 23, 113], 5)


EVIL = "</script><script>alert(1)</script><img src=//198.18.0.9/x onerror=alert(1)>"


def evil() -> Model:
    row = Verdict(A, 80, EVIL, EVIL, service=EVIL, evidence=(EVIL,))
    return model([row, row._replace(state="open", port=81)], sources=[EVIL], notes=[EVIL])


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


# ── in a browser ──

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    page = Browser()
    yield page
    page.close()


def shown(browser: Browser) -> list[str]:
    """Host and port of the rows in view."""
    rows = "[...document.querySelectorAll('#body tr[aria-rowindex]')]"
    return list(browser.run(f"{rows}.map(tr => tr.cells[0].innerText + ' ' + tr.cells[1].innerText)"))


def settle(browser: Browser) -> str:
    """Wait until a filter has been applied; the text about the number of rows."""
    browser.run("new Promise(done => setTimeout(done, 150))")
    return str(browser.run("document.getElementById('found').textContent"))


def view(browser: Browser, rows: Model, tmp_path: Path) -> None:
    browser.messages.clear()
    browser.requested.clear()
    (tmp_path / "r.html").write_text(render(rows))
    browser.open(tmp_path / "r.html")


TYPED = {
    "22": ["198.18.0.2 22/tcp"],
    "ssh": ["198.18.0.2 22/tcp"],
    "CLOSED firewall": ["198.18.0.2 113/tcp"],
    "198.18.0.3": ["198.18.0.3 host"],
    "198.18.9.9": ["198.18.0.2 139/tcp"],
    "198.18.0.2 23/tcp": ["198.18.0.2 23/tcp"],
    "nothing like it": [],
}


@needs_chromium
def test_search(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path)
    found = {}
    for words in TYPED:
        browser.run(f"search.value = {json.dumps(words)}; search.dispatchEvent(new Event('input', {{bubbles: true}}))")
        settle(browser)
        found[words] = shown(browser)
    assert found == TYPED


@needs_chromium
def test_filters_and_their_reset(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path)
    browser.run("document.querySelector('#states input[value=open]').click()")
    without_open = settle(browser)
    browser.run("reason.value = 'reset'; reason.dispatchEvent(new Event('input', {bubbles: true}))")
    resets = settle(browser)
    browser.run("word.value = 'firewall-reset'; word.dispatchEvent(new Event('input', {bubbles: true}))")
    forged = settle(browser)
    browser.run("document.querySelector('button[type=reset]').click()")
    assert (without_open, resets, forged, settle(browser)) == (
        "4 of 5 rows",
        "2 of 5 rows",
        "1 of 5 rows",
        "5 of 5 rows",
    )


@needs_chromium
def test_sorting_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path)
    browser.run("document.querySelectorAll('#heads button')[1].focus()")
    said = []
    for _ in range(2):
        browser.press("Enter", 13, "\r")
        said.append(
            (browser.run("document.querySelectorAll('#heads th')[1].getAttribute('aria-sort')"), shown(browser)[0])
        )
    assert said == [("ascending", "198.18.0.3 host"), ("descending", "198.18.0.2 139/tcp")]


@needs_chromium
def test_a_row_is_explained(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path)
    browser.run("document.querySelectorAll('#body button')[2].click()")
    assert browser.run("document.getElementById('detail').innerText").split("\n") == [
        "198.18.0.2 port 113/tcp: closed (firewall reset)",
        "",
        "closed (reset): a reset came back.",
        "",
        f"firewall-reset {EVIDENCE['firewall-reset']}",
    ]


@needs_chromium
def test_the_map_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path)
    browser.run("cells.focus()")
    browser.press("ArrowRight", 39)
    cell = browser.run("document.getElementById('cell').textContent")
    browser.press("Enter", 13, "\r")
    assert (cell, settle(browser), shown(browser)) == (
        "198.18.0.2 port 23: closed",
        "1 of 5 rows",
        ["198.18.0.2 23/tcp"],
    )


@needs_chromium
def test_the_curve_visits_every_cell_in_steps_of_one(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(many("198.18.4.0", 1024)), tmp_path)
    walk = browser.run(
        "Array.from({length: 1024}, (_, at) => [along(5, at % 32, Math.floor(at / 32)), at % 32, Math.floor(at / 32)])"
    )
    path = [(x, y) for _, x, y in sorted(walk)]
    steps = {abs(a - c) + abs(b - d) for (a, b), (c, d) in pairwise(path)}
    assert (sorted(place for place, _, _ in walk), path[0], steps) == (list(range(1024)), (0, 0), {1})


ADDRESSES = [
    ("198.18.0.0", 4, 3, "198.18.0.48"),
    ("2001:db8::", 0, 1, "2001:db8::1"),
    ("2001:db8::", 100, 1, "2001:dc8::"),
    ("2001:db8:0:1::", 0, 65536, "2001:db8:0:1::1:0"),
    ("::", 0, 0, "::"),
]


@needs_chromium
def test_addresses_of_cells(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path)
    found = browser.run(f"{json.dumps(ADDRESSES)}.map(([base, bits, cell]) => address(base, bits, cell))")
    assert found == [text for *_, text in ADDRESSES]


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_scheme_of_the_browser(browser: Browser, tmp_path: Path, scheme: str) -> None:
    browser.scheme(scheme)
    view(browser, model(ROWS), tmp_path)
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 29)"}[scheme]


@needs_chromium
@pytest.mark.parametrize("kind", ["grid", "evil", "empty", "addresses", "all ports"])
def test_nothing_is_logged_and_nothing_is_fetched(browser: Browser, tmp_path: Path, kind: str) -> None:
    rows = {
        "grid": model(ROWS),
        "evil": evil(),
        "empty": model([]),
        "addresses": model(many("198.18.0.0", 600)),
        "all ports": model([Verdict(A, port, "open", "x") for port in range(3000)]),
    }[kind]
    view(browser, rows, tmp_path)
    browser.run("document.getElementById('cells')?.dispatchEvent(new PointerEvent('pointermove'))")
    browser.run("document.querySelector('#body button')?.click()")
    settle(browser)
    assert (browser.messages, [url for url in browser.requested if not url.startswith("file:")]) == ([], [])


@needs_chromium
def test_only_the_rows_in_view_are_drawn(browser: Browser, tmp_path: Path) -> None:
    rng = random.Random(1)
    states = [("open", "syn-ack"), ("closed", "reset"), ("filtered", "no-response")]
    rows = [Verdict(f"198.18.{host}.1", port, *rng.choice(states)) for host in range(256) for port in range(1, 257)]
    view(browser, model(rows), tmp_path)
    first = shown(browser)
    browser.run("document.getElementById('scroll').scrollTop = 1e9")
    settle(browser)
    last = shown(browser)
    assert (first[0], last[-1], max(len(first), len(last)) < 60) == ("198.18.0.1 1/tcp", "198.18.255.1 256/tcp", True)
