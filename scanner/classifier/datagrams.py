"""UDP datagrams: which of them are a scan, and which are ordinary traffic.

A datagram asks for nothing, so most programs that use UDP also send to hosts that never answer: to peers that have
left, to collectors of logs. Two things are left that only scanners do. One sends to `LOW_PORTS` ports below 1024 of one
host. The other sends to one port of `HOSTS` hosts, hardly any of which ever send from that port, although the capture
holds the way back and there is no TCP connection with them. Each target gets few datagrams.

What keeps others out: servers send from ports below 1024 (names, DHCP, QUIC), peers use one port on both sides (mesh
networks, discovery, gossip), file sharing and games use many high ports, and traceroute has ports of its own. A browser
behind a firewall without QUIC asks many hosts in vain, and speaks TCP with them. Where a capture holds one packet in
ten, answers and questions do not fit, but hosts do answer. So all hosts count that send from the port.

Limits: scans of a few high ports are not told, and neither are those of many hosts in a capture of one direction. A
flood of datagrams to all ports of a host looks like a scan. Memory: about 60 bytes a sender, host and port, and twice
that while the tables grow.
"""

from collections.abc import Iterable

import numpy as np

from ..capture.source import NO_TIME
from ..packet.addresses import is_ipv4
from ..packet.headers import U64, Bools, Ints, Rows
from ..packet.unread import Datagrams
from .addresses import AddressSet, among
from .conversations import NEVER, Conversations, Scanned
from .keys import AddressNumbers, Numbering, TargetKey, grown, target_key

LOW_PORTS, HOSTS = 10, 64
MOST_EACH = 3  # datagrams to a target, on average
_FEW = 10  # at most one target in so many sends anything
_SYSTEM_PORTS = 1024
_TRACEROUTE = range(33434, 33690)  # ports of traceroute: one more for each datagram
_GROUPS4, _GROUPS6 = 0xE000_0000, np.uint64(0xFF)  # multicast and broadcast: 224.0.0.0 and above, ff00::/8
_ASKED = np.dtype([("first", "i8"), ("last", "i8"), ("packets", "u4"), ("heard", "?")], align=True)  # times in ns
_BLANK = np.array((NEVER, -NEVER, 0, False), _ASKED)


class Questions:
    """Datagrams by sender, host and port, and which hosts sent something from that port."""

    def __init__(self) -> None:
        self._numbers = Numbering()
        self._asked = np.zeros(0, _ASKED)

    def add(self, parts: Iterable[Datagrams], addresses: AddressNumbers) -> None:
        """Take in datagrams."""
        for datagrams in parts:
            self._add(datagrams, addresses)

    def _add(self, datagrams: Datagrams, addresses: AddressNumbers) -> None:
        src, dst = (addresses.numbers(each, tunnel=datagrams.tunnel) for each in (datagrams.src, datagrams.dst))
        sport, dport = datagrams.sport, datagrams.dport
        may_ask = (sport >= _SYSTEM_PORTS) & (sport != dport) & ~_to_group(datagrams.dst)
        may_ask &= (dport < _TRACEROUTE.start) | (dport >= _TRACEROUTE.stop)
        row = np.flatnonzero(may_ask)
        number = self._intern(TargetKey(src[row], dst[row], dport[row]))
        asked, time = self._asked, datagrams.time[row]
        np.minimum.at(asked["first"], number, np.where(time == NO_TIME, NEVER, time))
        np.maximum.at(asked["last"], number, np.where(time == NO_TIME, -NEVER, time))
        np.add.at(asked["packets"], number, np.uint32(1))
        row = np.flatnonzero(dport >= _SYSTEM_PORTS)  # questions come from such ports
        number = self._intern(TargetKey(dst[row], src[row], sport[row]))
        self._asked["heard"][number] = True

    def scanned(self, reached: AddressSet, conversations: Conversations) -> Scanned:
        """What was scanned. `reached`: addresses that something was sent to."""
        key = target_key(self._numbers.keys)
        row = np.flatnonzero(_busy(key.us))  # a flood from millions of addresses is none
        us, them, port = key.us[row], key.them[row], np.asarray(key.port[row], np.int64)
        asked = self._asked[row]
        chosen = _chosen(us, them, asked, port < _SYSTEM_PORTS, LOW_PORTS)
        rest = np.flatnonzero(~chosen & reached.has(us))
        chosen[rest] = self._wide(us[rest], them[rest], port[rest], asked[rest], conversations)
        chosen &= (asked["packets"] > 0) & ~asked["heard"]
        found = asked[chosen]
        times = found["first"], found["last"]
        return Scanned(us[chosen], them[chosen], port[chosen], *times, found["packets"].astype(np.int64))

    def _wide(self, us: Ints, them: Ints, port: Ints, asked: Rows, conversations: Conversations) -> Bools:
        """Rows of scans of one port of many hosts."""
        key = target_key(self._numbers.keys)
        sent = among(key.them, us) & (self._asked["packets"][: self._numbers.count] > 0)
        back = key.them[sent], np.asarray(key.port[sent], np.int64)  # peers of a tunnel send to one port both ways
        alone = ~_connected(us, them, conversations)
        return _chosen(us, port, asked, alone, HOSTS, back) & alone & _main(us, port, asked)

    def _intern(self, key: TargetKey) -> Ints:
        before, number = self._numbers.count, self._numbers.intern(*key.words())
        self._asked = grown(self._asked, self._numbers.count)
        self._asked[before : self._numbers.count] = _BLANK
        return number


def _to_group(address: Rows) -> Bools:
    """Which addresses are those of a group or broadcast."""
    low = address["lo"] & np.uint64(0xFFFF_FFFF)
    return np.where(is_ipv4(address), low >= _GROUPS4, address["hi"] >> np.uint64(56) == _GROUPS6)


def _busy(us: Ints) -> Bools:
    """Which senders have asked for so many targets that they may have scanned one host."""
    ordered = np.sort(us)
    begin = np.flatnonzero(np.diff(ordered, prepend=-1))
    return among(us, ordered[begin][np.diff(begin, append=len(us)) >= LOW_PORTS])


def _words(a: Ints, b: Ints) -> tuple[U64, U64]:
    return a.astype(np.uint64), b.astype(np.uint64)


def _chosen(us: Ints, of: Ints, asked: Rows, counts: Bools, least: int, back: tuple[Ints, Ints] | None = None) -> Bools:
    """Rows of those (us, of) that have at least so many targets that count, few datagrams each, and few that speak.

    `back`: further (us, of), one for each target that speaks.
    """
    groups = Numbering()
    group, n = groups.intern(*_words(us, of)), groups.count
    sent = counts & (asked["packets"] > 0)
    targets = np.bincount(group[sent], minlength=n)
    heard = np.bincount(group[counts & asked["heard"]], minlength=n)
    if back is not None:
        speaking = groups.find(*_words(*back))
        heard += np.bincount(speaking[speaking >= 0], minlength=n)
    packets = np.bincount(group, np.where(sent, asked["packets"], 0), n)
    scan = (targets >= least) & (heard * _FEW <= targets) & (packets <= MOST_EACH * targets)
    return np.asarray(scan[group])


def _main(us: Ints, port: Ints, asked: Rows) -> Bools:
    """Rows of ports to which a sender has sent at least half of all."""
    sent = (asked["packets"] > 0).astype(np.float64)
    sender, group = (Numbering().intern(*_words(us, of)) for of in (np.zeros_like(us), port))
    return np.asarray(2 * np.bincount(group, sent)[group] >= np.bincount(sender, sent)[sender])


def _connected(us: Ints, them: Ints, conversations: Conversations) -> Bools:
    """Which pairs of hosts have a TCP connection."""
    a, b = conversations.pairs()
    wanted = among(a, us) | among(b, us)
    a, b = a[wanted], b[wanted]
    pairs = Numbering()
    pairs.intern(*_words(np.minimum(a, b), np.maximum(a, b)))
    return pairs.find(*_words(np.minimum(us, them), np.maximum(us, them))) >= 0
