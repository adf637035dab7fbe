"""nmap's grepable form: one line for a host's status, one for its ports, tabs between the fields.

It is old and deprecated and in ten thousand shell scripts, which look for `22/open/tcp//ssh///` and cut at
tabs and commas. So the fields are nmap's, in nmap's order, seven to a port, and what they have no place for
(reasons, evidence, times) is left out: the other formats have it. A slash inside a field would end it, and is
written as a bar, as nmap does.

What is folded stands behind "Ignored State", the largest first; nmap names one state there, and scripts that look for
one find it.
"""

import time
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from .. import __version__
from ..verdict.sentences import printable
from ..verdict.table import Verdict
from .hosts import HostRows, gather, pieces
from .sink import Run, Summary
from .stream import Stream


@lru_cache(maxsize=1 << 12)
def _service(name: str) -> str:
    return printable(name).replace("/", "|").replace(",", "|")


def _port(row: Verdict) -> str:
    return f"{row.port}/{row.state}/{row.protocol}//{_service(row.service) if row.service else ''}///"


def _host(host: HostRows) -> str:
    head = f"Host: {host.ip} ()\t"
    text = f"{head}Status: {host.status.capitalize()}\n"
    if host.shown or host.folded:
        counts: Counter[str] = Counter()
        for each in host.folded:
            counts[each.state] += len(each.ports)
        ignored = ", ".join(f"{state} ({count})" for state, count in counts.most_common())
        ports = f"Ports: {', '.join(map(_port, host.shown))}" if host.shown else ""
        text += head + "\t".join(filter(None, (ports, ignored and f"Ignored State: {ignored}"))) + "\n"
    return text


class Gnmap:
    """A Sink of nmap's grepable form."""

    def __init__(self, stream: Stream, everything: bool, run: Run) -> None:
        self._stream, self._everything, self._run = stream, everything, run
        self._hosts: Counter[str] = Counter()
        if not stream.length:
            when = time.ctime(run.started)
            stream.write(f"# halfopen {__version__} scan initiated {when} as: {printable(run.command)}\n")

    def write(self, verdicts: Iterable[Verdict]) -> None:
        """Write a batch: its hosts in address order."""
        hosts = gather(verdicts, self._everything)
        self._hosts.update(host.status for host in hosts)
        for text in pieces(map(_host, hosts)):
            self._stream.write(text)

    def finish(self, summary: Summary) -> None:
        """Write the closing line and close the file."""
        now = time.time()
        total, up = self._hosts.total() + summary.silent_hosts, self._hosts["up"]
        addresses = f"{total} IP address{'' if total == 1 else 'es'} ({up} host{'' if up == 1 else 's'} up)"
        seconds = f"{now - self._run.started:.2f} seconds"
        self._stream.write(f"# halfopen done at {time.ctime(now)} -- {addresses} scanned in {seconds}\n")
        self._stream.close()

    def memory(self) -> dict[str, Any]:
        """Hosts by status."""
        return dict(self._hosts)

    def recall(self, memory: dict[str, Any]) -> None:
        """Hosts by status."""
        self._hosts = Counter({str(status): int(count) for status, count in memory.items()})
