"""What `halfopen classify` does, once its text has been read. Kept apart from the live verbs, which need sockets."""

import sys
from dataclasses import dataclass

from .classify import Classification, Selection
from .errors import UsageError
from .hosts import parse_hosts
from .names import resolve
from .output import Summary, open_sinks
from .ports import parse_ports
from .targets import HostSpace


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

    def selection(self) -> Selection:
        """The filters. Raises UsageError."""
        return Selection(
            _space(self.scanner), _space(self.target), None if self.ports is None else parse_ports(self.ports), self.only_open
        )  # fmt: skip


def _space(specs: tuple[str, ...]) -> HostSpace | None:
    return parse_hosts(specs, [], resolve, all_addresses=True) if specs else None


def run_classify(request: ClassifyRequest) -> int:
    """Classify captures from request to exit code: 0, 1 where something was damaged, 2 where nothing could be read."""
    if request.timeout < 0:
        raise UsageError(f"--timeout {request.timeout:g} is negative; 0 turns the rule off")
    selection = request.selection()
    reading = Classification(list(request.captures), request.timeout, request.orphans, selection)
    outputs = open_sinks(
        request.form, request.output, force=request.force, everything=request.everything, only_open=request.only_open
    )  # fmt: skip
    for rows in reading.batches():
        outputs.write(rows)
    lines = reading.report()
    outputs.finish(Summary("\n".join(lines)))
    if reading.failed or not request.quiet:
        print("\n".join(f"halfopen: {line}" for line in lines), file=sys.stderr)
    return reading.failed
