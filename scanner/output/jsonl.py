"""JSON lines: one verdict, one line, keys in the order of the contract.

`json.dumps` for each row writes 174,000 rows/s, and a scan decides five times as many; so a row is an
f-string. Nearly all of a row repeats (state, reason, protocol, TTL, service, evidence: a few hundred
combinations in a whole scan). That middle is made once for each combination, through `json.dumps`, and
remembered; a row then costs one look-up. Address and port need no escaping, because this program made them.

Tried and left out: whole chunks through one `%` template over zipped columns took 47 ms instead of 62 for 65,535 rows,
and needed a second way for rows that lack a field.

`ttl` and `service` are always there, null when unknown; `rtt_ms` and the keys after it only when known.
A host that is down has just `ip`, `state` and `reason`, and
`hostname` if it was given one. Limit: the number of remembered middles is bounded.
A network that sends a new TTL with every reply to every service makes this slow, not wrong.
"""

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice

import numpy as np

from ..verdict.columns import Columns
from ..verdict.details import option_numbers, sender_numbers
from ..verdict.evidence import distinct
from ..verdict.rows import Verdict, microseconds
from ..verdict.table import RANK, State
from .stream import Format
from .text import Part, addresses, chosen, fractions, joined, numbers, where

CHUNK = 4096  # lines in one write
LATEST = 1 << 52  # microseconds up to which a float has every digit

Middle = tuple[str, str, str, int | None, str | None, tuple[str, ...]]  # state, reason … evidence


@lru_cache(maxsize=1 << 16)
def _middle(shared: Middle) -> str:
    state, reason, protocol, ttl, service, evidence = shared
    keys = {"protocol": protocol, "state": state, "reason": reason, "ttl": ttl, "service": service}
    return json.dumps({**keys, "evidence": evidence})[1:-1]


def line(verdict: Verdict) -> str:
    """One verdict as one line of JSON, newline included."""
    ip, port, state, reason, protocol, ttl, service, evidence, rtt, time, pass_, icmp, scanner, tunnel, *sent = verdict
    if port is None and state == State.DOWN.value:
        name = f', "hostname": {json.dumps(verdict.hostname)}' if verdict.hostname else ""
        return f'{{"ip": "{ip}", "state": "{state}", "reason": "{reason}"{name}{_of_several(verdict)}}}\n'
    row = f'{{"ip": "{ip}", "port": {port}, {_middle((state, reason, protocol, ttl, service, evidence))}'
    if rtt is not None:
        row += f', "rtt_ms": {rtt:.3f}'
    if time is not None:
        row += f', "time": {time:.6f}'
    if pass_ is not None:
        row += f', "pass": {pass_}'
    if icmp is not None:
        row += f', "icmp_from": "{icmp}"'
    if scanner is not None:
        row += f', "scanner_ip": "{scanner}"'
    if tunnel is not None:
        row += f', "tunnel": {json.dumps(tunnel)}'
    first, last, attempts, scan, hostname, mac, vendor, window, *_ = sent
    if first is not None:
        row += f', "first_probe": {first:.6f}'
    if last is not None:
        row += f', "last_probe": {last:.6f}'
    if attempts is not None:
        row += f', "attempts": {attempts}'
    if scan is not None:
        row += f', "scan": {scan}'
    if hostname is not None:
        row += f', "hostname": {json.dumps(hostname)}'
    if mac is not None:
        row += f', "mac": "{mac}"'
    if vendor is not None:
        row += f', "vendor": {json.dumps(vendor)}'
    if window is not None:
        row += f', "window": {window}'
    return f"{row}{_options(verdict.mss, verdict.options)}{_of_several(verdict)}}}\n"


def _of_several(verdict: Verdict) -> str:
    """The last two keys, which only results of several vantage points or captures have."""
    if verdict.vantage is None and verdict.capture is None:
        return ""
    keys = {"vantage": verdict.vantage, "capture": verdict.capture}
    return "".join(f', "{name}": {json.dumps(text)}' for name, text in keys.items() if text is not None)


def _options(mss: int | None, options: str | None) -> str:
    """The keys `mss` and `options`."""
    first = "" if mss is None else f', "mss": {mss}'
    return first if options is None else f'{first}, "options": {json.dumps(options)}'


def chunks(texts: Iterator[str], size: int = CHUNK) -> Iterator[str]:
    """Texts joined, `size` at a time, so that memory never holds the text of a whole batch."""
    while text := "".join(islice(texts, size)):
        yield text


def lines_of(rows: Columns) -> Iterator[str]:
    """A piece of columns as lines, as `line` writes each of them."""
    record = rows.record
    trip, time = microseconds(rows.trip), microseconds(record["time"])
    answered = RANK[record["reason"]] > 0
    timed = answered & rows.timed
    tripped = rows.trip >= 0
    trip, time = np.where(tripped, trip, 0), np.where(timed, time, 0)
    first, last = microseconds(rows.first), microseconds(rows.last)
    if time.min() < 0 or max(map(np.max, (time, trip, last))) > LATEST:  # floats would be rounded in another way
        return chunks(map(line, rows))
    shared, number = rows.shared()
    sender, syn_ack = sender_numbers(record), option_numbers(record)
    parts: list[Part] = [
        '{"ip": "', addresses(rows.ip), '", "port": ', numbers(rows.port.astype(np.int64)), ", ",
        chosen(list(map(_middle, shared)), number),
    ]  # fmt: skip
    if tripped.any():
        parts += where(tripped, ', "rtt_ms": ', *fractions(trip, 3))
    if timed.any():
        parts += where(timed, ', "time": ', *fractions(time, 6))
    if answered.any():
        parts += where(record["pass"] > 0, ', "pass": ', numbers(record["pass"].astype(np.int64)))
    if sender.any():
        parts += where(sender > 0, ', "icmp_from": "', chosen([f'{name or ""}"' for name in rows.senders], sender))
    parts += [', "scanner_ip": "', addresses(rows.scanner), '"']
    if rows.in_tunnels:
        few, number = distinct(rows.tunnel)
        texts = [rows.tunnels[each] for each in few.tolist()]
        parts.append(chosen([f', "tunnel": {json.dumps(text)}' if text else "" for text in texts], number))
    if first.any():
        began = fractions(first, 6)
        ended = began if (first == last).all() else fractions(last, 6)
        parts += where(first > 0, ', "first_probe": ', *began, ', "last_probe": ', *ended)
    parts += [', "attempts": ', numbers(rows.attempts.astype(np.int64))]
    if rows.scan.any():
        parts += where(rows.scan > 0, ', "scan": ', numbers(rows.scan))
    if syn_ack.any():
        few, number = distinct(syn_ack)
        keys = [_options(*rows.options[each]) for each in few.tolist()]
        parts += where(syn_ack > 0, ', "window": ', numbers(record["window"].astype(np.int64)), chosen(keys, number))
    return joined(len(rows), *parts, "}\n")


def json_format() -> Format:
    """The Format of one file: a line for each verdict, in the order given."""

    def texts(verdicts: Iterable[Verdict]) -> Iterator[str]:
        if isinstance(verdicts, Columns):
            return chain.from_iterable(map(lines_of, verdicts.pieces()))
        return chunks(map(line, verdicts))

    return Format(texts)
