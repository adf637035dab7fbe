"""The messages of a fleet under mutation: of each kind one, and a job with several sets of ports in both families."""

import json
import random
from functools import cache
from typing import Any

import numpy as np

from scanner.config import SynConfig
from scanner.fleet.job import Job, job_of, piece_of
from scanner.fleet.messages import BadMessage, decode, decode_result, encode, with_rows
from scanner.targets.hostspace import Shard
from scanner.targets.own_ports import OwnPorts
from scanner.targets.special import choose
from tests.fuzz.mutation import mutated_bytes, mutated_document

WORKER, ATTEMPT, SCAN = "a" * 16, "b" * 16, "c" * 16
_HEAD = {"scan": SCAN, "first": 0, "size": 1, "attempt": ATTEMPT, "worker": WORKER}
MESSAGES: dict[str, dict[str, Any]] = {
    "offer": {"scan": SCAN, "version": "1.0", "verb": "syn", "job": "d" * 64, "bytes": 10},
    "piece": {"scan": SCAN, "first": 5, "size": 7},
    "beat": {"worker": WORKER, "name": "w-1", "number": 3, "holds": 2, "wants": True, "most": 10.5, "refuses": None},
    "lease": {"number": 3, "serial": 4, "rate": None, "over": False},
    "rows": {**_HEAD, "batch": 0},
    "end": {
        **_HEAD, "batches": 1, "failed": None,
        "stats": {"sent": {"probe": 4}, "loss": None, "interrupted": False, "seconds": 1.5},
    },
}  # fmt: skip


def job(*specs: str, shard: Shard | None = None) -> Job:
    """The job of these targets, with the ports 22 and 80 for those that have none of their own."""
    own = OwnPorts()
    choice = choose(["\n".join(specs).encode() + b"\n"], [], lambda *_: [], own=own)
    spaces = choice.spaces(np.array([22, 80], np.uint16))
    return Job(SCAN, "syn", spaces, -(1 << 100), SynConfig(retries=3, max_missed=0.5), False, shard or Shard())


@cache
def _corpus() -> list[bytes]:
    whole = [encode(kind, **content) for kind, content in MESSAGES.items()]
    jobs = [job("10.0.0.0/28:443", "10.0.1.0/28:22,80", "2001:db8::5"), job("198.51.100.0/30")]
    rows = with_rows(encode("rows", **MESSAGES["rows"]), b'{"ip": "10.0.0.1", "port": 22}\n')
    return [*whole, *(each.as_message() for each in jobs), rows]


def make_message(rng: random.Random) -> bytes:
    """A message as it is, or with changes of its bytes or of its values."""
    message = rng.choice(_corpus())
    head, line, rows = message.partition(b"\n")
    kind = rng.random()
    if kind < 0.05:
        return message
    if kind < 0.5:
        return mutated_bytes(rng, message, _corpus())
    return json.dumps(mutated_document(rng, json.loads(head))).encode("ascii") + line + rows


def check_message(data: bytes) -> bool:
    """What is accepted keeps the schema, and a job that is accepted can be cut into pieces."""
    accepted = False
    for read in (lambda: decode(data, *MESSAGES), lambda: decode_result(data), lambda: _cut(data)):
        try:
            read()
            accepted = True
        except BadMessage:
            pass
    return accepted


def _cut(data: bytes) -> None:
    found = job_of(data)
    order = found.order
    for first in range(0, min(order.extent.hosts, 40), 7):
        part = piece_of(found, order, first, min(7, order.extent.hosts - first))
        assert part.size == min(7, order.extent.hosts - first)
        assert len(part.space_of(np.arange(part.size))) == part.size
