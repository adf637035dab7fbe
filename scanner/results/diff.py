"""What changed between two results: ports that opened, closed, appeared or vanished, host by host.

Both sides become columns (`gather`) and are joined by sorting, so a million rows cost some hundred megabytes and
a few seconds. States are compared; reasons only when asked for, because a router that words its
refusal differently has opened nothing. A target is *appeared* or *vanished* when only one side has a row for it at
all, which may mean no more than that the scans differed: `--open` leaves what matters either way.

`unknown` claims nothing, so a target that is unknown on one side is not compared, and that is told. A host that was
down and now has rows came up; its rows appeared.

Limits: one row stands for a target (the one that claims most), also where a capture holds several scanners. Two results
where silent rows were left out (more than 2^20 targets) show a port that fell silent as vanished.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import ScanError, UsageError
from ..output.jsonl import chunks
from ..output.stream import standard_output
from ..packet.addresses import word_text
from ..packet.headers import Bools, Ints, Rows
from ..targets.ports import service_name
from ..verdict.sentences import printable
from ..verdict.table import State
from .columns import HOST_ONLY, Gathering, host_numbers, same_target
from .read import read_results

FOLD = 25  # changes of one kind, none of them about an open port, that a host still shows one by one
OPEN, UNKNOWN, DOWN = State.OPEN.value, State.UNKNOWN.value, State.DOWN.value


class Change(Enum):
    """What happened to a target; the value is the word that is printed."""

    OPENED = "opened"
    CLOSED = "closed"  # was open and is not any more
    CHANGED = "changed"  # between states other than open
    REASON = "reason"
    APPEARED = "appeared"
    VANISHED = "vanished"
    UP = "up"
    DOWN = "down"


class Claim(NamedTuple):
    """One side of a change."""

    state: str
    reason: str


class Row(NamedTuple):
    """One change. `port` is None for a host as a whole; a side without a row is None."""

    ip: str
    port: int | None
    protocol: str
    change: Change
    old: Claim | None
    new: Claim | None


@dataclass(frozen=True)
class Comparison:
    """Two results side by side: the changed rows, and how many targets were the same or could not be compared."""

    rows: Iterable[Row]
    same: int
    unknown: int


def compare(gathering: Gathering, old: Rows, new: Rows, reasons: bool = False, only_open: bool = False) -> Comparison:
    """ROW columns of one gathering → the changes, by address, protocol and port. `reasons`: a new reason is one."""
    both = [gathering.strongest(rows) for rows in (old, new)]
    rows = np.concatenate(both)
    side = np.repeat([0, 1], [len(each) for each in both])
    order = np.lexsort((side, rows["port"], gathering.protocols()[rows["kind"]], rows["lo"], rows["hi"]))
    rows, side = rows[order], side[order]
    pair = same_target(gathering, rows)
    first = np.flatnonzero(~np.roll(pair, 1))  # where a target begins; the last row has no partner behind it
    here, there = rows["kind"][first], rows["kind"][first + pair[first]]
    was = np.where(side[first] == 0, here.astype(np.int64), -1)
    now = np.where(pair[first], there.astype(np.int64), np.where(side[first] == 1, here.astype(np.int64), -1))
    return _judge(gathering, rows[first], was, now, reasons, only_open)


def _judge(g: Gathering, rows: Rows, was: Ints, now: Ints, reasons: bool, only_open: bool) -> Comparison:
    """Targets with the kind on each side (-1: no row) → what changed."""
    kinds = [*g.kinds, ("", "", "", ())]  # -1 finds the last
    is_open, is_unknown = (np.array([kind[1] == state for kind in kinds]) for state in (OPEN, UNKNOWN))
    unknown = is_unknown[was] | is_unknown[now]
    state = _numbered(kind[1] for kind in kinds)
    differs = state[was] != state[now]
    if reasons:
        reason = _numbered(kind[2] for kind in kinds)
        differs |= reason[was] != reason[now]
    differs &= ~unknown
    chosen = differs & (is_open[was] | is_open[now]) if only_open else differs
    at = np.flatnonzero(chosen)
    came_or_went = _host_has_rows(rows, was, now)[at]
    found = _rows(kinds, rows[at], was[at], now[at], came_or_went)
    return Comparison(found, int(np.count_nonzero(~differs & ~unknown)), int(np.count_nonzero(unknown)))


def _numbered(words: Iterable[str]) -> npt.NDArray[np.uint32]:
    """Words as numbers, the same for the same."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(word, len(known)) for word in words], np.uint32)


def _host_has_rows(rows: Rows, was: Ints, now: Ints) -> Bools:
    """Whether the host of each row has rows on the side that this row is missing from."""
    host = host_numbers(rows)
    hosts = int(host[-1]) + 1 if len(host) else 0
    old, new = (np.bincount(host[side >= 0], minlength=hosts) > 0 for side in (was, now))
    return np.where(was < 0, old[host], new[host])


def _rows(
    kinds: list[tuple[str, str, str, tuple[str, ...]]], rows: Rows, was: Ints, now: Ints, known: Bools
) -> Iterator[Row]:
    columns = (rows["hi"], rows["lo"], rows["port"], was, now, known)
    for hi, lo, port, before, after, elsewhere in zip(*(column.tolist() for column in columns), strict=True):
        old = Claim(*kinds[before][1:3]) if before >= 0 else None
        new = Claim(*kinds[after][1:3]) if after >= 0 else None
        change = _change(old, new, port == HOST_ONLY and elsewhere)
        yield Row(
            word_text(hi, lo), None if port == HOST_ONLY else port, kinds[max(before, after)][0], change, old, new
        )


def _change(old: Claim | None, new: Claim | None, host_elsewhere: bool) -> Change:
    """The one word for a pair of claims. `host_elsewhere`: a host's own row, and the other side has its ports."""
    if old is None:
        return Change.DOWN if host_elsewhere else Change.APPEARED
    if new is None:
        return Change.UP if host_elsewhere else Change.VANISHED
    if old.state == new.state:
        return Change.REASON
    if new.state == OPEN:
        return Change.OPENED
    return Change.CLOSED if old.state == OPEN else Change.CHANGED


# ── what people and programs see ──


def json_line(row: Row) -> str:
    """One change as one line of JSON; what a side does not have is null."""
    keys = {"ip": row.ip, "port": row.port, "protocol": row.protocol, "change": row.change.value}
    if row.port is None:
        del keys["port"], keys["protocol"]
    for name, claim in (("old", row.old), ("new", row.new)):
        keys |= {f"{name}_state": claim and claim.state, f"{name}_reason": claim and claim.reason}
    return json.dumps(keys) + "\n"


def table(rows: Iterable[Row], everything: bool = False) -> Iterator[str]:
    """Changes as a block of lines a host; many of one kind, none of an open port, are a sum unless `everything`."""
    blank = ""
    for ip, changes in groupby(rows, lambda row: row.ip):
        yield blank + ip + "\n" + _block(list(changes), everything)
        blank = "\n"


def _block(rows: list[Row], everything: bool) -> str:
    kinds = Counter(_kind(row) for row in rows)
    folded = {kind: count for kind, count in kinds.items() if count > FOLD and OPEN not in kind[1:] and not everything}
    cells = [("PORT", "CHANGE", "OLD", "NEW", "SERVICE")]
    cells += [_cells(row) for row in rows if _kind(row) not in folded]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    sums = [
        f"Not shown: {count:,} {change.value} ({_from_to(old, new)})" for (change, old, new), count in folded.items()
    ]
    return "".join(line + "\n" for line in [*sums, *(lines if len(cells) > 1 else [])])


def _kind(row: Row) -> tuple[Change, str, str]:
    return row.change, row.old.state if row.old else "", row.new.state if row.new else ""


def _from_to(old: str, new: str) -> str:
    return printable(f"{old} → {new}" if old and new else old or new).replace("\\u2192", "→")


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    port = "-" if row.port is None else f"{row.port}/{printable(row.protocol)}"
    service = service_name(row.port) if row.port is not None and row.protocol == "tcp" else None
    return port, row.change.value, _claim(row.old), _claim(row.new), service or ""


def _claim(claim: Claim | None) -> str:
    return "-" if claim is None else printable(f"{claim.state} ({claim.reason})")


# ── the verb ──


@dataclass(frozen=True)
class DiffRequest:
    """The options of `halfopen diff` as they were typed."""

    old: str
    new: str
    form: str | None
    reasons: bool
    only_open: bool
    everything: bool
    quiet: bool


def run_diff(request: DiffRequest) -> int:
    """Compare two files of results: 0 nothing changed, 1 something did. Raises UsageError."""
    if request.form not in (None, "table", "jsonl"):
        raise UsageError(f"format {request.form!r} is not known here: use table or jsonl")
    if request.old == request.new == "-":
        raise UsageError("both sides are standard input: name a file for one of them")
    gathering = Gathering()
    old, new = (gathering.rows(read_results([path], _say)) for path in (request.old, request.new))
    found = compare(gathering, old, new, request.reasons, request.only_open)
    tally: Counter[Change] = Counter()
    rows = _counted(found.rows, tally)
    try:
        stream = standard_output()
        for text in chunks(map(json_line, rows) if request.form == "jsonl" else table(rows, request.everything)):
            stream.write(text)
    except ScanError as error:
        raise UsageError(str(error)) from error  # 1 is taken: it says "changed"
    if not request.quiet:
        _say(_summary(found, tally))
    return 1 if tally else 0


def _counted(rows: Iterable[Row], tally: Counter[Change]) -> Iterator[Row]:
    for row in rows:
        tally[row.change] += 1
        yield row


def _summary(found: Comparison, tally: Counter[Change]) -> str:
    counts = [f"{tally[change]:,} {change.value}" for change in Change if tally[change]]
    counts.append(f"{found.same:,} the same")
    return ", ".join(counts) + (f"; {found.unknown:,} unknown on one side, not compared" if found.unknown else "")


def _say(text: str) -> None:
    print(f"halfopen: {text}", file=sys.stderr)
