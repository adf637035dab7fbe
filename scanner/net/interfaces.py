"""Interfaces as the kernel describes them.

A scanner must know what it sends from: the link type and MAC address of the interface, our addresses, and the counters
that show frames dropped in silence. All of it comes from routing netlink. Each request opens a socket of its own and
closes it, because a netlink socket belongs to the namespace its thread was in when it was created. So the answer is
always about the caller's namespace of now, and no cache can be stale.

Limit: an answer is the state of one moment. An interface that goes away during a scan is noticed by the sender, not
here.

Source: rtnetlink(7); RFC 3549.
"""

import errno
import os
import socket
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from ..errors import ScanError, UsageError, cause_of
from . import netlink
from .netlink import Address, Interface, Message

_READ = 1 << 18  # more than the kernel puts into one datagram of a dump (32 KiB)
_BATCH = 32  # requests in flight: their answers must fit into the default receive buffer (4 KiB charged for each)
_DUMP_TRIES = 5  # the kernel marks a dump during which the table changed; after so many the last one is taken
_NOT_BUILT_IN = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT)  # a table that this kernel does not have is an empty one


class Refused(NamedTuple):
    """The kernel's error number in place of an answer."""

    errno: int


def interfaces() -> dict[int, Interface]:
    """Every interface of this namespace, by index."""
    addresses: dict[int, list[Address]] = defaultdict(list)
    for message in dump(netlink.RTM_GETADDR, netlink.ADDR.pack(0, 0, 0, 0, 0)):
        pair = netlink.interface_address(message.body)
        if pair is not None:
            addresses[pair[0]].append(pair[1])
    links = [netlink.link(message.body) for message in dump(netlink.RTM_GETLINK, netlink.LINK.pack(0, 0, 0, 0, 0))]
    return {link.index: replace(link, addresses=tuple(addresses[link.index])) for link in links}


def frames_dropped(indices: Collection[int]) -> int:
    """Frames to send that these interfaces, as far as they are still there, and their queues have dropped so far."""
    found = [(face.index, face.tx_dropped) for face in interfaces().values()]
    messages = dump(netlink.RTM_GETQDISC, netlink.QDISC.pack(0, 0, 0, 0, 0))
    found += [netlink.queue_drops(message.body) for message in messages]
    return sum(dropped for index, dropped in found if index in indices)


def interface(name: str) -> Interface:
    """The interface called `name`. Raises UsageError, with the names there are, if there is none."""
    by_name = {link.name: link for link in interfaces().values()}
    if name not in by_name:
        raise UsageError(f"no interface {name!r} here; -e takes one of: {', '.join(sorted(by_name))}")
    return by_name[name]


def dump(kind: int, header: bytes) -> list[Message]:
    """Every message of a table. Raises ScanError if the kernel refuses."""
    request = netlink.request(kind, header, flags=netlink.NLM_F_DUMP)
    answer: list[Message] = []
    for _ in range(_DUMP_TRIES):
        with closing(_open()) as kernel:
            kernel.send(request)
            answer = list(_until_done(kernel))
        if not any(message.flags & netlink.NLM_F_DUMP_INTR for message in answer):
            break
    return answer


def exchange(requests: Sequence[bytes]) -> list[Message | Refused]:
    """One answer, or refusal, to each request; in the order of the requests, which must not be dumps."""
    answers: list[Message | Refused] = []
    with closing(_open()) as kernel:
        for at in range(0, len(requests), _BATCH):
            batch = requests[at : at + _BATCH]
            kernel.send(b"".join(batch))
            # The kernel answers in order, each request with exactly one message.
            while len(answers) < at + len(batch):
                for message in netlink.messages(kernel.recv(_READ)):
                    refused = message.kind == netlink.NLMSG_ERROR
                    answers.append(Refused(netlink.error_number(message.body)) if refused else message)
    return answers


def _until_done(kernel: socket.socket) -> Iterator[Message]:
    while True:
        for message in netlink.messages(kernel.recv(_READ)):
            if message.kind not in (netlink.NLMSG_DONE, netlink.NLMSG_ERROR):
                yield message
                continue
            number = netlink.error_number(message.body)
            if number and number not in _NOT_BUILT_IN:
                raise ScanError(f"the kernel does not list its tables: {os.strerror(number)}")
            return


def _open() -> socket.socket:
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    except OSError as error:
        raise ScanError(f"interfaces and routes cannot be read: no netlink socket: {cause_of(error)}") from error


def source_of(text: str | None) -> IPv4Address | IPv6Address | None:
    """The address of `--source-ip`. Raises UsageError for what no host has."""
    if text is None:
        return None
    try:
        source = ip_address(text)
    except ValueError:
        raise UsageError(f"--source-ip {text!r} is not an address") from None
    if source.is_unspecified or source.is_multicast or int(source) == 0xFFFFFFFF:
        raise UsageError(f"--source-ip {source} is not the address of a host; leave it out or name one of this machine")
    return source
