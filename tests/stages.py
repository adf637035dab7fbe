"""What each model of `tests/paths.py` does to packets: functions that change rows of columns.

`MAKERS` gives the function of a model. It gets all packets that have come as far as this model, and the rows that it
concerns. Limits and queues take them one by one in plain Python (about 0.4 µs each), in the order of their times,
because the fate of one decides that of the next.
"""

import heapq
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from scanner.packet.headers import ACK, RST, SYN, U64, Ints
from tests.packets import Packets
from tests.paths import (
    Ban,
    Bursts,
    Crowded,
    Draws,
    Ecmp,
    Elsewhere,
    Narrow,
    OneWay,
    Outage,
    PerSecond,
    Policer,
    Table,
    mix,
)

SECOND = 1_000_000_000
CROWD_SECONDS = 0.1  # over which the rate of a crowded path is measured
LOSE, REPEAT, JITTER, SHIFT, LENGTHS = 1, 2, 3, 4, 5  # what a chance is for
Stage = Callable[[Packets, Ints], None]
Chance = Callable[[int, U64], Draws]  # of a purpose, for packets or other things with numbers


def _kind(packets: Packets, rows: Ints, only: str) -> Ints:
    """Those of the rows that are SYNs of probes, resets, or all."""
    flags = packets.flags[rows]
    if only == "syn":
        return rows[flags & (SYN | ACK) == SYN]
    return rows[flags & RST > 0] if only == "reset" else rows


def _one_way(model: OneWay, chance: Chance) -> Stage:
    def stage(packets: Packets, rows: Ints) -> None:
        number = packets.number[rows]
        if model.lose:
            packets.lost[rows] = chance(LOSE, number) < model.lose
        jitter = chance(JITTER, number) * model.jitter if model.jitter else 0.0
        if model.delay or model.jitter:
            packets.time[rows] += np.asarray((model.delay + jitter) * SECOND).astype(np.int64)

    return stage


class _Spells:
    """Good and bad times in turn, of random lengths (exponential), as far as they are asked for."""

    def __init__(self, model: Bursts, chance: Chance) -> None:
        self._model, self._chance = model, chance
        self._ends = np.zeros(1)

    def bad(self, at: Draws) -> np.ndarray:
        """Whether these places lie in a bad time."""
        while self._ends[-1] <= at.max(initial=0.0):
            first = len(self._ends) - 1  # even: a good time comes next
            lengths = -np.log1p(-self._chance(LENGTHS, np.arange(first, first + 1024, dtype=np.uint64)))
            lengths *= np.tile([self._model.good, self._model.bad], 512)
            self._ends = np.concatenate([self._ends, self._ends[-1] + np.cumsum(lengths)])
        return np.searchsorted(self._ends[1:], at, "right") % 2 == 1


def bursts(model: Bursts, chance: Chance, since: Callable[[Ints], Draws]) -> Stage:
    """`since` gives the seconds since the first packet of the path, so that a seed fixes the bursts of a scan."""
    spells, ordinals = _Spells(model, chance), Ordinals()
    span = 100 * (model.good + model.bad)  # each host begins somewhere in it

    def stage(packets: Packets, rows: Ints) -> None:
        host = packets.host[rows] if model.each_host else np.zeros(len(rows), np.uint64)
        at = ordinals.of(host) if model.packets else since(packets.time[rows])
        bad = spells.bad(at + chance(SHIFT, host) * span)
        packets.lost[rows] = chance(LOSE, packets.number[rows]) < np.where(bad, model.lose, model.lose_good)

    return stage


class Ordinals:
    """How many of the same key came before each row, in this batch and in those before it."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def of(self, keys: U64) -> Ints:
        order = np.argsort(keys, kind="stable")
        unique, first, counts = np.unique(keys[order], return_index=True, return_counts=True)
        before = [self._seen.get(key, 0) for key in unique.tolist()]
        self._seen |= zip(unique.tolist(), (counts + before).tolist(), strict=True)
        ordinal = np.empty(len(keys), np.int64)
        ordinal[order] = np.arange(len(keys)) + np.repeat(np.array(before, np.int64) - first, counts)
        return ordinal


def _narrow(model: Narrow, chance: Chance) -> Stage:
    service, free_at = SECOND / model.rate, dict[int, float]()

    def stage(packets: Packets, rows: Ints) -> None:
        keys = _keys(packets, rows, model.each_host)
        for row, key, time in zip(rows.tolist(), keys, packets.time[rows].tolist(), strict=True):
            ready = max(free_at.get(key, 0.0), time)
            if ready - time > model.queue * service:
                packets.lost[row] = True
            else:
                free_at[key] = ready + service
                packets.time[row] = int(ready + service)

    return stage


def _keys(packets: Packets, rows: Ints, each_host: bool) -> list[int]:
    keys: list[int] = packets.host[rows].tolist() if each_host else [0] * len(rows)
    return keys


def _policer(model: Policer, chance: Chance) -> Stage:
    buckets = dict[int, tuple[float, int]]()  # tokens, and when they were counted

    def stage(packets: Packets, rows: Ints) -> None:
        rows = _kind(packets, rows, model.only)
        keys = _keys(packets, rows, model.each_host)
        for row, key, time in zip(rows.tolist(), keys, packets.time[rows].tolist(), strict=True):
            tokens, then = buckets.get(key, (model.burst, time))
            tokens = min(model.burst, tokens + (time - then) * model.rate / SECOND)
            if tokens < 1:
                packets.lost[row] |= not model.clear
                packets.tos[row] = 0 if model.clear else packets.tos[row]
            else:
                tokens -= 1
            buckets[key] = tokens, time

    return stage


def _per_second(model: PerSecond, chance: Chance) -> Stage:
    ordinals = Ordinals()

    def stage(packets: Packets, rows: Ints) -> None:
        rows = _kind(packets, rows, model.only)
        second = (packets.time[rows] // SECOND).astype(np.uint64)
        packets.lost[rows] = ordinals.of(mix(packets.host[rows] ^ second)) >= model.limit

    return stage


def _crowded(model: Crowded, chance: Chance) -> Stage:
    load, then = 0.0, 0  # packets of late, and when that was

    def stage(packets: Packets, rows: Ints) -> None:
        nonlocal load, then
        loss = []
        for time in packets.time[rows].tolist():
            load = load * math.exp(-max(0, time - then) / SECOND / CROWD_SECONDS) + 1
            then = max(then, time)
            loss.append((load / CROWD_SECONDS - model.free) / (model.full - model.free))
        share = np.clip(loss, 0, 1) * model.most
        packets.lost[rows] = chance(LOSE, packets.number[rows]) < share

    return stage


class Connections:
    """The table of a gateway; `out` and `back` are the stages of the two directions."""

    def __init__(self, model: Table) -> None:
        self._model = model
        self._until: dict[int, int] = {}  # ns, by flow
        self._ends: list[tuple[int, int]] = []  # a heap of (until, flow), where some have changed since

    def out(self, packets: Packets, rows: Ints) -> None:
        self._pass(packets, rows, True)

    def back(self, packets: Packets, rows: Ints) -> None:
        # An ICMP error has no ports here; a gateway passes it because of the packet that it quotes.
        self._pass(packets, rows[packets.port[rows] > 0], False)

    def _pass(self, packets: Packets, rows: Ints, out: bool) -> None:
        columns = (packets.flow()[rows].tolist(), packets.time[rows].tolist(), packets.flags[rows].tolist())
        for row, flow, time, flags in zip(rows.tolist(), *columns, strict=True):
            self._forget(time)
            new = flow not in self._until
            if new and not (out and flags & (SYN | ACK) == SYN and len(self._until) < self._model.entries):
                packets.lost[row] = True
                continue
            life = self._model.after_reset if flags & RST else self._model.life
            self._until[flow] = time + int(life * SECOND)
            heapq.heappush(self._ends, (self._until[flow], flow))

    def _forget(self, now: int) -> None:
        while self._ends and self._ends[0][0] <= now:
            end, flow = heapq.heappop(self._ends)
            if self._until.get(flow) == end:
                del self._until[flow]


def _ban(model: Ban, chance: Chance) -> Stage:
    seen: dict[int, int] = {}

    def stage(packets: Packets, rows: Ints) -> None:
        counted = np.zeros(len(packets.row), np.bool_)
        counted[_kind(packets, rows, model.only)] = True
        for row, key in zip(rows.tolist(), _keys(packets, rows, not model.whole), strict=True):
            if seen.get(key, 0) >= model.after:
                packets.lost[row] = True
            elif counted[row]:
                seen[key] = seen.get(key, 0) + 1

    return stage


def outage(model: Outage, chance: Chance, since: Callable[[Ints], Draws]) -> Stage:
    """`since` as for `bursts`."""

    def stage(packets: Packets, rows: Ints) -> None:
        seconds = since(packets.time[rows])
        rows = rows[(seconds >= model.start) & (seconds < model.end)]
        packets.lost[rows] = chance(LOSE, packets.number[rows]) < model.lose

    return stage


def _ecmp(model: Ecmp, chance: Chance) -> Stage:
    def stage(packets: Packets, rows: Ints) -> None:
        rows = rows[chance(SHIFT, packets.flow()[rows]) < model.share]
        packets.hops[rows] += model.hops
        packets.time[rows] += int(model.delay * SECOND)
        if model.clear:
            packets.tos[rows] = 0
        if model.lose:
            packets.lost[rows] = chance(LOSE, packets.number[rows]) < model.lose

    return stage


def _elsewhere(model: Elsewhere, chance: Chance) -> Stage:
    def stage(packets: Packets, rows: Ints) -> None:
        rows = rows[(packets.port[rows] >= model.first) & (packets.port[rows] <= model.last)]
        packets.hops[rows] += model.hops
        if model.clear:
            packets.tos[rows] = 0
        if model.ip_id is not None or model.df is not None:
            packets.fragment[rows] = (model.ip_id or 0) << 16 | (0x4000 if model.df else 0)

    return stage


MAKERS: dict[type, Callable[[Any, Chance], Stage]] = {
    OneWay: _one_way,
    Narrow: _narrow,
    Policer: _policer,
    PerSecond: _per_second,
    Crowded: _crowded,
    Ban: _ban,
    Ecmp: _ecmp,
    Elsewhere: _elsewhere,
}
