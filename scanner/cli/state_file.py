"""`--resume STATE`: the file from which a scan goes on after Ctrl-C, kill -9 or a full disk.

The file holds what was requested, where the scan stood (`ResumePoint`), and the length of each output file then.
To resume, each file is cut back to that length and the scan goes on. Rows that were written after the last save are
scanned and written again, so the files hold each target exactly once, at whatever moment the scan ended. A save
replaces the file in one step (write a new file, then rename it). This happens at most every two seconds, and only when
every row that the scan has given out is in the files.

The order of the hosts depends on a key in the file, and positions in it on the targets, excludes and the shard. So
these must not change, nor any other option that decides what a row is or where it goes. The first difference is named.
Speed and progress may change.

Without `--resume` there is no file: then the methods of `StateFile` do nothing.
"""

import errno
import os
import time
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

from ..errors import ScanError, UsageError
from ..output import Outputs, Written
from ..rounds.running import Running
from ..rounds.schedule import ResumePoint, resume_point_of
from ..rounds.statistics import ScanStats, stats_of
from ..targets.names import Answers, answers_of
from ..targets.ports import format_ports
from ..targets.spaces import Spaces
from .options import ScanRequest
from .state_document import OPENING, NotAState, decode, encode, read_private

INTERVAL = 2.0  # the shortest time between two saves, in seconds
LONGEST_SHOWN = 200  # characters of an input that differs
MOST_STOPPED = 50_000  # hosts that stopped answering which a state names, so that it stays within its size
NAMES = "list of names with their addresses"
Inputs = dict[str, str]  # by the names that a user knows: flags, and what stands for the hosts


class StateFile:
    """The state of one scan on disk. Without a path nothing is kept.

    `resume_point` is where the earlier part stopped and `written` its outputs. Both are None for a scan that begins.
    `stats_file`: the --stats file that an earlier part has written, and that this part may replace.
    """

    resume_point: ResumePoint | None = None
    written: list[Written] | None = None
    stats_file: str | None = None

    def __init__(self, path: str | None = None, inputs: Inputs | None = None) -> None:
        """`inputs`: what both parts of a resumed scan must share. Raises UsageError."""
        self._path, self._inputs = path, inputs or {}
        self._content: dict[str, Any] = {}  # what was saved last
        self.kept = path is not None  # then the session keeps what an interrupt leaves unfinished
        self._saved = 0.0  # when, in monotonic seconds
        self._begun = False  # whether this process has tried to save
        self.saved = False  # whether there is a state to go on from
        self._earlier: ScanStats | None = None  # of the earlier parts
        if path is None:
            return
        if os.path.lexists(path):
            document = _read(path)
            _compare(path, document["inputs"], self._inputs)
            self.stats_file = document["stats_file"]
            self.written = [Written(**output) for output in document["outputs"]]
            try:
                self.resume_point, self._earlier = (
                    resume_point_of(document["resume_point"]),
                    stats_of(document["stats"]),
                )
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise _damaged(path, error) from error
            self.saved = True
        _check_folder(path)

    def total(self, stats: ScanStats) -> ScanStats:
        """The statistics of all parts of the scan; `stats` are those of this part."""
        return stats.after(self._earlier) if self._earlier else stats

    def save(self, session: Running, outputs: Outputs, if_due: bool = False) -> None:
        """Replace the file; with `if_due` only if it is old enough.

        Raises ScanError if it cannot be written. The old file is then still there.
        """
        if self._path is None or (if_due and time.monotonic() < self._saved + INTERVAL):
            return
        if not outputs.whole:  # the old state fits every file as far as it was written then
            return
        self._saved = time.monotonic()
        stats = self.total(session.stats())
        self._content = {
            "inputs": self._inputs,
            "stats_file": self.stats_file,
            "resume_point": session.resume_point().as_json(),
            "stats": {**stats.as_json(), "stopped": dict(stats.stopped.most_common(MOST_STOPPED))},
            "outputs": [output._asdict() for output in outputs.written()],
        }  # fmt: skip
        self._replace()

    def wrote_stats(self, path: str) -> None:
        """The --stats file has been written: the next part of the scan may replace it. Raises ScanError as `save`."""
        self.stats_file = os.path.realpath(path)
        if self._content:
            self._content["stats_file"] = self.stats_file
            self._replace()

    def _replace(self) -> None:
        assert self._path
        try:
            if not self._begun:  # the outputs are locked now, so no other scan writes this state
                _remove_unfinished(self._path)
            self._begun = True
            _replace(self._path, encode(self._content))
            self.saved = True
        except OSError as error:
            raise ScanError(f"cannot keep the state in {self._path}: {error.strerror}") from error

    def remove(self) -> None:
        """Delete the file, because the scan is complete. Raises ScanError if the system refuses."""
        if self._path is None:
            return
        try:
            Path(self._path).unlink(missing_ok=True)
        except OSError as error:
            raise ScanError(f"cannot remove the state {self._path}: {error.strerror}; the scan is complete") from error


def _replace(path: str, document: bytes) -> None:
    """Replace the state in one step. Raises OSError; the old one is then still there, and nothing else.

    A crash at any moment leaves a whole file: the new one has its name only when the disk has its data. The key of the
    cookies is in it, so nobody else may read it, whatever mode an earlier file had.
    """
    beside = path + ".new"
    with open(beside, "xb", opener=_private) as file:  # fails for whatever has the name already
        try:
            file.write(document)
            file.flush()
            os.fsync(file.fileno())
            os.replace(beside, path)
        except OSError:
            with suppress(OSError):
                os.unlink(beside)
            raise


def _check_folder(path: str) -> None:
    """Refuse a place where a state cannot be kept. Creates nothing. Raises UsageError."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise UsageError(f"cannot keep the state in {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        cause = PermissionError(errno.EACCES, "", folder)  # so that it is said whose rights count
        raise UsageError(f"cannot keep the state in {path}: you may not write to the folder {folder}") from cause
    beside = path + ".new"
    if os.path.lexists(beside) and not _is_unfinished(beside):
        raise UsageError(f"{beside} is in the way of the state {path}: remove it, or name another state")


def _is_unfinished(path: str) -> bool:
    """Whether this is a state, or the beginning of one, that a process could not finish (`kill -9`)."""
    try:
        found = read_private(path)
    except (OSError, UsageError):
        return False
    return found.startswith(OPENING) or OPENING.startswith(found)


def _remove_unfinished(path: str) -> None:
    if _is_unfinished(path + ".new"):
        os.unlink(path + ".new")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def earlier_answers(path: str | None) -> Answers:
    """The addresses of names that the state at `path` holds; of none where there is no state. Raises UsageError."""
    return answers_of(_read(path)["inputs"].get(NAMES, "") if path and os.path.lexists(path) else "")


def open_state(request: ScanRequest, spaces: Spaces, answers: Answers) -> StateFile:
    """The state that `--resume` names. Raises UsageError if it does not fit the request."""
    path = request.output.resume
    if path is None:
        return StateFile()
    if not request.output.files:
        raise UsageError("--resume needs a file to go on with: standard output cannot be cut back; name one with -o")
    return StateFile(path, {**_inputs(request, spaces), NAMES: answers.as_text()})


def _inputs(request: ScanRequest, spaces: Spaces) -> Inputs:
    """What both parts of a resumed scan must share, by the names that a user knows."""
    output = request.output
    paths = [os.path.realpath(path) for path in output.output if path != "-"]
    paths += [f"{form}:{os.path.realpath(path)}" for form, path in output.named if path != "-"]
    hosts, sets = spaces.hosts, len(spaces.sets)
    own = {"list of own ports": f"{sets:,} sets with sum {spaces.digest()}"} if sets > 1 else {}
    # Files and names may lead to other hosts now, so the hosts themselves are compared too.
    return {
        "verb": request.verb,
        **request.fixed(),
        "-p": format_ports(spaces.ports),
        "-o": " ".join(paths),
        "list of hosts (of all targets, files, names and excludes)": f"{hosts.size:,} hosts with sum {hosts.digest()}",
        **own,
    }


def _read(path: str) -> dict[str, Any]:
    """The document in the file. Raises UsageError."""
    try:
        return decode(read_private(path))
    except OSError as error:
        cause = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise UsageError(f"cannot read the state {path}: {cause}") from error
    except NotAState as error:
        raise UsageError(
            f"{path} is no state of a scan by this version: name a file that --resume made, or a new one"
        ) from error
    except ValueError as error:
        raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> UsageError:
    return UsageError(f"the state in {path} is damaged ({shorten(str(error), LONGEST_SHOWN)}): scan anew")


def _compare(path: str, before: Inputs, now: Inputs) -> None:
    """Raises UsageError that names the first input that differs."""
    for name in now | before:
        old, new = (shorten(inputs.get(name, ""), LONGEST_SHOWN) or "not given" for inputs in (before, now))
        if before.get(name, "") != now.get(name, ""):
            raise UsageError(
                f"--resume {path} goes on with a scan whose {shorten(name, LONGEST_SHOWN)} was {old} and now is {new}: "
                "give what was given, or name another state"
            )
