"""What a report shows, as plain data: sums, bars, maps, and the rows of the table as columns.

The table's rows are kept as columns of small numbers with the distinct texts beside them, because that is a tenth
of the size of JSON objects and what the page sorts and filters by. Beyond 100,000 rows a page gets slow to
open anywhere; then those that claim most are kept (open, then closed, then filtered by an answer, silence last), and
the page says how many it leaves out. Sums, charts and maps are always of all rows.

A closed port whose reset a firewall forged has a colour and a line of its own, as in the table of a scan.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..packet.addresses import to_text
from ..packet.headers import ADDRESS, Ints, Rows
from ..results.columns import HOST_ONLY, UNKNOWN_TTL, Gathering, Kind, host_numbers
from ..verdict.sentences import evidence_sentence, printable, reason_phrase
from ..verdict.table import Reason, State
from .charts import Bar, Histogram, bars, histogram
from .maps import STYLES, Map, cell_of_hosts, maps_of

MOST_ROWS = 100_000
MOST_SERVICES = 12

LABELS = {
    "open": "open", "closed": "closed", "firewall": "closed (firewall reset)", "filtered": "filtered",
    "other": "other", "unknown": "unknown", "down": "host down",
}  # fmt: skip
_SILENT = Reason.NO_RESPONSE.word


@dataclass(frozen=True)
class Word:
    """An evidence word, what it means, and how many rows carry it."""

    word: str
    sentence: str
    count: int


@dataclass(frozen=True)
class Model:
    """Everything on the page. `data` goes to its script as JSON: hosts, kinds, columns of rows, maps."""

    title: str
    sources: list[str]
    notes: list[str]
    targets: int
    hosts: int
    open_hosts: int
    first: float | None  # seconds since 1970 of the first and the last reply
    last: float | None
    states: list[Bar]
    reasons: list[Bar]
    services: list[Bar]
    rtt: Histogram | None
    words: list[Word]
    maps: list[Map]
    shown: int
    data: dict[str, Any]


def style_of(kind: Kind) -> str:
    """The colour of a row: its state, or `firewall`, or `other` for a state that is not ours."""
    _, state, _, evidence = kind
    if state == State.CLOSED.value and "firewall-reset" in evidence:
        return "firewall"
    return state if state in STYLES else "other"


def model_of(gathering: Gathering, rows: Rows, title: str, sources: Sequence[str], notes: Sequence[str]) -> Model:
    """ROW columns of one gathering (any order, targets more than once) → what the page shows."""
    rows = gathering.strongest(rows, by_scanner=True)
    kinds = gathering.kinds
    style = np.array([STYLES.index(style_of(kind)) for kind in kinds] or [0], np.uint8)
    codes = style[rows["kind"]]
    count = np.bincount(rows["kind"], minlength=len(kinds)).tolist()
    maps = maps_of(rows, codes)
    kept = _telling(gathering, rows)
    times = rows["time"][np.isfinite(rows["time"])]
    return Model(
        title=title,
        sources=[printable(each) for each in sources],
        notes=[printable(each) for each in notes],
        targets=int(np.count_nonzero(rows["port"] != HOST_ONLY)),
        hosts=_hosts(rows),
        open_hosts=_hosts(rows[codes == STYLES.index("open")]),
        first=float(times.min()) if len(times) else None,
        last=float(times.max()) if len(times) else None,
        states=_states(codes),
        reasons=_reasons(kinds, count),
        services=_services(gathering, rows[codes == STYLES.index("open")]),
        rtt=histogram(rows["rtt"]),
        words=_words(kinds, count),
        maps=maps,
        shown=len(kept),
        data=_data(gathering, rows[kept], style, maps),
    )


def _hosts(rows: Rows) -> int:
    return int(host_numbers(rows)[-1]) + 1 if len(rows) else 0


def _telling(gathering: Gathering, rows: Rows) -> Ints:
    """The rows for the table, in order; the weakest claims are left out first."""
    if len(rows) <= MOST_ROWS:
        return np.arange(len(rows))
    silent = np.array([kind[2] == _SILENT for kind in gathering.kinds], np.int64)
    claim = 2 * gathering.strength() - silent
    return np.sort(np.argsort(-claim[rows["kind"]], kind="stable")[:MOST_ROWS])


def _states(codes: npt.NDArray[np.uint8]) -> list[Bar]:
    count = np.bincount(codes, minlength=len(STYLES)).tolist()
    entries = [(LABELS[style], style, count[code], "") for code, style in enumerate(STYLES) if style in LABELS]
    return bars(entries, len(codes))


def _reasons(kinds: list[Kind], count: list[int]) -> list[Bar]:
    total: Counter[tuple[str, str]] = Counter()
    for kind, n in zip(kinds, count, strict=True):
        total[kind[2], style_of(kind)] += n
    return bars([(printable(word), style, n, reason_phrase(word)) for (word, style), n in total.most_common()],
                sum(count))  # fmt: skip


def _services(gathering: Gathering, rows: Rows) -> list[Bar]:
    """The ports that are open on most hosts; shares are of the hosts with open ports."""
    pairs, count = np.unique(rows[["port", "service"]], return_counts=True)
    names = [printable(each or "") for each in gathering.services]
    order = np.argsort(-count, kind="stable")[:MOST_SERVICES].tolist()
    found = [(pairs["port"][at], names[pairs["service"][at]], int(count[at])) for at in order]
    return bars([(f"{port} {name}".strip(), "open", n, "") for port, name, n in found], _hosts(rows))


def _words(kinds: list[Kind], count: list[int]) -> list[Word]:
    total: Counter[str] = Counter()
    for kind, n in zip(kinds, count, strict=True):
        total.update(dict.fromkeys(kind[3], n))
    return [Word(printable(word), evidence_sentence(word), n) for word, n in total.most_common() if n]


def _data(gathering: Gathering, rows: Rows, style: npt.NDArray[np.uint8], maps: list[Map]) -> dict[str, Any]:
    host = host_numbers(rows)
    column = np.zeros(_hosts(rows), ADDRESS)
    first = np.flatnonzero(np.diff(host, prepend=-1))
    column["hi"], column["lo"] = rows["hi"][first], rows["lo"][first]
    kinds = [(printable(protocol), printable(state), printable(reason), [printable(word) for word in evidence])
             for protocol, state, reason, evidence in gathering.kinds]  # fmt: skip
    numbers = [hi << 64 | lo for hi, lo in zip(column["hi"].tolist(), column["lo"].tolist(), strict=True)]
    return {
        "hosts": to_text(column),
        "kinds": kinds,
        "styles": style.tolist(),
        "services": [printable(each or "") for each in gathering.services],
        "addresses": [printable(each or "") for each in gathering.addresses],
        "reasons": {kind[2]: reason_phrase(kind[2]) for kind in kinds},
        "sentences": {word: evidence_sentence(word) for kind in kinds for word in kind[3]},
        "rows": _columns(rows, host),
        "maps": [asdict(each) | _cells(each, numbers) for each in maps],
        "names": list(STYLES),
        "labels": LABELS,
    }


def _columns(rows: Rows, host: Ints) -> dict[str, list[Any] | None]:
    """The rows by column, null where a column says nothing at all."""
    rtt = [None if value != value else round(value, 3) for value in rows["rtt"].tolist()]
    ttl = [None if value == UNKNOWN_TTL else value for value in rows["ttl"].tolist()]
    columns: dict[str, list[Any]] = {
        "host": host.tolist(), "port": rows["port"].tolist(), "kind": rows["kind"].tolist(),
        "service": rows["service"].tolist(), "ttl": ttl, "rtt": rtt, "sender": rows["sender"].tolist(),
        "scanner": rows["scanner"].tolist(),
    }  # fmt: skip
    always = ("host", "port", "kind")
    told = {name for name, values in columns.items() if name in always or any(values)}
    if len(set(columns["scanner"])) < 2:
        told.discard("scanner")  # the same for all says nothing
    return {name: values if name in told else None for name, values in columns.items()}


def _cells(drawn: Map, numbers: list[int]) -> dict[str, Any]:
    return {"at": cell_of_hosts(drawn, numbers)} if drawn.kind == "hilbert" else {}
