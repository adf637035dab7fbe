"""The options of the verbs that read results (`report`, `diff`, `merge`), and what they share with other verbs.

`options` has the rest of the options, and says which verb has which.
"""

from dataclasses import MISSING, dataclass

from ..declare import Texts, option

FORMATS = ("table", "jsonl", "csv", "xml", "gnmap", "list")
INPUT, OUTPUT = "Input", "Output"

FORCE = (False, OUTPUT, "Overwrite output files.")
EVERYTHING = (False, OUTPUT, "Every row: none is folded, summed or left out.", "--all")
MAX_MEMORY = ("512M", INPUT, "The most memory to use, such as 2G; 0: no limit.", "", "SIZE")
RESULTS = (MISSING, INPUT, "JSON lines, CSV, XML (nmap's too) or captures; - is standard input.", None)
QUIET = (False, OUTPUT, "No summary and no progress.", "-q --quiet")


@dataclass(kw_only=True, eq=False, repr=False)
class ReportOptions:
    """What `report` reads and writes."""

    results: Texts = option(*RESULTS)
    since: str | None = option(None, INPUT, "An earlier result: the page says what changed.", "", "RESULTS")
    stats: Texts = option(
        (), INPUT, "What --stats wrote of the scan (default: NAME.stats.json beside NAME.jsonl).", "", "FILE"
    )
    max_memory: str = option(*MAX_MEMORY)
    output: str = option(MISSING, OUTPUT, "The page; - is stdout.", "-o --output", "FILE")
    title: str | None = option(None, OUTPUT, "The heading of the page.")
    force: bool = option(*FORCE)
    quiet: bool = option(*QUIET)


@dataclass(kw_only=True, eq=False, repr=False)
class DiffOptions:
    """What `diff` compares, and what it prints."""

    old: str = option(MISSING, INPUT, "JSON lines, CSV, XML (nmap's too) or a capture; - is standard input.", None)
    new: str = option(MISSING, INPUT, "The same of a later scan, in any of these formats.", None)
    max_memory: str = option(*MAX_MEMORY)
    form: str | None = option(None, OUTPUT, "table or jsonl.", "-f --format", values=FORMATS[:2])
    reasons: bool = option(False, OUTPUT, "A new reason for the same state is a change, too.")
    only_open: bool = option(False, OUTPUT, "Only changes from or to open.", "--open")
    fail_on: Texts = option(
        (), OUTPUT, "Exit with 1 for changes of these groups only: opened, reachable, gone, other (default: any).",
        values=("opened", "reachable", "gone", "other"),
    )  # fmt: skip
    everything: bool = option(*EVERYTHING)
    quiet: bool = option(*QUIET)


@dataclass(kw_only=True, eq=False, repr=False)
class MergeOptions:
    """What `merge` reads."""

    results: Texts = option(*RESULTS)
    max_memory: str = option(*MAX_MEMORY)
