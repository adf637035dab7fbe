"""The options that only the command line has, and which verb has which options.

The options of a scan itself are declared in `config`. The groups here say what else a scan records and where results
go, and hold the options of `classify`, `who`, `report` and `diff`. `OPTIONS` lists the options of each verb, and the
functions at the end make groups from what a user gave.

Limit: as for `config`, this module imports neither numpy nor Typer.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ..config import SynConfig, TargetOptions
from ..declare import Option, Texts, declared, option
from ..errors import UsageError
from .fleet_options import FleetOptions, WorkerOptions
from .result_options import (
    EVERYTHING,
    FORCE,
    FORMATS,
    INPUT,
    OUTPUT,
    QUIET,
    DiffOptions,
    MergeOptions,
    ReportOptions,
)  # fmt: skip

if TYPE_CHECKING:
    from ..output import Outputs, Run, Written

EVIDENCE, RESUME = "Evidence", "Resume"

# Options that several groups have.
LADDER = (
    None,
    EVIDENCE,
    "Draw the packets of a target (in scans also NAME:PORT); without a value, of up to 8.",
    "",
    "[IP:PORT]",
)
_FILES = "pcap or pcapng files, gzip or plain; - is standard input. Several files are one capture."
CAPTURES = (MISSING, INPUT, _FILES, None)
OUTER = (False, EVIDENCE, "Judge only the outside of tunnels (GRE, IPIP, 6in4, VXLAN, GENEVE, ERSPAN, GTP-U).")
_FROM = "Only packets from this time on: 2026-11-22T10:00Z, '2026-11-22 10:00' (UTC), or seconds since 1970."
SINCE = (None, INPUT, _FROM)
UNTIL = (None, INPUT, "Only packets before this time, in the same forms. Packets without a time stamp are left out.")
PROGRESS = ("auto", OUTPUT, "auto: a line on a terminal; json: a JSON line per second on stderr; none.")
PROGRESS_FORMS = ("auto", "json", "none")


@dataclass(kw_only=True, eq=False, repr=False)
class EvidenceOptions:
    """What a scan does, records and shows beyond the verdicts."""

    verify: bool = option(False, EVIDENCE, "Also complete a handshake with every open port.", fixed=True)
    record: str | None = option(None, EVIDENCE, "Record every frame: .pcapng or .pcap, also with .gz.", "", "FILE")
    ladder: str | None = option(*LADDER)
    packet_trace: bool = option(False, EVIDENCE, "Print a line per frame on stderr, as Scapy describes it.")


@dataclass(kw_only=True, eq=False, repr=False)
class OutputOptions:
    """Where the results go, and what is printed beside them."""

    form: str | None = option(
        None,
        OUTPUT,
        "On stdout: table, jsonl, csv, xml, gnmap or list (default: table).",
        "-f --format",
        values=FORMATS,
    )
    output: Texts = option(
        (),
        OUTPUT,
        "Also write FILE.txt, .jsonl, .csv, .xml, .gnmap or .list, with .gz compressed, or .parquet; repeatable.",
        "-o --output",
    )
    output_xml: str | None = option(None, OUTPUT, "nmap's XML to FILE, whatever its name; - is stdout.", "-oX", "FILE")
    output_grepable: str | None = option(None, OUTPUT, "nmap's grepable format to FILE; - is stdout.", "-oG", "FILE")
    output_normal: str | None = option(None, OUTPUT, "The table to FILE; - is stdout.", "-oN", "FILE")
    output_all: str | None = option(None, OUTPUT, "BASE.xml, BASE.gnmap and BASE.nmap.", "-oA", "BASE")
    force: bool = option(*FORCE)
    only_open: bool = option(False, OUTPUT, "Only open ports.", "--open", fixed=True)
    everything: bool = option(*EVERYTHING, fixed=True)
    quiet: bool = option(*QUIET)
    verbose: bool = option(False, OUTPUT, "Name open ports as soon as they are found.", "-v --verbose")
    progress: str = option(*PROGRESS, values=PROGRESS_FORMS)
    stats: str | None = option(None, OUTPUT, "Write the numbers of the summary as JSON.", "", "FILE")
    strict: bool = option(
        False, OUTPUT, "Exit with code 3 if more than 1 % of the responders may be missed, or nobody can tell."
    )
    then: str | None = option(
        None, OUTPUT, "After the scan, run COMMAND for each host with open ports; it has {ip}, {host} and {ports}.", "",
        "COMMAND",
    )  # fmt: skip
    resume: str | None = option(None, RESUME, "Keep the state of the scan here, and go on from it.", "", "STATE")

    @property
    def named(self) -> list[tuple[str, str]]:
        """Format and path of each file that -oX, -oG, -oN or -oA names."""
        base = self.output_all
        named = [("xml", self.output_xml), ("gnmap", self.output_grepable), ("table", self.output_normal)]
        if base:
            named += [("xml", f"{base}.xml"), ("gnmap", f"{base}.gnmap"), ("table", f"{base}.nmap")]
        return [(form, path) for form, path in named if path]

    @property
    def files(self) -> list[str]:
        """Every output file, without standard output."""
        return [path for path in (*self.output, *(path for _, path in self.named)) if path != "-"]

    def check_names(self, record: str | None = None) -> None:
        """Refuse two options that write one file, or the name beside a file at which its replacement is made.

        Devices and pipes may be named twice. Raises UsageError.
        """
        if self.stats == "-":
            raise UsageError("--stats - is no file: name one, or /dev/stdout")
        for path in self.output:  # the suffix is the format of these alone
            if path.lower().endswith(".parquet"):
                from ..output.parquet import check_parquet

                check_parquet(path, self.resume is not None)
        named = [("-o", path) for path in self.files]
        others = ("--record", record), ("--stats", self.stats), ("--resume", self.resume)
        taken: dict[str, str] = {}
        for flag, path in [*named, *((flag, path) for flag, path in others if path)]:
            place = os.path.realpath(path)
            if os.path.exists(place) and not os.path.isfile(place):
                continue
            for name in (place, f"{place}.new"):
                if taken.setdefault(name, flag) != flag:
                    raise UsageError(f"{flag} {path} is also a file to be written by {taken[name]}: give each its own")
        # Several files of -o are compared where they are opened.

    def open(
        self, run: "Run", written: "Sequence[Written] | None" = None, whole: bool = False, to_screen: bool = True
    ) -> "Outputs":
        """Open every output, as `output.open_sinks` does. Raises UsageError."""
        from ..output import open_sinks

        return open_sinks(
            self.form, self.output, named=self.named, force=self.force, everything=self.everything, run=run,
            written=written, whole=whole, to_screen=to_screen,
        )  # fmt: skip

    def print_ladders(self, text: str) -> None:
        """Print ladders on standard output, or on standard error if the format on standard output is for programs."""
        if text:
            (sys.stdout if self.for_people else sys.stderr).write("\n" + text)

    @property
    def for_people(self) -> bool:
        """Whether standard output gets the table."""
        others = [form for form, path in self.named if path == "-"]
        return all(form == "table" for form in (self.form, *others) if form)


@dataclass(kw_only=True, eq=False, repr=False)
class ClassifyOptions:
    """Which captures are read, and which rows are wanted."""

    captures: Texts = option(*CAPTURES)
    scanner: Texts = option((), INPUT, "Only probes of this scanner; repeatable.")
    target: Texts = option((), INPUT, "Only these targets; repeatable.")
    ports: str | None = option(None, INPUT, "Only these ports.", "-p --ports")
    gap: str | None = option(None, INPUT, "Scans further apart (90s, 30m, 1h, 2d) have rows of their own.", "", "TIME")
    since: str | None = option(*SINCE)
    until: str | None = option(*UNTIL)
    timeout: float = option(1.0, EVIDENCE, "Seconds that a probe must have waited to be filtered; 0: any time.")
    orphans: bool = option(False, EVIDENCE, "Also rows for replies whose probe was not captured.")
    outer: bool = option(*OUTER)
    ladder: str | None = option(*LADDER)
    each: bool = option(False, INPUT, "Every file is a capture of its own, also those of folders; rows say which.")
    jobs: int = option(0, INPUT, "With --each: judge in N processes (default: one for each processor).", "", "N")


@dataclass(kw_only=True, eq=False, repr=False)
class WhoOptions:
    """Which captures `who` reads, and whom it lists."""

    captures: Texts = option(*CAPTURES)
    since: str | None = option(*SINCE)
    until: str | None = option(*UNTIL)
    outer: bool = option(*OUTER)
    min_targets: int = option(3, INPUT, "List those who probed at least N targets.", "", "N")
    form: str | None = option(None, OUTPUT, "table, jsonl or csv (default: table).", "-f --format", values=FORMATS[:3])
    everything: bool = option(False, OUTPUT, "Also clients whose connections carry data.", "--all")
    quiet: bool = option(*QUIET)
    progress: str = option(*PROGRESS, values=PROGRESS_FORMS)


# What only frames that we build ourselves can carry.
_BY_PACKETS = ("source_port", "ttl", "tos", "senders", "transport")
OPTIONS: dict[str, dict[str, Option]] = {
    "syn": declared(TargetOptions, SynConfig, EvidenceOptions, OutputOptions, FleetOptions),
    "connect": declared(TargetOptions, SynConfig, OutputOptions, FleetOptions, without=(*_BY_PACKETS, "options")),
    "plan": declared(TargetOptions, SynConfig, without=(*_BY_PACKETS, "yes"))
    | {"only_open": declared(OutputOptions)["only_open"]},
    "classify": declared(ClassifyOptions, OutputOptions, without=("verbose", "then", "resume")),
    "who": declared(WhoOptions),
    "worker": declared(WorkerOptions),
    "demo": {},
    "report": declared(ReportOptions),
    "diff": declared(DiffOptions),
    "merge": declared(
        MergeOptions, OutputOptions, without=("verbose", "progress", "stats", "strict", "then", "resume")
    ),
    "schema": {},
}

Given = Mapping[str, Any]  # what a user gave, by the names of the fields
Group = TypeVar("Group")


def command_line() -> str:
    """How this process was called, for files that say so."""
    import shlex

    return shlex.join(["halfopen", *sys.argv[1:]])


def next_command() -> str:
    """The call that goes on with a scan: the same one without `--record`, because a recording is of one part."""
    import shlex

    words = iter(sys.argv[1:])
    kept = []
    for word in words:
        if word == "--record":
            next(words, None)
        elif not word.startswith("--record="):
            kept.append(word)
    more = "" if len(kept) == len(sys.argv) - 1 else " (and --record with another name, to record that part too)"
    return shlex.join(["halfopen", *kept]) + more


def group(kind: type[Group], given: Given) -> Group:
    """A group of options: what the user gave, and the defaults of the rest."""
    return kind(**{name: given[name] for name in declared(kind) if name in given})


class ScanRequest:
    """One call of `syn`, `connect` or `plan`: what the user gave, and the groups that are made from it."""

    def __init__(self, verb: str, given: Given) -> None:
        self.verb, self.given = verb, given
        self.targets = group(TargetOptions, given)
        self.evidence = group(EvidenceOptions, given)
        self.output = group(OutputOptions, given)
        self.fleet = group(FleetOptions, given)

    def fixed(self) -> dict[str, str]:
        """The options that a resumed scan must share with its earlier part, by flag, without empty ones."""
        fixed = {}
        for name, declaration in OPTIONS["syn"].items():  # the verb that has every option of a scan
            value = self.given.get(name, declaration.default)
            text = " ".join(value) if isinstance(value, tuple) else str(value)
            if declaration.fixed and text not in ("", "None", "False"):
                fixed[declaration.names[0] if declaration.names else name] = text
        return fixed
