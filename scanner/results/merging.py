"""Which row stands for a target that several results have, and in which order rows are merged.

Shards, resumed parts, attempts, scanners and captures may say different things of one target. The rows are ranked as
replies are ranked in a scan: open, closed, filtered by an ICMP error, silent, silent and interrupted, words of other
scanners, an unproved SYN, other unknown rows. Of equal ranks the earliest reply stands. A row is taken as a whole; of
the others only evidence stays: a reply that lost becomes `conflict:<reason>`. A host that is down loses to any reply of
that host.

The result is a function of the set of rows. So neither the order of the files nor the steps in which they are merged
make a difference, and merging a result with itself changes nothing.

Limits: silence proves nothing, so a host may be down in one result and silent in another, and keeps both rows. What
captures count (`attempts`, the times of probes) is that of the row that stands, and not a sum.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from heapq import merge
from ipaddress import ip_address
from itertools import groupby
from operator import itemgetter

from ..verdict.evidence import Words
from ..verdict.rows import Verdict
from ..verdict.table import RANK, Rank, Reason, State

CONFLICT = "conflict:"
_OPEN, _CLOSED, _FILTERED, _UNKNOWN, _DOWN = (state.value for state in State)
_SPLIT = Reason.SPLIT_HANDSHAKE_SYN.word
_REPLIES = {reason.word for reason in Reason if RANK[reason] > Rank.SILENT}
_SAME = {Reason.CONN_REFUSED.word: Reason.RESET.word}  # what the kernel calls a reset
_RANKS = {_OPEN: 8, _CLOSED: 7, _FILTERED: 6, _UNKNOWN: 1, _DOWN: 0}
_SILENT, _INTERRUPTED, _OTHER, _UNPROVED = 5, 4, 3, 2
_NO_PORT = 1 << 16

Keyed = tuple[bytes, Verdict]


@lru_cache(maxsize=1 << 12)
def rank_of(state: str, reason: str, evidence: Words) -> int:
    """How much a row says: 8 open … 0 down."""
    if state == _FILTERED and reason == Reason.NO_RESPONSE.word:
        return _INTERRUPTED if "interrupted" in evidence else _SILENT
    if state == _UNKNOWN and reason == _SPLIT:
        return _UNPROVED
    return _RANKS.get(state, _OTHER)


def key_of(row: Verdict) -> bytes:
    """The key of a row as bytes. Their order is that of the addresses; what else a key has comes behind.

    The row of a host as a whole comes behind the rows of its ports.
    """
    port = _NO_PORT if row.port is None else row.port
    host = row.ip, row.tunnel, row.vantage, row.port is None
    return _whose(*host, row.scanner_ip, row.scan, row.capture, row.protocol) + port.to_bytes(3, "big")


@lru_cache(maxsize=1 << 12)
def _whose(
    ip: str, tunnel: str | None, vantage: str | None, whole: bool,
    scanner: str | None, scan: int | None, capture: str | None, protocol: str,
) -> bytes:  # fmt: skip
    address = ip_address(ip)
    host = bytes([address.version]) + address.packed + _ordered(tunnel) + _ordered(vantage) + bytes([whole])
    return host + _ordered(scanner) + (scan or 0).to_bytes(5, "big") + _ordered(capture) + _ordered(protocol)


def _ordered(text: str | None) -> bytes:
    """Text as bytes whose order is that of the text, also with other bytes behind it. None comes first."""
    return b"\0" if text is None else b"\1" + text.encode("utf-8", "surrogatepass").replace(b"\0", b"\0\1") + b"\0\0"


def side_by_side(runs: list[Iterator[Keyed]]) -> Iterator[Keyed]:
    """Runs, each in the order of its keys → one."""
    return merge(*runs, key=itemgetter(0))


def merged(rows: Iterable[Keyed]) -> Iterator[Verdict]:
    """Rows with their keys, in the order of the keys → each target once."""
    host, replied = None, False
    for _, group in groupby(rows, itemgetter(0)):
        row = one_of([row for _, row in group])
        if (row.ip, row.tunnel, row.vantage) != host:
            host, replied = (row.ip, row.tunnel, row.vantage), False
        if row.port is None and replied:
            continue
        replied = replied or _is_reply_of_host(row)
        yield row


def one_of(rows: list[Verdict]) -> Verdict:
    """The row that stands for all of these rows of one target, with what the others leave as evidence."""
    if len(rows) == 1 or len(different := list(dict.fromkeys(rows))) == 1:
        return rows[0]
    best = min(different, key=_order)
    first = _order(best)
    best = min((row for row in different if _order(row) == first), key=lambda row: repr(_without_conflicts(row)))
    lost = {word for row in different for word in row.evidence if word.startswith(CONFLICT)}
    lost |= {CONFLICT + _answer(row) for row in different if row.reason in _REPLIES}
    lost -= {CONFLICT + _answer(best)}
    if best.state == _OPEN:  # a SYN before the proof is no conflict (RFC 9293 3.5)
        lost -= {CONFLICT + _SPLIT}
    return best._replace(evidence=(*_without_conflicts(best).evidence, *sorted(lost)))


def _order(row: Verdict) -> tuple[int, float]:
    """The strongest comes first, and of equals the earliest."""
    return -rank_of(row.state, row.reason, row.evidence), float("inf") if row.time is None else row.time


def _answer(row: Verdict) -> str:
    return _SAME.get(row.reason, row.reason)


def _without_conflicts(row: Verdict) -> Verdict:
    return row._replace(evidence=tuple(word for word in row.evidence if not word.startswith(CONFLICT)))


def _is_reply_of_host(row: Verdict) -> bool:
    """Whether the host itself has answered, and not a router on the way."""
    if row.state in (_OPEN, _CLOSED):
        return True
    return row.state == _FILTERED and row.reason in _REPLIES and row.icmp_from == row.ip
