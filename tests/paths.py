"""What a path does to packets, as data: loss, delay, queues, limits, bans, outages, and changes of the header.

A path is two tuples of models, one for each direction. A packet meets them in their order. Both test networks use
them: the one in memory (`tests/memory.py`) and the wire in the lab (`tests/lab/wire.py`). `tests/passage.py` applies
them. Every model has `where`: the networks (as text, "198.18.0.7" or "198.18.1.0/24") of the far hosts that it
concerns, none for all. Models are named tuples of plain values, so that they pass through JSON to another process.

Times are seconds, rates are packets a second. A chance is never drawn from a generator: it is a hash of the seed and
the packet's number. So the same packets meet the same fates, however they fall into batches.

Limit: a limit or queue should stand before a model that delays, because it sees packets in the order of batches.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_network
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scanner.packet.headers import MAPPED, U64

Where = tuple[str, ...]
Draws = npt.NDArray[np.float64]
OUT, BACK = 0, 1  # towards the hosts, from them


class OneWay(NamedTuple):
    """Shares of packets that are lost and sent twice; seconds of delay, and of random delay on top."""

    lose: float = 0.0
    repeat: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    where: Where = ()


class Bursts(NamedTuple):
    """Loss by Gilbert and Elliott: a good and a bad state, each with its share lost and its mean length.

    Lengths are seconds, or packets with `packets`. Each host has a state of its own with `each_host`.
    """

    good: float
    bad: float
    lose: float = 1.0  # in the bad state
    lose_good: float = 0.0
    packets: bool = False
    each_host: bool = False
    where: Where = ()


class Narrow(NamedTuple):
    """A path of this rate with a queue of so many packets; what finds the queue full is dropped."""

    rate: float
    queue: int = 50
    each_host: bool = False
    where: Where = ()


class Policer(NamedTuple):
    """A token bucket without a queue. What is beyond it is dropped, or loses its TOS byte with `clear`.

    `only` is "syn" (of probes), "reset" or "" (every packet): what is counted and limited.
    """

    rate: float
    burst: float = 1.0
    only: str = ""
    each_host: bool = False
    clear: bool = False
    where: Where = ()


class PerSecond(NamedTuple):
    """Each host may send or get so many packets in a second of the clock, as BSD's icmplim counts them."""

    limit: int
    only: str = "reset"
    where: Where = ()


class Crowded(NamedTuple):
    """Loss that grows with the rate: none up to `free` packets a second, `most` of them from `full` on."""

    free: float
    full: float
    most: float = 1.0
    where: Where = ()


class Table(NamedTuple):
    """A gateway that tracks connections: a SYN that finds `entries` entries is dropped. It belongs into `out`.

    An entry lives `life` seconds after its last packet either way, `after_reset` after a reset. A reply without one
    is dropped.
    """

    entries: int
    life: float
    after_reset: float = 1.0
    where: Where = ()


class Ban(NamedTuple):
    """After so many packets (of the kind `only`) nothing passes any more: to or from each host, or all with `whole`."""

    after: int
    only: str = ""
    whole: bool = False
    where: Where = ()


class Outage(NamedTuple):
    """From `start` to `end`, seconds since the first packet of the path, the share `lose` of all packets is lost."""

    start: float
    end: float
    lose: float = 1.0
    where: Where = ()


class Ecmp(NamedTuple):
    """A share of the flows, chosen by their addresses and ports, takes another path.

    It clears the TOS byte (`clear`), has more hops, loses a share of its packets, and is slower.
    """

    share: float = 0.5
    clear: bool = True
    hops: int = 0
    lose: float = 0.0
    delay: float = 0.0
    where: Where = ()


class Elsewhere(NamedTuple):
    """For `back`: TCP replies of these ports look as if another host behind the address sent them.

    They come over more hops (fewer, if negative), lose the TOS byte (`clear`), and carry `ip_id` and `df` where given
    (IPv4).
    """

    first: int
    last: int
    hops: int = 0
    clear: bool = True
    ip_id: int | None = None
    df: bool | None = None
    where: Where = ()


Model = OneWay | Bursts | Narrow | Policer | PerSecond | Crowded | Table | Ban | Outage | Ecmp | Elsewhere
MODELS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (OneWay, Bursts, Narrow, Policer, PerSecond, Crowded, Table, Ban, Outage, Ecmp, Elsewhere)
}
IN_ANY_ORDER = (OneWay, Bursts, Outage, Ecmp, Elsewhere)  # the fate of a packet does not depend on the others


class Path(NamedTuple):
    """The models of both directions, and the seed of every chance."""

    out: tuple[Model, ...] = ()
    back: tuple[Model, ...] = ()
    seed: int = 1

    def as_json(self) -> list[Any]:
        """Plain lists; `path_of` reads them."""
        return [*([[type(model).__name__, *model] for model in models] for models in (self.out, self.back)), self.seed]


def path_of(given: Sequence[Any]) -> Path:
    """The path that `as_json` wrote."""
    out, back = (tuple(MODELS[name](*fields, tuple(where)) for name, *fields, where in way) for way in given[:2])
    return Path(out, back, given[2])


# ── chance ──


def mix(x: U64) -> U64:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): uint64[n] → uint64[n]."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x


def draws(seed: int, direction: int, purpose: int, number: U64) -> Draws:
    """A number in [0, 1) for each of these packet numbers."""
    start = (seed * 0x9E3779B97F4A7C15 + (direction << 8 | purpose) * 0xD1B54A32D192ED03) % 2**64
    # Without this first mix a seed would be the next one's numbers, one packet later.
    x = mix(number * np.uint64(0x9E3779B97F4A7C15) + mix(np.array([start], np.uint64)))
    return (x >> np.uint64(11)).astype(np.float64) / 2**53


@lru_cache
def words(networks: Where) -> tuple[U64, U64, U64, U64]:
    """Networks as ADDRESS words: masks (high, low) and values (high, low), uint64[networks] each."""
    masks, values = [], []
    for text in networks:
        network = ip_network(text, strict=False)
        mapped = network.version == 4
        mask = int(network.netmask) | ((2**128 - 2**32) if mapped else 0)
        masks.append(mask)
        values.append((int(network.network_address) | (MAPPED if mapped else 0)) & mask)
    columns = [[each >> 64 for each in masks], [each % 2**64 for each in masks]]
    columns += [[each >> 64 for each in values], [each % 2**64 for each in values]]
    mask_hi, mask_lo, hi, lo = (np.array(column, np.uint64) for column in columns)
    return mask_hi, mask_lo, hi, lo
