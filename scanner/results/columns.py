"""Verdicts as columns: what a comparison or a report of a million rows can hold.

A million `Verdict` tuples take half a gigabyte, these columns 48 bytes a row. What is text in a verdict repeats from
row to row, so each distinct text is kept once and a row holds its number. Rows of several files that are gathered by
one `Gathering` share those numbers and can be compared as integers.

A target may come twice, from overlapping files or a capture with several scanners. One row has to stand for it: the
one that claims most (open before closed before filtered before the rest), of equals the later one. That is the
order in which a scan itself lets replies overrule each other.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import ip_address
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from ..packet.addresses import to_int
from ..packet.headers import Bools, Ints, Rows
from ..verdict.table import State, Verdict

ROW = np.dtype(
    [("hi", np.uint64), ("lo", np.uint64), ("port", np.int32), ("kind", np.uint32), ("service", np.uint32),
     ("sender", np.uint32), ("scanner", np.uint32), ("ttl", np.int32), ("rtt", np.float32), ("time", np.float64)]
)  # fmt: skip
HOST_ONLY = -1  # the port of a row about a host as a whole
UNKNOWN_TTL = -1

Kind = tuple[str, str, str, tuple[str, ...]]  # protocol, state, reason, evidence

_CHUNK = 1 << 16
_LOW = (1 << 64) - 1
_STRENGTH = {
    State.OPEN.value: 5,
    State.CLOSED.value: 4,
    State.FILTERED.value: 3,
    State.UNKNOWN.value: 1,
    State.DOWN.value: 0,
}
_OTHER = 2  # nmap's `open|filtered`, `unfiltered` and whatever else a file may say


class Gathering:
    """Columns of verdicts, and the texts that they number. Rows are of dtype ROW; unknown numbers are -1 or NaN."""

    def __init__(self) -> None:
        self._kinds: dict[Kind, int] = {}
        self._services: dict[str | None, int] = {None: 0}
        self._addresses: dict[str | None, int] = {None: 0}

    def rows(self, verdicts: Iterable[Verdict]) -> Rows:
        """All verdicts → ROW[n], in their order. Raises ValueError for an address that is not one."""
        chunks = [self._chunk(chunk) for chunk in _chunks(iter(verdicts))]
        return np.concatenate(chunks) if chunks else np.zeros(0, ROW)

    @property
    def kinds(self) -> list[Kind]:
        """What the numbers in `kind` stand for."""
        return list(self._kinds)

    @property
    def services(self) -> list[str | None]:
        """What the numbers in `service` stand for; 0 is unknown."""
        return list(self._services)

    @property
    def addresses(self) -> list[str | None]:
        """What the numbers in `sender` (of an ICMP error) and `scanner` stand for; 0 is unknown."""
        return list(self._addresses)

    def strength(self) -> npt.NDArray[np.int64]:
        """How much each kind claims: 5 open … 0 down."""
        return np.array([_STRENGTH.get(state, _OTHER) for _, state, _, _ in self._kinds], np.int64)

    def protocols(self) -> npt.NDArray[np.int64]:
        """A number for each kind's protocol."""
        names = sorted({kind[0] for kind in self._kinds})
        return np.array([names.index(kind[0]) for kind in self._kinds], np.int64)

    def strongest(self, rows: Rows, by_scanner: bool = False) -> Rows:
        """One row a target (and scanner, if wished), by address, protocol and port."""
        order = self._order(rows, by_scanner)
        rows = rows[order]
        return rows[~same_target(self, rows, by_scanner)]

    def _order(self, rows: Rows, by_scanner: bool) -> Ints:
        strength, protocol = self.strength()[rows["kind"]], self.protocols()[rows["kind"]]
        scanner = (rows["scanner"],) if by_scanner else ()
        return np.lexsort((strength, *scanner, rows["port"], protocol, rows["lo"], rows["hi"]))

    def _chunk(self, chunk: list[Verdict]) -> Rows:
        ip, port, state, reason, protocol, ttl, service, evidence, rtt, time, _, sender, scanner = zip(
            *chunk, strict=True
        )
        rows = np.empty(len(chunk), ROW)
        words = [_words(each) for each in ip]
        rows["hi"] = [hi for hi, _ in words]
        rows["lo"] = [lo for _, lo in words]
        rows["port"] = [HOST_ONLY if each is None else each for each in port]
        rows["kind"] = _numbered(self._kinds, zip(protocol, state, reason, evidence, strict=True))
        rows["service"] = _numbered(self._services, service)
        rows["sender"] = _numbered(self._addresses, sender)
        rows["scanner"] = _numbered(self._addresses, scanner)
        rows["ttl"] = [UNKNOWN_TTL if each is None else each for each in ttl]
        rows["rtt"] = np.array(rtt, np.float32)  # None becomes NaN
        rows["time"] = np.array(time, np.float64)
        return rows


def same_target(gathering: Gathering, rows: Rows, by_scanner: bool = False) -> Bools:
    """Which of the sorted rows are about the target of the row that follows."""
    protocol = gathering.protocols()[rows["kind"]]
    same = np.zeros(len(rows), np.bool_)
    if len(rows) > 1:
        same[:-1] = protocol[:-1] == protocol[1:]
        for name in ("hi", "lo", "port", *(("scanner",) if by_scanner else ())):
            same[:-1] &= rows[name][:-1] == rows[name][1:]
    return same


def host_numbers(rows: Rows) -> Ints:
    """Rows sorted by address → the number of each row's host, from 0."""
    fresh = np.zeros(len(rows), np.int64)
    if len(rows) > 1:
        fresh[1:] = (rows["hi"][1:] != rows["hi"][:-1]) | (rows["lo"][1:] != rows["lo"][:-1])
    return np.cumsum(fresh)


def _chunks(verdicts: Iterator[Verdict]) -> Iterator[list[Verdict]]:
    while chunk := list(islice(verdicts, _CHUNK)):
        yield chunk


def _numbered(table: dict[Any, int], values: Iterable[Any]) -> list[int]:
    """The number of each value; new ones are entered."""
    return [table.setdefault(value, len(table)) for value in values]


@lru_cache(maxsize=1 << 16)
def _words(text: str) -> tuple[int, int]:
    number = to_int(ip_address(text))
    return number >> 64, number & _LOW
