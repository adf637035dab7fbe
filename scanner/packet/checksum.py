"""Which frames have a wrong IPv4 header checksum or a wrong TCP checksum.

A checksum rejects nothing here. It is a hint: real hosts send right ones, because every router and every kernel drops
the others. A device that forges replies may not care.

Offload makes it harder. The machine that sends a frame may leave the checksums to its hardware. Then a capture on that
machine, and the other end of a virtual link, see them unfinished:

- Linux writes the sum of the pseudo header into the TCP checksum (CHECKSUM_PARTIAL). This is recognised exactly.
- Other systems leave 0 in the IPv4 checksum.

Neither counts as wrong. The kernel also marks such frames in a receive ring (TP_STATUS_CSUMNOTREADY), but a capture
file has no room for that. The bytes alone decide, so that a scan and its recording say the same.

All rows of one size are summed as one matrix of 32-bit words. The sum does not depend on the byte order (RFC 1071,
2 B), and a sum in ones' complement is a remainder modulo 65,535. A reply costs about 30 ns.

Limits: a TCP checksum is not tested in a fragment, in a frame that was cut, behind IPv6 extension headers, and where
the length in the IP header is 0. The checksum of ICMP is not tested.

Sources: RFC 1071, RFC 9293 3.1 (pseudo header), RFC 8200 8.1; Linux include/linux/skbuff.h, "CHECKSUM_PARTIAL".
"""

import numpy as np

from .headers import IP, PROTO_TCP, TCP, U32, U64, Bools, Bytes, Frames, Ints, read
from .parse import Segments

_WORD, _MODULUS = np.dtype("<u4"), np.uint64(65535)
_FRAGMENTED = 0x3FFF  # more fragments, or an offset
# In words of four bytes: the addresses, and the words that hold a checksum.
_ADDRESSES = {4: slice(3, 5), 6: slice(2, 10)}
_IPV4_CHECKSUM, _TCP_CHECKSUM = 2, 4  # the upper half of the one, the lower half of the other (as read here)


def wrong_checksums(frames: Frames, segments: Segments) -> Bools:
    """Which segments, parsed from `frames`, came with a wrong checksum: bool[n]."""
    wrong = np.zeros(len(segments), np.bool_)
    for family in (4, 6):
        row = np.flatnonzero(segments.version == family)
        if row.size:
            wrong[row] = _family(frames.buffer, family, segments.ip_at[row], segments.end[row], segments.icmp[row])
    return wrong


def _family(buffer: Bytes, family: int, at: Ints, end: Ints, icmp: Bools) -> Bools:
    """Group the packets by the size of the IP header and of what is to be summed."""
    header, fixed = read(buffer, at, IP[family]), IP[family].itemsize
    if family == 4:
        ip_size = (header["version_ihl"] & 15).astype(np.int64) * 4
        size = header["total_length"].astype(np.int64)
        tcp = (header["fragment"] & _FRAGMENTED == 0) & ~icmp
    else:
        ip_size = np.full(len(at), fixed)
        size = header["payload_length"].astype(np.int64) + fixed
        tcp = (header["next_header"] == PROTO_TCP) & ~icmp
    tcp &= (at + size <= end) & (size >= ip_size + TCP.itemsize)
    size = np.where(tcp, size, ip_size)
    if (size == size[0]).all() and (ip_size == ip_size[0]).all():  # as the replies of one kind of host
        return _packets(buffer, family, at, int(ip_size[0]), int(size[0]))
    wrong = np.zeros(len(at), np.bool_)
    for ip_bytes in np.flatnonzero(np.bincount(ip_size)).tolist():
        same = ip_size == ip_bytes
        for all_bytes in np.flatnonzero(np.bincount(size[same])).tolist():
            row = np.flatnonzero(same & (size == all_bytes))
            wrong[row] = _packets(buffer, family, at[row], ip_bytes, all_bytes)
    return wrong


def _packets(buffer: Bytes, family: int, at: Ints, ip_size: int, size: int) -> Bools:
    """Packets that have these sizes; `size` is that of the header where there is no TCP to test."""
    # The gathered rows are turned, so that each sum below adds whole columns of memory: word by word uint32[size/4, n].
    packets = read(buffer, at, np.dtype(f"V{size}")).view(np.uint8).reshape(len(at), size)
    if size % 4:  # an odd last byte is the upper one of its word
        packets = np.pad(packets, ((0, 0), (0, -size % 4)))
    words = np.ascontiguousarray(packets.view(_WORD).T)
    wrong = _tcp_wrong(words, family, ip_size, size) if size > ip_size else np.zeros(len(at), np.bool_)
    if family == 4:
        wrong |= (_sum(words[: ip_size // 4]) != 0) & (words[_IPV4_CHECKSUM] >> 16 != 0)
    return wrong


def _tcp_wrong(words: U32, family: int, ip_size: int, size: int) -> Bools:
    # The words are read as little-endian ones, and so protocol and length have their bytes exchanged, too.
    length = int.from_bytes((size - ip_size).to_bytes(2, "big"), "little")
    pseudo = _sum(words[_ADDRESSES[family]]) + np.uint64((PROTO_TCP << 8) + length)
    wrong = (pseudo + _sum(words[ip_size // 4 :])) % _MODULUS != 0
    if wrong.any():
        field = words[ip_size // 4 + _TCP_CHECKSUM] & 0xFFFF
        wrong &= (field % _MODULUS != pseudo % _MODULUS) | (field == 0)
    return np.asarray(wrong)


def _sum(words: U32) -> U64:
    """The sum of each column as ones' complement, uint64[n]: 0 where it is all ones, as behind a right checksum."""
    return np.asarray(words.sum(axis=0, dtype=np.uint64) % _MODULUS)
