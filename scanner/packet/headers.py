"""Header fields as tables of byte offsets, each written once.

Every header that the scanner reads or writes is one numpy structured dtype below: the field names are the offset
table, the big-endian types are the byte order. `read` lays such a table over many positions of one buffer at once and
copies the rows out. Stamping lays the same tables over the rows of a transmit ring and writes through them. A length
is checked once, before `read`. Positions that do not fit are clipped, so a hostile length never reaches outside the
buffer; what is read there has no meaning, and the caller drops the row.

Limit: a table describes the fixed part of a header. `ip` follows IPv4 options and IPv6 extension headers, `link` what
comes before IP.

Sources: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293 (TCP), RFC 792 and RFC 4443 (ICMP), RFC 826 (ARP).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
Bytes = U8
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.void]
Bools = npt.NDArray[np.bool_]

# A 128-bit address as two words. IPv4 is held as the mapped ::ffff:a.b.c.d (RFC 4291 2.5.5.2), so that one column
# type and one comparison serve both families.
ADDRESS = np.dtype([("hi", "u8"), ("lo", "u8")])
MAPPED = 0xFFFF_0000_0000  # low word of ::ffff:0.0.0.0

ETHERNET = np.dtype([("dst", "V6"), ("src", "V6"), ("type", ">u2")])
IPV4 = np.dtype([("version_ihl", "u1"), ("tos", "u1"), ("total_length", ">u2"), ("id", ">u2"), ("fragment", ">u2"),
                 ("ttl", "u1"), ("protocol", "u1"), ("checksum", ">u2"), ("src", ">u4"), ("dst", ">u4")])  # fmt: skip
IPV6 = np.dtype([("version_class_flow", ">u4"), ("payload_length", ">u2"), ("next_header", "u1"), ("hop_limit", "u1"),
                 ("src_hi", ">u8"), ("src_lo", ">u8"), ("dst_hi", ">u8"), ("dst_lo", ">u8")])  # fmt: skip
IP = {4: IPV4, 6: IPV6}  # by version
TCP = np.dtype([("sport", ">u2"), ("dport", ">u2"), ("seq", ">u4"), ("ack", ">u4"), ("offset", "u1"), ("flags", "u1"),
                ("window", ">u2"), ("checksum", ">u2"), ("urgent", ">u2")])  # fmt: skip
# The time stamp option (RFC 7323 3.2): our clock, and an echo of theirs.
TCP_STAMP = np.dtype([("kind", "u1"), ("length", "u1"), ("clock", ">u4"), ("echo", ">u4")])
# The 8 bytes that an ICMP error must quote (RFC 792).
TCP_PORTS_SEQ = np.dtype([("sport", ">u2"), ("dport", ">u2"), ("seq", ">u4")])
UDP = np.dtype([("sport", ">u2"), ("dport", ">u2"), ("length", ">u2"), ("checksum", ">u2")])
ICMP = np.dtype([("type", "u1"), ("code", "u1"), ("checksum", ">u2"), ("rest", ">u4")])
# Solicitations and advertisements begin alike (RFC 4861 4.3, 4.4); the option has a link-layer address (4.6.1).
NDP_FIXED = np.dtype([("icmp", ICMP), ("target_hi", ">u8"), ("target_lo", ">u8")])
NDP_OPTION = np.dtype([("kind", "u1"), ("length", "u1"), ("mac", "V6")])
ARP = np.dtype([("hardware", ">u2"), ("protocol", ">u2"), ("hardware_length", "u1"), ("protocol_length", "u1"),
                ("operation", ">u2"), ("sender_mac", "V6"), ("sender", ">u4"),
                ("target_mac", "V6"), ("target", ">u4")])  # fmt: skip

# Kinds of TCP options: RFC 9293 3.2, RFC 7323 2.2 and 3.2, RFC 2018 2 and 3.
OPTION_END, OPTION_NOP, OPTION_MSS, OPTION_SCALE, OPTION_SACK_OK, OPTION_SACK, OPTION_STAMP = 0, 1, 2, 3, 4, 5, 8
FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
PROTO_ICMP, PROTO_TCP, PROTO_UDP, PROTO_ICMPV6 = 1, 6, 17, 58
ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x86DD

# Link types by their LINKTYPE_ numbers in capture files.
LINK_ETHERNET, LINK_RAW = 1, 101


@dataclass(frozen=True)
class Frames:
    """A batch of captured frames in one buffer.

    `buffer` is uint8[bytes]; frame i is `buffer[start[i] : start[i] + length[i]]`. `time` is in
    nanoseconds since 1970. `link` is the LINKTYPE_ number of each frame. From a transport or a capture reader
    the buffer is only valid until the next call that fetches frames: copy what must be kept.
    """

    buffer: Bytes
    start: Ints
    length: Ints  # captured bytes
    time: Ints
    link: U16

    def __len__(self) -> int:
        return len(self.start)

    def take(self, rows: Ints | Bools) -> "Frames":
        """The given rows (indices or mask), same buffer."""
        return Frames(self.buffer, self.start[rows], self.length[rows], self.time[rows], self.link[rows])


def read(buffer: Bytes, at: Ints, header: np.dtype[Any]) -> Rows:
    """Copy `header` out of `buffer` at every position of `at`; returns a structured array[len(at)].

    The caller checks the lengths: rows at positions outside the buffer have no meaning. A buffer shorter than the
    header gives zeros.
    """
    last = len(buffer) - header.itemsize
    if last < 0:
        return np.zeros(len(at), header)
    # A view in which row i is the header at byte i: the rows overlap, and gathering some of them is one copy.
    # They are gathered as bytes: numpy copies structured rows field by field, which takes ten times as long.
    everywhere = np.ndarray((last + 1,), f"V{header.itemsize}", buffer, strides=(1,))
    return everywhere[np.clip(at, 0, last)].view(header)


def opaque(rows: Rows) -> Rows:
    """The same rows, seen as bytes without fields: numpy copies rows field by field, which takes ten times as long."""
    return rows.view(f"V{rows.dtype.itemsize}")


def number(buffer: Bytes, at: Ints, kind: str) -> Ints:
    """A field at every position of `at`, of a numpy type such as ">u2"; returns int64[len(at)], as `read` does."""
    return read(buffer, at, np.dtype(kind)).astype(np.int64)


def overlay(rows: Bytes, at: int, header: np.dtype[Any]) -> Rows:
    """`header` as a writable view at offset `at` of every row of uint8[n, width]; returns a structured array[n]."""
    return rows[:, at : at + header.itemsize].view(header)[:, 0]
