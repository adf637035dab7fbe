"""The rows of a closed window.

Every target that was probed gets its row: targets that answered from their record, silent ones as filtered, and one
line without a port for a host that is down. A target that was never probed gets no row. Neither does one that was
probed so late that an answer may still be under way: an interrupted scan claims less, and never more.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import NamedTuple

import numpy as np

from ..packet.addresses import is_ipv4, raw_text, to_text
from ..packet.headers import Bools, Ints
from ..targets.ports import services
from ..verdict.evidence import HostFacts, Words, host_facts, words_of
from ..verdict.rows import Verdict, down_row, record_rows, silent_rows
from ..verdict.table import RANK, Rank, Reason, State
from .window import Window

Names = Mapping[str, str]  # by address
NO_NAMES: Names = {}
Vendor = Callable[[bytes], str | None]  # of the first three bytes of a MAC address


class Hosts(NamedTuple):
    """How the hosts of a window are called. Only those of rows become text: that takes as long as two probes a host."""

    window: Window
    names: Names
    vendor: Vendor

    def columns(self, host: Ints) -> tuple[Iterable[str], list[Iterable[str | None]]]:
        """The address of each row, by the number of its host, and what `record_rows` calls `named`."""
        number, at = np.unique(host, return_inverse=True)
        ips, rows = to_text(self.window.hosts[number]), at.tolist()
        named: list[Iterable[str | None]] = [repeat(None)] * 3
        for place, column in enumerate((map(self.names.get, ips), *self._cards(number))):
            texts = list(column)
            if any(texts):
                named[place] = map(texts.__getitem__, rows)
        return map(ips.__getitem__, rows), named

    def _cards(self, number: Ints) -> tuple[list[str | None], list[str | None]]:
        """The MAC address of each host, and who made its card. Only a host that has answered a query has one."""
        macs: list[str | None] = [None] * len(number)
        vendors = macs.copy()
        if sweep := self.window.sweep:
            for at in np.flatnonzero(~sweep.silent()[number]).tolist():
                mac = sweep.macs[number[at]].tobytes()
                macs[at], vendors[at] = mac.hex(":"), self.vendor(mac[:3])
        return macs, vendors


def window_rows(
    window: Window, cutoff: int, write_silent: bool = True, only_open: bool = False, names: Names = NO_NAMES,
    vendor: Vendor = lambda block: None,
) -> Iterator[Verdict]:  # fmt: skip
    """The verdicts of a closed window. Silence after a probe later than `cutoff` (ns) proves nothing yet.

    Without `write_silent` the silent targets are left out, with `only_open` all but the open ones. `names`: the
    names that the user gave, by address. `vendor`: who made a card.
    """
    hosts = Hosts(window, names, vendor)
    yield from _answered(window, hosts, only_open)
    if only_open:
        return
    yield from _down(window, hosts)
    unknown = stopped_targets(window)
    yield from _silent(window, hosts, unknown, ("stopped-answering",), State.UNKNOWN)
    if write_silent:
        words = ("interrupted",) if window.interrupted else ()
        yield from _silent(window, hosts, silent_targets(window, cutoff), words, State.FILTERED)


def _silent(window: Window, hosts: Hosts, target_id: Ints, words: Words, state: State) -> Iterator[Verdict]:
    port = window.ports[target_id % window.width].tolist()
    ips, named = hosts.columns(target_id // window.width)
    return silent_rows(ips, port, list(map(services().get, port)), words, state, named)


def stopped_targets(window: Window) -> Ints:
    """The silent targets of hosts that stopped answering, whose every probe left after that: nothing is known."""
    target_id = np.flatnonzero(_unanswered(window) & np.repeat(window.stopped_at > 0, window.width))
    host = target_id // window.width
    # Of a host that has answered, what stands in the order behind the last probe that it answered. A host that never
    # has belongs to a network that stopped, and time decides.
    behind = (window.passes.turn(target_id) + 1) / window.ledger.n > window.stopped_from[host]
    first = window.sent_at(target_id, np.ones(len(target_id), np.uint8))
    later = (window.last_answer[host] == 0) & (first > window.stopped_at[host])
    return np.asarray(target_id[behind | later])


def _unanswered(window: Window) -> Bools:
    """bool[targets]: probed, and without an answer, given up or not. An unproved reply has a row of its own."""
    silent = window.ledger.silent(slice(None)) | window.ledger.given_up()
    return window.ledger.was_probed() & silent & ~window.ledger.was_answered()


def silent_targets(window: Window, cutoff: int) -> Ints:
    """The targets of a closed window that may be called silent."""
    target_id = np.flatnonzero(_unanswered(window))
    if window.stopped_at.any():
        target_id = np.setdiff1d(target_id, stopped_targets(window))
    # A scan that measures its own round trips counts a target as probed when its call has ended, answered or not.
    if window.interrupted and cutoff < window.passes.began and window.target_trips is not None:
        return target_id[:0]  # its calls ended while this machine had no network
    if window.interrupted and len(target_id) and window.target_trips is None:
        target_id = target_id[window.passes.sent_before(target_id, cutoff)]
    return target_id


def _down(window: Window, hosts: Hosts) -> Iterable[Verdict]:
    number = np.flatnonzero(window.down)
    ips, (names, *_) = hosts.columns(number)
    for ip, name, four in zip(ips, names, is_ipv4(window.hosts[number]).tolist(), strict=False):
        yield down_row(ip, Reason.NO_ARP if four else Reason.NO_NDP, name)


def _answered(window: Window, hosts: Hosts, only_open: bool) -> Iterator[Verdict]:
    target_id = np.flatnonzero(window.ledger.rank(slice(None)) > Rank.SILENT)
    facts = _facts(window, target_id)  # of everything that a host said, before rows are left out
    record = window.ledger.records(target_id)
    if only_open:
        wanted = RANK[record["reason"]] == Rank.OPEN
        target_id, record, facts = target_id[wanted], record[wanted], facts.take(wanted)
    if window.target_trips is None:
        sent = window.sent_at(target_id, record["pass"])
        trip = np.where((sent > 0) & (record["time"] >= sent), record["time"] - sent, -1)
    else:
        trip = window.target_trips[target_id]
    port = window.ports[target_id % window.width].tolist()
    ips, named = hosts.columns(target_id // window.width)
    return record_rows(
        ips,
        port,
        record,
        list(map(services().get, port)),
        words_of(record, facts),
        trip,
        [None, *map(raw_text, window.details.senders[1:])],
        window.details.options,
        ttl_known=window.target_trips is None,
        named=named,
    )


def _facts(window: Window, target_id: Ints) -> HostFacts:
    """What the replies of each host show together. The sockets of the system keep TTL and window to themselves."""
    record, host = window.ledger.records(target_id), target_id // window.width
    if window.target_trips is not None:
        nothing = np.zeros(len(target_id), np.bool_)
        return HostFacts(*[nothing] * len(HostFacts._fields))
    probed = window.by_host(window.ledger.was_probed())
    facts = host_facts(host, probed, record, window.tested)
    everywhere = window.open_everywhere[host] & (RANK[record["reason"]] == Rank.OPEN)
    return facts._replace(all_open=facts.all_open | everywhere)
