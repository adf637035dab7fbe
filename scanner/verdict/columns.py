"""Rows of a capture as columns: a million rows without an object for each.

`Columns` are iterated like any rows, in pieces. Formats that write many rows take the columns themselves: what repeats
from row to row (state, reason, TTL, service, evidence) has one number for each combination, and the rest are numbers
and addresses (see `output.text`).

Limit: all rows have an address, a port and a prober, as those of captures do.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from ..packet.addresses import to_text
from ..packet.headers import U16, U32, Bools, Ints, Rows
from .details import Options
from .evidence import Words, distinct
from .rows import Verdict, known, microseconds, record_rows
from .table import RANK, REASON_WORD, STATE_WORD

PIECE = 1 << 15  # rows that are handled at once

Shared = tuple[str, str, str, int | None, str | None, Words]  # state, reason, protocol, TTL, service, evidence


class Services(NamedTuple):
    """The names of ports: `names` by number (0: none), and the number of each port, int64[65536]."""

    names: list[str | None]
    number: Ints

    @classmethod
    def of(cls, known: dict[int, str]) -> "Services":
        """From names by port."""
        names = [None, *dict.fromkeys(known.values())]
        place = {name: at for at, name in enumerate(names)}
        number = np.zeros(1 << 16, np.int64)
        number[list(known)] = [place[name] for name in known.values()]
        return cls(names, number)


@dataclass(frozen=True)
class Columns:
    """`n` rows by prober, address and port; a piece has the same tables."""

    ip: Rows  # ADDRESS[n]
    port: U16
    record: Rows  # RECORD[n]
    trip: Ints  # ns; -1: not known
    timed: Bools  # the record has a time
    words: Ints  # number of the evidence
    scanner: Rows  # ADDRESS[n]
    evidence: list[Words]  # by number
    services: Services
    senders: list[str | None]  # of ICMP errors, by number
    options: list[Options]  # of SYN/ACKs, by number
    tunnel: Ints  # number of the tunnel
    tunnels: list[str | None]  # by number; None: no tunnel
    first: Ints  # times of the first and the last SYN, ns; 0: not known
    last: Ints
    attempts: U32  # SYNs
    scan: Ints  # of the target, from 1; 0: scans are not told apart

    @property
    def in_tunnels(self) -> bool:
        """Whether any row is."""
        return any(self.tunnels)

    def __len__(self) -> int:
        return len(self.port)

    def __iter__(self) -> Iterator[Verdict]:
        for piece in self.pieces():
            yield from piece._rows()

    def take(self, rows: Ints | Bools | slice) -> "Columns":
        """Some of the rows."""
        same = ("evidence", "services", "senders", "options", "tunnels")
        columns = {each.name: getattr(self, each.name) for each in fields(self)}
        return Columns(**{name: value if name in same else value[rows] for name, value in columns.items()})

    def pieces(self) -> Iterator["Columns"]:
        """The rows, some at a time."""
        for at in range(0, len(self), PIECE):
            yield self.take(slice(at, at + PIECE))

    def shared(self) -> tuple[list[Shared], Ints]:
        """The distinct combinations of what repeats, and the number of each row's."""
        reason, record = self.record["reason"], self.record
        ttl = np.where(RANK[reason] > 0, record["ttl"].astype(np.int64), 256)
        few, row = distinct((self.words << 9 | ttl) << 8 | reason)
        size = len(self.services.names)
        pairs, number = distinct(row * size + self.services.number[self.port])
        return [
            (
                STATE_WORD[each & 0xFF],
                REASON_WORD[each & 0xFF],
                "tcp",
                None if each >> 8 & 0x1FF == 256 else each >> 8 & 0x1FF,
                self.services.names[service],
                self.evidence[each >> 17],
            )
            for each, service in zip(few[pairs // size].tolist(), (pairs % size).tolist(), strict=True)
        ], number

    def _rows(self) -> Iterator[Verdict]:
        port = self.port.tolist()
        return record_rows(
            _texts(self.ip),
            port,
            self.record,
            map(self.services.names.__getitem__, self.services.number[self.port].tolist()),
            map(self.evidence.__getitem__, self.words.tolist()),
            self.trip,
            self.senders,
            self.options,
            scanner_ip=_texts(self.scanner),
            timed=self.timed,
            tunnel=map(self.tunnels.__getitem__, self.tunnel.tolist()),
            probes=(
                known(microseconds(self.first) / 1e6, self.first > 0),
                known(microseconds(self.last) / 1e6, self.first > 0),
                self.attempts.tolist(),
                known(self.scan, self.scan > 0),
            ),
        )


def _texts(address: Rows) -> Iterator[str]:
    """Each text is made once for a run of equal addresses."""
    new = np.ones(len(address), np.bool_)
    new[1:] = (address["lo"][1:] != address["lo"][:-1]) | (address["hi"][1:] != address["hi"][:-1])
    texts = to_text(address[new])
    return map(texts.__getitem__, (np.cumsum(new) - 1).tolist())
