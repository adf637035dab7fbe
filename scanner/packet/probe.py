"""Frames to send: built once by Scapy, stamped by numpy.

Scapy knows how a SYN, a reset, an ARP request or a neighbour solicitation looks; building a frame costs it
a millisecond. So one frame of each kind is built per scan with the differing fields zero, and for every
batch the constant bytes are copied and only those fields are written, through the offset tables of `headers`.
Checksums are sums of 16-bit words (RFC 1071), so the constant part is added up once and a stamp adds
only what it wrote. A test holds every stamped frame against Scapy's own bytes.

The default SYN carries the option set of a common system (MSS, SACK permitted, timestamp,
window scale): some hosts and middleboxes drop a bare SYN. It is marked DSCP LE (RFC 8622), which is
polite, and which tells resets of the host from a firewall's, and DF, as systems set it.

The two families differ in a table and in which address words they have; everything else is shared.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .headers import ARP, ETHERNET, ICMP, IPV4, IPV6, TCP, Bytes, Rows, overlay
from .template import Recipe, build

U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

TOS_LOWER_EFFORT = 0x04  # DSCP LE, RFC 8622


@dataclass(frozen=True)
class Endpoint:
    """Where a template's frames come from: our addresses (text) and whether there is an Ethernet header."""

    version: int  # 4 or 6
    address: str
    mac: str | None  # None: frames begin with the IP header
    next_hop_mac: str | None = None


@dataclass(frozen=True)
class Template:
    """A frame with its differing fields zero, and the checksum sums over what is left."""

    frame: Bytes
    version: int
    ip: int  # offset of the IP header
    tcp: int  # offset of the TCP header
    ip_sum: int
    tcp_sum: int

    @property
    def length(self) -> int:
        """Bytes of each frame."""
        return len(self.frame)


def syn(
    endpoint: Endpoint,
    *,
    options: str = "os",
    ttl: int = 64,
    tos: int = TOS_LOWER_EFFORT,
    stamp: int = 0,
) -> Template:
    """The probe; `stamp` is the TCP timestamp value that all probes carry."""
    return _summed(build(Recipe("syn", *_ends(endpoint), options, ttl, tos, stamp)), endpoint)


def reset(endpoint: Endpoint, *, ttl: int = 64, tos: int = TOS_LOWER_EFFORT) -> Template:
    """The reset that answers a SYN/ACK."""
    return _summed(build(Recipe("reset", *_ends(endpoint), ttl=ttl, tos=tos)), endpoint)


def _ends(endpoint: Endpoint) -> tuple[int, str, str | None, str | None]:
    return endpoint.version, endpoint.address, endpoint.mac, endpoint.next_hop_mac


def _summed(raw: bytes, endpoint: Endpoint) -> Template:
    frame, version = np.frombuffer(raw, np.uint8).copy(), endpoint.version
    ip = 0 if endpoint.mac is None else ETHERNET.itemsize
    header = IPV4 if version == 4 else IPV6
    tcp = ip + header.itemsize
    overlay(frame[None, :], tcp, TCP)["checksum"] = 0
    ip_sum = _word_sum(frame[ip:tcp])
    # The pseudo-header (RFC 9293 3.1, RFC 8200 8.1): our address, protocol and length; the target's is stamped.
    source = frame[ip + 12 : ip + 16] if version == 4 else frame[ip + 8 : ip + 24]
    tcp_sum = _word_sum(frame[tcp:]) + _word_sum(source) + 6 + len(frame) - tcp
    return Template(frame, version, ip, tcp, ip_sum, tcp_sum)


def _word_sum(data: Bytes) -> int:
    return int(np.concatenate([data, np.zeros(len(data) % 2, np.uint8)]).view(">u2").sum(dtype=np.int64))


def stamp(
    template: Template,
    rows: Bytes,
    target: Rows,
    target_port: U16,
    our_port: npt.ArrayLike,
    seq: U32,
    macs: Rows | None = None,
) -> None:
    """Write one frame per row of `rows` (uint8[n, at least template.length]).

    `target` is ADDRESS[n], `target_port` uint16[n], `our_port` uint16[n] or one port, `seq` uint32[n],
    `macs` V6[n] next hops (None: the template's own).
    """
    rows[:, : template.length] = template.frame
    if macs is not None:
        overlay(rows, 0, ETHERNET)["dst"] = macs
    identity = (seq ^ (seq >> np.uint32(16))) & np.uint32(0xFFFF)
    address_sum = _stamp_address(
        template, overlay(rows, template.ip, IPV4 if template.version == 4 else IPV6), target, identity
    )
    tcp = overlay(rows, template.tcp, TCP)
    tcp["dport"] = target_port
    tcp["sport"] = our_port
    tcp["seq"] = seq
    total = address_sum
    total += (seq >> np.uint32(16)) + (seq & np.uint32(0xFFFF))
    total += target_port
    total += np.asarray(our_port, np.uint32)
    total += np.uint32(template.tcp_sum)
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
    """The sum of the four 16-bit words of each 64-bit word."""
    pairs = (words & np.uint64(0x0000FFFF0000FFFF)) + ((words >> np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF))
    return np.asarray((pairs + (pairs >> np.uint64(32))).astype(np.uint32) & np.uint32(0x3FFFF))


def _finish(total: U32) -> U32:
    """Fold the carries in and complement (RFC 1071)."""
    folded = (total & np.uint32(0xFFFF)) + (total >> np.uint32(16))
    folded += folded >> np.uint32(16)
    return ~folded & np.uint32(0xFFFF)


# ── who has this address? ──


@dataclass(frozen=True)
class Query:
    """An ARP request or neighbour solicitation for addresses on our own link."""

    frame: Bytes
    version: int
    icmp_sum: int = 0

    @property
    def length(self) -> int:
        """Bytes of each frame."""
        return len(self.frame)


NDP_FIXED = np.dtype([("icmp", ICMP), ("target_hi", ">u8"), ("target_lo", ">u8")])
NDP_OPTION = np.dtype([("kind", "u1"), ("length", "u1"), ("mac", "V6")])
_SOLICITED_HI, _SOLICITED_LO = 0xFF02_0000_0000_0000, 0x0000_0001_FF00_0000  # ff02::1:ff00:0/104, RFC 4291 2.7.1


def query(endpoint: Endpoint) -> Query:
    """ARP or neighbour solicitation, sent from our address; the endpoint has a MAC address."""
    frame = np.frombuffer(build(Recipe("query", *_ends(endpoint))), np.uint8).copy()
    if endpoint.version == 4:
        return Query(frame, 4)
    at = ETHERNET.itemsize
    constant = (
        _word_sum(frame[at + 8 : at + 24])
        + 58
        + len(frame)
        - at
        - IPV6.itemsize
        + _word_sum(frame[at + IPV6.itemsize :])
    )
    return Query(frame, 6, constant)


def stamp_query(template: Query, rows: Bytes, target: Rows) -> None:
    """Write one query per row of `rows` for the addresses `target` (ADDRESS[n])."""
    rows[:, : template.length] = template.frame
    if template.version == 4:
        overlay(rows, ETHERNET.itemsize, ARP)["target"] = target["lo"].astype(np.uint32)
        return
    low = target["lo"] & np.uint64(0xFFFFFF)
    ethernet = overlay(rows, 0, np.dtype([("prefix", ">u2"), ("low", ">u4")]))
    ethernet["low"] = low | np.uint64(0xFF000000)
    ip = overlay(rows, ETHERNET.itemsize, IPV6)
    ip["dst_hi"], ip["dst_lo"] = _SOLICITED_HI, low | np.uint64(_SOLICITED_LO)
    body = overlay(rows, ETHERNET.itemsize + IPV6.itemsize, NDP_FIXED)
    body["target_hi"], body["target_lo"] = target["hi"], target["lo"]
    total = _halves(np.full(len(low), _SOLICITED_HI, np.uint64)) + _halves(low | np.uint64(_SOLICITED_LO))
    total += _halves(target["hi"]) + _halves(target["lo"]) + np.uint32(template.icmp_sum)
    body["icmp"]["checksum"] = _finish(total)
