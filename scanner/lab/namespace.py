"""One network namespace, held open by a file descriptor.

`ip netns add` mounts a file under /run and needs root of the machine. A file descriptor needs neither. The kernel
removes the namespace with its last descriptor, socket or process, so a crash leaves nothing behind. It works the
same inside an unprivileged user namespace.

A namespace belongs to a thread and not to a process. So a short-lived thread calls unshare and opens the descriptor,
and the caller stays where it is. `entered` moves the calling thread and brings it back. A child process starts in the
namespace of the thread that forked it.
Limit: /sys shows the namespace of the process that mounted it, and /proc/net that of the main thread.
/proc/thread-self/net and /proc/sys/net follow the thread.

Sources: unshare(2), setns(2), network_namespaces(7).
"""

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from ..errors import ScanError

CLONE_NEWNET = 0x4000_0000  # include/uapi/linux/sched.h
HERE = "/proc/thread-self/ns/net"
PACKAGES = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux"}
# Debian keeps nft in /usr/sbin, which is not in the PATH of ordinary users.
SEARCH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

_libc = ctypes.CDLL(None, use_errno=True)


def tool(name: str) -> str:
    """The path of a system program; ScanError naming its Debian package when it is missing."""
    path = shutil.which(name, path=SEARCH)
    if path is None:
        package = PACKAGES.get(name, name)
        raise ScanError(f"the lab needs the program '{name}': install the package {package} (apt install {package})")
    return path


def _call(function: Callable[..., int], *arguments: int) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Namespace:
    """A network namespace; `fd` keeps it alive until `close`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def create(cls) -> "Namespace":
        """A new, empty namespace (only `lo`, down). ScanError when the kernel refuses."""
        made: list[int | OSError] = []

        def unshare() -> None:
            try:
                _call(_libc.unshare, CLONE_NEWNET)
                made.append(os.open(HERE, os.O_RDONLY | os.O_CLOEXEC))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=unshare)
        thread.start()
        thread.join()
        (result,) = made
        if isinstance(result, OSError):
            raise ScanError(f"cannot create a network namespace ({result.strerror}): run as root") from result
        return cls(result)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Move the calling thread into the namespace for a `with` block."""
        home = os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call(_libc.setns, self.fd, CLONE_NEWNET)
            try:
                yield
            finally:
                _call(_libc.setns, home, CLONE_NEWNET)
        finally:
            os.close(home)

    def run(
        self, command: Sequence[str], stdin: str = "", pass_fds: Sequence[int] = (), timeout: float = 180
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end inside the namespace; output as text, and any exit code is accepted."""
        line = [tool(command[0]), *command[1:]]
        with self.entered():
            return subprocess.run(
                line, input=stdin, capture_output=True, text=True, pass_fds=pass_fds, timeout=timeout, check=False
            )

    def popen(self, command: Sequence[str], **options: object) -> "subprocess.Popen[bytes]":
        """Start a program inside the namespace; `options` are Popen's. The caller ends it."""
        with self.entered():
            return subprocess.Popen([tool(command[0]), *command[1:]], **options)  # type: ignore[call-overload, no-any-return]

    def ip(self, lines: Sequence[str], pass_fds: Sequence[int] = ()) -> None:
        """Run `ip` commands (without the word `ip`) as one batch; ScanError with the first error message."""
        done = self.run(["ip", "-batch", "-"], "\n".join((*lines, "")), pass_fds)
        if done.returncode:
            raise ScanError(f"the lab's network could not be set up: {first_line(done.stderr)}")

    def sysctl(self, name: str, value: object) -> bool:
        """Write net/… below /proc/sys; False where this kernel or container has no such (writable) file."""
        with self.entered(), suppress(OSError), open(f"/proc/sys/{name}", "w") as file:
            file.write(str(value))
            file.flush()
            return True
        return False

    def close(self) -> None:
        """Close the descriptor; safe to call twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> "Namespace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def first_line(text: str) -> str:
    """The first line with an error, else the first line that is not blank; for messages of one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "rror" in line), lines[0] if lines else "no message")
