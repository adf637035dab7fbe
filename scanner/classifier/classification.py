"""Captures in, verdicts out: the offline half of the program from end to end.

This reads anything that `capture` can read, gathers flows, judges them at the end, and reports what was not used. From
a pipe, open ports are given out when they are found, because a pipe may never end. Such a row says what the flows of
its batch show, and its target gets no other row. Reading may be stopped, and then what was read is judged.

It needs Python and numpy only: no privileges, no network, no packet socket.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np

from ..capture.reader import open_captures
from ..capture.source import Capture, file_name
from ..capture.times import Period
from ..errors import UsageError
from ..packet.headers import Bools, Frames, Ints
from ..packet.parse import Segments
from ..packet.tunnel import Tunnels
from ..targets.names import resolve
from ..targets.ports import parse_ports
from ..targets.spec import parse_hosts
from ..verdict.columns import Columns
from ..verdict.sentences import plural
from ..verdict.table import RANK, Reason
from .across import settle_scans, settle_tunnels
from .flow_numbers import NEVER
from .flows import Flows
from .judge import Judged, Judging, judge, judge_accepted
from .rows import rows
from .scan_times import ScanTimes
from .settle import retire, settle
from .summary import count_report, tunnel_counts, tunnel_lines, unread_lines

DEFAULT_TIMEOUT = 1.0
LONGEST_TIMEOUT = 1e9  # seconds; a longer time in nanoseconds would not fit 64 bits
MOST_ROWS = 1 << 18  # in one batch; a host is not parted
_OPEN = RANK[Reason.SYN_ACK]


class Step(Enum):
    """What a reading does at the moment."""

    READING = "reading"
    JUDGING = "judging"
    WRITING = "writing"


class Selection:
    """Which rows are wanted, from texts as users write them. Without any, all rows are. Raises UsageError."""

    def __init__(
        self,
        scanners: Sequence[str] = (),
        targets: Sequence[str] = (),
        ports: str | None = None,
        only_open: bool = False,
    ) -> None:
        self.spaces = [
            parse_hosts(specs, [], resolve, all_addresses=True) if specs else None for specs in (scanners, targets)
        ]
        self.ports = None if ports is None else parse_ports(ports)
        self.only_open = only_open

    def chosen(self, flows: Flows, judged: Judged) -> Bools:
        """The mask of the wanted rows."""
        chosen = np.ones(len(judged.target), np.bool_)
        if self.only_open:
            chosen &= RANK[judged.record["reason"]] == _OPEN
        if self.ports is None and self.spaces == [None, None]:
            return chosen
        key = flows.target_keys(judged.target)
        if self.ports is not None:
            chosen &= np.isin(key.port, self.ports)
        for space, address in zip(self.spaces, (key.us, key.them), strict=True):
            if space is not None:
                chosen &= space.index_of(flows.addresses.addresses(address)) >= 0
        return chosen


@dataclass
class Classification:
    """One reading of one or more captures (`-` is standard input). `timeout` in seconds; 0 turns the rule off."""

    paths: list[str]
    timeout: float = DEFAULT_TIMEOUT
    orphans: bool = False
    selection: Selection = field(default_factory=Selection)
    outer: bool = False  # what is inside tunnels is not judged
    period: Period = field(default_factory=Period)  # only packets of it are read
    gap: int = 0  # ns; above 0: scans of a target that are further apart are told apart
    capture: Capture = field(init=False)
    flows: Flows = field(init=False)
    _most: int = sys.maxsize  # packets to read
    _first: Capture | None = None  # the first of two readings
    targets: int = 0  # judged, before the selection
    orphaned: int = 0  # targets that replied, but whose probe was not captured
    step: Step = Step.READING
    judged_targets: int = 0  # with orphans where they get rows
    handed_out: int = 0  # of these, so many have had their turn

    def __post_init__(self) -> None:
        self.capture = open_captures(self.paths)
        self.flows = Flows(None if self.outer else Tunnels())
        once = [path for path in self.paths if path == "-" or (os.path.exists(path) and not os.path.isfile(path))]
        if self.gap and once:
            raise UsageError(f"--gap reads a capture twice, and {file_name(once[0])} can be read once: name a file")

    @property
    def interrupted(self) -> bool:
        """Whether reading was stopped."""
        return self.capture.stopped_at is not None

    @property
    def done(self) -> tuple[int, int | None, int]:
        """How many bytes and packets have been read, and of how many bytes (None: unknown): of both readings."""
        read, size, packets = self.capture.bytes_read, self.capture.size, self.capture.frames
        if self._first is not None:
            read, packets = read + self._first.bytes_read, packets + self._first.frames
        return read, size and size * (2 if self.gap else 1), packets

    def batches(self) -> Iterator[Columns]:
        """The verdicts: batches of whole hosts at the end, and for a pipe one whenever ports were found open."""
        if self.gap:
            self._find_scans()
        given = np.zeros(0, np.bool_)  # by target
        for frames in self._frames():
            fresh = self.flows.count
            self.flows.feed(frames)
            if "-" in self.paths and self.flows.accepted.size:
                given = _grown(given, self.flows.targets.count)
                judged = judge_accepted(self.flows)
                fresh_target = ~given[judged.target]
                given[judged.target] = True
                if fresh_target.any():
                    yield self._rows(judged, fresh_target)
            retire(self.flows, fresh)
        judging = self._settled()
        self.step = Step.WRITING
        given = _grown(given, self.flows.targets.count)
        for judged in judging.runs(MOST_ROWS):
            yield self._rows(judged, ~given[judged.target])
            self.handed_out += len(judged.target)

    def _find_scans(self) -> None:
        """The first of two readings."""
        flows, period = self.flows, replace(self.period)  # packets are counted in the second one
        flows.scans = ScanTimes(self.gap, flows.addresses, flows.tunnels, self.orphans)
        for frames in map(period.take, self.capture):
            flows.scans.see(frames)
        flows.scans.close()
        if flows.tunnels is not None:
            flows.tunnels.packets[:] = 0
        if self.interrupted:
            self._most = self.capture.frames
        self._first, self.capture = self.capture, open_captures(self.paths)

    def _frames(self) -> Iterator[Frames]:
        """The batches that are judged."""
        for frames in self.capture:
            yield self.period.take(frames)
            if self.capture.frames >= self._most:  # the first reading was stopped here
                self.capture.stop()

    def judging(self, see: Callable[[Frames, Segments, Ints, Ints], None]) -> Judging:
        """Read everything, and show `see` each batch and what `feed` made of it: for readers of columns."""
        for frames in self._frames():
            fresh = self.flows.count
            see(frames, *self.flows.feed(frames))
            retire(self.flows, fresh)
        return self._settled()

    def _settled(self) -> Judging:
        """The verdicts at the end of the capture."""
        self.step = Step.JUDGING
        settle(self.flows)
        settle_tunnels(self.flows)
        settle_scans(self.flows)
        judging = self._judge()
        self.targets, self.orphaned = int(np.count_nonzero(judging.probed)), judging.orphaned
        self.judged_targets = len(judging.target)
        return judging

    def _judge(self) -> Judging:
        # A time stamp missing anywhere makes the end of the capture unknown. Our own recordings also say when
        # listening ended (pcapng isb_endtime), which may be long after the last packet.
        end = min(max(self.capture.largest_time, self.capture.end_time), self.period.until)
        too_late = end - int(self.timeout * 1e9)
        if self.capture.has_untimed or not self.capture.largest_time or not self.timeout:  # 0: all stamps are 0
            too_late = NEVER
        return judge(self.flows, too_late, self.capture.both_ways, self.orphans)

    def _rows(self, judged: Judged, wanted: Bools) -> Columns:
        wanted = wanted & self.selection.chosen(self.flows, judged)
        return rows(self.flows, judged if wanted.all() else judged.take(wanted))

    @property
    def exit_code(self) -> int:
        """0; 1 if anything was damaged; 2 if nothing could be opened."""
        if not self.capture.opened:
            return 2
        return 1 if self.capture.damage else 0

    def as_report(self) -> dict[str, Any]:
        """What `report` says, as numbers: for `--stats`."""
        return {
            "packets": self.capture.frames,
            "probes": self.flows.probes,
            "targets": self.targets,
            "without_probe": self.orphaned,
            "tunnels": tunnel_counts(self.flows.tunnels),
            **count_report(self.flows.counts),
            "outside": self.period.outside,
            "untimed": self.period.untimed,
            "bad_checksums": self.flows.bad_checksums,
            "skipped": dict(self.capture.skipped),
            "damage": list(map(str, self.capture.damage)),
            "interrupted": self.interrupted,
        }

    def report(self) -> list[str]:
        """What was read, and everything that was not understood, as lines."""
        damage = [str(damage) for damage in self.capture.damage]
        if not self.capture.opened and not self.interrupted:
            return damage
        probes = plural(self.flows.probes, "probe")
        read = f"{plural(self.capture.frames, 'packet')}: {probes} to {plural(self.targets, 'target')}"
        lines = [
            read,
            *self.period.lines(),
            *tunnel_lines(self.flows.tunnels),
            *unread_lines(self.flows.counts),
            *self.flows.arp.lines(),
        ]
        if self.flows.bad_checksums:
            lines.append(f"{plural(self.flows.bad_checksums, 'reply')} with a wrong checksum, judged like the others")
        if self.orphaned:
            advice = "" if self.orphans else "; --orphans lists them"
            lines.append(f"{plural(self.orphaned, 'target')} answered without a captured probe{advice}")
        lines += [
            f"{plural(count, 'record')} skipped: {cause}" for cause, count in sorted(self.capture.skipped.items())
        ]
        if self.interrupted:
            lines.append("interrupted: only what had been read by then is judged")
        return lines + damage


def _grown(given: Bools, count: int) -> Bools:
    """With room for `count` targets."""
    more = max(count, 2 * len(given)) - len(given)
    return given if count <= len(given) else np.concatenate([given, np.zeros(more, np.bool_)])
