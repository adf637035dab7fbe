"""Captures in, verdicts out: the offline half of the program from end to end.

Reads anything `capture` can read, gathers exchanges, judges them at the end, and tells what it could
not use. From a pipe open ports are given out as they are found, because a pipe may never end:
one batch after they were seen, so that what the scanner did next is part of the row.

Needs Python and numpy only; no privileges, no network, no packet socket.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..capture import CaptureReader, open_captures
from ..packet.addresses import from_words
from ..packet.headers import Bools, Ints
from ..packet.link import Cause
from ..packet.parse import UNSUPPORTED_LINK
from ..targets.hostspace import HostSpace
from ..verdict.table import RANK, Verdict
from .flows import ENDING, TAKEN, Exchanges
from .judge import Ending, Judged, judge, retire, rows
from .settling import settle, settle_bare_syns, target_keys

DEFAULT_TIMEOUT = 1.0
_PASSED_OVER = {Cause.LINK_TYPE.words, Cause.ARP.words}  # the one is named by its number; nobody misses the other


@dataclass(frozen=True)
class Selection:
    """Which rows are wanted; None: all."""

    scanners: HostSpace | None = None
    targets: HostSpace | None = None
    ports: npt.NDArray[np.uint16] | None = None
    only_open: bool = False


@dataclass
class Classification:
    """One reading of one or more captures (`-` is standard input). `timeout` in seconds; 0 turns the rule off."""

    paths: list[str]
    timeout: float = DEFAULT_TIMEOUT
    orphans: bool = False
    selection: Selection = Selection()
    reader: CaptureReader = field(init=False)
    exchanges: Exchanges = field(default_factory=Exchanges)
    targets: int = 0  # judged, before the selection
    orphaned: int = 0  # replies whose probe was not captured, by target

    def batches(self) -> Iterator[Iterator[Verdict]]:
        """The verdicts; one batch at the end of the capture, and for a pipe one whenever ports were found open."""
        self.reader = open_captures(self.paths)
        told = np.zeros(0, np.bool_)
        known = np.zeros(0, np.int64)
        for frames in self.reader:
            fresh = self.exchanges.flows.count
            self.exchanges.feed(frames)
            retire(self.exchanges, fresh, self.reader.largest_time)
            if "-" in self.paths:
                settle_bare_syns(self.exchanges)
                found, known = known, self._open_targets(told)
                if found.size:
                    told = _tell(told, found, self.exchanges.targets.count)
                    known = known[~_among(told, known)]
                    yield rows(self.exchanges, self._chosen(self._judge(), found))
        settle(self.exchanges)
        judged = self._judge()
        self.targets = int(np.count_nonzero(~judged.orphan))
        self._count_orphans()
        judged = judged.take(self._selected(judged) & ~_among(told, judged.target))
        yield rows(self.exchanges, judged)

    def _judge(self) -> Judged:
        last = (
            None
            if self.reader.has_untimed
            else max(self.reader.largest_time, self.reader.end_time or self.reader.largest_time)
        )
        return judge(self.exchanges, Ending(last, int(self.timeout * 1e9), self.reader.both_ways), self.orphans)

    def _chosen(self, judged: Judged, targets: Ints) -> Judged:
        return judged.take(np.isin(judged.target, targets) & self._selected(judged))

    def _open_targets(self, told: Bools) -> Ints:
        """Targets that are open by what was read so far and have not been given out."""
        ledger, n = self.exchanges.ledger, self.exchanges.flows.count
        flows = np.flatnonzero((ledger.rank(np.arange(n)) == 3) & (self.exchanges.probes[:n] > 0))
        targets = np.unique((self.exchanges.flows.keys[flows, 0] >> np.uint64(32)).view(np.int64))
        return targets[~_among(told, targets)]

    def _selected(self, judged: Judged) -> Bools:
        chosen = np.ones(len(judged.target), np.bool_)
        if self.selection.only_open:
            chosen &= RANK[judged.record["reason"]] == 3
        scanner, target, port, six = target_keys(self.exchanges, judged.target)
        if self.selection.ports is not None:
            chosen &= np.isin(port, self.selection.ports)
        for space, number in ((self.selection.scanners, scanner), (self.selection.targets, target)):
            if space is not None:
                hi, lo = self.exchanges.words_of(number.view(np.uint64), six)
                chosen &= space.index_of(from_words(hi, lo, len(hi))) >= 0
        return chosen

    def _count_orphans(self) -> None:
        n = self.exchanges.flows.count
        of = (self.exchanges.flows.keys[:, 0] >> np.uint64(32)).view(np.int64)
        self.exchanges.retired.grow(self.exchanges.targets.count)
        probed = self.exchanges.retired.probed[: self.exchanges.targets.count]
        probed[of[self.exchanges.probes[:n] > 0]] = True
        replied = np.zeros(len(probed), np.bool_)
        unasked = self.exchanges.probes[:n] == 0
        replied[of[unasked & (self.exchanges.marks[:n] & (ENDING | TAKEN) == 0)]] = True
        self.orphaned = int(np.count_nonzero(replied & ~probed))

    @property
    def failed(self) -> int:
        """The exit code: 0, 1 if anything was damaged, 2 if nothing could be opened."""
        if not self.reader.opened:
            return 2
        return 1 if self.reader.damage else 0

    def report(self) -> list[str]:
        """What was read, and everything that was not understood, as lines."""
        reader, counts = self.reader, self.exchanges.counts
        probed = int(np.count_nonzero(self.exchanges.probes)) + self.exchanges.retired.flows
        if not reader.opened:
            return [str(damage) for damage in reader.damage]
        lines = [f"{_many(reader.frames, 'packet')}: {_many(probed, 'probe')} to {_many(self.targets, 'target')}"]
        told = [(what, count) for what, count in sorted(counts.items()) if count and what not in _PASSED_OVER]
        links = [(what, count) for what, count in told if what.startswith(UNSUPPORTED_LINK)]
        lines += [f"{_many(count, 'packet')} of {what} not supported" for what, count in links]
        if others := [f"{count:,} {what}" for what, count in told if not what.startswith(UNSUPPORTED_LINK)]:
            lines.append("not judged: " + ", ".join(others))
        if self.orphaned:
            advice = "" if self.orphans else "; --orphans lists them"
            lines.append(f"{_many(self.orphaned, 'target')} answered without a captured probe{advice}")
        lines += [f"{_many(count, 'record')} skipped: {cause}" for cause, count in sorted(reader.skipped.items())]
        return lines + [str(damage) for damage in reader.damage]


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _tell(told: Bools, targets: Ints, count: int) -> Bools:
    grown = np.zeros(count, np.bool_)
    grown[: len(told)] = told
    grown[targets] = True
    return grown


def _among(told: Bools, targets: Ints) -> Bools:
    known = targets < len(told)
    result = np.zeros(len(targets), np.bool_)
    result[known] = told[targets[known]]
    return result
