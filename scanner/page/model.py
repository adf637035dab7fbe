"""What a report shows, as plain data: sums, bars, maps, and the rows of the table as columns.

The rows of the table are columns of small numbers with the distinct texts beside them. That is a tenth
of the size of JSON objects, and the page sorts and filters by these numbers. A page with more than 100,000 rows opens
slowly everywhere. Then the rows with the strongest states are kept (open, then closed, then filtered by an answer,
silence last), and the page says how many it shows. Sums, charts and maps are always of all rows.

A closed port whose reset a firewall forged has a colour and a line of its own, as in the table of a scan.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import escaped
from ..packet.addresses import to_text
from ..packet.headers import Ints, Rows
from ..results.columns import HOST_ONLY, UNKNOWN_TTL, RowKind, Vocabulary, host_numbers, strongest
from ..verdict.sentences import evidence_sentence, printable, reason_phrase
from ..verdict.table import Reason, State
from .charts import STYLES, Bar, Map, bars, cell_of_hosts, histogram, maps_of

MOST_ROWS = 100_000
MOST_SERVICES = 12

LABELS = {
    "open": "open", "closed": "closed", "firewall": "closed (firewall reset)", "filtered": "filtered",
    "other": "other", "unknown": "unknown", "down": "host down",
}  # fmt: skip


class Model:
    """Everything on the page. `data` goes to its script as JSON: hosts, kinds, columns of rows, maps."""

    def __init__(self, texts: Vocabulary, rows: Rows, title: str, sources: Sequence[str], notes: Sequence[str]) -> None:
        """ROW columns with their texts (in any order, targets more than once) → what the page shows."""
        rows = strongest(texts, rows, by_scanner=True)
        kinds = texts.kinds
        style = np.array([STYLES.index(style_of(kind)) for kind in kinds], np.uint8)
        styles = style[rows["kind"]]
        counts = np.bincount(rows["kind"], minlength=len(kinds)).tolist()
        opened = rows[styles == STYLES.index("open")]
        kept = _kept(texts, rows)
        times = rows["time"][np.isfinite(rows["time"])]
        self.title = escaped(title)
        self.sources = list(map(escaped, sources))
        self.notes = list(map(escaped, notes))
        self.targets = int(np.count_nonzero(rows["port"] != HOST_ONLY))
        self.hosts, self.open_hosts = _host_count(rows), _host_count(opened)
        # Seconds since 1970 of the first and the last reply.
        self.first: float | None = float(times.min()) if len(times) else None
        self.last: float | None = float(times.max()) if len(times) else None
        self.states, self.reasons = _states(styles), _reasons(kinds, counts)
        self.services = _services(texts, opened)
        self.rtt = histogram(rows["rtt"])
        self.words = _words(kinds, counts)
        self.maps = maps_of(rows, styles)
        self.shown = len(kept)
        self.data = _data(texts, rows[kept], style, self.maps)


def style_of(kind: RowKind) -> str:
    """The colour of a row: its state, or `firewall`, or `other` for a state that is not one of ours."""
    if kind.state == State.CLOSED.value and "firewall-reset" in kind.evidence:
        return "firewall"
    return kind.state if kind.state in STYLES else "other"


def _host_count(rows: Rows) -> int:
    return int(host_numbers(rows)[-1]) + 1 if len(rows) else 0


def _kept(texts: Vocabulary, rows: Rows) -> Ints:
    """The rows for the table, in order; the weakest states are left out first, and silence before other filtered."""
    if len(rows) <= MOST_ROWS:
        return np.arange(len(rows))
    silent = np.array([kind.reason == Reason.NO_RESPONSE.word for kind in texts.kinds], np.int64)
    weight = 2 * texts.strength() - silent
    return np.sort(np.argsort(-weight[rows["kind"]], kind="stable")[:MOST_ROWS])


# ── sums and charts ──


def _states(styles: npt.NDArray[np.uint8]) -> list[Bar]:
    counts = np.bincount(styles, minlength=len(STYLES)).tolist()
    entries = [
        (LABELS[style], style, count, "") for style, count in zip(STYLES, counts, strict=True) if style in LABELS
    ]
    return bars(entries, len(styles))


def _reasons(kinds: list[RowKind], counts: list[int]) -> list[Bar]:
    total: Counter[tuple[str, str]] = Counter()
    for kind, count in zip(kinds, counts, strict=True):
        total[kind.reason, style_of(kind)] += count
    entries = [(printable(word), style, count, reason_phrase(word)) for (word, style), count in total.most_common()]
    return bars(entries, sum(counts))


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
    return {
        "hosts": to_text(hosts),
        "hostnames": _hostnames(texts, to_text(hosts)),
        "kinds": kinds,
        "styles": style.tolist(),
        "services": [printable(name or "") for name in texts.services],
        "addresses": [printable(address or "") for address in texts.addresses],
        "reasons": {kind.reason: reason_phrase(kind.reason) for kind in kinds},
        "sentences": {word: evidence_sentence(word) for kind in kinds for word in kind.evidence},
        "rows": _columns(rows, host),
        "maps": [
            drawn._asdict() | ({"at": cell_of_hosts(drawn, hosts)} if drawn.kind == "hilbert" else {}) for drawn in maps
        ],
        "names": list(STYLES),
        "labels": LABELS,
    }


def _hostnames(texts: Vocabulary, hosts: list[str]) -> list[str] | None:
    """The name of each host, "" if it has none; None: no host has one."""
    names = [escaped(texts.hostnames.get(ip, "")) for ip in hosts] if texts.hostnames else []
    return names if any(names) else None


def _columns(rows: Rows, host: Ints) -> dict[str, list[Any] | None]:
    """The rows by column; a column without information is null."""
    columns: dict[str, list[Any]] = {
        "host": host.tolist(),
        **{name: rows[name].tolist() for name in ("port", "kind", "service")},
        "ttl": [None if value == UNKNOWN_TTL else value for value in rows["ttl"].tolist()],
        "rtt": [None if value != value else round(value, 3) for value in rows["rtt"].tolist()],  # NaN is not itself
        **{name: rows[name].tolist() for name in ("sender", "scanner", "tunnel", "scan")},
    }
    told = {name for name, values in columns.items() if name in ("host", "port", "kind") or any(values)}
    if len(set(columns["scanner"])) < 2:
        told.discard("scanner")  # the same scanner in all rows
    return {name: values if name in told else None for name, values in columns.items()}
