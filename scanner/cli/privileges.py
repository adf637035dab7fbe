"""The rights of the command's process, and when it gives them up.

A half-open scan needs rights to open its sockets and none to use them. What comes later, replies and files, may be
hostile. So the command gives up its rights in two steps:

1. At its start, before it reads any file (`limit`): root becomes the user who called sudo, and keeps only the
   capabilities that open sockets. Without SUDO_UID, and where a user namespace does not map that user, the uid stays.
2. When its sockets are open, before it reads a reply or opens an output (`give_up`): the last capabilities go.

The verbs that open no raw socket keep nothing from the start. `demo` builds networks and keeps its rights to the end.
Only the program itself gives up rights. A Python program that calls a verb or `scan` keeps its own (`own`). On systems
other than Linux no raw socket is opened, and nothing is given up.

Python imports modules late. Where a folder of root keeps the user from the files of the program, the process keeps
descriptors of the program's folders and finds modules through them.

Limits: capabilities belong to threads, and here only one thread runs until the last step. Threads that a library has
started keep theirs; `give_up` looks at every thread and refuses to go on. Kernels before 5.7 let only CAP_NET_RAW bind
a socket to an interface, so there `-e` does not go together with `connect` or `--verify`.

Sources: capabilities(7), credentials(7), user_namespaces(7), capset(2), prctl(2), sudo(8) (SUDO_UID, SUDO_GID).
"""

import ctypes
import os
import sys
from collections.abc import Mapping
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ..errors import ScanError

# include/uapi/linux/capability.h, prctl.h, securebits.h
CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW = 10, 12, 13
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS = 4, 8, 24, 28
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_NOROOT, _NO_AMBIENT_RAISE = 0b11, 0b11 << 6  # each with its lock
_UNCHANGED, _LONGEST_NUMBER = 2**32 - 1, 10  # setresuid(2): (uid_t) -1 changes nothing; decimal digits
_CAPABILITIES = 64  # more than any kernel has

# What the sockets of a verb need: source ports below 1024, a filter on a TCP socket, packet sockets.
_SOCKETS = frozenset({CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW})
KEPT = {"syn": _SOCKETS, "worker": _SOCKETS}
UNLIMITED = "demo"
_NOT_YET_IMPORTED = ("colorsys", "numpy", f"{__package__.partition('.')[0]}.page")

_owned = _limited = False
_files_of = ""  # with whose rights files are opened, in words, where these are not the rights of the process's start


class Caller(NamedTuple):
    """The user who called sudo."""

    name: str
    uid: int
    gid: int
    groups: list[int]


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def own() -> None:
    """This process is the command's own, so that `limit` and `give_up` may change its rights."""
    global _owned
    _owned = sys.platform == "linux"


def limit(verb: str) -> None:
    """Become the user who called sudo, and keep only what the sockets of this verb need. Before any thread starts."""
    global _limited, _files_of
    if not _owned or _limited or verb == UNLIMITED:
        return
    root, caller = os.geteuid() == 0, caller_of(os.environ)
    _prctl(_PR_SET_SECUREBITS, _NOROOT | _NO_AMBIENT_RAISE)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    # A process without CAP_SETPCAP cannot do this. Then no_new_privs alone keeps it from getting rights back.
    all(_prctl(_PR_CAPBSET_DROP, capability) for capability in range(_CAPABILITIES))
    if root:
        _files_of = "root without its right to pass over file permissions"
        if caller and _become(caller):
            _files_of = f"{caller.name}, who called sudo"
    _capset(_permitted() & sum(1 << capability for capability in KEPT.get(verb, ())))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # Other processes of this user must not trace this one, because it has sockets that they may not open.
    _prctl(_PR_SET_DUMPABLE, 0)
    _limited = True


def give_up() -> None:
    """Give up every capability. Raises ScanError if a thread keeps some."""
    if not _limited:
        return
    give_up_thread()
    if any(_capabilities(task / "status") for task in Path("/proc/self/task").iterdir()):
        raise ScanError(
            "a thread that a library started keeps capabilities: unset the variables that give it threads "
            "(OMP_NUM_THREADS, MKL_NUM_THREADS)"
        )


def give_up_thread() -> None:
    """Give up every capability of the thread that calls. Those of other threads stay."""
    if _limited:
        _capset(0)


def hint(error: BaseException | None) -> str:
    """What to add to the message of a file that may not be opened: with whose rights halfopen opens files."""
    refused = isinstance(error, PermissionError) and error.filename is not None
    return f" (files are opened with the rights of {_files_of})" if refused and _files_of else ""


def caller_of(environment: Mapping[str, str]) -> Caller | None:
    """The ordinary user who called sudo, by SUDO_UID and SUDO_GID; None: nobody did, or it was root."""
    uid, gid = (_number(environment.get(name, "")) for name in ("SUDO_UID", "SUDO_GID"))
    if not uid or gid is None:
        return None
    import pwd

    try:
        name = pwd.getpwuid(uid).pw_name
        return Caller(name, uid, gid, os.getgrouplist(name, gid))
    except KeyError:  # a user of another system, or of a container
        return Caller(f"user {uid}", uid, gid, [gid])


def _number(text: str) -> int | None:
    """A user or group number; None if it is not one."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER else _UNCHANGED
    return number if number < _UNCHANGED else None


def _become(caller: Caller) -> bool:
    """Take the ids of the caller for good; the capabilities stay permitted. False where the system does not allow it.

    That is a user namespace that does not map the ids, or a root without CAP_SETUID. Raises ScanError.
    """
    try:
        os.setgroups(caller.groups)
        os.setresgid(caller.gid, caller.gid, caller.gid)
        os.seteuid(caller.uid)
        if not _may_import():
            os.seteuid(0)
            _hold_program()
            os.seteuid(caller.uid)
            if not _may_import():
                raise ScanError(
                    f"{caller.name}, who called sudo, may not read the program: install it where every user may read "
                    "it, or unset SUDO_UID"
                )
        os.seteuid(0)
        _prctl(_PR_SET_KEEPCAPS, 1)
        os.setresuid(caller.uid, caller.uid, caller.uid)
    except OSError:
        return False
    return True


def _may_import() -> bool:
    """Whether modules of Python, of other packages and of ours can be read with the rights of now."""
    found = [find_spec(name) for name in _NOT_YET_IMPORTED]
    return all(spec and spec.origin and os.access(spec.origin, os.R_OK, effective_ids=True) for spec in found)


def _hold_program() -> None:
    """Open the folders of the program, and let imports and data files be found through these descriptors.

    A path that begins with a descriptor needs no right to the folders above it.
    """
    for folder in sorted(sys.path, key=len, reverse=True):  # a folder before those that contain it
        if os.path.isdir(folder):
            # Never closed: modules may be imported until the process ends.
            sys.path[sys.path.index(folder)] = held = f"/proc/self/fd/{os.open(folder, os.O_PATH | os.O_DIRECTORY)}"
            for module in [module for module in sys.modules.values() if hasattr(module, "__path__")]:
                module.__path__ = [_moved(path, folder, held) for path in module.__path__]
                loader = module.__spec__.loader if module.__spec__ else None
                if isinstance(loader, SourceFileLoader):
                    loader.path = module.__file__ = _moved(loader.path, folder, held)


def _moved(path: str, folder: str, held: str) -> str:
    """The same path with another name for the folder that it begins with."""
    return held + path[len(folder) :] if f"{path}/".startswith(f"{folder}/") else path


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> bool:
    return not _libc().prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3)


def _permitted() -> int:
    """The permitted capabilities of this thread, as bits."""
    words = (ctypes.c_uint32 * 6)()  # struct __user_cap_data_struct, twice: effective, permitted, inheritable
    _libc().capget(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), words)
    return int(words[1]) | int(words[4]) << 32


def _capset(bits: int) -> None:
    """Make these capabilities of this thread the effective and the permitted ones; none can be inherited."""
    low, high = bits & 0xFFFFFFFF, bits >> 32
    words = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    if _libc().capset(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), words):
        raise ScanError(f"capabilities cannot be given up: {os.strerror(ctypes.get_errno())}")


def _capabilities(status: Path) -> int:
    """The permitted capabilities of a thread, as bits; `status` is its file in /proc."""
    try:
        lines = status.read_text().splitlines()
    except OSError:  # the thread has just ended
        return 0
    return int(next(line.split()[1] for line in lines if line.startswith("CapPrm:")), 16)
