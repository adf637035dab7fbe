"""What replies show beyond the verdict, as words. Their sentences are in `sentences`.

The record of a target keeps what its replies showed as bits. The records of a host show more together.

Forged resets: probes carry a TOS byte that a Linux host copies into its own resets, and that netfilter's REJECT does
not copy. A marked reset was sent by a host itself. A reset without the mark is the firewall's only by contrast with at
least two marked ones of the same address, and only where nothing else explains it (`_contrast`):

- Paths and routers may clear the byte. Then a port is seen both ways, which withdraws every claim about the host. A
  live scan tests each contrast with further probes (`rows_to_check`) before it says the word.
- Other machines may answer for some ports. Then TTLs or header fields differ from those that REJECT writes.

Seen on Linux 6.18 with a router between, DSCP LE sent, as the prober gets it:

| who answers | TOS | TTL | IPv4 | IPv6 |
|---|---|---|---|---|
| the host, its own closed port | 0x04 | 63 | ID 0, DF | flow label not 0 |
| the host, REJECT in INPUT | 0 | 63 | ID 0, DF | flow label 0 |
| the router, REJECT in FORWARD | 0 | 64 | ID 0, DF | flow label 0 |
| the router, its own closed port | 0x04 | 64 | ID 0, DF | flow label not 0 |
| a host behind DNAT, its own closed port | 0x04 | 63 | ID 0, DF | flow label not 0 |
| the same, behind a router that clears the DSCP | 0 | 63 | ID 0, DF | flow label not 0 |

The ECN bits of the SYN are not copied, so they cannot be a second mark. Limit: over IPv4, a reset of a Linux host looks
like one of REJECT where a router always clears the byte for just some ports, or on the way to another machine that
answers for them, no farther away than the first.

Checksums: a host all of whose replies have a wrong one has a word for it. Routers and kernels drop such frames, so an
honest host would be reached by nobody. What offload leaves unfinished does not count (`checksum`).

All ports open: where nearly all of many probed ports are open with one fingerprint (TTL and window), a device in front
of the host answers for it, or a tarpit does.

Evidence never changes a state. Rows mostly share a few combinations of words, so combinations are translated once and
not rows.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet.checksum import wrong_checksums
from ..packet.headers import Bools, Frames, Ints, Rows
from ..packet.parse import Segments
from .ledger import Mark, blank, count_bits
from .table import RANK, Codes, Rank, Reason, classify_tcp

Words = tuple[str, ...]

LEAST_MARKED = 2  # resets with the mark, before one without it means anything
MOST_HOPS = 31  # from a firewall to the host behind it; a larger difference of TTLs means different initial values
CHECKS, TURNS = 8, 4  # probes that test a contrast: to ports of each kind, and at most to one port
_FEW_VALUES, _SMALL = 16, 1 << 17
MANY_PORTS, NEARLY_ALL = 20, 0.9  # of a host, before open ports mean that something answers for all of them

_PLAIN = (
    (Mark.HANDSHAKE_COMPLETED, "handshake-completed"),
    (Mark.HANDSHAKE_REFUSED, "handshake-refused"),
    (Mark.SILENT_AFTER_HANDSHAKE, "silent-after-handshake"),
    (Mark.HALF_OPEN, "half-open"),
    (Mark.QUOTE_TRUNCATED, "icmp-quote-truncated"),
    (Mark.LATE, "late"),
    (Mark.REPLY_NOT_CAPTURED, "reply-not-captured"),
)
_HOST_WORDS = ("firewall-reset", "host-reset", "ttl-differs", "all-open", "bad-checksum")


class HostFacts(NamedTuple):
    """What the replies of a host show together about each of its rows: bool[n] by word, in the order of _HOST_WORDS."""

    firewall_reset: Bools
    host_reset: Bools
    ttl_differs: Bools
    all_open: Bools
    bad_checksum: Bools

    def take(self, rows: Ints | Bools | slice) -> "HostFacts":
        """The given rows (indices, mask or slice)."""
        return HostFacts(*(fact[rows] for fact in self))


def host_facts(
    host: Ints, probed: Ints, records: Rows, tested: Bools | None = None, served: Bools | None = None
) -> HostFacts:
    """Rows of hosts numbered from 0: `host` int64[n], `probed` int64[hosts] ports probed, `records` RECORD[n].

    `tested` bool[hosts]: whose contrast further probes have tested; only they get a claim. None: nobody can test.
    `served` bool[n]: ports whose connections carried data. The host may have named them, as FTP servers do (RFC 959),
    so they do not count where nearly all ports are open.
    """
    hosts = len(probed)
    reset = records["reason"] == Reason.RESET
    marked, unmarked = _sides(records)
    contrast = _contrast(host, hosts, records)
    if tested is not None:
        contrast &= tested
    differs = reset & (records["ttl"] != _usual(host, hosts, reset, records["ttl"].astype(np.int64), 256)[host])
    if served is not None:
        probed = probed - np.bincount(host[served], minlength=hosts)
    all_open, bad_checksum = _all_open(host, probed, records, served), _bad_checksum(host, hosts, records)
    return HostFacts(unmarked & contrast[host], marked & contrast[host], differs, all_open, bad_checksum)


class Suspects(NamedTuple):
    """Probes that test contrasts, one row each: the row of the record, which of its probes (from 0), and the kind."""

    row: Ints
    turn: Ints
    unmarked: Bools


def rows_to_check(host: Ints, hosts: int, records: Rows) -> Suspects:
    """Which ports to probe again before a claim is made, for `hosts` hosts with `host` int64[n] and RECORD[n].

    For each host with a contrast these are CHECKS ports with the mark and CHECKS without it, spread over those that
    there are. Where there are fewer, ports are repeated, each at most TURNS times: every turn is to leave from another
    source port. A path that is chosen by ports then shows itself by a port that is seen both ways.
    """
    marked, unmarked = _sides(records)
    row = np.flatnonzero(_contrast(host, hosts, records)[host] & (marked | unmarked))
    group = host[row] * 2 + unmarked[row]
    row = row[np.argsort(group, kind="stable")]
    _, first, size = np.unique(np.sort(group), return_index=True, return_counts=True)
    count = np.minimum(CHECKS, TURNS * size)
    which = np.repeat(np.arange(len(first)), count)
    number = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)  # within the group
    first, size = first[which], size[which]
    many = size >= CHECKS
    chosen = row[first + np.where(many, number * size // CHECKS, number % size)]
    return Suspects(chosen, np.where(many, number % TURNS, number // size), unmarked[chosen])


def _sides(records: Rows) -> tuple[Bools, Bools]:
    """bool[n] each: resets with the mark, and resets without it."""
    reset, marks = records["reason"] == Reason.RESET, records["marks"]
    return reset & (marks & Mark.RESET_MARKED > 0), reset & (marks & Mark.RESET_UNMARKED > 0)


def _contrast(host: Ints, hosts: int, records: Rows) -> Bools:
    """bool[hosts]: the host marks its own resets, and only a firewall explains those without the mark."""
    marked, unmarked = _sides(records)
    contrast = np.bincount(host[marked], minlength=hosts) >= LEAST_MARKED
    contrast &= np.bincount(host[unmarked], minlength=hosts) > 0
    # A port whose resets came with and without the mark shows that something else decides about the byte.
    contrast &= np.bincount(host[marked & unmarked], minlength=hosts) == 0
    # netfilter's REJECT sets DF, and leaves identification and flow label 0 (nf_reject_ipv4.c, nf_reject_ipv6.c).
    odd = unmarked & (records["marks"] & Mark.RESET_ODD > 0)
    contrast &= np.bincount(host[odd], minlength=hosts) == 0
    # One stack sent all marked resets, and one all the others: it runs on the host or on a router before it.
    ttl = records["ttl"].astype(np.int64)
    (far, far_most), (near, near_most) = (_range(host, hosts, rows, ttl) for rows in (marked, unmarked))
    return np.asarray(contrast & (far == far_most) & (near == near_most) & (near >= far) & (near - far <= MOST_HOPS))


def _range(host: Ints, hosts: int, rows: Bools, value: Ints) -> tuple[Ints, Ints]:
    """The least and the largest value of each host among `rows`; without meaning where it has none."""
    least, most = np.full(hosts, np.iinfo(np.int64).max), np.full(hosts, -1)
    np.minimum.at(least, host[rows], value[rows])
    np.maximum.at(most, host[rows], value[rows])
    return least, most


def _all_open(host: Ints, probed: Ints, records: Rows, served: Bools | None) -> Bools:
    hosts = len(probed)
    opened = RANK[records["reason"]] == Rank.OPEN
    if served is not None:
        opened &= ~served
    fingerprint = records["ttl"].astype(np.int64) << 16 | records["window"]
    same = opened & (fingerprint == _usual(host, hosts, opened, fingerprint, 1 << 24)[host])
    everywhere = (np.bincount(host[same], minlength=hosts) >= NEARLY_ALL * probed) & (probed >= MANY_PORTS)
    return np.asarray(same & everywhere[host])


def _bad_checksum(host: Ints, hosts: int, records: Rows) -> Bools:
    """Replies with a wrong checksum, of hosts that sent no other ones."""
    wrong, passed = (records["marks"] & mark > 0 for mark in (Mark.CHECKSUM_WRONG, Mark.CHECKSUM_PASSED))
    return np.asarray(wrong & (np.bincount(host[passed], minlength=hosts) == 0)[host])


def _usual(host: Ints, hosts: int, rows: Bools, value: Ints, limit: int) -> Ints:
    """The most frequent value (below `limit`) of each host among `rows`, the larger at a tie; -1: there is none."""
    pairs, count = np.unique(host[rows] * limit + value[rows], return_counts=True)
    usual = np.full(hosts, -1, np.int64)
    order = np.argsort(count, kind="stable")  # the most frequent is written last
    usual[pairs[order] // limit] = pairs[order] % limit
    return usual


def marks_of(frames: Frames, segments: Segments, tos: int) -> npt.NDArray[np.uint16]:
    """Mark bits that single replies show: resets by their IP header, SYN/ACKs with a closed window, wrong checksums.

    `frames`: what the segments were parsed from. `tos`: the byte that probes carry, 0 if they carry no mark.
    """
    tcp = classify_tcp(segments.flags)
    reset = ~segments.icmp & (tcp == Reason.RESET)
    bits = np.where((tcp == Reason.SYN_ACK) & (segments.window == 0), Mark.ZERO_WINDOW, 0).astype(np.uint16)
    bits |= np.where(reset & ~segments.plain, Mark.RESET_ODD, 0).astype(np.uint16)
    wrong = wrong_checksums(frames, segments)
    bits |= np.where(segments.icmp, 0, Mark.CHECKSUM_PASSED).astype(np.uint16)
    if wrong.any():
        bits[wrong] = bits[wrong] & ~np.uint16(Mark.CHECKSUM_PASSED) | np.uint16(Mark.CHECKSUM_WRONG)
    if tos:
        marked = segments.tos == tos
        bits |= np.where(reset & marked, Mark.RESET_MARKED, 0).astype(np.uint16)
        bits |= np.where(reset & ~marked, Mark.RESET_UNMARKED, 0).astype(np.uint16)
    return bits


def records_of(segments: Segments, reason: Codes) -> Rows:
    """RECORD[n] of replies, without their marks and details."""
    record = blank(len(segments))
    record["reason"], record["time"], record["port"] = reason, segments.time, segments.dport
    record["window"], record["ttl"], record["pass"] = segments.window, segments.ttl, 1
    return record


def repeated(records: Rows) -> Bools:
    """RECORD[n] → which targets sent more replies than they got probes.

    Two replies that differ are a conflict, not a repeat: each reason that was seen has one reply of its own.
    """
    repeat = records["marks"] & Mark.REPEAT > 0
    several = np.flatnonzero(records["replies"] > 1)
    expected = np.maximum(*(count_bits(records[name][several]) for name in ("passes", "seen")))
    repeat[several] |= records["replies"][several] > expected
    return np.asarray(repeat)


def words_of(records: Rows, facts: HostFacts) -> list[Words]:
    """The evidence of each record: RECORD[n] and what its host shows → n tuples of words."""
    table, number = numbered_words(records, facts)
    return list(map(table.__getitem__, number.tolist()))


def numbered_words(records: Rows, facts: HostFacts) -> tuple[list[Words], Ints]:
    """The same as a table of tuples, and the place of each record's there."""
    # All that decides the words of a row as a 64-bit key: the reasons that lost (from bit 32), marks (16), reason (8),
    # a repeat (7), and what the host shows (from 0).
    repeat = repeated(records)
    lost = records["seen"] & ~np.left_shift(np.uint32(1), records["reason"].astype(np.uint32))
    host_bits = sum(np.where(fact, np.uint64(1 << bit), np.uint64(0)) for bit, fact in enumerate(facts))
    key = lost.astype(np.uint64) << np.uint64(32) | records["marks"].astype(np.uint64) << np.uint64(16)
    key |= records["reason"].astype(np.uint64) << np.uint64(8) | repeat.astype(np.uint64) << np.uint64(7) | host_bits
    values, number = distinct(key.view(np.int64))
    return [_words(value & (1 << 64) - 1) for value in values.tolist()], number


def distinct(values: Ints) -> tuple[Ints, Ints]:
    """The distinct values, ascending, and the place of each value among them. Fast where they are few, or small."""
    if len(values) and values.min() >= 0 and values.max() < _SMALL:
        there = np.zeros(_SMALL, np.bool_)
        there[values] = True
        return np.flatnonzero(there), (np.cumsum(there) - 1)[values]
    few: list[int] = []
    number, rest = np.zeros(len(values), np.int64), np.arange(len(values))
    while rest.size and len(few) < _FEW_VALUES:
        few.append(int(values[rest[0]]))
        other = values[rest] != few[-1]
        rest = rest[other]
        number[rest] += 1
    if rest.size:
        ascending, number = np.unique(values, return_inverse=True)
        return ascending, number.ravel()
    column = np.array(few, np.int64)
    order = np.argsort(column)
    return column[order], np.argsort(order)[number]


def _words(key: int) -> Words:
    lost, marks, reason, repeat = key >> 32, key >> 16 & 0xFFFF, key >> 8 & 0xFF, key >> 7 & 1
    words = [word for bit, word in enumerate(_HOST_WORDS) if key >> bit & 1]
    words += [word for mark, word in _PLAIN if marks & mark]
    if reason == Reason.UNPROVED_SYN:
        words.append("unverified")
    if RANK[reason] == Rank.OPEN and marks & Mark.ZERO_WINDOW:
        words.append("syn-proxy")
    if RANK[reason] == Rank.OPEN:  # a SYN before the proof, or in a simultaneous open (RFC 9293 3.5), is no conflict
        lost &= ~(1 << Reason.UNPROVED_SYN | 1 << Reason.SPLIT_HANDSHAKE_SYN)
    lost &= ~(1 << Reason.REPLY_NOT_CAPTURED)  # it is no answer
    words += [f"conflict:{other.word}" for other in Reason if lost >> other & 1]
    return (*words, "repeat") if repeat else tuple(words)
