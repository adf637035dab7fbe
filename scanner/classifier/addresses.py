"""Sets of addresses, for questions about whole columns: who has sent a probe, and to whom something was sent.

The addresses are numbers of `keys.AddressNumbers`. A flood comes from millions of them, so no set is sorted or merged
at each batch.
"""

import numpy as np

from ..packet.headers import Bools, Ints
from .keys import Numbering

_FILTER_BITS = 22
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: multiplicative hashing (Knuth, vol. 3, 6.4)


class AddressFilter:
    """Addresses by the hashes of their numbers (see AddressNumbers): what is in it is found, and little else."""

    def __init__(self) -> None:
        self._hashes = np.zeros(1 << _FILTER_BITS, np.bool_)

    def add(self, address: Ints) -> None:
        """Put these addresses in."""
        self._hashes[self._hashed(address)] = True

    def may_have(self, address: Ints) -> Bools:
        """False for addresses that are not in it, and true for those that are and a few others."""
        return self._hashes[self._hashed(address)]

    def _hashed(self, address: Ints) -> Ints:
        return (address.view(np.uint64) * _GOLDEN >> np.uint64(64 - _FILTER_BITS)).view(np.int64)


class AddressSet:
    """Addresses, as numbers of AddressNumbers."""

    def __init__(self) -> None:
        self._numbers = Numbering()

    def add(self, address: Ints) -> None:
        """Put these addresses in. Equal neighbours, as in the packets of one scan, cost little."""
        new = np.ones(len(address), np.bool_)
        new[1:] = address[1:] != address[:-1]
        address = address[new]
        self._numbers.intern(address.view(np.uint64), np.zeros(len(address), np.uint64))

    def has(self, address: Ints) -> Bools:
        """Which of these are in the set. Equal neighbours cost little."""
        new = np.ones(len(address), np.bool_)
        new[1:] = address[1:] != address[:-1]
        distinct = address[new].view(np.uint64)
        known = self._numbers.find(distinct, np.zeros(len(distinct), np.uint64)) >= 0
        return np.asarray(known[np.cumsum(new) - 1])


def among(value: Ints, pool: Ints) -> Bools:
    """Which values are in the pool. (np.isin hashes the pool: 27 µs a number where numbers are random, numpy 2.4.)"""
    if not len(pool):
        return np.zeros(len(value), np.bool_)
    pool = np.sort(pool)
    return np.asarray(pool[np.minimum(np.searchsorted(pool, value), len(pool) - 1)] == value)
