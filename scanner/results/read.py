"""Results of earlier runs, read back as verdicts: JSON lines, CSV, XML as nmap writes it, and captures.

Reports and comparisons do not depend on who wrote a file or how. The first bytes of a file say what it is (suffixes may
be wrong, and `<(…)` has none); gzip is unpacked on the way. Rows stream, so the size of a file does not matter here.

A result that was read wrong is worse than one that was not read. A torn line or an odd cell ends the reading with
one `UsageError` that names file, line and cause, because a row left out would show as a port that vanished. A damaged
capture is the exception: many captures end in the middle of a packet, so a note says what was not judged.

Files come from strangers. Lines, words and numbers have limits, so that no single row costs much. How many rows there
may be is a matter of memory: see `memory`.

Limits: `.txt` and `.gnmap` files are for people and old scripts and do not hold every row. A capture must be a regular
file (it is opened twice); from a pipe, `classify` turns it into JSON lines first.
"""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from ipaddress import ip_address
from reprlib import repr as brief
from types import NoneType
from typing import Any

from ..capture.reader import packed_with
from ..capture.source import file_name
from ..errors import UsageError
from ..gzipped import DAMAGED, TooDense
from ..targets.files import Tell
from ..verdict.rows import Verdict
from ..verdict.table import State
from .captures import Note, classified
from .nmap_xml import NotNmap, read_xml
from .opened import is_capture, opened
from .runs import RunFacts, run_of_xml

Showing = Callable[[], AbstractContextManager[Tell | None]]  # what shows how much has been read

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # in UTF-8
_FORMS = "give JSON lines (-f jsonl), CSV, nmap's XML, or a capture"
_NEEDED = ("ip", "port", "state", "reason")
_TOLD = 4096  # rows between two looks at the place in the file
_LONGEST_LINE = 1 << 17  # characters; halfopen's lines have some 300
_LONGEST_WORD, _MOST_WORDS = 200, 100  # characters of a state, a reason and the like; words of evidence
_LONGEST_NAME = 1 << 10  # characters of a host name, escapes included; DNS has at most 253 (RFC 1035 2.3.4)
_WORD, _MAC = re.compile(r"[\w.+|-]+", re.ASCII), re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5,19}")
_LATEST = 253402300799  # the end of the year 9999
_LARGEST = {
    "ttl": 255, "rtt_ms": 1e9, "time": _LATEST, "pass": 1 << 31,
    "first_probe": _LATEST, "last_probe": _LATEST, "attempts": 1 << 53, "scan": 1 << 31,
    "window": 0xFFFF, "mss": 0xFFFF,
}  # fmt: skip

# The columns of a result in the order of a Verdict's fields, and what a value is if it is known.
_FIELDS: dict[str, type] = {
    "ip": str, "port": int, "state": str, "reason": str, "protocol": str, "ttl": int, "service": str,
    "evidence": list, "rtt_ms": float, "time": float, "pass": int, "icmp_from": str, "scanner_ip": str,
    "tunnel": str, "first_probe": float, "last_probe": float, "attempts": int,
    "scan": int, "hostname": str, "mac": str, "vendor": str,
    "window": int, "mss": int, "options": str, "vantage": str, "capture": str,
}  # fmt: skip


def read_results(
    paths: Sequence[str], note: Note, tell: Tell | None = None, runs: list[RunFacts] | None = None
) -> Iterator[Verdict]:
    """The verdicts of every file, one after the other (`-` is standard input); all captures together are one capture.

    `note` gets a line for what was read only in part; `tell` the file, the bytes read so far, and those of the whole;
    `runs` what a file says of its scan, behind its rows.
    Raises UsageError, naming file and line, for what cannot be read.
    """
    captures, runs = [], [] if runs is None else runs
    for path in paths:
        with opened(path) as (raw, stream):
            if is_capture(stream):
                if path == "-" or not os.path.isfile(path):
                    advice = "run halfopen classify on it with -f jsonl, and pipe that"
                    raise UsageError(f"{file_name(path)} is a capture in a pipe: {advice}")
                captures.append(path)
            else:
                yield from _told(_read(_File(path, stream, note, runs)), path, raw, tell)
    if captures:
        yield from classified(captures, note, tell, runs)


def _told(rows: Iterator[Verdict], path: str, raw: io.BufferedReader, tell: Tell | None) -> Iterator[Verdict]:
    """The same rows. Every some thousands `tell` is told; not of a pipe, whose place nobody knows."""
    if not tell or not raw.seekable():
        yield from rows
        return
    size = os.fstat(raw.fileno()).st_size
    for number, row in enumerate(rows):
        if not number % _TOLD:
            tell(path, raw.raw.tell(), size)
        yield row


class _File:
    """A file that is not a capture: its content, and the place that messages name."""

    def __init__(self, path: str, stream: io.BufferedReader, note: Note, runs: list[RunFacts]) -> None:
        self.stream, self._name = stream, file_name(path)
        self.run = lambda head, end: runs.append(run_of_xml(self._name, head, end))
        self._line, self._note = 0, note

    def note(self, text: str) -> None:
        """A note about this file."""
        self._note(f"{self._name}{text}")

    def wrong(self, cause: str) -> UsageError:
        """What is wrong at this place, and what to do."""
        where = f"{self._name}, line {self._line}" if self._line else self._name
        return UsageError(f"{where}: {cause}: {_FORMS}")

    def lines(self) -> Iterator[str]:
        """The lines of the text; the place moves with them."""
        with io.TextIOWrapper(self.stream, "utf-8-sig", "replace", newline="") as text:
            for self._line, line in enumerate(iter(partial(text.readline, _LONGEST_LINE), ""), 1):
                if len(line) == _LONGEST_LINE:
                    raise self.wrong(f"is longer than {_LONGEST_LINE:,} characters")
                yield line


def _read(file: _File) -> Iterator[Verdict]:
    """Rows of a file of text. Everything that goes wrong in it becomes one line with the place."""
    try:
        begin = file.stream.peek(64).removeprefix(_BYTE_ORDER_MARK).lstrip()
        if packed := packed_with(begin):
            raise file.wrong(f"is {packed[0]} data, which must be unpacked first ({packed[1]})")
        reader = {b"{": _json_lines, b"<": _xml, b"": _empty}.get(begin[:1], _csv)
        rows = reader(file)
        if first := next(rows, None):
            yield first
            yield from rows
        else:  # of a scan that found nothing, or that failed
            file.note(" is a result without rows")
    except TooDense as error:
        raise file.wrong(str(error)) from error
    except DAMAGED as error:
        raise file.wrong("its gzip data is damaged or ends early") from error
    except OSError as error:
        raise file.wrong(f"cannot read on ({error.strerror})") from error


def _empty(file: _File) -> Iterator[Verdict]:
    if file.stream.read().strip():
        raise file.wrong("begins with blank space and is nothing known")
    yield from ()


def _xml(file: _File) -> Iterator[Verdict]:
    try:
        for verdict in read_xml(file.stream, lambda text: file.note(f": {text}"), file.run):
            yield _checked(verdict._replace(ip=_address(verdict.ip, file)), file)
    except NotNmap as error:
        raise file.wrong(str(error)) from error


def _json_lines(file: _File) -> Iterator[Verdict]:
    for line in file.lines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise file.wrong("is no JSON object on a line of its own")
        yield _verdict(row, file)


def _csv(file: _File) -> Iterator[Verdict]:
    rows = csv.reader(file.lines())
    try:
        head = next(rows, [])  # a file that is only a part of a byte order mark holds no line
        if not set(_NEEDED) <= set(head):
            raise file.wrong("is no result that halfopen can read back")
        for cells in rows:
            if len(cells) != len(head):
                raise file.wrong(f"has {len(cells)} cells where the header has {len(head)}")
            yield _verdict(_typed(dict(zip(head, cells, strict=True)), file), file)
    except csv.Error as error:
        raise file.wrong(f"is no CSV ({error})") from error


def _typed(cells: dict[str, str], file: _File) -> dict[str, Any]:
    """The cells of a CSV row as the values they stand for; an empty one is unknown."""
    row: dict[str, Any] = {}
    for name, cell in cells.items():
        kind = _FIELDS.get(name, str)
        try:
            if cell:
                row[name] = cell.split(";") if kind is list else kind(cell)
        except ValueError as error:
            raise file.wrong(f"{name} {brief(cell)} is not a number") from error
    return row


def _verdict(row: dict[str, Any], file: _File) -> Verdict:
    """One row of a file, checked: each value has the type that a verdict has there."""
    values = list(map(row.get, _FIELDS))
    if wrong := _mistyped(tuple(map(type, values))):
        raise file.wrong(f"{wrong} {brief(row[wrong])} is not what a verdict holds")
    ip, port, state, reason, protocol, ttl, service, evidence, *rest = values
    # Only a host that is down has no port.
    if not (ip and state and reason) or (port is None and state != State.DOWN.value):
        missing = next(name for name in _NEEDED if row.get(name) in (None, ""))
        raise file.wrong(f"has no {missing!r}, so it is no verdict")
    if port is not None and not 0 <= port <= 65535:
        raise file.wrong(f"port {brief(port)} is not one")
    if evidence and not all(isinstance(word, str) for word in evidence):
        raise file.wrong(f"evidence {brief(evidence)} is not a list of words")
    words = tuple(evidence or ())
    return _checked(
        Verdict(_address(ip, file), port, state, reason, protocol or "tcp", ttl, service, words, *rest), file
    )


def _checked(verdict: Verdict, file: _File) -> Verdict:
    """The verdict, if its numbers and words are such as a scan can find."""
    (_, _, state, reason, protocol, ttl, service, evidence, rtt_ms, time, pass_, icmp_from, scanner, tunnel, first,
     last, attempts, scan, hostname, mac, vendor, window, mss, options, vantage, capture) = verdict  # fmt: skip
    numbers = (ttl, rtt_ms, time, pass_, first, last, attempts, scan, window, mss)
    for name, number in zip(_LARGEST, numbers, strict=True):
        if number is not None and not 0 <= number <= _LARGEST[name]:  # NaN is not either
            raise file.wrong(f"{name} {brief(number)} is out of range")
    if not _are_words(state, reason, protocol, service, tunnel, vantage, evidence):
        raise file.wrong("has a word that is too long, or too many of them, or characters that no word has")
    if max(len(text or "") for text in (hostname, vendor, options, capture)) > _LONGEST_NAME:
        raise file.wrong("has a name that is too long")
    if mac is not None and not _MAC.fullmatch(mac):
        raise file.wrong(f"mac {brief(mac)} is not a MAC address")
    if icmp_from is None and scanner is None:
        return verdict
    return verdict._replace(
        icmp_from=icmp_from and _address(icmp_from, file), scanner_ip=scanner and _address(scanner, file)
    )


@lru_cache(maxsize=1 << 10)
def _are_words(*words: str | tuple[str, ...] | None) -> bool:
    """Whether all of these are short and can be printed. The rows of a file share a few combinations.

    The first three stand in every format as they are, so they have no quotes, commas or the like.
    """
    *texts, evidence = words
    assert isinstance(evidence, tuple)
    every = [str(text) for text in (*texts, *evidence) if text]
    short = len(evidence) <= _MOST_WORDS and all(len(text) <= _LONGEST_WORD for text in every)
    return short and all(map(str.isprintable, every)) and all(_WORD.fullmatch(str(text)) for text in texts[:3])


@lru_cache(maxsize=1 << 10)
def _mistyped(types: tuple[type, ...]) -> str | None:
    """The first field whose value has another type. The rows of a file share a few combinations of types."""
    for (name, kind), given in zip(_FIELDS.items(), types, strict=True):
        if given not in (kind, NoneType) and (kind, given) != (float, int):  # JSON writes 5.0 as it likes, also as 5
            return name
    return None


def _address(text: str, file: _File) -> str:
    try:
        return _canonical(text)
    except ValueError as error:
        raise file.wrong(f"{brief(text)} is not an address") from error


@lru_cache(maxsize=1 << 16)
def _canonical(text: str) -> str:
    """An address as halfopen writes it; a zone (`%eth0`) is left off. Raises ValueError."""
    return str(ip_address(text.partition("%")[0]))
