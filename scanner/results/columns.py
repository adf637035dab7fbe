"""Verdicts as columns: the form in which a comparison or a report can hold a million rows.

A million `Verdict` tuples take half a gigabyte; these columns take 72 bytes a row. Text repeats from
row to row, so each distinct text is kept once and a row holds its number. Rows of several files that pass through
one `Vocabulary` share the numbers, and so can be compared as integers.

A target may come twice, from overlapping files or from a capture with several scanners or scans. One row must stand for
it: the one with the strongest state (open before closed before filtered before the rest), and of equals the later one.
Replies overrule each other in the same order during a scan.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ..packet.addresses import from_text
from ..packet.headers import Bools, Ints, Rows
from ..verdict.rows import Verdict
from ..verdict.table import State

ROW = np.dtype(
    [("hi", np.uint64), ("lo", np.uint64), ("port", np.int32), ("kind", np.uint32), ("service", np.uint32),
     ("name", np.uint32), ("sender", np.uint32), ("scanner", np.uint32), ("tunnel", np.uint32), ("scan", np.int32),
     ("vantage", np.uint32), ("capture", np.uint32), ("ttl", np.int32), ("rtt", np.float32), ("time", np.float64)]
)  # fmt: skip
# What a comparison needs.
TARGET = np.dtype([(name, ROW[name]) for name in ("hi", "lo", "port", "kind", "name", "tunnel", "vantage", "capture")])
HOST_ONLY = -1  # the port of a row about a host as a whole
UNKNOWN_TTL = -1

_CHUNK = 1 << 16
_STRENGTH = {
    State.OPEN.value: 5,
    State.CLOSED.value: 4,
    State.FILTERED.value: 3,
    State.UNKNOWN.value: 1,
    State.DOWN.value: 0,
}
_OTHER = 2  # nmap's `open|filtered`, `unfiltered` and whatever else a file may say


class RowKind(NamedTuple):
    """What many rows have in common."""

    protocol: str
    state: str
    reason: str
    evidence: tuple[str, ...]


class Vocabulary:
    """The texts that the numbers in ROW columns stand for. 0 in `service`, `name` and the addresses is unknown.

    Equal numbers in `name` are equal host names: case and a dot at the end make no difference (RFC 4343).
    `hostnames`: the first name of each address that has one, as it was written.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str, tuple[str, ...]], int] = {}
        self._services: dict[str | None, int] = {None: 0}
        self._names: dict[str | None, int] = {None: 0}
        self._addresses: dict[str | None, int] = {None: 0}
        self._vantages: dict[str | None, int] = {None: 0}
        self._captures: dict[str | None, int] = {None: 0}
        self.hostnames: dict[str, str] = {}

    @property
    def kinds(self) -> list[RowKind]:
        """By the number in `kind`."""
        return [RowKind(*kind) for kind in self._kinds]

    @property
    def services(self) -> list[str | None]:
        """By the number in `service`."""
        return list(self._services)

    @property
    def addresses(self) -> list[str | None]:
        """By the number in `sender` (of an ICMP error), in `scanner`, and in `tunnel`."""
        return list(self._addresses)

    @property
    def vantages(self) -> list[str | None]:
        """By the number in `vantage`: the places that rows were seen from."""
        return list(self._vantages)

    @property
    def captures(self) -> list[str | None]:
        """By the number in `capture`: the files that rows are from, where each is a capture of its own."""
        return list(self._captures)

    def strength(self) -> Ints:
        """How strong the state of each kind is: 5 open … 0 down."""
        return np.array([_STRENGTH.get(kind.state, _OTHER) for kind in self.kinds], np.int64)

    def protocols(self) -> Ints:
        """A number for each kind's protocol, in the order of their names."""
        names = sorted({kind.protocol for kind in self.kinds})
        return np.array([names.index(kind.protocol) for kind in self.kinds], np.int64)

    def rows(self, verdicts: Iterable[Verdict]) -> Rows:
        """All verdicts → ROW[n], in their order; unknown numbers are -1 or NaN. Raises ValueError for a bad address."""
        columns, left = [np.zeros(0, ROW)], iter(verdicts)
        while chunk := list(islice(left, _CHUNK)):
            columns.append(self._chunk(chunk))
        return np.concatenate(columns)

    def _chunk(self, chunk: list[Verdict]) -> Rows:
        seen: dict[str, Any] = dict(zip(Verdict._fields, zip(*chunk, strict=True), strict=True))
        names = [name and name.rstrip(".").lower() for name in seen["hostname"]]
        if any(names):
            for host, hostname in zip(seen["ip"], seen["hostname"], strict=True):
                if hostname:
                    self.hostnames.setdefault(host, hostname)
        rows = np.empty(len(chunk), ROW)
        hosts: dict[str, int] = {}  # each address is read once
        number = _numbered(hosts, seen["ip"])
        address = from_text(*hosts)[number]
        rows["hi"], rows["lo"] = address["hi"], address["lo"]
        rows["port"] = [HOST_ONLY if number is None else number for number in seen["port"]]
        kinds = zip(seen["protocol"], seen["state"], seen["reason"], seen["evidence"], strict=True)
        rows["kind"] = _numbered(self._kinds, kinds)
        rows["service"] = _numbered(self._services, seen["service"])
        rows["name"] = _numbered(self._names, (name or None for name in names))
        for column, field in (("sender", "icmp_from"), ("scanner", "scanner_ip"), ("tunnel", "tunnel")):
            rows[column] = _numbered(self._addresses, seen[field])
        rows["vantage"] = _numbered(self._vantages, seen["vantage"])
        rows["capture"] = _numbered(self._captures, seen["capture"])
        rows["scan"] = [number or 0 for number in seen["scan"]]
        rows["ttl"] = [UNKNOWN_TTL if number is None else number for number in seen["ttl"]]
        rows["rtt"] = np.array(seen["rtt_ms"], np.float32)  # None becomes NaN
        rows["time"] = np.array(seen["time"], np.float64)
        return rows


def targets_only(rows: Rows) -> Rows:
    """ROW columns → TARGET columns, in less than half of the memory."""
    kept = np.empty(len(rows), TARGET)
    for name in TARGET.names or ():
        kept[name] = rows[name]
    return kept


def strongest(texts: Vocabulary, rows: Rows, by_scanner: bool = False) -> Rows:
    """One row for each target, by address, tunnel, protocol and port.

    With `by_scanner` one for each scanner, scan, vantage point and capture.
    """
    rows = _by_target(texts, rows, by_scanner)
    return rows[~same_target(texts, rows, by_scanner)]  # the last of its target is the strongest


def contradictions(texts: Vocabulary, rows: Rows) -> int:
    """How many rows have another state than the stronger row of the same target, scanner and scan beside them."""
    rows = _by_target(texts, rows, by_scanner=True)
    states = texts.strength()[rows["kind"]]
    return int(np.count_nonzero(same_target(texts, rows, by_scanner=True)[:-1] & (states[:-1] != states[1:])))


def _by_target(texts: Vocabulary, rows: Rows, by_scanner: bool) -> Rows:
    strength, protocol = texts.strength()[rows["kind"]], texts.protocols()[rows["kind"]]
    whose = (rows["capture"], rows["vantage"], rows["scan"], rows["scanner"]) if by_scanner else ()
    order = np.lexsort((strength, *whose, rows["port"], protocol, rows["tunnel"], rows["lo"], rows["hi"]))
    return np.asarray(rows[order])


def same_target(texts: Vocabulary, rows: Rows, by_scanner: bool = False) -> Bools:
    """Which of the sorted rows are about the same target as the row that follows."""
    columns = [texts.protocols()[rows["kind"]], rows["hi"], rows["lo"], rows["tunnel"], rows["port"]]
    columns += [rows["scanner"], rows["scan"], rows["vantage"], rows["capture"]] if by_scanner else []
    same = np.zeros(len(rows), np.bool_)
    same[:-1] = np.logical_and.reduce([column[:-1] == column[1:] for column in columns])
    return same


def host_numbers(rows: Rows) -> Ints:
    """Rows sorted by address and tunnel → the number of each row's host, from 0."""
    begins = np.zeros(len(rows), np.int64)
    begins[1:] = np.logical_or.reduce([rows[name][1:] != rows[name][:-1] for name in ("hi", "lo", "tunnel")])
    return np.cumsum(begins)


def _numbered(table: dict[Any, int], values: Iterable[Any]) -> list[int]:
    """The number of each value; a new value gets the next number."""
    return [table.setdefault(value, len(table)) for value in values]
