"""What a scan says of itself, read back from XML and from files of statistics, and what a page makes of it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from scanner.api import report
from scanner.cli.verbs import main
from scanner.errors import UsageError
from scanner.output import Run, Summary
from scanner.output.xml import xml_format
from scanner.results.read import read_results
from scanner.results.runs import RunFacts, disagreements, read_stats, with_stats
from scanner.rounds.statistics import ScanStats
from scanner.rounds.summary import summary_lines
from tests.pages import ROWS

DEMO = Path(__file__).resolve().parents[1] / "pcaps" / "demo.pcapng.gz"
STATS = ScanStats(
    targets=1000, started=1.7e9, seconds=12.5, sending_seconds=10.0, sent=Counter(probe=2000), replies=700, loss=0.02,
    expected_missed=1.25, hosts_heard=7, responders=700, answered=700, passes=2, tried=800, lost=20, ring_drops=3,
    rejected=Counter({"bad-cookie": 4, "ARP": 9}),
)  # fmt: skip
MEASURED = {
    "rate": "200/s (auto)",
    "loss": "loss 2.0% a round trip",
    "missed": "1.2500 on 7 hosts that answered (at most 4, with 99% confidence)",
    "dropped": "3 received, 0 sent",
    "rejected": "4 bad-cookie",
}
STOPPED = "192.0.2.9 stopped answering after 5 probes (a ban?)"
SAID = {
    "measured": (STATS, MEASURED),
    "nothing rejected": (ScanStats(sending_seconds=1.0, asked_rate=0.0, ring_drops=1), {
        "rate": "0/s (unlimited)", "loss": "loss not measured: nobody answered", "dropped": "1 received, 0 sent",
        "rejected": "none",
    }),
    "more": (ScanStats(hosts_unheard=2, responders=1, stopped=Counter({"192.0.2.9": 5}), lost=1, tried=9, loss=0.1,
                       hosts_heard=1), {
        "loss": "lost 1 of 9 probes to targets that answered",
        "missed": "0 on 1 host that answered (at most 0, with 99% confidence)",
        "dropped": "0 received, 0 sent",
        "rejected": "none",
        "more": "2 hosts never answered: if they are there, about 2 responders are missed; loss as on the others would "
                f"explain 0; {STOPPED}; a host that answered has stopped: what it would have answered is unknown",
    }),
}  # fmt: skip


@pytest.mark.parametrize(("stats", "facts"), SAID.values(), ids=SAID)
def test_facts_of_a_summary(stats: ScanStats, facts: dict[str, str]) -> None:
    assert RunFacts("X", summary="; ".join(summary_lines(stats))).said() == facts


def written(path: Path, stats: ScanStats) -> Path:
    """An XML file of a scan, as halfopen writes it."""
    run = Run("halfopen syn 192.0.2.0/24", "syn", "22", 1, started=stats.started)
    form = xml_format(False, run)
    path.write_text(form.head + form.end(Summary("\n".join(summary_lines(stats)))))
    return path


def test_xml_and_statistics_say_the_same(tmp_path: Path) -> None:
    runs: list[RunFacts] = []
    assert not list(read_results([str(written(tmp_path / "a.xml", STATS))], print, runs=runs))
    (tmp_path / "a.stats.json").write_text(json.dumps({"command": "halfopen syn", **STATS.as_report()}))
    stats = read_stats(str(tmp_path / "a.stats.json"))
    assert [(run.targets, run.started, run.said()) for run in (*runs, stats)] == [(1000, 1.7e9, MEASURED)] * 2
    assert (runs[0].command, stats.command, stats.seconds) == ("halfopen syn 192.0.2.0/24", "halfopen syn", 12.5)


def test_nmap_measures_nothing(tmp_path: Path) -> None:
    (tmp_path / "n.xml").write_text(
        '<nmaprun scanner="nmap" args="nmap -sS 192.0.2.7" start="1700000000"><runstats>'
        '<finished time="1700000002" elapsed="2.00" summary="Nmap done; loss 0%"/></runstats></nmaprun>'
    )
    runs: list[RunFacts] = []
    list(read_results([str(tmp_path / "n.xml")], print, runs=runs))
    assert (runs[0].scanned(), {value for _, value in runs[0].trust()}, runs[0].said()) == (
        [("Command", "nmap -sS 192.0.2.7"), ("Started", "2023-11-14 22:13:20 UTC"), ("Duration", "2 s")],
        {"not measured"}, {},
    )  # fmt: skip


def test_a_capture_says_what_it_held() -> None:
    runs: list[RunFacts] = []
    list(read_results([str(DEMO)], print, runs=runs))
    assert "packets: " in runs[0].said()["more"]


BAD_STATS: dict[str, Any] = {
    "no object": "[1]",
    "rows": '{"ip": "192.0.2.7"}\n{"ip": "192.0.2.8"}\n',
    "words for numbers": json.dumps({**STATS.as_report(), "seconds": "long"}),
    "words for counts": json.dumps({**STATS.as_report(), "rejected": {"x": "y"}}),
    "a command that is none": json.dumps({**STATS.as_report(), "command": 7}),
    "infinite": json.dumps({**STATS.as_report(), "expected_missed": float("inf")}),
    "deep": "[" * 100_000,
    "large": " " * (1 << 21),
    "binary": "\x00\xff",
}


@pytest.mark.parametrize("text", BAD_STATS.values(), ids=BAD_STATS)
def test_a_file_that_holds_no_statistics_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="is no file of statistics: name the one that the scan wrote"):
        read_stats(str(path))


def test_statistics_beside_the_results(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.stats.json").write_text(json.dumps(STATS.as_report() | {"started": ord(name)}))
    results = [str(tmp_path / name) for name in ("a.jsonl.gz", "a.csv", "b.xml", "none.jsonl", "-")]
    of_b = RunFacts("b.xml", targets=1000, started=98.0)
    beside = with_stats([of_b], [], results)
    given = with_stats([], [of_b], results)
    assert ([Path(run.source).name for run in beside], given) == (["b.xml", "a.stats.json"], [of_b])


def test_files_that_disagree() -> None:
    run = RunFacts("a.stats.json", targets=1000, started=1.7e9)
    late = run._replace(started=1.8e9)
    unknown = RunFacts("n.xml", started=1.9e9)
    assert [disagreements(*given) for given in ((1000, 1.7e9, [run]), (9000, 1.7e9, [run, unknown]))] == [[], []]
    assert disagreements(1001, None, [run]) == [
        "the statistics (a.stats.json) count 1,000 targets, and the results hold 1,001: they are not of the same scan, "
        "or not of all files"
    ]
    assert disagreements(5, None, [run], 2) == [
        "2 rows contradict another row of the same target: the strongest state is shown"
    ]
    assert disagreements(5, 1.7e9, [late]) == [
        "there are replies from before the start that the statistics name: they are not of the same scan"
    ]


def halfopen(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["halfopen", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_report_shows_the_statistics_of_a_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert halfopen("classify", str(DEMO), "-q", "-o", "a.jsonl", "--stats", "a.json", monkeypatch=monkeypatch) == 0
    assert halfopen("report", "a.jsonl", "--stats", "a.json", "-q", "-o", "p.html", monkeypatch=monkeypatch) == 0
    page = Path("p.html").read_text()
    assert ("halfopen classify" in page, " packets: " in page, "not measured" in page) == (True, True, True)


def test_a_page_without_statistics_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.stats.json").write_text(json.dumps(STATS.as_report()))
    without, with_them = report(ROWS), report(ROWS, stats=tmp_path / "a.stats.json")
    missing = "was not measured: these files carry no statistics"
    assert [missing in page for page in (without, with_them)] == [True, False]
    assert [text in with_them for text in MEASURED.values()] == [True] * 5
