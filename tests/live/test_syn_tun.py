"""A scan over an interface without link headers (a tun, as VPNs use): frames begin with IP; there are no MAC addresses.

The far side is this process. It reads raw packets from the tun's file descriptor and answers as a host on which every
fourth port is open and the other even ports are silent; the odd ports are closed.
"""

import fcntl
import os
import select
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from scanner.lab import Namespace
from tests.lab.live import OBSTACLE
from tests.live.syn_wire import RST, SYN, SYN_ACK, command, done, environment
from tests.processes import PATIENCE

OBSTACLE = OBSTACLE or (None if os.access("/dev/net/tun", os.R_OK | os.W_OK) else "no /dev/net/tun that may be opened")
pytestmark = [pytest.mark.live, pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE))]

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x4004_54CA, 0x0001, 0x1000  # include/uapi/linux/if_tun.h
PORTS = range(1, 401)


def truth(port: int) -> tuple[int, str, str, int | None]:
    """(port, state, reason, ttl)"""
    if port % 4 == 0:
        return port, "open", "syn-ack", 50
    return (port, "closed", "reset", 50) if port % 2 else (port, "filtered", "no-response", None)


def answer(packet: bytes, heard: Counter[tuple[int, int]]) -> bytes | None:
    """The answer of the far side to one packet, if any; `heard` counts TCP packets by (flags, target port)."""
    four = packet[0] >> 4 == 4
    at = 20 if four else 40
    if packet[9 if four else 6] != 6:
        return None
    sport, dport, seq, _, _, flags = struct.unpack("!HHIIBB", packet[at : at + 14])
    heard[flags, dport] += 1
    state = truth(dport)[1]
    if flags != SYN or state == "filtered":
        return None
    reply = SYN_ACK if state == "open" else 0x14
    tcp = struct.pack("!HHIIBBHHH", dport, sport, 999, (seq + 1) & 0xFFFF_FFFF, 0x50, reply, 1000, 0, 0)
    if not four:
        return packet[:4] + struct.pack("!HBB", 20, 6, 50) + packet[24:40] + packet[8:24] + tcp
    header = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0x4000, 50, 6, 0) + packet[16:20] + packet[12:16]
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return header[:10] + struct.pack("!H", total) + header[12:] + tcp


@contextmanager
def far_side(namespace: Namespace) -> Iterator[Counter[tuple[int, int]]]:
    """tun0 in the namespace, with a thread as the host behind it; yields the packets that arrived there."""
    with namespace.entered():
        tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
    addresses = ["addr add 198.18.9.1/24 dev tun0", "addr add 2001:db8:9::1/64 dev tun0 nodad"]
    namespace.ip(["link set lo up", "link set tun0 up", *addresses])
    heard: Counter[tuple[int, int]] = Counter()
    woken, wake = os.pipe()

    def serve() -> None:
        while woken not in select.select([tun, woken], [], [])[0]:
            reply = answer(os.read(tun, 2048), heard)
            if reply:
                os.write(tun, reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        os.write(wake, b"x")
        thread.join()
        for each in (tun, wake, woken):
            os.close(each)


@pytest.mark.parametrize("address", ["198.18.9.7", "2001:db8:9::7"])
def test_a_tun_is_scanned_without_neighbour_discovery(address: str) -> None:
    with Namespace.create() as namespace, far_side(namespace) as heard:
        line = command(address, "-p", f"{PORTS[0]}-{PORTS[-1]}", "--rate", "5000")
        process = namespace.popen(line, env=environment(), stdout=-1, stderr=-1)
        out, errors = process.communicate(timeout=PATIENCE)
    ended = done(process.returncode, out.decode(), errors.decode())
    expected = sorted((truth(port) for port in PORTS), key=repr)
    assert (ended.code, ended.brief("port", "state", "reason", "ttl")) == (0, expected)
    syns = {port: heard[SYN, port] for port in PORTS}
    resets = {port: heard[RST, port] for port in PORTS}
    assert resets == {port: syns[port] if truth(port)[1] == "open" else 0 for port in PORTS}
