"""What every format has in common: it is given batches of verdicts, and at the end a summary.

A batch is a closed window of a live scan, or a stretch of a capture: a host's rows are all in one
batch there, in any order, and may come from a generator that is read once. A format writes what it
can at once and keeps only what it must for the end; nothing is held for the sake of order across
batches. `finish` is also called after an interrupted scan, so that a file is closed properly.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..verdict.table import Verdict


@dataclass(frozen=True)
class Run:
    """What is known at the start, for formats whose head says how their rows came about.

    `command`: the command line. `kind`: "syn", "connect", or "" for a capture. `ports`: those asked for, as
    `format_ports` writes them, `port_count` of them. `started`: seconds since 1970.
    """

    command: str = "halfopen"
    kind: str = ""
    ports: str = ""
    port_count: int = 0
    started: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Summary:
    """What is known at the end. `text`: the lines that stderr also gets, for files that people read.

    `silent_hosts`: hosts without any answer whose rows were counted and never built as verdicts.
    `interrupted`: some targets were given up, as Ctrl-C or a failing interface will have it.
    """

    text: str = ""
    silent_hosts: int = 0
    interrupted: bool = False


class Sink(Protocol):
    """One format on one stream. `write` and `finish` raise ScanError (disk) or BrokenPipeError (reader gone)."""

    def write(self, verdicts: Iterable[Verdict]) -> None: ...

    def finish(self, summary: Summary) -> None: ...

    def memory(self) -> dict[str, Any]:
        """What the end of the file will need of what has been written, as JSON takes it."""
        ...

    def recall(self, memory: dict[str, Any]) -> None:
        """Go on where another process has left off. Raises KeyError, TypeError or ValueError for what it is not."""
        ...
