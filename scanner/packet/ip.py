"""IP headers as columns: from where a packet begins to where its payload does.

Both families become the same columns (`Packets`), so whoever reads the payload asks for the family once and
never for a field of it. A header that is not whole, or contradicts itself, drops its row; the caller
counts how many are gone. The end of the packet is the header's word, cut to what was captured: bytes behind it
(padding, a frame check sequence) are nobody's payload. A length of zero means that offload left it
unfinished, and then the capture's word is taken.

Limit: IPv6 extension headers are followed up to 8 deep.

Sources: RFC 791, RFC 8200 section 4.
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from .addresses import from_words
from .headers import IPV4, IPV6, MAPPED, Bools, Bytes, Ints, Rows, read

U8 = npt.NDArray[np.uint8]

_EXTENSIONS = (0, 43, 44, 51, 60, 135, 139, 140)  # IPv6 headers that another header follows
_FRAGMENT, _AUTHENTICATION = 44, 51


_UNTOLD = 1 << 20  # a total length beyond any


@dataclass(frozen=True)
class Packets:
    """IP packets of one family: where the payload lies, and the header's facts."""

    row: Ints
    at: Ints  # of the payload
    end: Ints  # of what was captured of it
    length: Ints  # of the payload, by the header
    protocol: U8
    first: Bools  # not a later fragment
    src: Rows
    dst: Rows
    ttl: U8
    tos: U8

    def take(self, rows: Ints | Bools) -> "Packets":
        """The given rows (indices or mask) of every column."""
        return Packets(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})


def ip_layer(buffer: Bytes, family: int, rows: Ints, at: Ints, end: Ints, quoted: bool = False) -> Packets:
    """IP headers at `at`; rows whose header is not whole are left out.

    The length in a header that an ICMP error quotes is not believed: some stacks change it before they quote.
    """
    return (_ipv4 if family == 4 else _ipv6)(buffer, rows, at, end, quoted)


def _ipv4(buffer: Bytes, rows: Ints, at: Ints, end: Ints, quoted: bool) -> Packets:
    header = read(buffer, at, IPV4)
    size = (header["version_ihl"] & 15).astype(np.int64) * 4
    total = header["total_length"].astype(np.int64)
    whole = (at + IPV4.itemsize <= end) & (size >= IPV4.itemsize) & (at + size <= end)
    total[(total == 0) | quoted] = _UNTOLD  # segmentation offload leaves 0
    whole &= total >= size
    if not whole.all():
        rows, at, end, header = rows[whole], at[whole], end[whole], header[whole]
        size, total = size[whole], total[whole]
    return Packets(
        row=rows,
        at=at + size,
        end=np.minimum(end, at + total),
        length=np.where(total < _UNTOLD, total, end - at) - size,
        protocol=header["protocol"],
        first=header["fragment"] & 0x1FFF == 0,
        src=from_words(0, header["src"].astype(np.uint64) | np.uint64(MAPPED), len(at)),
        dst=from_words(0, header["dst"].astype(np.uint64) | np.uint64(MAPPED), len(at)),
        ttl=header["ttl"],
        tos=header["tos"],
    )


def _ipv6(buffer: Bytes, rows: Ints, at: Ints, end: Ints, quoted: bool) -> Packets:
    whole = at + IPV6.itemsize <= end
    if not whole.all():
        rows, at, end = rows[whole], at[whole], end[whole]
    header = read(buffer, at, IPV6)
    length = header["payload_length"].astype(np.int64)
    payload = at + IPV6.itemsize
    length = np.where((length == 0) | quoted, np.maximum(0, end - payload), length)  # 0: jumbogram or offload
    stop, end = payload + length, np.minimum(end, payload + length)
    protocol, payload, first = _extensions(buffer, header["next_header"].copy(), payload, end)
    return Packets(
        row=rows,
        at=payload,
        end=end,
        length=stop - payload,
        protocol=protocol,
        first=first,
        src=from_words(header["src_hi"], header["src_lo"], len(at)),
        dst=from_words(header["dst_hi"], header["dst_lo"], len(at)),
        ttl=header["hop_limit"],
        tos=(header["version_class_flow"] >> np.uint32(20)).astype(np.uint8),
    )


def _extensions(buffer: Bytes, protocol: U8, at: Ints, end: Ints) -> tuple[U8, Ints, Bools]:
    """Follow IPv6 extension headers (RFC 8200 4): the final protocol, its position, and "is the first fragment"."""
    first = np.ones(len(at), np.bool_)
    fixed = np.dtype([("next", "u1"), ("length", "u1"), ("fragment", ">u2")])
    for _ in range(8):
        rows = np.flatnonzero(np.isin(protocol, _EXTENSIONS) & first & (at + 8 <= end))
        if not rows.size:
            break
        header = read(buffer, at[rows], fixed)
        kind, units = protocol[rows], header["length"].astype(np.int64)
        size = np.where(kind == _FRAGMENT, 8, np.where(kind == _AUTHENTICATION, (units + 2) * 4, (units + 1) * 8))
        first[rows] = (kind != _FRAGMENT) | (header["fragment"] & 0xFFF8 == 0)
        protocol[rows] = header["next"]
        at = at.copy()
        at[rows] += size
    return protocol, at, first
