"""What a report shows, as plain data: sums, bars, maps, and the rows of the table as columns.

The rows of the table are columns of small numbers with the distinct texts beside them, and columns are written as
differences from row to row, runs of equal ones as one. Sorted rows repeat themselves, so a quarter of a million take
one or two megabytes, and the page sorts and filters by these numbers. Of more rows, or rows that take more than 5 MB,
those with the strongest states are kept (open, then closed, then filtered by an answer, silence last), and the page
says how many it shows. Sums, charts and maps are always of all rows.

A closed port whose reset a firewall forged has a colour and a line of its own, as in the table of a scan.
"""

from collections import Counter
from collections.abc import Sequence
from json import dumps
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import escaped
from ..packet.addresses import to_text
from ..packet.headers import Ints, Rows
from ..results.columns import HOST_ONLY, RowKind, Vocabulary, contradictions, host_numbers, strongest
from ..results.diff import Comparison
from ..results.runs import RunFacts, disagreements
from ..results.vantages import views
from ..verdict.sentences import evidence_sentence, printable, reason_phrase
from ..verdict.table import Reason, State
from .charts import STYLES, Bar, Map, bars, histogram, maps_of
from .overview import MOST_HOSTS, MOST_NAMED, changes_of, findings, open_hosts, sums_up

MOST_ROWS, LEAST_ROWS = 1 << 18, 1 << 10  # of the table
MOST_BYTES = 4_600_000  # of its data: with the rest of the page about 5 MB
MOST_SERVICES = 12

LABELS = {
    "open": "open", "closed": "closed", "firewall": "closed (firewall reset)", "filtered": "filtered",
    "other": "other", "unknown": "unknown", "down": "host down",
}  # fmt: skip


class Model:
    """Everything on the page. `data` goes to its script as JSON: hosts, kinds, columns of rows, maps."""

    def __init__(
        self, texts: Vocabulary, rows: Rows, title: str, sources: Sequence[str], notes: Sequence[str],
        runs: Sequence[RunFacts] = (), since: tuple[str, Comparison] | None = None,
    ) -> None:  # fmt: skip
        """ROW columns with their texts (in any order, targets more than once) → what the page shows.

        `runs`: what the scans say of themselves. `since`: the name of an earlier result, and what changed.
        """
        contradicting = contradictions(texts, rows)
        rows = strongest(texts, rows, by_scanner=True)
        kinds = texts.kinds
        style = np.array([STYLES.index(style_of(kind)) for kind in kinds], np.uint8)
        styles = style[rows["kind"]]
        counts = np.bincount(rows["kind"], minlength=len(kinds)).tolist()
        opened = strongest(texts, rows[styles == STYLES.index("open")])
        times = rows["time"][np.isfinite(rows["time"])]
        self.title = escaped(title)
        self.sources = list(map(escaped, sources))
        self.targets = int(np.count_nonzero(strongest(texts, rows)["port"] != HOST_ONLY))
        self.hosts, self.open_hosts = _host_count(rows), _host_count(opened)
        self.lead = sums_up(len(opened), self.open_hosts, self.hosts)
        # Seconds since 1970 of the first and the last reply.
        self.first: float | None = float(times.min()) if len(times) else None
        self.last: float | None = float(times.max()) if len(times) else None
        seen = views(texts, rows, MOST_NAMED)
        self.notes = list(
            map(escaped, (*notes, *seen.notes, *disagreements(self.targets, self.first, runs, contradicting)))
        )
        self.runs = runs
        self.open_ports = len(opened)
        self.opened, self.more_hosts = open_hosts(texts, opened), max(0, self.open_hosts - MOST_HOSTS)
        self.since = since and escaped(since[0])
        self.changes = changes_of(since[1]) if since else []
        self.same, self.unknown = (since[1].same, since[1].unknown) if since else (0, 0)
        self.findings = findings(texts, rows, seen)
        self.states, self.reasons = _states(styles), _reasons(kinds, counts)
        self.services = _services(texts, opened)
        self.rtt = histogram(rows["rtt"])
        self.words = _words(kinds, counts)
        self.maps = maps_of(rows, styles)
        most = MOST_ROWS
        while True:
            kept = _kept(texts, rows, most)
            self.data = _data(texts, rows[kept], style, self.maps)
            if most < LEAST_ROWS or len(dumps(self.data)) <= MOST_BYTES:
                break
            most = most * 3 // 4
        self.filters = _filters(styles[kept])
        self.rows, self.shown = len(rows), len(kept)


def style_of(kind: RowKind) -> str:
    """The colour of a row: its state, or `firewall`, or `other` for a state that is not one of ours."""
    if kind.state == State.CLOSED.value and "firewall-reset" in kind.evidence:
        return "firewall"
    return kind.state if kind.state in STYLES else "other"


def _host_count(rows: Rows) -> int:
    return int(host_numbers(rows)[-1]) + 1 if len(rows) else 0


def _kept(texts: Vocabulary, rows: Rows, most: int) -> Ints:
    """The rows for the table, in order; the weakest states are left out first, and silence before other filtered."""
    if len(rows) <= most:
        return np.arange(len(rows))
    silent = np.array([kind.reason == Reason.NO_RESPONSE.word for kind in texts.kinds], np.int64)
    weight = 2 * texts.strength() - silent
    return np.sort(np.argsort(-weight[rows["kind"]], kind="stable")[:most])


# ── sums and charts ──


def _states(styles: npt.NDArray[np.uint8]) -> list[Bar]:
    counts = zip(STYLES, np.bincount(styles, minlength=len(STYLES)).tolist(), strict=True)
    return bars([(LABELS[style], style, count, "") for style, count in counts if style in LABELS], len(styles))


def _filters(styles: npt.NDArray[np.uint8]) -> list[tuple[str, str, int]]:
    """The states in the table, for the buttons above it: what to search for, the label, and how many rows there are."""
    names = ("closed" if STYLES[style] == "firewall" else STYLES[style] for style in styles.tolist())
    counts = Counter(names)
    return [(name, LABELS[name], counts[name]) for name in STYLES if counts[name]]


def _reasons(kinds: list[RowKind], counts: list[int]) -> list[Bar]:
    total: Counter[tuple[str, str]] = Counter()
    for kind, count in zip(kinds, counts, strict=True):
        total[kind.reason, style_of(kind)] += count
    hints = {key: f"{LABELS[key[1]]}: {reason_phrase(key[0])}" for key in total}
    return bars([(printable(key[0]), key[1], count, hints[key]) for key, count in total.most_common()], sum(counts))


def _services(texts: Vocabulary, opened: Rows) -> list[Bar]:
    """The ports that are open on most hosts; shares are of the hosts with open ports."""
    pairs, counts = np.unique(opened[["port", "service"]], return_counts=True)
    names = [printable(name or "") for name in texts.services]
    most = np.argsort(-counts, kind="stable")[:MOST_SERVICES].tolist()
    labels = [f"{pairs['port'][at]} {names[pairs['service'][at]]}".strip() for at in most]
    entries = [(label, "open", int(counts[at]), "") for label, at in zip(labels, most, strict=True)]
    return bars(entries, _host_count(opened))


def _words(kinds: list[RowKind], counts: list[int]) -> list[tuple[str, str, int]]:
    """Evidence words, the frequent ones first: the word, what it means, and how many rows carry it."""
    total: Counter[str] = Counter()
    for kind, count in zip(kinds, counts, strict=True):
        total.update(dict.fromkeys(kind.evidence, count))
    words = total.most_common()
    return [(printable(word), evidence_sentence(word), count) for word, count in words if count]


# ── what the script reads ──


def _data(texts: Vocabulary, rows: Rows, style: npt.NDArray[np.uint8], maps: list[Map]) -> dict[str, Any]:
    host = host_numbers(rows)
    hosts = rows[np.flatnonzero(np.diff(host, prepend=-1))]
    kinds = [
        RowKind(printable(protocol), printable(state), printable(reason), tuple(map(printable, evidence)))
        for protocol, state, reason, evidence in texts.kinds
    ]
    # A port nearly always has one service, so both are one column: its numbers run on with the ports of a host.
    pairs, place = np.unique((rows["port"].astype(np.int64) + 1 << 32) + rows["service"], return_inverse=True)
    services = [printable(name or "") for name in texts.services]
    places = zip((pairs >> 32).tolist(), (pairs & 0xFFFFFFFF).tolist(), strict=True)
    return {
        "total": len(rows),
        "hosts": to_text(hosts),
        "hostnames": _hostnames(texts, to_text(hosts)),
        "places": [[port - 1, services[service]] for port, service in places],
        "kinds": kinds,
        "styles": style.tolist(),
        "addresses": [printable(address or "") for address in texts.addresses],
        "vantages": [printable(name or "") for name in texts.vantages],
        "captures": [escaped(name or "") for name in texts.captures],
        "reasons": {kind.reason: reason_phrase(kind.reason) for kind in kinds},
        "sentences": {word: evidence_sentence(word) for kind in kinds for word in kind.evidence},
        "rows": _columns(rows, host, place),
        "maps": [drawn._asdict() for drawn in maps],
        "names": list(STYLES),
        "labels": LABELS,
    }


def _hostnames(texts: Vocabulary, hosts: list[str]) -> list[str] | None:
    """The name of each host, "" if it has none; None: no host has one."""
    names = [escaped(texts.hostnames.get(ip, "")) for ip in hosts] if texts.hostnames else []
    return names if any(names) else None


def _columns(rows: Rows, host: Ints, place: Ints) -> dict[str, list[Any] | None]:
    """The rows by column; a column without information is null. Round trips have four digits, and -1 is unknown."""
    columns: dict[str, list[Any] | None] = {
        "host": _packed(host),
        "place": _packed(place),
        "kind": _packed(rows["kind"]),
    }
    for name in ("sender", "scanner", "tunnel", "scan", "vantage", "capture", "ttl"):
        known = np.unique(rows[name])[-2:]  # the same scanner in all rows says nothing
        columns[name] = _packed(rows[name]) if known[-1:].sum() > 0 and (name != "scanner" or len(known) > 1) else None
    trips = [-1 if trip != trip else float(f"{trip:.4g}") for trip in rows["rtt"].tolist()]  # NaN is not itself
    return columns | {"rtt": trips if max(trips, default=-1) >= 0 else None}


def _packed(values: npt.NDArray[Any]) -> list[int | list[int]]:
    """The differences from row to row, from 0 on; `[difference, times]` stands for one that repeats."""
    steps = np.diff(values.astype(np.int64), prepend=0)
    starts = np.flatnonzero(np.diff(steps, prepend=steps[:1] + 1))
    packed: list[int | list[int]] = []
    for step, times in zip(steps[starts].tolist(), np.diff(starts, append=len(steps)).tolist(), strict=True):
        packed += [step] * times if times < 3 else [[step, times]]
    return packed
