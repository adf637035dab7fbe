"""The way in: frames become matches, matches become records of windows.

Everything that arrives passes here: answers to ARP and NDP queries, and replies to probes. Replies also tell about
time. Round trips decide when a pass is over, and with `--rate auto` the share of answered probes decides the rate.
Both are fed from first answers, and one habit of every TCP would mislead both: a host whose SYN/ACK (or our reset
to it) was lost repeats it after a second, then after two more (RFC 6298). Such a reply counts as an answer, but it is
no round trip, and no sign that the probe of its pass arrived in time. So a SYN/ACK that takes about a second longer
than usual is left out of both.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ..packet.headers import Bools, Frames, Ints
from ..packet.parse import Segments, parse
from ..rounds.passes import PassNumbers
from ..rounds.rate import RateController
from ..rounds.trips import SECOND, Patience, RoundTrips
from ..rounds.window import Window
from ..rounds.windows import Windows
from ..transport import Transport
from ..verdict.evidence import marks_of
from ..verdict.ledger import Mark, blank, count_bits
from ..verdict.table import Rank, Reason, Rejected
from .lane import Lane, Matches
from .neighbours import GatewaySweep, TwoMacs, answers
from .transmit import Transmit

RECV_BATCHES = 16  # taken in at once, so that a flood of frames cannot keep us from sending
MOST_RESETS = 8  # for one target, beyond its probes: a SYN/ACK that is repeated more often is not stopped by a reset


class Receive:
    """Takes in what arrives on all transports of a scan."""

    def __init__(
        self, lanes: list[Lane], windows: Windows, transmit: Transmit, controller: RateController | None,
        round_trips: RoundTrips, sweep_trips: RoundTrips, patience: Patience, tos: int,
    ) -> None:  # fmt: skip
        """`tos`: the byte that probes carry."""
        self.replies = self.late = self.bad_checksums = 0
        self.rejected: Counter[str] = Counter()  # frames by cause
        self.two_macs = TwoMacs()
        self._gateways: dict[int, GatewaySweep] = {}  # the latest sweep for the gateway of each lane
        self._lanes, self._windows, self._transmit, self._controller = lanes, windows, transmit, controller
        self._round_trips, self._sweep_trips, self._patience, self._tos = round_trips, sweep_trips, patience, tos

    def receive(self, transport: Transport, gateways: Sequence[GatewaySweep]) -> None:
        """Everything that has arrived, up to a limit."""
        for _ in range(RECV_BATCHES):
            frames = transport.recv()
            if not len(frames):
                break
            self._learn(transport, frames, gateways)
            segments = parse(frames, self.rejected)
            for lane, mine in self._by_lane(transport, segments):
                part = segments if mine.all() else segments.take(mine)
                self._fold(lane, lane.match(part, self.rejected), frames)

    def _by_lane(self, transport: Transport, segments: Segments) -> Iterator[tuple[Lane, Bools]]:
        """Which segments belong to which lane: by family, then by target. A family's first lane gets the others."""
        for version in (4, 6):
            left = segments.version == version
            lanes = [lane for lane in self._lanes if lane.transport is transport and lane.version == version]
            for lane in lanes[1:]:
                mine = left & (lane.position_of(segments.src) >= 0)
                left = left & ~mine
                if mine.any():
                    yield lane, mine
            if lanes and left.any():
                yield lanes[0], left

    def _learn(self, transport: Transport, frames: Frames, gateways: Iterable[GatewaySweep]) -> None:
        """ARP and NDP answers. Those that come after the sweep may still show a second MAC address."""
        self._gateways.update((id(gateway.lane), gateway) for gateway in gateways)
        row, address, mac = answers(frames)
        if not len(row):
            return
        time = frames.time[row]
        for gateway in self._gateways.values():
            if gateway.lane.transport is transport:
                host = gateway.host_of(address)
                self._sweep_trips.add(gateway.sweep.learn(host, mac, time))
                self.two_macs.look(gateway.sweep, host, address, mac)
        for window in self._windows.open:
            lane = self._lanes[window.host_range.lane]
            if window.sweep and lane.transport is transport:
                host = window.index_of(lane.position_of(address))
                if window.sweeping:
                    self._sweep_trips.add(window.sweep.learn(host, mac, time))
                self.two_macs.look(window.sweep, host, address, mac)

    def _fold(self, lane: Lane, matches: Matches, frames: Frames) -> None:
        """Give each window its matches, and each SYN/ACK its reset."""
        if not len(matches.reason):
            return
        self.replies += len(matches.reason)
        accepted = (matches.reason == Reason.SYN_ACK) | (matches.reason == Reason.SPLIT_HANDSHAKE_SYN)
        owed = accepted.copy()
        left = np.ones(len(matches.reason), np.bool_)
        for window in self._windows.open:
            if self._lanes[window.host_range.lane] is not lane:
                continue
            host = window.index_of(matches.host_pos)
            mine = left & (host >= 0)
            if mine.any():
                left &= ~mine
                target_id = (host * window.width + matches.port_index)[mine]
                part = _with_pass(window, target_id, matches if mine.all() else matches.take(mine))
                good = self._answers_us(window, target_id, part)
                if not good.all():
                    accepted[np.flatnonzero(mine)[~good]] = owed[np.flatnonzero(mine)[~good]] = False
                    part = part.take(good)
                self._fold_window(lane, window, target_id[good], part, frames)
                known = window.ledger.records(target_id)
                owed[mine] &= known["replies"] <= MOST_RESETS + count_bits(known["passes"])
        self.rejected[Rejected.LATE_AFTER_CLOSE.value] += int(np.count_nonzero(left))
        refused = int(np.count_nonzero(accepted & ~owed))
        refused += self._transmit.owe_resets(matches, np.flatnonzero(owed), lane, frames)
        self.rejected[Rejected.RESET_NOT_SENT.value] += refused

    def _fold_window(self, lane: Lane, window: Window, target_id: Ints, matches: Matches, frames: Frames) -> None:
        late = matches.pass_no < window.passes.pass_no
        self.late += int(np.count_nonzero(late))
        segments = matches.segments
        record = blank(len(target_id))
        record["reason"], record["time"], record["pass"] = matches.reason, segments.time, matches.pass_no
        record["port"], record["window"], record["ttl"] = segments.dport, segments.window, segments.ttl
        record["marks"] = marks_of(frames, segments, self._tos)
        self.bad_checksums += int(np.count_nonzero(record["marks"] & Mark.CHECKSUM_WRONG))
        record["marks"][late] |= np.uint16(Mark.LATE)
        record["detail"] = window.details.numbers(frames, segments, matches.reason)
        resent = self._resent(window, target_id, matches, late)
        unproved = matches.reason == Reason.UNPROVED_SYN
        fresh, back = window.fold(target_id, record, ~segments.icmp & ~unproved, resent)
        if self._controller and back.any():
            self._controller.came_back(back[back > 0])
        if unproved.any() and not self._windows.stopped:
            self._answer_syns(lane, window, target_id[unproved], matches.take(unproved))
        self._measure(window, target_id, matches, fresh)
        first = target_id[fresh]
        self._windows.add_opened(window, first[window.ledger.rank(first) == Rank.OPEN])

    def _answers_us(self, window: Window, target_id: Ints, matches: Matches) -> Bools:
        """Which matches answer something that we sent; the others are counted.

        A reply to a probe that was not sent answers nothing, whatever it acknowledges. An ACK alone acknowledges a SYN
        as well as a SYN/ACK, so it proves a split handshake only where we have sent a SYN/ACK.
        """
        asked = _was_sent(window, target_id, matches.pass_no)
        self.rejected[Rejected.NOT_ASKED.value] += int(np.count_nonzero(~asked))
        alone = matches.reason == Reason.SPLIT_HANDSHAKE_SYN
        if alone.any():
            alone &= asked & ~window.ledger.challenged(target_id, matches.pass_no)
            self.rejected[Rejected.NO_VERDICT.value] += int(np.count_nonzero(alone))
        return np.asarray(asked & ~alone)

    def _answer_syns(self, lane: Lane, window: Window, target_id: Ints, matches: Matches) -> None:
        """A SYN/ACK for bare SYNs, once a pass: only who gets it can acknowledge its number."""
        row = np.flatnonzero(window.ledger.rank(target_id) < Rank.OPEN)[: self._transmit.room]
        row = row[window.ledger.challenge(target_id[row], matches.pass_no[row])]
        if row.size:
            macs = window.sweep.macs[target_id[row] // window.width] if window.sweep else None
            self._transmit.owe_syn_acks(matches.segments.take(row), lane, window.passes, macs)

    def _measure(self, window: Window, target_id: Ints, matches: Matches, fresh: Ints) -> None:
        """Learn from first answers (rows of `matches`) by TCP."""
        reason = matches.reason[fresh]
        row = fresh[(reason == Reason.SYN_ACK) | (reason == Reason.RESET)]
        sent = window.sent_at(target_id[row], matches.pass_no[row])
        trips = matches.segments.time[row] - sent
        longest = window.trips.longest(target_id[row] // window.width)
        resent = self._round_trips.resent(trips, longest) & (matches.reason[row] == Reason.SYN_ACK)
        known = (sent > 0) & (trips >= 0)
        good = known & ~resent
        self._round_trips.add(trips[good])
        if self._controller and known.any():
            self._controller.answered(sent[known], self._round_trips.quantile(0.5))
        host = target_id[row[good]] // window.width
        if host.size:
            window.trips.add(host, trips[good] / SECOND)
            self._patience.learn(window.hosts, window.trips, host)

    def _resent(self, window: Window, target_id: Ints, matches: Matches, late: Bools) -> Bools:
        """Which matches are SYN/ACKs that the host repeated by itself, among those of earlier passes (`late`) and
        those that answer a control probe.
        """  # fmt: skip
        resent = np.zeros(len(matches.reason), np.bool_)
        row = np.flatnonzero((late | (matches.pass_no > window.passes.pass_no)) & (matches.reason == Reason.SYN_ACK))
        if row.size:
            sent = window.control.sent_at(target_id[row], matches.pass_no[row])
            sent = np.where(sent > 0, sent, window.sent_at(target_id[row], matches.pass_no[row]))
            longest = window.trips.longest(target_id[row] // window.width)
            resent[row] = (sent > 0) & self._round_trips.resent(matches.segments.time[row] - sent, longest)
        return resent


def _with_pass(window: Window, target_id: Ints, matches: Matches) -> Matches:
    """With one source port for all passes a reply is credited to the current one, or to its control probe."""
    if matches.pass_no.all():
        return matches
    next_pass = np.full(len(target_id), window.passes.pass_no + 1)
    current = window.passes.pass_no + window.control.was_sent(target_id, next_pass)
    return matches._replace(pass_no=np.where(matches.pass_no == 0, current, matches.pass_no).astype(np.uint8))


def _was_sent(window: Window, target_id: Ints, pass_no: PassNumbers) -> Bools:
    """Whether the probe, control probe or check probe was sent that each reply answers (target, pass number)."""
    sent = window.passes.was_sent(target_id, pass_no)
    other = np.flatnonzero(~sent)
    if other.size:
        sent[other] = window.control.was_sent(target_id[other], pass_no[other])
        if window.checks:
            sent[other] |= window.checks.was_sent(target_id[other], pass_no[other])
    return sent
