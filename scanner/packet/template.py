"""Frames by Scapy: the only place that asks Scapy how a packet looks.

A recipe is plain data and a frame is bytes. The fields that differ from frame to frame are zero; `probe` stamps them.
Scapy is imported by the first frame, not before, and without its routing tables, which nothing here needs.

Importing Scapy takes 70 to 90 ms, a fifth of the time from the command to the first SYN. So the command forks at its
very start (`building_ahead`): the child imports Scapy on another core and answers recipes with frames, while the
command reads options, asks for routes and sets up rings. Callers of `build` do not see the difference. If there is no
child, or it has ended, the frame is built in this process; that costs only time.

Limit: `building_ahead` forks, so it is only for a program that has no threads yet. The library never calls it.
"""

import marshal
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, NoReturn

_MSS = {4: 1460, 6: 1440}  # what fits into 1500 bytes beside the headers of IP and TCP
_BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"
_NO_MAC = "00:00:00:00:00:00"
TOS_LOWER_EFFORT = 0x04  # DSCP LE, RFC 8622
_WINDOW = 64240  # of a SYN, as Linux sends it
_LONGEST_MESSAGE = 4096
_IDLE_SECONDS = 5.0  # after that the child ends; all frames of a scan are built within a few milliseconds
_child: socket.socket | None = None  # the socket to the child, while there is one


class Recipe(NamedTuple):
    """What to build: `kind` is syn, syn-ack, reset or query.

    `address` and `mac` are ours, as text; without `mac` the frame begins with the IP header. `options` (one of
    `config.OPTION_SETS`) are for syn only; `ttl` and `tos` for all but query.
    """

    kind: str
    version: int
    address: str
    mac: str | None
    options: str = "os"
    ttl: int = 64
    tos: int = TOS_LOWER_EFFORT


def build(recipe: Recipe) -> bytes:
    """The frame, with every field zero that is still to be stamped, and with checksums of zero."""
    if _child is not None:
        with suppress(OSError):  # the child has ended
            _child.send(marshal.dumps(tuple(recipe)))
            frame = _child.recv(_LONGEST_MESSAGE)
            if frame:
                return frame
    return _frame(recipe)


@contextmanager
def building_ahead(prepare: Callable[[], None] = lambda: None) -> Iterator[None]:
    """While the context lasts, frames come from a child process if possible. To be entered before any thread starts.

    The child calls `prepare` first.
    """
    global _child
    _child, pid = _start(prepare) if len(os.sched_getaffinity(0)) > 1 and threading.active_count() == 1 else (None, 0)
    try:
        yield
    finally:
        if _child is not None:
            _child.close()
            _child = None
            os.kill(pid, signal.SIGKILL)  # it may still be importing, if the command was refused early
            os.waitpid(pid, os.WNOHANG)  # this process ends now, and leaves the child to the system


def _start(prepare: Callable[[], None]) -> tuple[socket.socket | None, int]:
    """Fork the child: the socket to it and its process number; None where the system allows no more of them."""
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        return None, 0
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        return None, 0
    else:
        if not pid:
            ours.close()
            _serve(theirs, prepare)
        return ours, pid
    finally:
        theirs.close()


def _serve(requests: socket.socket, prepare: Callable[[], None]) -> NoReturn:
    """The child: import Scapy, then answer recipes until none has come for a while. Ctrl-C is left to the parent."""
    try:
        prepare()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # These two frames import every layer that the others need.
        _frame(Recipe("query", 6, "::", _NO_MAC))
        _frame(Recipe("syn", 4, "0.0.0.0", None))
        requests.settimeout(_IDLE_SECONDS)
        with suppress(TimeoutError):
            while request := requests.recv(_LONGEST_MESSAGE):
                requests.send(_frame(Recipe(*marshal.loads(request))))
    except BaseException as error:
        print(f"halfopen: Scapy's helper process: {error!r}", file=sys.stderr)
    finally:
        os._exit(0)


def _frame(recipe: Recipe) -> bytes:
    _without_routes()
    return bytes(_query(recipe) if recipe.kind == "query" else _segment(recipe))


def _without_routes() -> None:
    """Keep Scapy from reading the routing tables when it is imported."""
    from scapy.config import conf

    conf.route_autoload = conf.route6_autoload = False


def _segment(recipe: Recipe) -> Any:
    """A SYN; the SYN/ACK that answers a bare SYN; the reset that answers a SYN/ACK.

    RFC 9293 3.10.7.3: the sequence number of the SYN/ACK is that of the SYN, and that of the reset is the segment's
    acknowledgement.
    """
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    mss = ("MSS", _MSS[recipe.version])
    sets = {
        "os": [mss, ("SAckOK", b""), ("Timestamp", (0, 0)), ("NOP", None), ("WScale", 7)],
        "mss": [mss],
        "none": [],
    }
    kinds = {"syn": ("S", _WINDOW, sets[recipe.options]), "syn-ack": ("SA", _WINDOW, [mss]), "reset": ("R", 0, [])}
    flags, window, options = kinds[recipe.kind]
    tcp = TCP(sport=0, dport=0, seq=0, flags=flags, window=window, options=options, chksum=0)
    if recipe.version == 4:
        packet = IP(src=recipe.address, dst="0.0.0.0", ttl=recipe.ttl, tos=recipe.tos, id=0, flags="DF", chksum=0) / tcp
    else:
        packet = IPv6(src=recipe.address, dst="::", hlim=recipe.ttl, tc=recipe.tos) / tcp
    return packet if recipe.mac is None else Ether(src=recipe.mac, dst=_NO_MAC) / packet


def _query(recipe: Recipe) -> Any:
    """ARP (RFC 826) or neighbour solicitation (RFC 4861 4.3), sent from our address."""
    from scapy.layers.l2 import ARP, Ether

    if recipe.version == 4:
        request = ARP(op=1, hwsrc=recipe.mac, psrc=recipe.address, hwdst=_NO_MAC, pdst="0.0.0.0")
        return Ether(src=recipe.mac, dst=_BROADCAST_MAC) / request
    from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6

    body = ICMPv6ND_NS(tgt="::", cksum=0) / ICMPv6NDOptSrcLLAddr(lladdr=recipe.mac)
    # Only a hop limit of 255 proves that no router forwarded it (RFC 4861 7.1.1).
    packet = IPv6(src=recipe.address, dst="::", hlim=255) / body
    return Ether(src=recipe.mac, dst="33:33:ff:00:00:00") / packet


def frame_summary(frame: bytes, ethernet: bool) -> str:
    """One line about any frame, as Scapy summarises it; without a link header it begins with IP."""
    _without_routes()
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    kind = Ether if ethernet else IPv6 if frame[:1] and frame[0] >> 4 == 6 else IP
    return str(kind(frame).summary())
