"""A transport that discards frames and delivers prepared ones: the scan without a kernel.

The cost per probe and per reply is that of the scan's own code, through its own `step`, on a wire that costs
nothing. Frames can be kept, to make answers to exactly these probes (`answers_to`). The rows have the size of a ring's
slots, because the distance between frames is part of the cost of a memory access.
"""

import numpy as np
import numpy.typing as npt

from scanner.halfopen.lane import Lane
from scanner.packet import probe
from scanner.packet.addresses import from_text
from scanner.packet.cookie import Key
from scanner.packet.headers import ACK, ETHERNET, IPV4, LINK_ETHERNET, RST, SYN, TCP, Bytes, Frames, overlay
from scanner.packet.template import Recipe
from scanner.targets.spaces import Spaces
from scanner.targets.spec import parse_hosts
from scanner.transport import Drops

KEY = Key(0x0706050403020100, 0x0F0E0D0C0B0A0908)
SLOT, AT = 256, 82  # of a receive ring: where a frame begins in its slot
BATCH = 8192  # frames that a ring hands over at once, at most


class Sink:
    """Sends to nowhere; `replies` are what `recv` gives, batch by batch; `kept` holds the frames if `keep`."""

    link = LINK_ETHERNET

    def __init__(self, keep: bool = False) -> None:
        self.replies: list[Frames] = []
        self.kept: list[Bytes] = []
        self.count = 0
        self._keep = keep
        self._rows: Bytes = np.zeros((BATCH, SLOT), np.uint8)

    def reserve(self, limit: int) -> Bytes:
        return self._rows[:limit]

    def commit(self, rows: int, length: int) -> None:
        self.count += rows
        if self._keep:
            self.kept.append(self._rows[:rows, :length].copy())

    def sent(self) -> int:
        return self.count

    def recv(self) -> Frames:
        return self.replies.pop() if self.replies else _NO_FRAMES

    def fileno(self) -> int:
        return -1

    def refused(self) -> dict[int, str]:
        return {}

    def drops(self) -> Drops:
        return Drops()

    def close(self) -> None:
        pass


def lane_of(
    spec: str, ports: int, options: str = "os", sink: Sink | None = None, macs: tuple[str, str] | None = None
) -> Lane:
    """A lane to all hosts of `spec`, ports 1 … `ports`, with an Ethernet header and without any address to resolve."""
    ours, theirs = macs or ("02:00:00:00:00:01", "02:00:00:00:00:02")
    version, address = (6, "2001:db8::1") if ":" in spec else (4, "198.18.0.1")
    sender = (version, address, ours)
    lane = Lane(
        name="none",
        version=version,
        spaces=Spaces(parse_hosts([spec], [], lambda name: []), [np.arange(1, ports + 1, dtype=np.uint16)]),
        transport=sink or Sink(),
        our_address=from_text(address),
        pass_ports=tuple(range(40000, 40012)),
        probe=probe.prepare(Recipe("syn", *sender, options)),
        reset=probe.prepare(Recipe("reset", *sender)),
        syn_ack=probe.prepare(Recipe("syn-ack", *sender)),
        key=KEY,
        order_key=7,
    )
    lane.next_hop(bytes.fromhex(theirs.replace(":", "")))
    return lane


def answers_to(probes: list[Bytes], share_open: float) -> list[Frames]:
    """Receive-ring batches that answer IPv4 probes over Ethernet: SYN/ACK for that share, RST/ACK for the rest."""
    every = np.concatenate(probes)
    return [_answer(every[at : at + BATCH], share_open) for at in range(0, len(every), BATCH)]


def _answer(probes: Bytes, share_open: float) -> Frames:
    n = len(probes)
    slots = np.zeros((n, SLOT), np.uint8)
    length = ETHERNET.itemsize + IPV4.itemsize + TCP.itemsize
    frame = slots[:, AT : AT + length]
    frame[:] = probes[:, :length]
    ethernet, ip = overlay(frame, 0, ETHERNET), overlay(frame, ETHERNET.itemsize, IPV4)
    tcp = overlay(frame, ETHERNET.itemsize + IPV4.itemsize, TCP)
    for header, one, other in ((ethernet, "src", "dst"), (ip, "src", "dst"), (tcp, "sport", "dport")):
        header[one], header[other] = header[other].copy(), header[one].copy()
    opened = np.arange(n) < share_open * n
    ip["total_length"] = IPV4.itemsize + TCP.itemsize
    tcp["ack"], tcp["seq"], tcp["offset"] = tcp["seq"] + np.uint32(1), 0x01020304, 0x50
    tcp["flags"], tcp["window"] = np.where(opened, SYN | ACK, RST | ACK), np.where(opened, 64240, 0)
    start = np.arange(n, dtype=np.int64) * SLOT + AT
    return Frames(slots.reshape(-1), start, np.full(n, length), np.full(n, 2_000_000, np.int64), _links(n))


def _links(n: int) -> npt.NDArray[np.uint16]:
    return np.full(n, LINK_ETHERNET, np.uint16)


_NONE = np.zeros(0, np.int64)
_NO_FRAMES = Frames(np.zeros(0, np.uint8), _NONE, _NONE, _NONE, _links(0))
