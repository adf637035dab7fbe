"""halfopen: a half-open TCP scanner, and a classifier of captures from any scanner.

`scan`, `classify`, `report`, `diff` and `merge` are the program as functions (see `api`). They are imported when they
are first used, so `import scanner` and `halfopen --help` import neither numpy nor Scapy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import classify, diff, merge, report, scan
    from .errors import ScanError, UsageError
    from .results.changes import Change, Difference, Group
    from .results.diff import Comparison
    from .verdict.rows import Verdict
    from .verdicts import Interrupted, Verdicts

from ._version import __version__

__all__ = [
    "Change", "Comparison", "Difference", "Group", "Interrupted", "ScanError", "UsageError", "Verdict", "Verdicts",
    "__version__", "classify", "diff", "merge", "report", "scan",
]  # fmt: skip

_MODULES = {
    "Change": "results.changes", "Comparison": "results.diff", "Difference": "results.changes",
    "Group": "results.changes", "Interrupted": "verdicts", "ScanError": "errors",
    "UsageError": "errors", "Verdict": "verdict.rows", "Verdicts": "verdicts",
    "classify": "api", "diff": "api", "merge": "api", "report": "api", "scan": "api",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name from its module at its first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    """Also the names that have not been imported yet."""
    return sorted({*globals(), *__all__})
