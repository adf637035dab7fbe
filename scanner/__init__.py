"""halfopen: a half-open TCP scanner, and a classifier of captures from any scanner.

`scan` and `classify` are the program as functions (see `api`). They are imported when they are first used, so
`import scanner` and `halfopen --help` import neither numpy nor Scapy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Verdicts, classify, scan
    from .verdict.rows import Verdict

from ._version import __version__

__all__ = ["Verdict", "Verdicts", "__version__", "classify", "scan"]

_MODULES = {"Verdict": "verdict.rows", "Verdicts": "api", "classify": "api", "scan": "api"}


def __getattr__(name: str) -> Any:
    """Import a public name from its module at its first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
