"""`--version`: what runs here, in lines for a bug report.

The versions of libraries come from their package metadata, because importing numpy and Scapy takes half a second. What
the kernel allows is found by opening a packet socket, and by reading the settings for namespaces. Nothing is sent.
"""

import os
import platform
import socket
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import which

from .._version import __version__

LIBRARIES = ("scapy", "numpy", "typer", "netaddr", "rich")
_SOL_PACKET, _AF_XDP = 263, 44  # include/linux/socket.h
_TPACKET = (10, 1)  # PACKET_VERSION of TPACKET_V2, include/uapi/linux/if_packet.h


def version_text() -> str:
    """Four lines: halfopen, Python and its libraries, the kernel and what it allows, and the tools that were found."""
    libraries = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    return "\n".join(
        (
            f"halfopen {__version__}",
            f"Python {platform.python_version()}; {libraries}",
            f"{platform.system()} {platform.release()}; {_allowed()}",
            f"tools: {', '.join(f'{name} {_found(name)}' for name in ('ip', 'nft', 'nmap'))}",
        )
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _allowed() -> str:
    """What the kernel allows."""
    if sys.platform != "linux":
        return "scans need Linux"
    return f"packet rings: {_rings()}; AF_XDP: {_xdp()}; namespaces: {_namespaces()}"


def _rings() -> str:
    """Whether this process can open a packet socket with a ring."""
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
            packets.setsockopt(_SOL_PACKET, *_TPACKET)
    except PermissionError:
        return "need CAP_NET_RAW"
    except (OSError, AttributeError):
        return "not in this kernel"
    return "yes"


def _xdp() -> str:
    """Whether this process can open an AF_XDP socket."""
    try:
        socket.socket(_AF_XDP, socket.SOCK_RAW).close()
    except PermissionError:
        return "needs CAP_NET_RAW"
    except OSError:
        return "not in this kernel"
    return "yes"


def _namespaces() -> str:
    """Whether the demo and the live tests may make network namespaces."""
    if os.geteuid() == 0:
        return "as root"
    for name in ("user/max_user_namespaces", "kernel/unprivileged_userns_clone"):
        with suppress(OSError):  # not every kernel has both settings
            if Path("/proc/sys", name).read_text().strip() == "0":
                return "forbidden"
    return "by user namespace"


def _found(name: str) -> str:
    return "yes" if which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") else "no"
