"""What happened to a target between two results: the words, what to look at first, and how both are printed.

A person who reads a comparison every morning acts on some changes and not on others. So each change belongs to a group
by what it means: a port that is open now and was not, a target that can be reached now and could not, one that is gone,
and the rest. `group_of` decides this from the two sides alone, for `diff`, its JSON lines, `--fail-on` and the page of
`report --since`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import groupby
from typing import NamedTuple

from ..output.layout import WIDE
from ..targets.ports import services
from ..verdict.sentences import placed, printable, titled
from ..verdict.table import State
from .columns import RowKind

FOLD = 25  # changes of one kind, none of them about an open port, that a host still shows one by one
_OPEN, _CLOSED = State.OPEN.value, State.CLOSED.value


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
    MOVED = "moved"  # a name that leads to another address


class Group(Enum):
    """What a change means, in the order in which one acts on it; the value is the word of --fail-on and JSON lines."""

    OPENED = "opened"
    REACHABLE = "reachable"
    GONE = "gone"
    OTHER = "other"


HEADINGS = {
    Group.OPENED: "Newly open",
    Group.REACHABLE: "Newly reachable",
    Group.GONE: "No longer open or reachable",
    Group.OTHER: "Other changes",
}


def change_of(old: RowKind | None, new: RowKind | None, host_elsewhere: bool = False) -> Change:
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


def group_of(change: Change, old: RowKind | None, new: RowKind | None) -> Group:
    """The group of a change, by both sides of its target (None: no row). Pure.

    *opened*: open now, and not before. *reachable*: the host answers with a reset now, and was silent, filtered or
    without a row; or it came up. *gone*: the reverse of these two. A reset that a firewall forged reaches nothing.
    """
    if change in (Change.UP, Change.DOWN):
        return Group.REACHABLE if change is Change.UP else Group.GONE
    before, after = _reach(old), _reach(new)
    if after == before:
        return Group.OTHER
    if after < before:
        return Group.GONE
    return Group.OPENED if after == _reach_of_open else Group.REACHABLE


_reach_of_open = 2


def _reach(side: RowKind | None) -> int:
    """How far a probe gets: 2 to a service, 1 to the host, 0 to neither, as far as anybody can tell."""
    if side is None:
        return 0
    if side.state == _OPEN:
        return _reach_of_open
    return int(side.state == _CLOSED and "firewall-reset" not in side.evidence)


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
    old_ip: str | None = None  # the address in the old result, if it was another one
    vantage: str | None = None
    capture: str | None = None

    @property
    def group(self) -> Group:
        """What the change means."""
        return group_of(self.change, self.old, self.new)


def json_line(row: Difference) -> str:
    """One difference as one line of JSON; what a side does not have is null."""
    keys = {"ip": row.ip, "port": row.port, "protocol": row.protocol, "change": row.change.value}
    keys["group"] = row.group.value
    keys |= {
        name: value for name in ("tunnel", "vantage", "capture", "hostname", "old_ip") if (value := getattr(row, name))
    }
    if row.port is None:
        del keys["port"], keys["protocol"]
    for name, side in (("old", row.old), ("new", row.new)):
        keys |= {f"{name}_state": side and side.state, f"{name}_reason": side and side.reason}
    return json.dumps(keys) + "\n"


def table(rows: Iterable[Difference], everything: bool = False) -> Iterator[str]:
    """A heading for each group, and a block of lines for each host; rows come by group.

    Many changes of one kind, none of an open port, are a sum unless `everything`.
    """
    blank = ""
    for group, changes in groupby(rows, lambda row: row.group):
        yield f"{blank}{HEADINGS[group]}:\n"
        blank = "\n"
        for host, of_host in groupby(changes, _title):
            yield f"\n{host}\n{_block(list(of_host), everything)}"


def _title(row: Difference) -> str:
    name = titled(row.ip, row.hostname) + (f", was {row.old_ip}" if row.old_ip else "")
    return placed(name, row.tunnel, row.vantage, row.capture)


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
    if sum(widths) + 2 * (len(widths) - 1) > WIDE:  # the port says as much as the name of its service
        cells, widths = [line[:-1] for line in cells], widths[:-1]
    for line in cells:
        text += "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
    return text


def _from_to(row: Difference) -> tuple[Change, str, str]:
    """What is folded together: the change, and the state on each side."""
    return row.change, row.old.state if row.old else "", row.new.state if row.new else ""


def _cells(row: Difference) -> tuple[str, ...]:
    if row.change is Change.MOVED:
        return "-", row.change.value, row.old_ip or "-", row.ip, ""
    port = "-" if row.port is None else f"{row.port}/{printable(row.protocol)}"
    sides = (printable(f"{side.state} ({side.reason})") if side else "-" for side in (row.old, row.new))
    service = services().get(row.port) if row.port is not None and row.protocol == "tcp" else None
    return port, row.change.value, *sides, service or ""
