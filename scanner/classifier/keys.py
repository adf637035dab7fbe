"""The keys of targets and flows, and the number that each key gets.

What the classifier remembers lies in columns, one row a flow or a target. This module turns the addresses, ports and
sequence numbers of packets into row numbers. Every key is two 64-bit words, and this is the only place that packs them:

    address  (33 bits)  IPv4: the address itself; IPv6: 2^32 + the number of the address;
                        in a tunnel, or in a later scan (`scan_times`): 2^32 + 2^31 + the number of the pair
    target   word a     address of the prober, low 32 bits << 32 | address of the target, low 32 bits
             word b     bit 32 of the prober << 17 | bit 32 of the target << 16 | port
    flow     word a     number of the target << 32 | sequence number of the SYN
             word b     source port of the SYN

`Numbering` is an open-addressing hash table that handles a whole column in each step. Sorting and merging needs no
table, but costs more than the rest of the classification. To find a key costs about 25 ns, and to enter one about 130.
Keys are compared in full: hostile keys can make the table slow (a secret multiplier makes them hard to choose), but
never wrong. `flow_numbers` has the flows, most of which need no table.

Limit: 2^31 keys in one Numbering.
"""

import secrets
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..packet.addresses import from_words, is_ipv4
from ..packet.headers import MAPPED, U64, Bools, Ints, Rows, opaque
from ..packet.tunnel import Tunnels

Column = npt.NDArray[np.integer[Any]]

IPV6 = 1 << 32
_IN_TUNNEL, _PAIR = 3 << 31, (1 << 31) - 1
_LOW = 0xFFFF_FFFF
_FIRST_BITS = 12
_MOST_FULL = 0.4


class TargetKey(NamedTuple):
    """Targets as columns: who probed and who was probed (numbers of AddressNumbers), and the port."""

    us: Ints
    them: Ints
    port: Column

    def words(self) -> tuple[U64, U64]:
        """The two words of each key."""
        low = self.us.view(np.uint64) << np.uint64(32)  # bit 32 falls out; it is in the other word
        high = self.us >> 32 << 17 | self.them >> 32 << 16
        return low | (self.them & _LOW).view(np.uint64), (high | self.port).view(np.uint64)


def target_key(words: U64) -> TargetKey:
    """uint64[n, 2] → the columns of the targets."""
    a, b = words[:, 0], words[:, 1].view(np.int64)
    us, them = (a >> np.uint64(32)).view(np.int64), (a & np.uint64(_LOW)).view(np.int64)
    return TargetKey(us | b >> 17 << 32, them | (b >> 16 & 1) << 32, b & 0xFFFF)


class FlowKey(NamedTuple):
    """Flows as columns: the number of the target, and the source port and sequence number of the SYN."""

    target: Ints
    our_port: Column
    seq: Column

    def words(self) -> tuple[U64, U64]:
        """The two words of each key. Sequence numbers count modulo 2^32 (RFC 9293, 3.4)."""
        return (self.target << 32 | self.seq & _LOW).view(np.uint64), self.our_port.astype(np.uint64)

    def take(self, rows: Ints) -> "FlowKey":
        """The keys at the given indices."""
        return FlowKey(self.target[rows], self.our_port[rows], self.seq[rows])


class Numbering:
    """A growing set of keys (two 64-bit words each), numbered from 0 as they appear."""

    def __init__(self) -> None:
        self.count = 0
        self._keys = np.zeros((1 << (_FIRST_BITS - 1), 2), np.uint64)  # from row 1 on
        self._table = np.zeros(1 << _FIRST_BITS, np.int32)  # number + 1; 0 is free
        self._multipliers = [np.uint64(secrets.randbits(64) | 1) for _ in range(2)]

    @property
    def keys(self) -> U64:
        """uint64[count, 2]: the keys by number."""
        return self._keys[1 : self.count + 1]

    def key(self, number: Column | slice) -> U64:
        """uint64[n, 2]: the keys with these numbers."""
        return self.keys[number] if isinstance(number, slice) else self._rows(number + 1)

    def _rows(self, row: Column) -> U64:
        # The two words of a key are copied as one value of 16 bytes: an index would take three times as long.
        return self._keys.view(np.complex128)[:, 0].take(row).view(np.uint64).reshape(-1, 2)

    def find(self, a: U64, b: U64) -> Ints:
        """The number of each key, -1 for those never seen."""
        return self._look(a, b, False)

    def intern(self, a: U64, b: U64) -> Ints:
        """The number of each key; keys never seen get the next numbers."""
        self._reserve(self.count + len(a))
        return self._look(a, b, True)

    def _slots(self, a: U64, b: U64) -> Ints:
        """Where each key is looked for first: the high bits of a multiplicative hash."""
        mixed = a * self._multipliers[0]
        mixed ^= mixed >> np.uint64(32)
        mixed += b
        mixed *= self._multipliers[1]
        mixed >>= np.uint64(64 - (len(self._table) - 1).bit_length())
        return mixed.view(np.int64)

    def _look(self, a: U64, b: U64, add: bool) -> Ints:
        slot, mask = self._slots(a, b), len(self._table) - 1
        entry, same = self._entries(slot, a, b)
        number = entry.astype(np.int64) - 1
        row = np.flatnonzero(~same)  # of the keys that are still looked for
        slot, free = slot[row], entry[row] == 0
        while row.size:
            if add:
                new = np.flatnonzero(free)
                won, numbers = self._claim(slot[new], a[row[new]], b[row[new]])
                number[row[new[won]]] = numbers
                # A slot that another key has just claimed is looked at again: it may be the same key.
                left = np.ones(len(row), np.bool_)
                left[new[won]] = False
            else:  # a free slot proves that the key was never entered
                number[row[free]] = -1
                left = ~free
            row, slot = row[left], slot[left] + ~free[left] & mask
            entry, same = self._entries(slot, a[row], b[row])
            number[row[same]] = entry[same] - 1
            other = np.flatnonzero(~same)
            row, slot, free = row[other], slot[other], entry[other] == 0
        return number

    def _entries(self, slot: Ints, a: U64, b: U64) -> tuple[npt.NDArray[np.int32], Bools]:
        """What stands in the slots, and whether it is the key."""
        entry = self._table.take(slot)
        key = self._rows(entry)
        same = key[:, 0] == a
        same &= key[:, 1] == b
        same &= entry > 0
        return entry, same

    def _claim(self, slot: Ints, a: U64, b: U64) -> tuple[Ints, Ints]:
        """Number the keys that want these free slots, one key a slot: which ones, and their numbers."""
        # Several keys may want one slot: each writes its own index there, and the index that remains wins.
        index = np.arange(len(slot), dtype=np.int32)
        self._table[slot] = index
        won = np.flatnonzero(self._table.take(slot) == index)
        first, self.count = self.count, self.count + len(won)
        self.keys[first:, 0], self.keys[first:, 1] = a[won], b[won]
        numbers = np.arange(first, self.count)
        self._table[slot[won]] = numbers + 1
        return won, numbers

    def _reserve(self, count: int) -> None:
        """Make room for `count` keys."""
        if count >= len(self._keys):
            grown = np.zeros((max(count + 1, 2 * len(self._keys)), 2), np.uint64)
            grown[1 : self.count + 1] = self.keys
            self._keys = grown
        if count > len(self._table) * _MOST_FULL:
            self._table = np.zeros(1 << (int(count / _MOST_FULL) - 1).bit_length(), np.int32)
            self._refill()

    def _refill(self) -> None:
        """Enter all keys into the empty table; they are distinct, so only their slots are needed."""
        slot = self._slots(self.keys[:, 0], self.keys[:, 1])
        entry = np.arange(1, self.count + 1, dtype=np.int32)
        mask = len(self._table) - 1
        while entry.size:
            free = self._table.take(slot) == 0
            self._table[slot[free]] = entry[free]
            rest = self._table.take(slot) != entry
            slot, entry = slot[rest] + 1 & mask, entry[rest]


class AddressNumbers:
    """Addresses as 33-bit numbers: IPv4 as it is; each IPv6 address by its number in a table, with bit 32 set.

    An address in a tunnel is another address than the same one outside, or in another tunnel. So is an address in a
    later scan of it.
    """

    def __init__(self) -> None:
        self._six = Numbering()
        self._in_tunnels = Numbering()  # (address, number of the scan << 32 | tunnel)

    def numbers(self, address: Rows, four: Bools | None = None, tunnel: Ints | None = None) -> Ints:
        """ADDRESS[n] → int64[n]. `four`: which are IPv4, if that is known. `tunnel`: where they were seen."""
        four = is_ipv4(address) if four is None else four
        number = (address["lo"] & np.uint64(_LOW)).view(np.int64)
        if not four.all():
            six = ~four
            number[six] = IPV6 | self._six.intern(address["hi"][six], address["lo"][six])
        if tunnel is not None and tunnel.any():
            inner = np.flatnonzero(tunnel)
            pairs = number[inner].view(np.uint64), tunnel[inner].view(np.uint64)
            number[inner] = _IN_TUNNEL | self._in_tunnels.intern(*pairs)
        return number

    def outside(self, number: Ints) -> tuple[Ints, Ints]:
        """int64[n] → the numbers that the addresses have outside of tunnels, and the tunnels (0: none)."""
        inner = number >= _IN_TUNNEL
        if not inner.any():
            return number, np.zeros(len(number), np.int64)
        pairs = self._in_tunnels.keys[np.where(inner, number & _PAIR, 0)].view(np.int64)
        return np.where(inner, pairs[:, 0], number), np.where(inner, pairs[:, 1] & _LOW, 0)

    def scan(self, number: Ints) -> Ints:
        """int64[n] → the scan that each of these numbers is about, from 0."""
        inner = number >= _IN_TUNNEL
        if not inner.any():
            return np.zeros(len(number), np.int64)
        pairs = self._in_tunnels.keys[np.where(inner, number & _PAIR, 0)].view(np.int64)
        return np.where(inner, pairs[:, 1] >> 32, 0)

    def in_scan(self, number: Ints, scan: Ints | int) -> Ints:
        """int64[n] → the numbers that these addresses have in these scans."""
        outside, tunnel = self.outside(number)
        second = np.asarray(tunnel | scan << 32, np.int64)
        inner = second > 0
        pairs = outside[inner].view(np.uint64), second[inner].view(np.uint64)
        outside = outside.copy()
        outside[inner] = _IN_TUNNEL | self._in_tunnels.intern(*pairs)
        return outside

    def ranks(self, number: Ints, tunnels: Tunnels | None) -> Ints:
        """int64[n] → numbers in the order of the addresses. Those of IPv6 differ from run to run: see `Numbering`."""
        if not (number >= IPV6).any():
            return number
        distinct, back = np.unique(number, return_inverse=True)
        address, rank = self.addresses(distinct), np.empty_like(distinct)
        outside, tunnel = self.outside(distinct)
        tunnel = tunnels.ranks()[tunnel] if tunnels else tunnel
        parts = self.scan(distinct), tunnel, address["lo"], address["hi"], outside >= IPV6
        rank[np.lexsort(parts)] = np.arange(len(distinct))
        return np.asarray(rank[back])

    def addresses(self, number: Ints) -> Rows:
        """int64[n] → ADDRESS[n], without their tunnels."""
        number, _ = self.outside(number)
        address = from_words(0, number | MAPPED, len(number))
        six = number >= IPV6
        words = self._six.keys[number[six] & _LOW]
        address["hi"][six], address["lo"][six] = words[:, 0], words[:, 1]
        return address


class LongSyns:
    """SYNs with data or FIN. A reply may acknowledge such a SYN alone or all of it (RFC 9293, 3.10.7.4; RFC 7413)."""

    def __init__(self) -> None:
        self._ends = Numbering()  # flows as they would be if `seq` were the last number that the SYN takes
        self._seq = np.zeros(0, np.uint32)  # of the SYN itself

    @property
    def count(self) -> int:
        """How many there are."""
        return self._ends.count

    def add(self, key: FlowKey, size: Column) -> None:
        """Flows of SYNs that take `size` further sequence numbers, which may be none."""
        row = np.flatnonzero(size)
        if row.size:
            key, size = key.take(row), size[row]
            number = self._ends.intern(*key._replace(seq=key.seq + size).words())
            self._seq = np.append(self._seq, np.zeros(self.count - len(self._seq), np.uint32))
            self._seq[number] = key.seq

    def syn(self, key: FlowKey) -> FlowKey:
        """Where `seq` is the last number of such a SYN: the SYN's own number in its place."""
        if not self.count:
            return key
        number = self._ends.find(*key.words())
        return key._replace(seq=np.where(number >= 0, self._seq[number], key.seq & _LOW))


def grown(rows: npt.NDArray[Any], count: int, blank: object = None) -> npt.NDArray[Any]:
    """The rows, and behind them so many of zeros, or of `blank`, that there is room for `count`."""
    if count <= len(rows):
        return rows
    larger = np.zeros(max(count, 2 * len(rows)), rows.dtype)  # memory that nobody writes to is not taken yet
    opaque(larger)[: len(rows)] = opaque(rows)
    if blank is not None:
        larger[len(rows) :] = blank
    return larger
