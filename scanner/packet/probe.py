"""Frames to send: built once by Scapy, stamped by numpy.

Scapy knows how a SYN, a reset, an ARP request or a neighbour solicitation looks, but needs a millisecond to build one.
So each scan builds one frame of each kind in which the fields that differ are zero. For a batch the constant bytes are
copied and only those fields are written, through the offset tables of `headers`.

A checksum is the complement of a sum of 16-bit words (RFC 1071), and the order of the words does not matter. So the
constant part is summed once, and a stamp adds only what it wrote. A test compares every stamped frame with Scapy's.

The default SYN carries the option set of a common system (MSS, SACK permitted, timestamp, window scale), because some
hosts and middleboxes drop a bare SYN. It sets DF, as systems do, and is marked DSCP LE (RFC 8622). That is polite, and
it tells a reset of the host, which copies the mark, from one of a firewall.

The two families differ in a table and in their address words; everything else is shared.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .headers import (
    ARP,
    ETHERNET,
    IP,
    NDP_FIXED,
    OPTION_NOP,
    OPTION_STAMP,
    PROTO_ICMPV6,
    PROTO_TCP,
    TCP,
    TCP_STAMP,
    U16,
    U32,
    U64,
    Bytes,
    Rows,
    overlay,
)
from .template import Recipe, build


@dataclass(frozen=True)
class Template:
    """A frame with its differing fields zero, and the checksum sums over what is left.

    An ARP request has no checksums: its sums have no meaning, and its body begins at `ip`.
    """

    frame: Bytes
    version: int
    ip: int  # offset of the IP header
    payload: int  # offset of the TCP header, or of the ICMPv6 message
    ip_sum: int
    payload_sum: int
    clock: int = 0  # offset of the TCP time stamp option; 0: there is none

    @property
    def length(self) -> int:
        """Bytes of each frame."""
        return len(self.frame)


def prepare(recipe: Recipe) -> Template:
    """The frame of a recipe, built once, with the sums of its constant words."""
    frame, version = np.frombuffer(build(recipe), np.uint8).copy(), recipe.version
    ip = 0 if recipe.mac is None else ETHERNET.itemsize
    payload = ip + IP[version].itemsize
    # The sum of the payload includes a pseudo-header (RFC 9293 3.1, RFC 8200 8.1): both addresses, the protocol and the
    # length of the payload. The target's address is added by each stamp.
    source = frame[ip + 12 : ip + 16] if version == 4 else frame[ip + 8 : ip + 24]
    protocol = PROTO_ICMPV6 if recipe.kind == "query" else PROTO_TCP
    payload_sum = _word_sum(frame[payload:]) + _word_sum(source) + protocol + len(frame) - payload
    clock = _clock_offset(frame, payload) if protocol == PROTO_TCP else 0
    return Template(frame, version, ip, payload, _word_sum(frame[ip:payload]), payload_sum, clock)


def _clock_offset(frame: Bytes, payload: int) -> int:
    """Where the time stamp option of a segment begins, or 0. Each option but NOP has its length in its second byte."""
    at = payload + TCP.itemsize
    while at < len(frame) and frame[at] != OPTION_STAMP:
        at += 1 if frame[at] == OPTION_NOP else int(frame[at + 1])
    return at if at < len(frame) else 0


def _word_sum(data: Bytes) -> int:
    """The sum of 16-bit words; an odd last byte is filled with zero."""
    return int(np.append(data, np.zeros(len(data) % 2, np.uint8)).view(">u2").sum(dtype=np.int64))


def stamp(
    template: Template,
    rows: Bytes,
    target: Rows,
    target_port: U16,
    our_port: npt.ArrayLike,
    seq: U32,
    macs: Rows | None = None,
    clock: int = 0,
    ack: U32 | None = None,
) -> None:
    """Write one frame per row of `rows` (uint8[n, at least template.length]).

    `target` is ADDRESS[n], `target_port` uint16[n], `our_port` uint16[n] or one port, `seq` uint32[n],
    `macs` V6[n] next hops (None: the template's own), `clock` the TCP time stamp where the frame has one, `ack`
    uint32[n] what a SYN/ACK acknowledges.
    """
    rows[:, : template.length] = template.frame
    if macs is not None:
        overlay(rows, 0, ETHERNET)["dst"] = macs
    # The identification of IPv4 is the folded sequence number: different for each probe, and without a counter.
    identity = (seq ^ (seq >> np.uint32(16))) & np.uint32(0xFFFF)
    total = _stamp_address(template, overlay(rows, template.ip, IP[template.version]), target, identity)
    tcp = overlay(rows, template.payload, TCP)
    tcp["dport"] = target_port
    tcp["sport"] = our_port
    tcp["seq"] = seq
    # The sum of at most some fifty words of 16 bits: it fits 32 bits, and its carries are folded in at the end.
    total += (seq >> np.uint32(16)) + (seq & np.uint32(0xFFFF))
    total += target_port
    total += np.asarray(our_port, np.uint32)
    total += np.uint32(template.payload_sum)
    if ack is not None:
        tcp["ack"] = ack
        total += (ack >> np.uint32(16)) + (ack & np.uint32(0xFFFF))
    if template.clock:
        overlay(rows, template.clock, TCP_STAMP)["clock"] = clock
        total += np.uint32((clock >> 16) + (clock & 0xFFFF))
    tcp["checksum"] = _finish(total)


def _stamp_address(template: Template, ip: Rows, target: Rows, identity: U32) -> U32:
    """The target's address, and IPv4's identification and checksum; returns the sum of the address's words."""
    if template.version == 6:
        ip["dst_hi"], ip["dst_lo"] = target["hi"], target["lo"]
        return _halves(target["hi"]) + _halves(target["lo"])
    address = target["lo"].astype(np.uint32)
    ip["dst"] = address
    ip["id"] = identity
    total = (address >> np.uint32(16)) + (address & np.uint32(0xFFFF))
    ip["checksum"] = _finish(total + identity + np.uint32(template.ip_sum))
    return total


def _halves(words: U64) -> U32:
    """The sum of the four 16-bit words of each 64-bit word, at most 18 bits long."""
    # Two additions at once: each half of `pairs` holds the sum of two 16-bit words, and then both halves are added.
    pairs = (words & np.uint64(0x0000FFFF0000FFFF)) + ((words >> np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF))
    return np.asarray((pairs + (pairs >> np.uint64(32))).astype(np.uint32) & np.uint32(0x3FFFF))


def _finish(total: U32) -> U32:
    """Add the carries back in, twice because the first time may make a new one, and complement (RFC 1071)."""
    folded = (total & np.uint32(0xFFFF)) + (total >> np.uint32(16))
    folded += folded >> np.uint32(16)
    return ~folded & np.uint32(0xFFFF)


# A solicitation goes to the group ff02::1:ff00:0/104 of the address's last three bytes (RFC 4291 2.7.1), and so to the
# MAC address 33:33 with the group's last four bytes (RFC 2464 7).
_LAST_THREE_BYTES = np.uint64(0xFFFFFF)
_SOLICITED_HI, _SOLICITED_LO = np.uint64(0xFF02_0000_0000_0000), np.uint64(0x0000_0001_FF00_0000)
_GROUP_MAC = np.dtype([("prefix", ">u2"), ("low", ">u4")])


def stamp_query(template: Template, rows: Bytes, target: Rows) -> None:
    """Write one query per row of `rows` for the addresses `target` (ADDRESS[n])."""
    rows[:, : template.length] = template.frame
    if template.version == 4:
        overlay(rows, template.ip, ARP)["target"] = target["lo"].astype(np.uint32)
        return
    group_lo = (target["lo"] & _LAST_THREE_BYTES) | _SOLICITED_LO
    overlay(rows, 0, _GROUP_MAC)["low"] = group_lo & np.uint64(0xFFFFFFFF)
    ip = overlay(rows, template.ip, IP[template.version])
    ip["dst_hi"], ip["dst_lo"] = _SOLICITED_HI, group_lo
    body = overlay(rows, template.payload, NDP_FIXED)
    body["target_hi"], body["target_lo"] = target["hi"], target["lo"]
    total = _halves(np.full(len(target), _SOLICITED_HI)) + _halves(group_lo)
    total += _halves(target["hi"]) + _halves(target["lo"]) + np.uint32(template.payload_sum)
    body["icmp"]["checksum"] = _finish(total)
