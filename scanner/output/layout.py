"""The columns of the table: how wide they are, which are left out, and how a line keeps within 80 columns.

A column that says nothing in a block is left out of it. Columns have minimal widths that fit the usual words, so that
most blocks look alike. Where a line would be longer than 80 columns, they take only what they need. If that does not
help, "closed (firewall reset)" is "closed", because the evidence says the same. Evidence that still does not fit goes
to lines of its own. So no terminal breaks a line.

Rows share few distinct cells; each is padded once.
"""

import re
import textwrap
from collections.abc import Iterable
from functools import lru_cache

from ..verdict.rows import Verdict
from ..verdict.sentences import printable
from ..verdict.table import Reason, State
from .hosts import FIREWALL_RESET, Details, fold_key

WIDE = 80  # columns of a terminal
JOINED = "\u00a0"  # never in a text from outside: it would have been escaped
HOST, LONG_HOST = 15, 39  # an IPv4 address, and a long IPv6 address
HEADS = ("STATE", "REASON", "TTL", "SERVICE", "EVIDENCE")
PORT = 9  # 65535/tcp
GAP = 2
_USUAL = (8, 16, 3, 12, 0)  # widths, at least
_COLOURS = {State.OPEN.value: "32", State.CLOSED.value: "31", State.FILTERED.value: "33"}
_EMPTY = {"", "-"}

Cells = tuple[str, ...]  # STATE to EVIDENCE
Widths = tuple[int, ...]  # of STATE to EVIDENCE; 0: the column is left out


def widths_of(rows: set[Details], kept: Widths, before: int) -> Widths:
    """The widths for these rows. `kept`: those of a table that is gone on with. `before`: what stands in front."""
    columns = list(zip(*map(cells, rows), strict=True))
    longest = [max(map(len, column)) for column in columns]
    needed = [len(head) if at < len(HEADS) - 1 else 0 for at, head in enumerate(HEADS)]
    tight = [max(pair) for pair in zip(needed, longest, strict=True)]
    shown = [not _EMPTY.issuperset(column) for column in columns]
    if kept:
        shown = [there or width > 0 for there, width in zip(shown, kept, strict=True)]
    wide = [max(pair) for pair in zip(tight, kept or _USUAL, strict=True)]
    plain = [max(*kept[:1], len(HEADS[0]), *(len(each[0]) for each in rows)), *(wide if kept else tight)[1:]]
    for chosen in (wide, wide if kept else tight, plain):
        widths = tuple(max(1, width) if there else 0 for width, there in zip(chosen, shown, strict=True))
        if before + fixed(widths) + widths[-1] <= WIDE:
            break
    return widths


def fixed(widths: Widths) -> int:
    """How long the columns in front of EVIDENCE are, with the gap behind each."""
    return sum(width + GAP for width in widths[:-1] if width)


def head(widths: Widths, before: int) -> str:
    """The names of the columns, with the end of the line. EVIDENCE without room for its name stands in other lines."""
    room = before + fixed(widths) + len(HEADS[-1]) <= WIDE
    names = [f"{name:<{width}}" for name, width in zip(HEADS, widths if room else widths[:-1], strict=False) if width]
    return (" " * GAP).join(names).rstrip() + "\n"


def lines_fit(rows: set[Details], kept: Widths, longest: int) -> Widths | None:
    """The widths of a table with a line for each host, HOST first. None: such lines are too long.

    `kept`: the widths of a table that is gone on with. `longest`: the longest title; it may have a line of its own.
    """
    wanted = max(kept[0] if kept else HOST, min(longest, LONG_HOST))
    widths = widths_of(rows, kept[1:], wanted + GAP + PORT + GAP)
    room = WIDE - PORT - GAP - fixed(widths)
    return (min(wanted, room), *widths) if room >= HOST else None


def titled_line(title: str, width: int) -> str:
    """The begin of a line; a title that is too long has a line of its own."""
    return f"{title:<{width}}" if len(title) <= width else paragraph(title) + " " * width


def brief_line(title: str, width: int, words: list[str]) -> str:
    """A title and words, on as many lines as they need."""
    return paragraph(f"{title:<{width}}  " + " ".join(words), min(width, HOST) + GAP)


def paragraph(text: str, indent: int = GAP) -> str:
    """Text in lines that no terminal breaks. `indent`: of all but the first. `JOINED` is a blank that stays."""
    if len(text) <= WIDE:
        return text.replace(JOINED, " ") + "\n"
    wrapped = textwrap.wrap(
        text, WIDE, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False,
        replace_whitespace=False,
    )  # fmt: skip
    return "\n".join(wrapped).replace(JOINED, " ") + "\n"


def filled(line: str, words: Iterable[str], before: int) -> str:
    """A line with words behind it. Words without room stand in lines of their own. `before`: what stands in front."""
    lines, length, gap = [line], before + len(line), GAP
    for word in words:
        if length + gap + len(word) > WIDE:
            lines.append(" " * (PORT + GAP) + word)
            length = len(lines[-1])
        else:
            lines[-1] += " " * gap + word
            length += gap + len(word)
        gap = 1
    return "\n".join(line.rstrip() for line in lines) + "\n"


@lru_cache(maxsize=1 << 14)
def tail(details: Details, widths: Widths, before: int, colour: bool) -> str:
    """STATE to EVIDENCE as the end of a line, and evidence that does not fit as further lines."""
    *first, evidence = cells(details)
    if len(first[0]) > widths[0]:
        first[0] = details[0]
    shown = [f"{cell:<{width}}" for cell, width in zip(first, widths, strict=False) if width]
    text = filled((" " * GAP).join(shown), re.split(r"(?<!\bfrom) ", evidence) if evidence else (), before)
    code = _COLOURS.get(details[0]) if colour else None
    return text if code is None else f"\033[{code}m{first[0]}\033[0m{text[len(first[0]) :]}"


@lru_cache(maxsize=1 << 14)
def cells(details: Details) -> Cells:
    """STATE to EVIDENCE; an ICMP error names the router that sent it."""
    state, reason, ttl, service, evidence, router = details
    words = evidence if router is None else (*evidence, f"from {router}")
    known = ("-" if ttl is None else str(ttl), "-" if service is None else printable(service))
    return (*fold_key(state, reason, evidence), *known, printable(" ".join(words)))


def brief_port(row: Verdict) -> str:
    """`22/ssh`, with what makes the answer unusual."""
    usual = row.reason == Reason.SYN_ACK.word
    words = ", ".join((() if usual else (row.reason,)) + row.evidence)
    name = f"{row.port}/{printable(row.service)}" if row.service else str(row.port)
    return f"{name}({printable(words)})" if words else name


def count_of(count: int, state: str, reason: str) -> str:
    """`997 closed (reset)`; the firewall's resets already say what they are."""
    return f"{count:,} {state}" if state == FIREWALL_RESET else f"{count:,} {state} ({reason})"
