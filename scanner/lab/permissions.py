"""Can a lab be made on this machine? If not, what forbids it?

Root can make one, and so can an ordinary user inside a user namespace, unless the system forbids it. The settings alone
do not tell: Ubuntu lets `unshare` succeed and then denies the first real operation. So this module tries: it makes
namespaces, a veth pair, addresses, a firewall rule and a packet socket, first in this process, then in a child inside a
user namespace. Only when both fail it reads the settings, to name the one that forbids it (`explain`, a pure function).
Limit: an unknown security module is reported in the words of the call that failed.

Sources: user_namespaces(7), unshare(1), Documentation/admin-guide/sysctl/user.rst; Ubuntu 23.10 and Debian patches for
the two kernel.* settings.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import ScanError
from .box import pair_box
from .firewall import PortKind, load, rules
from .namespace import first_line, tool

CAP_SYS_ADMIN = 21  # include/uapi/linux/capability.h
_ETH_P_ALL = 3
_ROOT = "run it as root: sudo make demo (sudo halfopen demo where it is installed)"
_CONTAINER = "start the container with --privileged (or run it outside): docker run --privileged …"

# (setting, the value that forbids, what it does, the remedy); the first one that applies is named.
SETTINGS = (
    ("user/max_user_namespaces", "0", "allows no user namespaces", _ROOT),
    ("kernel/unprivileged_userns_clone", "0", "keeps user namespaces from ordinary users", _ROOT),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "takes the rights away inside user namespaces", _ROOT),
    ("user/max_net_namespaces", "0", "allows no network namespaces", "as root: sysctl -w user.max_net_namespaces=1000"),
)


def here() -> str | None:
    """None when this process can make a lab itself, else the failure in one line. Takes about 0.1 s."""
    try:
        tool("nft")
        with pair_box() as box:
            with box.scanner.entered():
                socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)).close()
            rule = rules(PortKind.DROP, 4, [9])
            message = load(box.target, f"add table inet lab\nadd chain inet lab input\n{rule}")
    except (ScanError, OSError) as error:
        return str(error)
    # A kernel without nf_tables only lacks the firewalled ports. "Not permitted" means that the lab is forbidden.
    return message if message is not None and "not permitted" in message else None


def reenter(argv: Sequence[str]) -> int | None:
    """Run `python -m scanner argv…` where a lab can be made; None when that is this process.

    Otherwise the exit code of a child that ran as root of a user namespace. ScanError, with one sentence for the user,
    when that is forbidden too.
    """
    return run_inside(["-m", "scanner", *argv])


def run_inside(arguments: Sequence[str]) -> int | None:
    """`reenter` for any Python command line, `python arguments…`."""
    failed_here = here()
    if failed_here is None:
        return None
    refusal = inside(failed_here)
    if refusal is not None:
        raise ScanError(refusal)
    child = subprocess.Popen(_command(arguments), env=_environment())
    # The terminal sends Ctrl-C to both processes. The child decides what it means; this one reports how it ended.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = child.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def inside(failed_here: str) -> str | None:
    """None when a child in a user namespace can make a lab, else the sentence for the user."""
    try:
        tool("ip")
        tool("nft")
        command = _command(["-c", f"import sys; from {__name__} import here; sys.exit(here())"])
    except ScanError as error:
        return str(error)
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 0:
        return None
    root = os.geteuid() == 0
    message = failed_here if root else first_line(done.stderr)
    return explain(root, _capabilities(), _settings(), message)


def explain(root: bool, capabilities: int, settings: Mapping[str, str], message: str) -> str:
    """One sentence: what forbids the lab, and what to run instead.

    `capabilities` is the effective set as bits, `settings` the values found of `SETTINGS`, `message` the error of the
    call that failed.
    """
    if root and not capabilities >> CAP_SYS_ADMIN & 1:
        return f"no lab can be made here: this root lacks CAP_SYS_ADMIN, as in a container; {_CONTAINER}"
    for name, forbidding, effect, remedy in SETTINGS:
        # Root needs no user namespace, so a setting whose remedy is "run it as root" is not the cause.
        if settings.get(name) == forbidding and not (root and remedy == _ROOT):
            return f"no lab can be made here: {name.replace('/', '.')}={forbidding} {effect}; {remedy}"
    return f"no lab can be made here: {message}; {_CONTAINER if root else _ROOT}"


def _command(arguments: Sequence[str]) -> list[str]:
    """Python with `arguments`, as root of new user and network namespaces whose loopback is up."""
    up = 'PATH="$PATH:/usr/sbin:/sbin"; ip link set lo up 2>/dev/null; exec "$@"'
    unshare = [tool("unshare"), "--user", "--map-root-user", "--net"]
    return [*unshare, "sh", "-c", up, "sh", sys.executable, *arguments]


def _environment() -> dict[str, str]:
    """This process's environment; the child finds this very package first."""
    package = str(Path(__file__).resolve().parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))}


def _settings() -> dict[str, str]:
    paths = {name: Path("/proc/sys", name) for name, *_ in SETTINGS}
    return {name: path.read_text().strip() for name, path in paths.items() if os.access(path, os.R_OK)}


def _capabilities() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("CapEff:")), 16)
