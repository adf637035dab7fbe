"""Helpers of the live tests of the half-open scan: the scan as a program, and a tap on the wire.

The scan runs as users run it: a process with arguments and lines of output. The tests compare its output with what a
packet socket saw at the target's interface. That socket does not use the scanner's field tables, so the offsets are
written here a second time.
"""

import json
import os
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scanner.lab import Box
from scanner.lab.box import INTERFACE, PEER

ROOT = str(Path(__file__).resolve().parents[2])
SYN, RST, SYN_ACK = 0x02, 0x04, 0x12
# A broadcast of an EtherType for experiments (IEEE 802): no host answers it.
_MARKER = bytes.fromhex("ffffffffffff02000000000188b5")
_PACKET_OUTGOING, _SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 4, 35, 33

Row = dict[str, Any]


class Done(NamedTuple):
    """A finished scan."""

    code: int
    rows: list[Row]
    errors: list[str]  # lines of stderr

    def brief(self, *columns: str) -> list[tuple[Any, ...]]:
        """The rows, sorted, as tuples of some columns (lists become tuples, what is missing None)."""
        picked = [tuple(_frozen(row.get(column)) for column in columns) for row in self.rows]
        return sorted(picked, key=repr)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def command(*arguments: str, verb: str = "syn") -> list[str]:
    """`halfopen syn …`, or another verb, with JSON lines."""
    return [sys.executable, "-m", "scanner", verb, "-f", "jsonl", *arguments]


def environment() -> dict[str, str]:
    """Ours, with this very package found first."""
    return os.environ | {"PYTHONPATH": ROOT}


def done(code: int, out: str, errors: str) -> Done:
    """The output of a finished process; every line of it must be valid JSON."""
    return Done(code, [json.loads(line) for line in out.splitlines()], errors.splitlines())


def scan(box: Box, *arguments: str, under: Sequence[str] = (), verb: str = "syn") -> Done:
    """A whole scan in the scanner's namespace; `under` is a program that starts it (setpriv …)."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = ROOT
    try:
        ended = box.scanner.run([*under, *command(*arguments, verb=verb)])
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return done(ended.returncode, ended.stdout, ended.stderr)


class Segment(NamedTuple):
    """One TCP segment on the wire."""

    time: int  # ns
    out: bool  # sent by the side that is tapped
    src: bytes
    dst: bytes
    ttl: int
    tos: int
    sport: int
    dport: int
    seq: int
    ack: int
    flags: int
    options: bytes


class Tap:
    """Every frame that crosses the target's interface, kept by the kernel until it is read.

    A frame that the scanner has sent may still be under way. So each reading first sends a marker from the scanner's
    interface and reads until it arrives, twice: the wire with faults may put the first one before the frames of its
    batch, but not the second one.
    """

    def __init__(self, box: Box) -> None:
        with box.target.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        with box.scanner.entered():
            self._marker = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._marker.bind((INTERFACE, 0))
        self._markers = 0
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        except PermissionError:  # in a user namespace: as much as anybody may have
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.bind((PEER, 3))
        self._socket.settimeout(60)

    def frames(self) -> list[tuple[int, bool, bytes]]:
        """(time in ns, sent from here, bytes) of each frame since the last call."""
        return self._until_marked() + self._until_marked()

    def _until_marked(self) -> list[tuple[int, bool, bytes]]:
        self._markers += 1
        marker = _MARKER + self._markers.to_bytes(46, "big")
        self._marker.send(marker)
        found: list[tuple[int, bool, bytes]] = []
        while True:
            frame, extra, _, origin = self._socket.recvmsg(2048, 256)
            if frame == marker:
                return found
            seconds, nanoseconds = struct.unpack("qq", extra[0][2])
            found.append((seconds * 1_000_000_000 + nanoseconds, origin[2] == _PACKET_OUTGOING, frame))

    def segments(self) -> list[Segment]:
        """The TCP segments among the frames since the last call."""
        parsed = [tcp(frame, time, out) for time, out, frame in self.frames()]
        return [each for each in parsed if each is not None]

    def probes(self) -> int:
        """How many of the frames since the last call a scanner may have sent: TCP, ARP, neighbour solicitations."""
        kinds = [(frame[12:14], frame[20:21], frame[54:55]) for _, out, frame in self.frames() if not out]
        tcp_or_arp = [kind in ((b"\x08\x00"), (b"\x08\x06")) or upper == b"\x06" for kind, upper, _ in kinds]
        return sum(tcp_or_arp) + sum(upper == b"\x3a" and icmp == b"\x87" for _, upper, icmp in kinds)

    def close(self) -> None:
        self._marker.close()
        self._socket.close()

    def __enter__(self) -> "Tap":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def tcp(frame: bytes, time: int = 0, out: bool = False) -> Segment | None:
    """The TCP segment in an Ethernet frame without IP options or extension headers; None: there is none."""
    if frame[12:14] == b"\x08\x00" and frame[23] == 6:
        src, dst, ttl, tos, at = frame[26:30], frame[30:34], frame[22], frame[15], 34
    elif frame[12:14] == b"\x86\xdd" and frame[20] == 6:
        src, dst, ttl, tos, at = frame[22:38], frame[38:54], frame[21], (frame[14] & 15) << 4 | frame[15] >> 4, 54
    else:
        return None
    sport, dport, seq, ack, offset, flags = struct.unpack("!HHIIBB", frame[at : at + 14])
    return Segment(
        time, out, src, dst, ttl, tos, sport, dport, seq, ack, flags, frame[at + 20 : at + (offset >> 4) * 4]
    )
