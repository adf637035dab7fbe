"""The report page in a headless Chromium: search, sorting, the map, paper, and what readers need to read it."""

import io
import json
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from scanner.page.model import Model
from scanner.results.read import read_results
from scanner.results.runs import RunFacts
from scanner.verdict.rows import Verdict
from scanner.verdict.sentences import EVIDENCE
from tests.browser import CHROMIUM, Browser
from tests.pages import ROWS, A, B, evil, many, model

pytest.importorskip("jinja2", reason="a report needs Jinja2: pip install jinja2")
from scanner.page import render

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    page = Browser()
    yield page
    page.close()


def view(browser: Browser, rows: Model, tmp_path: Path, fragment: str = "", width: int = 1280) -> None:
    """Open the page of these rows."""
    browser.messages.clear()
    browser.requested.clear()
    (tmp_path / "r.html").write_text(render(rows))
    browser.open(tmp_path / "r.html", width)
    if fragment:
        browser.run(f"new Promise(done => {{ onhashchange = done; location.hash = {json.dumps(fragment)} }})")


def shown(browser: Browser) -> list[str]:
    """Host and port of the rows in the table."""
    rows = "[...document.querySelectorAll('#body tr[aria-rowindex]')]"
    port = "[...document.querySelectorAll('#heads th')].findIndex(th => th.innerText.startsWith('Port'))"
    return list(browser.run(f"{rows}.map(tr => tr.cells[0].innerText + ' ' + tr.cells[{port}].innerText)"))


def found(browser: Browser) -> str:
    """The text about the number of rows."""
    return str(browser.run("document.getElementById('found').textContent"))


def typed(browser: Browser, words: str) -> list[str]:
    """The rows after a search."""
    browser.run(f"search({json.dumps(words)})")
    return shown(browser)


NETS = [
    *ROWS,
    Verdict("198.18.0.20", 8080, "open", "syn-ack", service="http-alt", hostname="www.example"),
    Verdict("2001:db8::7", 8100, "unknown", "no-response"),
]
FIRST = [f"{A} 22/tcp", f"{A} 23/tcp", f"{A} 113/tcp", f"{A} 139/tcp"]
TYPED = {
    "22": FIRST[:1],
    "ssh": FIRST[:1],
    "CLOSED firewall": [FIRST[2]],
    B: [f"{B} host"],
    A: FIRST,  # and not 198.18.0.20
    "198.18.9.9": [FIRST[3]],
    f"{A} 23/tcp": [FIRST[1]],
    "23/udp": [],
    "nothing like it": [],
    "port:22": FIRST[:1],
    "port:22-113,8080": [*FIRST[:3], "198.18.0.20 8080/tcp"],
    "port:x": [],
    "state:open": [FIRST[0], "198.18.0.20 8080/tcp"],
    "state:closed": FIRST[1:3],
    "state:closed,down": [*FIRST[1:3], f"{B} host"],
    "evidence:firewall-reset": [FIRST[2]],
    "reason:reset -evidence:host-reset": [FIRST[2]],
    "service:http": [],
    "198.18.0.0/28": [*FIRST, f"{B} host"],
    "198.18.0.16/28 state:open": ["198.18.0.20 8080/tcp"],
    "198.18.0.0/33": [],
    "2001:db8::/64": ["2001:db8::7 8100/tcp"],
    "2001:db8:0:0::7": ["2001:db8::7 8100/tcp"],
    "0.0.0.0/0 port:8000-9000": ["198.18.0.20 8080/tcp"],
    "host:www": ["198.18.0.20 8080/tcp"],
    "EXAMPLE": ["198.18.0.20 8080/tcp"],
    "constructor:x toString": [],
}


def test_search(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(NETS), tmp_path)
    assert {words: typed(browser, words) for words in TYPED} == TYPED


def test_typing_and_the_buttons_of_states(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path)
    said = [found(browser)]
    for script in (
        "document.querySelector('#states button[value=closed]').click()",
        "document.querySelector('#states button[value=open]').click()",
        "add.value = 'evidence:firewall-reset'; add.dispatchEvent(new Event('change'))",
        "document.querySelector('#states button[value=open]').click()",
    ):
        browser.run(script)
        said.append(browser.run("document.getElementById('search').value") + ": " + found(browser))
    pressed = browser.run("[...document.querySelectorAll('#states [aria-pressed=true]')].map(each => each.value)")
    browser.run("search.value; document.getElementById('search').value = 'port:139'")
    browser.run(
        "document.getElementById('search').dispatchEvent(new Event('input', {bubbles: true})),"
        "new Promise(done => new MutationObserver(done).observe(found, {childList: true}))"
    )
    assert (said, pressed, found(browser)) == (
        [
            "5 of 5 rows",
            "state:closed: 2 of 5 rows match",
            "state:closed,open: 3 of 5 rows match",
            "state:closed,open evidence:firewall-reset: 1 of 5 rows match",
            "state:closed evidence:firewall-reset: 1 of 5 rows match",
        ],
        ["closed"],
        "1 of 5 rows match",
    )


SORTED = {
    ("port", ""): ["host", "22/tcp", "23/tcp", "113/tcp", "139/tcp"],
    ("-port", ""): ["139/tcp", "113/tcp", "23/tcp", "22/tcp", "host"],
    ("rtt_ms", ""): ["23/tcp", "22/tcp", "113/tcp", "139/tcp", "host"],  # unknown ones come last in both directions
    ("-rtt_ms", ""): ["113/tcp", "22/tcp", "23/tcp", "139/tcp", "host"],
    ("-service", "state:closed"): ["23/tcp", "113/tcp"],
}


def test_sorting_and_search_live_in_the_fragment(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path)
    rows = {}
    for sort, words in SORTED:
        browser.run(f"location.hash = 'sort={sort}&q={words}', new Promise(done => {{ onhashchange = done }})")
        rows[sort, words] = [row.split()[1] for row in shown(browser)]
    browser.run("search('state:open port:22'); sortBy(shown[1]); sortBy(shown[1])")
    kept = browser.run("location.hash")
    browser.run("location.hash = 'results', new Promise(done => { onhashchange = done })")  # a place on the page
    assert (rows, kept, found(browser)) == (
        SORTED, "#q=state%3Aopen+port%3A22&sort=-port", "1 of 5 rows match",
    )  # fmt: skip


def test_a_page_opens_as_its_address_says(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text(render(model([*many("198.18.0.0", 256), *many("198.18.0.0", 256, port=81)])))
    browser.open(tmp_path / "r.html", fragment="q=port:81&sort=-ip&page=3")
    assert (len(shown(browser)), shown(browser)[0], found(browser)) == (
        56, "198.18.0.55 81/tcp", "256 of 512 rows match",
    )  # fmt: skip


def test_sorting_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path)
    browser.run("document.querySelectorAll('#heads button')[1].focus()")
    said = []
    for _ in range(2):
        browser.press("Enter", 13, "\r")
        said.append(
            (browser.run("document.querySelectorAll('#heads th')[1].getAttribute('aria-sort')"), shown(browser)[0])
        )
    assert said == [("ascending", f"{B} host"), ("descending", FIRST[3])]


def test_a_row_is_explained_below_it(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path)
    button = "document.querySelectorAll('#body tr[aria-rowindex] button')[2]"
    browser.run(f"{button}.click()")
    text = browser.run("document.querySelector('#body .detail').innerText").split("\n")
    open_ = browser.run(f"{button}.getAttribute('aria-expanded')")
    browser.run(f"{button}.click()")
    assert ([line for line in text if line], open_, browser.run("document.querySelector('#body .detail')")) == (
        [
            "198.18.0.2 113/tcp: closed (firewall reset)",
            "closed (reset): a reset came back.",
            f"firewall-reset {EVIDENCE['firewall-reset']}",
        ],
        "true",
        None,
    )


def test_the_map_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path)
    browser.run("cells.focus()")
    browser.press("ArrowRight", 39)
    cell = browser.run("document.getElementById('cell').textContent")
    browser.press("Enter", 13, "\r")
    assert (cell, found(browser), shown(browser)) == (f"{A} port 23: closed", "1 of 5 rows match", [FIRST[1]])


def test_a_narrow_map_puts_ports_together(browser: Browser, tmp_path: Path) -> None:
    rows = [Verdict(ip, port, "open" if port == 2 else "closed", "x") for ip in (A, B) for port in range(1, 1001)]
    view(browser, model(rows), tmp_path, width=390)
    browser.run("cells.focus()")
    browser.press("Home", 36)
    cell = browser.run("document.getElementById('cell').textContent")
    browser.press("Enter", 13, "\r")
    fold = int(cell.partition("ports 1-")[2].partition(":")[0])
    assert (cell.endswith(": open"), fold > 1, len(shown(browser))) == (True, True, fold)


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


def test_addresses_of_cells(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path)
    cells = browser.run(f"{json.dumps(ADDRESSES)}.map(([base, bits, cell]) => address(base, bits, cell))")
    assert cells == [text for *_, text in ADDRESSES]


def test_saved_rows_are_read_back(browser: Browser, tmp_path: Path) -> None:
    rows = [row._replace(time=None) for row in (*ROWS[:3], ROWS[4], *NETS[-2:])]
    view(browser, model([*rows, ROWS[5]]), tmp_path)
    browser.run("search('-state:down')")
    script = (
        "const make_ = URL.createObjectURL; URL.createObjectURL = (blob) => { saved = blob; return make_(blob); };"
        "find('save').click(); saved.text()"
    )
    (tmp_path / "rows.csv").write_text(browser.run("let saved;" + script))
    assert list(read_results([str(tmp_path / "rows.csv")], print)) == rows


def test_no_saved_cell_is_a_formula(browser: Browser, tmp_path: Path) -> None:
    view(browser, model([Verdict(A, 1, "open", "syn-ack", service='=HYPERLINK("x")', hostname="@x")]), tmp_path)
    assert browser.run("csv().split('\\n')[1]") == f"""{A},'@x,1,tcp,open,syn-ack,"'=HYPERLINK(""x"")","""


# ── what readers need ──

KINDS = {
    "grid": lambda: model(ROWS),
    "evil": evil,
    "empty": lambda: model([]),
    "addresses": lambda: model(many("198.18.0.0", 600)),
    "all ports": lambda: model([Verdict(A, port, "open", "x") for port in range(3000)]),
    "long words": lambda: model([
        Verdict("2001:db8:1111:2222:3333:4444:5555:6666", 65535, "x" * 200, "y" * 200, service="z" * 200,
                hostname="n" * 900, evidence=("w" * 200, "syn-proxy"), tunnel="t" * 200),
        Verdict(A, 22, "open", "r" * 200, service="s" * 200, hostname="n" * 900, evidence=("all-open",)),
    ], sources=["f" * 500], notes=["n" * 500], runs=[RunFacts("f" * 200, "c" * 900, 1.7e9, 9.0, summary="m" * 900)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_logged_and_nothing_is_fetched(browser: Browser, tmp_path: Path, kind: str) -> None:
    view(browser, KINDS[kind](), tmp_path)
    browser.run("document.getElementById('cells')?.dispatchEvent(new PointerEvent('pointermove'))")
    browser.run("document.querySelector('#body button')?.click()")
    browser.run("search('x y:z state:open')")
    assert (browser.messages, [url for url in browser.requested if not url.startswith("file:")]) == ([], [])


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wider_than_the_page(browser: Browser, tmp_path: Path, kind: str, width: int) -> None:
    view(browser, KINDS[kind](), tmp_path, width=width)
    browser.run("document.querySelector('#body button')?.click()")
    beyond = "each.getBoundingClientRect().right > innerWidth + 1 || each.getBoundingClientRect().left < -1"
    wide = browser.run(f"[...document.querySelectorAll('body *')].filter(each => {beyond}).map(each => each.outerHTML)")
    assert (wide, browser.run("document.documentElement.scrollWidth <= innerWidth")) == ([], True)


# Every text that is shown, with the colour of the nearest ground below it; WCAG 2.2, relative luminance and 1.4.3.
CONTRAST = """
(() => {
  const linear = (v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map(linear);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = (e) => {
    const colour = getComputedStyle(e).backgroundColor;
    return colour.endsWith(", 0)") && e.parentElement ? ground(e.parentElement) : colour;
  };
  const has = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  const texts = [...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() && !e.disabled && has(e));
  return texts.map((e) => {
    const style = getComputedStyle(e), a = light(e.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const b = light(ground(e)), ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    return [Math.round(100 * ratio) / 100, e.tagName + " " + e.textContent.trim().slice(0, 40)];
  });
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(browser: Browser, tmp_path: Path, scheme: str) -> None:
    browser.prefer(prefers_color_scheme=scheme)
    view(browser, model([*NETS, ROWS[0]._replace(port=81, evidence=("syn-proxy",))], notes=["N"]), tmp_path)
    browser.run("document.querySelector('#body button').click()")
    texts = browser.run(CONTRAST)
    browser.prefer()
    assert (len(texts) > 100, [each for each in texts if each[0] < 4.5]) == (True, [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_scheme_of_the_browser(browser: Browser, tmp_path: Path, scheme: str) -> None:
    browser.prefer(prefers_color_scheme=scheme)
    view(browser, model(ROWS), tmp_path)
    ground = [browser.run(f"onPaper({paper}), getComputedStyle(document.body).backgroundColor") for paper in (0, 1)]
    browser.prefer()
    assert ground == [{"light": "rgb(255, 255, 255)", "dark": "rgb(16, 20, 27)"}[scheme], "rgb(255, 255, 255)"]


def test_more_contrast_where_the_reader_asks_for_it(browser: Browser, tmp_path: Path) -> None:
    browser.prefer(prefers_contrast="more")
    view(browser, model(ROWS), tmp_path)
    least = min(ratio for ratio, _ in browser.run(CONTRAST))
    browser.prefer()
    assert least >= 7  # WCAG 2.2, 1.4.6


def test_states_are_told_without_colours(browser: Browser, tmp_path: Path) -> None:
    """With the colours of the system the swatches keep theirs, and each stands beside its word."""
    browser.prefer(forced_colors="active")
    view(browser, model(ROWS), tmp_path)
    alone = browser.run(
        "[...document.querySelectorAll('.swatch, #body svg')].filter(e => !e.parentElement.innerText.trim()).length"
    )
    kept = browser.run("getComputedStyle(document.querySelector('.s-open')).forcedColorAdjust")
    browser.prefer()
    assert (alone, kept) == (0, "none")


def test_landmarks_captions_and_headers(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path)
    bare = browser.run(
        "[...document.querySelectorAll('table')]"
        ".filter(t => !t.caption || !t.querySelector('thead th[scope=col]')).length"
    )
    heads = browser.run("[...document.querySelectorAll('th')].filter(th => !th.scope).length")
    named = browser.run(
        "[...document.querySelectorAll('section')]"
        ".every(s => document.getElementById(s.getAttribute('aria-labelledby')))"
    )
    unlabelled = browser.run(
        "[...document.querySelectorAll('input, select')].filter(each => !each.labels.length).length"
    )
    marks = browser.run(
        "['header', 'main', 'nav[aria-label]', 'form[role=search]'].map(m => document.querySelectorAll(m).length)"
    )
    assert (bare, heads, named, unlabelled, marks) == (0, 0, True, 0, [1, 1, 1, 1])


def test_a_phone_shows_blocks_that_are_still_rows_of_a_table(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path, width=390)
    browser.run("document.querySelectorAll('table:not(#table)').forEach(table => table.remove())")
    browser.call("Accessibility.enable")
    roles = [node["role"]["value"] for node in browser.call("Accessibility.getFullAXTree")["nodes"] if "role" in node]
    cells = browser.run("['th', '#body td:not(:empty)'].map(cells => document.querySelectorAll(cells).length)")
    assert [roles.count(role) for role in ("table", "row", "columnheader", "cell")] == [1, 6, *cells]


def test_open_is_the_accent_and_closed_is_grey(browser: Browser, tmp_path: Path) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        browser.prefer(prefers_color_scheme=scheme)
        view(browser, model(ROWS), tmp_path)
        for state in ("open", "closed", "filtered"):
            fill = browser.run(f"getComputedStyle(document.querySelector('rect.s-{state}')).fill")
            levels = [int(level) for level in fill.removeprefix("rgb(").removesuffix(")").split(", ")]
            colours[scheme, state] = max(levels) - min(levels)  # how far from grey
    browser.prefer()
    assert {key: (spread > 120, spread < 40) for key, spread in colours.items() if key[1] != "filtered"} == {
        (scheme, state): (state == "open", state == "closed")
        for scheme in ("light", "dark")
        for state in ("open", "closed")
    }
    assert max(spread for (_, state), spread in colours.items() if state == "filtered") < 80


@pytest.mark.parametrize("width", [390, 1280])
def test_labels_of_the_axis_are_whole(browser: Browser, tmp_path: Path, width: int) -> None:
    rows = [ROWS[0]._replace(port=port, rtt_ms=10.0**power) for port, power in enumerate(range(-2, 6))]
    view(browser, model(rows), tmp_path, width=width)
    boxes = browser.run(
        "[...document.querySelectorAll('.tick[y=\"202\"]')].map(t => t.getBoundingClientRect())"
        ".map(box => [box.left, box.right])"
    )
    frame = browser.run("document.querySelector('figure').getBoundingClientRect().right")
    gaps = [right[0] - left[1] for left, right in pairwise(boxes)]
    assert (len(boxes) > 3, min(gaps) > 4, boxes[0][0] >= 0, boxes[-1][1] <= frame + 1) == (True, True, True, True)


def test_the_order_of_the_page(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(ROWS), tmp_path)
    assert browser.run("[...document.querySelectorAll('h2')].map(each => each.innerText)") == [
        "Scan", "Open ports", "Findings", "States", "Map", "Round trips", "All results",
    ]  # fmt: skip


# ── large results and paper ──


def grid(hosts: int, ports: int) -> list[Verdict]:
    rng = random.Random(1)
    states = [("open", "syn-ack"), ("closed", "reset"), ("filtered", "no-response")]
    return [
        Verdict(f"198.18.{host}.1", port, *rng.choice(states)) for host in range(hosts) for port in range(1, ports + 1)
    ]


def test_a_page_of_the_table_at_a_time(browser: Browser, tmp_path: Path) -> None:
    view(browser, model(grid(256, 256)), tmp_path)
    pages = [shown(browser)]
    for step in ("turn(1)", "turn(1e6)", "turn(-1)"):
        browser.run(step)
        pages.append(shown(browser))
    said = browser.run("page.textContent"), browser.run("location.hash")
    assert ([(rows[0], len(rows)) for rows in pages], said) == (
        [
            ("198.18.0.1 1/tcp", 100),
            ("198.18.0.1 101/tcp", 100),
            ("198.18.255.1 221/tcp", 36),
            ("198.18.255.1 121/tcp", 100),
        ],
        ("Page 655 of 656", "#page=655"),
    )


def test_paper_has_every_row_of_the_filter(browser: Browser, tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf", reason="the text of a PDF needs pypdf: pip install pypdf")
    browser.prefer(prefers_color_scheme="dark")
    view(browser, model(grid(7, 168)), tmp_path, "q=state:closed&page=2")
    before = shown(browser)
    pages = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(browser.pdf())).pages]
    browser.prefer()
    rows = [f"198.18.{row.ip.split('.')[2]}.1 {row.port}/tcp" for row in grid(7, 168) if row.state == "closed"]
    text = " ".join(" ".join(pages).split())
    missing = [row for row in rows if f"{row} closed" not in text]
    number = [f"{at} / {len(pages)}" in page for at, page in enumerate(pages, 1)]
    tables = [page for page in pages if "closed reset" in " ".join(page.split())]
    assert (len(rows) > 300, missing, all(number), [page for page in pages if not page.strip()]) == (True, [], True, [])
    assert (["Host" in page and "Reason" in page for page in tables], text.count(" filtered no-response"), before) == (
        [True] * len(tables), 0, shown(browser),
    )  # fmt: skip
    assert not [word for word in ("Save as CSV", "Previous", "Point at a cell") if word in text]
