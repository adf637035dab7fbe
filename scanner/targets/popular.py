"""`--top-ports N`: the ports most worth a look, the best first.

Which ports are open most often is a matter of measurement, and the measurement everybody knows is nmap's own: its
services file gives each port the share of hosts that had it open. Where nmap is installed, the first N are by that
file, so both programs mean the same ports by the same words. The file's licence keeps it out of this package.

Elsewhere there is a list of ours, shorter and in an order of reasons, not of counts: first how a machine is
administered and what it shows to everybody (remote shells, web, mail, names, files), then what should rarely be seen
from outside (databases, caches, directories, container and cluster interfaces), then other ways in (VPN, voice,
printers, industry, cameras). It is about coverage: whoever asks for 20 gets the doors of a usual server.

Limit: the two lists differ, so a count means something else on a machine with nmap; `--list-ports` shows what.
"""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import UsageError

FOLDERS = (*filter(None, [os.environ.get("NMAPDIR")]), "/usr/share/nmap", "/usr/local/share/nmap")

OURS = (
    22, 80, 443, 3389, 445, 25, 53, 21, 23, 8080, 8443, 5900, 139, 135, 111, 2049,  # a usual server, and its doors
    587, 993, 143, 110, 995, 465, 4190, 853,  # mail and names, with and without TLS
    8000, 8008, 8081, 8888, 9000, 9443, 3000, 5000, 8001, 8082, 8090, 10000,  # where web interfaces also live
    3306, 5432, 1433, 1521, 27017, 6379, 9200, 11211, 5984, 9042, 50000, 7474,  # databases and caches
    389, 636, 88, 464, 3268, 5985, 5986, 873, 548, 3260, 2222, 179,  # directories, files, routers
    2375, 2376, 6443, 10250, 2379, 9090, 5601, 8500, 9092, 5672, 15672, 1883,  # clusters, monitoring, queues
    1723, 1194, 500, 4443, 5060, 5061, 1720, 554, 8554, 37777,  # VPN, voice, cameras
    515, 631, 9100, 161, 102, 502, 20000, 44818, 47808, 7547,  # printers, industry, customers' routers
    113, 79, 512, 513, 514, 6000, 5901, 1080, 3128, 8118,  # old services, proxies
)  # fmt: skip


def top_ports(count: int, folders: tuple[str, ...] = FOLDERS) -> npt.NDArray[np.uint16]:
    """The `count` most popular TCP ports, uint16[count], ascending. Raises UsageError if there are not so many."""
    listed = _of_nmap(folders)
    known = listed or list(OURS)
    if not 1 <= count <= len(known):
        whose = "nmap's list" if listed else "our own list (nmap is not installed)"
        raise UsageError(f"--top-ports {count}: {whose} has {len(known):,} ports; give 1 to {len(known):,}, or use -p")
    return np.sort(np.array(known[:count], np.uint16))


def _of_nmap(folders: tuple[str, ...]) -> list[int]:
    """nmap's TCP ports by falling frequency, the lower port first where it is the same; [] without nmap's file."""
    for folder in folders:
        try:
            text = Path(folder, "nmap-services").read_text("utf-8", "replace")
        except OSError:
            continue
        ranked = sorted(filter(None, map(_ranked, text.splitlines())))
        if ranked:
            return [port for _, port in ranked]
    return []


def _ranked(line: str) -> tuple[float, int] | None:
    """`ssh 22/tcp 0.182286 # …` → (-0.182286, 22); None for comments, other protocols and what cannot be read."""
    fields = line.partition("#")[0].split()
    if len(fields) != 3 or not fields[1].endswith("/tcp"):
        return None
    try:
        return -float(fields[2]), int(fields[1].removesuffix("/tcp"))
    except ValueError:
        return None
