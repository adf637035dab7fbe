"""The program as functions: `scan`, `classify` and `merge` return verdicts, `report` and `diff` what their names say.

They print nothing. The first three return an iterator of typed rows that does its work while it is read
(`verdicts`). The rows of a scan come when their window closes, and the rows of a capture come at its end. A scan starts
when the first row is read. The lines that the command prints on stderr are in `notes`, and its summary in `summary`.

A mistake raises `errors.UsageError` before anything is sent. A scan that cannot go on raises `errors.ScanError` after
the rows that it has decided. Options have the names, units and defaults of the command, and take what it takes
(`keywords`). A function cannot ask a person, so more than 2^20 public addresses need `yes=True`.

Sources: what a reply means, RFC 9293 section 3.10.7.3 (TCP), RFC 792 and RFC 4443 (ICMP); see `verdict`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

from .capture.source import file_name
from .capture.times import Period, duration
from .classifier.classification import DEFAULT_TIMEOUT, LONGEST_TIMEOUT, Classification, Selection
from .config import SynConfig, TargetOptions, choice_of, config_of, excluded_ports_of, ports_of
from .declare import declared
from .errors import UsageError, need_linux
from .keywords import Path, PortSpec, ScanOptions, Spec, flag_of, number, paths_of, port_text, specs_of, values_of
from .output import MANY
from .results.diff import Comparison, compared
from .results.merging import merged, side_by_side
from .results.read import read_results
from .results.runs import RunFacts, read_stats
from .results.sorting import Sorter
from .targets.special import guard, skipped_text
from .verdict.rows import Verdict
from .verdicts import Verdicts

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .rounds.session import Session
    from .targets.ports import Ports
    from .targets.spaces import Spaces

CHUNK = 1024  # rows that are made at once; all of them are there already
_TARGET_OPTIONS = declared(TargetOptions, without=("list_ports",))
_OPTIONS = {**_TARGET_OPTIONS, **declared(SynConfig)}
_BY_PACKETS = ("verify", "senders", "transport", "source_port", "ttl", "tos", "options")  # what connect() does not have
Results = Path | Iterable[Path | Verdict]


def scan(
    targets: Spec | Iterable[Spec] = (),
    ports: PortSpec | None = None,
    *,
    connect: bool = False,
    verify: bool = False,
    only_open: bool = False,
    silent: bool | None = None,
    **options: "Unpack[ScanOptions]",
) -> Verdicts:
    """Scan targets (specs as on the command line, or addresses) and ports (a spec, or numbers; None: the usual).

    Half-open by raw packets (needs CAP_NET_RAW), or with `connect` by full handshakes (needs no privileges). `silent`:
    rows for targets that never answered; by default up to 2^20 targets. The options mean what they mean on the command
    line: targets_file, again, exclude_file (paths), exclude, exclude_ports, top_ports, all_addresses, ipv4, ipv6, yes
    (True or False), rate and max_rate (frames per second; rate="auto" is the default, and 0 is unlimited), retries,
    max_missed (a number, or "1%"), timeout (seconds), seed, shard ("1/4" or (1, 4)), interface, source_ip. Half-open
    scans also have senders, transport, source_port, ttl, tos and options.

    Unlike the command, this function leaves the rights of the program as they are. The first Ctrl-C stops the scan:
    the rows that it has learned by then are handed out, and then `Interrupted` is raised, which carries them.

    Raises UsageError here for what cannot be read and on other systems than Linux, and at the first row if there is no
    route. Raises ScanError while rows are read, without permission or when an interface fails.
    """
    need_linux("scan")
    flags = {"connect": connect, "verify": verify, "only_open": only_open, "silent": silent or False}
    request, config = _request(targets, ports, flags, options)
    usual, choice = ports_of(request), choice_of(request, whole=config.shard.of > 1, only_open=only_open)
    guard(choice.hosts, request.yes, None)
    notes = [*choice.notes, *map(skipped_text, choice.taken), *choice.own.notes(request.ports, request.top_ports)]
    summary: list[str] = []
    running: list[Session] = []
    stops: list[None] = []  # also before the session is made

    def rows() -> Iterator[list[Verdict]]:
        # Imported here: `classify` needs none of these, and a connect scan needs no packet sockets.
        from .rounds.summary import summary_lines

        session = _session(choice.spaces(usual), config, connect, notes, verify, excluded_ports_of(request))
        running.append(session)
        for _ in stops:
            session.stop()
        wanted = session.targets <= MANY if silent is None else silent
        yield from _chunks(session.batches(wanted and not only_open, None, only_open))
        summary.extend(summary_lines(session.stats()))

    def stop() -> None:
        stops.append(None)
        for session in running:
            session.stop()

    return Verdicts(notes, summary, rows(), stop)


def _request(
    targets: Any, ports: Any, flags: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[TargetOptions, SynConfig]:
    """What a scan was asked for. Raises UsageError, and TypeError for an option that there is not."""
    if unknown := options.keys() - _OPTIONS.keys():
        raise TypeError(f"scan() has no option {min(unknown)!r}")
    chosen = {name for name, value in flags.items() if flag_of(name, value)}
    chosen |= {name for name, value in options.items() if value is not None}
    if "connect" in chosen and (wrong := [name for name in _BY_PACKETS if name in chosen]):
        raise UsageError(f"{wrong[0]} is for half-open scans: leave it out, or connect=True")
    given = values_of(_OPTIONS, {"targets": targets, **options}) | {"ports": port_text("ports", ports)}
    request = TargetOptions(**{name: value for name, value in given.items() if name in _TARGET_OPTIONS})
    return request, config_of(given)


def _session(
    spaces: "Spaces", config: SynConfig, connect: bool, notes: list[str], verify: bool, excluded: "Ports"
) -> "Session":
    """The session of a scan, of either kind."""
    if connect:
        from .connect.probing import with_routes
        from .connect.scan import connect_session

        return connect_session(spaces.within(with_routes(spaces.hosts, config, notes.append)), config)
    from .halfopen.session import syn_session

    return syn_session(spaces, config, notes.append, verify=verify, excluded_ports=excluded)


def _chunks(batches: Iterable[Iterable[Verdict]]) -> Iterator[list[Verdict]]:
    """The rows of each batch, some at a time."""
    for batch in batches:
        rows = iter(batch)
        while chunk := list(islice(rows, CHUNK)):
            yield chunk


def classify(
    paths: Path | Iterable[Path],
    *,
    timeout: float = DEFAULT_TIMEOUT,
    orphans: bool = False,
    outer: bool = False,
    since: str | float | None = None,
    until: str | float | None = None,
    gap: str | float | None = None,
    scanners: Spec | Iterable[Spec] = (),
    targets: Spec | Iterable[Spec] = (),
    ports: PortSpec | None = None,
    only_open: bool = False,
) -> Verdicts:
    """Verdicts from captures (pcap or pcapng, gzip or plain). Several files are one capture.

    `timeout`: seconds that a probe must have waited to be filtered; 0: any time. `orphans`: also rows for replies
    without a captured probe. `outer`: what is inside tunnels is not judged. `since` and `until` select packets by
    their time: texts as on the command line, or seconds since 1970. `gap`: scans of a target that are further apart
    (`"1h"`, or seconds) have rows of their own. `scanners`, `targets`, `ports` and `only_open` select rows.

    Raises UsageError for a selection or a time that cannot be read, and at the first row if no capture can be read.
    Damage ends the reading of a file and is in `notes`.
    """
    if not 0 <= (seconds := number("timeout", timeout)) <= LONGEST_TIMEOUT:
        raise UsageError(f"timeout {seconds:g} is not a number of seconds to wait; 0 turns the rule off")
    wanted = specs_of("scanners", scanners), specs_of("targets", targets), port_text("ports", ports)
    selection = Selection(*wanted, flag_of("only_open", only_open))
    length = 0 if gap is None else duration("gap", str(gap))
    period = Period.of(*(each if each is None else str(each) for each in (since, until)))
    if not (files := paths_of("paths", paths)):
        raise UsageError("paths: no capture is named")
    judged = flag_of("orphans", orphans), selection, flag_of("outer", outer)
    reading = Classification(files, seconds, *judged, period, length)
    notes: list[str] = []
    summary: list[str] = []

    def rows() -> Iterator[list[Verdict]]:
        yield from _chunks(reading.batches())
        notes.extend(map(str, reading.capture.damage))
        if not reading.capture.opened:
            raise UsageError("; ".join(notes))
        summary.extend(reading.report())

    return Verdicts(notes, summary, rows())


def report(
    results: Results, *, title: str = "Scan report", since: Results | None = None, stats: Path | Iterable[Path] = ()
) -> str:
    """Results as one HTML page, which opens offline: open ports, findings, charts, a map and a table. Needs jinja2.

    `results`: files of results or captures, or the rows of `scan` and `classify`. `since`: the same of earlier, and the
    page says what changed. `stats`: files that --stats wrote of the scans. Raises UsageError.
    """
    from .page import page_of

    if not isinstance(title, str):
        raise UsageError(f"title {title!r} is not text")
    notes: list[str] = []
    runs = list(map(read_stats, paths_of("stats", stats)))
    rows, names = _rows_of(results, notes, runs)
    before = None if since is None else _rows_of(since, notes)
    return page_of(rows, title, names, notes, lambda: runs, before and (before[0], ", ".join(before[1])))


def diff(old: Results, new: Results, *, reasons: bool = False, only_open: bool = False) -> Comparison:
    """What changed between two results: `differences`, how many targets are the `same`, how many `unknown`, `notes`.

    `old`, `new`: files of results or captures, or rows. `reasons`: a new reason for the same state is a change, too.
    `only_open`: only changes from or to open. The differences come by `group`: opened, reachable, gone, other.
    Raises UsageError.
    """
    flags = flag_of("reasons", reasons), flag_of("only_open", only_open)
    notes: list[str] = []
    sides = [_rows_of(results, notes) for results in (old, new)]
    found = compared([(rows, ", ".join(names)) for rows, names in sides], *flags, notes.append)
    return found._replace(differences=list(found.differences), notes=notes)


def merge(*results: Results) -> Verdicts:
    """Several results as one: each target once, in the order of the addresses, whatever the order of `results`.

    Each of `results`: files of results or captures, or rows. Rows are sorted in temporary files where they are many.
    Which row stands for a target: `results.merging`. Raises UsageError at the first row for what cannot be read, and
    ScanError if a temporary file cannot be written.
    """
    notes: list[str] = []

    def rows() -> Iterator[list[Verdict]]:
        with closing(Sorter()) as sorter:
            for given in results:
                for row in _rows_of(given, notes)[0]:
                    sorter.add(row)
            yield from _chunks([merged(side_by_side(sorter.runs()))])

    return Verdicts(notes, [], rows())


def _rows_of(
    results: Results, notes: list[str], runs: list[RunFacts] | None = None
) -> tuple[Iterator[Verdict], list[str]]:
    """The rows, and the names of what they come from. `runs` gets what a scan says of itself, behind its rows."""
    if isinstance(results, Verdicts):
        return _and_summary(results, runs), ["rows"]
    given: list[Any] = list(results) if isinstance(results, Iterable) and not isinstance(results, str) else [results]
    if given and all(isinstance(each, Verdict) for each in given):
        return iter(given), ["rows"]
    paths = paths_of("results", given)
    return read_results(paths, notes.append, runs=runs), list(map(file_name, paths))


def _and_summary(rows: Verdicts, runs: list[RunFacts] | None) -> Iterator[Verdict]:
    yield from rows
    if runs is not None and rows.summary:
        runs.append(RunFacts("rows", summary="; ".join(rows.summary)))
