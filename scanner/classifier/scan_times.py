"""Which scan of its target a packet belongs to: `classify --gap`.

Two SYNs to a target that are at most the gap apart belong to one scan. So where a scan ends is known when all SYNs have
been seen, whatever their order, and a capture is read twice. The first reading keeps times of SYNs as intervals: one
for each target, and further ones where something is far from it. In the second reading the target's address gets a
number of its own in each scan but the first, as an address in a tunnel does (`keys.AddressNumbers`). So everything that
follows takes the scans for different hosts, and a target that was scanned once costs nothing.

An answer belongs to the scan that was under way when it came; `across.settle_scans` looks at those that came later than
that. A target that nothing in the capture probed has scans by the times of its answers (`--orphans`).

Limit: packets without a time stamp count to the first scan.
"""

from collections import Counter

import numpy as np

from ..capture.source import NO_TIME
from ..packet.headers import ACK, RST, SYN, U64, Bools, Frames, Ints
from ..packet.parse import Segments, parse
from ..packet.tunnel import Tunnels
from ..packet.unread import Aside
from ..verdict.table import Reason, classify_icmp, classify_tcp
from .addresses import AddressSet
from .keys import AddressNumbers, Numbering, TargetKey, grown

_NEVER = np.iinfo(np.int64).max
_MOST_LOOSE = 1 << 20  # intervals that are not joined yet

Intervals = tuple[Ints, Ints, Ints]  # number of the target, first time, last time


class Times:
    """The times of targets, as intervals whose members are at most `gap` (ns) apart."""

    def __init__(self, gap: int) -> None:
        self.targets = Numbering()
        self._gap = gap
        self._first, self._last = np.zeros(0, np.int64), np.zeros(0, np.int64)  # of one interval of each target
        self._further: list[Intervals] = []
        self._loose = 0

    def add(self, key: TargetKey, time: Ints) -> None:
        """Something happened to these targets at these times (ns)."""
        number = self.targets.intern(*key.words())
        self._first = grown(self._first, self.targets.count, _NEVER)
        self._last = grown(self._last, self.targets.count, -_NEVER)
        fresh = self._first[number] == _NEVER
        np.minimum.at(self._first, number[fresh], time[fresh])
        self._last[number[fresh]] = self._first[number[fresh]]
        near = (time >= self._first[number] - self._gap) & (time <= self._last[number] + self._gap)
        np.minimum.at(self._first, number[near], time[near])
        np.maximum.at(self._last, number[near], time[near])
        if not near.all():
            self._further.append((number[~near], time[~near], time[~near]))
            self._loose += int(np.count_nonzero(~near))
            if self._loose > _MOST_LOOSE:
                self._further, self._loose = [self._joined(*map(np.concatenate, zip(*self._further, strict=True)))], 0

    def intervals(self) -> Intervals:
        """The scans of all targets that have several, by target and time."""
        if not self._further:
            return (np.zeros(0, np.int64),) * 3
        targets = np.unique(np.concatenate([number for number, *_ in self._further]))
        every = [*self._further, (targets, self._first[targets], self._last[targets])]
        number, first, last = self._joined(*map(np.concatenate, zip(*every, strict=True)))
        several = (np.bincount(number, minlength=1) > 1)[number]
        return number[several], first[several], last[several]

    def _joined(self, number: Ints, first: Ints, last: Ints) -> Intervals:
        """Intervals in any order → those that are at most the gap apart as one, by target and time."""
        order = np.lexsort((first, number))
        number, first, last = number[order], first[order], last[order]
        # The latest end so far of each target: places in the order of ends, higher for later targets.
        ends = np.sort(last)
        place = np.maximum.accumulate(number * len(ends) + np.searchsorted(ends, last))
        latest = ends[place % len(ends)]
        new = np.ones(len(number), np.bool_)
        new[1:] = (number[1:] != number[:-1]) | (first[1:] > latest[:-1] + self._gap)
        at = np.flatnonzero(new)
        return number[at], first[at], np.maximum.reduceat(last, at)


class Begun:
    """When the scans of targets began that were scanned several times."""

    def __init__(self, times: Times, without: Numbering | None = None) -> None:
        """`without`: targets that do not count."""
        number, begin, _ = times.intervals()
        words = times.targets.keys[number]
        if without is not None:
            alone = without.find(*_pair(words)) < 0
            words, begin = words[alone], begin[alone]
        self._targets = Numbering()
        number = self._targets.intern(*_pair(words))
        self._begin = begin[np.lexsort((begin, number))]
        self._scans = np.concatenate([[0], np.cumsum(np.bincount(number, minlength=self._targets.count))])

    def scan(self, key: TargetKey, time: Ints) -> Ints:
        """Which scan of these targets began last, from 0; -1: the target was not scanned several times."""
        if not self._targets.count:
            return np.full(len(time), -1)
        number = self._targets.find(*key.words())
        first, low, high = self._scans[number], self._scans[number], self._scans[number + 1]  # -1 reads some target
        while (wide := low < high).any():
            middle = (low + high) // 2
            begun = wide & (self._begin.take(middle, mode="clip") <= time)
            low, high = np.where(begun, middle + 1, low), np.where(wide & ~begun, middle, high)
        return np.where(number < 0, -1, np.maximum(low - first - 1, 0))


class ScanTimes:
    """When the scans of each target began. `see` every batch, then `close`, then ask `apart`."""

    def __init__(self, gap: int, addresses: AddressNumbers, tunnels: Tunnels | None, orphans: bool) -> None:
        """`gap` in ns. With `orphans` also of targets that answered without a captured SYN."""
        self._addresses, self._tunnels, self._orphans = addresses, tunnels, orphans
        self._sent, self._answered = Times(gap), Times(gap)
        self._begun: Begun | None = None
        self._answers_begun: Begun | None = None
        self._probed = Numbering()  # all targets of SYNs, with `orphans`

    def see(self, frames: Frames) -> None:
        """The first reading: a batch."""
        segments = parse(frames, Counter(), Aside(), self._tunnels)
        timed = segments.time != NO_TIME
        probe = timed & ~segments.icmp & (segments.flags & (SYN | ACK | RST) == SYN)
        probes = segments.take(np.flatnonzero(probe))
        self._sent.add(TargetKey(*self._ends(probes), probes.dport), probes.time)
        if self._orphans:
            reason = classify_tcp(segments.flags)
            error = classify_icmp(segments.version, segments.icmp_type, segments.icmp_code)
            answer = timed & ~probe & (np.where(segments.icmp, error, reason) != Reason.NONE)
            answers = segments.take(np.flatnonzero(answer))
            self._answered.add(TargetKey(*self._ends(answers)[::-1], answers.sport), answers.time)

    def _ends(self, segments: Segments) -> tuple[Ints, Ints]:
        four = segments.version == 4
        src, dst = (self._addresses.numbers(each, four, segments.tunnel) for each in (segments.src, segments.dst))
        return src, dst

    def close(self) -> None:
        """The first reading has ended."""
        self._begun = Begun(self._sent)
        if self._orphans:
            self._probed = self._sent.targets
            self._answers_begun = Begun(self._answered, self._probed)
        del self._sent, self._answered

    def apart(self, segments: Segments, probe: Bools, src: Ints, dst: Ints, reached: AddressSet) -> tuple[Ints, Ints]:
        """The second reading: the numbers of these addresses, where the one of a target is that in its scan.

        `probe`: which segments are SYNs. What is sent to an address in a scan reaches it outside of scans, too.
        """
        assert self._begun is not None, "the first reading has ended"
        there, here = TargetKey(src, dst, segments.dport), TargetKey(dst, src, segments.sport)
        back = np.where(probe, -1, self._begun.scan(here, segments.time))
        forth = np.where(back < 0, self._begun.scan(there, segments.time), -1)
        if self._answers_begun is not None:
            # A reset of a prober is no answer of the prober's port.
            strange = ~probe & (self._probed.find(*here.words()) < 0) & (self._probed.find(*there.words()) < 0)
            back = np.where(strange, self._answers_begun.scan(here, segments.time), back)
        from_target, to_target = np.flatnonzero(back > 0), np.flatnonzero(forth > 0)
        reached.add(dst[to_target])
        src, dst = src.copy(), dst.copy()
        src[from_target] = self._addresses.in_scan(src[from_target], back[from_target])
        dst[to_target] = self._addresses.in_scan(dst[to_target], forth[to_target])
        return src, dst


def _pair(words: U64) -> tuple[U64, U64]:
    """uint64[n, 2] → its columns."""
    return words[:, 0].copy(), words[:, 1].copy()
