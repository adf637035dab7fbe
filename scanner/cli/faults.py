"""What has gone wrong while a scan runs and ends.

A fault of one output must not lose what another one can still take. So each act of writing is attempted, its error is
kept, and all errors are said at the end.
"""

from collections.abc import Callable
from typing import Any

from ..errors import ScanError, note


class Faults:
    """The errors so far."""

    def __init__(self) -> None:
        self.errors: list[ScanError | BrokenPipeError] = []

    def attempt(self, act: Callable[..., None], *values: Any) -> None:
        """Call `act`, and keep its error."""
        try:
            act(*values)
        except (ScanError, BrokenPipeError) as error:
            self.errors.append(error)

    @property
    def failed(self) -> bool:
        """Whether more happened than that the reader of standard output has left."""
        return not all(isinstance(error, BrokenPipeError) for error in self.errors)

    def raise_first(self) -> None:
        """Say each error once, and raise the first one. A reader who has left matters least."""
        said = {str(error): error for error in self.errors if isinstance(error, ScanError)}
        for error in list(said.values())[1:]:
            note(str(error))
        for first in [*said.values(), *self.errors]:
            raise first
