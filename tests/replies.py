"""What hosts say to probes, for the network in memory (`tests/memory.py`): a `Host` is data, replies are columns.

One template is kept for each way to answer. A batch of replies is a copy of their rows with addresses, ports and
acknowledgements written into it. TCP checksums are right, the others stay zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scanner.packet.headers import ACK, ICMP, IPV4, IPV6, RST, SYN, TCP, Bytes, Ints, overlay

Action = str | tuple[int, int]  # "open", "closed", "drop", "reject-reset", "syn-proxy", or an ICMP (type, code)
_DONT_FRAGMENT = 0x4000
_WIDTH = 100  # of the longest reply: IPv6 and TCP with 40 bytes of options


@dataclass
class Host:
    """What a host does: `ports` by number, `other` for the rest, and how its packets look.

    Its own packets have `ip_id` (None: it counts up) and `df`, as Linux has 0 and True. The firewall's resets have
    `reject_ip_id` and `reject_df`. `marks`: it copies the TOS byte of a probe into its resets, as Linux does. `delay`
    is added to the round trip, seconds. Its SYN/ACKs carry `options`. `forwards`: ports that another host behind the
    same address answers.
    """

    ports: dict[int, Action] = field(default_factory=dict)
    other: Action = "closed"
    ttl: int = 64
    delay: float = 0.0
    df: bool = True
    ip_id: int | None = 0
    marks: bool = True
    reject_df: bool = True
    reject_ip_id: int | None = 0
    reject_ttl: int | None = None  # None: the host's; REJECT in FORWARD differs by one hop
    forwards: dict[int, "Host"] = field(default_factory=dict)
    options: bytes = b""


class Answers:
    """Makes replies; keeps their templates."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], int] = {}
        self._templates: Bytes = np.zeros((0, _WIDTH), np.uint8)
        # Of each template: length, whether it is an ICMP error, copies the TOS byte, counts its IP IDs.
        self._facts: Ints = np.zeros((0, 4), np.int64)
        self._ip_id = 0

    def make(self, probes: Bytes, hosts: Sequence[Host], actions: Sequence[Action]) -> tuple[Bytes, Ints]:
        """Replies uint8[n, width] and their lengths: each host does its action. `probes` begin with the IP header."""
        four = probes[0, 0] >> 4 == 4
        number = np.array([self._number(four, host, action) for host, action in zip(hosts, actions, strict=True)])
        facts = self._facts[number]
        rows = self._templates[number, : facts[:, 0].max()]
        if four:
            rows[:, 12:16], rows[:, 16:20] = probes[:, 16:20], probes[:, 12:16]
        else:
            rows[:, 8:24], rows[:, 24:40] = probes[:, 24:40], probes[:, 8:24]
        at = 20 if four else 40
        error = facts[:, 1] > 0
        if error.any():
            rows[error, at + 8 : 2 * at + 16] = probes[error, : at + 8]
        tcp = slice(None) if not error.any() else ~error
        self._write_tcp(rows, probes, at, tcp)
        _write_checksums(rows, at, facts[:, 0] - at, tcp)
        marked = facts[:, 2] > 0
        if marked.any():
            rows[marked, 1] = rows[marked, 1] | (probes[marked, 1] if four else probes[marked, 1] & 0xF0)
            if not four:
                rows[marked, 0] = probes[marked, 0]
        counting = facts[:, 3] > 0
        if counting.any():
            self._count(rows, counting)
        return rows, facts[:, 0]

    @staticmethod
    def _write_tcp(rows: Bytes, probes: Bytes, at: int, which: "slice | np.ndarray") -> None:
        ours, seq = probes[which, at : at + 4], overlay(probes, at, TCP)["seq"][which]
        rows[which, at : at + 2], rows[which, at + 2 : at + 4] = ours[:, 2:4], ours[:, 0:2]
        acknowledged = (seq.astype(np.uint32) + np.uint32(1)).astype(">u4")
        rows[which, at + 8 : at + 12] = acknowledged.view(np.uint8).reshape(-1, 4)

    def _count(self, rows: Bytes, counting: "np.ndarray") -> None:
        many = int(np.count_nonzero(counting))
        ids = (self._ip_id + 1 + np.arange(many)) & 0xFFFF
        self._ip_id += many
        rows[counting, 4], rows[counting, 5] = ids >> 8, ids & 0xFF

    def _number(self, four: bool, host: Host, action: Action) -> int:
        key = (
            four, action, host.ttl, host.df, host.ip_id, host.marks, host.reject_df, host.reject_ip_id, host.reject_ttl,
            host.options,
        )  # fmt: skip
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
            row, facts = _template(four, host, action)
            padded = np.frombuffer(row.ljust(_WIDTH, bytes(1)), np.uint8)
            self._templates = np.vstack([self._templates, padded])
            self._facts = np.vstack([self._facts, facts])
        return number


def _write_checksums(rows: Bytes, at: int, size: Ints, which: "slice | np.ndarray") -> None:
    """The TCP checksum over addresses, protocol, length and header (RFC 9293 3.1); `at`: where TCP begins.

    `size` is that of each header; zeros follow it.
    """
    packets = rows[which, 12 if at == 20 else 8 :].astype(np.int64)
    total = (packets[:, 0::2] << 8 | packets[:, 1::2]).sum(axis=1) + 6 + size[which]
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    field = (~total & 0xFFFF).astype(">u2").view(np.uint8).reshape(-1, 2)
    rows[which, at + 16 : at + 18] = field


def _template(four: bool, host: Host, action: Action) -> tuple[bytes, list[int]]:
    """A reply without addresses, ports, acknowledgement and quote; length, ICMP, copies the TOS, counts IP IDs."""
    error, rejected = isinstance(action, tuple), action == "reject-reset"
    body = _icmp(action) + bytes(28 if four else 48) if isinstance(action, tuple) else _tcp(action, host)
    protocol = (1 if four else 58) if error else 6
    ttl = host.reject_ttl if rejected and host.reject_ttl is not None else host.ttl
    ip_id, df = (host.reject_ip_id, host.reject_df) if rejected else (host.ip_id, host.df)
    if four:
        ip = np.zeros(1, IPV4)
        ip["version_ihl"], ip["total_length"], ip["ttl"], ip["protocol"] = 0x45, 20 + len(body), ttl, protocol
        ip["id"], ip["fragment"] = ip_id or 0, _DONT_FRAGMENT if df and not error else 0
    else:
        ip = np.zeros(1, IPV6)
        ip["version_class_flow"], ip["payload_length"] = 6 << 28, len(body)
        ip["next_header"], ip["hop_limit"] = protocol, ttl
    packet = ip.tobytes() + body
    return packet, [len(packet), error, action == "closed" and host.marks, four and ip_id is None]


def _icmp(action: tuple[int, int]) -> bytes:
    body = np.zeros(1, ICMP)
    body["type"], body["code"] = action
    return body.tobytes()


def _tcp(action: str, host: Host) -> bytes:
    reply = np.zeros(1, TCP)
    accepted = action in ("open", "syn-proxy")
    options = host.options if accepted else b""
    reply["offset"] = 0x50 + (len(options) // 4 << 4)
    reply["flags"] = SYN | ACK if accepted else RST | ACK
    reply["window"] = 64240 if action == "open" else 0
    return reply.tobytes() + options


def answer(probe: bytes, action: Action, ttl: int) -> bytes:
    """The IP packet that answers a probe (an IP packet with TCP)."""
    rows, length = Answers().make(np.frombuffer(probe, np.uint8)[None], [Host(ttl=ttl)], [action])
    return rows[0, : length[0]].tobytes()
