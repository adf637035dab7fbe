"""`python -m scanner.lab ARGUMENTS…` runs `python ARGUMENTS…` where a lab can be made.

For root this is plain `python ARGUMENTS…`. For an ordinary user it is the same inside a user namespace. `make test`
runs the live tests through it. Where the system allows no lab the command runs too; its live tests then skip.
"""

import os
import sys

from ..errors import ScanError
from .permissions import run_inside


def main() -> int:
    """The exit code of the command; does not return when the command replaces this process."""
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
