"""JSON lines: one verdict, one line, keys in the order of the contract.

`json.dumps` for each row writes 174,000 rows/s, and a scan decides five times as many; so a row is an
f-string. Nearly all of a row repeats (state, reason, protocol, TTL, service, evidence: a few hundred
combinations in a whole scan). That middle is made once for each combination, through `json.dumps`, and
remembered; a row then costs one look-up. Address and port need no escaping, because this program made them.

Tried and left out: whole chunks through one `%` template over zipped columns took 47 ms instead of 62 for 65,535 rows,
and needed a second way for rows that lack a field.

`ttl` and `service` are always there, null when unknown; `rtt_ms` and the keys after it only when known.
A host that is down has just `ip`, `state` and `reason`. Limit: the number of remembered middles is bounded.
A network that sends a new TTL with every reply to every service makes this slow, not wrong.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from ..verdict.rows import Verdict
from ..verdict.table import State
from .stream import Format

CHUNK = 4096  # lines in one write

Middle = tuple[str, str, str, int | None, str | None, tuple[str, ...]]  # state, reason … evidence


@lru_cache(maxsize=1 << 16)
def _middle(shared: Middle) -> str:
    state, reason, protocol, ttl, service, evidence = shared
    keys = {"protocol": protocol, "state": state, "reason": reason, "ttl": ttl, "service": service}
    return json.dumps({**keys, "evidence": evidence})[1:-1]


def line(verdict: Verdict) -> str:
    """One verdict as one line of JSON, newline included."""
    ip, port, state, reason, protocol, ttl, service, evidence, rtt, time, pass_, icmp, scanner = verdict
    if port is None and state == State.DOWN.value:
        return f'{{"ip": "{ip}", "state": "{state}", "reason": "{reason}"}}\n'
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
    return row + "}\n"


def chunks(texts: Iterator[str], size: int = CHUNK) -> Iterator[str]:
    """Texts joined, `size` at a time, so that memory never holds the text of a whole batch."""
    while text := "".join(islice(texts, size)):
        yield text


def json_format() -> Format:
    """The Format of one file: a line for each verdict, in the order given."""
    return Format(lambda verdicts: chunks(map(line, verdicts)))
