"""Captures in, one row a prober out.

The verdicts are those of `classify`, from the same reading of the files. Rows are made for probers with at least
`min_targets` targets. The others are counted: senders of one SYN each, as in a flood with spoofed addresses, and
clients, whose connections carry data. No Python object is made for them.

Limits: a prober is an address, outside or in one tunnel. Several hosts behind one address are one row, and one host
with several addresses is several. The time between two probes is not looked at, so two scans on two days are one row.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..capture.times import Period
from ..classifier.across import tunnel_texts
from ..classifier.addresses import among
from ..classifier.classification import Classification
from ..classifier.judge import joined
from ..classifier.leftover import SCAN
from ..packet.addresses import to_text
from ..packet.headers import Ints
from ..targets.ports import format_ports
from ..verdict.sentences import plural
from .claims import Claim, Group, claims_of
from .gather import Probers
from .sums import BY_CHANCE, SYN_ONLY, Sums, sums_of, target_counts

DEFAULT_TARGETS = 3
MOST_SINGLE = 100  # addresses with one SYN each; more are summed up whatever the user asks for
CONNECTIONS, FULL, HALF_OPEN = "connections with data", "full connections", "half-open"
_AT_ONCE = 1 << 18  # targets that are judged at once
_RATIO = 10  # so many times as many hosts as ports make it horizontal
_IPV6 = 1 << 32


@dataclass(frozen=True)
class ProberRow:
    """What is known of one prober. Times in ns since 1970, NEVER if no packet has one."""

    prober: str
    tunnel: str | None
    first: int
    last: int
    probes: int  # packets, repeats included
    targets: int
    hosts: int
    ports: str  # as `format_ports` writes them
    port_count: int
    kinds: dict[str, int]  # packets by kind
    states: tuple[int, ...]  # targets that got a SYN, by STATES
    claims: list[Claim]
    not_told: int  # SYNs that show no tool

    @property
    def shape(self) -> str:
        """horizontal: many hosts, few ports; vertical: the other way round; block: many of both."""
        if self.hosts >= _RATIO * self.port_count:
            return "horizontal"
        if self.port_count >= _RATIO * self.hosts:
            return "vertical"
        return "block" if self.hosts > 1 and self.port_count > 1 else "horizontal" if self.hosts > 1 else "vertical"

    @property
    def rate(self) -> float | None:
        """Probes per second from the first to the last; None for fewer than two moments."""
        return (self.probes - 1) * 1e9 / (self.last - self.first) if self.first < self.last else None


@dataclass
class Who:
    """One reading of captures (`-` is standard input)."""

    paths: list[str]
    min_targets: int = DEFAULT_TARGETS
    everything: bool = False  # clients too
    outer: bool = False  # what is inside tunnels is not looked at
    period: Period = field(default_factory=Period)
    reading: Classification = field(init=False)
    left_out: list[str] = field(default_factory=list)  # what has no row, as sentences

    def __post_init__(self) -> None:
        self.reading = Classification(self.paths, outer=self.outer, period=self.period)
        self._probers = Probers()

    def rows(self) -> Iterator[ProberRow]:
        """Read everything; then the rows, those with the most probes first."""
        judging, flows = self.reading.judging(self._probers.feed), self.reading.flows
        # The report would name an option that `who` does not have, and would say that scans are not judged.
        self.reading.orphaned = 0
        for word in flows.scanned:
            del flows.counts[word + SCAN]
        us = flows.target_keys(judging.target.astype(np.int64)).us
        address, targets = target_counts(us, flows.scanned.values())
        address = self._candidates(address, targets)
        del us, targets  # a flood has millions
        parts = judging.runs(_AT_ONCE)
        judged = joined([part.take(among(flows.target_keys(part.target).us, address)) for part in parts])
        sums = sums_of(address, judged, flows, self._probers)
        listed = self._listed(sums)
        begin, end = (np.searchsorted(sums.ports[0], listed, side) for side in ("left", "right"))
        order = np.lexsort((flows.addresses.ranks(sums.address[listed], flows.tunnels), -sums.probes[listed]))
        for at in order.tolist():
            yield self._row(sums, int(listed[at]), sums.ports[1][begin[at] : end[at]])

    # ── who gets a row ──

    def _candidates(self, address: Ints, targets: Ints) -> Ints:
        """The addresses that have targets enough; the others are put into words."""
        number, rows = self._probers.number(address), self._probers.probers.rows
        packets = (
            np.where(number >= 0, rows["syns"][number], 0).astype(np.int64) if len(rows) else np.zeros_like(number)
        )
        for scanned in self.reading.flows.scanned.values():
            np.add.at(packets, np.searchsorted(address, scanned.us), scanned.packets)
        single, few = packets == 1, targets < self.min_targets
        if np.count_nonzero(single) > MOST_SINGLE:
            few |= single
        if (few & single).any():
            hosts = rows["host"][number[few & single & (number >= 0)]]
            self.left_out.append(self._flood(int(np.count_nonzero(few & single)), hosts))
        others = few & ~single
        if others.any():
            text = f"{plural(int(others.sum()), 'address')} with fewer than {self.min_targets} targets"
            self.left_out.append(f"{text}, {plural(int(packets[others].sum()), 'probe')}")
        return address[~few]

    def _flood(self, count: int, hosts: Ints) -> str:
        """Senders of one packet each, and the host that got most of them."""
        text = f"{plural(count, 'address')} that sent one SYN each"
        if count <= MOST_SINGLE or not hosts.size:
            return text
        hosts = np.sort(hosts)
        begin = np.flatnonzero(np.diff(hosts, prepend=-1))
        times = np.diff(begin, append=len(hosts))
        most = int(np.argmax(times))
        name = to_text(self.reading.flows.addresses.addresses(hosts[begin[most] : begin[most] + 1]))[0]
        return f"{text}, {int(times[most]):,} of them to {name}: a flood from spoofed addresses looks like this"

    def _listed(self, sums: Sums) -> Ints:
        """Which candidates get a row."""
        ordinary = sums.ordinary & np.bool_(not self.everything)
        for which, words in (
            (ordinary & sums.talking, "whose connections carry data"),
            (ordinary & ~sums.talking & sums.polling, "that asked the same targets again and again"),
            (ordinary & ~sums.talking & ~sums.polling, "whose SYNs are only partly in the capture"),
        ):
            if which.any():
                self.left_out.append(f"{plural(int(which.sum()), 'client')} {words}; --all lists them")
        return np.flatnonzero(~ordinary)

    # ── a row ──

    def _row(self, sums: Sums, at: int, ports: Ints) -> ProberRow:
        syns = int(sums.packets[SYN_ONLY][at])
        claims = self._claims(int(sums.address[at]), syns)
        kinds = {word: int(column[at]) for word, column in sums.packets.items() if column[at]}
        if syns:
            kinds = {_syn_kind(sums, at): kinds.pop(SYN_ONLY), **kinds}
        address = sums.address[at : at + 1]
        (number,), tunnels = tunnel_texts(self.reading.flows, address)
        return ProberRow(
            prober=to_text(self.reading.flows.addresses.addresses(address))[0],
            tunnel=tunnels[number],
            first=int(sums.first[at]),
            last=int(sums.last[at]),
            probes=sum(kinds.values()),
            targets=int(sums.targets[at]),
            hosts=int(sums.hosts[at]),
            ports=format_ports(ports),
            port_count=len(ports),
            kinds=kinds,
            states=tuple(sums.states[at].tolist()),
            claims=claims,
            not_told=syns - sum(claim.syns for claim in claims),
        )

    def _claims(self, address: int, syns: int) -> list[Claim]:
        """The tools that this prober's SYNs show, those with the most SYNs first."""
        outside = int(self.reading.flows.addresses.outside(np.array([address]))[0][0])
        looks, four = self._probers.looks(address), syns if outside < _IPV6 else 0
        found = [claim for look, row in looks.items() for claim in claims_of(Group(look, row, four))]
        found.sort(key=lambda claim: -claim.syns)
        # Chance gives one of 65,536 SYNs the mark of another tool.
        by_chance = syns - sum(claim.syns for claim in found)
        if found and by_chance * BY_CHANCE <= found[0].syns:
            found[0] = found[0]._replace(syns=found[0].syns + by_chance)
        return found


def _syn_kind(sums: Sums, at: int) -> str:
    half, full = int(sums.half_open[at]), int(sums.completed[at])
    if full > half:
        return CONNECTIONS if sums.talking[at] else FULL
    return HALF_OPEN if half else SYN_ONLY
