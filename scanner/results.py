"""A closed window as rows.

Every target that was probed gets its row: those that answered from their record, the silent ones as
filtered, a host that is down one line without ports. What was never probed, or was probed so lately
that an answer may still be under way, gets none: an interrupted scan claims less, never more.
"""

from collections.abc import Iterable
from itertools import repeat

import numpy as np
import numpy.typing as npt

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
        yield Verdict(
            hosts[slot], port, State.FILTERED.value, _NO_RESPONSE, service=service_name(port), evidence=evidence
        )


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
    facts = facts._replace(all_open=facts.all_open | (window.walls[slot] & (RANK[records["reason"]] == 3)))
    if only_open:
        wanted = RANK[records["reason"]] == 3
        targets, records, slot, facts = targets[wanted], records[wanted], slot[wanted], facts.take(wanted)
    words = words_of(records, facts)
    sent = window.passes.sent_at(targets, records["pass"])
    port = window.lane.ports[targets % window.width].tolist()
    reason = records["reason"].tolist()
    senders = [None, *(_sender(raw) for raw in window.senders[1:])]
    # Columns zipped by `map` make rows three times as fast as a loop that names each field.
    return map(
        Verdict,
        [hosts[each] for each in slot.tolist()],
        port,
        [_STATE[each] for each in reason],
        [_WORD[each] for each in reason],
        repeat("tcp"),
        records["ttl"].tolist(),
        [service_name(each) for each in port],
        words,
        _known(np.round((records["time"] - sent) / 1e6, 3), (sent > 0) & (records["time"] >= sent)),
        np.round(records["time"] / 1e9, 6).tolist(),
        records["pass"].tolist(),
        [senders[each] for each in records["sender"].tolist()],
    )


def _known(values: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]) -> list[float | None]:
    """The values as a list, None where they are not known."""
    return [value if is_known else None for value, is_known in zip(values.tolist(), known.tolist(), strict=True)]


def _sender(raw: bytes) -> str:
    address = np.frombuffer(raw, ADDRESS)[0]
    return word_text(int(address["hi"]), int(address["lo"]))
