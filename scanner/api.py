"""The program as functions: `scan` and `classify` return verdicts and print nothing.

Both return an iterator of typed rows that does its work while it is read. The rows of a scan come when their window
closes, and the rows of a capture come at its end. A scan starts when the first row is read. `to_numpy()` returns the
rows as columns. The lines that the command prints on stderr are in `notes`, and its summary in `summary`.

A mistake raises `errors.UsageError` before anything is sent. A scan that cannot go on raises `errors.ScanError` after
the rows that it has decided. Options have the names, units and defaults of the command. A function cannot ask a person,
so more than 2^20 public addresses need `yes=True`.

Sources: what a reply means, RFC 9293 section 3.10.7.3 (TCP), RFC 792 and RFC 4443 (ICMP); see `verdict`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .capture.times import Period, duration
from .classifier.classification import DEFAULT_TIMEOUT, Classification, Selection
from .config import SynConfig, TargetOptions, Texts, choice_of, declared, excluded_ports_of, ports_of
from .errors import UsageError, need_linux
from .output import MANY
from .targets.special import guard, skipped_text
from .verdict.rows import Verdict

TextOrTexts = str | Iterable[str]
PortSpec = str | int | Iterable[int]

_TARGET_OPTIONS = declared(TargetOptions, without=("list_ports",))
_TYPES = {  # of the fields of Verdict, in their order; empty: as long as the longest text
    "ip": "U39", "port": "i4", "state": "U8", "reason": "U20", "protocol": "U4", "ttl": "i2", "service": "U16",
    "evidence": "", "rtt_ms": "f8", "time": "f8", "pass_": "u1", "icmp_from": "U39", "scanner_ip": "U39",
    "tunnel": "", "first_probe": "f8", "last_probe": "f8", "attempts": "i8",
    "scan": "i4",
}  # fmt: skip
_UNKNOWN = {"U": "", "i": -1, "f": np.nan, "u": 0, "": ""}  # by the kind of the type


class Verdicts:
    """An iterator over verdicts, in the order in which they are decided. It can be read once.

    `notes`: lines for the user, added while the rows are read. `summary`: the sums in words, after the last row.
    """

    def __init__(self, notes: list[str], summary: list[str], rows: Iterator[Verdict]) -> None:
        self.notes, self.summary, self._rows = notes, summary, rows

    def __iter__(self) -> Iterator[Verdict]:
        return self._rows

    def __next__(self) -> Verdict:
        return next(self._rows)

    def to_numpy(self) -> npt.NDArray[np.void]:
        """The rows that have not been read yet, as a structured array of shape (n,).

        Fields: ip (text), port (int32; -1: the host is down and has none), state, reason, protocol (text), ttl
        (int16), service (text), evidence (words with spaces between), rtt_ms (float64, milliseconds), time (float64,
        seconds since 1970), pass (uint8, from 1), icmp_from, scanner_ip, tunnel (text), first_probe, last_probe
        (float64, seconds since 1970), attempts (int64), scan (int32, from 1). Not known: "", -1, NaN, or pass 0.
        """
        rows: list[tuple[Any, ...]] = []
        longest = {name: 1 for name, kind in _TYPES.items() if not kind}
        for row in self._rows:
            cells: dict[str, Any] = {**row._asdict(), "evidence": " ".join(row.evidence)}
            for name, length in longest.items():
                longest[name] = max(length, len(cells[name] or ""))
            rows.append(tuple(_UNKNOWN[_TYPES[name][:1]] if cell is None else cell for name, cell in cells.items()))
        return np.array(rows, [(name.rstrip("_"), kind or f"U{longest[name]}") for name, kind in _TYPES.items()])


def scan(
    targets: TextOrTexts,
    ports: PortSpec | None = None,
    *,
    connect: bool = False,
    verify: bool = False,
    only_open: bool = False,
    silent: bool | None = None,
    **options: Any,
) -> Verdicts:
    """Scan targets (specs as on the command line) and ports (a spec, a number, or numbers; None: those of the command).

    Half-open by raw packets (needs CAP_NET_RAW), or with `connect` by full handshakes (needs no privileges). `silent`:
    rows for targets that never answered; by default up to 2^20 targets. `options` are the fields of
    `config.TargetOptions` (exclude, exclude_ports, all_addresses, yes …) and of `config.SynConfig`: rate (frames per
    second; None: found while scanning), max_rate, retries, max_missed, timeout (seconds), seed, shard …

    The rights of the calling program stay as they are: unlike the command, this function gives none up.

    Raises UsageError here for what cannot be read and on other systems than Linux, and at the first row if there is no
    route. Raises ScanError while rows are read, without permission or when an interface fails.
    """
    need_linux("scan")
    given: dict[str, Any] = {name: options.pop(name) for name in _TARGET_OPTIONS if name in options}
    given |= {"targets": targets, "ports": _port_text(ports)}
    # A single text may stand for a sequence of texts.
    given |= {name: tuple(_texts(value)) for name, value in given.items() if _TARGET_OPTIONS[name].kind == Texts}
    request, config = TargetOptions(**given), SynConfig(**options)
    column, excluded, choice = ports_of(request), excluded_ports_of(request), choice_of(request)
    guard(choice.hosts, request.yes, None)
    notes = [skipped_text(taken) for taken in choice.taken]
    summary: list[str] = []

    def rows() -> Iterator[Verdict]:
        # Imported here: `classify` needs none of these, and a connect scan needs no packet sockets.
        from .rounds.statistics import summary_lines

        if connect:
            from .connect.scan import connect_session

            session = connect_session(choice.hosts, column, config)
        else:
            from .halfopen.session import syn_session

            session = syn_session(choice.hosts, column, config, notes.append, verify=verify, excluded_ports=excluded)
        wanted = session.targets <= MANY if silent is None else silent
        for batch in session.batches(wanted and not only_open, None, only_open):
            yield from batch
        summary.extend(summary_lines(session.stats()))

    return Verdicts(notes, summary, rows())


def classify(
    paths: TextOrTexts,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    orphans: bool = False,
    outer: bool = False,
    since: str | float | None = None,
    until: str | float | None = None,
    gap: str | float | None = None,
    scanners: TextOrTexts = (),
    targets: TextOrTexts = (),
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
    selection = Selection(_texts(scanners), _texts(targets), _port_text(ports), only_open)
    length = 0 if gap is None else duration("gap", str(gap))
    period = Period.of(*(each if each is None else str(each) for each in (since, until)))
    reading = Classification(_texts(paths), timeout, orphans, selection, outer, period, length)
    notes: list[str] = []
    summary: list[str] = []

    def rows() -> Iterator[Verdict]:
        for batch in reading.batches():
            yield from batch
        notes.extend(map(str, reading.capture.damage))
        if not reading.capture.opened:
            raise UsageError("; ".join(notes))
        summary.extend(reading.report())

    return Verdicts(notes, summary, rows())


def _texts(given: TextOrTexts) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _port_text(ports: PortSpec | None) -> str | None:
    """Ports as the command line takes them."""
    if ports is None or isinstance(ports, str):
        return ports
    numbers = [ports] if isinstance(ports, int) else [int(port) for port in ports]
    for port in numbers:
        if port < 0:  # as text it would be a range without a start
            raise UsageError(f"port {port} is below 0: ports are numbers from 0 to 65535")
    return ",".join(map(str, numbers))
