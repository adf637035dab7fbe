"""A closed window as rows.

Every target that was probed gets its row: those that answered from their record, the silent ones as
filtered, a host that is down one line without ports. What was never probed, or was probed so lately
that an answer may still be under way, gets none: an interrupted scan claims less, never more.
"""

from collections.abc import Iterable, Iterator
from itertools import repeat

import numpy as np

from ..packet.addresses import raw_text, to_text
from ..packet.headers import Ints
from ..targets.ports import service_names
from ..verdict.evidence import host_facts, words_of
from ..verdict.table import RANK, REASON_WORD, STATE_WORD, Reason, State, Verdict, known, microseconds, verdicts
from .window import Phase, Window

_NO_RESPONSE = Reason.NO_RESPONSE.word


def rows(window: Window, cutoff: int, write_silent: bool = True, only_open: bool = False) -> Iterable[Verdict]:
    """The verdicts of a closed window; `cutoff` (ns): silence since a later probe than this proves nothing yet.

    Without `write_silent` the silent targets are left out, with `only_open` all but the open ones.
    """
    hosts = to_text(window.hosts)
    answered = np.flatnonzero(window.ledger.rank(slice(None)) > 0)
    yield from _answered(window, hosts, answered, only_open)
    if only_open:
        return
    yield from _down(window, hosts)
    if write_silent:
        yield from _silent(window, hosts, silent(window, cutoff))


def silent(window: Window, cutoff: int) -> Ints:
    """The targets of a closed window that may be called silent."""
    targets = np.flatnonzero(window.ledger.was_probed() & window.ledger.silent(slice(None)))
    if window.interrupted and len(targets):
        targets = targets[window.passes.sent_before(targets, cutoff)]
    return targets


def _silent(window: Window, hosts: list[str], targets: Ints) -> Iterator[Verdict]:
    port = window.lane.ports[targets % window.width].tolist()
    return verdicts(
        map(hosts.__getitem__, (targets // window.width).tolist()),
        port,
        repeat(State.FILTERED.value),
        repeat(_NO_RESPONSE),
        repeat("tcp"),
        repeat(None),
        service_names(port),
        repeat(("interrupted",) if window.interrupted else ()),
        *[repeat(None)] * 5,
    )


def _down(window: Window, hosts: list[str]) -> Iterable[Verdict]:
    if window.phase is Phase.SWEEP:
        return
    reason = Reason.NO_ARP if window.lane.version == 4 else Reason.NO_NDP
    for slot in np.flatnonzero(window.down).tolist():
        yield Verdict(hosts[slot], None, State.DOWN.value, reason.word)


def _answered(window: Window, hosts: list[str], targets: Ints, only_open: bool) -> Iterable[Verdict]:
    records = window.ledger.records(targets)
    slot = targets // window.width
    probed = np.bincount(np.flatnonzero(window.ledger.was_probed()) // window.width, minlength=len(hosts))
    facts = host_facts(slot, probed, records)  # of all that the host said, before rows are left out
    facts = facts._replace(all_open=facts.all_open | (window.walls[slot] & (RANK[records["reason"]] == 3)))
    if only_open:
        wanted = RANK[records["reason"]] == 3
        targets, records, slot, facts = targets[wanted], records[wanted], slot[wanted], facts.take(wanted)
    sent = window.sent_at(targets, records["pass"])
    port = window.lane.ports[targets % window.width].tolist()
    reason = records["reason"].tolist()
    senders = [None, *map(raw_text, window.senders.names[1:])]
    return verdicts(
        map(hosts.__getitem__, slot.tolist()),
        port,
        map(STATE_WORD.__getitem__, reason),
        map(REASON_WORD.__getitem__, reason),
        repeat("tcp"),
        records["ttl"].tolist(),
        service_names(port),
        words_of(records, facts),
        known(microseconds(records["time"] - sent) / 1e3, (sent > 0) & (records["time"] >= sent)),
        (microseconds(records["time"]) / 1e6).tolist(),
        records["pass"].tolist(),
        map(senders.__getitem__, records["sender"].tolist()),
        repeat(None),
    )
