"""Results on disk until they are written: a folder with a file for each message that was kept.

A message may be acknowledged only when it cannot be lost any more, and the rows of a piece are written only when the
piece is whole. In between they are here. With `--resume` the folder stands beside the state, so a collector that goes
on finds what the one before has kept. Otherwise it is a temporary folder.

The name of a file says which piece, which attempt and which batch it is: numbers and hexadecimal digits that were
checked, so no message can name a path. A file has its name when the disk has its data. Other files in the folder are
left alone.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import UsageError
from .attempts import Piece
from .gather import Kept

_NAME = re.compile(r"([0-9]{1,19})-([0-9]{1,7})-([0-9a-f]{16})-(?:([0-9]{1,7})\.jsonl|end\.json)")


class Spool:
    """A `Store` in a folder."""

    def __init__(self, scan: str, state: str | None) -> None:
        """`state`: the file beside which the folder of this scan stands; None: a temporary one. Raises UsageError."""
        self._lasting = state is not None
        try:
            self.folder = Path(f"{state}.{scan}.spool") if state else Path(tempfile.mkdtemp(prefix="halfopen-"))
            self.folder.mkdir(mode=0o700, exist_ok=True)
            facts = self.folder.lstat()
        except OSError as error:
            raise UsageError(f"cannot keep results in {error.filename}: {error.strerror}") from error
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o022 or self.folder.is_symlink():
            raise UsageError(f"others may write to {self.folder}, so what it holds is not trusted: remove it")

    def keep(self, kept: Kept) -> None:
        """Raises OSError."""
        path = self._path(kept)
        beside = path.with_suffix(".new")
        with open(beside, "wb") as file:
            file.write(kept.data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)

    def forget(self, piece: Piece, attempt: str | None = None) -> None:
        for path, kept in self._files():
            if kept.piece == piece and attempt in (None, kept.attempt):
                path.unlink(missing_ok=True)

    def all(self) -> Iterator[Kept]:
        for path, kept in self._files():
            yield kept._replace(data=path.read_bytes() if kept.batch is None else b"")

    def batches(self, piece: Piece, attempt: str, count: int) -> list[str]:
        """The files with the rows of an attempt."""
        return [str(self._path(Kept(piece, attempt, batch, b""))) for batch in range(count)]

    def close(self, done: bool) -> None:
        """Remove the folder; if the scan is not `done`, only a temporary one."""
        if self._lasting and not done:
            return
        for path in [path for path in self.folder.iterdir() if self._lasting is False or _NAME.fullmatch(path.name)]:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # somebody has put a file there
            self.folder.rmdir()

    def _path(self, kept: Kept) -> Path:
        last = "end.json" if kept.batch is None else f"{kept.batch}.jsonl"
        return self.folder / f"{kept.piece.first}-{kept.piece.size}-{kept.attempt}-{last}"

    def _files(self) -> Iterator[tuple[Path, Kept]]:
        for path in list(self.folder.iterdir()):
            if found := _NAME.fullmatch(path.name):
                first, size, attempt, batch = found.groups()
                piece = Piece(int(first), int(size))
                yield path, Kept(piece, attempt, None if batch is None else int(batch), b"")
