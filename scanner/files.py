"""How files that halfopen writes are opened: results, recordings, statistics, reports and the state of a scan.

A scan may run with more rights than the owner of a folder has, and a name may lead elsewhere than it seems. So the last
part of a path is never followed as a symbolic link to a file, also with `--force`. Nothing that exists is overwritten
without `--force`. With it, the new file is made beside the old one, as PATH.new, and takes its name in one step. So
other names (hard links) of the old file keep the old content, and the new file has the rights of a new file.

What is only good as a whole (`open_whole`) has no name at all until then, where the system has such files (O_TMPFILE).
So a process that is killed leaves nothing of it.

A device or a pipe is written as it is, also behind a link (`/dev/stdout`, `>(…)`). A file that is being written is
locked, so that no other scan writes to it. The kernel drops the lock with the process, however that ends.

Limits: links to folders are followed. A file system without locks protects nothing. A path that is mounted on its own
cannot be replaced. Windows has no such locks, and gives no open file another name: there `--force` removes the old file
first.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NOFOLLOW, _NONBLOCK, _UNNAMED = (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_TMPFILE"))
_OPEN_FILES = "/proc/self/fd"  # links to them, by their descriptors (proc(5))
_WRITE = os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
_MAKE = _WRITE | os.O_CREAT | os.O_EXCL  # fails for whatever has the name already, a link too (open(2))


class NewFile:
    """An open file. If it replaces another one, or has no name yet, it has its name only after `commit`.

    `descriptor` belongs to the caller. `made`: the name until `commit`; None: a device, or a file that is gone on with.
    """

    def __init__(self, descriptor: int, path: str, made: str | None = None, old: int | None = None) -> None:
        """`old`: the descriptor of the file that is replaced, which holds its lock."""
        self.descriptor, self._path, self._made, self._old = descriptor, path, made, old

    def commit(self) -> None:
        """Give the file its name. Raises UsageError if the system refuses."""
        if self._made is not None and self._old is not None:
            with _named(self._path):
                os.replace(self._made, self._path)
        self._forget()

    def abandon(self) -> None:
        """Remove the file if it is new, as if it had never been opened."""
        if self._made is not None:
            with suppress(OSError):
                os.unlink(self._made)
        self._forget()

    def _forget(self) -> None:
        if self._old is not None:
            os.close(self._old)
        self._made = self._old = None


class WholeFile:
    """An open file without a name, which it gets with `commit`. `descriptor` belongs to the caller."""

    def __init__(self, descriptor: int, path: str, force: bool) -> None:
        self.descriptor, self._path, self._force = descriptor, path, force

    def commit(self) -> None:
        """Give the file its name when the disk has its data. Raises UsageError as `open_new`."""
        check_new(self._path, self._force)
        made = f"{self._path}.new" if self._force else self._path
        with _named(self._path):
            os.fsync(self.descriptor)
            try:
                # A folder for the source lets Python follow this link (linkat(2), AT_SYMLINK_FOLLOW).
                os.link(f"{_OPEN_FILES}/{self.descriptor}", made, src_dir_fd=self.descriptor)
            except FileExistsError as error:
                raise _in_the_way(self._path) if self._force else _exists(self._path) from error
            if self._force:
                os.replace(made, self._path)

    def abandon(self) -> None:
        """Nothing: a file without a name ends when it is closed."""


def open_whole(path: str, force: bool) -> NewFile | WholeFile:
    """A file that has its name only after `commit`, also where nothing has the name now.

    Raises UsageError as `open_new`. Limit: where the system has no files without names, it has its name at once.
    """
    check_new(path, force)
    if _UNNAMED and os.path.isdir(_OPEN_FILES) and (os.path.isfile(path) or not os.path.lexists(path)):
        with suppress(OSError):  # a file system without such files
            return WholeFile(os.open(os.path.dirname(path) or ".", _WRITE | _UNNAMED, 0o666), path, force)
    return open_new(path, force)


def open_new(path: str, force: bool) -> NewFile:
    """A file to write. A regular file that exists keeps its name and content until `commit`.

    Raises UsageError for a regular file that exists (unless `force`), for a symbolic link to one, if another scan
    writes it, or if the system refuses.
    """
    with _named(path):
        with suppress(FileExistsError):
            return _locked(os.open(path, _MAKE, 0o666), path, path)
        old = _open_old(path)
        try:
            if not stat.S_ISREG(os.fstat(old).st_mode):
                return NewFile(os.dup(old), path)
            if not force:
                raise _exists(path)
            _lock(old, path)
            if not os.path.samestat(os.fstat(old), os.lstat(path)):
                raise _busy(path)  # another scan has replaced it since it was opened
            if fcntl is not None:
                return _locked(os.open(f"{path}.new", _MAKE, 0o666), path, f"{path}.new", os.dup(old))
        except FileExistsError as error:
            raise _in_the_way(path) from error
        finally:
            os.close(old)
        os.unlink(path)
        return NewFile(os.open(path, _MAKE, 0o666), path, path)


def open_again(path: str) -> int:
    """A regular file that is gone on with, locked. Raises UsageError, or OSError if the system refuses."""
    file = os.open(path, _WRITE | _NOFOLLOW | _NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        _lock(file, path)
    except BaseException:
        os.close(file)
        raise
    return file


def check_new(path: str, force: bool) -> None:
    """Refuse what `open_new` will refuse. Creates nothing. Raises UsageError."""
    with _named(path):
        exists = os.path.lexists(path)
        mode = _mode_of_old(path) if exists else stat.S_IFREG
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if exists and stat.S_ISREG(mode) and not force:
            raise _exists(path)
        place = os.path.join(os.path.dirname(path) or ".", "") if stat.S_ISREG(mode) else path
        os.stat(place)
        if not os.access(place, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def write_new(path: str, force: bool, data: bytes) -> None:
    """A whole file at once. If another one is replaced, the new one gets the name when the disk has its data.

    Raises UsageError as `open_new`, and OSError if it cannot be written; nothing is left of it then.
    """
    new = open_new(path, force)
    try:
        with open(new.descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a pipe cannot be synchronised
                os.fsync(file.fileno())
        new.commit()
    finally:
        new.abandon()  # does nothing after `commit`


def _open_old(path: str) -> int:
    """What has the name already. A link is followed to a device or a pipe, and never to a file."""
    if not _NOFOLLOW:
        _mode_of_old(path)
    try:
        return os.open(path, _WRITE | _NOFOLLOW)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    _mode_of_old(path)
    return os.open(path, _WRITE)


def _mode_of_old(path: str) -> int:
    """The kind of what has the name. Raises UsageError for a link to a file, or to nothing."""
    if not stat.S_ISLNK(os.lstat(path).st_mode):
        return os.lstat(path).st_mode
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if not (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        raise UsageError(f"{path} is a symbolic link, and is not followed: name the file itself")
    return mode


def _locked(file: int, path: str, made: str, old: int | None = None) -> NewFile:
    new = NewFile(file, path, made, old)
    try:
        _lock(file, path)
    except BaseException:
        new.abandon()
        os.close(file)
        raise
    return new


def _lock(file: int, path: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _busy(path) from error
    except OSError:
        pass  # a file system without locks


def _busy(path: str) -> UsageError:
    return UsageError(f"{path} is being written by another scan: wait for it, or name another file")


def _in_the_way(path: str) -> UsageError:
    return UsageError(f"{path}.new is in the way of a new {path}: remove it, or name another file")


def _exists(path: str) -> UsageError:
    return UsageError(f"{path} exists and is not overwritten: name another file, or add --force")


@contextmanager
def _named(path: str) -> Iterator[None]:
    """An OSError inside becomes a UsageError that names the path."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{path!r} cannot be written ({error.strerror}): name a file in a folder that you may write to"
        ) from error
