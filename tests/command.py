"""The command line inside this process, and the states that it keeps."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scanner.cli.verbs import main

# A connect scan of one closed port of this machine.
USUAL = ("-iL", "hosts", "-p", "1", "-o", "scan.jsonl", "-o", "scan.xml", "--resume", "scan.state", "--force", "-q")


def halfopen(*arguments: str) -> int:
    """Run a verb; its exit code."""
    before, sys.argv = sys.argv, ["halfopen", *arguments]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    raise AssertionError


def sign(document: dict[str, Any]) -> str:
    """The text of a state with the checksum that the schema describes, written down apart from the program."""
    content = {name: value for name, value in document.items() if name != "checksum"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps({**content, "checksum": hashlib.sha256(text.encode()).hexdigest()})


def forge(change: Callable[[dict[str, Any]], object], path: str = "scan.state") -> None:
    """Change the state in a file as somebody does who knows the format."""
    document = json.loads(Path(path).read_text())
    change(document)
    Path(path).write_text(sign(document))
