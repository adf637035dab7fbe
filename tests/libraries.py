"""Libraries that read results: where they must be, and where a test may do without.

`pyproject.toml` says for which versions of Python and which processors the test environment has them. There a test
that needs one runs, and it fails if the library is missing. Elsewhere it is skipped. So no test is skipped in silence
on the machines of continuous integration.
"""

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
(_LIST,) = re.findall(r"^test = (\[.*?^\])", PROJECT.read_text("utf-8"), re.M | re.S)
WANTED = {each.name: each for each in map(Requirement, ast.literal_eval(_LIST))}


def library(name: str) -> Any:
    """A module of a library. The test is skipped where the test environment has no such library."""
    marker = WANTED[name.partition(".")[0]].marker
    if marker is not None and not marker.evaluate():
        pytest.skip(f"the test environment has no {name} here ({marker})")
    return import_module(name)
