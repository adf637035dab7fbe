"""Numbers for keys: the first new key is 0, the next 1, and so on, for columns of 128-bit keys.

A capture names its targets and flows by addresses, ports and sequence numbers; everything that is kept of
them lies in columns, and this is the way from the one to the other. It is an open-addressing hash
table in which every step handles a whole column: rows whose slot holds another key move on to the
next slot together. Rows that want the same free slot all write their own number there; whoever's number
stays has it, the others look again and find either their own key or a stranger's.

Sorting and merging would need no table, but costs more than the rest of the classification. About 40
ns a key where the table fits the cache, 100 ns where it does not. Keys are compared in full, so a
clever choice of keys can make it slow (that is what the secret multiplier is against), never wrong.

Limit: 2^31 keys.
"""

import secrets

import numpy as np
import numpy.typing as npt

from ..packet.headers import Ints

Words = npt.NDArray[np.uint64]

_FIRST_BITS = 12
_MOST_FULL = 0.5


class Numbering:
    """A growing set of keys (two 64-bit words each), numbered in the order of their first appearance."""

    def __init__(self) -> None:
        self.count = 0
        self._keys = np.zeros((1 << (_FIRST_BITS - 1), 2), np.uint64)
        self._table = np.zeros(1 << _FIRST_BITS, np.int32)  # number + 1; 0 is free
        self._multipliers = [np.uint64(secrets.randbits(64) | 1) for _ in "ab"]

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """uint64[count, 2]: the keys by number."""
        return self._keys[: self.count]

    def find(self, a: Words, b: Words) -> Ints:
        """The number of each key, -1 for those never seen."""
        return self._look(a, b, False)

    def intern(self, a: Words, b: Words) -> Ints:
        """The number of each key; keys never seen get the next numbers."""
        self._reserve(self.count + len(a))
        return self._look(a, b, True)

    def _slots(self, a: Words, b: Words) -> Ints:
        mixed = a * self._multipliers[0]
        mixed ^= mixed >> np.uint64(32)
        mixed += b
        mixed *= self._multipliers[1]
        shift = 64 - (len(self._table) - 1).bit_length()
        return (mixed >> np.uint64(shift)).view(np.int64)

    def _look(self, a: Words, b: Words, add: bool) -> Ints:
        number = np.full(len(a), -1, np.int64)
        slot = self._slots(a, b)
        mask = len(self._table) - 1
        rows = np.arange(len(a))
        while rows.size:
            entry = self._table[slot].astype(np.int64) - 1
            free = entry < 0
            same = ~free
            keys = self._keys[entry]  # row -1 is read for free slots and not looked at
            same &= (keys[:, 0] == a) & (keys[:, 1] == b)
            number[rows[same]] = entry[same]
            if free.any() and add:
                self._claim(slot[free], a[free], b[free])
            stay = free if add else np.zeros_like(free)  # a claimed slot is looked at again
            on = ~(same | free) | stay
            slot = np.where(free, slot, (slot + 1) & mask)[on]
            rows, a, b = rows[on], a[on], b[on]
        return number

    def _claim(self, slot: Ints, a: Words, b: Words) -> None:
        """Number the keys that want these free slots, one key a slot."""
        mine = np.arange(len(slot), dtype=np.int32)
        self._table[slot] = mine + 1
        won = np.flatnonzero(self._table[slot] == mine + 1)
        first, self.count = self.count, self.count + len(won)
        self._keys[first : self.count, 0], self._keys[first : self.count, 1] = a[won], b[won]
        self._table[slot[won]] = np.arange(first + 1, self.count + 1)

    def _reserve(self, count: int) -> None:
        if count > len(self._keys):
            grown = np.zeros((max(count, 2 * len(self._keys)), 2), np.uint64)
            grown[: self.count] = self.keys
            self._keys = grown
        if count > len(self._table) * _MOST_FULL:
            self._table = np.zeros(1 << (int(count / _MOST_FULL) - 1).bit_length(), np.int32)
            self._refill()

    def _refill(self) -> None:
        """Enter all keys anew; they are distinct, so only slots have to be found."""
        slot = self._slots(self.keys[:, 0].copy(), self.keys[:, 1].copy())
        entry = np.arange(1, self.count + 1, dtype=np.int32)
        mask = len(self._table) - 1
        while entry.size:
            free = self._table[slot] == 0
            self._table[slot[free]] = entry[free]
            left = self._table[slot] != entry
            slot, entry = (slot[left] + 1) & mask, entry[left]
