"""What `halfopen classify` does, once its text has been read. Kept apart from the live verbs, which need sockets."""

import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..capture import open_captures
from ..errors import UsageError
from ..output import Run, Summary, open_sinks
from ..targets.hostspace import HostSpace
from ..targets.ports import parse_ports
from ..targets.spec import parse_hosts, resolve
from ..trace.ladder import EACH, MOST_TARGETS, LadderTarget, TargetPackets, parse_target
from ..verdict.table import Verdict
from .classification import Classification, Selection

LONGEST_TIMEOUT = 1e9  # seconds; more would not fit nanoseconds in 64 bits


@dataclass(frozen=True)
class ClassifyRequest:
    """The options of `halfopen classify` as they were typed."""

    captures: tuple[str, ...]
    timeout: float
    orphans: bool
    scanner: tuple[str, ...]
    target: tuple[str, ...]
    ports: str | None
    ladder: str | None
    form: str | None
    output: tuple[str, ...]
    force: bool
    only_open: bool
    everything: bool
    quiet: bool
    named: tuple[tuple[str, str], ...] = ()

    def selection(self) -> Selection:
        """The filters; a ladder's target is one. Raises UsageError."""
        target, ports = self.target, self.ports
        if self.ladder not in (None, EACH):
            wanted = parse_target(self.ladder)
            target, ports = (wanted.ip,), str(wanted.port)
        return Selection(
            _space(self.scanner), _space(target), None if ports is None else parse_ports(ports), self.only_open
        )


def _space(specs: tuple[str, ...]) -> HostSpace | None:
    return parse_hosts(specs, [], resolve, all_addresses=True) if specs else None


@dataclass
class _Ladders:
    """The rows that are to be drawn, remembered as they pass by; the packets are read for them a second time."""

    wanted: str | None
    verdicts: list[Verdict] = field(default_factory=list)

    def noting(self, rows: Iterable[Verdict]) -> Iterator[Verdict]:
        for verdict in rows:
            if self.wanted and len(self.verdicts) <= MOST_TARGETS:
                self.verdicts.append(verdict)
            yield verdict

    def text(self, captures: tuple[str, ...]) -> str:
        """The drawings. Raises UsageError where there is nothing to draw, or too much."""
        if self.wanted is None:
            return ""
        if not self.verdicts:
            what = "nothing here" if self.wanted == EACH else f"{self.wanted} in this capture"
            raise UsageError(f"--ladder: no probe of {what} to draw; --orphans adds replies without one")
        if len(self.verdicts) > MOST_TARGETS:
            raise UsageError(
                f"--ladder draws {MOST_TARGETS} targets at most: name one, IP:PORT, or select with --target and -p"
            )
        packets = TargetPackets(list({LadderTarget(verdict.ip, verdict.port or 0): None for verdict in self.verdicts}))
        for frames in open_captures(list(captures)):
            packets.see(frames)
        return "\n".join(packets.ladder(verdict) for verdict in self.verdicts)


def print_ladders(text: str, form: str | None) -> None:
    """To standard output, or beside it where that is for machines."""
    (sys.stdout if form in (None, "table") else sys.stderr).write("\n" + text if text else "")


def run_classify(request: ClassifyRequest) -> int:
    """Classify captures from request to exit code: 0, 1 where something was damaged, 2 where nothing could be read."""
    if not 0 <= request.timeout <= LONGEST_TIMEOUT:
        raise UsageError(f"--timeout {request.timeout:g} is no number of seconds to wait; 0 turns the rule off")
    if request.ladder and "-" in request.captures:
        raise UsageError("--ladder reads a capture twice, and standard input can be read once: name a file")
    selection = request.selection()
    reading = Classification(list(request.captures), request.timeout, request.orphans, selection)
    outputs = open_sinks(
        request.form, request.output, named=request.named, force=request.force, everything=request.everything,
        run=Run(shlex.join(["halfopen", *sys.argv[1:]])),
    )  # fmt: skip
    ladders = _Ladders(request.ladder)
    for rows in reading.batches():
        outputs.write(ladders.noting(rows))
    lines = reading.report()
    outputs.finish(Summary("\n".join(lines)))
    if reading.failed or not request.quiet:
        print("\n".join(f"halfopen: {line}" for line in lines), file=sys.stderr)
    if reading.reader.opened:
        print_ladders(ladders.text(request.captures), request.form)
    return reading.failed
