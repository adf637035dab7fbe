"""nmap's XML, which every tool around scanners reads.

What consumers need was read in their sources: libnmap needs a `state` in each port, Metasploit the host's
`status` and address, ndiff the head and the finishing time, ivre numbers in `reason_ttl`. The DTD that
comes with nmap allows one value for `scanner`, "nmap". So that is what is written: files validate and every consumer
takes them. `args` and a comment name the real scanner.

What nmap has no word for goes where readers look for extras: evidence is the output of a script
`halfopen-evidence`, the router that sent an ICMP error is in `reason_ip`, the scanner whose packets a capture shows
is in the host's `comment`. Services are names from a table (`method="table"`), because no service was probed.

A host that sent nothing is `unknown`, see `hosts`. Each piece is whole elements; a file that was cut off lacks the last
tags, and nothing else.
"""

import time
from collections import Counter
from functools import lru_cache
from html import escape
from statistics import fmean
from urllib.parse import quote

from .._version import __version__
from ..errors import escaped
from ..targets.ports import format_ports
from ..verdict.rows import Verdict
from ..verdict.sentences import printable
from .hosts import Details, HostRows, PortGroup, details_of, format_by_host
from .stream import Format, Run, Summary

SEEN = ("scanner", "tunnel", "scan", "vantage", "capture")  # what the comment of a host says, each with its value
VERSION = "1.05"  # of the form: nmap's xmloutputversion
_LEAST_TIMEOUT = 100_000  # µs; nmap's own minimum
_DEVIATIONS = 4  # RFC 6298 section 2: the retransmission timeout is the mean and four deviations


def xml_format(everything: bool, run: Run) -> Format:
    """The Format of one file."""

    def end(summary: Summary, hosts: Counter[str]) -> str:
        now = time.time()
        facts = _attributes(
            time=int(now), timestr=time.ctime(now), elapsed=f"{now - run.started:.2f}",
            summary=summary.text.replace("\n", "; ") or None, exit="error" if summary.interrupted else "success",
            errormsg="interrupted" if summary.interrupted else None,
        )  # fmt: skip
        counts = _attributes(up=hosts["up"], down=hosts["down"], total=hosts.total())
        return f"<runstats>\n<finished{facts}/>\n<hosts{counts}/>\n</runstats>\n</nmaprun>\n"

    return format_by_host(everything, _head(run), _host, end)


def _head(run: Run) -> str:
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


def _host(host: HostRows) -> str:
    rows, folded = [row for row in host.shown() if row.port is not None], host.folded()
    times = [time for row in rows for time in (row.first_probe, row.last_probe, row.time) if time is not None]
    first, last = (int(min(times)), int(max(times))) if times else (None, None)
    texts = [text and quote(text, " /:@") for text in (host.vantage, host.capture)]  # no comma, as it parts the parts
    parts = zip(SEEN, (host.scanner, host.tunnel, host.scan, *texts), strict=True)
    seen = [f"{name} {value}" for name, value in parts if value]
    text = f"<host{_attributes(starttime=first, endtime=last, comment=', '.join(seen) or None)}>\n"
    text += f"<status{_attributes(state=host.status, reason=host.reply.reason, reason_ttl=host.reply.ttl or 0)}/>\n"
    text += f"<address{_attributes(addr=host.ip, addrtype='ipv6' if ':' in host.ip else 'ipv4')}/>\n"
    if mac := host.reply.mac:
        text += f"<address{_attributes(addr=mac.upper(), addrtype='mac', vendor=host.reply.vendor)}/>\n"
    if host.hostname:
        text += f'<hostnames><hostname name="{escape(escaped(host.hostname))}" type="user"/></hostnames>\n'
    if rows or folded:
        text += f"<ports>{_extra(folded)}{''.join(map(_port, rows))}</ports>\n"
    return text + _times([row.rtt_ms for row in rows if row.rtt_ms is not None]) + "</host>\n"


def _extra(folded: list[PortGroup]) -> str:
    """One element for each folded state, as nmap writes it, with its reasons inside."""
    text = ""
    for state in dict.fromkeys(group.state for group in folded):
        groups = [group for group in folded if group.state == state]
        text += f"<extraports{_attributes(state=state, count=sum(len(group.ports) for group in groups))}>\n"
        for group in groups:
            ports = format_ports(group.ports)
            facts = _attributes(reason=group.reason, count=len(group.ports), proto="tcp", ports=ports)
            text += f"<extrareasons{facts}/>\n"
        text += "</extraports>\n"
    return text


def _port(row: Verdict) -> str:
    return f'<port protocol="{row.protocol}" portid="{row.port}">{_port_body(details_of(row))}</port>\n'


@lru_cache(maxsize=1 << 16)
def _port_body(details: Details) -> str:
    """What many ports have in common, made once."""
    state, reason, ttl, service, evidence, router = details
    text = f"<state{_attributes(state=state, reason=reason, reason_ttl=ttl or 0, reason_ip=router)}/>"
    if service is not None:
        text += f"<service{_attributes(name=service, method='table', conf=3)}/>"
    if evidence:
        words = "".join(f"<elem>{escape(printable(word))}</elem>" for word in evidence)
        text += f"<script{_attributes(id='halfopen-evidence', output=' '.join(evidence))}>{words}</script>"
    return text


def _times(trips: list[float]) -> str:
    """Round trips (ms) as nmap sums them up: mean, mean deviation and the timeout that follows from them, in µs."""
    if not trips:
        return ""
    mean = fmean(trips)
    deviation = fmean(abs(trip - mean) for trip in trips)
    timeout = max(_LEAST_TIMEOUT, round((mean + _DEVIATIONS * deviation) * 1000))
    return f"<times{_attributes(srtt=round(mean * 1000), rttvar=round(deviation * 1000), to=timeout)}/>\n"


def _attributes(**values: object) -> str:
    """Attributes in order, without those that are None; the values escaped."""
    known = ((name, value) for name, value in values.items() if value is not None)
    return "".join(f' {name}="{escape(printable(str(value)))}"' for name, value in known)
