"""What a fleet scans: the hosts and ports of a scan and its settings, as one document that every worker gets.

The collector reads lists, resolves names and leaves out what is excluded. What travels is the result: columns of
addresses, the sets of ports, and the key of the order. A piece is then two numbers, a position in this order and a
number of hosts, and each worker computes its hosts as any scan does (`targets.order`). So pieces are a hundred bytes,
whatever they hold, and the hosts of a piece are spread over all networks of the scan.

Workers get neither names nor files, and no key of a cookie: each worker draws its own.

Limit: a list of ten million single addresses is a document of 110 MB. Link-local targets belong to a link of one
machine and cannot be sent to another.
"""

import hashlib
from base64 import b64decode, b64encode
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..config import SynConfig
from ..errors import UsageError
from ..packet.addresses import is_ipv4
from ..targets.blocks import FIRST_IPV4, LAST_IPV4, NOTHING, Blocks, Ranges, blocks_of, inside, keys_of, size_of
from ..targets.hostspace import WHOLE, HostSpace, Shard
from ..targets.order import Order
from ..targets.ports import format_ports, parse_ports
from ..targets.spaces import MOST_PORTS, MOST_SETS, Runs, Spaces
from .messages import BadMessage, Message, decode, encode

_SENT = ("retries", "max_missed", "max_missed_share", "timeout", "ttl", "tos", "options")  # of the configuration
_WORD, _LONG, _SHORT, _KEY = np.dtype("<u4"), np.dtype("<i8"), np.dtype("<u2"), np.dtype("S16")
MOST_HOSTS = 1 << 20  # of a piece
_MAPPED = Blocks(
    NOTHING.ipv4,
    keys_of(np.zeros(2, np.uint64), np.array([FIRST_IPV4, LAST_IPV4 + 1], np.uint64)),
)


class Job(NamedTuple):
    """A scan for a fleet. `auto`: the rate is found by each worker, and leases only bound it."""

    scan: str
    verb: str
    spaces: Spaces
    order_key: int
    config: SynConfig
    auto: bool
    shard: Shard = WHOLE
    silent: bool = True
    only_open: bool = False

    @property
    def order(self) -> Order:
        """The order in which positions of pieces count."""
        return Order(self.spaces, self.order_key, self.shard)

    def as_message(self) -> bytes:
        """The document that `job_of` reads."""
        config: dict[str, Any] = {name: getattr(self.config, name) for name in _SENT}
        return encode(
            "job", scan=self.scan, verb=self.verb, order_key=str(self.order_key), shard=list(self.shard),
            config={"auto": self.auto, **config}, silent=self.silent, only_open=self.only_open,
            targets=_columns(self.spaces),
        )  # fmt: skip


def digest(document: bytes) -> str:
    """The name of a job: 64 hexadecimal digits that only this document has."""
    return hashlib.sha256(document).hexdigest()


def job_of(document: bytes) -> Job:
    """What `as_message` gave. Raises BadMessage for anything else."""
    message = decode(document, "job")
    try:
        return _job(message)
    except (UsageError, ValueError, OverflowError) as error:
        raise BadMessage(str(error)) from error


def _job(message: Message) -> Job:
    settings = dict(message["config"])
    auto = settings.pop("auto")
    if len(message["shard"]) != 2 or message["shard"][0] > message["shard"][1]:
        raise BadMessage("its shard is none")
    return Job(
        message["scan"], message["verb"], _spaces(message["targets"]), int(message["order_key"]),
        SynConfig(**settings), auto, Shard(*message["shard"]), message["silent"], message["only_open"],
    )  # fmt: skip


def _columns(spaces: Spaces) -> dict[str, Any]:
    blocks, runs = spaces.hosts.blocks, spaces.runs
    return {
        "ipv4": _text(blocks.ipv4.astype(_WORD)),
        "ipv6": _text(blocks.ipv6),
        "ports": [format_ports(ports) for ports in spaces.sets],
        "first": _text(runs.first.astype(_LONG)) if runs else "",
        "set": _text(runs.ports.astype(_SHORT)) if runs else "",
    }


def _text(column: npt.NDArray[Any]) -> str:
    return b64encode(column.tobytes()).decode("ascii")


def _column(text: str, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """Raises ValueError for what is no such column."""
    return np.frombuffer(b64decode(text, validate=True), kind)


def _spaces(columns: dict[str, Any]) -> Spaces:
    """The hosts and their ports. Raises ValueError, UsageError or OverflowError."""
    ipv4, ipv6 = _column(columns["ipv4"], _WORD).astype(np.uint32), _column(columns["ipv6"], _KEY)
    if not (_ascending(ipv4) and _ascending(ipv6)):
        raise BadMessage("its addresses are not in order")
    if size_of(inside(Blocks(NOTHING.ipv4, ipv6), _MAPPED)):
        raise BadMessage("its IPv6 addresses hold IPv4 ones")
    hosts = HostSpace(Blocks(ipv4, ipv6))
    sets = [parse_ports(text) for text in columns["ports"]]
    first, numbers = _column(columns["first"], _LONG).astype(np.int64), _column(columns["set"], _SHORT)
    if not (hosts.size and 1 <= len(sets) <= MOST_SETS and sum(map(len, sets)) <= MOST_PORTS):
        raise BadMessage("it has no hosts, no ports, or too many of them")
    if len(sets) == 1 and not len(first) and not len(numbers):
        return Spaces(hosts, sets)
    runs = len(first) == len(numbers) > 0 and not first[0] and _ascending(first) and first[-1] < hosts.size
    if not runs or len(np.unique(numbers)) != len(sets) or numbers.max() >= len(sets):
        raise BadMessage("its runs of hosts with the same ports are not in order")
    return Spaces(hosts, sets, Runs(first, numbers.astype(np.uint16)))


def _ascending(column: npt.NDArray[Any]) -> bool:
    return bool((column[1:] > column[:-1]).all())


def piece_of(job: Job, order: Order, first: int, size: int) -> Spaces:
    """The hosts of a piece with their ports. Raises BadMessage where the scan has no such hosts."""
    if not 0 < size <= MOST_HOSTS or first + size > order.extent.hosts:
        raise BadMessage("the scan has no such piece")
    hosts = order.hosts_at(np.arange(first, first + size))
    four = is_ipv4(hosts)
    words, keys = hosts["lo"][four].astype(np.uint32), keys_of(hosts["hi"][~four], hosts["lo"][~four])
    return job.spaces.within(HostSpace(blocks_of(Ranges(np.stack([words, words], 1), np.stack([keys, keys], 1)))))
