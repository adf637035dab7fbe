"""`python -m scanner.lab ARGUMENTS…`: run `python ARGUMENTS…` where a lab can be made.

As root, or where it is forbidden, that is plain `python ARGUMENTS…`; for an ordinary user it is the same
inside a user namespace. `make test` runs the live tests through it: where no lab can be had they still
run, and skip with the reason.
"""

import os
import sys

from ..errors import ScanError
from .permissions import run_inside


def main() -> int:
    """The exit code of the command; does not return when the command simply takes our place."""
    arguments = sys.argv[1:]
    try:
        code = run_inside(arguments)
    except ScanError as error:
        print(error, file=sys.stderr)
        code = None
    if code is None:
        os.execv(sys.executable, [sys.executable, *arguments])
    return code


sys.exit(main())
