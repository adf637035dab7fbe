"""What changed between two results: ports that opened, closed, appeared or vanished, host by host.

Both sides become columns (`columns`) and are joined by sorting, so a million rows cost some hundred megabytes and
a few seconds. States are compared. Reasons are compared only on request, because a router that words its
refusal in another way has opened nothing. A target has *appeared* or *vanished* if only one side has a row for it.
That may mean no more than that the scans differed; `--open` leaves only what matters.

`unknown` says nothing about a target, so a target that is unknown on one side is not compared but counted. A host that
was down and now has rows came up; its rows appeared.

Limits: one row stands for a target (the strongest, see `columns`), also where a capture holds several scanners. If two
results leave silent rows out (more than 2^20 targets), a port that fell silent shows as vanished.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from enum import Enum
from itertools import groupby
from typing import NamedTuple

import numpy as np

from ..capture.source import file_name
from ..errors import ScanError, UsageError, note
from ..output.jsonl import chunks
from ..output.stream import standard_output
from ..packet.addresses import word_text
from ..packet.headers import Bools, Ints, Rows
from ..targets.ports import services
from ..verdict.rows import Verdict
from ..verdict.sentences import printable, titled
from ..verdict.table import State
from .columns import HOST_ONLY, RowKind, Vocabulary, host_numbers, same_target, strongest, targets_only
from .read import Showing, read_results

_CHUNK = 1 << 16
FOLD = 25  # changes of one kind, none of them about an open port, that a host still shows one by one
_OPEN, _UNKNOWN = State.OPEN.value, State.UNKNOWN.value


class Change(Enum):
    """What happened to a target; the value is the word that is printed."""

    OPENED = "opened"
    CLOSED = "closed"  # was open and is not open now
    CHANGED = "changed"  # between states other than open
    REASON = "reason"
    APPEARED = "appeared"
    VANISHED = "vanished"
    UP = "up"
    DOWN = "down"


class Difference(NamedTuple):
    """One target that changed. `port` is None for a host as a whole; a side without a row is None."""

    ip: str
    port: int | None
    protocol: str
    change: Change
    old: RowKind | None
    new: RowKind | None
    tunnel: str | None = None  # the host was seen in it
    hostname: str | None = None  # the first one in either result


class Comparison(NamedTuple):
    """Two results side by side: what differs, and how many targets were the same or could not be compared."""

    differences: Iterable[Difference]
    same: int
    unknown: int
    notes: Sequence[str] = ()  # what was read only in part


# ── comparing ──


def compare(texts: Vocabulary, old: Rows, new: Rows, reasons: bool = False, only_open: bool = False) -> Comparison:
    """ROW or TARGET columns with the same texts → the differences, by address, protocol and port.

    `reasons`: a new reason for the same state is a change, too. `only_open`: only changes from or to open.
    """
    rows, was, now = _joined(texts, old, new)
    kinds = [*texts.kinds, RowKind("", "", "", ())]  # what -1, no row, finds at the end of the list
    is_open, is_unknown = (np.array([kind.state == state for kind in kinds]) for state in (_OPEN, _UNKNOWN))
    # A target that is unknown on one side may be anything there, so it neither changed nor stayed the same.
    unknown = is_unknown[was] | is_unknown[now]
    differs = _differ([kind.state for kind in kinds], was, now)
    if reasons:
        differs |= _differ([kind.reason for kind in kinds], was, now)
    differs &= ~unknown
    chosen = np.flatnonzero(differs & (is_open[was] | is_open[now]) if only_open else differs)
    elsewhere = _host_has_rows(rows, was, now)
    return Comparison(
        _differences(texts, rows[chosen], was[chosen], now[chosen], elsewhere[chosen]),
        same=int(np.count_nonzero(~differs & ~unknown)),
        unknown=int(np.count_nonzero(unknown)),
    )


def compared(
    sides: Iterable[tuple[Iterable[Verdict], str]], reasons: bool = False, only_open: bool = False
) -> Comparison:
    """The old and the new rows, each with the name of what they come from. Raises UsageError."""
    texts = Vocabulary()
    before, after = (_targets_of(texts.rows(rows), name) for rows, name in sides)
    return compare(texts, before, after, reasons, only_open)


def _joined(texts: Vocabulary, old: Rows, new: Rows) -> tuple[Rows, Ints, Ints]:
    """A row for each target of either side, and the number of its kind on the old and the new side (-1: no row)."""
    sides = [strongest(texts, targets_only(rows)) for rows in (old, new)]
    rows = np.concatenate(sides)
    side = np.repeat([0, 1], [len(rows) for rows in sides])
    order = np.lexsort((side, rows["port"], texts.protocols()[rows["kind"]], rows["tunnel"], rows["lo"], rows["hi"]))
    rows, side = rows[order], side[order]
    # Each side has a target once, so a target is one row, or an old row with the new one behind it.
    pair = same_target(texts, rows)
    first = np.flatnonzero(~np.roll(pair, 1))  # the last row has no partner behind it, so roll brings in False
    kind = rows["kind"].astype(np.int64)
    was = np.where(side[first] == 0, kind[first], -1)
    now = np.where(pair[first] | (side[first] == 1), kind[first + pair[first]], -1)
    return rows[first], was, now


def _differ(words: list[str], was: Ints, now: Ints) -> Bools:
    """Whether each target has different words on the two sides. Equal words have equal numbers."""
    number = {word: at for at, word in enumerate(words)}
    numbers = np.array([number[word] for word in words], np.int64)
    return np.asarray(numbers[was] != numbers[now])


def _host_has_rows(rows: Rows, was: Ints, now: Ints) -> Bools:
    """Whether the host of each row has rows on the side where this row is missing."""
    host = host_numbers(rows)
    old, new = (np.bincount(host[side >= 0], minlength=len(rows)) > 0 for side in (was, now))
    return np.where(was < 0, old[host], new[host])


def _differences(texts: Vocabulary, rows: Rows, was: Ints, now: Ints, elsewhere: Bools) -> Iterator[Difference]:
    every = (rows["hi"], rows["lo"], rows["port"], rows["tunnel"], was, now, elsewhere)
    kinds, tunnels = texts.kinds, texts.addresses
    for first in range(0, len(rows), _CHUNK):  # Python's numbers take ten times the memory of columns
        columns = (column[first : first + _CHUNK].tolist() for column in every)
        for hi, lo, port, tunnel, before, after, host_elsewhere in zip(*columns, strict=True):
            old, new = (kinds[at] if at >= 0 else None for at in (before, after))
            change = _change(old, new, port == HOST_ONLY and host_elsewhere)
            protocol = kinds[max(before, after)].protocol
            place = None if port == HOST_ONLY else port
            ip = word_text(hi, lo)
            name = texts.hostnames.get(ip)
            yield Difference(ip, place, protocol, change, old, new, tunnels[tunnel], name)


def _change(old: RowKind | None, new: RowKind | None, host_elsewhere: bool) -> Change:
    """The one word for both sides. `host_elsewhere`: a host's own row (down), and the other side has its ports."""
    if old is None:
        return Change.DOWN if host_elsewhere else Change.APPEARED
    if new is None:
        return Change.UP if host_elsewhere else Change.VANISHED
    if old.state == new.state:
        return Change.REASON
    if new.state == _OPEN:
        return Change.OPENED
    return Change.CLOSED if old.state == _OPEN else Change.CHANGED


# ── what people and programs see ──


def json_line(row: Difference) -> str:
    """One difference as one line of JSON; what a side does not have is null."""
    keys = {"ip": row.ip, "port": row.port, "protocol": row.protocol, "change": row.change.value}
    keys |= {name: value for name, value in (("tunnel", row.tunnel), ("hostname", row.hostname)) if value}
    if row.port is None:
        del keys["port"], keys["protocol"]
    for name, side in (("old", row.old), ("new", row.new)):
        keys |= {f"{name}_state": side and side.state, f"{name}_reason": side and side.reason}
    return json.dumps(keys) + "\n"


def table(rows: Iterable[Difference], everything: bool = False) -> Iterator[str]:
    """A block of lines for each host; many changes of one kind, none of an open port, are a sum unless `everything`."""
    blank = ""
    for host, changes in groupby(rows, _title):
        yield blank + host + "\n" + _block(list(changes), everything)
        blank = "\n"


def _title(row: Difference) -> str:
    name = titled(row.ip, row.hostname)
    return f"{name} in {printable(row.tunnel)}" if row.tunnel else name


def _block(rows: list[Difference], everything: bool) -> str:
    counts = Counter(map(_from_to, rows))
    folded = {key: count for key, count in counts.items() if count > FOLD and _OPEN not in key[1:] and not everything}
    text = ""
    for (change, old, new), count in folded.items():
        states = " → ".join(printable(state) for state in (old, new) if state)
        text += f"Not shown: {count:,} {change.value} ({states})\n"
    cells = [_cells(row) for row in rows if _from_to(row) not in folded]
    if not cells:
        return text
    cells.insert(0, ("PORT", "CHANGE", "OLD", "NEW", "SERVICE"))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        text += "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
    return text


def _from_to(row: Difference) -> tuple[Change, str, str]:
    """What is folded together: the change, and the state on each side."""
    return row.change, row.old.state if row.old else "", row.new.state if row.new else ""


def _cells(row: Difference) -> tuple[str, ...]:
    port = "-" if row.port is None else f"{row.port}/{printable(row.protocol)}"
    sides = (printable(f"{side.state} ({side.reason})") if side else "-" for side in (row.old, row.new))
    service = services().get(row.port) if row.port is not None and row.protocol == "tcp" else None
    return port, row.change.value, *sides, service or ""


# ── the verb ──


def run_diff(
    *, old: str, new: str, form: str | None, reasons: bool, only_open: bool, everything: bool, quiet: bool,
    showing: Showing = nullcontext,
) -> int:  # fmt: skip
    """`halfopen diff`, by its options: 0 if nothing changed, 1 if something did. Raises UsageError."""
    if form not in (None, "table", "jsonl"):
        raise UsageError(f"format {form!r} is not known here: use table or jsonl")
    if old == new == "-":
        raise UsageError("both sides are standard input: name a file for one of them")
    notes: list[str] = []
    try:
        with showing() as tell:
            sides = ((read_results([path], notes.append, tell), file_name(path)) for path in (old, new))
            comparison = compared(sides, reasons, only_open)
    finally:
        for line in notes:
            note(line)
    tally: Counter[Change] = Counter()
    rows = _counted(comparison.differences, tally)
    try:
        stream = standard_output()
        for text in chunks(map(json_line, rows) if form == "jsonl" else table(rows, everything)):
            stream.write(text)
    except ScanError as error:
        raise UsageError(str(error)) from error  # exit code 2: 1 says that something changed
    if not quiet:
        note(_summary(comparison, tally))
    return 1 if tally else 0


def _targets_of(rows: Rows, name: str) -> Rows:
    """TARGET columns of a result, ROW[n]. Raises UsageError where it has several rows of a target on purpose."""
    if rows["scan"].max(initial=0) > 1:
        raise UsageError(
            f"{name} holds several scans of a target (classify --gap), and diff compares one with another: "
            "choose one for each side with classify --since and --until"
        )
    return targets_only(rows)


def _counted(rows: Iterable[Difference], tally: Counter[Change]) -> Iterator[Difference]:
    for row in rows:
        tally[row.change] += 1
        yield row


def _summary(comparison: Comparison, tally: Counter[Change]) -> str:
    counts = [f"{tally[change]:,} {change.value}" for change in Change if tally[change]]
    text = ", ".join([*counts, f"{comparison.same:,} the same"])
    return text + (f"; {comparison.unknown:,} unknown on one side, not compared" if comparison.unknown else "")
