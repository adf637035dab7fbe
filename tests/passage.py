"""Packets through a path: the models of `tests/paths.py` applied to columns, whole batches at once.

`Passage.carry` takes the packets of one direction, and returns those that arrive, each with the time of its arrival
and with what the path changed in its header. A packet's number in its direction decides its chances.

Limit: two models that repeat the same packet make copies of one another's copies with equal chances.
"""

from functools import partial

import numpy as np

from scanner.packet.headers import U64, Bools, Ints
from tests.packets import Packets
from tests.paths import (
    BACK,
    IN_ANY_ORDER,
    OUT,
    Bursts,
    Draws,
    Ecmp,
    Elsewhere,
    Model,
    OneWay,
    Outage,
    Path,
    Policer,
    Table,
    Where,
    draws,
    words,
)
from tests.stages import MAKERS, REPEAT, SECOND, Connections, Stage, bursts, outage

_PURPOSES = 8  # numbers of chances that each model has for itself
_COPY = np.uint64(1 << 40)  # set in the number of a copy


class Passage:
    """A path in use: `carry` applies its models and keeps their states.

    By direction: `rewrites` tells whether headers may change, `in_any_order` whether the fate of no packet depends on
    another.
    """

    def __init__(self, path: Path) -> None:
        self._seed = path.seed
        self._start: int | None = None  # ns, of the first packet
        self._count = [0, 0]
        self._repeats = [[each for each in way if isinstance(each, OneWay) and each.repeat] for way in path[:2]]
        # What a table of connections sees on the way back comes first there: it stands at the hosts' side of the path.
        self._stages: list[list[tuple[Where, bool, Stage]]] = [[], []]
        for index, model in enumerate(path.out):
            self._add(model, OUT, index)
        for index, model in enumerate(path.back):
            self._add(model, BACK, index)
        self.rewrites = [any(isinstance(model, Ecmp | Elsewhere | Policer) for model in way) for way in path[:2]]
        self.in_any_order = [all(not ordered for _, ordered, _ in way) for way in self._stages]

    def _add(self, model: Model, direction: int, index: int) -> None:
        if isinstance(model, OneWay) and not any(model[:4]):
            return
        chance = partial(self._chance, direction, index * _PURPOSES)
        ordered = not isinstance(model, IN_ANY_ORDER)
        if isinstance(model, Table):
            table = Connections(model)
            self._stages[OUT].append((model.where, True, table.out))
            self._stages[BACK].append((model.where, True, table.back))
        elif isinstance(model, Bursts | Outage):
            make = bursts if isinstance(model, Bursts) else outage
            self._stages[direction].append((model.where, False, make(model, chance, self._since)))
        else:
            self._stages[direction].append((model.where, ordered, MAKERS[type(model)](model, chance)))

    def carry(self, direction: int, packets: Packets) -> Packets:
        """The packets that arrive, copies included. `time` becomes their arrival."""
        count = len(packets.row)
        if not count:
            return packets
        if self._start is None:
            self._start = int(packets.time.min())
        first = self._count[direction]
        self._count[direction] += count
        packets.number = np.arange(first, first + count, dtype=np.uint64)
        for model in self._repeats[direction]:
            packets = self._repeated(direction, packets, model)
        for where, ordered, stage in self._stages[direction]:
            rows = np.flatnonzero(~packets.lost & _within(packets, where) if where else ~packets.lost)
            if ordered:
                rows = rows[np.argsort(packets.time[rows], kind="stable")]
            if rows.size:
                stage(packets, rows)
        return packets.take(~packets.lost) if packets.lost.any() else packets

    def _chance(self, direction: int, base: int, purpose: int, number: U64) -> Draws:
        return draws(self._seed, direction, base + purpose, number)

    def _repeated(self, direction: int, packets: Packets, model: OneWay) -> Packets:
        """With the copies that this model makes. They are packets of their own for all models."""
        twice = draws(self._seed, direction, REPEAT, packets.number) < model.repeat
        if model.where:
            twice &= _within(packets, model.where)
        packets = packets.take(np.repeat(np.arange(len(twice)), 1 + twice))
        packets.number[1:] |= np.where(packets.row[1:] == packets.row[:-1], _COPY, np.uint64(0))
        return packets

    def _since(self, time: Ints) -> Draws:
        assert self._start is not None
        return (time - self._start) / SECOND


def _within(packets: Packets, where: Where) -> Bools:
    mask_hi, mask_lo, hi, lo = words(where)
    inside = (packets.hi[:, None] & mask_hi == hi) & (packets.lo[:, None] & mask_lo == lo)
    return np.asarray(inside.any(axis=1))
