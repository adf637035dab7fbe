"""The rows of a batch, host by host: what the table and nmap's two formats (XML, grepable) are made of.

All three show a host's ports in order and only count what many ports share: more than 25 ports of one state and
reason are folded, `open` ports never, and a firewall's resets apart from the host's. So a file shows what the
screen shows. Rows are folded while the batch is read: a host with 65,535 closed ports holds 25 rows at most.

A host is up if it sent something itself. Silence proves nothing, and neither does an ICMP error that a router
sent; such a host is `unknown`. (nmap with -Pn calls it up.) A host is one entry for each batch, scanner, tunnel and
scan: a live scan gives whole hosts, but a capture that is read from a pipe may name a host again when more of it is
known.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from ..verdict.rows import Verdict
from ..verdict.table import RANK, Rank, Reason, State
from .jsonl import chunks
from .stream import Format, Summary

FOLD = 25  # ports of one state and reason that a host still shows one by one
FIREWALL_RESET = "closed (firewall reset)"
HOSTS = 64  # in one write
_OPEN, _CLOSED, _DOWN, _UNKNOWN = (state.value for state in (State.OPEN, State.CLOSED, State.DOWN, State.UNKNOWN))
_NO_REPLY = {reason.word for reason in Reason if RANK[reason] == Rank.SILENT}

# A host: address, scanner, tunnel, scan, vantage, capture.
_Name = tuple[str, str | None, str | None, int | None, str | None, str | None]
FoldKey = tuple[str, str]  # the state as shown, and the reason
# What many ports have in common: state, reason, TTL, service, evidence, and the router that sent an ICMP error.
Details = tuple[str, str, int | None, str | None, tuple[str, ...], str | None]


@dataclass(slots=True)
class PortGroup:
    """Ports of one host that share state and reason. `rows` is empty if they are too many to be shown."""

    state: str
    reason: str
    ports: list[int]
    rows: list[Verdict]


@dataclass(slots=True)
class HostRows:
    """The rows of one host in a batch. `reply`: the first row that proves the host up, or else its first row.

    `status`: `up`, `down` or `unknown`.
    """

    ip: str
    scanner: str | None  # whose packets a capture shows; None in a live scan
    tunnel: str | None  # that a capture shows the host in
    scan: int | None  # of these ports
    vantage: str | None  # from which it was scanned, if there are several
    capture: str | None  # that shows it, if there are several
    hostname: str | None  # that the user gave
    reply: Verdict
    status: str
    groups: dict[tuple[str, ...], PortGroup]  # by what rows share that are folded together

    def shown(self) -> list[Verdict]:
        """The rows that are not folded, by port; the row of a host that is down comes without a port."""
        return sorted((row for group in self.groups.values() for row in group.rows), key=lambda row: row.port or 0)

    def folded(self) -> list[PortGroup]:
        """The folded groups, the largest first."""
        groups = [group for group in self.groups.values() if not group.rows]
        return sorted(groups, key=lambda group: (-len(group.ports), min(group.ports)))


def details_of(row: Verdict) -> Details:
    """What the text of a port is made of, besides its number."""
    router = row.icmp_from if row.icmp_from != row.ip else None
    return row.state, row.reason, row.ttl, row.service, row.evidence, router


def fold_key(state: str, reason: str, evidence: tuple[str, ...]) -> FoldKey:
    """What rows share that are folded together."""
    if evidence and state == _CLOSED and "firewall-reset" in evidence:
        return FIREWALL_RESET, reason
    return state, reason


def gather(verdicts: Iterable[Verdict], everything: bool) -> list[HostRows]:
    """The hosts of a batch in address order; with `everything` nothing is folded."""
    hosts: dict[_Name, HostRows] = {}
    for verdict in verdicts:
        ip, port, state, reason, protocol, _, _, evidence, _, _, _, icmp_from, scanner, tunnel, *_ = verdict
        name = ip, scanner, tunnel, verdict.scan, verdict.vantage, verdict.capture
        host = hosts.get(name)
        if host is None:
            status = "down" if state == _DOWN else "unknown"
            host = hosts[name] = HostRows(*name, verdict.hostname, verdict, status, {})
        # A reply proves the host up, unless it is an ICMP error that a router sent, or proves nothing itself.
        if host.status != "up" and state != _UNKNOWN and reason not in _NO_REPLY and icmp_from in (None, ip):
            host.status, host.reply = "up", verdict
        of_tcp = protocol == "tcp"  # what else nmap scanned has no place among folded ports, and is few
        key = fold_key(state, reason, evidence) if of_tcp else (state, reason, protocol)
        group = host.groups.get(key)
        if group is None:
            group = host.groups[key] = PortGroup(state, reason, [], [])
        group.ports.append(port or 0)
        # A group that has grown too large to be shown keeps its ports only.
        if len(group.ports) <= FOLD or everything or state == _OPEN or not of_tcp:
            group.rows.append(verdict)
        else:
            group.rows.clear()
    return in_order(hosts.values())


def in_order(hosts: Iterable[HostRows]) -> list[HostRows]:
    """The hosts by address, and those of one address by scanner, tunnel, scan, vantage and capture."""
    return sorted(hosts, key=_address_order)


def _address_order(host: HostRows) -> tuple[int, int, int, int, str, int, str, str]:
    """IPv4 first, then IPv6, by number; then by scanner in the same way, and by the rest."""
    scanner = address_number(host.scanner) if host.scanner else (0, 0)
    rest = host.tunnel or "", host.scan or 0, host.vantage or "", host.capture or ""
    return *address_number(host.ip), *scanner, *rest


@lru_cache(maxsize=1 << 10)
def address_number(ip: str) -> tuple[int, int]:
    """The place of an address: IPv4 first, then by number."""
    parts = ip.split(".")
    if len(parts) == 4:  # five times as fast as ip_address, which a large batch feels
        a, b, c, d = map(int, parts)
        return 4, a << 24 | b << 16 | c << 8 | d
    return 6, int(ip_address(ip))


def format_by_host(
    everything: bool,
    head: str,
    host: Callable[[HostRows], str],
    end: Callable[[Summary, Counter[str]], str],
) -> Format:
    """A Format with one text for each host, for nmap's XML and grepable form. `end` also gets the hosts by status."""
    statuses: Counter[str] = Counter()

    def texts(verdicts: Iterable[Verdict]) -> Iterator[str]:
        hosts = gather(verdicts, everything)
        statuses.update(rows.status for rows in hosts)
        return chunks(map(host, hosts), HOSTS)

    def recall(memory: dict[str, Any]) -> None:
        statuses.update({str(status): int(count) for status, count in memory.items()})

    return Format(texts, head, lambda summary: end(summary, statuses), lambda: dict(statuses), recall)
