"""Judged targets as rows: what the outputs get.

The rows are columns (`verdict.columns`), because a capture may hold millions of targets.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np

from ..packet.addresses import raw_text
from ..packet.headers import Bools, Ints, Rows
from ..targets.ports import services
from ..verdict.columns import Columns, Services
from ..verdict.evidence import numbered_words
from ..verdict.table import RANK
from .across import tunnel_texts
from .flow_numbers import NEVER
from .flows import Flows
from .judge import Judged


def rows(flows: Flows, judged: Judged) -> Columns:
    """The judged targets as verdicts, by prober, address and port."""
    us, them, port = flows.target_keys(judged.target)
    record, rtt = judged.record, judged.rtt
    first, last, attempts = judged.sent
    dated = (first > 0) & (first != NEVER)  # a clock that was not set shows 1970
    evidence, words = numbered_words(record, judged.facts)
    more: dict[tuple[str, ...], int] = {}
    for row, word in _further_words(flows, us, flows.addresses.in_scan(them, 0), record, judged.orphan):
        longer = (*evidence[words[row]], word)
        words[row] = more.setdefault(longer, len(evidence))
        if words[row] == len(evidence):
            evidence.append(longer)
    return Columns(
        flows.addresses.addresses(them), port.astype(np.uint16), record, rtt,
        record["time"] > 0, words, flows.addresses.addresses(us), evidence, _services(),
        [None, *map(raw_text, flows.details.senders[1:])], flows.details.options, *tunnel_texts(flows, us),
        first * dated, last * dated, attempts,
        flows.addresses.scan(them) + (flows.scans is not None),
    )  # fmt: skip


def _further_words(flows: Flows, us: Ints, them: Ints, record: Rows, orphan: Bools) -> Iterator[tuple[int, str]]:
    """Words that follow from more than the replies, with their rows."""
    for row in np.flatnonzero(orphan).tolist():
        yield row, "probe-not-captured"
    silent = RANK[record["reason"]] == 0
    for row in np.flatnonzero(silent).tolist() if flows.cut_quotes else ():
        if (us[row], them[row]) in flows.cut_quotes:
            yield row, "icmp-quote-truncated"


@cache
def _services() -> Services:
    return Services.of(services())
