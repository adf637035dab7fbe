"""Hosts that have another address in the newer result, told by the names that they were given.

The same address in both results is the same host. That is so too where the results give it different names, because a
host may have several and a row has one. But a target that was given by name is meant by name, and its address may
change from one night to the next. So a name is followed: what stands at its old address in the old result is compared
with what stands at its new address in the new one.

- Of a name with several addresses, those in both results are compared with themselves. If one is left over on each
  side, it is the one that changed. If more are left over, nobody can tell which became which, and none is followed.
- No host loses its own partner by this. An address that both results have is followed only where the host that stood
  there is followed too, as in a swap of two machines behind two names.

Limits: where the rows of an address have several names, the first one stands for the host. Names that nmap looked up
count like names that a user gave. Rows of a tunnel, a vantage point or a capture are compared by address.
"""

import numpy as np

from ..packet.headers import Bools, Ints, Rows
from .columns import host_numbers

Address = tuple[int, int]  # the upper and the lower half
Moves = dict[Address, Address]  # address in the old result → address in the new one


def moves_between(old: Rows, new: Rows) -> Moves:
    """The hosts whose name leads to another address. Both sides are TARGET columns in the order of their hosts."""
    sides = [_hosts(rows) for rows in (old, new)]
    moves = _candidates(*(hosts[(hosts["name"] > 0) & (hosts["tunnel"] == 0)] for hosts in sides))
    if not moves:
        return moves
    origins = {new: old for old, new in moves.items()}
    had, has = _found(sides[0], set(origins)), _found(sides[1], set(moves))
    torn = [a for a, b in moves.items() if (a in has and a not in origins) or (b in had and b not in moves)]
    while torn:  # the host that would take the place of one that is not followed is not followed either
        if (left := torn.pop()) in moves:
            torn += [place for place in (moves.pop(left), origins.get(left)) if place in moves]
    return moves


def followed(rows: Rows, moves: Moves) -> Rows:
    """The rows of the old result, with the addresses that its hosts have in the new one."""
    if not moves:
        return rows
    host, first = host_numbers(rows), _hosts(rows)
    for at in np.flatnonzero(_maybe(first, set(moves))).tolist():
        place = first["hi"][at].item(), first["lo"][at].item()
        first["hi"][at], first["lo"][at] = moves.get(place, place)
    rows["hi"], rows["lo"] = first["hi"][host], first["lo"][host]
    return rows


def _hosts(rows: Rows) -> Rows:
    """A row for each host; one with a name, where there is one."""
    host = host_numbers(rows)
    order = np.lexsort((rows["name"] == 0, host))
    return rows[order[np.diff(host[order], prepend=-1) > 0]]


def _candidates(old: Rows, new: Rows) -> Moves:
    """Named hosts of both sides → where each name has exactly one address left over on each side."""
    if not len(old) or not len(new):
        return {}
    rows = np.concatenate([old, new])
    side = np.repeat([1, 2], [len(old), len(new)])
    order = np.lexsort((rows["lo"], rows["hi"], rows["name"]))
    rows, side = rows[order], side[order]
    changes = [rows[name][1:] != rows[name][:-1] for name in ("name", "hi", "lo")]
    begins = np.flatnonzero(np.concatenate([[True], np.logical_or.reduce(changes)]))
    rows, on = rows[begins], np.bitwise_or.reduceat(side, begins)
    left = [rows[on == number] for number in (1, 2)]
    most = int(rows["name"].max(initial=0)) + 1
    alone = np.logical_and.reduce([np.bincount(each["name"], minlength=most) == 1 for each in left])
    was, now = (
        [*zip(*(each[alone[each["name"]]][half].tolist() for half in ("hi", "lo")), strict=True)] for each in left
    )
    return dict(zip(was, now, strict=True))


def _maybe(hosts: Rows, places: set[Address]) -> Bools:
    """Which hosts may be among these places, by the lower half of their addresses, outside of tunnels."""
    lower: Ints = np.array([lo for _, lo in places], np.uint64)
    return np.asarray(np.isin(hosts["lo"], lower) & (hosts["tunnel"] == 0))


def _found(hosts: Rows, places: set[Address]) -> set[Address]:
    """Those of the places at which there is a host."""
    near = hosts[_maybe(hosts, places)]
    return places & set(zip(near["hi"].tolist(), near["lo"].tolist(), strict=True))
