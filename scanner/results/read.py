"""Results of earlier runs, read back as verdicts: JSON lines, CSV, XML as nmap writes it, and captures.

Reports and comparisons do not care who wrote a file or how. What a file is, its first bytes say (suffixes lie, and
`<(…)` has none); gzip is looked through. Rows stream, so the size of a file does not matter here.

A result that was read wrong is worse than one that was not read: a torn line or an odd cell ends the reading with
one `UsageError` that names file, line and cause, because a row left out would show as a port that vanished. A damaged
capture is the exception: captures are torn as a rule, and what was not judged is told.

Limits: `.txt` and `.gnmap` files are for people and old scripts and do not hold every row. A capture must be a regular
file (it is opened twice); from a pipe, `classify` turns it into JSON lines first.
"""

import csv
import gzip
import io
import json
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from ..capture.pcap import MAGICS
from ..capture.pcapng import MAGIC
from ..classifier.classification import Classification
from ..errors import UsageError
from ..verdict.table import State, Verdict
from .nmap_xml import NotNmap, read_xml

Note = Callable[[str], None]

_GZIP = b"\x1f\x8b"
_MARK = b"\xef\xbb\xbf"  # UTF-8's byte order mark
_FORMS = "give JSON lines (-f jsonl), CSV, nmap's XML, or a capture"
_NEEDED = ("ip", "port", "state", "reason")
_DOWN = State.DOWN.value


def read_results(paths: Sequence[str], note: Note) -> Iterator[Verdict]:
    """The verdicts of every file, one after the other (`-` is standard input); all captures together are one capture.

    `note` gets a line for what was read only in part. Raises UsageError, naming file and line, for what cannot be read.
    """
    captures = []
    for path in paths:
        with _opened(path) as stream:
            if _is_capture(stream):
                captures.append(_regular(path))
            else:
                yield from _read(path, stream, note)
    if captures:
        yield from _classified(captures, note)


def named(path: str) -> str:
    """The file as messages call it."""
    return "standard input" if path == "-" else path


@contextmanager
def _opened(path: str) -> Iterator[io.BufferedReader]:
    """The file's bytes, unpacked; closed at the end (standard input stays open)."""
    try:
        raw = open(0 if path == "-" else path, "rb", closefd=path != "-")  # noqa: SIM115 (the next block closes it)
    except OSError as error:
        raise UsageError(f"{named(path)} cannot be read ({error.strerror}): name a file of results") from error
    with raw:
        if raw.peek(2)[:2] != _GZIP:
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as unpacked:
            stream: io.BufferedReader = io.BufferedReader(unpacked)
            with stream:
                yield stream


def _is_capture(stream: io.BufferedReader) -> bool:
    try:
        magic = stream.peek(4)[:4]
    except (OSError, EOFError, zlib.error):
        return False  # the text reader meets it again, and names the line
    return magic in MAGICS or magic == MAGIC


def _regular(path: str) -> str:
    if path == "-" or not stat.S_ISREG(os.stat(path).st_mode):
        raise UsageError(
            f"{named(path)} is a capture in a pipe: run halfopen classify on it with -f jsonl, and pipe that"
        )
    return path


def _classified(paths: list[str], note: Note) -> Iterator[Verdict]:
    reading = Classification(paths)
    for batch in reading.batches():
        yield from batch
    if not reading.reader.opened:
        raise UsageError(f"{reading.report()[0]}: name a capture that can be read")
    for line in reading.report()[1:]:
        note(line)


def _read(path: str, stream: io.BufferedReader, note: Note) -> Iterator[Verdict]:
    """Rows of a file of text. Whatever goes wrong in it becomes one line with the place."""
    reader: Callable[[io.BufferedReader, _Place, Note], Iterator[Verdict]]
    place = _Place(named(path))
    try:
        begin = stream.peek(64).removeprefix(_MARK).lstrip()
        reader = {b"{": _json_lines, b"<": _xml, b"": _nothing}.get(begin[:1], _csv)
        yield from reader(stream, place, note)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise place.wrong("its gzip data is damaged or ends early") from error
    except OSError as error:
        raise place.wrong(f"cannot read on ({error.strerror})") from error


class _Place:
    """Where the reader is, for messages."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.line = 0

    def wrong(self, cause: str) -> UsageError:
        """What is wrong at this place, and the remedy."""
        where = f"{self.name}, line {self.line}" if self.line else self.name
        return UsageError(f"{where}: {cause}: {_FORMS}")

    def count(self, lines: Iterable[str]) -> Iterator[str]:
        """The lines, counted from 1 as they pass."""
        for self.line, line in enumerate(lines, 1):
            yield line


def _text(stream: io.BufferedReader) -> io.TextIOWrapper:
    return io.TextIOWrapper(stream, "utf-8-sig", "replace", newline="")


def _nothing(stream: io.BufferedReader, place: _Place, note: Note) -> Iterator[Verdict]:
    """A scan without rows writes an empty file of JSON lines, but so does a full disk."""
    if stream.read().strip():
        raise place.wrong("begins with blank space and is nothing known")
    note(f"{place.name} is empty: taken for a result without rows")
    yield from ()


def _xml(stream: io.BufferedReader, place: _Place, note: Note) -> Iterator[Verdict]:
    try:
        for verdict in read_xml(stream, lambda text: note(f"{place.name}: {text}")):
            yield verdict._replace(ip=_address(verdict.ip, place))
    except NotNmap as error:
        raise place.wrong(str(error)) from error


def _json_lines(stream: io.BufferedReader, place: _Place, note: Note) -> Iterator[Verdict]:
    with _text(stream) as text:
        for line in place.count(text):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                if not line.strip():
                    continue
                raise place.wrong("is no JSON object on a line of its own") from error
            if not isinstance(row, dict):
                raise place.wrong("is no JSON object on a line of its own")
            yield _verdict(row, place)


def _csv(stream: io.BufferedReader, place: _Place, note: Note) -> Iterator[Verdict]:
    with _text(stream) as text:
        rows = csv.reader(place.count(text))
        try:
            head = next(rows, [])  # a file that is only a part of a byte order mark holds no line
            if not set(_NEEDED) <= set(head):
                raise place.wrong("is no result that halfopen can read back")
            for cells in rows:
                if len(cells) != len(head):
                    raise place.wrong(f"has {len(cells)} cells where the header has {len(head)}")
                yield _verdict(_typed(dict(zip(head, cells, strict=True)), place), place)
        except csv.Error as error:
            raise place.wrong(f"is no CSV ({error})") from error


def _typed(row: dict[str, Any], place: _Place) -> dict[str, Any]:
    """The cells of a CSV row as the values they stand for; an empty one is unknown."""
    known = {name: cell for name, cell in row.items() if cell != ""}
    try:
        for name, kind in (("port", int), ("ttl", int), ("pass", int), ("rtt_ms", float), ("time", float)):
            if name in known:
                known[name] = kind(known[name])
    except ValueError as error:
        raise place.wrong(f"{name} {row[name]!r} is not a number") from error
    if "evidence" in known:
        known["evidence"] = known["evidence"].split(";")
    return known


_TEXT, _WHOLE, _REAL = (str, type(None)), (int, type(None)), (int, float, type(None))
_TYPES: dict[str, tuple[type, ...]] = {
    "ip": _TEXT, "port": _WHOLE, "state": _TEXT, "reason": _TEXT, "protocol": _TEXT, "ttl": _WHOLE, "service": _TEXT,
    "evidence": (list, type(None)), "rtt_ms": _REAL, "time": _REAL, "pass": _WHOLE, "icmp_from": _TEXT,
    "scanner_ip": _TEXT,
}  # fmt: skip


def _verdict(row: dict[str, Any], place: _Place) -> Verdict:
    """One row of a file, judged: what is there has the type of the contract."""
    values = list(map(row.get, _TYPES))
    if wrong := _mistyped(tuple(map(type, values))):
        raise place.wrong(f"{wrong} {row[wrong]!r} is not what a verdict holds")
    ip, port, state, reason, protocol, ttl, service, evidence, *rest = values
    if not (ip and state and reason) or (port is None and state != _DOWN):
        raise place.wrong(
            f"has no {next(name for name in _NEEDED if row.get(name) in (None, ''))!r}, so it is no verdict"
        )
    if port is not None and not 0 <= port <= 65535:
        raise place.wrong(f"port {port} is not one")
    if evidence and not all(isinstance(word, str) for word in evidence):
        raise place.wrong(f"evidence {evidence!r} is not a list of words")
    words = tuple(evidence) if evidence else ()
    return Verdict(_address(ip, place), port, state, reason, protocol or "tcp", ttl, service, words, *rest)


@lru_cache(maxsize=1 << 10)
def _mistyped(types: tuple[type, ...]) -> str | None:
    """The first field whose type is not one of its own; rows of a file share a few combinations."""
    return next((name for name, given in zip(_TYPES, types, strict=True) if given not in _TYPES[name]), None)


def _address(text: object, place: _Place) -> str:
    try:
        return _canonical(text)
    except (ValueError, TypeError) as error:
        raise place.wrong(f"{text!r} is not an address") from error


@lru_cache(maxsize=1 << 16)
def _canonical(text: object) -> str:
    """An address as halfopen writes it; a zone (`%eth0`) is left off. Raises ValueError."""
    if not isinstance(text, str):
        raise TypeError
    return str(ip_address(text.partition("%")[0]))
