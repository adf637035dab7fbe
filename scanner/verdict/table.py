"""What each reply means: one table, read by the live scan and by the classifier of captures.

A reply has a `Reason`. A reason has one `State` and one `Rank`. The record of a target changes only upwards in rank:
`open` is final, `closed` may become `open`, `filtered` may become either, silence may become anything. State, reason
and TTL change together or not at all. nmap keeps the reason of a reply whose state it refused, so that it can show a
port as "open, reset". Whether a reply is ours was decided before it comes here.

The words are nmap's. The table differs from nmap on purpose in three places: ICMP codes 3/4 to 3/15 that nmap calls
unexpected are `dest-unreach` here and not silence; ICMPv6 time exceeded counts; an ICMPv6 parameter problem is not
"open".

A bare SYN (split handshake, simultaneous open) acknowledges nothing, so anybody can send it. It is answered with a
SYN/ACK, and the ACK of that is the proof. So there are two reasons with one word: with the proof the port is open,
without it the port is unknown.

Sources: RFC 9293 3.5 (simultaneous open) and 3.10.7.3 (replies in SYN-SENT), RFC 792, RFC 1812 5.2.7.1, RFC 4443.
"""

from enum import Enum, IntEnum

import numpy as np
import numpy.typing as npt

from ..packet.headers import ACK, RST, SYN

Codes = npt.NDArray[np.uint8]


class State(Enum):
    """What a scan claims about a target; the value is the word that is printed."""

    OPEN = "open"
    CLOSED = "closed"
    FILTERED = "filtered"
    UNKNOWN = "unknown"
    DOWN = "down"


class Reason(IntEnum):
    """Why; small numbers so that a column of reasons is one byte a row. 0 means no verdict."""

    NONE = 0
    NO_RESPONSE = 1
    NET_UNREACH = 2
    HOST_UNREACH = 3
    PROTO_UNREACH = 4
    PORT_UNREACH = 5
    NET_PROHIBITED = 6
    HOST_PROHIBITED = 7
    ADMIN_PROHIBITED = 8
    DEST_UNREACH = 9
    TIME_EXCEEDED = 10
    NO_ROUTE = 11
    BEYOND_SCOPE = 12
    REJECT_ROUTE = 13
    PARAM_PROBLEM = 14
    RESET = 15
    CONN_REFUSED = 16
    SYN_ACK = 17
    SPLIT_HANDSHAKE_SYN = 18
    CAPTURE_ENDED = 19
    ONE_WAY_CAPTURE = 20
    NO_ARP = 21
    NO_NDP = 22
    UNPROVED_SYN = 23  # a bare SYN, and no ACK of our SYN/ACK: printed like SPLIT_HANDSHAKE_SYN, which has the proof
    REPLY_NOT_CAPTURED = 24

    @property
    def word(self) -> str:
        """The reason as it is printed: `syn-ack`, `no-response`, …"""
        if self is Reason.UNPROVED_SYN:
            return Reason.SPLIT_HANDSHAKE_SYN.word
        return self.name.lower().replace("_", "-")


_STATE = {
    Reason.SYN_ACK: State.OPEN,
    Reason.SPLIT_HANDSHAKE_SYN: State.OPEN,
    Reason.RESET: State.CLOSED,
    Reason.CONN_REFUSED: State.CLOSED,
    Reason.CAPTURE_ENDED: State.UNKNOWN,
    Reason.ONE_WAY_CAPTURE: State.UNKNOWN,
    Reason.REPLY_NOT_CAPTURED: State.UNKNOWN,
    Reason.UNPROVED_SYN: State.UNKNOWN,
    Reason.NO_ARP: State.DOWN,
    Reason.NO_NDP: State.DOWN,
}  # every other reason means filtered


def state_of(reason: Reason) -> State:
    """The one state that a reason belongs to."""
    assert reason != Reason.NONE, "no verdict has no state"
    return _STATE.get(reason, State.FILTERED)


class Rank(IntEnum):
    """How much a reply says. A record changes only upwards."""

    SILENT = 0  # no reply gave a verdict
    UNPROVED = 1  # a reply that anybody can send: the target still counts as silent
    FILTERED = 2  # an ICMP error
    CLOSED = 3
    OPEN = 4


_RANKS = {State.OPEN: Rank.OPEN, State.CLOSED: Rank.CLOSED, State.FILTERED: Rank.FILTERED}
_OTHER_RANKS = {Reason.NONE: Rank.SILENT, Reason.NO_RESPONSE: Rank.SILENT, Reason.UNPROVED_SYN: Rank.UNPROVED}

# Rank by reason code, uint8[reasons].
RANK = np.array([_OTHER_RANKS.get(each, _RANKS.get(_STATE.get(each, State.FILTERED), 0)) for each in Reason], np.uint8)

# The order among replies: as by rank, but a SYN/ACK is more than the other proof that a port is open.
STRENGTH = 2 * RANK
STRENGTH[Reason.SPLIT_HANDSHAKE_SYN] -= 1


class Rejected(Enum):
    """Why a reply is no verdict; the value is the word that is counted and printed."""

    NO_VERDICT = "no-verdict"  # TCP flags or ICMP codes that the table does not have
    BAD_COOKIE = "bad-cookie"
    NOT_A_TARGET = "not-a-target"
    NOT_TO_US = "not-to-us"
    OWN_PROBE = "own-probe"  # as loopback shows it
    QUOTE_TRUNCATED = "icmp-quote-truncated"
    TTL_ZERO = "ttl-zero"
    ICMP_FROM_LOOPBACK = "icmp-from-loopback"
    ICMP_FROM_US = "icmp-from-us"  # from the prober's own address
    ICMP_FROM_MULTICAST = "icmp-from-multicast"  # or from the broadcast address
    OTHER_MAC = "other-mac"  # a frame to another machine, as an interface in promiscuous mode gets it
    VLAN_TAG = "vlan-tag"  # of another network on the same wire
    NOT_ASKED = "not-asked"  # an answer to a probe that was not sent, whatever it acknowledges
    LATE_AFTER_CLOSE = "late-after-close"  # its window has closed; it gets its reset and changes no row
    RESET_NOT_SENT = "reset-not-sent"  # a SYN/ACK that stays without our reset


# TCP flags → reason, in the order in which they are tested.
TCP_REPLIES = (
    (SYN | ACK, SYN | ACK, Reason.SYN_ACK),  # mask, value, reason: other bits do not matter
    (SYN | ACK | RST, SYN, Reason.UNPROVED_SYN),
    (RST, RST, Reason.RESET),
)

# (type, code) → reason; a code of None stands for every code of that type.
IcmpTable = dict[tuple[int, int | None], Reason]
ICMP_ERRORS: IcmpTable = {
    (3, 0): Reason.NET_UNREACH,
    (3, 1): Reason.HOST_UNREACH,
    (3, 2): Reason.PROTO_UNREACH,
    (3, 3): Reason.PORT_UNREACH,
    (3, 9): Reason.NET_PROHIBITED,
    (3, 10): Reason.HOST_PROHIBITED,
    (3, 13): Reason.ADMIN_PROHIBITED,
    **dict.fromkeys(((3, code) for code in (4, 5, 6, 7, 8, 11, 12, 14, 15)), Reason.DEST_UNREACH),
    (11, 0): Reason.TIME_EXCEEDED,
    (11, 1): Reason.TIME_EXCEEDED,
}
ICMPV6_ERRORS: IcmpTable = {
    (1, 0): Reason.NO_ROUTE,
    (1, 1): Reason.ADMIN_PROHIBITED,
    (1, 2): Reason.BEYOND_SCOPE,
    (1, 3): Reason.HOST_UNREACH,
    (1, 4): Reason.PORT_UNREACH,
    (1, 5): Reason.ADMIN_PROHIBITED,
    (1, 6): Reason.REJECT_ROUTE,
    (3, 0): Reason.TIME_EXCEEDED,
    (3, 1): Reason.TIME_EXCEEDED,
    (4, None): Reason.PARAM_PROBLEM,
}


def _tcp_table() -> Codes:
    table = np.zeros(256, np.uint8)
    for flags in range(256):
        table[flags] = next((reason for mask, value, reason in TCP_REPLIES if flags & mask == value), Reason.NONE)
    return table


def _icmp_table(errors: IcmpTable) -> Codes:
    table = np.zeros((256, 256), np.uint8)
    for (kind, code), reason in errors.items():
        table[kind, slice(None) if code is None else code] = reason
    return table


_TCP = _tcp_table()
_ICMP = np.stack([_icmp_table(ICMP_ERRORS), _icmp_table(ICMPV6_ERRORS)])


def classify_tcp(flags: Codes) -> Codes:
    """TCP flag bytes uint8[n] → Reason codes uint8[n]; NONE where the flags give no verdict."""
    return np.asarray(_TCP[flags])


def classify_icmp(version: Codes, kind: Codes, code: Codes) -> Codes:
    """IP version (4 or 6), ICMP type and code, each uint8[n] → Reason codes uint8[n]."""
    return np.asarray(_ICMP[(version == 6).astype(np.intp), kind, code])


STATE_WORD = {reason: state_of(reason).value for reason in Reason if reason}
REASON_WORD = {reason: reason.word for reason in Reason}
