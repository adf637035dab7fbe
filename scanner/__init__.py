"""halfopen: a half-open TCP scanner, and the judge of anyone's capture.

`scan` and `classify` are the program as functions (see `api`). They are loaded when they are first asked for, so that
importing the package, or asking the command for `--help`, costs neither numpy nor Scapy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Verdicts, classify, scan
    from .verdict.table import Verdict

from ._version import __version__

__all__ = ["Verdict", "Verdicts", "__version__", "classify", "scan"]

_HOMES = {"Verdict": "verdict.table", "Verdicts": "api", "classify": "api", "scan": "api"}


def __getattr__(name: str) -> Any:
    """The public names, each from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
