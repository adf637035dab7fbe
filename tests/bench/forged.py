"""Forged replies: what they cost, and that none of them becomes a verdict.

A scan in memory probes silent targets. Then forged replies arrive, as many from each target as the number says. They
have the right addresses and ports, so only the acknowledgement or the quoted sequence number tells them apart. A forger
who does not see our probes can send any of these.
"""

import time

import numpy as np

from scanner.halfopen.scan import Scan, Settings
from scanner.packet.headers import ACK, ETHERNET, ICMP, IPV4, PROTO_ICMP, RST, SYN, TCP, TCP_PORTS_SEQ, Frames, overlay
from scanner.verdict.table import Rank

from .result import Plan, Result
from .running import in_turns
from .sink import AT, SLOT, Sink, answers_to, lane_of

GROUP = "Forged replies, no IO"
REPLIES, QUICK_REPLIES = 10_000_000, 1_000_000
PORTS = 2
FLAGS = (SYN | ACK, RST | ACK, RST, SYN, ACK)  # of forged segments; besides them there are ICMP errors
_SEGMENT = ETHERNET.itemsize + IPV4.itemsize  # where the TCP or ICMP header begins
_QUOTE = _SEGMENT + ICMP.itemsize
_UNREACHABLE, _CODES = 3, (1, 3, 13)  # RFC 792: host, port; RFC 1812: administratively prohibited


def run_all(plan: Plan) -> list[Result]:
    """Replies a second. A run in which a forged reply becomes a verdict fails."""
    count = QUICK_REPLIES if plan.quick else REPLIES
    done = in_turns({"forged": lambda: forge(count)}, min(plan.runs, 3), budget=60)["forged"]
    wrong = sum(verdicts for _, verdicts in done)
    note = f"{count:,} forged replies a run; targets open, closed or filtered by them: {wrong}"
    if wrong:
        raise AssertionError(note)
    return [Result(GROUP, "rejected", "replies/s", tuple(rate for rate, _ in done), note=note)]


def forge(count: int, seed: int = 1) -> tuple[float, int]:
    """Forged replies that a second rejects, and how many targets got a verdict by them."""
    rng = np.random.default_rng(seed)
    sink = Sink(keep=True)
    lane = lane_of("198.19.0.0/16", PORTS, "mss", sink)
    scan = Scan([lane], Settings(), lane.order_key)
    while sink.count < PORTS << 16:
        scan.step(1_000_000)
    batches = answers_to(sink.kept, 0.5)
    icmp = [number % (len(FLAGS) + 1) == len(FLAGS) for number in range(len(batches))]
    batches = [_as_error(batch) if turned else batch for batch, turned in zip(batches, icmp, strict=True)]
    sent, seconds = 0, 0.0
    while sent < count:
        for batch, turned in zip(batches, icmp, strict=True):
            _guess(rng, batch, turned)
            sink.replies.append(batch)
            sent += len(batch)
            began = time.perf_counter()
            scan.step(2_000_000)
            seconds += time.perf_counter() - began
        sink.kept.clear()
    ranks = [window.ledger.rank(slice(None)) for window in [*scan.windows.open, *scan.windows.closed]]
    return sent / seconds, sum(int(np.count_nonzero(rank >= Rank.FILTERED)) for rank in ranks)


def _slots(batch: Frames) -> np.ndarray:
    return batch.buffer.reshape(-1, SLOT)[:, AT:]


def _guess(rng: np.random.Generator, batch: Frames, icmp: bool) -> None:
    """Another guess in each reply: half of them anywhere, half near the sequence number of another probe."""
    rows, n = _slots(batch), len(batch)
    field = overlay(rows, _QUOTE + IPV4.itemsize, TCP_PORTS_SEQ)["seq"] if icmp else overlay(rows, _SEGMENT, TCP)["ack"]
    near = np.roll(field, int(rng.integers(1, n))) + rng.integers(0, 3, n, np.uint32)
    field[:] = np.where(rng.random(n) < 0.5, near, rng.integers(0, 1 << 32, n, np.uint32))
    if not icmp:
        overlay(rows, _SEGMENT, TCP)["flags"] = rng.choice(FLAGS, n)


def _as_error(batch: Frames) -> Frames:
    """ICMP errors that quote the probes which these segments answer."""
    rows, n = _slots(batch), len(batch)
    tcp = overlay(rows, _SEGMENT, TCP).copy()
    ip = overlay(rows, ETHERNET.itemsize, IPV4)
    quoted = ip.copy()
    quoted["src"], quoted["dst"], quoted["total_length"] = ip["dst"], ip["src"], IPV4.itemsize + TCP.itemsize
    overlay(rows, _QUOTE, IPV4)[:] = quoted
    ports = overlay(rows, _QUOTE + IPV4.itemsize, TCP_PORTS_SEQ)
    ports["sport"], ports["dport"], ports["seq"] = tcp["dport"], tcp["sport"], tcp["ack"] - np.uint32(1)
    header = overlay(rows, _SEGMENT, ICMP)
    header["type"], header["code"] = _UNREACHABLE, np.resize(_CODES, n)
    ip["protocol"], ip["total_length"] = PROTO_ICMP, _QUOTE + IPV4.itemsize + TCP_PORTS_SEQ.itemsize - ETHERNET.itemsize
    length = np.full(n, _QUOTE + IPV4.itemsize + TCP_PORTS_SEQ.itemsize)
    return Frames(batch.buffer, batch.start, length, batch.time, batch.link)
