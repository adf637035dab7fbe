"""`--version`: what is running here, in lines that belong into every bug report.

Versions of libraries come from their package metadata, because importing numpy and Scapy to ask them would take half
a second. What the kernel lets us do is found by asking for it (a packet socket) or by reading the setting that decides
(namespaces for the demo). Nothing is sent.
"""

import os
import platform
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import which

from .. import __version__

LIBRARIES = ("scapy", "numpy", "typer", "netaddr", "rich")
_TPACKET = (10, 1)  # PACKET_VERSION of TPACKET_V2, include/uapi/linux/if_packet.h


def version_text() -> str:
    """Lines: ours first, then Python and libraries, then the kernel and what it allows."""
    libraries = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    return "\n".join(
        (
            f"halfopen {__version__}",
            f"Python {platform.python_version()}; {libraries}",
            f"{platform.system()} {platform.release()}; packet rings: {_rings()}; namespaces: {_namespaces()}",
            f"beside it: {', '.join(f'{name} {_found(name)}' for name in ('ip', 'nft', 'nmap'))}",
        )
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _rings() -> str:
    """Whether a packet socket and the ring that we use can be had."""
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
            packets.setsockopt(263, *_TPACKET)  # SOL_PACKET
    except PermissionError:
        return "need CAP_NET_RAW"
    except (OSError, AttributeError):
        return "not in this kernel"
    return "yes"


def _namespaces() -> str:
    """Whether the demo and the live tests may make networks of their own."""
    if os.geteuid() == 0:
        return "as root"
    settings = (("user/max_user_namespaces", "0"), ("kernel/unprivileged_userns_clone", "0"))
    return "forbidden" if any(_setting(name) == forbidding for name, forbidding in settings) else "by user namespace"


def _setting(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None


def _found(name: str) -> str:
    return "yes" if which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") else "no"
