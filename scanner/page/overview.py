"""What a reader wants first: the open ports of each host, what changed, and findings in words.

A finding is a sentence about evidence that changes how rows are to be read: a forged reset makes a port look closed, a
SYN proxy makes it look open. Each names hosts and leads to its rows. Changes are those of `halfopen diff`, in its
groups: what to act on first stands first.

Limit: the page names `MOST_HOSTS` hosts with open ports, in the order of their addresses, and `MOST_CHANGES` changes of
a group. The table has every row, and `halfopen diff` every change.
"""

from itertools import groupby, islice
from typing import NamedTuple

import numpy as np

from ..errors import escaped
from ..packet.addresses import to_text
from ..packet.headers import Rows
from ..results.changes import HEADINGS, Difference
from ..results.columns import HOST_ONLY, Vocabulary, host_numbers
from ..results.diff import Comparison
from ..results.vantages import Views
from ..targets.ports import format_ports, services
from ..verdict.sentences import evidence_sentence, plural, printable

FEW_HOSTS, MOST_HOSTS = 40, 500  # that are shown at once; that are named at all
MOST_PORTS = 24  # open ports of a host that are shown one by one
MOST_NAMED = 8  # hosts in a sentence
MOST_CHANGES = 200

# Word, what `{ports}` or `{hosts}` of it mean, and what follows for the reader.
FINDINGS = (
    ("firewall-reset", "A firewall most likely forged the resets of {ports} on {hosts}.",
     "These ports show as closed, and a firewall keeps them from view."),
    ("syn-proxy", "A SYN proxy answers on {ports} of {hosts}.",
     "Whether a service listens behind it is not known."),
    ("all-open", "Nearly every port of {hosts} answers alike ({ports}).",
     "Likely one device answers for all of them: do not count them as services."),
    ("stopped-answering", "Before the scan was over, {hosts} stopped answering.",
     "What {ports} would have answered is not known."),
)  # fmt: skip
_TELLING = {word for word, *_ in FINDINGS} | {
    "handshake-completed", "handshake-refused", "silent-after-handshake", "unverified", "bad-checksum",
}  # fmt: skip


class OpenHost(NamedTuple):
    """A host with open ports: (port, service) of each, or their numbers in `many`; (word, sentence) of evidence."""

    ip: str
    name: str
    opened: int
    ports: list[tuple[int, str]]
    many: str
    words: list[tuple[str, str]]


class Finding(NamedTuple):
    """A sentence and what follows from it, the hosts, and what finds the rows."""

    sentence: str
    meaning: str
    hosts: str
    search: str


class Changes(NamedTuple):
    """A group of changes: (address, name, port, before, now) of the first, and how many `more` there are."""

    heading: str
    number: int
    rows: list[tuple[str, str, str, str, str]]
    more: int


def changes_of(comparison: Comparison) -> list[Changes]:
    """The groups that have changes, in their order."""
    found = []
    for group, differences in groupby(comparison.differences, lambda row: row.group):
        rows = iter(differences)
        first = list(map(_change, islice(rows, MOST_CHANGES)))
        more = sum(1 for _ in rows)
        found.append(Changes(HEADINGS[group], len(first) + more, first, more))
    return found


def _change(row: Difference) -> tuple[str, str, str, str, str]:
    name = escaped(row.hostname or "") + (f", was {row.old_ip}" if row.old_ip else "")
    old, new = (printable(f"{side.state} ({side.reason})") if side else "no row" for side in (row.old, row.new))
    if row.port is None:
        return row.ip, name, "host", old, new
    service = services().get(row.port, "") if row.protocol == "tcp" else ""
    return row.ip, name, f"{row.port}/{printable(row.protocol)} {service}", old, new


def open_hosts(texts: Vocabulary, opened: Rows) -> list[OpenHost]:
    """The first hosts with open ports; rows sorted by address."""
    ends = (np.flatnonzero(np.diff(host_numbers(opened), append=-1)) + 1)[:MOST_HOSTS].tolist()
    return [_open_host(texts, opened[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _open_host(texts: Vocabulary, rows: Rows) -> OpenHost:
    (ip,) = to_text(rows[:1])
    services, kinds = texts.services, texts.kinds
    ports = {port: printable(services[at] or "") for port, at in rows[["port", "service"]].tolist()}
    words = {word for kind in np.unique(rows["kind"]).tolist() for word in kinds[kind].evidence if word in _TELLING}
    tunnel = texts.addresses[rows["tunnel"][0]]
    name = " in ".join(filter(None, (escaped(texts.hostnames.get(ip, "")), printable(tunnel or ""))))
    many = len(ports) > MOST_PORTS
    return OpenHost(
        ip, name, len(ports), [] if many else list(ports.items()), format_ports(sorted(ports)) if many else "",
        [(word, evidence_sentence(word)) for word in sorted(words)],
    )  # fmt: skip


def findings(texts: Vocabulary, rows: Rows, seen: Views) -> list[Finding]:
    """The sentences whose evidence is in the rows, sorted by address, and where vantage points differ."""
    found = []
    if seen.differ:
        told = [f"{ip} port {port}: open from {opened} of {there}" for ip, port, opened, there in seen.first]
        told += [f"and {seen.differ - len(told):,} more"] if seen.differ > len(told) else []
        sentence = (
            f"Some of {seen.vantages} vantage points see {plural(seen.differ, 'target')} open, and others do not."
        )
        found.append(Finding(sentence, "", ", ".join(told), "state:open"))
    for word, sentence, meaning in FINDINGS:
        carries = np.array([word in kind.evidence for kind in texts.kinds], np.bool_)
        chosen = rows[carries[rows["kind"]]] if len(carries) else rows
        if not len(chosen):
            continue
        first = chosen[np.flatnonzero(np.diff(host_numbers(chosen), prepend=-1))]
        ports = plural(int(np.count_nonzero(chosen["port"] != HOST_ONLY)), "port")
        counts = {"ports": ports, "hosts": plural(len(first), "host")}
        named = to_text(first[:MOST_NAMED])
        names = [f"{ip} ({escaped(name)})" if (name := texts.hostnames.get(ip)) else ip for ip in named]
        names += [f"and {len(first) - MOST_NAMED:,} more"] if len(first) > MOST_NAMED else []
        found.append(Finding(sentence.format(**counts), meaning.format(**counts), ", ".join(names), f"evidence:{word}"))
    return found


def sums_up(opened: int, open_hosts: int, hosts: int) -> str:
    """The first sentence of the page."""
    if not hosts:
        return "The results hold no rows."
    if not opened:
        return f"No open port was found on {plural(hosts, 'host')}."
    return (
        f"{plural(opened, 'port')} {'is' if opened == 1 else 'are'} open, on {open_hosts:,} of {plural(hosts, 'host')}."
    )
