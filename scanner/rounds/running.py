"""What the command needs of a scan that runs, whoever runs it: this machine (`session`) or a fleet.

The command writes the batches to its outputs, shows progress, saves the state of `--resume`, and passes on Ctrl-C. It
knows no more of a scan than these names.
"""

from collections.abc import Callable, Generator, Iterable
from typing import Protocol

from ..verdict.rows import Verdict
from .rows import Names
from .schedule import ResumePoint
from .statistics import ScanStats


class Running(Protocol):
    """One scan. `Session` says what each name means."""

    names: Names
    naming: bool
    opened: list[tuple[str, int]]

    @property
    def targets(self) -> int: ...

    @property
    def interrupted(self) -> bool: ...

    @property
    def unfinished(self) -> bool: ...

    @property
    def crew(self) -> str: ...  # who scans, for the line of progress; "": this machine

    def stop(self) -> None: ...

    def resume_point(self) -> ResumePoint: ...

    def batches(
        self, write_silent: bool = True, tick: Callable[[], None] | None = None, only_open: bool = False
    ) -> Generator[Iterable[Verdict], None, None]: ...

    def stats(self) -> ScanStats: ...

    def live_stats(self) -> ScanStats: ...

    def close(self) -> None: ...
