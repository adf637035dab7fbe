"""A closed window as rows.

Every target that was probed gets its row: those that answered from their record, the silent ones as filtered, a host that
is down one line without ports. What was never probed, or was probed so lately that an answer may still be under
way, gets none: an interrupted scan claims less, never more.
"""

from collections.abc import Iterable

import numpy as np

from .addresses import to_text, word_text
from .evidence import host_facts, words_of
from .headers import ADDRESS, Ints
from .ports import service_name
from .verdict import RANK, Reason, State, Verdict, state_of
from .window import Phase, Window

_WORD = {reason: reason.word for reason in Reason}
_STATE = {reason: state_of(reason).value for reason in Reason if reason}
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
    evidence = ("interrupted",) if window.interrupted else ()
    for target in silent(window, cutoff).tolist() if write_silent else ():
        slot, index = divmod(target, window.width)
        port = int(window.lane.ports[index])
        yield Verdict(hosts[slot], port, State.FILTERED.value, _NO_RESPONSE, service=service_name(port), evidence=evidence)


def silent(window: Window, cutoff: int) -> Ints:
    """The targets of a closed window that may be called silent."""
    targets = np.flatnonzero(window.ledger.was_probed() & window.ledger.silent(slice(None)))
    if window.interrupted and len(targets):
        targets = targets[window.passes.sent_before(targets, cutoff)]
    return targets


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
    if only_open:
        wanted = RANK[records["reason"]] == 3
        targets, records, slot, facts = targets[wanted], records[wanted], slot[wanted], facts.take(wanted)
    words = words_of(records, facts)
    sent = window.passes.sent_at(targets, records["pass"])
    trips = np.where(sent > 0, records["time"] - sent, -1)
    index = targets % window.width
    senders = ["", *(_sender(raw) for raw in window.senders[1:])]
    columns = (slot, window.lane.ports[index], records["reason"], records["ttl"], trips, records["time"], records["pass"], records["sender"])
    for host, port, reason, ttl, trip, time, number, sender, evidence in zip(*(column.tolist() for column in columns), words, strict=True):
        yield Verdict(
            hosts[host],
            port,
            _STATE[reason],
            _WORD[reason],
            ttl=ttl,
            service=service_name(port),
            evidence=evidence,
            rtt_ms=round(trip / 1e6, 3) if trip >= 0 else None,
            time=round(time / 1e9, 6),
            pass_=number,
            icmp_from=senders[sender] or None,
        )


def _sender(raw: bytes) -> str:
    address = np.frombuffer(raw, ADDRESS)[0]
    return word_text(int(address["hi"]), int(address["lo"]))
