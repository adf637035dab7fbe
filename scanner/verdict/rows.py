"""Verdicts as rows: the one writer for the half-open scan, the connect scan and captures.

Columns go in, named tuples come out. No Python code runs for a single row, which makes this several times as fast as
a call with named fields for each. Times are rounded as integers, so that a replayed capture gives the same digits.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple, cast

import numpy.typing as npt

from ..packet.headers import Bools, Ints, Rows
from .details import Options, option_numbers, sender_numbers
from .evidence import Words
from .table import RANK, REASON_WORD, STATE_WORD, Reason, State

_NO_RESPONSE = Reason.NO_RESPONSE
_OF_SEVERAL = (repeat(None), repeat(None))  # vantage and capture: one scan or capture has none


class Verdict(NamedTuple):
    """One row of the result: what is claimed about one target, and why. The field names are those of the output.

    `time` is seconds since 1970 of the winning reply, `rtt_ms` milliseconds, `pass_` counts from 1 (printed as
    `pass`). Of captures only: `tunnel` is the one that the target is seen in, `first_probe` and `last_probe` are
    seconds since 1970 of SYNs to it, `attempts` is how many SYNs there are, and `scan` counts the scans of the target
    from 1, if they are told apart. `hostname` is the name that the user gave for the address. `mac` is the MAC
    address of a host on the link, by its own answer, and `vendor` who made the card. `window`, `mss` and `options` are
    those of the SYN/ACK that is the reason: the window as it was sent, the MSS option, and the kinds of all options in
    their order (see `packet.options`). `vantage` is the place that a scan was made from, where several scanned the same
    targets, and `capture` the file that the row is from, where each file is a capture of its own. What is not known is
    None. A host that is down has no port.
    """

    ip: str
    port: int | None
    state: str
    reason: str
    protocol: str = "tcp"
    ttl: int | None = None
    service: str | None = None
    evidence: Words = ()
    rtt_ms: float | None = None
    time: float | None = None
    pass_: int | None = None
    icmp_from: str | None = None
    scanner_ip: str | None = None
    tunnel: str | None = None
    first_probe: float | None = None
    last_probe: float | None = None
    attempts: int | None = None
    scan: int | None = None
    hostname: str | None = None
    mac: str | None = None
    vendor: str | None = None
    window: int | None = None
    mss: int | None = None
    options: str | None = None
    vantage: str | None = None
    capture: str | None = None


def record_rows(
    ip: Iterable[str],
    port: list[int],
    record: Rows,
    service: Iterable[str | None],
    evidence: Iterable[Words],
    trip: Ints,
    senders: Sequence[str | None],
    options: Sequence[Options],
    *,
    scanner_ip: Iterable[str | None] = repeat(None),
    tunnel: Iterable[str | None] = repeat(None),
    probes: Sequence[Iterable[Any]] = (repeat(None),) * 4,
    named: Sequence[Iterable[str | None]] = (repeat(None),) * 3,
    timed: Bools | None = None,
    ttl_known: bool = True,
) -> Iterator[Verdict]:
    """RECORD[n] and its columns → n rows.

    `trip`: round trips in ns, int64[n], below 0 where unknown. `senders` of ICMP errors and `options` of SYN/ACKs by
    number (see `details`). `probes`: the four fields from `first_probe` on; `named`: the three behind them.
    `timed`: which records carry a time (None: all).
    """
    reason = record["reason"].tolist()
    answered = RANK[record["reason"]] > 0
    return _rows(
        ip,
        port,
        map(STATE_WORD.__getitem__, reason),
        map(REASON_WORD.__getitem__, reason),
        repeat("tcp"),
        known(record["ttl"], answered) if ttl_known else repeat(None),
        service,
        evidence,
        known(microseconds(trip) / 1e3, trip >= 0),
        known(microseconds(record["time"]) / 1e6, answered if timed is None else answered & timed),
        known(record["pass"], record["pass"] > 0),
        map(senders.__getitem__, sender_numbers(record).tolist()),
        scanner_ip,
        tunnel,
        *probes,
        *named,
        *_of_syn_acks(record, options),
        *_OF_SEVERAL,
    )


def _of_syn_acks(record: Rows, options: Sequence[Options]) -> Sequence[Iterable[Any]]:
    """Window, MSS and options."""
    number = option_numbers(record)
    if not number.any():
        return (repeat(None),) * 3
    mss, text = zip(*map(options.__getitem__, number.tolist()), strict=True)
    return known(record["window"], number > 0), mss, text


def silent_rows(
    ip: Iterable[str], port: list[int], service: Iterable[str | None], evidence: Words, state: State = State.FILTERED,
    named: Sequence[Iterable[str | None]] = (repeat(None),) * 3,
) -> Iterator[Verdict]:  # fmt: skip
    """Targets that nothing answered: no-response."""
    fixed = map(repeat, (state.value, REASON_WORD[_NO_RESPONSE], "tcp", None))
    return _rows(
        ip, port, *fixed, service, repeat(evidence), *[repeat(None)] * 10, *named, *[repeat(None)] * 3, *_OF_SEVERAL
    )


def down_row(ip: str, reason: Reason, hostname: str | None = None) -> Verdict:
    """The one row of a host that is down."""
    return Verdict(ip, None, STATE_WORD[reason], REASON_WORD[reason], hostname=hostname)


def _rows(*columns: Iterable[Any]) -> Iterator[Verdict]:
    """Columns in the order of the fields → rows, as many as the shortest column has."""
    return cast(Iterator[Verdict], map(tuple.__new__, repeat(Verdict), zip(*columns, strict=False)))


def microseconds(nanoseconds: Ints) -> Ints:
    """int64[n] ns, rounded to whole microseconds."""
    return (nanoseconds + 500) // 1000


def known(values: npt.NDArray[Any], which: Bools) -> list[Any]:
    """A column of numbers as a list, None where they are not known."""
    if which.all():
        return list(values.tolist())
    column = values.astype(object)
    column[~which] = None
    return list(column)
