"""Rows gathered by host, for the formats that know hosts: nmap's XML and grepable.

Both say of a host whether it is up, show its ports in order, and only count what many ports share. The rule
for that is the table's: more than 25 ports of one state and reason are folded, `open` never, and a
firewall's resets apart from the host's, so a file shows what the screen shows.

A host is up when it said something itself. Silence proves nothing, and neither does an ICMP error that a router
sent, so such a host is `unknown`, where nmap told not to ping calls it up. A host is one entry a batch and a scanner:
a live scan gives whole hosts, but a capture read from a pipe may name one again when more of it is known.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..verdict.table import Reason, State, Verdict
from .table import FOLD, Kind, kind_of, place_of

PIECE = 1 << 20  # characters to a write, about


@dataclass(slots=True)
class Folded:
    """The ports of one state and reason that are only counted."""

    state: str
    reason: str
    ports: list[int] = field(default_factory=list)


@dataclass(slots=True)
class HostRows:
    """What a batch says about one host. `status` is up, down or unknown, by the reply `why` if there is one."""

    ip: str
    scanner: str | None
    status: str
    why: Verdict
    shown: list[Verdict]
    folded: list[Folded]


def gather(verdicts: Iterable[Verdict], everything: bool) -> list[HostRows]:
    """The hosts of a batch in address order; with `everything` nothing is folded."""
    rows_of: dict[tuple[str, str | None], list[Verdict]] = {}
    for verdict in verdicts:
        name = verdict.ip, verdict.scanner_ip
        rows = rows_of.get(name)
        if rows is None:
            rows = rows_of[name] = []
        rows.append(verdict)
    return [_host(*name, rows_of[name], everything) for name in sorted(rows_of, key=place_of)]


def _host(ip: str, scanner: str | None, rows: list[Verdict], everything: bool) -> HostRows:
    why = next((row for row in rows if _from_itself(row)), rows[0])
    status = "down" if why.state == State.DOWN.value else "up" if _from_itself(why) else "unknown"
    ports = sorted((row for row in rows if row.port is not None), key=lambda row: row.port or 0)
    if everything or len(ports) <= FOLD:
        return HostRows(ip, scanner, status, why, ports, [])
    kinds = [kind_of(row) for row in ports]
    many = {kind for kind, count in Counter(kinds).items() if count > FOLD and kind[0] != State.OPEN.value}
    shown = [row for row, kind in zip(ports, kinds, strict=True) if kind not in many]
    return HostRows(ip, scanner, status, why, shown, _fold(ports, kinds, many))


def _fold(ports: list[Verdict], kinds: list[Kind], many: set[Kind]) -> list[Folded]:
    """The folded kinds, the largest first."""
    folded: dict[Kind, Folded] = {}
    for row, kind in zip(ports, kinds, strict=True):
        if kind in many:
            folded.setdefault(kind, Folded(row.state, row.reason)).ports.append(row.port or 0)
    return sorted(folded.values(), key=lambda each: -len(each.ports))


def _from_itself(row: Verdict) -> bool:
    if row.reason in (Reason.NO_RESPONSE.word, Reason.CAPTURE_ENDED.word, Reason.ONE_WAY_CAPTURE.word):
        return False
    return row.state != State.DOWN.value and row.icmp_from in (None, row.ip)


def pieces(texts: Iterable[str]) -> Iterator[str]:
    """Texts joined to about a million characters: a batch is never held as text as a whole."""
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= PIECE:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)
