"""The expected verdicts of pcaps/: `python -m tests.golden [NAME…]` (`make golden`) writes them anew.

A capture `name.pcap…` stands beside `name.jsonl`, which is what `classify -f jsonl` prints for it. The usual option is
`--timeout 0`, because a scanner that has ended has waited; captures that need other options have them in `ARGUMENTS`.
Read the new rows before you commit them: a golden file says what is right, not what the program happens to print.
"""

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import scanner.cli.verbs

PCAPS = Path(__file__).resolve().parents[1] / "pcaps"
USUAL = ("--timeout", "0")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "only-received.pcap": ("--timeout", "0", "--orphans"),
    "begun-late.pcap": ("--timeout", "0", "--orphans"),
    "clients.pcap": (),
}


def captures() -> list[Path]:
    """Every capture of pcaps/."""
    return sorted(path for path in PCAPS.iterdir() if ".pcap" in path.name)


def golden(capture: Path) -> Path:
    """The file of expected rows beside a capture."""
    return capture.with_name(capture.name.split(".pcap")[0] + ".jsonl")


def classify(capture: Path, folder: Path) -> tuple[int, str]:
    """The program's exit code and JSON lines for one capture."""
    out = folder / "rows.jsonl"
    options = ARGUMENTS.get(capture.name, USUAL)
    try:
        scanner.cli.verbs.command_line(["classify"])(
            args=["classify", str(capture), *options, "-q", "--force", "-o", str(out)]
        )
    except SystemExit as ended:
        return int(ended.code or 0), out.read_text()
    raise AssertionError("the program ends with an exit code")


def main() -> None:
    wanted = sys.argv[1:] or [path.name for path in captures()]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        for name in wanted:
            _, rows = classify(PCAPS / name, Path(folder))
            golden(PCAPS / name).write_text(rows)


if __name__ == "__main__":
    main()
