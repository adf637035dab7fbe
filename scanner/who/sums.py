"""What all packets of a prober come to, in columns.

Most addresses in a capture of a flood have sent one SYN, and have no row. So who may have a row is found first, from
the number of targets alone, and only these candidates have columns here.

Limit: memory grows with the candidates, about 150 bytes each.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..capture.source import NO_TIME
from ..classifier.addresses import among
from ..classifier.conversations import Scanned
from ..classifier.flows import TAKEN, Flows
from ..classifier.judge import Judged
from ..classifier.keys import Numbering, TargetKey, target_key
from ..packet.headers import Bools, Ints
from ..verdict.ledger import Mark
from ..verdict.table import Reason, State, state_of
from .claims import LEAST_VALUES
from .gather import NEVER, Probers

STATES = ("open", "closed", "filtered", "no_response", "unknown")
SYN_ONLY, OPEN = "SYN", STATES.index("open")
_APART = 2 * 10**9  # ns; a lost SYN is sent again after 1 s (RFC 6298)
_BITS = 33  # of a number of AddressNumbers
MOST_TRIES, FEW_TARGETS = 12, 64  # SYNs to any target: nmap sends at most 11; of so many targets at most
BY_CHANCE = 1 << 14  # of so many SYNs, one may have another look by chance: there are three marks of 16 bits


@dataclass(frozen=True)
class Sums:
    """One row for each candidate, by address (a number of AddressNumbers), in ascending order. Times in ns."""

    address: Ints
    first: Ints
    last: Ints
    packets: dict[str, Ints]  # SYN, and the kinds of other scans
    states: Ints  # [n, STATES]: targets that got a SYN
    targets: Ints
    hosts: Ints
    half_open: Ints  # targets
    completed: Ints
    served: Ints  # targets that got data, in connections that the prober seems to have begun
    again: Ints  # open targets that got several SYNs at different times
    followed: Ints  # handshakes that a system's stack completed, also where the answers are not in the capture
    unasked: Ints  # targets that sent a SYN/ACK to a SYN that is not in the capture
    marked: Ints  # SYNs that look like a scanner's
    ports: tuple[Ints, Ints]  # candidate (its row here) and port, each pair once, in ascending order

    @property
    def probes(self) -> Ints:
        """Packets of all kinds."""
        return np.asarray(sum(self.packets.values()))

    @property
    def talking(self) -> Bools:
        """Whose connections carry data: to half as many targets as were asked, or to one of peers with own ports each.

        A capture may have lost the SYN of a connection, so other connections count too.
        """
        count = np.bincount(self.ports[0], minlength=len(self.address))
        peers = (2 * count >= self.targets) & (2 * self.hosts >= self.targets)  # file sharing: many peers have left
        return (2 * self.served >= self.targets) & (self.served > 0) | peers & (self.served > 0)

    @property
    def polling(self) -> Bools:
        """Who connects to the same targets again and again, as monitoring and load balancers do."""
        stubborn = (self.targets <= FEW_TARGETS) & (self.packets[SYN_ONLY] >= MOST_TRIES * self.targets)
        return stubborn | (2 * self.again >= self.targets) | (2 * self.followed >= 3 * self.targets)

    @property
    def sampled(self) -> Bools:
        """Whose connections are only partly in the capture: so many answers lack their SYN."""
        return 3 * self.unasked >= self.targets

    @property
    def ordinary(self) -> Bools:
        """Of these, who sends nothing that looks like a scan."""
        marked = (self.marked >= LEAST_VALUES) & (self.marked * BY_CHANCE > self.packets[SYN_ONLY])
        return np.asarray(
            (self.talking | self.polling | self.sampled) & ~marked & (self.probes == self.packets[SYN_ONLY])
        )


def target_counts(us: Ints, scanned: Iterable[Scanned]) -> tuple[Ints, Ints]:
    """Probers, ascending, and how many targets each has. `us`: the prober of each judged target, in any order."""
    parts = [us, *(each.us for each in scanned)]
    us = np.sort(np.concatenate(parts) if len(parts) > 1 else us)
    begin = np.flatnonzero(np.diff(us, prepend=-1))
    return us[begin], np.diff(begin, append=len(us))


def sums_of(address: Ints, judged: Judged, flows: Flows, probers: Probers) -> Sums:
    """The sums of the given probers, ascending, over their judged targets and `flows.scanned`."""
    key = flows.target_keys(judged.target)
    n, row = len(address), np.searchsorted(address, key.us)
    marks, state = judged.record["marks"], _STATE_OF[judged.record["reason"]]
    rows = probers.rows(address)
    scans = {word: _part(scanned, address) for word, scanned in flows.scanned.items()}
    asked = _packed(row, key.them)
    of = np.concatenate([row, *(place for place, _ in scans.values())])
    hosts = np.concatenate([asked, *(_packed(place, scanned.them) for place, scanned in scans.values())])
    ports = np.concatenate([key.port, *(scanned.port for _, scanned in scans.values())])
    sums = Sums(
        address=address,
        first=rows["first"].copy(),
        last=rows["last"].copy(),
        packets={SYN_ONLY: rows["syns"].astype(np.int64)},
        states=np.bincount(row * len(STATES) + state, minlength=n * len(STATES)).reshape(n, len(STATES)),
        targets=np.bincount(of, minlength=n),
        hosts=np.bincount(_distinct(hosts)[0], minlength=n),
        half_open=np.bincount(row[marks & np.uint16(Mark.HALF_OPEN) > 0], minlength=n),
        completed=np.bincount(row[marks & np.uint16(Mark.HANDSHAKE_COMPLETED) > 0], minlength=n),
        served=_served(address, judged.target, flows),
        again=np.bincount(row[(state == OPEN) & _apart(judged)], minlength=n),
        followed=probers.followed(address),
        unasked=_unasked(address, flows),
        marked=probers.marked(address),
        ports=_distinct(_packed(of, ports)),
    )
    for word, (place, scanned) in scans.items():
        sums.packets[word] = np.bincount(place, scanned.packets, n).astype(np.int64)
        np.minimum.at(sums.first, place, scanned.first)
        np.maximum.at(sums.last, place, scanned.last)
    return sums


def _part(scanned: Scanned, address: Ints) -> tuple[Ints, Scanned]:
    """What these addresses have scanned, and the row of each in `address`."""
    chosen = among(scanned.us, address)
    scanned = Scanned(*(column[chosen] for column in scanned))
    return np.searchsorted(address, scanned.us), scanned


def _packed(row: Ints, value: Ints) -> Ints:
    """Pairs of a row and a number of at most 33 bits, as an address or a port."""
    return row << _BITS | value


def _distinct(pairs: Ints) -> tuple[Ints, Ints]:
    """Each pair once, in ascending order. (np.unique hashes them: see `among`.)"""
    pairs = np.sort(pairs)
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    return pairs >> _BITS, pairs & (1 << _BITS) - 1


def _served(address: Ints, asked: Ints, flows: Flows) -> Ints:
    """To how many targets each prober has sent data. `asked`: the numbers of those that got a SYN.

    Of other connections, those count whose own port is the higher one: servers have low ports.
    """
    key, our_port = flows.conversations.data()
    chosen = among(key.us, address)
    key, our_port = TargetKey(*(column[chosen] for column in key)), our_port[chosen]  # type: ignore[arg-type]
    probed = np.zeros(flows.targets.count + 1, np.bool_)  # the last one: no such target
    probed[asked] = True
    begun = probed[flows.targets.find(*key.words())] | (our_port > key.port)
    each = Numbering()
    each.intern(*(word[begun] for word in key.words()))
    return np.bincount(np.searchsorted(address, target_key(each.keys).us), minlength=len(address))


def _apart(judged: Judged) -> Bools:
    """Which targets got SYNs at times apart: more than two taps, or the repeat of a lost one, explain."""
    first, last, _ = judged.sent
    return np.asarray((first < NEVER) & (first > NO_TIME) & (last >= first + _APART))


def _unasked(address: Ints, flows: Flows) -> Ints:
    """How many targets have answered each prober with a SYN/ACK, to a SYN that is not in the capture."""
    flow = np.flatnonzero((flows.table["probes"] == 0) & (flows.table["marks"] & TAKEN == 0))
    flow = flow[flows.ledger.records(flow)["seen"] & (1 << Reason.SYN_ACK) > 0]
    us = flows.target_keys(np.unique(flows.keys(flow).target)).us
    return np.bincount(np.searchsorted(address, us[among(us, address)]), minlength=len(address))


def _state(reason: Reason) -> int:
    if reason in (Reason.NONE, Reason.NO_RESPONSE):
        return STATES.index("no_response")
    state = state_of(reason)
    return STATES.index("unknown" if state is State.DOWN else state.value)


_STATE_OF = np.array([_state(reason) for reason in Reason], np.int64)
