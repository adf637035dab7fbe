"""Captures in, one row a prober out.

The verdicts are those of `classify`, from the same reading of the files. Rows are made for probers with at least
`min_targets` targets. The others are counted: senders of one SYN each, as in a flood with spoofed addresses, and
clients, whose connections carry data. No Python object is made for them.

Limits: a prober is an address. Several hosts behind one address are one row, and one host with several addresses is
several. The time between two probes is not looked at, so two scans on two days are one row.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..classifier.classification import Classification
from ..classifier.judge import Judged
from ..packet.addresses import to_text
from ..packet.headers import Bools, Frames, Ints
from ..packet.parse import parse
from ..targets.ports import format_ports
from ..verdict.ledger import Mark
from ..verdict.sentences import plural
from ..verdict.table import Reason, State, state_of
from .claims import Claim, Group, claims_of
from .gather import Probers
from .marks import Look
from .others import Kind, Others, Strays

DEFAULT_TARGETS = 3
MOST_SINGLE = 100  # addresses with one SYN each; more are summed up whatever the user asks for
STATES = ("open", "closed", "filtered", "no_response", "unknown")
_KINDS = {Kind.FIN: "FIN", Kind.NULL: "NULL", Kind.XMAS: "Xmas", Kind.ACK: "ACK", Kind.UDP: "UDP"}
CONNECTIONS, FULL, HALF_OPEN, SYN_ONLY = "connections with data", "full connections", "half-open", "SYN"
_BY_CHANCE = 1 << 14  # of so many SYNs, one may have another look by chance: there are three marks of 16 bits
_RATIO = 10  # so many times as many hosts as ports make it horizontal


@dataclass(frozen=True)
class ProberRow:
    """What is known of one prober. Times in ns since 1970, NEVER if no packet has one."""

    prober: str
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
class Sums:
    """Columns by number of the prober."""

    address: Ints
    first: Ints
    last: Ints
    packets: dict[str, Ints]  # SYN and the words of Kind
    states: Ints  # [n, STATES]
    targets: Ints
    hosts: Ints
    half_open: Ints  # targets
    completed: Ints
    talked: Ints  # hosts
    marked: Ints  # SYNs that look like a scanner's

    @property
    def talking(self) -> Bools:
        """Whose connections carry data."""
        return (self.completed > 0) & (2 * self.completed >= self.targets) & (2 * self.talked >= self.hosts)

    @property
    def clients(self) -> Bools:
        """Of these, who sends nothing that looks like a scanner's SYNs."""
        return self.talking & (self.marked * _BY_CHANCE <= self.packets[SYN_ONLY])


@dataclass
class Who:
    """One reading of captures (`-` is standard input)."""

    paths: list[str]
    min_targets: int = DEFAULT_TARGETS
    everything: bool = False  # clients too
    reading: Classification = field(init=False)
    left_out: list[str] = field(default_factory=list)  # what has no row, as sentences

    def __post_init__(self) -> None:
        self.reading = Classification(self.paths)
        addresses = self.reading.flows.addresses
        self._probers, self._others = Probers(addresses), Others(addresses)

    def rows(self) -> Iterator[ProberRow]:
        """Read everything; then the rows, those with the most probes first."""
        judged = self.reading.judged(self._see)
        self.reading.orphaned = 0  # the report would name an option that `who` does not have
        strays = self._others.probes(self.reading.flows, judged.target)
        for stray in strays:
            self._probers.probers.intern(stray.us, np.zeros_like(stray.us))
        sums = self._sums(judged, strays)
        listed = self._listed(sums)
        ports = self._ports(listed, strays)
        packets = sum(sums.packets.values())
        for number in listed[np.argsort(-np.asarray(packets)[listed], kind="stable")].tolist():
            yield self._row(sums, number, ports[number])

    def _see(self, frames: Frames) -> None:
        segments = parse(frames, Counter())
        self._probers.feed(frames, segments)
        self._others.feed(frames, segments)

    # ── sums by prober ──

    def _number(self, us: Ints) -> Ints:
        """The numbers of probers by their addresses."""
        return self._probers.probers.numbering.find(us.astype(np.uint64), np.zeros(len(us), np.uint64))

    def _sums(self, judged: Judged, strays: list[Strays]) -> Sums:
        probers, pairs = self._probers.probers, self._probers.pairs
        n = probers.numbering.count
        host_of = self._number(pairs.numbering.keys[:, 0].view(np.int64))
        prober = self._number(self.reading.flows.target_keys(judged.target).us)
        judged, prober = judged.take(prober >= 0), prober[prober >= 0]
        marks = judged.record["marks"]
        completed = marks & np.uint16(Mark.HANDSHAKE_COMPLETED) > 0
        states = np.zeros((n, len(STATES)), np.int64)
        np.add.at(states, (prober, _STATE_OF[judged.record["reason"]]), 1)
        rows = probers.rows
        sums = Sums(
            address=probers.numbering.keys[:, 0].astype(np.int64),
            first=rows["first"].copy(),
            last=rows["last"].copy(),
            packets={SYN_ONLY: rows["syns"].astype(np.int64)},
            states=states,
            targets=states.sum(1),
            hosts=np.bincount(host_of, minlength=n),
            half_open=np.bincount(prober[marks & np.uint16(Mark.HALF_OPEN) > 0], minlength=n),
            completed=np.bincount(prober[completed], minlength=n),
            talked=np.bincount(host_of[pairs.rows], minlength=n),
            marked=self._marked(n),
        )
        for stray in strays:
            self._add_stray(sums, stray)
        return sums

    def _marked(self, n: int) -> Ints:
        """SYNs of looks that no system's stack has, by prober."""
        keys, rows = self._probers.groups.numbering.keys, self._probers.groups.rows
        scanners = np.flatnonzero((keys[:, 1] != Look.OTHER) & (keys[:, 1] != Look.STACK))
        number = self._number(keys[scanners, 0].view(np.int64))
        return np.bincount(number, rows["syns"][scanners], n).astype(np.int64)

    def _add_stray(self, sums: Sums, stray: Strays) -> None:
        number, n = self._number(stray.us), len(sums.address)
        word = _KINDS[Kind(int(stray.kind[0]))]
        sums.packets[word] = np.bincount(number, stray.rows["packets"], n).astype(np.int64)
        sums.targets = sums.targets + np.bincount(number, minlength=n)
        np.minimum.at(sums.first, number, stray.rows["first"])
        np.maximum.at(sums.last, number, stray.rows["last"])
        pair = np.unique(np.stack([stray.us, stray.them], 1), axis=0)
        fresh = self._probers.pairs.numbering.find(*(column.astype(np.uint64) for column in pair.T)) < 0
        sums.hosts = sums.hosts + np.bincount(self._number(pair[fresh, 0]), minlength=n)

    # ── who gets a row ──

    def _listed(self, sums: Sums) -> Ints:
        """The numbers of the probers that get a row; the others are put into words."""
        packets = np.asarray(sum(sums.packets.values()))
        single = packets == 1
        few = sums.targets < self.min_targets
        if np.count_nonzero(single) > MOST_SINGLE:
            few |= single
        client = sums.clients & ~few & np.bool_(not self.everything)
        if single[few].any():
            self.left_out.append(self._flood(sums, np.flatnonzero(few & single)))
        others = np.flatnonzero(few & ~single)
        if others.size:
            probes = int(packets[others].sum())
            text = f"{plural(len(others), 'address')} with fewer than {self.min_targets} targets"
            self.left_out.append(f"{text}, {plural(probes, 'probe')}")
        if client.any():
            self.left_out.append(
                f"{plural(int(client.sum()), 'client')} whose connections carry data; --all lists them"
            )
        return np.flatnonzero(~few & ~client)

    def _flood(self, sums: Sums, single: Ints) -> str:
        """Senders of one packet each, and the host that got most of them."""
        text = f"{plural(len(single), 'address')} that sent one SYN each"
        keys = self._probers.pairs.numbering.keys
        host = keys[np.isin(keys[:, 0], sums.address[single].astype(np.uint64)), 1].astype(np.int64)
        if len(single) <= MOST_SINGLE or not host.size:
            return text
        hosts, count = np.unique(host, return_counts=True)
        most = int(np.argmax(count))
        name = to_text(self._probers.addresses.addresses(hosts[most : most + 1]))[0]
        return f"{text}, {int(count[most]):,} of them to {name}: a flood from spoofed addresses looks like this"

    def _ports(self, listed: Ints, strays: list[Strays]) -> dict[int, Ints]:
        """The ports of each listed prober."""
        keys = self._probers.ports.keys
        number, port = [self._number(keys[:, 0].view(np.int64))], [keys[:, 1].view(np.int64)]
        for stray in strays:
            number.append(self._number(stray.us))
            port.append(np.asarray(stray.port, np.int64))
        numbers, ports = np.concatenate(number), np.concatenate(port)
        wanted = np.isin(numbers, listed)
        numbers, ports = numbers[wanted], ports[wanted]
        order = np.argsort(numbers, kind="stable")
        begin = np.searchsorted(numbers[order], listed, "left").tolist()
        end = np.searchsorted(numbers[order], listed, "right").tolist()
        return {
            each: np.unique(ports[order[low:high]]) for each, low, high in zip(listed.tolist(), begin, end, strict=True)
        }

    # ── a row ──

    def _row(self, sums: Sums, number: int, ports: Ints) -> ProberRow:
        syns = int(sums.packets[SYN_ONLY][number])
        claims = self._claims(sums, number)
        kinds = {word: int(column[number]) for word, column in sums.packets.items() if column[number]}
        if syns:
            kinds = {self._syn_kind(sums, number): kinds.pop(SYN_ONLY), **kinds}
        return ProberRow(
            prober=to_text(self._probers.addresses.addresses(sums.address[number : number + 1]))[0],
            first=int(sums.first[number]),
            last=int(sums.last[number]),
            probes=sum(kinds.values()),
            targets=int(sums.targets[number]),
            hosts=int(sums.hosts[number]),
            ports=format_ports(ports),
            port_count=len(ports),
            kinds=kinds,
            states=tuple(sums.states[number].tolist()),
            claims=claims,
            not_told=syns - sum(claim.syns for claim in claims),
        )

    def _syn_kind(self, sums: Sums, number: int) -> str:
        half, full = int(sums.half_open[number]), int(sums.completed[number])
        if full > half:
            return CONNECTIONS if sums.talking[number] else FULL
        return HALF_OPEN if half else SYN_ONLY

    def _claims(self, sums: Sums, number: int) -> list[Claim]:
        """The tools that this prober's SYNs show, those with the most SYNs first."""
        table, address = self._probers.groups, np.uint64(sums.address[number])
        row = table.numbering.find(np.full(len(Look), address), np.arange(len(Look), dtype=np.uint64))
        four = int(self._probers.probers.rows["four"][number])
        found = [
            claim for look in Look if row[look] >= 0 for claim in claims_of(Group(look, table.rows[row[look]], four))
        ]
        found.sort(key=lambda claim: -claim.syns)
        # Chance gives one of 65,536 SYNs the mark of another tool.
        by_chance = int(self._probers.probers.rows["syns"][number]) - sum(claim.syns for claim in found)
        if found and by_chance * _BY_CHANCE <= found[0].syns:
            found[0] = found[0]._replace(syns=found[0].syns + by_chance)
        return found


def _state(reason: Reason) -> int:
    if reason in (Reason.NONE, Reason.NO_RESPONSE):
        return STATES.index("no_response")
    state = state_of(reason)
    return STATES.index("unknown" if state is State.DOWN else state.value)


_STATE_OF = np.array([_state(reason) for reason in Reason], np.int64)
