"""Interface and neighbour facts, asked of the kernel.

A scanner must know what it sends from: the interface's link type and MAC address, our addresses, the counters that
betray frames dropped in silence. All of it comes from routing netlink. Each question opens a socket of its own and
closes it: a netlink socket belongs to the namespace its thread was in when it was created, so the answer is always
about the namespace the caller is in now, with no cache to go stale.

Limit: an answer is the state of one moment. An interface that goes away during a scan is noticed by whoever sends
on it, not here.

Source: rtnetlink(7); RFC 3549.
"""

import errno
import os
import socket
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import ScanError, UsageError
from . import netlink
from .netlink import Address, InterfaceAddress, Message

_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_READ = 1 << 18  # more than the kernel puts into one datagram of a dump (32 KiB)
_BATCH = 32  # questions in flight: their answers must fit into the default receive buffer (4 KiB charged for each)
_DUMP_TRIES = 5  # a dump during which the table changed says so; a table that never rests is taken as it is
_NOT_BUILT_IN = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT)  # a table that this kernel does not have is an empty one
# The order of rtnl_link_stats64 (include/uapi/linux/if_link.h).
_STATS = ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped")


@dataclass(frozen=True)
class Interface:
    """One interface. `kind` is its ARPHRD number (1 Ethernet, 772 loopback, 65534 none), `mtu` in bytes."""

    name: str
    index: int
    mac: bytes | None
    kind: int
    mtu: int
    up: bool
    loopback: bool
    addresses: tuple[InterfaceAddress, ...]


class Counters(NamedTuple):
    """What an interface has counted since it was made, in packets."""

    tx_packets: int
    tx_dropped: int
    tx_errors: int
    rx_packets: int
    rx_dropped: int


class Refused(NamedTuple):
    """The kernel's error number in place of an answer."""

    errno: int


def interfaces() -> dict[int, Interface]:
    """Every interface of this namespace, by index."""
    addresses: dict[int, list[InterfaceAddress]] = defaultdict(list)
    for message in dump(netlink.RTM_GETADDR, netlink.ADDR.pack(0, 0, 0, 0, 0)):
        pair = netlink.interface_address(message.body)
        if pair is not None:
            addresses[pair[0]].append(pair[1])
    found = (netlink.link(message.body) for message in dump(netlink.RTM_GETLINK, netlink.LINK.pack(0, 0, 0, 0, 0)))
    return {facts.index: _interface(facts, addresses[facts.index]) for facts in found}


def _interface(facts: netlink.LinkFacts, addresses: list[InterfaceAddress]) -> Interface:
    return Interface(
        name=facts.name,
        index=facts.index,
        mac=facts.mac,
        kind=facts.kind,
        mtu=facts.mtu,
        up=bool(facts.flags & _IFF_UP),
        loopback=bool(facts.flags & _IFF_LOOPBACK),
        addresses=tuple(addresses),
    )


def interface(name: str) -> Interface:
    """The interface called `name`. Raises UsageError, with the names there are, if there is none."""
    everything = {each.name: each for each in interfaces().values()}
    if name not in everything:
        raise UsageError(f"no interface {name!r} here; -e takes one of: {', '.join(sorted(everything))}")
    return everything[name]


def tx_counters(index: int) -> Counters:
    """The counters of one interface (IFLA_STATS64). Raises ScanError if it has gone."""
    [answer] = ask([netlink.request(netlink.RTM_GETLINK, netlink.LINK.pack(0, 0, index, 0, 0))])
    if isinstance(answer, Refused):
        raise ScanError(f"interface number {index} cannot be read ({os.strerror(answer.errno)}): is it gone?")
    stats = dict(zip(_STATS, netlink.link(answer.body).stats, strict=False))
    return Counters(*(stats[field] for field in Counters._fields))


def neighbours(index: int) -> dict[Address, bytes]:
    """Address → MAC address, as the kernel has them for one interface; a fact to compare with, it may be stale."""
    header = netlink.NEIGHBOUR.pack(0, 0, 0, 0, 0)
    found = [netlink.neighbour(message.body) for message in dump(netlink.RTM_GETNEIGH, header)]
    return {each[1]: each[2] for each in found if each is not None and each[0] == index}


def dump(kind: int, header: bytes) -> list[Message]:
    """Every message of a table. Raises ScanError if the kernel refuses."""
    asked = netlink.request(kind, header, flags=netlink.NLM_F_DUMP)
    answer: list[Message] = []
    for _ in range(_DUMP_TRIES):
        with closing(_open()) as kernel:
            kernel.send(asked)
            answer = list(_until_done(kernel))
        if not any(message.flags & netlink.NLM_F_DUMP_INTR for message in answer):
            break
    return answer


def _until_done(kernel: socket.socket) -> Iterator[Message]:
    while True:
        for message in netlink.messages(kernel.recv(_READ)):
            if message.kind not in (netlink.NLMSG_DONE, netlink.NLMSG_ERROR):
                yield message
                continue
            failed = netlink.error_number(message.body)
            if failed and failed not in _NOT_BUILT_IN:
                raise ScanError(f"the kernel does not list its tables: {os.strerror(failed)}")
            return


def ask(requests: Sequence[bytes]) -> list[Message | Refused]:
    """One answer, or refusal, to each request; in the order of the requests, which must not be dumps."""
    answers: list[Message | Refused] = []
    with closing(_open()) as kernel:
        for at in range(0, len(requests), _BATCH):
            batch = requests[at : at + _BATCH]
            kernel.send(b"".join(batch))
            answers += _answers(kernel, len(batch))
    return answers


def _answers(kernel: socket.socket, wanted: int) -> list[Message | Refused]:
    found: list[Message | Refused] = []
    while len(found) < wanted:  # the kernel answers in order, each request with exactly one message
        for message in netlink.messages(kernel.recv(_READ)):
            failed = message.kind == netlink.NLMSG_ERROR
            found.append(Refused(netlink.error_number(message.body)) if failed else message)
    return found


def _open() -> socket.socket:
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    except OSError as error:
        raise ScanError(f"no netlink socket ({error.strerror}): interfaces and routes cannot be read here") from error
