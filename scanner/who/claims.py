"""Which tool the SYNs of a prober show, and how likely chance is to show the same.

A claim needs three things: a mark that is there more often than chance allows, a contrast (the mark took at least
`LEAST_VALUES` different values, so it is no constant of some other program), and targets enough. The chance is that of
at least k marks among n packets where each has one with probability p. It is bounded by C(n, k) p^k. `MOST_CHANCE`
leaves room for a million probers in one capture.

What has no mark stays "not told". A missing mark claims nothing.

Limit: chance is what a sender of random values would show. A program that imitates another one is that other one here.
"""

from dataclasses import dataclass
from math import lgamma, log
from typing import NamedTuple

from ..packet.headers import Rows
from .marks import Look

MOST_CHANCE = -12.0  # log10
LEAST_VALUES = 3
_ALL_VALUES = 48  # so many of 64 bits: values may be many more
NMAP_TTLS = 23  # nmap draws the TTL from 37 to 59 (nmap, tcpip.cc: get_random_uint() % 23 + 37)
_WHOLE = (1 << 64) - 1
_REPEATS = 8  # a SYN is rarely sent more often
_HALF, _PORT = -16 * log(2), -14 * log(2)  # natural log of p: 16 equal bits; one of the 28,232 ports that Linux chooses
_STEP, _CLOCK, _SMALL = -28 * log(2), -17 * log(2), -2 * log(2)
_HANDSHAKE = -48 * log(2)  # a source port and a sequence number that fit

NMAP, NAABU, EITHER = "nmap -sS", "naabu", "nmap or naabu"
STACK = "system's own stack"
TOOLS = {
    Look.MASSCAN: "masscan",
    Look.ZMAP: "ZMap (before 2024)",
    Look.MIRAI: "Mirai or its heirs",
    Look.SCAPY: "Scapy (defaults)",
    Look.HALFOPEN: "halfopen",
    Look.HPING: "hping",
    Look.STACK: STACK,
}


class Claim(NamedTuple):
    """A tool, how many SYNs show it, the log10 of the chance (None: no number says it), and what was seen."""

    tool: str
    syns: int
    chance: float | None
    seen: str


@dataclass(frozen=True)
class Group:
    """One look of a prober: its GROUP row, and how many IPv4 SYNs the prober sent in all (`four`)."""

    look: Look
    row: Rows
    four: int

    def __getattr__(self, name: str) -> int:
        """A column of the row."""
        return int(self.row[name])

    @property
    def different(self) -> int:
        """At least so many different values the mark took."""
        return bin(int(self.row["values"])).count("1")

    @property
    def contrast(self) -> bool:
        """Sequence numbers that are not all the same, or a TTL that takes as few of many values as nmap draws from."""
        bits = int(self.row["ttls"])
        around = (bits >> n | bits << 64 - n for n in range(64))  # hops may lie anywhere: modulo 64
        narrow = min((each & _WHOLE).bit_length() for each in around) <= NMAP_TTLS
        return self.mirrored - self.same_seq >= LEAST_VALUES - 1 or (narrow and bits.bit_count() >= LEAST_VALUES)

    @property
    def independent(self) -> int:
        """At least so many SYNs that are no repeats of one another."""
        return max(self.different, self.syns // _REPEATS) if self.different >= _ALL_VALUES else self.different


def log10_chance(hits: int, trials: int, log_p: float) -> float:
    """log10 of C(trials, hits) p^hits, at most 0."""
    trials = max(trials, hits)
    ways = lgamma(trials + 1) - lgamma(hits + 1) - lgamma(trials - hits + 1)
    return min(0.0, (ways + hits * log_p) / log(10))


def claims_of(group: Group) -> list[Claim]:
    """The tools that one look of a prober shows; none if it shows nothing."""
    if group.look is Look.OTHER or group.different < LEAST_VALUES:
        return []
    found = _CLAIMS[group.look](group)
    return [claim for claim in found if claim.chance is None or claim.chance <= MOST_CHANCE]


def _by_identification(group: Group) -> list[Claim]:
    """Marks of 16 bits in every packet."""
    if group.look is Look.HALFOPEN and not group.four:
        return _our_ipv6(group)
    if group.look is Look.ZMAP and 2 * group.same_seq > group.compared:
        return []  # ZMap's sequence number is a hash of the target
    chance = log10_chance(group.independent, group.four, _HALF)
    return [Claim(TOOLS[group.look], group.syns, chance, _IDENTIFICATIONS[group.look])]


_IDENTIFICATIONS = {
    Look.MASSCAN: "IP ID is target address ^ port ^ sequence number",
    Look.ZMAP: "IP ID 54321, window 65535",
    Look.HALFOPEN: "IP ID is the folded sequence number",
}


def _our_ipv6(group: Group) -> list[Claim]:
    chance = log10_chance(group.same_port, group.compared, _PORT)
    return [Claim(TOOLS[group.look], group.syns, chance, "DSCP LE, Linux's options from one source port")]


def _by_sequence(group: Group) -> list[Claim]:
    """Marks of 32 bits in every packet."""
    seen = (
        "sequence number is the target address"
        if group.look is Look.MIRAI
        else "sequence number 0, IP ID 1, window 8192"
    )
    trials = max(group.four, group.syns)
    return [Claim(TOOLS[group.look], group.syns, log10_chance(group.independent, trials, 2 * _HALF), seen)]


def _nmap(group: Group) -> list[Claim]:
    """Window 1024 and MSS 1460 alone; how sequence numbers follow one another tells the two tools apart."""
    # One sequence number in all SYNs is no mask: other programs send a constant. nmap draws the TTL of each SYN.
    nmap = log10_chance(group.mirrored, group.compared, _HALF) if group.contrast else 0.0
    naabu = log10_chance(group.counted, group.compared, _STEP)
    found, rest = [], group.syns
    for tool, hits, chance, seen in (
        (NMAP, group.mirrored, nmap, "window 1024, MSS alone, one mask in all sequence numbers"),
        (NAABU, group.counted, naabu, "window 1024, MSS alone, sequence numbers count up"),
    ):
        if hits >= LEAST_VALUES - 1 and chance <= MOST_CHANCE:
            # The last packet before a change of hosts or hands has no successor of its kind.
            most = rest if 2 * hits >= group.compared else hits + 1
            found.append(Claim(tool, min(most, rest), chance, seen))
            rest -= found[-1].syns
    if rest >= LEAST_VALUES or not found:
        found.append(Claim(EITHER, rest, None, "window 1024, MSS alone"))
    return found


def _hping(group: Group) -> list[Claim]:
    """Random numbers below 2^31, or source ports that count up."""
    if 2 * group.same_seq > group.compared:
        return []
    small = log10_chance(group.independent, group.independent, _SMALL) if group.small == group.syns else 0.0
    ports = log10_chance(group.next_port, group.compared, _HALF)
    seen = "window 512, an acknowledgement number without ACK"
    return [Claim(TOOLS[Look.HPING], group.syns, min(small, ports), seen)]


def _stack(group: Group) -> list[Claim]:
    """Options of a system, and what only a stack does: it completes handshakes, or its clock goes on in repeats."""
    if 2 * group.same_port > group.compared or group.reset > group.completed:
        return []  # connect() takes another port for each connection, and does not reset what it asked for
    if group.completed:
        chance = log10_chance(group.completed, group.completed, _HANDSHAKE)
        return [Claim(STACK, group.syns, chance, "a system's options, completed handshakes")]
    chance = log10_chance(group.clocked, group.syns, _CLOCK)
    return [Claim(STACK, group.syns, chance, "a system's options, time stamps that go on when a SYN is repeated")]


_CLAIMS = {
    Look.MASSCAN: _by_identification,
    Look.ZMAP: _by_identification,
    Look.HALFOPEN: _by_identification,
    Look.MIRAI: _by_sequence,
    Look.SCAPY: _by_sequence,
    Look.NMAP: _nmap,
    Look.HPING: _hping,
    Look.STACK: _stack,
}
