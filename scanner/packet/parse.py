"""Frames in, columns out.

`parse` reads all frames of a batch at once and returns the TCP segments, and the ICMP errors that quote one, as
columns (`Segments`). It is the only parser: live replies, our own recorded probes and captures of other programs all
pass here. Other frames are counted by cause.

An ICMP error is turned round: `src` is the address to which the quoted probe was sent, `dst` the address that sent
it, and the ports likewise. So "who answers which probe" reads the same for both kinds. `sender` is the address that
sent the frame.

Each length is checked once, at its layer, before the table of that layer is laid over the bytes. The IP header says
where TCP ends, so trailing bytes (padding, frame check sequence) are never read as payload. Checksums are
not looked at here: they reject nothing (see `checksum`).

Frames may be cut short: 14 bytes of TCP hold ports, numbers and flags, and they are enough for a verdict.

Limit: only first fragments are read, and what `ip` can follow.

Sources: RFC 9293 (TCP), RFC 792 (ICMP), RFC 4443 (ICMPv6), RFC 826 (ARP).
"""

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from .addresses import from_ipv4
from .headers import (
    ARP,
    FIN,
    ICMP,
    IP,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_TCP,
    TCP,
    TCP_PORTS_SEQ,
    U8,
    U16,
    U32,
    U64,
    Bools,
    Frames,
    Ints,
    Rows,
    read,
)
from .ip import Packets, ip_layer
from .link import Cause, network_layer

UNSUPPORTED_LINK = "link type"  # counts of such frames are keyed "link type N"
ETHERTYPE = "EtherType"  # counts of frames that hold another protocol are keyed "EtherType 0x88cc (LLDP)"
# Protocols that a reader of captures meets beside IP (IANA, "IEEE 802 Numbers").
_ETHERTYPES = {
    0x0842: "wake-on-LAN", 0x8808: "flow control", 0x8809: "LACP", 0x8863: "PPPoE discovery", 0x888E: "802.1X",
    0x88CC: "LLDP", 0x88E5: "MACsec", 0x88F7: "PTP", 0x8902: "CFM", 0x8906: "FCoE", 0x9000: "loopback test",
    0x894F: "NSH", 0x88E7: "PBB",
}  # fmt: skip
_LEAST_TCP, _TO_WINDOW = 14, 16  # bytes: up to the flags, and up to the window
QUOTE_BYTES = 8  # of TCP, that every ICMP error must quote (RFC 792)
_ARP_REQUEST, _ARP_REPLY = 1, 2
# ICMP types that quote the packet at fault, by family: unreachable, quench, redirect, time exceeded and parameter
# problem (RFC 792); unreachable, too big, time exceeded and parameter problem (RFC 4443).
_ERRORS = {4: np.isin(np.arange(256), [3, 4, 5, 11, 12]), 6: np.isin(np.arange(256), [1, 2, 3, 4])}
_ICMP_PROTOCOL = {4: PROTO_ICMP, 6: PROTO_ICMPV6}


@dataclass(frozen=True)
class Segments:
    """TCP segments and ICMP errors, one row each; every column has the same length.

    `frame` is the row in the Frames that were parsed. `icmp` marks ICMP errors: their addresses, ports and
    `seq` come from the quoted probe with src and dst exchanged, `ack`, `flags` and `window` are 0;
    `truncated` marks those whose quote is too short to hold ports and sequence number (they are 0).
    """

    frame: Ints
    ip_at: Ints  # where the IP header of the frame begins, in the buffer of the Frames
    time: Ints
    version: U8
    src: Rows  # ADDRESS
    dst: Rows
    sender: Rows
    sport: U16
    dport: U16
    seq: U32
    ack: U32
    flags: U8
    window: npt.NDArray[np.int32]  # -1: cut off
    size: U32  # sequence numbers that the segment takes besides its SYN: its data, and 1 for FIN
    ttl: U8
    tos: U8
    plain: Bools  # of the IP header: IPv4 has identification 0 and DF, IPv6 has flow label 0
    icmp: Bools
    icmp_type: U8
    icmp_code: U8
    truncated: Bools

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: Ints | Bools) -> "Segments":
        """The given rows (indices or mask) of every column."""
        return Segments(**{name: column[rows] for name, column in vars(self).items()})


@dataclass
class Aside:
    """What a batch holds besides segments, as ADDRESS columns.

    `towards`: destinations of other IP packets and of ARP replies; `cut`: sender and receiver of ICMP errors that
    were cut off inside the quoted IP header; `arp`: requests and replies, each as the IPv4 address that asks << 32 |
    the address that is asked for.
    """

    towards: list[Rows] = field(default_factory=list)
    cut: list[tuple[Rows, Rows]] = field(default_factory=list)
    arp: list[tuple[U64, U64]] = field(default_factory=list)


def parse(frames: Frames, counts: Counter[str], aside: Aside | None = None) -> Segments:
    """TCP segments and ICMP errors of a batch; other frames are added to `counts` by cause.

    `aside`, where given, is filled with addresses that no verdict rests on.
    """
    at, version, cause, ethertype = network_layer(frames)
    if cause.any():
        _count_unread(frames, cause, ethertype, counts)
        if aside and (cause == Cause.ARP).any():
            _take_arp(frames, at, np.flatnonzero(cause == Cause.ARP), aside)
    end = frames.start + frames.length
    parts: list[Segments] = []
    for family in (4, 6):
        rows = np.flatnonzero(version == family)
        if rows.size or (family == 6 and not parts):  # without any row the columns are empty, but there
            parts += _family(frames, family, rows, at[rows], end[rows], counts, aside)
    # A live scan has nearly always one family and no ICMP error: then there is nothing to copy.
    return parts[0] if len(parts) == 1 else _join(parts)


def _take_arp(frames: Frames, at: Ints, rows: Ints, aside: Aside) -> None:
    """Who asks for which address, and to whom replies were sent."""
    rows = rows[at[rows] + ARP.itemsize <= (frames.start + frames.length)[rows]]
    body = read(frames.buffer, at[rows], ARP)
    body = body[body["protocol_length"] == 4]
    request, reply = body[body["operation"] == _ARP_REQUEST], body[body["operation"] == _ARP_REPLY]
    aside.towards.append(from_ipv4(reply["target"]))
    aside.arp.append((_pairs(request["sender"], request["target"]), _pairs(reply["target"], reply["sender"])))


def _pairs(asker: Rows, asked: Rows) -> U64:
    return np.asarray(asker.astype(np.uint64) << np.uint64(32) | asked.astype(np.uint64))


def _count_unread(frames: Frames, cause: U8, ethertype: Ints, counts: Counter[str]) -> None:
    """Count frames without an IP header by cause: link types and EtherTypes that are not read by their number."""
    detail = np.where(cause == Cause.LINK_TYPE, frames.link, np.where(cause == Cause.ETHERTYPE, ethertype, 0))
    pairs, numbers = np.unique((cause.astype(np.int64) << 16 | detail)[cause > 0], return_counts=True)
    for pair, number in zip(pairs.tolist(), numbers.tolist(), strict=True):
        code, detail = divmod(pair, 1 << 16)
        words = {Cause.LINK_TYPE: f"{UNSUPPORTED_LINK} {detail}", Cause.ETHERTYPE: _ethertype_words(detail)}
        counts[words.get(Cause(code), Cause(code).words)] += number


def _ethertype_words(number: int) -> str:
    name = f" ({_ETHERTYPES[number]})" if number in _ETHERTYPES else ""
    return f"{ETHERTYPE} 0x{number:04x}{name}"


def _join(parts: list[Segments]) -> Segments:
    return Segments(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})


def _family(
    frames: Frames, family: int, rows: Ints, at: Ints, end: Ints, counts: Counter[str], aside: Aside | None
) -> list[Segments]:
    packets = ip_layer(frames.buffer, family, rows, at, end)
    counts["truncated"] += len(rows) - len(packets.row)
    later = int(np.count_nonzero(~packets.first))
    if later:
        counts["fragment"] += later
        packets = packets.take(packets.first)
    tcp = packets.protocol == PROTO_TCP
    if aside and not tcp.all():
        aside.towards.append(packets.dst[~tcp])
    icmp = packets.protocol == _ICMP_PROTOCOL[family]
    counts["other-protocol"] += len(tcp) - int(np.count_nonzero(tcp)) - int(np.count_nonzero(icmp))
    parts = [_tcp(frames, family, packets if tcp.all() else packets.take(tcp), counts)]
    if icmp.any():
        parts.append(_icmp(frames, family, packets.take(icmp), counts, aside))
    return parts


def _tcp(frames: Frames, family: int, packets: Packets, counts: Counter[str]) -> Segments:
    whole = (packets.at + _LEAST_TCP <= packets.end) & (packets.length >= TCP.itemsize)
    if not whole.all():
        counts["truncated"] += len(whole) - int(np.count_nonzero(whole))
        packets = packets.take(whole)
    segments = _segments(frames.time, read(frames.buffer, packets.at, TCP), packets, family)
    short = packets.at + _TO_WINDOW > packets.end
    if short.any():
        segments.window[short] = -1
    return segments


def _icmp(frames: Frames, family: int, packets: Packets, counts: Counter[str], aside: Aside | None) -> Segments:
    """ICMP errors that quote TCP, turned round."""
    # Step 1: errors with a whole ICMP header.
    whole = packets.at + ICMP.itemsize <= packets.end
    counts["truncated"] += len(whole) - int(np.count_nonzero(whole))
    packets = packets.take(whole)
    header = read(frames.buffer, packets.at, ICMP)
    error = _ERRORS[family][header["type"]]
    counts["other-icmp"] += len(error) - int(np.count_nonzero(error))
    packets, header = packets.take(error), header[error]

    # Step 2: the quoted IP header; `quoted.row` tells to which error each quote belongs.
    index = np.arange(len(packets.row))
    quoted = ip_layer(frames.buffer, family, index, packets.at + ICMP.itemsize, packets.end, quoted=True)
    headless = _headless(packets, family, quoted.row) if aside else ()
    if aside and len(headless):
        aside.cut.append((packets.src[headless], packets.dst[headless]))
    ours = quoted.first & (quoted.protocol == PROTO_TCP)
    counts["icmp-quotes-other"] += len(index) - int(np.count_nonzero(ours)) - len(headless)
    quoted = quoted.take(ours)
    outer, header = packets.take(quoted.row), header[quoted.row]

    # Step 3: ports and sequence number of the quoted probe, 0 where the quote ends before them.
    truncated = quoted.at + QUOTE_BYTES > quoted.end
    probe = read(frames.buffer, quoted.at, TCP_PORTS_SEQ)
    probe[truncated] = 0
    turned = np.zeros(len(probe), TCP)
    turned["sport"], turned["dport"], turned["seq"] = probe["dport"], probe["sport"], probe["seq"]
    segments = _segments(frames.time, turned, outer._replace(src=quoted.dst, dst=quoted.src), family)
    return replace(
        segments,
        sender=outer.src,
        size=np.zeros(len(turned), np.uint32),
        icmp=np.ones(len(turned), np.bool_),
        icmp_type=header["type"],
        icmp_code=header["code"],
        truncated=truncated,
    )


def _headless(packets: Packets, family: int, whole: Ints) -> Ints:
    """Rows of ICMP errors that were cut off inside the quoted IP header."""
    rows = np.setdiff1d(np.arange(len(packets.row)), whole)
    quote = packets.end[rows] - packets.at[rows] - ICMP.itemsize
    return rows[(quote > 0) & (quote < IP[family].itemsize)]


def _segments(time: Ints, tcp: Rows, packets: Packets, family: int) -> Segments:
    """One row for each TCP header of `tcp`, none of them an ICMP error."""
    n = len(tcp)
    return Segments(
        frame=packets.row,
        ip_at=packets.header_at,
        time=time[packets.row],
        version=np.full(n, family, np.uint8),
        src=packets.src,
        dst=packets.dst,
        sender=packets.src,
        sport=tcp["sport"].astype(np.uint16),
        dport=tcp["dport"].astype(np.uint16),
        seq=tcp["seq"].astype(np.uint32),
        ack=tcp["ack"].astype(np.uint32),
        flags=tcp["flags"],
        window=tcp["window"].astype(np.int32),
        size=_data_size(tcp, packets.length),
        ttl=packets.ttl,
        tos=packets.tos,
        plain=packets.plain,
        icmp=np.zeros(n, np.bool_),
        icmp_type=np.zeros(n, np.uint8),
        icmp_code=np.zeros(n, np.uint8),
        truncated=np.zeros(n, np.bool_),
    )


def _data_size(tcp: Rows, length: Ints) -> U32:
    """Sequence numbers that a segment takes besides its SYN (RFC 9293 3.4: SEG.LEN)."""
    # The data offset is the upper half of its byte, in words of four bytes.
    data = length - (tcp["offset"] >> 4).astype(np.int64) * 4
    return np.asarray(np.maximum(0, data) + (tcp["flags"] & FIN), np.uint32)
