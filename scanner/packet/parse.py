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

A frame is followed into tunnels (see `tunnel`) where the caller wishes it, layer by layer: all frames that carry a
packet inside go on together as if the inner packets were the frames.

Frames may be cut short: 14 bytes of TCP hold ports, numbers and flags, and they are enough for a verdict.

Limit: only first fragments are read, and what `ip` can follow.

Sources: RFC 9293 (TCP), RFC 792 (ICMP), RFC 4443 (ICMPv6).
"""

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from .headers import (
    FIN,
    ICMP,
    IP,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_TCP,
    PROTO_UDP,
    TCP,
    TCP_PORTS_SEQ,
    U8,
    U16,
    U32,
    Bools,
    Frames,
    Ints,
    Rows,
    read,
)
from .ip import Packets, ip_layer
from .link import Cause, Network, network_at, network_layer
from .tunnel import MOST_NESTED, NESTED_DEEPER, NOT_READ, Inside, Tunnels, join, look_inside
from .unread import Aside, count_unread, take_arp, take_udp

_LEAST_TCP, _TO_WINDOW = 14, 16  # bytes: up to the flags, and up to the window
QUOTE_BYTES = 8  # of TCP, that every ICMP error must quote (RFC 792)
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
    ip_at: Ints  # where the IP header begins, in the buffer of the Frames
    end: Ints  # where the captured part of the IP packet ends there
    tunnel: Ints  # the number of the tunnel that the packet was in; 0: none
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
class _Batch:
    """What the layers of one batch share."""

    frames: Frames
    counts: Counter[str]
    aside: Aside | None
    tunnels: Tunnels | None
    tunnel: Ints | None = None  # that each frame has been followed into; None before the first
    inside: list[Inside] = field(default_factory=list)  # of tunnels that are still to be read

    def tunnels_of(self, frame: Ints) -> Ints:
        """The number of the tunnel that each frame is in by now."""
        return np.zeros(len(frame), np.int64) if self.tunnel is None else self.tunnel[frame]


def parse(frames: Frames, counts: Counter[str], aside: Aside | None = None, tunnels: Tunnels | None = None) -> Segments:
    """TCP segments and ICMP errors of a batch; other frames are added to `counts` by cause.

    `aside`, where given, is filled with addresses that no verdict rests on. With `tunnels` the packets inside tunnels
    are read too, and a frame gives what its innermost packet is.
    """
    batch = _Batch(frames, counts, aside, tunnels)
    end = frames.start + frames.length
    parts = _network(batch, None, network_layer(frames), end, frames.link)
    for _ in range(MOST_NESTED):
        if not batch.inside:
            break
        assert tunnels is not None, "tunnels are entered only where their numbers are wanted"
        inside, batch.inside = join(batch.inside), []
        number = tunnels.enter(batch.tunnels_of(inside.row), inside)
        batch.tunnel = np.zeros(len(frames), np.int64) if batch.tunnel is None else batch.tunnel
        batch.tunnel[inside.row] = number
        network = network_at(frames.buffer, inside.at, inside.end, inside.protocol)
        parts += _network(batch, inside.row, network, inside.end, 0)
    if batch.inside:
        counts[NESTED_DEEPER] += len(join(batch.inside).row)
    if not parts:  # the columns are empty, but there
        parts = _family(batch, 4, np.zeros(0, np.int64), end[:0], end[:0])
    # A live scan has nearly always one family and no ICMP error: then there is nothing to copy.
    return parts[0] if len(parts) == 1 else _join(parts)


def _network(batch: _Batch, frame: Ints | None, network: Network, end: Ints, link: U16 | int) -> list[Segments]:
    """IP packets of the given frames (None: of all), which begin where `network` says."""
    buffer, aside = batch.frames.buffer, batch.aside
    if network.cause.any():
        count_unread(network, link, batch.counts)
        arp = np.flatnonzero(network.cause == Cause.ARP)
        if aside and arp.size:
            take_arp(buffer, network.at[arp], end[arp], batch.tunnels_of(arp if frame is None else frame[arp]), aside)
    parts: list[Segments] = []
    for family in (4, 6):
        rows = np.flatnonzero(network.version == family)
        if rows.size:
            parts += _family(batch, family, rows if frame is None else frame[rows], network.at[rows], end[rows])
    return parts


def _join(parts: list[Segments]) -> Segments:
    return Segments(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})


def _family(batch: _Batch, family: int, frame: Ints, at: Ints, end: Ints) -> list[Segments]:
    counts, aside = batch.counts, batch.aside
    packets = ip_layer(batch.frames.buffer, family, frame, at, end)
    counts["truncated"] += len(frame) - len(packets.row)
    if later := int(np.count_nonzero(~packets.first)):
        counts["fragment"] += later
        packets = packets.take(packets.first)
    tcp = packets.protocol == PROTO_TCP
    others = len(tcp) - int(np.count_nonzero(tcp))
    if aside and others:
        aside.towards.append((packets.dst[~tcp], batch.tunnels_of(packets.row[~tcp])))
    icmp = packets.protocol == _ICMP_PROTOCOL[family]
    others -= int(np.count_nonzero(icmp))
    udp = packets.protocol == PROTO_UDP
    if batch.tunnels and others:
        tunnel = _enter(batch, family, packets)
        others -= int(np.count_nonzero(tunnel))
        udp &= ~tunnel
    if aside and udp.any():
        row = packets.row[udp]
        take_udp(batch.frames.buffer, packets.take(udp), batch.frames.time[row], batch.tunnels_of(row), aside)
    counts["other-protocol"] += others
    parts = [_tcp(batch, family, packets if tcp.all() else packets.take(tcp))]
    if icmp.any():
        parts.append(_icmp(batch, family, packets.take(icmp)))
    return parts


def _enter(batch: _Batch, family: int, packets: Packets) -> Bools:
    """Note what tunnels carry, to be read next; returns which packets are tunnels."""
    inside, unread = look_inside(batch.frames.buffer, family, packets)
    if unreadable := int(np.count_nonzero(unread)):
        batch.counts[NOT_READ] += unreadable
    if len(inside.row):
        batch.inside.append(inside._replace(row=packets.row[inside.row]))
    unread[inside.row] = True
    return unread


def _tcp(batch: _Batch, family: int, packets: Packets) -> Segments:
    whole = (packets.at + _LEAST_TCP <= packets.end) & (packets.length >= TCP.itemsize)
    if not whole.all():
        batch.counts["truncated"] += len(whole) - int(np.count_nonzero(whole))
        packets = packets.take(whole)
    segments = _segments(batch, read(batch.frames.buffer, packets.at, TCP), packets, family)
    if (packets.end - packets.at).min(initial=_TO_WINDOW) < _TO_WINDOW:
        segments.window[packets.at + _TO_WINDOW > packets.end] = -1
    return segments


def _icmp(batch: _Batch, family: int, packets: Packets) -> Segments:
    """ICMP errors that quote TCP, turned round."""
    buffer, counts, aside = batch.frames.buffer, batch.counts, batch.aside
    # Step 1: errors with a whole ICMP header.
    whole = packets.at + ICMP.itemsize <= packets.end
    counts["truncated"] += len(whole) - int(np.count_nonzero(whole))
    packets = packets.take(whole)
    header = read(buffer, packets.at, ICMP)
    error = _ERRORS[family][header["type"]]
    counts["other-icmp"] += len(error) - int(np.count_nonzero(error))
    packets, header = packets.take(error), header[error]

    # Step 2: the quoted IP header; `quoted.row` tells to which error each quote belongs.
    index = np.arange(len(packets.row))
    quoted = ip_layer(buffer, family, index, packets.at + ICMP.itemsize, packets.end, quoted=True)
    headless = _headless(packets, family, quoted.row) if aside else ()
    if aside and len(headless):
        aside.cut.append((packets.src[headless], packets.dst[headless], batch.tunnels_of(packets.row[headless])))
    ours = quoted.first & (quoted.protocol == PROTO_TCP)
    counts["icmp-quotes-other"] += len(index) - int(np.count_nonzero(ours)) - len(headless)
    quoted = quoted.take(ours)
    outer, header = packets.take(quoted.row), header[quoted.row]

    # Step 3: ports and sequence number of the quoted probe, 0 where the quote ends before them.
    truncated = quoted.at + QUOTE_BYTES > quoted.end
    probe = read(buffer, quoted.at, TCP_PORTS_SEQ)
    probe[truncated] = 0
    turned = np.zeros(len(probe), TCP)
    turned["sport"], turned["dport"], turned["seq"] = probe["dport"], probe["sport"], probe["seq"]
    segments = _segments(batch, turned, outer._replace(src=quoted.dst, dst=quoted.src), family)
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


def _segments(batch: _Batch, tcp: Rows, packets: Packets, family: int) -> Segments:
    """One row for each TCP header of `tcp`, none of them an ICMP error."""
    n = len(tcp)
    return Segments(
        frame=packets.row,
        ip_at=packets.header_at,
        end=packets.end,
        tunnel=batch.tunnels_of(packets.row),
        time=batch.frames.time[packets.row],
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
