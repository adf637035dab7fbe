"""What changed between two results: ports that opened, closed, appeared or vanished, by what to look at first.

Both sides become columns (`columns`) and are joined by sorting, so a million rows cost some hundred megabytes and
a few seconds. A target is an address, a tunnel, a vantage point, a capture, a protocol and a port; `moved` follows
names to other addresses. States are compared. Reasons are compared only on request, because a router that words its
refusal in another way has opened nothing. Names of services are not compared: a scanner looks them up by the port
number, and nmap's list and IANA's name one port differently (`msrpc`, `epmap`). A target has *appeared* or *vanished*
if only one side has a row for it. That may mean no more than that the scans differed; `--open` keeps what matters.

`unknown` says nothing about a target, so a target that is unknown on one side is not compared but counted. A host that
was down and now has rows came up; its rows appeared.

Limits: one row stands for a target (the strongest, see `columns`), also where a capture holds several scanners. If two
results leave silent rows out (more than 2^20 targets), a port that fell silent shows as vanished.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import UsageError
from ..packet.addresses import word_text
from ..packet.headers import Bools, Ints, Rows
from ..verdict.rows import Verdict
from ..verdict.table import State
from .changes import Change, Difference, Group, change_of, group_of
from .columns import HOST_ONLY, TARGET, RowKind, Vocabulary, host_numbers, same_target, strongest, targets_only
from .moved import Address, Moves, followed, moves_between

Place = tuple[str | None, str | None, str | None]  # tunnel, vantage point, capture

_CHUNK = 1 << 16
_OPEN, _UNKNOWN = State.OPEN.value, State.UNKNOWN.value
_CHANGES, _GROUPS = list(Change), list(Group)


class Comparison(NamedTuple):
    """Two results side by side: what differs, and how many targets were the same or could not be compared."""

    differences: Iterable[Difference]
    same: int
    unknown: int
    notes: Sequence[str] = ()  # what was read only in part


def compare(texts: Vocabulary, old: Rows, new: Rows, reasons: bool = False, only_open: bool = False) -> Comparison:
    """ROW or TARGET columns with the same texts → the differences, by group (`changes`), address, protocol and port.

    `reasons`: a new reason for the same state is a change, too. `only_open`: only changes from or to open.
    """
    sides = targets_only(old), targets_only(new)
    places = _places(texts, *sides)
    before, after = (strongest(texts, rows) for rows in sides)
    moves = moves_between(before, after)
    rows, was, now = _joined(texts, followed(before, moves), after)
    kinds = [*texts.kinds, RowKind("", "", "", ())]  # what -1, no row, finds at the end of the list
    is_open, is_unknown = (np.array([kind.state == state for kind in kinds]) for state in (_OPEN, _UNKNOWN))
    # A target that is unknown on one side may be anything there, so it neither changed nor stayed the same.
    unknown = is_unknown[was] | is_unknown[now]
    differs = _differ([kind.state for kind in kinds], was, now)
    if reasons:
        differs |= _differ([kind.reason for kind in kinds], was, now)
    differs &= ~unknown
    chosen = np.flatnonzero(differs & (is_open[was] | is_open[now]) if only_open else differs)
    elsewhere = _host_has_rows(rows, was, now)[chosen] & (rows["port"][chosen] == HOST_ONLY)
    change, group = _judged(kinds, was[chosen], now[chosen], elsewhere)
    order = np.argsort(group, kind="stable")
    chosen, judged = chosen[order], (change[order], group[order])
    shown = _Shown(texts, places, moves, with_moves=not only_open)
    return Comparison(
        _differences(shown, rows[chosen], was[chosen], now[chosen], judged),
        same=int(np.count_nonzero(~differs & ~unknown)),
        unknown=int(np.count_nonzero(unknown)),
    )


def compared(
    sides: Iterable[tuple[Iterable[Verdict], str]], reasons: bool = False, only_open: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Comparison:  # fmt: skip
    """The old and the new rows, each with the name of what they come from. Raises UsageError.

    `tell` gets a line for results that hardly can be compared.
    """
    texts = Vocabulary()
    return compare_sides(texts, ((texts.rows(rows), name) for rows, name in sides), reasons, only_open, tell)


def compare_sides(
    texts: Vocabulary, sides: Iterable[tuple[Rows, str]], reasons: bool = False, only_open: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Comparison:  # fmt: skip
    """The same of ROW columns with the same texts."""
    (before, old), (after, new) = ((_targets_of(rows, name), name) for rows, name in sides)
    _check_alike(before, after, old, new, tell)
    return compare(texts, before, after, reasons, only_open)


def _targets_of(rows: Rows, name: str) -> Rows:
    """TARGET columns of a result, ROW[n]. Raises UsageError where it has several rows of a target on purpose."""
    if rows["scan"].max(initial=0) > 1:
        raise UsageError(
            f"{name} holds several scans of a target (classify --gap), and diff compares one with another: "
            "choose one for each side with classify --since and --until"
        )
    return targets_only(rows)


def _check_alike(before: Rows, after: Rows, old: str, new: str, tell: Callable[[str], None]) -> None:
    """Say where two results look as if nobody scanned the same targets twice: then every row is a change.

    Raises UsageError where some rows have a vantage point and others have none: they would never meet.
    """
    sides = [(np.unique(rows["vantage"] > 0).tolist(), name) for rows, name in ((before, old), (after, new))]
    for found, name in sides:
        if len(found) == 2:
            raise UsageError(f"{name} has rows with a vantage point and rows without: give a file of one kind")
    if len({tuple(found) for found, _ in sides if found}) == 2:
        raise UsageError(f"only one of {old} and {new} has vantage points: give two files of one kind")
    if not len(before) or not len(after):
        return  # whoever read them has said so
    ports = [set(np.unique(rows["port"]).tolist()) - {HOST_ONLY} for rows in (before, after)]
    if all(ports) and not ports[0] & ports[1]:
        tell(f"{old} and {new} have no port in common: were the same ports scanned?")
    elif (
        not np.isin(before["lo"], after["lo"]).any()
        and not np.isin(before["name"], after["name"][after["name"] > 0]).any()
    ):
        tell(f"{old} and {new} have no address in common: were the same hosts scanned?")


def _joined(texts: Vocabulary, old: Rows, new: Rows) -> tuple[Rows, Ints, Ints]:
    """A row for each target of either side, and the number of its kind on the old and the new side (-1: no row)."""
    rows = np.concatenate([old, new])
    side = np.repeat([0, 1], [len(old), len(new)])
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


def _judged(kinds: list[RowKind], was: Ints, now: Ints, elsewhere: Bools) -> tuple[Ints, Ints]:
    """The numbers of change and group of each row. Few combinations of sides occur, and each is judged once."""
    many = len(kinds)
    combinations, number = np.unique(((was + 1) * many + now + 1) * 2 + elsewhere, return_inverse=True)
    found = np.zeros((2, len(combinations)), np.int64)
    for at, combination in enumerate(combinations.tolist()):
        sides, host_elsewhere = divmod(combination, 2)
        old, new = (kinds[side - 1] if side else None for side in divmod(sides, many))
        change = change_of(old, new, bool(host_elsewhere))
        found[:, at] = _CHANGES.index(change), _GROUPS.index(group_of(change, old, new))
    change_number, group_number = found[:, number.reshape(-1)]
    return change_number, group_number


class _Shown(NamedTuple):
    """What differences are written with."""

    texts: Vocabulary
    places: list[Place]
    moves: Moves
    with_moves: bool


def _differences(shown: _Shown, rows: Rows, was: Ints, now: Ints, judged: tuple[Ints, Ints]) -> Iterator[Difference]:
    """The rows as differences. Hosts that moved come first in the last group, to which they belong."""
    change, group = judged
    came = {new: word_text(*old) for old, new in shown.moves.items()}
    last = int(np.searchsorted(group, _GROUPS.index(Group.OTHER)))
    every = (rows["hi"], rows["lo"], rows["port"], rows["tunnel"], was, now, change)
    yield from _some(shown, [column[:last] for column in every], came)
    for new in sorted(came) if shown.with_moves else ():
        ip = word_text(*new)
        yield Difference(ip, None, "", Change.MOVED, None, None, None, shown.texts.hostnames.get(ip), came[new])
    yield from _some(shown, [column[last:] for column in every], came)


def _some(shown: _Shown, every: list[Any], came: dict[Address, str]) -> Iterator[Difference]:
    kinds, names = shown.texts.kinds, shown.texts.hostnames
    for first in range(0, len(every[0]), _CHUNK):  # Python's numbers take ten times the memory of columns
        columns = (column[first : first + _CHUNK].tolist() for column in every)
        for hi, lo, number, place, before, after, change in zip(*columns, strict=True):
            old, new = (kinds[at] if at >= 0 else None for at in (before, after))
            protocol = kinds[max(before, after)].protocol
            port = None if number == HOST_ONLY else number
            ip, was_at = word_text(hi, lo), None if place else came.get((hi, lo))
            tunnel, *seen = shown.places[place]
            yield Difference(ip, port, protocol, _CHANGES[change], old, new, tunnel, names.get(ip), was_at, *seen)


def _places(texts: Vocabulary, *sides: Rows) -> list[Place]:
    """Put one number for tunnel, vantage point and capture into the column `tunnel`; what the numbers stand for.

    0 is none of them. Few results have a vantage point or a capture; the others keep the numbers of their tunnels.
    """
    if len(texts.vantages) == len(texts.captures) == 1:
        return [(tunnel, None, None) for tunnel in texts.addresses]
    every = np.concatenate([np.zeros(1, TARGET), *sides])[["tunnel", "vantage", "capture"]]
    found, number = np.unique(every, return_inverse=True)
    before, after = np.split(number.reshape(-1)[1:], [len(sides[0])])
    sides[0]["tunnel"], sides[1]["tunnel"] = before, after
    known = texts.addresses, texts.vantages, texts.captures
    return [tuple(names[at] for names, at in zip(known, each, strict=True)) for each in found.tolist()]
