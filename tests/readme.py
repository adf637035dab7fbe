"""The blocks of the README that tests run as they stand there."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def block_with(mark: str) -> str:
    """The only block of code that has this text."""
    blocks = re.findall(r"^```\n(.*?)^```", README.read_text("utf-8"), re.S | re.M)
    (found,) = (block for block in blocks if mark in block)
    return str(found)
