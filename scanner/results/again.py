"""The targets of earlier results, to be probed again.

A row that names an address and a TCP port is a target; of a host that is down there is no port to probe. What other
protocols or the inside of tunnels show cannot be reached by a scan from here. It is left out, and counted.

Limit: which link a link-local address was seen on stands in no row. `-e` names it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from ..errors import UsageError
from ..packet.addresses import from_text
from ..targets.files import Tell
from ..targets.own_ports import Shown
from ..verdict.rows import Verdict
from ..verdict.sentences import plural
from ..verdict.table import State
from .captures import Note
from .read import read_results

_CHUNK = 1 << 16


def shown_targets(paths: Sequence[str], only_open: bool, note: Note, tell: Tell | None = None) -> Iterator[Shown]:
    """The targets of all rows, or of the open ones. `note` gets a line for what is left out.

    Raises UsageError for what cannot be read, and where no row names a target.
    """
    for path in paths:
        if path.lower().removesuffix(".gz").endswith(".list"):
            raise UsageError(f"--again {path} is a list of targets, as -f list writes it: give it to -iL")
    rows, left_out, found = read_results(paths, note, tell), Counter[str](), False
    while chunk := list(islice(rows, _CHUNK)):
        targets = [(row.ip, row.port) for row in chunk if row.port is not None and _reached(row, only_open, left_out)]
        if targets:
            found = True
            hosts = {ip: number for number, ip in enumerate(dict.fromkeys(ip for ip, _ in targets))}
            address = from_text(*hosts)[[hosts[ip] for ip, _ in targets]]
            yield Shown(address, np.array([port for _, port in targets], np.uint16))
    for what, count in left_out.items():
        note(f"--again leaves out {plural(count, 'row')} {what}")
    if not found:
        which = "no open port" if only_open else "no port"
        raise UsageError(f"--again {' '.join(paths)}: {which} to probe is in these results: name others")


def _reached(row: Verdict, only_open: bool, left_out: Counter[str]) -> bool:
    """Whether a scan may probe what this row is about."""
    if only_open and row.state != State.OPEN.value:
        return False
    if row.protocol != "tcp" or row.tunnel:
        left_out["inside a tunnel" if row.tunnel else f"of {row.protocol}"] += 1
        return False
    return True
