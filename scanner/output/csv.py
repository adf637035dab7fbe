"""Comma-separated values: a header row always, then one verdict a row, the same columns for ever.

Columns carry the names and the order of the JSON keys; what is unknown is an empty cell. Evidence
words are joined by `;`. Fields are quoted as RFC 4180 (section 2, rules 5 to 7) says, only where
needed; unlike its rule 1 a line ends in a bare newline, as the tools that read these files on Linux
(cut, sort, join, awk) expect. As in `jsonl`, what repeats from row to row is made once.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from ..verdict.table import State, Verdict
from .jsonl import Middle, chunks
from .sink import Summary
from .stream import Stream

COLUMNS = ("ip", "port", "protocol", "state", "reason", "ttl", "service", "evidence",
           "rtt_ms", "time", "pass", "icmp_from", "scanner_ip")  # fmt: skip


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
    ip, port, state, reason, protocol, ttl, service, evidence, rtt, time, pass_, icmp, scanner = verdict
    if port is None and state == State.DOWN.value:
        protocol = ""
    shared = _middle((state, reason, protocol, ttl, service, evidence))
    rtt_cell = "" if rtt is None else f"{rtt:.3f}"
    time_cell = "" if time is None else f"{time:.6f}"
    return (f"{ip},{'' if port is None else port},{shared},{rtt_cell},{time_cell},"
            f"{'' if pass_ is None else pass_},{icmp or ''},{scanner or ''}\n")  # fmt: skip


class Csv:
    """A Sink of comma-separated values."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        if not stream.length:
            stream.write(",".join(COLUMNS) + "\n")

    def write(self, verdicts: Iterable[Verdict]) -> None:
        """Write a batch, in the order given; it has reached the system when this returns."""
        for text in chunks(map(line, verdicts)):
            self._stream.write(text)

    def finish(self, summary: Summary) -> None:
        """Close the file; the format has no place for a summary."""
        self._stream.close()

    def memory(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def recall(self, memory: dict[str, Any]) -> None:
        """Nothing."""
