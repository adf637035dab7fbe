"""The sequence number that proves a reply is ours.

A SYN scanner without a table needs a way to tell an answer to its own probe from a stray or forged
segment. Our initial sequence number is therefore a keyed hash of the flow (target, its port, our port): a
SYN/ACK or RST must acknowledge it (RFC 9293 3.10.7.3: SEG.ACK = ISS + 1), and an ICMP error must
quote it, which the 8 quoted TCP bytes suffice for. Whoever does not see our probes has to guess 32
bits. Our address is left out: it is fixed for a scan and a reply to another one never gets here.

The hash is SipHash-2-4 (Aumasson and Bernstein, 2012), computed for whole columns: each line of a
round is one in-place numpy operation. An IPv4 flow is one 64-bit word, an IPv6 flow three. Its
low 32 bits are the cookie. About 150 ns a flow on one 2.5 GHz core; this is the dearest step of a
probe, and the one not to save on.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .headers import Rows

Words = npt.NDArray[np.uint64]
_CONSTANTS = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


@dataclass(frozen=True)
class Key:
    """A 128-bit SipHash key as two words."""

    k0: int
    k1: int

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Key":
        """16 bytes, little-endian words as in the SipHash paper."""
        return cls(int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:16], "little"))


def _rotate(word: Words, by: int, scratch: Words) -> None:
    np.right_shift(word, np.uint64(64 - by), out=scratch)
    np.left_shift(word, np.uint64(by), out=word)
    np.bitwise_or(word, scratch, out=word)


def _mix(a: Words, b: Words, by: int, scratch: Words) -> None:
    a += b
    _rotate(b, by, scratch)
    b ^= a


def _rounds(v: list[Words], count: int, scratch: Words) -> None:
    for _ in range(count):
        _mix(v[0], v[1], 13, scratch)
        _rotate(v[0], 32, scratch)
        _mix(v[2], v[3], 16, scratch)
        _mix(v[0], v[3], 21, scratch)
        _mix(v[2], v[1], 17, scratch)
        _rotate(v[2], 32, scratch)


def siphash(key: Key, words: list[Words]) -> Words:
    """SipHash-2-4 of the little-endian bytes of each row's words: uint64[n] columns → uint64[n]."""
    start = [key.k0, key.k1, key.k0, key.k1]
    n = len(words[0])
    v = [np.full(n, constant ^ part, np.uint64) for constant, part in zip(_CONSTANTS, start, strict=True)]
    scratch = np.empty(n, np.uint64)
    length = np.full(1, (8 * len(words)) << 56, np.uint64)
    for word in [*words, length]:
        v[3] ^= word
        _rounds(v, 2, scratch)
        v[0] ^= word
    v[2] ^= np.uint64(0xFF)
    _rounds(v, 4, scratch)
    v[0] ^= v[1]
    v[2] ^= v[3]
    v[0] ^= v[2]
    return v[0]


def sequence(
    key: Key, version: int, target: Rows, target_port: npt.NDArray[np.uint16], our_port: npt.ArrayLike
) -> npt.NDArray[np.uint32]:
    """The sequence number of the probe for each flow.

    `version` is 4 or 6, `target` ADDRESS[n], `target_port` uint16[n], `our_port` uint16[n] or one port. Returns
    uint32[n].
    """
    ports = target_port.astype(np.uint64)
    ports <<= np.uint64(16)
    ports |= np.asarray(our_port, np.uint64)
    if version == 4:
        word = target["lo"] << np.uint64(32)
        word |= ports
        words = [word]
    else:
        words = [np.ascontiguousarray(target["hi"]), np.ascontiguousarray(target["lo"]), ports]
    return siphash(key, words).astype(np.uint32)
