"""What a scan says of itself: its command, its time, and how sure its verdicts are.

nmap's XML has the command and the times, and halfopen's XML also has the summary, as one text in `<runstats>`. A file
of `--stats` has the numbers of the summary. Both become the lines of the summary here, and the facts are read out of
these lines. So one reader serves both, and its words are tested against the writer (`rounds.statistics`). A fact that
the input does not carry is left out; nothing is computed from rows.

Limit: JSON lines and CSV have no place for such facts. Their statistics are in a file of their own: the one that the
user names, or `NAME.stats.json` beside the results `NAME.jsonl`.
"""

import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from ..capture.source import file_name
from ..documents import parse
from ..errors import UsageError, escaped, shortened
from ..gzipped import split_suffix
from ..rounds.statistics import stats_of
from ..rounds.summary import summary_lines
from ..verdict.sentences import plural

SUFFIX = ".stats.json"
_LONGEST = 1 << 20  # bytes of a file of statistics; a scan writes some thousand
_MOST_VALUES = 1 << 16
_LATEST = 253402300799  # the end of the year 9999
_DERIVED = ("rate", "at_most_missed", "missed_if_there", "within_bound")  # `as_report` adds them
_PATTERNS = {
    "rate": r"\bat ([\d,]+/s \([^)]*\))",
    "loss": r"(?:^|; )(loss [^;]*|lost [\d,]+ of [^;]*)",
    "missed": r"expected missed responders: ([^;]*)",
    "dropped": r"kernel drops: ([^;]*)",
    "rejected": r"(?:^|; )rejected: ([^;]*)",
}

_TRUST = {
    "loss": "Loss", "missed": "Expected missed responders", "dropped": "Frames dropped", "rejected": "Frames rejected",
}  # fmt: skip


class RunFacts(NamedTuple):
    """One scan in its own words. `summary`: the lines of its summary, joined by `; `; "" if there is none.

    `started` in seconds since 1970, `seconds` how long it took; `targets` that it had. None: not known.
    """

    source: str
    command: str | None = None
    started: float | None = None
    seconds: float | None = None
    targets: int | None = None
    summary: str = ""

    def said(self) -> dict[str, str]:
        """The facts in the summary, by `rate`, `loss`, `missed`, `dropped` and `rejected`; `more` is the rest."""
        found = {name: match for name, words in _PATTERNS.items() if (match := re.search(words, self.summary))}
        known = {match[0].strip("; ") for name, match in found.items() if name != "rate"}
        of_scan = "dropped" in found  # its first two parts are counts, and what it did not reject it does not name
        more = "; ".join(part for part in self.summary.split("; ")[2 * of_scan :] if part not in known)
        said = {"rejected": "none"} if of_scan else {}
        return said | {name: match[1] for name, match in found.items()} | ({"more": more} if more else {})

    def scanned(self) -> list[tuple[str, str]]:
        """What was scanned, and how: the facts that are known, with their names for people."""
        facts = {
            "Command": self.command,
            "Started": None if self.started is None else moment(self.started),
            "Duration": None if self.seconds is None else _duration(self.seconds),
            "Rate": self.said().get("rate"),
        }
        return [(name, shortened(value)) for name, value in facts.items() if value]

    def trust(self) -> list[tuple[str, str]]:
        """How sure the results are, with names for people; what nobody measured says so."""
        said = self.said()
        return [(label, said.get(name, "not measured")) for name, label in _TRUST.items()]


def moment(seconds: float) -> str:
    """Seconds since 1970 as a date and a time."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 60 else f"{timedelta(0, int(seconds))} (hours:minutes:seconds)"


def disagreements(targets: int, first: float | None, runs: Sequence[RunFacts], contradicting: int = 0) -> list[str]:
    """A line for rows that contradict each other, and for statistics that cannot be those of the rows.

    `targets` of the rows, the first reply at `first`; `contradicting`: see `columns.contradictions`.
    """
    counted = sum(run.targets or 0 for run in runs)
    rows = f"{plural(contradicting, 'row')} {'contradicts' if contradicting == 1 else 'contradict'}"
    notes = [f"{rows} another row of the same target: the strongest state is shown"] if contradicting else []
    if runs and None not in [run.targets for run in runs] and counted < targets:
        names = ", ".join(run.source for run in runs)
        notes.append(
            f"the statistics ({names}) count {plural(counted, 'target')}, and the results hold {targets:,}: "
            "they are not of the same scan, or not of all files"
        )
    starts = [run.started for run in runs if run.started is not None]
    if first is not None and starts and len(starts) == len(runs) and first < min(starts) - 1:
        notes.append("there are replies from before the start that the statistics name: they are not of the same scan")
    return notes


def run_of_xml(source: str, head: Mapping[str, str], end: Mapping[str, str]) -> RunFacts:
    """The attributes of `<nmaprun>` and `<finished>` → the facts of the scan that wrote the file."""
    started, seconds = _number(head.get("start")), _number(end.get("elapsed"))
    summary = end.get("summary", "") if "halfopen" in head.get("args", "").partition(" ")[0] else ""
    counted = re.match(r"([\d,]{1,20}) targets? in ", summary)
    targets = int(counted[1].replace(",", "") or 0) if counted else None
    return RunFacts(source, head.get("args"), started, seconds, targets, summary)


def read_stats(path: str) -> RunFacts:
    """A file of `--stats`, of a scan or of `classify`. Raises UsageError."""
    name = file_name(path)
    try:
        with open(path, "rb") as file:
            text = file.read(_LONGEST + 1)
        document = parse(text, _LONGEST, _MOST_VALUES)
        if not isinstance(document, dict) or "targets" not in document:
            raise ValueError
        command = document.pop("command", None)
        if not isinstance(command, str | None):
            raise TypeError
        return _of_capture(name, command, document) if "packets" in document else _of_scan(name, command, document)
    except OSError as error:
        raise UsageError(
            f"--stats {name} cannot be read ({error.strerror}): name the file that the scan wrote"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UsageError(f"--stats {name} is no file of statistics: name the one that the scan wrote") from error


def with_stats(runs: list[RunFacts], given: Sequence[RunFacts], results: Sequence[str]) -> list[RunFacts]:
    """What files of results said, and statistics: those that were given, or else those that lie beside the results.

    `scan.stats.json` belongs to `scan.jsonl.gz`. What lies there and says the same as a file of results is left out.
    """
    if given:
        return [*runs, *given]
    names = (os.path.splitext(split_suffix(path)[0])[0] + SUFFIX for path in results if path != "-")
    beside = [read_stats(name) for name in dict.fromkeys(names) if os.path.isfile(name)]
    said = {(run.targets, int(run.started or 0)) for run in runs}
    return runs + [run for run in beside if (run.targets, int(run.started or 0)) not in said]


def _of_scan(name: str, command: str | None, document: dict[str, Any]) -> RunFacts:
    stats = stats_of({key: value for key, value in document.items() if key not in _DERIVED})
    started, seconds = _number(stats.started), _number(stats.seconds)
    return RunFacts(name, command, started, seconds, stats.targets, "; ".join(summary_lines(stats)))


def _of_capture(name: str, command: str | None, document: dict[str, Any]) -> RunFacts:
    probes, targets = int(document["probes"]), int(document["targets"])
    parts = [f"{plural(int(document['packets']), 'packet')}: {plural(probes, 'probe')} to {plural(targets, 'target')}"]
    parts += [f"{count:,} {escaped(cause)}" for cause, count in document["rejected"].items()]
    if len(parts) > 1:
        parts[1:] = ["rejected: " + ", ".join(parts[1:])]
    return RunFacts(name, command, targets=None, summary="; ".join(parts))


def _number(value: Any) -> float | None:
    """A time or a duration; None for anything that is not one."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number <= _LATEST else None
