"""nmap's XML, which every tool around scanners reads.

What consumers need was read in their sources: libnmap wants a `state` in each port, Metasploit the host's
`status` and address, ndiff the head and the finishing time, ivre numbers in `reason_ttl`. The DTD that
comes with nmap allows one value for `scanner`, "nmap", and so that files validate and every consumer
takes them, that is what is written; who it really was stands in `args` and in a comment.

What nmap has no word for goes where its readers look for extras: evidence as the output of a script
`halfopen-evidence`, the router that sent an ICMP error in `reason_ip`, the scanner whose packets a capture shows
in the host's `comment`. Services are names from a table (`method="table"`), nothing was asked of them.

A host that said nothing is `unknown`, see `hosts`; a host whose silence was only counted has no element. Each piece
is whole elements; a file that was cut off lacks the last tags, and nothing else. A head goes to an empty file only.
"""

import time
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from html import escape
from statistics import fmean
from typing import Any

from .. import __version__
from ..targets.ports import format_ports
from ..verdict.sentences import printable
from ..verdict.table import Verdict
from .hosts import Folded, HostRows, gather, pieces
from .sink import Run, Summary
from .stream import Stream

VERSION = "1.05"  # of the form: nmap's xmloutputversion
_LEAST_TIMEOUT = 100_000  # µs; nmap's own floor
_DEVIATIONS = 4  # RFC 6298 section 2: the retransmission timeout is the mean and four deviations


def _attributes(**values: object) -> str:
    """Attributes in order, those that are None left out."""
    known = ((name, value) for name, value in values.items() if value is not None)
    return "".join(f' {name}="{escape(printable(str(value)))}"' for name, value in known)


@lru_cache(maxsize=1 << 16)
def _port_body(
    state: str, reason: str, ttl: int | None, service: str | None, evidence: tuple[str, ...], icmp: str | None
) -> str:
    text = f"<state{_attributes(state=state, reason=reason, reason_ttl=ttl or 0, reason_ip=icmp)}/>"
    if service is not None:
        text += f"<service{_attributes(name=service, method='table', conf=3)}/>"
    if evidence:
        words = "".join(f"<elem>{escape(printable(word))}</elem>" for word in evidence)
        text += f"<script{_attributes(id='halfopen-evidence', output=' '.join(evidence))}>{words}</script>"
    return text


def _port(row: Verdict) -> str:
    router = row.icmp_from if row.icmp_from != row.ip else None
    body = _port_body(row.state, row.reason, row.ttl, row.service, row.evidence, router)
    return f'<port protocol="{row.protocol}" portid="{row.port}">{body}</port>\n'


def _extra(folded: list[Folded]) -> str:
    """One element a state, as nmap has it, with its reasons inside."""
    text = ""
    for state in dict.fromkeys(each.state for each in folded):
        groups = [each for each in folded if each.state == state]
        text += f"<extraports{_attributes(state=state, count=sum(len(each.ports) for each in groups))}>\n"
        for each in groups:
            facts = _attributes(reason=each.reason, count=len(each.ports), proto="tcp", ports=format_ports(each.ports))
            text += f"<extrareasons{facts}/>\n"
        text += "</extraports>\n"
    return text


def _times(trips: list[float]) -> str:
    """Round trips (ms) as nmap sums them up: mean, mean deviation and the timeout they call for, in µs."""
    if not trips:
        return ""
    mean = fmean(trips)
    spread = fmean(abs(trip - mean) for trip in trips)
    most = max(_LEAST_TIMEOUT, round((mean + _DEVIATIONS * spread) * 1000))
    return f"<times{_attributes(srtt=round(mean * 1000), rttvar=round(spread * 1000), to=most)}/>\n"


def _host(host: HostRows) -> str:
    times = [row.time for row in host.shown if row.time is not None]
    by = host.scanner and f"scanner {host.scanner}"
    first, last = (int(min(times)), int(max(times))) if times else (None, None)
    text = f"<host{_attributes(starttime=first, endtime=last, comment=by)}>\n"
    text += f"<status{_attributes(state=host.status, reason=host.why.reason, reason_ttl=host.why.ttl or 0)}/>\n"
    text += f"<address{_attributes(addr=host.ip, addrtype='ipv6' if ':' in host.ip else 'ipv4')}/>\n"
    if host.shown or host.folded:
        text += f"<ports>{_extra(host.folded)}{''.join(map(_port, host.shown))}</ports>\n"
    return text + _times([row.rtt_ms for row in host.shown if row.rtt_ms is not None]) + "</host>\n"


class Xml:
    """A Sink of nmap's XML."""

    def __init__(self, stream: Stream, everything: bool, run: Run) -> None:
        self._stream, self._everything, self._run = stream, everything, run
        self._hosts: Counter[str] = Counter()
        if not stream.length:
            stream.write(self._head())

    def _head(self) -> str:
        run = self._run
        facts = _attributes(
            scanner="nmap", args=run.command, start=int(run.started), startstr=time.ctime(run.started),
            version=__version__, xmloutputversion=VERSION,
        )  # fmt: skip
        text = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE nmaprun>\n'
        text += f"<!-- halfopen {__version__}; the form has no other name for a scanner than nmap -->\n"
        text += f"<nmaprun{facts}>\n"
        if run.kind:
            ports = _attributes(type=run.kind, protocol="tcp", numservices=run.port_count, services=run.ports)
            text += f"<scaninfo{ports}/>\n"
        return text + '<verbose level="0"/>\n<debugging level="0"/>\n'

    def write(self, verdicts: Iterable[Verdict]) -> None:
        """Write a batch: its hosts in address order."""
        hosts = gather(verdicts, self._everything)
        self._hosts.update(host.status for host in hosts)
        for text in pieces(map(_host, hosts)):
            self._stream.write(text)

    def finish(self, summary: Summary) -> None:
        """Write the sums and the last tag, and close the file."""
        now = time.time()
        facts = _attributes(
            time=int(now), timestr=time.ctime(now), elapsed=f"{now - self._run.started:.2f}",
            summary=summary.text.replace("\n", "; ") or None, exit="error" if summary.interrupted else "success",
            errormsg="interrupted" if summary.interrupted else None,
        )  # fmt: skip
        total = self._hosts.total() + summary.silent_hosts
        hosts = _attributes(up=self._hosts["up"], down=self._hosts["down"], total=total)
        self._stream.write(f"<runstats>\n<finished{facts}/>\n<hosts{hosts}/>\n</runstats>\n</nmaprun>\n")
        self._stream.close()

    def memory(self) -> dict[str, Any]:
        """Hosts by status."""
        return dict(self._hosts)

    def recall(self, memory: dict[str, Any]) -> None:
        """Hosts by status."""
        self._hosts = Counter({str(status): int(count) for status, count in memory.items()})
