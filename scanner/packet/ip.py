"""IP headers as columns: where a packet begins, and where its payload begins and ends.

Both families become the same columns (`Packets`), so readers of the payload depend on the family only for its
protocol numbers. A header that is not whole, or contradicts itself, drops its row; the caller counts the difference.
The packet ends where its header says, at most at the end of the captured bytes: what follows (padding, a frame check
sequence) is no payload. A length of zero means that segmentation offload has not filled it in; then the packet ends
with the captured bytes.

Limit: IPv6 extension headers are followed up to 8 deep.

Sources: RFC 791, RFC 8200 section 4; the extension headers of IANA's "IPv6 Extension Header Types".
"""

from typing import NamedTuple

import numpy as np

from .addresses import from_ipv4, from_words
from .headers import IP, U8, Bools, Bytes, Ints, Rows, read

# IPv6 headers that another header follows: hop-by-hop, routing, fragment, authentication, destination options,
# mobility, HIP (RFC 7401), shim6 (RFC 5533).
_FRAGMENT, _AUTHENTICATION = 44, 51
_IS_EXTENSION = np.isin(np.arange(256), (0, 43, _FRAGMENT, _AUTHENTICATION, 60, 135, 139, 140))
_EXTENSION = np.dtype([("next", "u1"), ("length", "u1"), ("fragment", ">u2")])
_SHORTEST_EXTENSION, _MOST_EXTENSIONS = 8, 8
_FRAGMENT_OFFSET = 0x1FFF  # in IPv4's fragment word, below its three flags
_FRAGMENT_OFFSET_IPV6 = 0xFFF8  # in IPv6's, above two reserved bits and one flag
_DONT_FRAGMENT = 0x4000  # IPv4's fragment word with DF and nothing else
_FLOW_LABEL = np.uint32(0xFFFFF)


class Packets(NamedTuple):
    """IP packets of one family: where the payload lies, and the header's facts."""

    row: Ints  # of the caller's `rows`
    header_at: Ints
    at: Ints  # of the payload
    end: Ints  # of the captured part of the payload
    length: Ints  # of the payload, by the header
    protocol: U8
    first: Bools  # not a later fragment
    src: Rows
    dst: Rows
    ttl: U8
    tos: U8
    plain: Bools  # IPv4: identification 0 and DF; IPv6: flow label 0

    def take(self, rows: Ints | Bools) -> "Packets":
        """The given rows (indices or mask) of every column."""
        return Packets._make(column[rows] for column in self)


def ip_layer(buffer: Bytes, family: int, rows: Ints, at: Ints, end: Ints, quoted: bool = False) -> Packets:
    """IP headers at `at`; rows whose header is not whole are left out.

    The length in a header that an ICMP error quotes is not used: some stacks change it before they quote.
    """
    fixed = IP[family].itemsize
    header = read(buffer, at, IP[family])
    if family == 4:
        size = (header["version_ihl"] & 15).astype(np.int64) * 4  # in words of four bytes
        length = header["total_length"].astype(np.int64)
        packet_end = at + length
    else:
        size = np.full(len(at), fixed)
        length = header["payload_length"].astype(np.int64)  # of what follows the fixed part
        packet_end = at + fixed + length
    # A length of 0 is unknown; in IPv6 it also stands for a jumbogram (RFC 2675).
    packet_end = np.where((length == 0) | quoted, end, packet_end)
    payload, end = at + size, np.minimum(end, packet_end)
    # The whole header, with IPv4's options, is captured and lies inside the packet.
    whole = (size >= fixed) & (payload <= end)
    if not whole.all():
        rows, at, header = rows[whole], at[whole], header[whole]
        payload, end, packet_end = payload[whole], end[whole], packet_end[whole]
    if family == 4:
        protocol, ttl, tos = header["protocol"], header["ttl"], header["tos"]
        first = header["fragment"] & _FRAGMENT_OFFSET == 0
        if quoted:  # BSD systems swap the bytes of this word before they quote it, and of the length
            first |= header["fragment"].astype(np.uint16).byteswap() & _FRAGMENT_OFFSET == 0
        plain = (header["id"] == 0) & (header["fragment"] == _DONT_FRAGMENT)
        src, dst = from_ipv4(header["src"]), from_ipv4(header["dst"])
    else:
        protocol, payload, first = _extensions(buffer, header["next_header"].copy(), payload, end)
        ttl, tos = header["hop_limit"], (header["version_class_flow"] >> np.uint32(20)).astype(np.uint8)
        plain = header["version_class_flow"] & _FLOW_LABEL == 0
        src = from_words(header["src_hi"], header["src_lo"], len(rows))
        dst = from_words(header["dst_hi"], header["dst_lo"], len(rows))
    return Packets(rows, at, payload, end, packet_end - payload, protocol, first, src, dst, ttl, tos, plain)


def _extensions(buffer: Bytes, protocol: U8, at: Ints, end: Ints) -> tuple[U8, Ints, Bools]:
    """Follow IPv6 extension headers (RFC 8200 4): the final protocol, its position, and "is the first fragment"."""
    first = np.ones(len(at), np.bool_)
    for _ in range(_MOST_EXTENSIONS):
        # Only rows that stand on a whole extension header move on; behind a later fragment there is no header.
        rows = np.flatnonzero(_IS_EXTENSION[protocol] & first & (at + _SHORTEST_EXTENSION <= end))
        if not rows.size:
            break
        header = read(buffer, at[rows], _EXTENSION)
        kind, units = protocol[rows], header["length"].astype(np.int64)
        # A fragment header has a fixed size, authentication counts words of four bytes less two (RFC 4302 2.2), the
        # others count words of eight bytes less one.
        size = np.where(kind == _FRAGMENT, 8, np.where(kind == _AUTHENTICATION, (units + 2) * 4, (units + 1) * 8))
        first[rows] = (kind != _FRAGMENT) | (header["fragment"] & _FRAGMENT_OFFSET_IPV6 == 0)
        protocol[rows] = header["next"]
        at = at.copy()
        at[rows] += size
    return protocol, at, first
