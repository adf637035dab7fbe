"""nmap's grepable form: one line for a host's status, one for its ports, tabs between the fields.

It is old and deprecated, but ten thousand shell scripts look for `22/open/tcp//ssh///` in it and cut at
tabs and commas. So the fields are nmap's, in nmap's order, seven to a port. What they have no place for
(reasons, evidence, times) is left out: the other formats have it. A slash inside a field would end the field, so it is
written as a bar, as nmap does.

Folded ports stand behind "Ignored State", the largest group first. nmap names one state there, and scripts that look
for one find it.
"""

import time
from collections import Counter

from .._version import __version__
from ..errors import escaped
from ..verdict.rows import Verdict
from ..verdict.sentences import printable
from .hosts import HostRows, format_by_host
from .stream import Format, Run, Summary

_BARS = str.maketrans("/,", "||")
_NO_BRACKETS = str.maketrans("()", "||")


def gnmap_format(everything: bool, run: Run) -> Format:
    """The Format of one file."""

    def end(summary: Summary, hosts: Counter[str]) -> str:
        now, total, up = time.time(), hosts.total(), hosts["up"]
        addresses = f"{total} IP address{'' if total == 1 else 'es'} ({up} host{'' if up == 1 else 's'} up)"
        return f"# halfopen done at {time.ctime(now)} -- {addresses} scanned in {now - run.started:.2f} seconds\n"

    started = time.ctime(run.started)
    head = f"# halfopen {__version__} scan initiated {started} as: {printable(run.command)}\n"
    return format_by_host(everything, head, _host, end)


def _host(host: HostRows) -> str:
    head = f"Host: {host.ip} ({escaped(host.hostname or '').translate(_NO_BRACKETS)})\t"
    text = f"{head}Status: {host.status.capitalize()}\n"
    fields = []
    if shown := [_port(row) for row in host.shown() if row.port is not None]:
        fields.append(f"Ports: {', '.join(shown)}")
    if folded := host.folded():
        counts: Counter[str] = Counter()
        for group in folded:  # groups of one state differ by reason, which has no place here
            counts[group.state] += len(group.ports)
        ignored = (f"{state} ({count})" for state, count in counts.most_common())
        fields.append(f"Ignored State: {', '.join(ignored)}")
    return text + head + "\t".join(fields) + "\n" if fields else text


def _port(row: Verdict) -> str:
    return f"{row.port}/{row.state}/{row.protocol}//{printable(row.service or '').translate(_BARS)}///"
