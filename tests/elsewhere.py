"""A command as on another system: what only Linux (or only Unix) has is taken away, then the command runs.

Called as `python elsewhere.py linux|darwin|win32 ARGUMENT…`; with linux nothing is hidden. The libraries are imported
before, because they look at the system themselves. A module that is hidden raises ImportError, a name that is hidden
AttributeError, and select() takes nothing but sockets on Windows.
"""

import builtins
import ctypes
import importlib
import io
import os
import platform
import select
import signal
import socket
import sys
import time
from typing import Any

LIBRARIES = ("numpy", "typer", "netaddr", "rich.console", "jinja2", "tempfile", "subprocess", "asyncio")
LINUX = {
    os: "O_PATH O_TMPFILE O_DIRECT sched_getaffinity sched_setaffinity setresuid setresgid getresuid memfd_create "
    "pipe2 eventfd splice getrandom getxattr setxattr listxattr posix_fadvise posix_fallocate fdatasync "
    "copy_file_range pidfd_open unshare setns",
    select: "epoll EPOLLIN EPOLLOUT",
    socket: "AF_PACKET PF_PACKET AF_NETLINK NETLINK_ROUTE SO_BINDTODEVICE SO_MARK TCP_INFO TCP_QUICKACK "
    "TCP_USER_TIMEOUT",
    signal: "SIGSTKFLT SIGPOLL SIGPWR sigtimedwait sigwaitinfo",
    time: "CLOCK_BOOTTIME CLOCK_TAI",
}
UNIX = {
    os: "fork geteuid getuid getgid getegid setuid setgid seteuid setgroups getgrouplist getpgrp tcgetpgrp waitpid "
    "O_NOFOLLOW O_NONBLOCK O_CLOEXEC O_NOCTTY O_DIRECTORY sysconf uname killpg setsid statvfs mkfifo "
    "WNOHANG WIFEXITED posix_spawn nice getgroups getpgid getsid chown fchown fchmod chroot ctermid ttyname openpty "
    "getloadavg pread pwrite preadv pwritev readv writev sendfile lockf sync register_at_fork wait wait4 get_blocking "
    "set_blocking sched_yield",
    select: "poll POLLIN POLLOUT",
    socket: "AF_UNIX CMSG_LEN CMSG_SPACE SCM_RIGHTS send_fds recv_fds MSG_DONTWAIT",
    time: "clock_gettime clock_gettime_ns clock_settime CLOCK_MONOTONIC CLOCK_REALTIME",
    signal: "pthread_sigmask sigwait sigpending setitimer alarm pause siginterrupt "
    "SIGUSR1 SIGUSR2 SIGHUP SIGKILL SIGPIPE SIGALRM SIGTSTP SIGTTOU SIGTTIN SIGCONT",
}
MODULES = {
    "darwin": "spwd",
    "win32": "fcntl resource pwd grp termios tty mmap pty syslog curses readline",
}


def hide(system: str) -> None:
    """Make this process look like one on macOS (darwin) or Windows (win32)."""
    if system == "linux":
        return
    for library in LIBRARIES:
        importlib.import_module(library)
    platform.uname()  # it remembers what it has found
    for names in (LINUX, UNIX) if system == "win32" else (LINUX,):
        for module, hidden in names.items():
            for name in hidden.split():
                vars(module).pop(name, None)
    for name in MODULES[system].split():
        sys.modules[name] = None  # type: ignore[assignment]
    refuse(system)
    sys.platform = system


def refuse(system: str) -> None:
    """Calls that exist on every system and differ."""
    access, wait, opened = os.access, select.select, open

    def no_library(*_: Any, **__: Any) -> None:
        raise TypeError("bad argument type for built-in operation")

    def plain_access(path: Any, mode: int, *, effective_ids: bool = False, **more: Any) -> bool:
        if effective_ids:
            raise NotImplementedError("effective_ids unavailable on this platform")
        return access(path, mode, **more)

    def sockets_only(*lists: Any) -> Any:
        if any(not isinstance(each, socket.socket) for some in lists[:3] for each in some):
            raise OSError(10038, "An operation was attempted on something that is not a socket")
        return wait(*lists)

    def without_proc(file: Any, *rest: Any, **more: Any) -> Any:
        if str(file).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", file)
        return opened(file, *rest, **more)

    builtins.open = io.open = without_proc
    if system == "win32":
        ctypes.CDLL = no_library  # type: ignore[assignment, misc]
        os.access = plain_access  # type: ignore[assignment]
        os.supports_effective_ids = set()  # type: ignore[misc]
        select.select = sockets_only


if __name__ == "__main__":
    hide(sys.argv.pop(1))
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if sys.argv[1] == "-c":
        exec(sys.argv[2])
    else:
        from scanner.cli.entry import run

        run()
