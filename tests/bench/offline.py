"""Classifying captures: speed and memory, compared with other readers.

The capture is made here: 500,000 SYNs of 58 bytes to 500 targets × 1,000 ports, and as many replies of 54 bytes, one
in a hundred a SYN/ACK. The larger file has the same again with new sequence numbers. No other program turns captures
into verdicts, so the others only read the packets: tshark prints the TCP flags, Scapy's PcapReader makes objects. They
are slower and get fewer packets; the unit is packets a second.

The marginal rate, (packets of the large file − packets of the small one) / (time − time), leaves start-up out.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from scanner.capture.writer import PcapWriter
from scanner.packet import addresses, headers, probe
from scanner.packet.headers import LINK_ETHERNET, Frames, Ints
from scanner.packet.template import Recipe

from .result import Plan, Result
from .running import HALFOPEN, Cost, cost_of

GROUP = "Captures"
_HOSTS, _PORTS, _OURS = 500, 1000, 40000
_SIZE = _HOSTS * _PORTS
_BATCH = 50_000
_MAC = "02:00:00:00:00:01"
_READER = """
import sys
import scapy.layers.inet
from scapy.utils import PcapReader
print(sum(1 for packet in PcapReader(sys.argv[1])))
"""


def run_all(plan: Plan) -> list[Result]:
    """Our rates, memory, and the peers' rates."""
    times = 3 if plan.quick else 10
    with tempfile.TemporaryDirectory() as folder:
        few, small, large = (Path(folder, name) for name in ("few.pcap", "small.pcap", "large.pcap"))
        make(few, 0.02)
        make(small, 1)
        make(large, times)
        smalls = [cost_of([*HALFOPEN, "classify", str(small), "--open", "-q"]) for _ in range(plan.runs)]
        larges = [cost_of([*HALFOPEN, "classify", str(large), "--open", "-q"]) for _ in range(plan.runs)]
        rows = _ours(smalls, larges, times)
        for name, suffix in (("pcapng", ".pcapng"), ("gzip", ".pcap.gz")):
            same = Path(folder, f"small{suffix}")
            make(same, 1)
            took = tuple(cost_of([*HALFOPEN, "classify", str(same), "--open", "-q"]).seconds for _ in range(plan.runs))
            rows.append(Result(GROUP, f"the same 1 M packets as {name}", "s", took))
        rows.append(
            _peer("tshark -T fields -e tcp.flags", ["tshark", "-r", str(few), "-T", "fields", "-e", "tcp.flags"], plan)
        )
        rows.append(_peer("Scapy PcapReader", [sys.executable, "-c", _READER, str(few)], plan))
    return rows


def _ours(smalls: list[Cost], larges: list[Cost], times: int) -> list[Result]:
    packets = 2 * _SIZE
    extra = packets * (times - 1)
    rates = tuple(packets / each.seconds for each in smalls)
    marginal = tuple(extra / (long.seconds - short.seconds) for short, long in zip(smalls, larges, strict=True))
    memory = tuple(large.peak / small.peak for small, large in zip(smalls, larges, strict=True))
    return [
        Result(GROUP, "halfopen classify --open, 1 M packets", "s", tuple(each.seconds for each in smalls)),
        Result(GROUP, "halfopen classify", "packets/s", rates, note="start-up and rows included"),
        Result(GROUP, "halfopen classify, marginal", "packets/s", marginal, note=f"from 1 M to {times} M packets"),
        Result(GROUP, "peak memory, 1 M packets", "MB", tuple(each.peak / 1e6 for each in smalls)),
        Result(GROUP, "peak memory, large by small", "", memory, note="the same targets probed again and again"),
    ]


def _peer(name: str, command: list[str], plan: Plan) -> Result:
    if shutil.which(command[0]) is None:
        return Result(GROUP, name, "packets/s", versus="halfopen classify", note="not installed")
    packets = int(2 * _SIZE * 0.02)
    rates = tuple(packets / cost_of(command).seconds for _ in range(plan.runs))
    return Result(GROUP, name, "packets/s", rates, "halfopen classify", f"{packets:,} packets")


# ── the capture ──


def make(path: Path, times: float) -> None:
    """Write `times` million packets (a fraction of one is allowed)."""
    random = np.random.default_rng(5)
    writer = PcapWriter(str(path), {LINK_ETHERNET})
    clock, done = 1_700_000_000 * 10**9, 0
    while done < times * _SIZE:
        order = random.permutation(_SIZE)
        for first in range(0, min(_SIZE, int(times * _SIZE) - done), _BATCH):
            target = order[first : first + _BATCH][: int(times * _SIZE) - done - first]
            writer.write(_exchange(target, done // _SIZE, clock), "")
            clock += 2000 * len(target)
        done += _SIZE
    writer.close(0, 0, 0)


def _exchange(target: Ints, turn: int, clock: int) -> Frames:
    """A SYN to each target, and behind it the reply."""
    n = len(target)
    sender = (4, "198.18.0.1", _MAC)
    syn, reset = probe.prepare(Recipe("syn", *sender, "mss")), probe.prepare(Recipe("reset", *sender))
    host = addresses.from_words(0, np.uint64(headers.MAPPED | 0xC6130000) + (target // _PORTS).astype(np.uint64), n)
    port = (target % _PORTS + 1).astype(np.uint16)
    sequence = target.astype(np.uint32) * np.uint32(2654435761) + np.uint32(turn)
    rows = np.zeros((2 * n, syn.length), np.uint8)
    probe.stamp(syn, rows[0::2], host, port, _OURS, sequence)
    replies = np.zeros((n, syn.length), np.uint8)
    probe.stamp(reset, replies, host, port, _OURS, sequence)
    ip, tcp = headers.overlay(replies, 14, headers.IPV4), headers.overlay(replies, 34, headers.TCP)
    ip["src"], ip["dst"] = host["lo"].astype(np.uint32), ip["src"].copy()
    tcp["sport"], tcp["dport"], tcp["seq"], tcp["ack"] = port, _OURS, 0, sequence + np.uint32(1)
    tcp["flags"] = np.where(target % 100 == 0, headers.SYN | headers.ACK, headers.RST | headers.ACK)
    rows[1::2] = replies
    start = np.arange(2 * n, dtype=np.int64) * syn.length
    length = np.tile(np.array([syn.length, reset.length], np.int64), n)
    return Frames(rows.reshape(-1), start, length, clock + 1000 * np.arange(2 * n, dtype=np.int64),
                  np.full(2 * n, LINK_ETHERNET, np.uint16))  # fmt: skip
