"""The table for people: what matters of a scan on one screen, whatever its size.

A host is a block: ports in order, and the states that more than 25 of its ports share folded into
one "Not shown" line, as nmap's users expect (`open` is never folded). A batch with one row per host
(one port on a whole network) is a single table with a line for each host. Hosts that did not answer
at all are summed at the end, named while they are few; so are hosts that are down. `everything`
(`--all`) folds and sums nothing.

Rows are padded by hand: rich draws 2,300 rows/s, this 400,000 or so. Rows are folded while the batch
is read, so a host with 65,535 closed ports costs 26 rows. Columns have floors wide enough for the
usual words and grow with a block, never within it. Text from outside is made printable first.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from ..verdict.sentences import printable
from ..verdict.table import Reason, State, Verdict
from .jsonl import chunks
from .sink import Summary
from .stream import Stream

FOLD = 25  # ports of one state and reason that a host still shows one by one
FEW = 8  # silent or down hosts that are still named

FIREWALL_RESET = "closed (firewall reset)"
_OPEN, _CLOSED, _FILTERED = State.OPEN.value, State.CLOSED.value, State.FILTERED.value
_COLOURS = {_OPEN: "32", _CLOSED: "31", _FILTERED: "33"}
_HEADS = ("STATE", "REASON", "TTL", "SERVICE", "EVIDENCE")
_FLOORS = (8, 16, 3, 12, 0)
_PORT = 9  # 65535/tcp
_HOST = 15  # an IPv4 address
_SILENT = (_FILTERED, Reason.NO_RESPONSE.word)

Kind = tuple[str, str]  # state as shown, reason
Cells = tuple[str, ...]  # STATE to EVIDENCE
Widths = tuple[int, ...]


@dataclass(slots=True)
class _Group:
    """The rows of one host that share state and reason: how many, and which while they are shown."""

    count: int = 0
    rows: list[Verdict] = field(default_factory=list)


Host = dict[Kind, _Group]
Name = tuple[str, str | None]  # address, and who scanned it where a capture says so


def kind_of(verdict: Verdict) -> Kind:
    """What rows share that are folded together."""
    if verdict.evidence and verdict.state == _CLOSED and "firewall-reset" in verdict.evidence:
        return FIREWALL_RESET, verdict.reason
    return verdict.state, verdict.reason


def _gather(verdicts: Iterable[Verdict], everything: bool) -> dict[Name, Host]:
    """Rows by host and kind; a kind that has grown too large to show keeps its count only."""
    hosts: dict[Name, Host] = {}
    for verdict in verdicts:
        name = verdict.ip, verdict.scanner_ip
        host = hosts.get(name)
        if host is None:
            host = hosts[name] = {}
        kind = kind_of(verdict)
        group = host.get(kind)
        if group is None:
            group = host[kind] = _Group()
        group.count += 1
        if group.count <= FOLD or everything or kind[0] == _OPEN:
            group.rows.append(verdict)
        else:
            group.rows.clear()
    return hosts


def place_of(name: Name) -> tuple[int, int, str]:
    """Address order: IPv4 first, then IPv6, by number."""
    ip, scanner = name
    parts = ip.split(".")
    if len(parts) == 4:
        a, b, c, d = map(int, parts)
        return 4, a << 24 | b << 16 | c << 8 | d, scanner or ""
    return 6, int(ip_address(ip)), scanner or ""


def _port(verdict: Verdict) -> str:
    return "-" if verdict.port is None else f"{verdict.port}/{verdict.protocol}"


@lru_cache(maxsize=1 << 14)
def _cells(kind: Kind, ttl: int | None, service: str | None, evidence: tuple[str, ...], icmp: str | None) -> Cells:
    words = evidence if icmp is None else (*evidence, f"from {icmp}")
    return (*kind, "-" if ttl is None else str(ttl), "-" if service is None else printable(service),
            printable(" ".join(words)))  # fmt: skip


def _shared(verdict: Verdict) -> Cells:
    """The cells that many rows have in common, STATE to EVIDENCE; a router's error names the router."""
    router = verdict.icmp_from if verdict.icmp_from != verdict.ip else None
    return _cells(kind_of(verdict), verdict.ttl, verdict.service, verdict.evidence, router)


def _draw(
    head: str, leads: list[str], rows: list[Cells], floors: Widths, colour: bool
) -> tuple[str, list[str], Widths]:
    """The head line, the rows, and the widths used; every distinct row of cells is padded once."""
    distinct = set(rows)
    columns = zip(*distinct, strict=True)
    widths = tuple(max(floor, *map(len, ("", *column))) for floor, column in zip(floors, columns, strict=True))
    texts = {cells: _pad(cells, widths, colour) for cells in distinct}
    lines = [f"{lead}  {texts[cells]}" for lead, cells in zip(leads, rows, strict=True)]
    return f"{head}  {_pad(_HEADS, widths, False)}", lines, widths


@lru_cache(maxsize=1 << 14)
def _pad(cells: Cells, widths: Widths, colour: bool) -> str:
    state, *others = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    code = _COLOURS.get(cells[0].partition(" ")[0]) if colour else None
    text = "  ".join([state, *others]).rstrip() + "\n"
    return text if code is None else f"\033[{code}m{cells[0]}\033[0m{text[len(cells[0]) :]}"


@dataclass
class _Absent:
    """Hosts summed at the end: the first few by name, all by number."""

    count: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.names) < FEW:
            self.names.append(name)

    def sentence(self, what: str) -> str:
        who = f"{self.count:,} hosts" if self.count > len(self.names) else ", ".join(self.names)
        return f"Not shown: {who} {what}\n"


class Table:
    """A Sink of tables for people."""

    def __init__(self, stream: Stream, everything: bool = False) -> None:
        self._stream = stream
        self._everything = everything
        self._silent = _Absent()
        self._down: dict[str, _Absent] = {}
        self._compact: Widths = ()  # of the one-line-per-host table, host first, if that is what stands above
        self._begun = False
        self._scanners: set[str | None] = set()  # the first two

    def write(self, verdicts: Iterable[Verdict]) -> None:
        """Write a batch: its hosts in address order, those without any answer kept for the end."""
        hosts = _gather(verdicts, self._everything)
        for _, scanner in hosts:
            if len(self._scanners) < 2:
                self._scanners.add(scanner)
        alone = len(hosts) == 1 and not self._begun and not self._silent.count
        shown = [name for name in sorted(hosts, key=place_of) if not self._absent(name, hosts[name], alone)]
        single = all(sum(group.count for group in hosts[name].values()) == 1 for name in shown)
        if shown and single and (len(hosts) > 1 or self._compact):
            self._write_lines([(self._title(name), group.rows[0]) for name in shown for group in hosts[name].values()])
        else:
            for text in chunks(self._block(self._title(name), hosts[name]) for name in shown):
                self._stream.write(text)

    def finish(self, summary: Summary) -> None:
        """Write the hosts that were summed, in a file the summary too, and close it."""
        self._silent.count += summary.silent_hosts
        lines = [self._silent.sentence("with all ports filtered (no-response)")] if self._silent.count else []
        lines += [absent.sentence(f"down ({reason})") for reason, absent in self._down.items()]
        if summary.text and not self._stream.person:
            lines.append(summary.text.rstrip("\n") + "\n")
        if lines:
            self._stream.write("\n" * self._begun + "".join(lines))
        self._stream.close()

    def memory(self) -> dict[str, Any]:
        """The hosts that are summed at the end, and what the next block's shape depends on."""
        return {
            "silent": asdict(self._silent),
            "down": {reason: asdict(absent) for reason, absent in self._down.items()},
            "begun": self._begun,
            "compact": list(self._compact),
        }

    def recall(self, memory: dict[str, Any]) -> None:
        """What `memory` gave."""
        self._silent = _Absent(**memory["silent"])
        self._down = {reason: _Absent(**absent) for reason, absent in memory["down"].items()}
        self._begun, self._compact = bool(memory["begun"]), tuple(map(int, memory["compact"]))

    def _title(self, name: Name) -> str:
        """The host, and who scanned it where a capture holds several scanners."""
        return f"{name[0]} (scanner {name[1]})" if len(self._scanners) > 1 and name[1] else name[0]

    def _absent(self, name: Name, host: Host, alone: bool) -> bool:
        """Whether a host is left for the end: down, or silent on every port (and not the only host there is)."""
        if self._everything or len(host) != 1:
            return False
        state, reason = next(iter(host))
        if state == State.DOWN.value:
            self._down.setdefault(reason, _Absent()).add(self._title(name))
            return True
        if (state, reason) != _SILENT or alone:
            return False
        self._silent.add(self._title(name))
        return True

    def _block(self, title: str, host: Host) -> str:
        hidden = sorted((-group.count, kind) for kind, group in host.items() if not group.rows)
        text = "\n" * self._begun + title + "\n"
        if hidden:
            text += "Not shown: " + ", ".join(_folded(-minus, *kind) for minus, kind in hidden) + "\n"
        rows = sorted((row for group in host.values() for row in group.rows), key=lambda row: row.port or 0)
        if rows:
            leads = [f"{_port(row):<{_PORT}}" for row in rows]
            cells = [_shared(row) for row in rows]
            head, lines, _ = _draw(f"{'PORT':<{_PORT}}", leads, cells, _FLOORS, self._stream.colour)
            text += head + "".join(lines)
        self._begun, self._compact = True, ()
        return text

    def _write_lines(self, hosts: list[tuple[str, Verdict]]) -> None:
        host_floor, *floors = self._compact or (_HOST, *_FLOORS)
        host = max(host_floor, *(len(title) for title, _ in hosts))
        leads = [f"{title:<{host}}  {_port(row):<{_PORT}}" for title, row in hosts]
        cells = [_shared(row) for _, row in hosts]
        lead = f"{'HOST':<{host}}  {'PORT':<{_PORT}}"
        head, lines, widths = _draw(lead, leads, cells, tuple(floors), self._stream.colour)
        self._stream.write(("" if self._compact else "\n" * self._begun + head) + "".join(lines))
        self._begun, self._compact = True, (host, *widths)


def _folded(count: int, state: str, reason: str) -> str:
    """`997 closed (reset)`; the firewall's resets already say what they are."""
    return f"{count:,} {state}" if state == FIREWALL_RESET else f"{count:,} {state} ({reason})"
