"""The marks of tools in their SYNs: which packets carry one, and where the mark is known from.

A `Look` is a set of packets that only one tool, or few, can have sent. Each SYN has the first look that fits it, so
several tools behind one address are kept apart packet by packet. A look alone names nobody: `claims` counts how often a
mark is there, and how often chance alone would put it there.

Limit: anyone can imitate any mark. And a tool without a mark, such as ZMap since 2024 or masscan in IPv6, has the look
`OTHER`, which says nothing.

Sources: `SOURCES`, one for each look.
"""

from enum import IntEnum

import numpy as np

from ..packet.headers import U8, U64, Bools
from ..packet.parse import Segments
from ..packet.template import TOS_LOWER_EFFORT
from .fields import Layout, SynFields


class Look(IntEnum):
    """What a SYN looks like; of several that fit, the first one."""

    OTHER = 0
    MASSCAN = 1
    ZMAP = 2
    MIRAI = 3
    SCAPY = 4
    HALFOPEN = 5
    NMAP = 6  # and naabu
    HPING = 7
    STACK = 8


SOURCES = {
    Look.MASSCAN: "IPv4 identification = low 16 bits of target address ^ port ^ sequence number"
    " (masscan, src/templ-pkt.c: ip_id = ip_them ^ port_them ^ seqno)",
    Look.ZMAP: "IPv4 identification 54321 and window 65535 (ZMap, src/probe_modules/packet.c: make_ip_header,"
    " make_tcp_header; since 2024 the identification is random)",
    Look.MIRAI: "sequence number = target address (Mirai, bot/scanner.c: tcph->seq = iph->daddr; Antonakakis et al.,"
    " Understanding the Mirai Botnet, USENIX Security 2017, section 3.1)",
    Look.SCAPY: "sequence number 0, IPv4 identification 1, window 8192, no options (Scapy, scapy/layers/inet.py:"
    " the defaults of IP and TCP)",
    Look.HALFOPEN: "IPv4 identification = upper ^ lower half of the sequence number (scanner/packet/probe.py: stamp);"
    " in IPv6 DSCP LE and Linux's options from one source port (scanner/packet/template.py)",
    Look.NMAP: "window 1024 and MSS 1460 as the only option (nmap, nmap.h: TCP_SYN_PROBE_OPTIONS; naabu, pkg/scan);"
    " nmap: upper ^ lower half of the sequence number is the same in a whole run (nmap, scan_engine_raw.cc:"
    " seq32_encode), and in IPv4 the TTL is drawn from 23 values (nmap, tcpip.cc: get_random_uint() % 23 + 37);"
    " naabu: sequence numbers count up by one (naabu, pkg/scan/tcpsequencer.go)",
    Look.HPING: "window 512, no options, an acknowledgement number without the ACK flag; it and the sequence number are"
    " below 2^31 (hping3, sendtcp.c: rand(); RAND_MAX is 2^31 - 1 in the GNU C library)",
    Look.STACK: "the options of Linux, Windows, FreeBSD or macOS (p0f, p0f.fp) and a first TTL of at most 128; and"
    " completed handshakes, or a time stamp clock that runs at 1000 Hz for one target (RFC 7323 4.1)",
}

_ZMAP_ID, _ZMAP_WINDOW = 54321, 65535
_NMAP_WINDOW, _SCAPY_WINDOW, _HPING_WINDOW, _OUR_WINDOW = 1024, 8192, 512, 64240
_HIGHEST_STACK_TTL = 128  # ZMap, which can write the options of systems, sends 255 (MAXTTL in packet.c)
_SYSTEMS = (Layout.LINUX, Layout.WINDOWS, Layout.FREEBSD, Layout.DARWIN)
_LOW16, _LOW32 = np.uint64(0xFFFF), np.uint64(0xFFFF_FFFF)


def looks_of(syns: Segments, fields: SynFields) -> U8:
    """The look of each SYN, uint8[n]."""
    four, seq, address = fields.four, syns.seq, syns.dst["lo"] & _LOW32
    low: U64 = (address ^ syns.dport ^ seq) & _LOW16
    folded = (seq >> np.uint32(16)) ^ (seq & np.uint32(0xFFFF))
    bare, ours = fields.layout == Layout.NONE, syns.tos == TOS_LOWER_EFFORT
    system = np.isin(fields.layout, _SYSTEMS)
    written = four & (fields.ip_id != 0)  # many senders leave the identification 0 (RFC 6864 4.1)
    fits: dict[Look, Bools] = {
        Look.MASSCAN: written & (fields.ip_id == low),
        Look.ZMAP: four & (fields.ip_id == _ZMAP_ID) & (syns.window == _ZMAP_WINDOW),
        Look.MIRAI: four & (seq == address),
        Look.SCAPY: bare & (seq == 0) & (syns.window == _SCAPY_WINDOW) & (~four | (fields.ip_id == 1)),
        Look.HALFOPEN: np.where(
            four,
            written & (fields.ip_id == folded),
            ours & (fields.layout == Layout.LINUX) & (syns.window == _OUR_WINDOW),
        ),
        Look.NMAP: (fields.layout == Layout.MSS_1460) & (syns.window == _NMAP_WINDOW),
        Look.HPING: bare & (syns.window == _HPING_WINDOW) & (syns.ack != 0),
        Look.STACK: system & (syns.ttl <= _HIGHEST_STACK_TTL) & (syns.ack == 0),
    }
    return np.asarray(np.select(list(fits.values()), [np.uint8(look) for look in fits], np.uint8(Look.OTHER)), np.uint8)
