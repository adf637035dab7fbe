"""A window: a block of hosts with all their ports, tracked from the first probe to the verdict.

Whole hosts are taken, so what a host's replies say together (evidence) is known when the window
closes, and each row leaves once, complete. A target's number inside the window is host slot ×
ports + port index; its probe's place in the order comes from a permutation of those numbers.

On a link where frames need the host's own MAC address the window first sweeps its hosts; those
that never answer are absent, and none of their ports is probed. Then passes go over the ports until
the expected number of missed responders is below the bound. Hosts that answer at once need not wait for those that
are not there: the window splits, and the rest is swept on in a window of its own.
"""

from enum import Enum

import numpy as np
import numpy.typing as npt

from ..packet import probe
from ..packet.headers import Bools, Bytes, Ints, Rows
from ..rounds.control import Controls
from ..rounds.pacing import HostPace
from ..rounds.passes import Passes
from ..rounds.schedule import Stretch
from ..verdict import loss as retry
from ..verdict.evidence import IcmpSenders, marks_of, repeated
from ..verdict.ledger import ABSENT, Known, Ledger, Mark, Replies, blank
from .lane import Lane, Matches
from .neighbours import Sweep

LIMITED_ANSWERS = 20  # of a host in one pass, before its pace means anything
LIMIT_MARGIN = 1.25  # over the pace that it showed
LEAST_PASS = 0.001  # seconds


class Phase(Enum):
    SWEEP = "sweep"
    PROBE = "probe"


class Window:
    """The targets of a stretch of a lane's hosts."""

    def __init__(self, lane: Lane, stretch: Stretch, key: int, tos: int) -> None:
        self.lane, self.stretch = lane, stretch
        self.is_rest = stretch.places is not None  # of a window that has split
        self.hosts = hosts = lane.hosts_at(stretch.positions())
        self._whole, self._key = stretch, key
        self._moved = np.zeros(len(hosts), np.bool_)  # hosts that the rest has taken over
        self.width = len(lane.ports)
        self.ledger = Ledger(len(hosts) * self.width)
        self.passes = Passes(self.ledger, key)
        self.senders = IcmpSenders()
        self._recalled: dict[int, int] = {}  # when probes of an earlier part of a resumed scan left, by target
        self.interrupted = False
        self.pace = HostPace(len(hosts))
        self.walls = np.zeros(len(hosts), np.bool_)  # hosts that are open on ports that nobody chose, too
        self.estimate = retry.Estimate(0.0, None)
        self.missed_with_hosts = 0.0  # targets of hosts whose every answer to the sweep was probably lost
        self._tos = tos
        # First TCP answers by host and pass; hosts with fewer ports than an estimate of their own needs share a row.
        self._apart = self.width >= retry.OWN_ESTIMATE
        self._answered = np.zeros((len(hosts) if self._apart else 1, retry.MAX_PASSES), np.int64)
        self._control = Controls()
        needs_sweep = lane.query is not None and lane.gateway is None
        self.sweep = Sweep(hosts, lane.query, key, self._address_slots) if needs_sweep and lane.query else None
        self.phase = Phase.SWEEP if self.sweep else Phase.PROBE
        if stretch.known:
            self._recall(stretch.known)

    @property
    def current(self) -> Passes:
        """The rounds that are under way."""
        return self.sweep.passes if self.phase is Phase.SWEEP and self.sweep else self.passes

    @property
    def kind(self) -> str:
        """What the frames are that `fill` writes now."""
        return "query" if self.phase is Phase.SWEEP else "probe"

    @property
    def length(self) -> int:
        """Bytes of each frame that `fill` writes now."""
        return self.sweep.length if self.phase is Phase.SWEEP and self.sweep else self.lane.probe.length

    def slots(self, place: Ints) -> Ints:
        """Positions in the lane's order, int64[m] → numbers of this window's hosts, -1 for what is not one."""
        slot = self._whole.slots(place)
        if self._moved.any():
            slot[self._moved[slot] & (slot >= 0)] = -1
        return slot

    def _address_slots(self, address: Rows) -> Ints:
        return self.slots(self.lane.position_of(address))

    def fill(self, rows: Bytes, now: int) -> Ints:
        """Stamp what is to be sent next into `rows`; returns the items, one a row from the first on."""
        if self.phase is Phase.SWEEP and self.sweep:
            return self.sweep.fill(rows, now)
        items = self.passes.take(len(rows), now)
        if len(items):
            slot, index = np.divmod(items, self.width) if self.width > 1 else (items, np.zeros(len(items), np.int64))
            target, port = self.hosts[slot], self.lane.ports[index]
            ours = self.lane.our_port(self.passes.number, port)
            sequence = self.lane.sequence(target, port, ours)
            macs = self.sweep.macs[slot] if self.sweep else None
            probe.stamp(self.lane.probe, rows[: len(items)], target, port, ours, sequence, macs)
        return items

    def sweep_ended(self) -> None:
        """No more queries: hosts without an answer are absent; on with the ports of the others."""
        assert self.sweep
        missing = float(np.count_nonzero(self._unknown() & ~self._moved))
        self.missed_with_hosts = min(self.sweep.assess().missed, missing) * self.width
        self.ledger.absent(np.repeat(self._unknown(), self.width))
        self.phase = Phase.PROBE

    def _unknown(self) -> Bools:
        """bool[hosts]: nobody has said, now or in an earlier part of a resumed scan, which MAC address they have."""
        assert self.sweep
        return np.asarray(self.sweep.passes.ledger.silent(slice(None)) & (self.sweep.macs == np.void(bytes(6))))

    def split(self) -> "Window":
        """Go on with the hosts that have answered the sweep; the others are the rest's, which waits for them on."""
        assert self.sweep
        self._moved = self.sweep.passes.ledger.silent(slice(None))
        positions = self.stretch.positions()
        rest = Window(self.lane, self.stretch._replace(places=positions[self._moved]), self._key, self._tos)
        self.stretch = self.stretch._replace(places=positions[~self._moved])
        assert rest.sweep
        rest.sweep.passes.go_on_from(self.sweep.passes)
        rest.sweep.heard[:] = self.sweep.heard
        self.sweep_ended()
        return rest

    @property
    def down(self) -> npt.NDArray[np.bool_]:
        """bool[hosts]: asked in every pass of the sweep, and silent."""
        if self.sweep is None or self.phase is Phase.SWEEP:
            return np.zeros(len(self.hosts), np.bool_)
        return self._unknown() & ~self._moved

    def begin_pass(self, now: int) -> None:
        """The next pass, with its control probes; hosts that answer no faster however often asked go slower."""
        if self.phase is Phase.PROBE and self.passes.number:
            self._spare_hosts(now)
        probing = self.phase is Phase.PROBE
        self.current.begin(now, self._control.choose(self.ledger, self.passes.number) if probing else None)

    def _spare_hosts(self, now: int) -> None:
        """Slow down hosts that answered this pass about as often as the one before: they limit their answers."""
        number = self.passes.number
        if number < 2 or not self._apart:
            return
        before, last = self._answered[:, number - 2], self._answered[:, number - 1]
        seconds = max(LEAST_PASS, (now - self.passes.began) * 1e-9)
        for host in np.flatnonzero((last >= LIMITED_ANSWERS) & (last * 2 >= before)).tolist():
            self.pace.limit(host, last[host] / seconds * LIMIT_MARGIN, now)
        if self.pace.slow:
            self.passes.admit = lambda items, when: self.pace.admit(items // self.width, when)

    def target_of(self, found: Matches) -> Ints:
        """The target's number in this window, for each match."""
        return self.slots(found.place) * self.width + found.port

    def replies(self, found: Matches) -> npt.NDArray[np.uint16]:
        """How many replies each match's target has sent by now; matches of other windows get any number."""
        target = np.clip(self.target_of(found), 0, self.ledger.n - 1)
        return np.asarray(self.ledger.records(target)["replies"])

    def fold(self, found: Matches, resent: Bools | None = None) -> Ints:
        """Take replies in; returns the rows of those that are their targets' first answers.

        `resent` marks late SYN/ACKs that the host repeated by itself: for the loss they are no answer to the pass
        that they acknowledge, in which nothing came, but a discovery in the present one.
        """
        segments = found.segments
        target = self.target_of(found)
        record = blank(len(target))
        record["reason"], record["time"], record["pass"] = found.reason, segments.time, found.number
        record["port"], record["window"], record["ttl"] = segments.dport, segments.window, segments.ttl
        record["marks"] = marks_of(segments, found.reason, self._tos)
        late = found.number < self.passes.number
        record["marks"][late] |= np.uint16(Mark.LATE)
        if segments.icmp.any():
            record["sender"] = self.senders.numbers(segments)
        seen_in = found.number if resent is None else np.where(resent, self.passes.number, found.number)
        self._control.credit(target, found.number, (found.number == seen_in) & ~segments.icmp)
        fresh = self.ledger.fold(Replies(target, record))
        tcp = fresh[~segments.icmp[fresh]]
        np.add.at(self._answered, (self._group(target[tcp]), seen_in[tcp].astype(np.int64) - 1), 1)
        return fresh

    def control_result(self) -> tuple[int, int]:
        """Control probes of the latest pass: how many, and how many of them were lost."""
        return self._control.latest

    def assess(self) -> retry.Estimate:
        """What was probably missed so far; never more than there are silent targets."""
        passes, groups = self.passes.complete, len(self._answered)
        control, gone = self._control.sums(self._group, groups), self._control.gone(passes, self._group, groups)
        control[gone] = 0  # they tell of the host, not of the path
        found = retry.estimate_hosts(self._answered[:, :passes], control)
        silent = self.ledger.n - self.ledger.answered - self.ledger.missing
        measured = passes >= retry.MIN_PASSES
        missed = found.missed + (self._missed_since(gone) if gone.any() else 0.0)
        self.estimate = retry.Estimate(min(missed, float(silent)), found.loss if measured else None)
        return self.estimate

    def _missed_since(self, gone: Bools) -> float:
        """Responders to be expected among the targets of hosts that have gone (bool[groups]).

        Those asked after a host's last answer were hardly asked at all: the same share of them would have answered
        as of those before.
        """
        target = np.flatnonzero(gone[self._group(np.arange(self.ledger.n))] & (self.ledger.status & ABSENT == 0))
        group, position = self._group(target), self.passes.position(target)
        answered = self.ledger.rank(target) >= 2
        end = np.full(len(gone), -1, np.int64)
        np.maximum.at(end, group[answered], position[answered])
        before = position <= end[group]
        asked, found, after = (np.bincount(group[rows], minlength=len(gone)) for rows in (before, answered, ~before))
        return float((after * found / np.maximum(1, asked)).sum())

    @property
    def responders(self) -> int:
        """Targets with a TCP answer."""
        return int(self._answered.sum())

    def known(self) -> Known:
        """What has been learned so far of the stretch: of the hosts that have not moved."""
        stayed = np.flatnonzero(~self._moved)
        number = np.cumsum(~self._moved) - 1
        target = np.flatnonzero(self.ledger.was_answered())
        target = target[~self._moved[target // self.width]]
        record = self.ledger.records(target)
        macs = self.sweep.macs[stayed] if self.sweep else np.zeros(0, "V6")
        renumbered = number[target // self.width] * self.width + target % self.width
        return Known(renumbered, record, self.sent_at(target, record["pass"]), self.senders.names, macs)

    def _recall(self, known: Known) -> None:
        """Take over what an earlier window of this stretch has learned, before the first pass.

        Who answered it counts as if in the first pass: what is printed as missed is then rather too much.
        """
        record = known.record.copy()
        record["marks"][repeated(record)] |= np.uint16(Mark.REPEAT)
        record["replies"], record["passes"] = 1, 1  # bit 0: a pass before ours
        self.ledger.restore(known.target, record)
        self.senders = IcmpSenders(known.senders)
        if self.sweep and len(known.macs):
            self.sweep.macs[:] = known.macs
        self._recalled = dict(zip(known.target.tolist(), known.sent.tolist(), strict=True))
        tcp = known.target[self.ledger.rank(known.target) >= 2]
        np.add.at(self._answered[:, 0], self._group(tcp), 1)

    def sent_at(self, target: Ints, number: npt.NDArray[np.uint8]) -> Ints:
        """When the probe of pass `number` to each target left, ns; 0 where that is not known."""
        if not self._recalled:
            return self.passes.sent_at(target, number)
        before = np.array([self._recalled.get(each, -1) for each in target.tolist()], np.int64)
        return np.where(before >= 0, before, self.passes.sent_at(target, number))

    def _group(self, target: Ints) -> Ints:
        return target // self.width if self._apart else np.zeros(len(target), np.int64)

    def everyone_answered(self) -> bool:
        """Whether no item of the rounds under way is silent."""
        ledger = self.current.ledger
        return ledger.answered + ledger.missing >= ledger.n
