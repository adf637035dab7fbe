"""The decision table, row by row; every flag byte and every ICMP type and code."""

from collections.abc import Callable

import numpy as np
import pytest

from scanner.verdict.table import RANK, Codes, Reason, State, classify_icmp, classify_tcp, state_of

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
EVERY_BYTE = np.arange(256, dtype=np.uint8)

# What a segment is, as one sentence a row; the first that holds decides.
TCP_RULES: dict[str, tuple[Callable[[int], object], str]] = {
    "SYN and ACK set; other bits do not matter": (lambda f: f & SYN and f & ACK, "syn-ack"),
    "SYN set, ACK not, RST not": (lambda f: f & SYN and not f & RST, "split-handshake-syn"),
    "RST set, ACK or not": (lambda f: f & RST, "reset"),
    "other flags": (lambda f: True, "none"),
}

ICMP = {
    4: {
        (3, 0): "net-unreach", (3, 1): "host-unreach", (3, 2): "proto-unreach", (3, 3): "port-unreach",
        (3, 4): "dest-unreach", (3, 5): "dest-unreach", (3, 6): "dest-unreach", (3, 7): "dest-unreach",
        (3, 8): "dest-unreach", (3, 9): "net-prohibited", (3, 10): "host-prohibited", (3, 11): "dest-unreach",
        (3, 12): "dest-unreach", (3, 13): "admin-prohibited", (3, 14): "dest-unreach", (3, 15): "dest-unreach",
        (11, 0): "time-exceeded", (11, 1): "time-exceeded",
    },
    6: {
        (1, 0): "no-route", (1, 1): "admin-prohibited", (1, 2): "beyond-scope", (1, 3): "host-unreach",
        (1, 4): "port-unreach", (1, 5): "admin-prohibited", (1, 6): "reject-route",
        (3, 0): "time-exceeded", (3, 1): "time-exceeded",
        **{(4, code): "param-problem" for code in range(256)},
    },
}  # fmt: skip

STATES = {
    State.OPEN: "syn-ack split-handshake-syn",
    State.CLOSED: "reset conn-refused",
    State.FILTERED: "no-response net-unreach host-unreach proto-unreach port-unreach net-prohibited host-prohibited "
    "admin-prohibited dest-unreach time-exceeded no-route beyond-scope reject-route param-problem",
    State.UNKNOWN: "capture-ended one-way-capture reply-not-captured split-handshake-syn",
    State.DOWN: "no-arp no-ndp",
}  # fmt: skip


def words(codes: Codes) -> list[str]:
    return [Reason(code).word for code in codes.tolist()]


def test_every_flag_byte() -> None:
    expected = [next(word for holds, word in TCP_RULES.values() if holds(flags)) for flags in range(256)]
    assert words(classify_tcp(EVERY_BYTE)) == expected


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (SYN | ACK, "syn-ack"), (SYN | ACK | ECE, "syn-ack"), (SYN | ACK | CWR | ECE, "syn-ack"),
        (SYN | ACK | RST, "syn-ack"), (SYN | ACK | FIN | PSH | URG, "syn-ack"),
        (SYN, "split-handshake-syn"), (SYN | ECE | CWR, "split-handshake-syn"),
        (RST, "reset"), (RST | ACK, "reset"), (RST | SYN, "reset"), (RST | PSH, "reset"),
        (ACK, "none"), (FIN, "none"), (FIN | ACK, "none"), (PSH | ACK, "none"), (0, "none"), (FIN | PSH | URG, "none"),
    ],
)  # fmt: skip
def test_flags_by_name(flags: int, word: str) -> None:
    assert words(classify_tcp(np.array([flags], np.uint8))) == [word]


@pytest.mark.parametrize("version", [4, 6])
def test_every_icmp_type_and_code(version: int) -> None:
    kind, code = (part.ravel().astype(np.uint8) for part in np.divmod(np.arange(65536), 256))
    expected = [ICMP[version].get(pair, "none") for pair in zip(kind.tolist(), code.tolist(), strict=True)]
    assert words(classify_icmp(np.full(65536, version, np.uint8), kind, code)) == expected


def test_families_in_one_batch() -> None:
    columns = (np.array(column, np.uint8) for column in ((4, 6, 4, 6), (3, 3, 1, 1), (1, 1, 3, 3)))
    assert words(classify_icmp(*columns)) == ["host-unreach", "time-exceeded", "none", "host-unreach"]


@pytest.mark.parametrize("state", State)
def test_states(state: State) -> None:
    assert {reason.word for reason in Reason if reason and state_of(reason) is state} == set(STATES[state].split())


def test_precedence() -> None:
    """Open over closed over an ICMP error over a bare SYN over silence; what is no reply to a probe has no rank."""
    expected = {State.OPEN: 4, State.CLOSED: 3, State.FILTERED: 2, State.UNKNOWN: 0, State.DOWN: 0}
    others = {Reason.NONE: 0, Reason.NO_RESPONSE: 0, Reason.UNPROVED_SYN: 1}
    assert RANK.tolist() == [others[each] if each in others else expected[state_of(each)] for each in Reason]


def test_no_verdict_has_no_state() -> None:
    with pytest.raises(AssertionError):
        state_of(Reason.NONE)
