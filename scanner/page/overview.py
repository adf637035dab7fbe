"""What a reader wants first: what was scanned and how sure it is, the open ports of each host, and findings in words.

A finding is a sentence about evidence that changes how rows are to be read: a forged reset makes a port look closed, a
SYN proxy makes it look open. Each names hosts and leads to its rows. What the input does not carry is not made up:
a fact of the scan is left out, and a measure of trust says that it was not measured.

Limit: the page names `MOST_HOSTS` hosts with open ports, in the order of their addresses. The table has all of them.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

import numpy as np

from ..errors import escaped, shortened
from ..packet.addresses import to_text
from ..packet.headers import Rows
from ..results.columns import HOST_ONLY, Vocabulary, host_numbers
from ..results.runs import RunFacts
from ..targets.ports import format_ports
from ..verdict.sentences import evidence_sentence, plural, printable

FEW_HOSTS, MOST_HOSTS = 40, 500  # that are shown at once; that are named at all
MOST_PORTS = 24  # open ports of a host that are shown one by one
MOST_NAMED = 8  # hosts in a sentence

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
_TRUST = (
    ("Loss", "loss"),
    ("Expected missed responders", "missed"),
    ("Frames dropped", "dropped"),
    ("Frames rejected", "rejected"),
)


class Scan(NamedTuple):
    """One scan: what it was, how sure it is, each as (name, value), and what else its summary says."""

    source: str
    facts: list[tuple[str, str]]
    trust: list[tuple[str, str]]
    more: str


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


def scan_of(run: RunFacts) -> Scan:
    """What a scan says of itself, for people."""
    said = run.said()
    facts = {
        "Command": run.command and shortened(run.command),
        "Started": run.started and moment(run.started),
        "Duration": None if run.seconds is None else _duration(run.seconds),
        "Rate": said.get("rate"),
    }
    known = [(label, escaped(value)) for label, value in facts.items() if value]
    trust = [(label, escaped(said.get(name, "not measured"))) for label, name in _TRUST]
    return Scan(escaped(run.source), known, trust, escaped(shortened(said.get("more", ""))))


def _duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 60 else f"{timedelta(0, int(seconds))} (hours:minutes:seconds)"


def moment(seconds: float) -> str:
    """Seconds since 1970 as a date and a time."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


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


def findings(texts: Vocabulary, rows: Rows) -> list[Finding]:
    """The sentences whose evidence is in the rows, sorted by address."""
    found = []
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
    are = "port is" if opened == 1 else "ports are"
    return f"{opened:,} {are} open, on {open_hosts:,} of {plural(hosts, 'host')}."


def disagreements(rows: int, first: float | None, runs: Sequence[RunFacts]) -> list[str]:
    """A line for statistics that cannot be those of the rows: `rows` targets, the first reply at `first`."""
    counted = [run.targets for run in runs]
    notes = []
    if counted and all(count is not None for count in counted) and sum(filter(None, counted)) < rows:
        names = ", ".join(run.source for run in runs)
        notes.append(f"the statistics ({names}) count {plural(sum(filter(None, counted)), 'target')}, and the results "
                     f"hold {rows:,}: they are not of the same scan, or not of all files")  # fmt: skip
    starts = [run.started for run in runs if run.started is not None]
    if first is not None and starts and len(starts) == len(runs) and first < min(starts) - 1:
        notes.append("there are replies from before the start that the statistics name: they are not of the same scan")
    return notes
