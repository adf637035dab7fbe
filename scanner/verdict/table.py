"""What each reply means: one table, read by the live scan and by the classifier of captures.

A reply has a `Reason`. A reason has one `State` and one `Rank`. The record of a target changes only upwards in rank:
`open` is final, `closed` may become `open`, `filtered` may become either, silence may become anything. State, reason
and TTL change together or not at all. nmap keeps the reason of a reply whose state it refused, so that it can show a
port as "open, reset". Whether a reply is ours was decided before it comes here.

The words are nmap's. The table differs from nmap on purpose in three places: ICMP codes 3/4 to 3/15 that nmap calls
unexpected are `dest-unreach` here and not silence; ICMPv6 time exceeded counts; an ICMPv6 parameter problem is not
"open".

Sources: RFC 9293 3.10.7.3 (replies in SYN-SENT), RFC 792, RFC 1812 5.2.7.1, RFC 4443.
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

    @property
    def word(self) -> str:
        """The reason as it is printed: `syn-ack`, `no-response`, …"""
        return self.name.lower().replace("_", "-")


_OPEN = (Reason.SYN_ACK, Reason.SPLIT_HANDSHAKE_SYN)
_CLOSED = (Reason.RESET, Reason.CONN_REFUSED)
_UNKNOWN = (Reason.CAPTURE_ENDED, Reason.ONE_WAY_CAPTURE)
_DOWN = (Reason.NO_ARP, Reason.NO_NDP)


def state_of(reason: Reason) -> State:
    """The one state that a reason belongs to."""
    for reasons, state in (
        (_OPEN, State.OPEN),
        (_CLOSED, State.CLOSED),
        (_UNKNOWN, State.UNKNOWN),
        (_DOWN, State.DOWN),
    ):
        if reason in reasons:
            return state
    assert reason != Reason.NONE, "no verdict has no state"
    return State.FILTERED


class Rank(IntEnum):
    """How much a reply says. A record changes only upwards."""

    SILENT = 0  # no reply gave a verdict
    FILTERED = 1  # an ICMP error
    CLOSED = 2
    OPEN = 3


# Rank by reason code, uint8.
RANK = np.zeros(len(Reason), np.uint8)
for _reason in Reason:
    if _reason not in (Reason.NONE, Reason.NO_RESPONSE, *_UNKNOWN, *_DOWN):
        RANK[_reason] = Rank[state_of(_reason).name]


class Rejected(Enum):
    """Why a reply is no verdict; the value is the word that is counted and printed."""

    NO_VERDICT = "no-verdict"  # TCP flags or ICMP codes that the table does not have
    BAD_COOKIE = "bad-cookie"
    NOT_A_TARGET = "not-a-target"
    NOT_TO_US = "not-to-us"
    OWN_PROBE = "own-probe"  # as loopback shows it
    QUOTE_TRUNCATED = "icmp-quote-truncated"
    UNASKED = "unasked"  # a bare SYN to a port that has not probed its sender
    LATE_AFTER_CLOSE = "late-after-close"  # its window has closed; it gets its reset and changes no row
    RESET_NOT_SENT = "reset-not-sent"  # a SYN/ACK that stays without our reset


# TCP flags → reason, in the order in which they are tested.
TCP_REPLIES = (
    (SYN | ACK, SYN | ACK, Reason.SYN_ACK),  # mask, value, reason: other bits do not matter
    (SYN | ACK | RST, SYN, Reason.SPLIT_HANDSHAKE_SYN),
    (RST, RST, Reason.RESET),
)

# (type, code) → reason; a code of None stands for every code of that type.
ICMP_ERRORS = {
    (3, 0): Reason.NET_UNREACH,
    (3, 1): Reason.HOST_UNREACH,
    (3, 2): Reason.PROTO_UNREACH,
    (3, 3): Reason.PORT_UNREACH,
    (3, 9): Reason.NET_PROHIBITED,
    (3, 10): Reason.HOST_PROHIBITED,
    (3, 13): Reason.ADMIN_PROHIBITED,
    **{(3, code): Reason.DEST_UNREACH for code in (4, 5, 6, 7, 8, 11, 12, 14, 15)},
    (11, 0): Reason.TIME_EXCEEDED,
    (11, 1): Reason.TIME_EXCEEDED,
}
ICMPV6_ERRORS = {
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


def _icmp_table(errors: dict[tuple[int, int], Reason] | dict[tuple[int, int | None], Reason]) -> Codes:
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
