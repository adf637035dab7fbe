"""Comma-separated values: always a header row, then one verdict a row. The columns never change, but that results with
several scans of a target, several vantage points or several captures have one more (`scan`, `vantage`, `capture`).

Columns carry the names and the order of the JSON keys; an unknown value is an empty cell. Evidence
words are joined by `;`. Fields are quoted as RFC 4180 (section 2, rules 5 to 7) says, only where
needed. Unlike its rule 1 a line ends in a bare newline, because the tools that read these files on Linux
(cut, sort, join, awk) expect that. As in `jsonl`, the cells that repeat from row to row are made once.
"""

from functools import lru_cache

from ..errors import escaped
from ..verdict.rows import Verdict
from ..verdict.table import State
from .jsonl import Middle, chunks
from .stream import Format

COLUMNS = ("ip", "port", "protocol", "state", "reason", "ttl", "service", "evidence",
           "rtt_ms", "time", "pass", "icmp_from", "scanner_ip", "tunnel",
           "first_probe", "last_probe", "attempts", "hostname", "mac", "vendor",
           "window", "mss", "options")  # fmt: skip


def quote(text: str) -> str:
    """A field, in quotes if it holds a comma, a quote or a line break."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


@lru_cache(maxsize=1 << 16)
def _middle(shared: Middle) -> str:
    state, reason, protocol, ttl, service, evidence = shared
    cells = (protocol, state, reason, "" if ttl is None else str(ttl), service or "", ";".join(evidence))
    return ",".join(map(quote, cells))


def line(verdict: Verdict) -> str:
    """One verdict as one CSV row, newline included."""
    ip, port, state, reason, protocol, ttl, service, evidence, rtt, time, pass_, icmp, scanner, tunnel, *sent = verdict
    if port is None and state == State.DOWN.value:
        protocol = ""
    shared = _middle((state, reason, protocol, ttl, service, evidence))
    rtt_cell = "" if rtt is None else f"{rtt:.3f}"
    first, last, attempts, *_ = sent
    names = ",".join(quote(escaped(each or "")) for each in (verdict.hostname, verdict.mac, verdict.vendor))
    options = quote(escaped(verdict.options or ""))
    window, mss = ("" if each is None else each for each in (verdict.window, verdict.mss))
    when, began, ended = ("" if each is None else f"{each:.6f}" for each in (time, first, last))
    return (f"{ip},{'' if port is None else port},{shared},{rtt_cell},{when},"
            f"{'' if pass_ is None else pass_},{icmp or ''},{scanner or ''},{quote(tunnel or '')},"
            f"{began},{ended},{'' if attempts is None else attempts},"
            f"{names},{window},{mss},{options}\n")  # fmt: skip


def csv_format(more: tuple[str, ...] = ()) -> Format:
    """The Format of one file: the header, then a row for each verdict, in the order given.

    `more`: columns behind the usual ones: `scan`, `vantage`, `capture`.
    """

    def longer(verdict: Verdict) -> str:
        known = (getattr(verdict, name) for name in more)
        cells = ("" if each is None else quote(escaped(str(each))) for each in known)
        return f"{line(verdict)[:-1]},{','.join(cells)}\n"

    of_row = longer if more else line
    return Format(lambda verdicts: chunks(map(of_row, verdicts)), ",".join(COLUMNS + more) + "\n")
