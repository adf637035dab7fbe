"""Ladders as whole drawings, and the sentences at their end."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.trace.ladder import WIDTH, LadderStep, draw
from scanner.verdict.rows import Verdict
from scanner.verdict.sentences import EVIDENCE, REASONS, evidence_sentence, printable, reason_phrase
from scanner.verdict.table import Reason

MS = 1_000_000
ISN, THEIRS = 0xFFFF_FFFF, 5_000_000

LONG = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:"

DRAWINGS = {
    "half-open handshake; numbers wrap; the order of the steps does not matter": (
        "198.18.0.1",
        [
            LadderStep(5 * MS + 250_000, True, "RST", 40000, 0),
            LadderStep(5 * MS, True, "SYN", 40000, ISN, 77, 64240),
            LadderStep(5 * MS + 213_400, False, "SYN/ACK", 40000, THEIRS, 0, 65160),
        ],
        Verdict("198.18.0.2", 443, "open", "syn-ack", evidence=("half-open",)),
        """\
            198.18.0.1                                           198.18.0.2:443
            | from port 40000                                                 |
   0.000 ms |-- SYN seq=0 win=64240 ----------------------------------------->|
   0.213 ms |<- SYN/ACK seq=0 ack=1 win=65160 --------------------------------|
   0.250 ms |-- RST seq=1 --------------------------------------------------->|
            |                                                                 |
open (syn-ack): a SYN/ACK came back
  half-open: The SYN/ACK was answered by a reset, so no connection was made.
""",
    ),
    "a host with a name": (
        "198.18.0.1",
        [LadderStep(0, True, "SYN", 40000, ISN, None, 64240)],
        Verdict("198.18.0.2", 443, "filtered", "no-response", hostname="web\x1b.example"),
        """\
            198.18.0.1                                           198.18.0.2:443
                                                              (web\\x1b.example)
            | from port 40000                                                 |
   0.000 ms |-- SYN seq=0 win=64240 ----------------------------------------->|
            |                                                                 |
filtered (no-response): nothing came back
""",
    ),
    "two passes, then a reset that the firewall forged": (
        "198.18.0.1",
        [
            LadderStep(0, True, "SYN", 40000, 10),
            LadderStep(12_345 * MS, True, "SYN", 40001, 999),
            LadderStep(12_345 * MS, False, "RST/ACK", 40001, 0, 1000, 0),
        ],
        Verdict("198.18.0.2", 25, "closed", "reset", evidence=("firewall-reset", "conflict:admin-prohibited")),
        """\
            198.18.0.1                                            198.18.0.2:25
            | from port 40000                                                 |
   0.000 ms |-- SYN seq=0 --------------------------------------------------->|
            | from port 40001                                                 |
   12.345 s |-- SYN seq=0 --------------------------------------------------->|
   12.345 s |<- RST/ACK seq=0 ack=1 win=0 ------------------------------------|
            |                                                                 |
closed (reset): a reset came back
  firewall-reset: Not sent by the stack that sent this host's marked resets, and
    written as netfilter's REJECT writes them: most likely a firewall forged it.
  conflict:admin-prohibited: The answers contradict each other: an ICMP error
    says that a rule forbids it as well, and ranks lower.
""",
    ),
    "a router's refusal": (
        "198.18.0.1",
        [
            LadderStep(0, True, "SYN", 7, 10),
            LadderStep(MS, False, "ICMP admin-prohibited", 7, 10, router="198.18.9.254"),
        ],
        Verdict("198.18.0.2", 25, "filtered", "admin-prohibited", icmp_from="198.18.9.254"),
        """\
            198.18.0.1                                            198.18.0.2:25
            | from port 7                                                     |
   0.000 ms |-- SYN seq=0 --------------------------------------------------->|
   1.000 ms |<- ICMP admin-prohibited quoted seq=0 ------------- 198.18.9.254 |
            |                                                                 |
filtered (admin-prohibited): an ICMP error says that a rule forbids it
""",
    ),
    "IPv6: names that do not fit side by side, a label that does not fit beside the router": (
        LONG + "1",
        [LadderStep(0, False, "ICMPv6 admin-prohibited", 7, 10, router=LONG + "ffff")],
        Verdict(LONG + "2", 443, "filtered", "admin-prohibited"),
        """\
            2001:db8:aaaa:bbbb:cccc:dddd:eeee:1
                                      [2001:db8:aaaa:bbbb:cccc:dddd:eeee:2]:443
            | from port 7                                                     |
   0.000 ms |<- ICMPv6 --------------- 2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff |
            |   admin-prohibited quoted seq=0                                 |
            |                                                                 |
filtered (admin-prohibited): an ICMP error says that a rule forbids it
""",
    ),
    "the probe was not captured: its number follows from the acknowledgement": (
        "198.18.0.1",
        [LadderStep(0, False, "SYN/ACK", 7, 10, 501), LadderStep(MS, True, "RST", 7, 501)],
        Verdict("198.18.0.2", 80, "open", "syn-ack", evidence=("probe-not-captured",)),
        """\
            198.18.0.1                                            198.18.0.2:80
            | from port 7                                                     |
   0.000 ms |<- SYN/ACK seq=0 ack=1 ------------------------------------------|
   1.000 ms |-- RST seq=1 --------------------------------------------------->|
            |                                                                 |
open (syn-ack): a SYN/ACK came back
  probe-not-captured: The SYN that this answers is not in the capture.
""",
    ),
    "a verdict without packets": (
        "198.18.0.1",
        [],
        Verdict("198.18.0.2", None, "down", "no-arp"),
        """\
            198.18.0.1                                               198.18.0.2
            |                                                                 |
down (no-arp): no ARP answer came for this address
""",
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawing(name: str) -> None:
    us, steps, verdict, expected = DRAWINGS[name]
    assert draw(us, steps, verdict) == expected


def test_a_long_exchange_is_cut_in_the_middle() -> None:
    steps = [LadderStep(n * MS, True, "SYN", 7, 10) for n in range(1052)]
    lines = draw("a", steps, Verdict("192.0.2.1", 1, "filtered", "no-response")).splitlines()
    arrows = [f"{n}.000 ms".rjust(11) for n in (*range(40), *range(1042, 1052))]
    assert [line[:11] for line in lines[2:-2]] == [*arrows[:40], " " * 11, *arrows[40:]]
    assert lines[42] == "            |                   ... 1,002 more packets ...                    |"


TEXT = st.text(max_size=90)
STEPS = st.builds(
    LadderStep, st.integers(0, 2**62), st.booleans(), TEXT | st.sampled_from(["SYN", "ICMP x"]), st.integers(0, 65535),
    st.none() | st.integers(0, 2**32 - 1), st.none() | st.integers(0, 2**32 - 1),
    router=st.sampled_from([None, "198.18.0.254", LONG + "ffff"]),
)  # fmt: skip


@given(st.lists(STEPS, max_size=60), st.lists(TEXT).map(tuple))
def test_every_ladder_fits_in_80_columns_of_plain_text(steps: list[LadderStep], evidence: tuple[str, ...]) -> None:
    verdict = Verdict(LONG + "2", 65535, "filtered", "no-response", evidence=evidence)
    lines = draw(LONG + "1", steps, verdict).split("\n")
    assert [
        line for line in lines if len(line) > WIDTH or not line.isascii() or (line and not line.isprintable())
    ] == []


WORDS_OF_THE_DECISION_TABLE = """
    host-reset firewall-reset ttl-differs syn-proxy all-open handshake-completed handshake-refused
    silent-after-handshake half-open repeat late probe-not-captured reply-not-captured icmp-quote-truncated unverified
    stopped-answering interrupted bad-checksum
"""


def test_each_word_has_its_own_sentence() -> None:
    sentences = [*EVIDENCE.values(), *REASONS.values()]
    reasons = [reason for reason in Reason if reason not in (Reason.NONE, Reason.UNPROVED_SYN)]
    assert (list(EVIDENCE), list(REASONS), len(set(sentences))) == (
        WORDS_OF_THE_DECISION_TABLE.split(), reasons, len(sentences),
    )  # fmt: skip


SENTENCES = [
    (evidence_sentence, "conflict:reset",
     "The answers contradict each other: a reset came back as well, and ranks lower."),
    (evidence_sentence, "conflict:?",
     "The answers contradict each other: another answer came as well, and ranks lower."),
    (evidence_sentence, "new", "This word is not known here."),
    (reason_phrase, "no-route", "an ICMPv6 error says that there is no route"),
    (reason_phrase, "?", "this reason is not known here"),
    (printable, "plain text", "plain text"),
    (printable, "\x1b[2J\r\n\u202e\udc80", "\\x1b[2J\\r\\n\\u202e\\udc80"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "word", "expected"), SENTENCES)
def test_sentence(function: Callable[[str], str], word: str, expected: str) -> None:
    assert function(word) == expected
